//! Synchronised batch norm, through Burn's learner.

use std::sync::{Arc, Mutex};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::module::Module;
use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor};
use burn::train::{
    ExecutionStrategy, InferenceStep, Learner, MultiDeviceOptim, SupervisedTraining, TrainOutput,
    TrainStep, TrainingStrategy,
};
use burn_kindling::norm::SyncGroup;
use burn_kindling_lab::data::{DigitBatch, ImageSet, Loader, Mnist};
use burn_kindling_lab::model::{Classifier, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{StepOutput, TrainConfig, Trainer};

const STEPS: usize = 20;
/// Images of a step, over all devices.
const BATCH: usize = 32;

/// The batches of each device, one device after the other.
#[derive(Clone)]
struct Batches {
    batches: Vec<DigitBatch>,
    each: usize,
}

impl Batches {
    /// Step `k` of all devices together has the images `k * BATCH` and on, however many devices there are.
    fn new(images: &ImageSet, devices: usize, device: &Device) -> Self {
        let each = BATCH / devices;
        let batch = |step: usize, part: usize| {
            let start = step * BATCH + part * each;
            Loader::first_batch(&images.subset(start..start + each), each, device)
        };
        let parts = 0..devices;
        let batches = parts.flat_map(|part| (0..STEPS).map(move |step| batch(step, part)));
        Self {
            batches: batches.collect(),
            each,
        }
    }
}

impl DataLoader<DigitBatch> for Batches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<DigitBatch> + 'a> {
        Box::new(Iter {
            of: self,
            position: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.batches.len() * self.each
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<DigitBatch>> {
        Arc::new(self.clone())
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<DigitBatch>> {
        let batches = self.batches[start / self.each..end / self.each].to_vec();
        Arc::new(Self { batches, ..*self })
    }
}

struct Iter<'a> {
    of: &'a Batches,
    position: usize,
}

impl Iterator for Iter<'_> {
    type Item = Result<DigitBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.position += 1;
        self.of.batches.get(self.position - 1).cloned().map(Ok)
    }
}

impl DataLoaderIterator<DigitBatch> for Iter<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.position * self.of.each, self.of.num_items(), None)
    }
}

/// A user's model, with a group for its devices.
#[derive(Module, Debug)]
struct Synced {
    network: Classifier,
    #[module(skip)]
    group: Option<SyncGroup>,
    #[module(skip)]
    devices: usize,
    #[module(skip)]
    losses: Arc<Mutex<Vec<f64>>>,
}

impl TrainStep for Synced {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<StepOutput> {
        let step = || {
            let output = self.network.forward_step(batch);
            // Burn adds up the gradients of the devices.
            let gradients = (output.loss.clone() / self.devices as f64).backward();
            (output, gradients)
        };
        let (output, gradients) = match &self.group {
            Some(group) => group.run(step),
            None => step(),
        };
        let loss = output.loss.clone().into_scalar::<f64>();
        self.losses.lock().unwrap().push(loss);
        TrainOutput::new(self, gradients, output)
    }
}

impl InferenceStep for Synced {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> StepOutput {
        self.network.forward_step(batch)
    }
}

/// The loss of each step, and the running means of the first layer at the end.
fn train(images: &ImageSet, devices: usize, synchronised: bool) -> (Vec<f64>, Vec<f64>) {
    let device = Device::flex();
    let config = ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![30; 3]));
    let losses = Arc::default();
    let model = Synced {
        network: config.init_with_seed(&device.clone().autodiff(), 1),
        group: (synchronised && devices > 1).then(|| SyncGroup::new(devices)),
        devices,
        losses: Arc::clone(&losses),
    };
    let training = device.clone().autodiff();
    let loader = Arc::new(Batches::new(images, devices, &training));
    let valid = Arc::new(Batches::new(images, 1, &device));
    let strategy =
        ExecutionStrategy::multi(vec![training; devices], MultiDeviceOptim::OptimMainDevice);
    let scratch = tempfile::tempdir().unwrap();
    let learned = SupervisedTraining::new(scratch.path(), loader, valid)
        .with_application_logger(None)
        .num_epochs(1)
        .with_training_strategy(TrainingStrategy::Default(strategy))
        .launch(Learner::new(model, SgdConfig::new().init(), 0.1));
    assert!(learned.error.is_none());
    let Classifier::Mlp(mlp) = learned.model.network else {
        unreachable!()
    };
    let Some(burn_kindling_lab::model::Norm::Batch(norm)) = &mlp.hidden[0].norm else {
        unreachable!()
    };
    let mean: Tensor<1> = norm.running_mean.value();
    let losses = losses.lock().unwrap();
    let of_steps = losses
        .chunks(devices)
        .map(|step| step.iter().sum::<f64>() / devices as f64);
    (of_steps.collect(), mean.into_data().iter::<f64>().collect())
}

fn farthest(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn images() -> ImageSet {
    let mnist = Mnist::load(&Mnist::find(None).unwrap()).unwrap();
    mnist.train.subset(0..BATCH * STEPS)
}

#[test]
fn several_devices_train_as_one_with_the_whole_batch() {
    let images = images();
    let (losses, mean) = train(&images, 1, false);
    assert!(losses[STEPS - 1] < 0.8 * losses[0]);
    for devices in [2, 4] {
        let (synchronised, its_mean) = train(&images, devices, true);
        let off = farthest(&synchronised, &losses);
        assert!(off < 1e-4, "{devices} devices: off by {off}");
        let off = farthest(&its_mean, &mean);
        assert!(off < 1e-4, "{devices} devices: running means off by {off}");

        let (alone, _) = train(&images, devices, false);
        let off = farthest(&alone, &losses);
        assert!(
            off > 1e-2,
            "{devices} devices, each for itself: off by {off}"
        );
    }
}

#[test]
fn the_lab_trains_parts_of_unequal_length() {
    let images = images().subset(0..325);
    let config = TrainConfig {
        model: ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![20; 2])),
        epochs: 3,
        // Of 162 and 163 images, the second part has a step more.
        batch_size: 54,
        sync_norm: true,
        ..TrainConfig::default()
    };
    let trainer = Trainer::parallel(vec![Device::flex(); 2]);
    let run = || trainer.train(&config, &images, &images, |_| ()).unwrap();
    let (first, second) = (run(), run());
    let losses = |trained: &burn_kindling_lab::train::Trained| -> Vec<f64> {
        let epochs = trained.epochs.iter();
        epochs.map(|epoch| epoch.valid.loss).collect()
    };
    assert!(losses(&first)[2] < losses(&first)[0]);
    // Statistics of all devices are the same from run to run, which those of each are not.
    assert_eq!(losses(&first), losses(&second));
}

#[test]
fn only_this_crates_norm_is_synchronised() {
    for norm in [Normalization::None, Normalization::Burn] {
        let config = TrainConfig {
            model: ModelConfig::Mlp(MlpConfig::new().with_norm(norm)),
            sync_norm: true,
            ..TrainConfig::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(
            error.contains("norm `batch`") && error.contains(&norm.to_string()),
            "{error}"
        );
    }
}
