use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::DataLoader;
use burn::data::dataloader::split::split_dataloader;
use burn::module::Module;
use burn::tensor::Device;
use burn::train::metric::{AccuracyMetric, LearningRateMetric, LossMetric};
use burn::train::renderer::MetricsRenderer;
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::{
    ExecutionStrategy, Interrupter, Learner, MultiDeviceOptim, SupervisedTraining, TrainingStrategy,
};

use super::checkpoint::{Checkpoints, Keep};
use super::config::TrainConfig;
use super::display::{Display, Lines};
use super::error::TrainError;
use super::folder::RunFolder;
use super::history::{End, History};
use super::result::{Outcome, RunResult, Timing};
use super::scores::{Epoch, EpochScores, Score, best_epoch, valid_losses};
use super::step::{Scale, Synchronised, TrainingStep, Watched, Watcher};
use super::terminal;
use crate::data::{DigitBatch, ImageSet, Loader, Mnist};
use crate::device;
use crate::model::Classifier;
use crate::panic;

/// Trains networks on a device, or on several at once.
pub struct Trainer {
    /// The first holds the weights, validates and tests.
    devices: Vec<Device>,
    display: Display,
    interrupter: Interrupter,
}

impl Trainer {
    /// Trains on `device`, without printing anything.
    pub fn new(device: Device) -> Self {
        Self::parallel(vec![device])
    }

    /// Trains on several devices at once, without printing anything: data-parallel, by Burn's
    /// [`MultiDevice`](ExecutionStrategy::MultiDevice) strategy with the optimiser on the first device.
    ///
    /// The training images are split, in the order of the set, into one part of equal size per device, and each device
    /// shuffles its own part. A step takes one batch per device and moves the weights by the mean of the devices'
    /// gradients: with `n` devices there are `n` times as many images per step, and `n` times fewer steps per epoch.
    /// If a part ends before the others, its device adds nothing to the last step.
    ///
    /// With [`sync_norm`](TrainConfig::sync_norm), this crate's batch norm normalises by the statistics of all devices'
    /// batches of a step, so `n` devices compute what one would with `n` times the batch. A last step that not all
    /// devices take part in is not synchronised.
    ///
    /// Without it, each device's batch is normalised by that batch's own statistics, as is usual in data-parallel
    /// training. All devices update the same running statistics, as if
    /// their batches came one after the other: `n` devices make `n` updates per step. The order of the devices is not
    /// determined, so the running statistics, and with them the scores, repeat only to about the momentum times the
    /// difference between two batches. Gradients are added up in that order too: with two devices the weights repeat
    /// exactly, with more only up to rounding.
    ///
    /// Burn's distributed strategy is not supported: of the backends here, only CUDA can add up gradients that way.
    ///
    /// A device may be named more than once. It then gets several batches at a time.
    ///
    /// # Panics
    ///
    /// If there is no device.
    pub fn parallel(devices: Vec<Device>) -> Self {
        assert!(!devices.is_empty(), "training needs at least one device");
        Self {
            devices,
            display: Display::Silent,
            interrupter: Interrupter::new(),
        }
    }

    /// The device that holds the weights.
    fn device(&self) -> &Device {
        &self.devices[0]
    }

    /// Shows the progress.
    pub fn with_display(mut self, display: Display) -> Self {
        self.display = display;
        self
    }

    /// Listens to `interrupter`. On its stop signal, the run ends after the current step and keeps what was trained.
    pub fn with_interrupter(mut self, interrupter: Interrupter) -> Self {
        self.interrupter = interrupter;
        self
    }

    /// Checks, before anything is written, that these devices can train `config` on `train`.
    ///
    /// # Errors
    ///
    /// The configuration makes no run; a device does not compute in the float type; there are too few images.
    pub fn validate(&self, config: &TrainConfig, train: &ImageSet) -> Result<(), TrainError> {
        config.validate()?;
        for device in &self.devices {
            device::check_dtype(&format!("{device:?}"), device, config.dtype)?;
        }
        // The same split as Burn's; a shuffled loader drops a last batch of one image if it has others.
        let (images, devices) = (train.len(), self.devices.len());
        let smallest = images / devices;
        let too_few = match devices {
            1 => images == 0 || images == 1 && config.normalizes(),
            _ => smallest < 2,
        };
        if too_few {
            return Err(TrainError::Config(format!(
                "{images} images are too few to train on {devices} devices"
            )));
        }
        Ok(())
    }

    /// Trains the network of the folder's configuration, from its last checkpoint if it has one,
    /// and leaves metrics, result and record in the folder.
    ///
    /// With the same devices and data as before, a resumed run gives the same result, to the bit, as one that was
    /// never stopped. With others, it starts from the same weights and optimiser state, and the learning rate
    /// continues from the same share of the run: after 5 of 10 epochs it is halfway along its schedule.
    ///
    /// # Errors
    ///
    /// The run is complete already; the folder cannot be read or written; a metric fails; as [`Self::validate`].
    pub fn run(&self, folder: &RunFolder, data: &Mnist) -> Result<RunResult, TrainError> {
        let config = folder.config()?;
        folder.check_unfinished()?;
        let (train, valid) = data.train_and_validation();
        let checkpoints = Checkpoints::in_folder(folder.path())?;
        let mut epochs: Vec<Epoch> = match folder.path().join("metrics.json").exists() {
            true => folder.read_json("metrics.json")?,
            false => Vec::new(),
        };
        // An epoch counts once both its metrics and its checkpoint are written.
        let keep = Keep::new(valid_losses(&epochs), config.patience.is_some());
        let finished = checkpoints.latest(&keep, self.untrained(&config))?;
        epochs.truncate(finished);

        self.validate(&config, &train)?;
        let network = config.init_model(&self.device().clone().autodiff());
        let Learned {
            network,
            record_epoch,
            epochs,
            outcome,
            images,
            skipped_steps,
        } = self.learn(
            &config,
            self.watched(network, &config, None),
            [&train, &valid],
            epochs,
            Some(folder),
            Some(&checkpoints),
        )?;
        let parameters = network.num_params();
        let started = Instant::now();
        let test = evaluate(&network, &data.test, self.device());
        let test_seconds = started.elapsed().as_secs_f64();

        // A record of weights that are not finite could not be read.
        if outcome != Outcome::Diverged || record_epoch.is_some() {
            folder.save_model(&network)?;
        }

        let epoch_seconds: Vec<f64> = epochs.iter().map(|epoch| epoch.seconds).collect();
        let training_seconds = epoch_seconds.iter().fold(0.0, |sum, epoch| sum + epoch);
        let result = RunResult {
            outcome,
            test,
            parameters,
            record_epoch,
            skipped_steps,
            timing: Timing {
                device: self.names(),
                images_per_second: match epochs.is_empty() {
                    true => 0.0,
                    false => (images * epochs.len()) as f64 / training_seconds,
                },
                epoch_seconds,
                training_seconds,
                test_seconds,
            },
            epochs: epochs.into_iter().map(|epoch| epoch.scores).collect(),
        };
        folder.write_json("result.json", &result)?;
        Ok(result)
    }

    /// Trains a network in memory, on `train`, scored on `valid` after every epoch, and calls `watcher` at every step.
    ///
    /// For short or numerous runs: makes no folder, so the run cannot be resumed. A loss that is not finite does not
    /// stop it.
    ///
    /// # Errors
    ///
    /// The configuration makes no run; the learner stops on an error.
    pub fn train(
        &self,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, TrainError> {
        self.validate(config, train)?;
        let network = config.init_model(&self.device().clone().autodiff());
        self.train_from(network, config, train, valid, watcher)
    }

    /// Trains like [`train`](Self::train), but starts from `network`: it must be the network of the configuration, with
    /// any weights, on the trainer's first device with autodiff.
    ///
    /// # Errors
    ///
    /// As [`train`](Self::train).
    pub fn train_from(
        &self,
        network: Classifier,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, TrainError> {
        self.validate(config, train)?;
        let watcher: Arc<Watcher> = Arc::new(watcher);
        // The weights of the best epoch must be somewhere.
        let checkpoints = config.patience.map(|_| Checkpoints::in_memory());
        let learned = self.learn(
            config,
            self.watched(network, config, Some(watcher)),
            [train, valid],
            Vec::new(),
            None,
            checkpoints.as_ref(),
        )?;
        Ok(Trained {
            network: learned.network,
            network_epoch: learned.record_epoch,
            epochs: learned
                .epochs
                .into_iter()
                .map(|epoch| epoch.scores)
                .collect(),
            outcome: learned.outcome,
            skipped_steps: learned.skipped_steps,
        })
    }

    /// A network to load a checkpoint into.
    fn untrained(&self, config: &TrainConfig) -> Watched {
        self.watched(config.model.init(self.device()), config, None)
    }

    fn watched(
        &self,
        network: Classifier,
        config: &TrainConfig,
        watcher: Option<Arc<Watcher>>,
    ) -> Watched {
        let scale = Scale::new(config.dtype, self.devices.len());
        Watched::new(network, watcher, scale)
    }

    /// Continues after the finished `epochs`; writes metrics and checkpoints if there is a place for them.
    fn learn(
        &self,
        config: &TrainConfig,
        model: Watched,
        [train, valid]: [&ImageSet; 2],
        epochs: Vec<Epoch>,
        folder: Option<&RunFolder>,
        checkpoints: Option<&Checkpoints>,
    ) -> Result<Learned, TrainError> {
        let finished = epochs.len();
        let devices: Vec<Device> = self.devices.iter().cloned().map(Device::autodiff).collect();

        let train_loader: Arc<dyn DataLoader<DigitBatch>> = Arc::new(
            Loader::new(train.clone(), config.batch_size, devices[0].clone())
                .with_dtype(config.dtype.dtype())
                .shuffled(config.seed)
                .starting_at_epoch(finished + 1),
        );
        let valid_loader = Loader::new(valid.clone(), config.batch_size, self.device().clone());
        let parts = split_dataloader(train_loader.clone(), &devices);
        let parts: Vec<usize> = parts.iter().map(|part| part.num_items()).collect();
        let images = parts.iter().sum();
        let steps_of_parts = parts
            .iter()
            .map(|images| images.div_ceil(config.batch_size));
        let steps_of_parts: Vec<_> = steps_of_parts.collect();
        // Steps of an epoch.
        let steps = *steps_of_parts.iter().max().expect("there is a device");
        let sync = config.sync_norm && parts.len() > 1;
        let model = model.synchronised(sync.then(|| Synchronised::new(&steps_of_parts)));
        let scheduler = || config.scheduler(config.epochs * steps);

        let lines = Lines::new(
            finished,
            config.epochs,
            [images, valid.len()],
            self.display != Display::Lines,
        );
        let renderer: Box<dyn MetricsRenderer> = match self.display {
            Display::Dashboard => {
                let resumed = (finished > 0).then_some(finished);
                let dashboard = TuiMetricsRendererWrapper::new(self.interrupter.clone(), resumed);
                terminal::keep_ctrl_c();
                Box::new(dashboard)
            }
            Display::Lines | Display::Silent => Box::new(lines.clone()),
        };
        let keep = Keep::new(valid_losses(&epochs), config.patience.is_some());
        let history = History::new(
            epochs,
            folder.cloned(),
            End::of(config, folder.is_some()),
            lines,
            self.interrupter.clone(),
        );

        let strategy = ExecutionStrategy::multi(devices, MultiDeviceOptim::OptimMainDevice);
        // Burn writes nothing here: metrics, checkpoints and logs all go their own ways.
        let directory = folder.map_or(Path::new(""), RunFolder::path);
        let mut training = SupervisedTraining::new(directory, train_loader, Arc::new(valid_loader))
            .metrics((LossMetric::new(), AccuracyMetric::new()))
            .metric_train_numeric(LearningRateMetric::new())
            .with_metric_logger(history.clone())
            .early_stopping(history.clone())
            .with_application_logger(None)
            .with_interrupter(self.interrupter.clone())
            .renderer(renderer)
            .num_epochs(config.epochs)
            .with_training_strategy(TrainingStrategy::Default(strategy));
        if let Some(checkpoints) = checkpoints {
            let mut schedule = scheduler()?;
            for _ in 0..finished * steps {
                schedule.step();
            }
            let (model, optimizer, scheduler) = checkpoints.writers(schedule.to_record());
            training = training
                .with_custom_checkpointers(model, optimizer, scheduler)
                .with_checkpointing_strategy(keep);
        }
        if finished > 0 {
            training = training.checkpoint(finished);
        }
        let learner = Learner::new(model, config.optimizer.init(), scheduler()?);
        // Some of what a backend reports comes by a panic.
        let learned = match catch_unwind(AssertUnwindSafe(|| training.launch(learner))) {
            Ok(learned) => learned,
            Err(panic) => {
                let message = panic::message(panic.as_ref());
                if message == terminal::KILLED {
                    terminal::restore();
                    return Err(TrainError::Killed);
                }
                match TrainError::out_of_memory(message, config.batch_size) {
                    Some(error) => return Err(error),
                    None => resume_unwind(panic),
                }
            }
        };

        // Leaves the dashboard, so that what follows is printed on the screen.
        drop(learned.renderer);
        let lost = checkpoints.and_then(Checkpoints::failure);
        if let Some(error) = history.failure().or(lost) {
            return Err(error);
        }
        if let Some(error) = learned.error {
            let message = error.to_string();
            return Err(TrainError::out_of_memory(&message, config.batch_size)
                .unwrap_or(TrainError::Learner(message)));
        }
        let epochs = history.epochs();
        let outcome = history.outcome(config.epochs);
        let mut network = learned.model.network;
        let ended = !matches!(outcome, Outcome::Interrupted | Outcome::Diverged);
        let mut record_epoch = ended.then_some(epochs.len());
        let better = match outcome {
            _ if config.patience.is_some() => best_epoch(&valid_losses(&epochs)),
            Outcome::Diverged => epochs.len().checked_sub(1).filter(|&epoch| epoch > 0),
            _ => None,
        };
        if let Some(epoch) = better.filter(|_| better != record_epoch)
            && let Some(checkpoints) = checkpoints
            && let Some(found) = checkpoints.model(epoch, self.untrained(config))?
        {
            (network, record_epoch) = (found.network, Some(epoch));
        }
        Ok(Learned {
            skipped_steps: learned.model.scale.skipped(),
            network,
            record_epoch,
            epochs,
            outcome,
            images,
        })
    }

    /// The devices, as Burn names them.
    fn names(&self) -> String {
        let names = self.devices.iter().map(|device| format!("{device:?}"));
        names.collect::<Vec<_>>().join(", ")
    }
}

/// The result of the learner.
struct Learned {
    network: Classifier,
    /// The epoch of its weights; `None` within an epoch, or if they are not finite.
    record_epoch: Option<usize>,
    epochs: Vec<Epoch>,
    outcome: Outcome,
    /// Training images of an epoch.
    images: usize,
    skipped_steps: usize,
}

/// A network trained in memory by [`Trainer::train`].
pub struct Trained {
    /// The network, in inference mode.
    pub network: Classifier,
    /// Epoch, counted from 1, of its weights: the one with the lowest validation loss if there is a patience, else the
    /// last. `None` if the training was interrupted within an epoch.
    pub network_epoch: Option<usize>,
    /// Loss and accuracy of every finished epoch.
    pub epochs: Vec<EpochScores>,
    /// How it ended.
    pub outcome: Outcome,
    /// Steps that were skipped, as in [`RunResult::skipped_steps`].
    pub skipped_steps: usize,
}

/// Mean loss and accuracy of `model` over `images`.
///
/// The model must be in inference mode ([`Module::valid`]): batch norm then uses its running statistics, and no image's
/// answer depends on the others.
///
/// # Panics
///
/// If there are no images.
pub fn evaluate(model: &Classifier, images: &ImageSet, device: &Device) -> Score {
    assert!(
        !images.is_empty(),
        "there must be images to score a network on"
    );
    let loader = Loader::new(images.clone(), 1000, device.clone());
    let (mut loss, mut right) = (0.0, 0);
    for batch in loader.iter() {
        let batch = batch.expect("a set in memory gives every batch");
        let [count] = batch.targets.dims();
        let output = model.forward_step(batch);
        right += output.right();
        loss += count as f64 * output.loss.into_scalar::<f64>();
    }
    let count = images.len() as f64;
    Score {
        loss: loss / count,
        accuracy: right as f64 / count,
    }
}
