//! Shared by the experiments about inference: trains networks with batch norm, and replaces their norms.

use burn::module::Param;
use burn::tensor::Tensor;

use super::setup::sgd;
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
