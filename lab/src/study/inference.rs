//! Shared by the experiments about inference: trains networks with batch norm, replaces their norms, and recalibrates
//! them.

use burn::module::Param;
use burn::tensor::Tensor;
use burn_kindling::norm::recalibrate;

use super::setup::{Setup, sgd};
use crate::data::Loader;
use crate::model::{Mlp, MlpConfig, Norm, Normalization};
use crate::train::TrainConfig;

/// The batch size of a training, unless the experiment varies it.
pub(super) const BATCH: usize = 128;
/// The learning rate for batches of [`BATCH`].
const LEARNING_RATE: f64 = 0.1;

/// Configures a training with this crate's batch norm. The learning rate is proportional to the batch size (Goyal et
/// al. 2017, arXiv:1706.02677).
pub(super) fn training(epochs: usize, batch_size: usize) -> TrainConfig {
    let model = MlpConfig::new().with_norm(Normalization::Batch);
    TrainConfig {
        epochs,
        batch_size,
        ..sgd(model, LEARNING_RATE * batch_size as f64 / BATCH as f64)
    }
}

/// Replaces the norms of a network. Each new norm is made from one of `norms` and the gamma and beta of the old one.
pub(super) fn with_norms<N>(
    mut network: Mlp,
    norms: &[N],
    norm: impl Fn(&N, Param<Tensor<1>>, Param<Tensor<1>>) -> Norm,
) -> Mlp {
    for (block, other) in network.hidden.iter_mut().zip(norms) {
        let Some(Norm::Batch(own)) = block.norm.take() else {
            unreachable!("the network has this crate's batch norm");
        };
        block.norm = Some(norm(other, own.gamma, own.beta));
    }
    network
}

/// The sample for recalibration: 2000 training images, or as many as there are, in four batches.
pub(super) fn sample(setup: &Setup) -> Vec<Tensor<2>> {
    let [images, _] = setup.split(2000, 0);
    let images = Loader::first_batch(&images, 2000, &setup.device).images;
    images.flatten(1, 2).chunk(4, 0)
}

/// Recomputes the statistics of a network from a sample.
pub(super) fn recalibrated(network: &Mlp, sample: &[Tensor<2>]) -> Mlp {
    recalibrate(
        network,
        || sample.iter().cloned(),
        |network: &Mlp, images| network.features(images),
        |_| {},
    )
    .expect("thousands of images make statistics")
}
