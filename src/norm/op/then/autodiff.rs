//! The backward pass of a normalisation and what follows it: one node for both ways to normalise.
//!
//! The node keeps the input and the residual, and nothing of the output. With `g` the gradient of
//! `gamma * xhat + beta + residual`, computed from the gradient of the output through the pooling and the activation,
//! the gradient of the residual is `g`, and the others are those of the normalisation alone, see
//! [`autodiff`](crate::norm::op).

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};

use super::{
    BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward, BatchNormThenGradients, Tail,
};
use crate::norm::op::autodiff::moment_gradients;
use crate::norm::op::{BatchNormAffine, BatchNormForward, BatchNormMoments, BatchNormStatistics};

impl<B: BatchNormThenBackend, C: CheckpointStrategy> BatchNormThenBackend for Autodiff<B, C> {
    fn batch_norm_then_forward(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
        parts: usize,
    ) -> BatchNormForward<Self> {
        let plain = || Self::from_inner(affine.gamma.clone().into_primitive());
        let operation = Operation {
            input,
            moments: [plain(), plain()],
            affine,
            residual,
            epsilon,
            tail,
            parts,
        };
        let mut statistics = None;
        let output = operation.run(|input, affine, _, residual| {
            let result = B::batch_norm_then_forward(input, affine, residual, epsilon, tail, parts);
            let BatchNormForward {
                output,
                mean,
                mean_rest,
                variance,
            } = result;
            statistics = Some((mean.clone(), mean_rest.clone(), variance.clone()));
            let found = BatchNormStatistics {
                mean,
                mean_rest,
                variance,
            };
            (output, Some(found))
        });
        let (mean, mean_rest, variance) = statistics.expect("the operation has run");
        BatchNormForward {
            output,
            mean: Self::from_inner(mean),
            mean_rest: Self::from_inner(mean_rest),
            variance: Self::from_inner(variance),
        }
    }

    fn batch_norm_then_backward(
        _saved: BatchNormThenBackward<Self>,
        _epsilon: f64,
        _frozen: bool,
        _tail: Tail,
        _parts: usize,
    ) -> BatchNormThenGradients<Self> {
        panic!(
            "the backward pass of batch norm has no derivative here: second-order gradients are not supported"
        )
    }

    fn batch_norm_then_inference(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        moments: BatchNormMoments<Self>,
        residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
    ) -> FloatTensor<Self> {
        let operation = Operation {
            input,
            moments: [moments.mean, moments.variance],
            affine,
            residual,
            epsilon,
            tail,
            parts: 1,
        };
        operation.run(|input, affine, [mean, variance], residual| {
            let moments = BatchNormMoments { mean, variance };
            let output =
                B::batch_norm_then_inference(input, affine, moments, residual, epsilon, tail);
            (output, None)
        })
    }
}

/// The arguments of an operation on tensors that may require gradients.
struct Operation<B: Backend, C: CheckpointStrategy> {
    input: FloatTensor<Autodiff<B, C>>,
    affine: BatchNormAffine<Autodiff<B, C>>,
    /// The given mean and variance, or any tensors without gradients.
    moments: [FloatTensor<Autodiff<B, C>>; 2],
    residual: BatchNormResidual<Autodiff<B, C>>,
    epsilon: f64,
    tail: Tail,
    parts: usize,
}

impl<B: BatchNormThenBackend, C: CheckpointStrategy> Operation<B, C> {
    /// Runs `forward`, which returns the output and, unless they were given, the statistics.
    fn run(
        self,
        forward: impl FnOnce(
            FloatTensor<B>,
            BatchNormAffine<B>,
            [FloatTensor<B>; 2],
            BatchNormResidual<B>,
        ) -> (FloatTensor<B>, Option<BatchNormStatistics<B>>),
    ) -> FloatTensor<Autodiff<B, C>> {
        let Self {
            input,
            affine: BatchNormAffine { gamma, beta },
            moments: [mean, variance],
            residual,
            epsilon,
            tail,
            parts,
        } = self;
        let residual = residual.tensor();
        // Without a residual, a tensor without gradients takes its place among the parents.
        let placeholder = <Autodiff<B, C>>::from_inner(gamma.clone().into_primitive());
        let parents = [
            input.node(),
            gamma.node(),
            beta.node(),
            residual.as_ref().unwrap_or(&placeholder).node(),
            mean.node(),
            variance.node(),
        ];
        let primitive = |tensor: FloatTensor<Autodiff<B, C>>| tensor.into_primitive();
        match ThenNode.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let input_id = prep.checkpoint(&input);
                let residual_id = residual.as_ref().map(|tensor| prep.checkpoint(tensor));
                let affine = BatchNormAffine {
                    gamma: primitive(gamma),
                    beta: primitive(beta),
                };
                let [mean, variance] = [mean, variance].map(primitive);
                let (output, statistics) = forward(
                    primitive(input),
                    affine.clone(),
                    [mean.clone(), variance.clone()],
                    residual.map(primitive).into(),
                );
                let frozen = statistics.is_none();
                let statistics = statistics.unwrap_or_else(|| BatchNormStatistics {
                    mean_rest: B::float_zeros(mean.shape(), &mean.device(), mean.dtype().into()),
                    mean,
                    variance,
                });
                let kept = Kept {
                    input: input_id,
                    residual: residual_id,
                    affine,
                    statistics,
                    frozen,
                    epsilon,
                    tail,
                    parts,
                };
                prep.finish(kept, output)
            }
            OpsKind::UnTracked(prep) => {
                let affine = BatchNormAffine {
                    gamma: primitive(gamma),
                    beta: primitive(beta),
                };
                let moments = [mean, variance].map(primitive);
                let residual = residual.map(primitive).into();
                prep.finish(forward(primitive(input), affine, moments, residual).0)
            }
        }
    }
}

/// The values that the node keeps from the forward pass.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    /// The input and the residual. The checkpointer keeps them or computes them again.
    input: NodeId,
    residual: Option<NodeId>,
    affine: BatchNormAffine<B>,
    statistics: BatchNormStatistics<B>,
    /// Whether the statistics were given.
    frozen: bool,
    epsilon: f64,
    tail: Tail,
    parts: usize,
}

/// Backward node; parents: input, gamma, beta, residual, mean, variance.
#[derive(Debug)]
struct ThenNode;

impl<B: BatchNormThenBackend> Backward<B, 6> for ThenNode {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Kept<B>, 6>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let kept = ops.state;
        let mut retrieve = |id| checkpointer.retrieve_node_output::<FloatTensor<B>>(id);
        let (gamma, variance) = (kept.affine.gamma.clone(), kept.statistics.variance.clone());
        let saved = BatchNormThenBackward {
            input: retrieve(kept.input),
            gradient,
            residual: kept.residual.map(retrieve).into(),
            affine: kept.affine,
            statistics: kept.statistics,
        };
        let Kept {
            frozen,
            epsilon,
            tail,
            parts,
            ..
        } = kept;
        let found = B::batch_norm_then_backward(saved, epsilon, frozen, tail, parts);

        let [input, for_gamma, for_beta, residual, for_mean, for_variance] = ops.parents;
        if for_mean.is_some() || for_variance.is_some() {
            let [mean, variance] =
                moment_gradients::<B>([gamma, variance], &found.gamma, &found.beta, epsilon);
            for (parent, gradient) in [(for_mean, mean), (for_variance, variance)] {
                if let Some(node) = parent {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
        for (parent, gradient) in [
            (input, Some(found.input)),
            (for_gamma, Some(found.gamma)),
            (for_beta, Some(found.beta)),
            (residual, found.residual.tensor()),
        ] {
            if let (Some(node), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
