//! The backward pass: one node for each of the two functions.
//!
//! A node keeps only what the closed form needs: the input, the statistics, gamma and beta, but not the output. With
//! `g = dL/dy`, `xhat = (x - mean) / sqrt(variance + epsilon)` and means over the channel's values,
//!
//! - `dL/dbeta = sum g`, `dL/dgamma = sum g * xhat`;
//! - `dL/dx = gamma / sqrt(variance + epsilon) * (g - mean(g) - xhat * mean(g * xhat))` for the batch's statistics
//!   (Ioffe & Szegedy 2015, section 3), and without the two means for given statistics;
//! - for given statistics, `dL/dmean = -gamma / sqrt(variance + epsilon) * dL/dbeta` and
//!   `dL/dvariance = -gamma / (2 (variance + epsilon)) * dL/dgamma`.
//!
//! If a ReLU follows, the backward pass computes the output again from the input, and `g` is 0 where the output is not
//! above 0.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, TensorMetadata};

use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, BatchNormStatistics, FusedActivation,
};

impl<B: BatchNormBackend, C: CheckpointStrategy> BatchNormBackend for Autodiff<B, C> {
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        BatchNormAffine { gamma, beta }: BatchNormAffine<Self>,
        epsilon: f64,
        activation: FusedActivation,
    ) -> BatchNormForward<Self> {
        let parents = [input.node(), gamma.node(), beta.node()];
        let lift = |output, mean, mean_rest, variance| BatchNormForward {
            output,
            mean: Self::from_inner(mean),
            mean_rest: Self::from_inner(mean_rest),
            variance: Self::from_inner(variance),
        };
        match TrainNode.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let input_id = prep.checkpoint(&input);
                let [gamma, beta] = [gamma, beta].map(|tensor| tensor.into_primitive());
                let BatchNormForward {
                    output,
                    mean,
                    mean_rest,
                    variance,
                } = B::batch_norm_forward(
                    input.into_primitive(),
                    BatchNormAffine {
                        gamma: gamma.clone(),
                        beta: beta.clone(),
                    },
                    epsilon,
                    activation,
                );
                let kept = Kept {
                    input: input_id,
                    gamma,
                    beta,
                    mean: mean.clone(),
                    mean_rest: Some(mean_rest.clone()),
                    variance: variance.clone(),
                    epsilon,
                    activation,
                };
                lift(prep.finish(kept, output), mean, mean_rest, variance)
            }
            OpsKind::UnTracked(prep) => {
                let result = B::batch_norm_forward(
                    input.into_primitive(),
                    BatchNormAffine {
                        gamma: gamma.into_primitive(),
                        beta: beta.into_primitive(),
                    },
                    epsilon,
                    activation,
                );
                let output = prep.finish(result.output);
                lift(output, result.mean, result.mean_rest, result.variance)
            }
        }
    }

    fn batch_norm_backward(
        _saved: BatchNormBackward<Self>,
        _epsilon: f64,
        _frozen: bool,
        _then: FusedActivation,
    ) -> BatchNormGradients<Self> {
        panic!(
            "the backward pass of batch norm has no derivative here: second-order gradients are not supported"
        )
    }

    fn batch_norm_inference(
        input: FloatTensor<Self>,
        BatchNormAffine { gamma, beta }: BatchNormAffine<Self>,
        BatchNormMoments { mean, variance }: BatchNormMoments<Self>,
        epsilon: f64,
        activation: FusedActivation,
    ) -> FloatTensor<Self> {
        let parents = [
            input.node(),
            gamma.node(),
            beta.node(),
            mean.node(),
            variance.node(),
        ];
        match InferenceNode
            .prepare::<C>(parents)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let input_id = prep.checkpoint(&input);
                let [gamma, beta] = [gamma, beta].map(|tensor| tensor.into_primitive());
                let mean = mean.into_primitive();
                let variance = variance.into_primitive();
                let output = B::batch_norm_inference(
                    input.into_primitive(),
                    BatchNormAffine {
                        gamma: gamma.clone(),
                        beta: beta.clone(),
                    },
                    BatchNormMoments {
                        mean: mean.clone(),
                        variance: variance.clone(),
                    },
                    epsilon,
                    activation,
                );
                let kept = Kept {
                    input: input_id,
                    gamma,
                    beta,
                    mean,
                    mean_rest: None,
                    variance,
                    epsilon,
                    activation,
                };
                prep.finish(kept, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::batch_norm_inference(
                input.into_primitive(),
                BatchNormAffine {
                    gamma: gamma.into_primitive(),
                    beta: beta.into_primitive(),
                },
                BatchNormMoments {
                    mean: mean.into_primitive(),
                    variance: variance.into_primitive(),
                },
                epsilon,
                activation,
            )),
        }
    }
}

/// The values that a node keeps from the forward pass.
#[derive(Clone, Debug)]
struct Kept<B: Backend> {
    /// The input. The checkpointer keeps it or computes it again.
    input: NodeId,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: FloatTensor<B>,
    /// `None` for a given mean, which has no rounding error to correct.
    mean_rest: Option<FloatTensor<B>>,
    variance: FloatTensor<B>,
    epsilon: f64,
    activation: FusedActivation,
}

impl<B: BatchNormBackend> Kept<B> {
    fn gradients(
        self,
        gradient: FloatTensor<B>,
        checkpointer: &mut Checkpointer,
        frozen: bool,
    ) -> BatchNormGradients<B> {
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.input);
        let mean_rest = self.mean_rest.unwrap_or_else(|| {
            B::float_zeros(
                self.mean.shape(),
                &self.mean.device(),
                self.mean.dtype().into(),
            )
        });
        let saved = BatchNormBackward {
            input,
            gradient,
            affine: BatchNormAffine {
                gamma: self.gamma,
                beta: self.beta,
            },
            statistics: BatchNormStatistics {
                mean: self.mean,
                mean_rest,
                variance: self.variance,
            },
        };
        B::batch_norm_backward(saved, self.epsilon, frozen, self.activation)
    }
}

/// Backward node of [`batch_norm_train`](super::batch_norm_train); parents: input, gamma, beta.
#[derive(Debug)]
struct TrainNode;

impl<B: BatchNormBackend> Backward<B, 3> for TrainNode {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Kept<B>, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let found = ops.state.gradients(gradient, checkpointer, false);
        for (parent, gradient) in
            ops.parents
                .into_iter()
                .zip([found.input, found.gamma, found.beta])
        {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// The gradients of a given mean and variance, from those of gamma and beta.
pub(super) fn moment_gradients<B: Backend>(
    [gamma, variance]: [FloatTensor<B>; 2],
    for_gamma: &FloatTensor<B>,
    for_beta: &FloatTensor<B>,
    epsilon: f64,
) -> [FloatTensor<B>; 2] {
    let squared_deviation = B::float_add_scalar(variance, epsilon.into());
    let deviation = B::float_sqrt(squared_deviation.clone());
    let slope = B::float_neg(B::float_div(gamma.clone(), deviation));
    let mean = B::float_mul(slope, for_beta.clone());
    let slope = B::float_div(B::float_mul_scalar(gamma, (-0.5).into()), squared_deviation);
    [mean, B::float_mul(slope, for_gamma.clone())]
}

/// Backward node of [`batch_norm_inference`](super::batch_norm_inference); parents: input, gamma, beta, mean,
/// variance.
#[derive(Debug)]
struct InferenceNode;

impl<B: BatchNormBackend> Backward<B, 5> for InferenceNode {
    type State = Kept<B>;

    fn backward(
        self,
        ops: Ops<Kept<B>, 5>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let gradient = grads.consume::<B>(&ops.node);
        let (gamma, variance, epsilon) = (
            ops.state.gamma.clone(),
            ops.state.variance.clone(),
            ops.state.epsilon,
        );
        let found = ops.state.gradients(gradient, checkpointer, true);

        let [input, for_gamma, for_beta, for_mean, for_variance] = ops.parents;
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
            (input, found.input),
            (for_gamma, found.gamma),
            (for_beta, found.beta),
        ] {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
