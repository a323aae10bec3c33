//! From a backend's tensors to the kernels and back.
//!
//! A dense tensor is taken as it lies, also transposed or channels-last, and the output lies the same way. A view with gaps,
//! repeated or reversed values is copied first. A tensor that nobody else holds is overwritten.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Element, Shape, TensorData};

use super::blocks::{Input, Real, Target, Value};
use super::kernels::{self, Affine, Statistics};
use crate::norm::op::layout::{Order, Strided, check};
use crate::norm::op::{
    BatchNormAffine, BatchNormBackward, BatchNormForward, BatchNormGradients, BatchNormMoments,
    Then,
};

/// Access to the values of a backend's tensors.
pub(super) trait Values<T>: Backend {
    /// The values of a contiguous tensor.
    fn values(tensor: &FloatTensor<Self>) -> &[T];

    /// The values of a contiguous tensor if nobody else holds them.
    fn values_mut(tensor: &mut FloatTensor<Self>) -> Option<&mut [T]>;

    /// A new tensor of the values that `write` writes, and what that returns.
    ///
    /// # Safety
    ///
    /// `write` writes as many values as the shape has from the given place on, and reads none that it has not written.
    unsafe fn written<R>(shape: Shape, write: impl FnOnce(*mut T) -> R) -> (FloatTensor<Self>, R);
}

/// Lets a kernel write over a tensor if nobody else holds it, else into a new one of its shape.
///
/// # Safety
///
/// `kernel` writes all values of the target, and reads none of them that it has not written, unless as its input.
unsafe fn write_over<B, T, R>(
    mut tensor: FloatTensor<B>,
    kernel: impl FnOnce(Input<T>, Target<T>) -> R,
) -> (FloatTensor<B>, R)
where
    B: Values<T>,
    T: Value,
{
    if let Some(values) = B::values_mut(&mut tensor) {
        let (start, len) = (values.as_mut_ptr(), values.len());
        let result = kernel(Input::new(start, len), Target::new(start, len));
        return (tensor, result);
    }
    let values = B::values(&tensor);
    let (input, len) = (Input::of(values), values.len());
    // SAFETY: by this function's condition.
    unsafe {
        B::written(tensor.shape(), |start| {
            kernel(input, Target::new(start, len))
        })
    }
}

/// The values of a tensor of one value per channel.
fn channel_values<B: Values<T> + Strided, T: Copy>(tensor: FloatTensor<B>) -> Vec<T> {
    B::values(&B::contiguous(tensor)).to_vec()
}

/// Gamma and beta of each channel.
fn affine_values<B: Values<R> + Strided, R: Copy>(affine: BatchNormAffine<B>) -> Affine<R> {
    Affine {
        gamma: channel_values::<B, R>(affine.gamma),
        beta: channel_values::<B, R>(affine.beta),
    }
}

/// The statistics of each channel; without `mean_rest`, that is 0.
fn statistics_values<B: Values<R> + Strided, R: Real>(
    mean: FloatTensor<B>,
    mean_rest: Option<FloatTensor<B>>,
    variance: FloatTensor<B>,
) -> Vec<Statistics<R>> {
    let mean = channel_values::<B, R>(mean);
    let rest = mean_rest.map_or_else(|| vec![R::default(); mean.len()], channel_values::<B, R>);
    let variance = channel_values::<B, R>(variance);
    let channels = mean.into_iter().zip(rest).zip(variance);
    let statistics = channels.map(|((mean, mean_rest), variance)| Statistics {
        mean,
        mean_rest,
        variance,
    });
    statistics.collect()
}

/// A tensor of one value per channel.
fn channel_tensor<B: Backend, T: Element>(values: Vec<T>, device: &B::Device) -> FloatTensor<B> {
    let shape = [values.len()];
    B::float_from_data(TensorData::new(values, shape), device)
}

pub(super) fn forward<B, T>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    epsilon: f64,
    then: Then,
) -> BatchNormForward<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    check::<B>(&input, &[], &[&affine.gamma, &affine.beta]);
    let device = input.device();
    let order = Order::of::<B>(&input);
    let (input, _) = order.apply::<B>(input);
    let dims = order.dims::<B>(&input);
    let affine = affine_values::<B, T::Real>(affine);
    // SAFETY: the tensor has as many values as its dimensions say; `write_over` gives the kernel the memory for itself.
    let (output, statistics) = unsafe {
        write_over::<B, T, _>(input, |input, output| {
            kernels::forward(dims, input, output, &affine, epsilon, then)
        })
    };
    let per_channel = |value: fn(&Statistics<T::Real>) -> T::Real| {
        channel_tensor::<B, T::Real>(statistics.iter().map(value).collect(), &device)
    };
    BatchNormForward {
        output: order.undo::<B>(output),
        mean: per_channel(|channel| channel.mean),
        mean_rest: per_channel(|channel| channel.mean_rest),
        variance: per_channel(|channel| channel.variance),
    }
}

pub(super) fn backward<B, T>(
    saved: BatchNormBackward<B>,
    epsilon: f64,
    frozen: bool,
    then: Then,
) -> BatchNormGradients<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    let BatchNormBackward {
        input,
        gradient,
        affine,
        statistics,
    } = saved;
    check::<B>(
        &input,
        &[&gradient],
        &[
            &affine.gamma,
            &affine.beta,
            &statistics.mean,
            &statistics.mean_rest,
            &statistics.variance,
        ],
    );
    let device = input.device();
    let order = Order::of::<B>(&input);
    let (input, _) = order.apply::<B>(input);
    let (gradient, _) = order.apply::<B>(gradient);
    let dims = order.dims::<B>(&input);
    let affine = affine_values::<B, T::Real>(affine);
    let statistics = statistics_values::<B, T::Real>(
        statistics.mean,
        Some(statistics.mean_rest),
        statistics.variance,
    );
    let values = Input::of(<B as Values<T>>::values(&input));
    // SAFETY: both tensors have as many values as the dimensions say. The input lives to the end, and a gradient that nobody
    // else holds shares no memory with it.
    let (output, parameters) = unsafe {
        write_over::<B, T, _>(gradient, |gradient, output| {
            let tensors = kernels::Backward {
                input: values,
                gradient,
                output,
            };
            let backward = match then {
                Then::Nothing => kernels::backward::<T, false>,
                Then::Relu => kernels::backward::<T, true>,
            };
            backward(dims, tensors, &affine, &statistics, epsilon, frozen)
        })
    };
    let (for_gamma, for_beta) = parameters
        .iter()
        .map(|channel| (channel.gamma, channel.beta))
        .unzip();
    BatchNormGradients {
        input: order.undo::<B>(output),
        gamma: channel_tensor::<B, T::Real>(for_gamma, &device),
        beta: channel_tensor::<B, T::Real>(for_beta, &device),
    }
}

pub(super) fn inference<B, T>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    moments: BatchNormMoments<B>,
    epsilon: f64,
    then: Then,
) -> FloatTensor<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    check::<B>(
        &input,
        &[],
        &[
            &affine.gamma,
            &affine.beta,
            &moments.mean,
            &moments.variance,
        ],
    );
    let order = Order::of::<B>(&input);
    let (input, _) = order.apply::<B>(input);
    let dims = order.dims::<B>(&input);
    let affine = affine_values::<B, T::Real>(affine);
    let statistics = statistics_values::<B, T::Real>(moments.mean, None, moments.variance);
    // SAFETY: the tensor has as many values as its dimensions say; `write_over` gives the kernel the memory for itself.
    let (output, ()) = unsafe {
        write_over::<B, T, _>(input, |input, output| {
            kernels::inference(dims, input, output, &affine, &statistics, epsilon, then);
        })
    };
    order.undo::<B>(output)
}
