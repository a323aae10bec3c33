//! Times an epoch of the lab's networks on MNIST.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use burn::tensor::Device;
use burn_kindling_lab::data::{ImageSet, Loader, Mnist};
use burn_kindling_lab::model::{CnnConfig, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{Schedule, TrainConfig};

use crate::bare::{Learner, bare_epoch};
use crate::clock::Stopwatch;
use crate::entry::Entry;

/// A network and its normalisation.
pub struct Training {
    network: &'static str,
    norm: Normalization,
}

/// All trainings, the most interesting first. `quick` leaves out the convolutional network, whose kernels a software
/// GPU takes minutes to tune.
pub fn trainings(quick: bool) -> Vec<Training> {
    let networks = if quick { &["mlp"][..] } else { &["mlp", "cnn"] };
    let norms = [
        Normalization::Batch,
        Normalization::Burn,
        Normalization::None,
    ];
    let trainings = norms.into_iter().flat_map(|norm| {
        networks
            .iter()
            .map(move |&network| Training { network, norm })
    });
    trainings.collect()
}

impl fmt::Display for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, norm {}", self.network, self.norm)
    }
}

/// Images of an epoch, training and validation together.
const ALL: usize = 60_000;
const QUICK: usize = 1_536;

/// Trains two epochs, and returns the time of the second: kernels are compiled and tuned in the first.
pub fn time(
    training: &Training,
    data: Option<&Path>,
    quick: bool,
    device: &Device,
) -> Result<Entry, String> {
    let folder = Mnist::find(data).map_err(|error| error.to_string())?;
    let data = Mnist::load(&folder).map_err(|error| error.to_string())?;
    let images = if quick { QUICK } else { ALL };
    let data = Mnist {
        train: data.train.subset(0..images.min(data.train.len())),
        ..data
    };
    let (train, valid) = data.train_and_validation();
    let &Training { network, norm } = training;
    let model = match network {
        "cnn" => ModelConfig::Cnn(CnnConfig::new().with_norm(norm)),
        _ => ModelConfig::Mlp(MlpConfig::new().with_norm(norm)),
    };
    let config = TrainConfig {
        model,
        schedule: Schedule::Constant,
        epochs: 1,
        ..TrainConfig::default()
    };
    let epoch = || bare_epoch(device, &config, &train, &valid);
    epoch();
    let launches = launches(&config, &train, device)?;
    Ok(Entry::Epoch {
        who: "Burn".into(),
        network: network.into(),
        norm: norm.to_string(),
        images: train.len(),
        seconds: epoch().as_secs_f64(),
        launches: Some(launches),
    })
}

/// Counts the kernels of a training step like any other: the first steps also make the optimiser's state.
fn launches(config: &TrainConfig, train: &ImageSet, device: &Device) -> Result<usize, String> {
    let training = device.clone().autodiff();
    let mut learner = Learner::new(config, &training);
    let batch = Loader::first_batch(train, config.batch_size, &training);
    let mut step = || learner.step(batch.clone());
    for _ in 0..3 {
        step();
    }
    let kernels = Stopwatch::new(device, Duration::ZERO).kernels(step)?;
    Ok(kernels.iter().map(|kernel| kernel.launches).sum())
}
