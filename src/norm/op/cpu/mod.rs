//! Kernels for the backends that compute on the CPU, Flex and NdArray.
//!
//! A tensor `[batch, channels, ...]` is seen as `[outer, channels, inner]`. Forward and backward add up the values,
//! compute a few numbers per channel, and map every value; inference only maps:
//!
//! ```text
//! forward:    centre        = mean of a few values                   for each channel
//!             sum d, sum d² with d = x - centre                      for each value
//!             mean, variance                                         for each channel
//!             y  = scale * (x - mean) + shift                        for each value
//!
//! backward:   sum g, sum g * d  with d = x - mean                    for each value
//!             dgamma, dbeta, scale, slope, shift                     for each channel
//!             dx = scale * g + slope * d + shift                     for each value
//!
//! inference:  y  = scale * (x - mean) + shift                        for each value
//! ```
//!
//! What follows the normalisation is done before `y` is written: a residual is added, the activation is applied, and
//! each image is pooled; only the pooled values are then written. The backward pass goes over the values twice. The
//! first time it computes all this again, to find `g`, the gradient of the normalisation's output. It writes `g`, which
//! is also the residual's gradient, for the second time.
//!
//! From the tensor down to the single block of values:
//!
//! - [`adapters`]: a backend's tensors, how they lie, and where the output goes (`flex`, `ndarray`, `memory`);
//! - [`kernels`]: the three operations;
//! - [`regions`]: groups of channels and pieces of a tensor; [`parallel`] shares them among threads;
//! - [`traversal`]: the way over the values, run by run or row by row;
//! - [`planes`]: the way over images that are pooled; [`pooling`]: pooling of one image, and [`quads`] by windows of 2x2;
//! - [`blocks`]: the loops over neighbouring values, which become vector instructions; [`channels`]: what they know of
//!   each channel; [`gate`]: the activation, [`smooth`]: those that take a pass of their own; [`value`]: the types of the
//!   values.

mod adapters;
mod blocks;
mod channels;
mod gate;
mod kernels;
mod parallel;
mod planes;
mod pooling;
mod quads;
mod regions;
mod smooth;
mod traversal;
mod value;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
pub(in crate::norm) mod memory;
#[cfg(feature = "ndarray")]
mod ndarray;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;

use super::average::RunningAverageBackend;
use super::then::impl_batch_norm_by_then;
use super::{
    BatchMomentsBackend, BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward,
    BatchNormGradients, BatchNormMoments, BatchNormResidual, BatchNormThenBackend,
    BatchNormThenBackward, BatchNormThenGradients, FusedActivation, Positions, Tail,
};
use adapters::{average, backward, forward, inference, keep, moments};

/// Calls a function for the type of a tensor's values.
macro_rules! for_dtype {
    ($dtype:expr, [$($variant:ident => $type:ty),*], $function:ident $arguments:tt) => {
        match $dtype {
            $(DType::$variant => $function::<Self, $type> $arguments,)*
            other => panic!("batch norm takes a floating point tensor, found one of {other:?}"),
        }
    };
}

/// Implements the operations by the kernels, for the types that a backend has.
macro_rules! impl_batch_norm {
    ($backend:ty, $types:tt) => {
        impl_batch_norm_by_then!($backend);

        impl RunningAverageBackend for $backend {
            fn running_average(
                running: BatchNormMoments<Self>,
                batch: BatchNormMoments<Self>,
                gain: f64,
                correction: f64,
            ) -> BatchNormMoments<Self> {
                for_dtype!(
                    TensorMetadata::dtype(&running.mean),
                    [F32 => f32, F64 => f64],
                    average(running, batch, gain, correction)
                )
            }
        }

        impl BatchMomentsBackend for $backend {
            fn batch_norm_moments(
                input: FloatTensor<Self>,
                positions: Positions,
            ) -> FloatTensor<Self> {
                for_dtype!(
                    TensorMetadata::dtype(&input),
                    $types,
                    moments(input, positions)
                )
            }

            fn batch_norm_keep(
                tensor: FloatTensor<Self>,
                positions: Positions,
            ) -> FloatTensor<Self> {
                for_dtype!(
                    TensorMetadata::dtype(&tensor),
                    $types,
                    keep(tensor, positions)
                )
            }
        }

        impl BatchNormThenBackend for $backend {
            fn batch_norm_then_forward(
                input: FloatTensor<Self>,
                affine: BatchNormAffine<Self>,
                residual: BatchNormResidual<Self>,
                epsilon: f64,
                tail: Tail,
                parts: usize,
            ) -> BatchNormForward<Self> {
                for_dtype!(
                    TensorMetadata::dtype(&input),
                    $types,
                    forward(input, affine, residual.tensor(), epsilon, tail, parts)
                )
            }

            fn batch_norm_then_backward(
                saved: BatchNormThenBackward<Self>,
                epsilon: f64,
                frozen: bool,
                tail: Tail,
                parts: usize,
            ) -> BatchNormThenGradients<Self> {
                for_dtype!(
                    TensorMetadata::dtype(&saved.input),
                    $types,
                    backward(saved, epsilon, frozen, tail, parts)
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
                for_dtype!(
                    TensorMetadata::dtype(&input),
                    $types,
                    inference(input, affine, moments, residual.tensor(), epsilon, tail)
                )
            }
        }
    };
}

#[cfg(feature = "flex")]
impl_batch_norm!(
    burn::backend::Flex,
    [F32 => f32, F64 => f64, F16 => half::f16, BF16 => half::bf16]
);
#[cfg(feature = "ndarray")]
impl_batch_norm!(burn::backend::NdArray, [F32 => f32, F64 => f64]);
