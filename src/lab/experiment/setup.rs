use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use rand::rngs::StdRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ExperimentError;
use crate::init::Activation;
use crate::lab::mnist::{DigitBatch, ImageSet, Loader, Mnist};
use crate::lab::model::{Classifier, Mlp};
use crate::lab::random;
use crate::lab::train::{
    Interrupter, Outcome, TrainConfig, TrainError, Trained, Trainer, TrainingStep, write_atomically,
};

/// How much an experiment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// What the literature did, or as near as MNIST lets it be.
    Full,
    /// Enough to see that it works: less data, fewer epochs, fewer settings.
    Quick,
}

/// What all experiments need: where to compute, what data, where to keep what was found.
pub struct Setup {
    /// Where the networks are.
    pub device: Device,
    /// What they learn.
    pub data: Mnist,
    /// The folder that keeps runs, numbers and figures.
    pub out: PathBuf,
    /// How much is done.
    pub size: Size,
    /// How often a measurement is repeated, each time from another seed; `None` leaves it to the
    /// experiment.
    pub seeds: Option<usize>,
    /// How many runs go on at the same time. On a GPU one, on a CPU one a core: these networks are
    /// too small for one of them to keep several cores busy.
    pub workers: usize,
    /// Whether progress is told on standard error.
    pub verbose: bool,
    /// Stops the experiment after the training step under way.
    pub interrupter: Interrupter,
    /// How far the runs under way are.
    progress: Mutex<Option<Arc<Progress>>>,
}

/// A finished run, as it is kept: the configuration as the JSON text that the file is named by.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    config: String,
    result: R,
}

impl Setup {
    /// Full size, on all cores, without a word.
    pub fn new(device: Device, data: Mnist, out: impl Into<PathBuf>) -> Self {
        Self {
            device,
            data,
            out: out.into(),
            size: Size::Full,
            seeds: None,
            workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            verbose: false,
            interrupter: Interrupter::new(),
            progress: Mutex::default(),
        }
    }

    /// The first of two values at full size, the second for a quick look.
    pub(super) fn pick<T>(&self, full: T, quick: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Quick => quick,
        }
    }

    /// The seeds to repeat over: as many as asked for, or `full` or `quick`.
    pub(super) fn seeds(&self, full: usize, quick: usize) -> std::ops::Range<u64> {
        0..self.seeds.unwrap_or(self.pick(full, quick)) as u64
    }

    /// The first so many images to train on, and to validate with.
    pub(super) fn split(&self, train: usize, valid: usize) -> (ImageSet, ImageSet) {
        let (all, held_out) = self.data.train_and_validation();
        (
            all.subset(0..train.min(all.len())),
            held_out.subset(0..valid.min(held_out.len())),
        )
    }

    /// Trains a network, as a part of the runs under way.
    pub(super) fn train(
        &self,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, ExperimentError> {
        let trainer = Trainer::new(self.device.clone()).with_interrupter(self.interrupter.clone());
        let progress = self.progress.lock().expect("no holder panics").clone();
        let steps = config.epochs * train.len().div_ceil(config.batch_size);
        let trained = trainer.train(config, train, valid, move |step| {
            watcher(step);
            if let Some(progress) = &progress {
                progress.trained(1.0 / steps as f64);
            }
        })?;
        match trained.outcome {
            Outcome::Interrupted => Err(ExperimentError::Interrupted),
            _ => Ok(trained),
        }
    }

    /// The results of `run` for all `configs`, in their order. Those that are in the folder are
    /// read, the others are run, several at a time, and kept as soon as each is finished.
    pub(super) fn runs<C, R>(
        &self,
        experiment: &str,
        configs: &[C],
        run: impl Fn(&C) -> Result<R, ExperimentError> + Sync,
    ) -> Result<Vec<R>, ExperimentError>
    where
        C: Serialize + Sync,
        R: Serialize + DeserializeOwned + Send,
    {
        let configs: Vec<(&C, String)> = configs.iter().map(|it| (it, text(it))).collect();
        let folder = self.out.join(experiment).join("runs");
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        let mut results: Vec<Option<R>> = configs
            .iter()
            .map(|(_, config)| kept(&folder, config))
            .collect();
        let missing: Vec<usize> = (0..configs.len())
            .filter(|&index| results[index].is_none())
            .collect();
        let all = configs.len();
        let progress = Arc::new(Progress::new(experiment, all, missing.len(), self.verbose));
        *self.progress.lock().expect("no holder panics") = Some(progress.clone());

        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((Vec::new(), None));
        let work = || {
            while let Some(&index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (config, name) = &configs[index];
                let result = match self.interrupter.should_stop() {
                    true => Err(ExperimentError::Interrupted),
                    false => run(config).and_then(|result| {
                        let config = name.clone();
                        let text = text(&Kept { config, result }) + "\n";
                        write_atomically(&path(&folder, name), text.as_bytes())?;
                        // As it would be read next time: floats may differ in the last digit.
                        Ok(kept(&folder, name).expect("what was written can be read"))
                    }),
                };
                let mut outcome = outcome.lock().expect("no worker panics with the results");
                match result {
                    Ok(result) => {
                        outcome.0.push((index, result));
                        progress.finished();
                    }
                    Err(error) => {
                        outcome.1.get_or_insert(error);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.workers.clamp(1, missing.len().max(1)) {
                scope.spawn(work);
            }
        });

        let (fresh, error) = outcome.into_inner().expect("no worker panics");
        if let Some(error) = error {
            return Err(error);
        }
        for (index, result) in fresh {
            results[index] = Some(result);
        }
        Ok(results.into_iter().flatten().collect())
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The file of a run: its name is a hash of the configuration, which is in it.
fn path(folder: &Path, config: &str) -> PathBuf {
    // FNV-1a: the same on every machine and in every version.
    let hash = config
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    folder.join(format!("{hash:016x}.json"))
}

/// The result of a finished run; none if there is no file, or one of another configuration or form.
fn kept<R: DeserializeOwned>(folder: &Path, config: &str) -> Option<R> {
    let text = fs::read(path(folder, config)).ok()?;
    let run: Kept<R> = serde_json::from_slice(&text).ok()?;
    (run.config == config).then_some(run.result)
}

/// Tells how far an experiment is.
struct Progress {
    experiment: String,
    /// Runs, and those of them that were not finished before.
    all: usize,
    missing: usize,
    verbose: bool,
    started: Instant,
    done: Mutex<Done>,
}

/// What is behind.
struct Done {
    finished: usize,
    /// In training steps, as shares of the runs that they belong to.
    trained: f64,
    spoken: Instant,
}

impl Progress {
    fn new(experiment: &str, all: usize, missing: usize, verbose: bool) -> Self {
        if verbose {
            let before = all - missing;
            eprintln!("{experiment}: {all} runs, {before} of them finished before");
        }
        Self {
            experiment: experiment.into(),
            all,
            missing,
            verbose,
            started: Instant::now(),
            done: Mutex::new(Done {
                finished: 0,
                trained: 0.0,
                spoken: Instant::now(),
            }),
        }
    }

    /// A run is finished.
    fn finished(&self) {
        let mut done = self.done.lock().expect("no speaker panics");
        done.finished += 1;
        self.speak(&mut done);
    }

    /// A part of a run is.
    fn trained(&self, share: f64) {
        let mut done = self.done.lock().expect("no speaker panics");
        done.trained += share;
        self.speak(&mut done);
    }

    /// Says so every few seconds, and at the end.
    fn speak(&self, done: &mut Done) {
        let rest = self.missing - done.finished;
        if !self.verbose || (rest > 0 && done.spoken.elapsed() < Duration::from_secs(3)) {
            return;
        }
        done.spoken = Instant::now();
        let elapsed = self.started.elapsed().as_secs_f64();
        let behind = done.trained.max(done.finished as f64);
        let time = match rest {
            0 => format!("in {elapsed:.0} s"),
            _ => {
                let left = elapsed * (self.missing as f64 - behind).max(0.0) / behind;
                format!("about {left:.0} s left")
            }
        };
        let (name, all) = (&self.experiment, self.all);
        eprintln!("{name}: {} of {all} runs, {time}", all - rest);
    }
}

/// The first `count` images of a set, or all, as one batch.
pub(super) fn probe(images: &ImageSet, count: usize, device: &Device) -> DigitBatch {
    let count = count.min(images.len());
    let loader = Loader::new(images.subset(0..count), count, device.clone());
    let batch = loader.iter().next().expect("a set of images has a batch");
    batch.expect("a set in memory gives every batch")
}

/// What an activation's histograms are drawn over, so that they can be laid side by side.
pub(super) fn histogram_range(activation: Activation) -> [f64; 2] {
    match activation {
        Activation::Sigmoid => [0.0, 1.0],
        Activation::Tanh => [-1.0, 1.0],
        _ => [0.0, 4.0],
    }
}

/// A number from N(0, 1).
pub(super) fn normal(random: &mut StdRng) -> f32 {
    random::normal(random) as f32
}

/// The network of a configuration that asks for an MLP.
pub(super) fn mlp(network: Classifier) -> Mlp {
    match network {
        Classifier::Mlp(network) => network,
        Classifier::Cnn(_) => unreachable!("an MLP was asked for"),
    }
}

/// Losses of steps that make one point of a curve.
pub(super) const SMOOTH: usize = 25;

/// The means of [`SMOOTH`] losses each; none where one of them is no number.
pub(super) fn smooth(losses: &[Option<f64>]) -> Vec<Option<f64>> {
    let blocks = losses.chunks_exact(SMOOTH);
    blocks
        .map(|block| {
            let sum: Option<f64> = block.iter().copied().sum();
            sum.map(|sum| sum / SMOOTH as f64)
        })
        .collect()
}

/// The step in the middle of those that make point `i` of a curve.
pub(super) fn middle(i: usize) -> f64 {
    (i as f64 + 0.5) * SMOOTH as f64
}

/// The loss of a step, none if it is no number.
pub(super) fn loss(step: &TrainingStep) -> Option<f64> {
    let loss = step.loss.clone().into_scalar::<f64>();
    loss.is_finite().then_some(loss)
}
