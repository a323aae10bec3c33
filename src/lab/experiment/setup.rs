use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};

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
    Interrupter, Job, Outcome, Sweep, TrainConfig, TrainError, Trained, Trainer, TrainingStep,
    write_atomically,
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

    /// The results of `run` for all `configs`, in their order. Those that are in the folder are
    /// read, the others are run, several at a time, and kept as soon as each is finished.
    pub(super) fn runs<C, R>(
        &self,
        experiment: &str,
        configs: &[C],
        run: impl Fn(&C, &Job) -> Result<R, ExperimentError> + Sync,
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
        let mut sweep = Sweep::new().with_workers(self.workers);
        if self.verbose {
            let (all, before) = (configs.len(), configs.len() - missing.len());
            eprintln!("{experiment}: {all} runs, {before} of them finished before");
            sweep = sweep.with_progress(experiment);
        }
        let fresh = sweep.run(&missing, |&index, job| {
            if self.interrupter.should_stop() {
                return Err(ExperimentError::Interrupted);
            }
            let (config, name) = &configs[index];
            let result = run(config, job)?;
            let config = name.clone();
            let text = text(&Kept { config, result }) + "\n";
            write_atomically(&path(&folder, name), text.as_bytes())?;
            // As it would be read next time: floats may differ in the last digit.
            Ok(kept(&folder, name).expect("what was written can be read"))
        })?;
        for (index, result) in missing.into_iter().zip(fresh) {
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
