//! Batch normalisation in a backend's own tensor operations, for the backends without kernels here.
//!
//! The equations are [`reference`](super::reference)'s; Burn's operations evaluate them, on the input with the mean
//! taken off first, since Burn's own lose a small deviation from a large mean.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, Shape};

use super::{BatchNormForward, BatchNormGradients, BatchNormStatistics, statistics_dtype};

pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    epsilon: f64,
) -> BatchNormForward<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let mean = channel_means::<B>(input.clone());
    let centred = centre::<B>(input, mean.clone());
    let result = B::batch_norm_train(centred, gamma, beta, epsilon);
    BatchNormForward {
        output: B::float_cast(result.output, dtype.into()),
        mean,
        mean_rest: result.mean,
        variance: result.variance,
    }
}

pub(super) fn backward<B: Backend>(
    input: FloatTensor<B>,
    gradient: FloatTensor<B>,
    gamma: FloatTensor<B>,
    statistics: BatchNormStatistics<B>,
    epsilon: f64,
    frozen: bool,
) -> BatchNormGradients<B> {
    let dtype = input.dtype();
    let BatchNormStatistics {
        mean,
        mean_rest,
        variance,
    } = statistics;
    let centred = centre::<B>(in_statistics_dtype::<B>(input), mean);
    let gradient = in_statistics_dtype::<B>(gradient);
    let gradients = B::batch_norm_train_backward(
        centred,
        gamma.clone(),
        mean_rest,
        variance.clone(),
        epsilon,
        gradient.clone(),
    );
    let input = if frozen {
        let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
        let scale = B::float_div(gamma, deviation);
        let shape = per_channel(&gradient.shape());
        B::float_mul(gradient, B::float_reshape(scale, shape))
    } else {
        gradients.x_grad
    };
    BatchNormGradients {
        input: B::float_cast(input, dtype.into()),
        gamma: gradients.gamma_grad,
        beta: gradients.beta_grad,
    }
}

pub(super) fn inference<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let output = B::batch_norm(input, gamma, beta, mean, variance, epsilon);
    B::float_cast(output, dtype.into())
}

/// `input - mean`, for `[batch, channels, ...]` and `[channels]`.
fn centre<B: Backend>(input: FloatTensor<B>, mean: FloatTensor<B>) -> FloatTensor<B> {
    let shape = per_channel(&input.shape());
    B::float_sub(input, B::float_reshape(mean, shape))
}

/// The mean of each channel of `[batch, channels, ...]`, as `[channels]`.
fn channel_means<B: Backend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let shape = input.shape();
    let channels = shape[1];
    let values = shape.num_elements() / channels.max(1);
    let rows = B::float_swap_dims(input, 0, 1);
    let rows = B::float_reshape(rows, Shape::new([channels, values]));
    B::float_reshape(B::float_mean_dim(rows, 1), Shape::new([channels]))
}

/// The shape that lines `[channels]` up with `[batch, channels, ...]`: `[1, channels, 1, ...]`.
fn per_channel(shape: &Shape) -> Shape {
    let mut dims = vec![1; shape.num_dims()];
    dims[1] = shape[1];
    Shape::from(dims)
}

fn in_statistics_dtype<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = statistics_dtype(tensor.dtype());
    if tensor.dtype() == dtype {
        tensor
    } else {
        B::float_cast(tensor, FloatDType::from(dtype))
    }
}
