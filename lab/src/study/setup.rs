use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;

use burn::tensor::Device;

use crate::data::{ImageSet, Mnist};
use crate::model::{Classifier, Mlp, MlpConfig, ModelConfig};
use crate::train::{Interrupter, OptimizerKind, Schedule, TrainConfig};

/// How much work an experiment does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// As in the literature, or as close as MNIST allows.
    Full,
    /// Enough to see that it works: less data, fewer epochs, fewer settings.
    Quick,
}

/// Settings that every experiment needs: a device, data, and a folder for its results.
pub struct Setup {
    pub(super) device: Device,
    pub(super) data: Mnist,
    /// A checksum of the data.
    pub(super) data_sum: String,
    /// The device's name on the page.
    pub device_name: String,
    /// The folder of runs, numbers and figures.
    pub out: PathBuf,
    /// How much work to do.
    pub size: Size,
    /// How many seeds to repeat each measurement over; `None` for the experiment's default.
    pub seeds: Option<usize>,
    /// How many runs to execute at the same time. On a CPU, use one per core, because these small networks cannot use
    /// several cores. On a GPU, use one.
    pub workers: usize,
    /// Whether to report progress on standard error.
    pub verbose: bool,
    /// Stops the experiment after the current training step.
    pub interrupter: Interrupter,
}

impl Setup {
    /// Makes a setup at full size, with one worker per core, silent.
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

    /// Returns `full` or `quick`, depending on the size.
    pub(super) fn pick<T>(&self, full: T, quick: T) -> T {
        match self.size {
            Size::Full => full,
            Size::Quick => quick,
        }
    }

    /// The seeds to repeat over: as many as the user asked for, else the default for the size.
    pub(super) fn seeds(&self, [full, quick]: [usize; 2]) -> Range<u64> {
        0..self.seeds.unwrap_or(self.pick(full, quick)) as u64
    }

    /// The first `train` training images and the first `valid` validation images, or as many as there are.
    pub(super) fn split(&self, train: usize, valid: usize) -> [ImageSet; 2] {
        let (all, held_out) = self.data.train_and_validation();
        [
            all.subset(0..train.min(all.len())),
            held_out.subset(0..valid.min(held_out.len())),
        ]
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

/// Configures training by plain SGD at a constant learning rate.
pub(super) fn sgd(model: MlpConfig, learning_rate: f64) -> TrainConfig {
    TrainConfig {
        model: ModelConfig::Mlp(model),
        optimizer: OptimizerKind::Sgd,
        learning_rate,
        schedule: Schedule::Constant,
        ..TrainConfig::default()
    }
}

/// Unwraps a network that is an MLP.
pub(super) fn mlp(network: Classifier) -> Mlp {
    match network {
        Classifier::Mlp(network) => network,
        _ => unreachable!("an MLP was asked for"),
    }
}
