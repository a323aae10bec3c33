//! The operations of a normalisation and what follows it, for the backends with kernels.

#[cfg(feature = "fusion")]
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, backend_extension};

use super::Tail;
#[cfg(feature = "fusion")]
use crate::norm::op::BatchNormForwardMetadata;
use crate::norm::op::{
    BatchNormAffine, BatchNormBackend, BatchNormForward, BatchNormMoments, BatchNormStatistics,
};

/// The tensor that is added to the normalised input.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum BatchNormResidual<B: Backend> {
    /// None.
    Absent,
    /// This one, of the input's shape and type.
    Added(FloatTensor<B>),
}

impl<B: Backend> BatchNormResidual<B> {
    pub(in crate::norm::op) fn tensor(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Absent => None,
            Self::Added(tensor) => Some(tensor),
        }
    }
}

impl<B: Backend> From<Option<FloatTensor<B>>> for BatchNormResidual<B> {
    fn from(tensor: Option<FloatTensor<B>>) -> Self {
        tensor.map_or(Self::Absent, Self::Added)
    }
}

/// The tensors that [`BatchNormThenBackend::batch_norm_then_backward`] needs.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormThenBackward<B: Backend> {
    /// The input of the forward pass, `[batch, channels, ...]`.
    pub input: FloatTensor<B>,
    /// Gradient of the output: of its shape, which is the input's if there is no pooling.
    pub gradient: FloatTensor<B>,
    /// The residual of the forward pass.
    #[extension_type]
    pub residual: BatchNormResidual<B>,
    /// Gamma and beta of the forward pass.
    #[extension_type]
    pub affine: BatchNormAffine<B>,
    /// The statistics by which the input was normalised.
    #[extension_type]
    pub statistics: BatchNormStatistics<B>,
}

/// What [`BatchNormThenBackend::batch_norm_then_backward`] returns.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormThenGradients<B: Backend> {
    /// Gradient of the input, `[batch, channels, ...]`.
    pub input: FloatTensor<B>,
    /// Gradient of gamma, `[channels]`.
    pub gamma: FloatTensor<B>,
    /// Gradient of beta, `[channels]`.
    pub beta: FloatTensor<B>,
    /// Gradient of the residual, if there is one, `[batch, channels, ...]`.
    #[extension_type]
    pub residual: BatchNormResidual<B>,
}

/// The operations of [`BatchNormBackend`] with all that [`Then`](super::Then) can say.
///
/// The output has the input's shape or, after a pooling, `[batch, channels, height out, width out]`. Only the CPU
/// backends divide a batch into parts.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait BatchNormThenBackend: BatchNormBackend {
    /// Normalises by the statistics of the batch, then does what follows.
    ///
    /// The batch has `parts` parts of equal size, each of which is normalised by its own statistics: these are
    /// `[parts * channels]`.
    #[fusion(id = "burn_kindling::batch_norm_then_forward", meta = |input, affine, _residual, _epsilon, tail, _parts| BatchNormForwardMetadata {
        output: TensorSpec::new(tail.output_shape(&input.shape), input.dtype),
        mean: affine.gamma.clone(),
        mean_rest: affine.gamma.clone(),
        variance: affine.gamma.clone(),
    })]
    fn batch_norm_then_forward(
        input: FloatTensor<Self>,
        #[extension_type] affine: BatchNormAffine<Self>,
        #[extension_type] residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
        parts: usize,
    ) -> BatchNormForward<Self>;

    /// The gradients of [`batch_norm_then_forward`](Self::batch_norm_then_forward), given the gradient of its output.
    ///
    /// With `frozen`, the gradients of [`batch_norm_then_inference`](Self::batch_norm_then_inference), whose statistics
    /// do not depend on the input. `epsilon`, `tail` and `parts` are those of the forward pass.
    #[fusion(id = "burn_kindling::batch_norm_then_backward", meta = |saved, _epsilon, _frozen, _tail, _parts| BatchNormThenGradientsMetadata {
        input: saved.input.clone(),
        gamma: saved.affine.gamma.clone(),
        beta: saved.affine.beta.clone(),
        residual: saved.residual.clone(),
    })]
    fn batch_norm_then_backward(
        #[extension_type] saved: BatchNormThenBackward<Self>,
        epsilon: f64,
        frozen: bool,
        tail: Tail,
        parts: usize,
    ) -> BatchNormThenGradients<Self>;

    /// Normalises by a given mean and variance, then does what follows.
    #[fusion(id = "burn_kindling::batch_norm_then_inference", dtype = input, shape = tail.output_shape(input))]
    fn batch_norm_then_inference(
        input: FloatTensor<Self>,
        #[extension_type] affine: BatchNormAffine<Self>,
        #[extension_type] moments: BatchNormMoments<Self>,
        #[extension_type] residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
    ) -> FloatTensor<Self>;
}

/// Implements [`BatchNormBackend`] for a backend by its [`BatchNormThenBackend`]: without a residual, and with a ReLU
/// at most.
macro_rules! impl_batch_norm_by_then {
    ($backend:ty) => {
        impl BatchNormBackend for $backend {
            fn batch_norm_forward(
                input: FloatTensor<Self>,
                affine: BatchNormAffine<Self>,
                epsilon: f64,
                activation: FusedActivation,
            ) -> BatchNormForward<Self> {
                let residual = BatchNormResidual::Absent;
                let tail = activation.into();
                Self::batch_norm_then_forward(input, affine, residual, epsilon, tail, 1)
            }

            fn batch_norm_backward(
                saved: BatchNormBackward<Self>,
                epsilon: f64,
                frozen: bool,
                activation: FusedActivation,
            ) -> BatchNormGradients<Self> {
                let saved = BatchNormThenBackward {
                    input: saved.input,
                    gradient: saved.gradient,
                    residual: BatchNormResidual::Absent,
                    affine: saved.affine,
                    statistics: saved.statistics,
                };
                let BatchNormThenGradients {
                    input, gamma, beta, ..
                } = Self::batch_norm_then_backward(saved, epsilon, frozen, activation.into(), 1);
                BatchNormGradients { input, gamma, beta }
            }

            fn batch_norm_inference(
                input: FloatTensor<Self>,
                affine: BatchNormAffine<Self>,
                moments: BatchNormMoments<Self>,
                epsilon: f64,
                activation: FusedActivation,
            ) -> FloatTensor<Self> {
                let residual = BatchNormResidual::Absent;
                let tail = activation.into();
                Self::batch_norm_then_inference(input, affine, moments, residual, epsilon, tail)
            }
        }
    };
}
pub(in crate::norm::op) use impl_batch_norm_by_then;
