//! Batch normalisation as the paper writes it, in tensor operations.
//!
//! Ioffe & Szegedy 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167). Read this page first. The fused kernels
//! are tested against it. It runs on every backend; automatic differentiation computes its gradients.

use burn::tensor::{DType, FloatDType, Tensor};

use super::BatchNormOutput;
use crate::dtype::at_least_f32;

/// Algorithm 1: normalises each channel by the mean and the biased variance of the batch.
///
/// See [`batch_norm_train`](super::batch_norm_train).
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> BatchNormOutput<D> {
    let (dims, dtype) = (input.dims(), input.dtype());
    let precision = float(at_least_f32(dtype));
    let x = rows_of_channels(input.cast(precision));

    // The rounded mean is off by up to half an ulp. For values far from 0, that is not small compared with their
    // deviation. The mean of the centred values is this rounding error, so it is subtracted too.
    let rough_mean = x.clone().mean_dim(1).detach();
    let centred = x - rough_mean.clone();
    let rest = centred.clone().mean_dim(1);
    let centred = centred - rest.clone();
    let variance = centred.clone().square().mean_dim(1);

    let normalised = centred / variance.clone().add_scalar(epsilon).sqrt();
    let output = scale_and_shift(normalised, gamma, beta, precision);

    BatchNormOutput {
        output: from_rows_of_channels(output, dims).cast(float(dtype)),
        mean: (rough_mean + rest).detach().squeeze_dim(1),
        variance: variance.detach().squeeze_dim(1),
    }
}

/// Normalises each channel by a given mean and variance.
///
/// See [`batch_norm_inference`](super::batch_norm_inference).
pub fn batch_norm_inference<const D: usize>(
    input: Tensor<D>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    let (dims, dtype) = (input.dims(), input.dtype());
    let precision = float(at_least_f32(dtype));
    let x = rows_of_channels(input.cast(precision));

    let centred = x - mean.cast(precision).unsqueeze_dim(1);
    let deviation = variance.cast(precision).add_scalar(epsilon).sqrt();
    let normalised = centred / deviation.unsqueeze_dim(1);
    let output = scale_and_shift(normalised, gamma, beta, precision);

    from_rows_of_channels(output, dims).cast(float(dtype))
}

/// `gamma * x + beta`, for `x` of shape `[channels, values]`.
fn scale_and_shift(
    mut x: Tensor<2>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    precision: FloatDType,
) -> Tensor<2> {
    if let Some(gamma) = gamma {
        x = x * gamma.cast(precision).unsqueeze_dim(1);
    }
    if let Some(beta) = beta {
        x = x + beta.cast(precision).unsqueeze_dim(1);
    }
    x
}

/// `[batch, channels, ...]` to `[channels, values]`.
fn rows_of_channels<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let channels = x.dims()[1];
    let values = x.shape().num_elements() / channels;
    x.swap_dims(0, 1).reshape([channels, values])
}

/// `[channels, values]` back to `[batch, channels, ...]`, given the latter.
fn from_rows_of_channels<const D: usize>(x: Tensor<2>, mut dims: [usize; D]) -> Tensor<D> {
    dims.swap(0, 1);
    x.reshape(dims).swap_dims(0, 1)
}

fn float(dtype: DType) -> FloatDType {
    FloatDType::from(dtype)
}
