//! The backward passes of moments and of their exchange.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, TensorMetadata};
use burn::tensor::{Shape, Slice, TensorData, read_sync};

use super::{BatchMomentsBackend, Link, Positions};
use crate::norm::op::{BatchNormAffine, BatchNormMoments, FusedActivation};

impl<B: BatchMomentsBackend, C: CheckpointStrategy> BatchMomentsBackend for Autodiff<B, C> {
    fn batch_norm_moments(input: FloatTensor<Self>, positions: Positions) -> FloatTensor<Self> {
        let parents = [input.node()];
        match MomentsNode.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let input_id = prep.checkpoint(&input);
                let moments = B::batch_norm_moments(input.into_primitive(), positions.clone());
                let kept = KeptMoments {
                    input: input_id,
                    moments: moments.clone(),
                    positions,
                };
                prep.finish(kept, moments)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::batch_norm_moments(input.into_primitive(), positions))
            }
        }
    }

    fn batch_norm_keep(tensor: FloatTensor<Self>, _positions: Positions) -> FloatTensor<Self> {
        // Only backward passes call it.
        tensor
    }

    fn batch_norm_exchange(
        local: FloatTensor<Self>,
        merged: FloatTensor<Self>,
        link: Link,
    ) -> FloatTensor<Self> {
        let merged = merged.into_primitive();
        let parents = [local.node()];
        match ExchangeNode
            .prepare::<C>(parents)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(link, merged),
            OpsKind::UnTracked(prep) => prep.finish(merged),
        }
    }
}

/// The values that the node of moments keeps from the forward pass.
#[derive(Clone, Debug)]
struct KeptMoments<B: Backend> {
    /// The checkpointer keeps it or computes it again.
    input: NodeId,
    /// `[3, channels]`
    moments: FloatTensor<B>,
    positions: Positions,
}

/// Backward node of [`batch_moments`](super::batch_moments); parent: the input.
#[derive(Debug)]
struct MomentsNode;

impl<B: BatchMomentsBackend> Backward<B, 1> for MomentsNode {
    type State = KeptMoments<B>;

    fn backward(
        self,
        ops: Ops<KeptMoments<B>, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(ops.state.input);
        let gradient = of_values::<B>(input, ops.state, gradient);
        grads.register::<B>(parent.id, gradient);
    }
}

/// The gradient of the values that count, `(dmean + 2 * dvariance * (x - mean)) / n`: a normalisation by a variance of
/// 1.
fn of_values<B: BatchMomentsBackend>(
    input: FloatTensor<B>,
    KeptMoments {
        moments, positions, ..
    }: KeptMoments<B>,
    gradient: FloatTensor<B>,
) -> FloatTensor<B> {
    let channels = moments.shape()[1];
    let values = positions.count(input.shape().num_elements() / channels);
    let each = 1.0 / values as f64;
    let [mean, rest, _] = rows::<B>(moments);
    let [for_mean, _, for_variance] = rows::<B>(gradient);
    let gamma = B::float_mul_scalar(for_variance, (2.0 * each).into());
    let beta = B::float_sub(
        B::float_mul_scalar(for_mean, each.into()),
        B::float_mul(gamma.clone(), rest),
    );
    let variance = B::float_ones(mean.shape(), &mean.device(), mean.dtype().into());
    let affine = BatchNormAffine { gamma, beta };
    let moments = BatchNormMoments { mean, variance };
    let gradient = B::batch_norm_inference(input, affine, moments, 0.0, FusedActivation::None);
    B::batch_norm_keep(gradient, positions)
}

/// The three rows of a tensor `[3, channels]`.
fn rows<B: Backend>(tensor: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let channels = tensor.shape()[1];
    [0, 1, 2].map(|row| {
        let slices = [Slice::from(row..row + 1), Slice::from(0..channels as isize)];
        let row = B::float_slice(tensor.clone(), &slices);
        B::float_reshape(row, Shape::new([channels]))
    })
}

/// Backward node of [`exchange`](super::exchange); parent: the worker's own moments.
#[derive(Debug)]
struct ExchangeNode;

impl<B: BatchMomentsBackend> Backward<B, 1> for ExchangeNode {
    type State = Link;

    fn backward(self, ops: Ops<Link, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let Link { exchange, share } = ops.state;
        let (shape, device, dtype) = (gradient.shape(), gradient.device(), gradient.dtype());
        let mine = read_sync(B::float_into_data(gradient))
            .expect("the gradients of a few numbers per channel should be readable");
        let all = exchange.gather(mine.iter::<f64>().collect());
        if let [Some(parent)] = ops.parents {
            let data = TensorData::new(share.gradients(&all), shape).convert_dtype(dtype);
            grads.register::<B>(parent.id, B::float_from_data(data, &device));
        }
    }
}
