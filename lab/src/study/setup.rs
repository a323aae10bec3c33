use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use burn::data::dataloader::DataLoader;
use burn::tensor::Device;
use rand::rngs::StdRng;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Experiment, ExperimentError};
use crate::data::{DigitBatch, ImageSet, Loader, Mnist};
use crate::model::{Classifier, Mlp};
use crate::random;
use crate::train::{
    Interrupter, Job, Outcome, Sweep, TrainConfig, TrainError, Trained, Trainer, TrainingStep,
    write_atomically,
};
use burn_kindling::init::Activation;

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
    pub(super) device: Device,
    /// What they learn.
    pub(super) data: Mnist,
    /// A checksum of it.
    data_sum: String,
    /// What the page calls the device.
    pub device_name: String,
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
}

/// What decides what a run comes to.
#[derive(Serialize)]
struct Key<'a, C> {
    crate_version: &'a str,
    device: String,
    data: &'a str,
    config: &'a C,
    training: &'a TrainConfig,
}

/// A finished run, as it is kept: its [`Key`] as the JSON text that the file is named by.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    key: String,
    result: R,
}

impl Setup {
    /// Full size, on all cores, without a word.
    pub fn new(device: Device, data: Mnist, out: impl Into<PathBuf>) -> Self {
        Self {
            data_sum: checksum(&data),
            device_name: format!("{device:?}"),
            device,
            data,
            out: out.into(),
            size: Size::Full,
            seeds: None,
            workers: std::thread::available_parallelism().map_or(1, NonZero::get),
            verbose: false,
            interrupter: Interrupter::new(),
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

    /// Trains a network, as the run under way.
    pub(super) fn train(
        &self,
        job: &Job,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, ExperimentError> {
        let trainer = Trainer::new(self.device.clone()).with_interrupter(self.interrupter.clone());
        let trained = job.train(&trainer, config, train, valid, watcher)?;
        match trained.outcome {
            Outcome::Interrupted => Err(ExperimentError::Interrupted),
            _ => Ok(trained),
        }
    }

    /// The results of `run` for all `configs`, in their order, each given the training that goes with
    /// it. Those that are in the folder are read, the others are run, several at a time, and kept as
    /// soon as each is finished. `part` says which part of the experiment this is, of how many.
    pub(super) fn runs<C, R>(
        &self,
        experiment: Experiment,
        part: [usize; 2],
        configs: &[C],
        training: impl Fn(&C) -> TrainConfig,
        run: impl Fn(&C, &TrainConfig, &Job) -> Result<R, ExperimentError> + Sync,
    ) -> Result<Vec<R>, ExperimentError>
    where
        C: Serialize + Sync,
        R: Serialize + DeserializeOwned + Send,
    {
        let folder = self.out.join(experiment.to_string()).join("runs");
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        let all = configs.iter().map(|config| {
            let training = training(config);
            let key = text(&Key {
                crate_version: env!("CARGO_PKG_VERSION"),
                device: format!("{:?}", self.device),
                data: &self.data_sum,
                config,
                training: &training,
            });
            (config, training, key)
        });
        let all: Vec<(&C, TrainConfig, String)> = all.collect();
        let mut results: Vec<Option<R>> = all.iter().map(|(.., key)| kept(&folder, key)).collect();
        let missing: Vec<usize> = (0..all.len())
            .filter(|&index| results[index].is_none())
            .collect();
        let mut sweep = Sweep::new().with_workers(self.workers);
        if self.verbose {
            let place = Experiment::ALL.iter().position(|&it| it == experiment);
            let name = format!(
                "{experiment} (experiment {} of {}), part {} of {}",
                place.map_or(0, |place| place + 1),
                Experiment::ALL.len(),
                part[0],
                part[1],
            );
            let before = all.len() - missing.len();
            eprintln!(
                "{name}: {} runs, {before} of them finished before",
                all.len()
            );
            sweep = sweep.with_progress(name);
        }
        let fresh = sweep.run(&missing, |&index, job| {
            if self.interrupter.should_stop() {
                return Err(ExperimentError::Interrupted);
            }
            let (config, training, key) = &all[index];
            let result = run(config, training, job)?;
            let path = path(&folder, key);
            let finished = text(&Kept {
                key: key.clone(),
                result,
            });
            write_atomically(&path, (finished + "\n").as_bytes())?;
            // As it would be read next time: floats may differ in the last digit.
            let damaged = || TrainError::Damaged {
                path,
                reason: "it does not read as it was written".into(),
            };
            Ok(kept(&folder, key).ok_or_else(damaged)?)
        })?;
        for (index, result) in missing.into_iter().zip(fresh) {
            results[index] = Some(result);
        }
        Ok(results.into_iter().flatten().collect())
    }
}

/// A checksum of all images and labels.
fn checksum(data: &Mnist) -> String {
    let sets = [&data.train, &data.test];
    let mut hasher = crc32fast::Hasher::new();
    for set in sets {
        (0..set.len()).for_each(|i| hasher.update(set.image(i)));
    }
    for set in sets {
        (0..set.len()).for_each(|i| hasher.update(&[set.label(i)]));
    }
    format!("{:08x}", hasher.finalize())
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The file of a run: its name is a hash of the key, which is in it.
fn path(folder: &Path, key: &str) -> PathBuf {
    // FNV-1a: the same on every machine and in every version.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    folder.join(format!("{hash:016x}.json"))
}

/// The result of a finished run; none if there is no file, or one of another key or form.
fn kept<R: DeserializeOwned>(folder: &Path, key: &str) -> Option<R> {
    let text = fs::read(path(folder, key)).ok()?;
    let run: Kept<R> = serde_json::from_slice(&text).ok()?;
    (run.key == key).then_some(run.result)
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

/// The step in the middle of the first point of a [smoothed](smooth) curve that is below a loss of 1.
pub(super) fn steps_to_1(curve: &[Option<f64>]) -> f64 {
    let below = |loss: &Option<f64>| loss.is_some_and(|loss| loss < 1.0);
    curve.iter().position(below).map_or(f64::INFINITY, middle)
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
