//! Kernels for the backends that compute on the processor, Flex and NdArray.
//!
//! [`lanes`] has the inner loops, [`walk`] the ways over a tensor, [`kernels`] the three operations, `memory` has the
//! room for what they write. This file brings the backends' tensors to them: any dense tensor is taken as it lies,
//! also transposed or channels-last, and the output lies the same way; only a view with gaps, repeated or reversed
//! values is copied first. What nobody else holds is overwritten in place of writing to new memory.

mod kernels;
mod lanes;
mod walk;

#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "flex")]
mod memory;
#[cfg(feature = "ndarray")]
mod ndarray;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Element, Shape, TensorData};

use super::layout::{Order, Strided, check};
use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, Then,
};
use kernels::{Affine, Moments, Statistics};
use lanes::{Input, Target, Value};

/// Access to the values of a backend's tensors.
trait Values<T>: Backend {
    /// The values of a contiguous tensor.
    fn values(tensor: &FloatTensor<Self>) -> &[T];

    /// The values of a contiguous tensor if nobody else holds them.
    fn values_mut(tensor: &mut FloatTensor<Self>) -> Option<&mut [T]>;

    /// A new tensor of the values that `write` writes, and what that returns.
    ///
    /// # Safety
    ///
    /// `write` must write as many values as the shape has to where it is told, without reading them before.
    unsafe fn written<R>(shape: Shape, write: impl FnOnce(*mut T) -> R) -> (FloatTensor<Self>, R);
}

/// Lets a kernel write over a tensor if nobody else holds it, else into a new one shaped like it.
///
/// # Safety
///
/// `kernel` must write as many values to the target as the tensor has.
unsafe fn write_over<B, T, R>(
    mut tensor: FloatTensor<B>,
    kernel: impl FnOnce(Input<T>, Target<T>) -> R,
) -> (FloatTensor<B>, R)
where
    B: Values<T>,
{
    if let Some(values) = B::values_mut(&mut tensor) {
        let pointer = values.as_mut_ptr();
        let result = kernel(Input(pointer), Target(pointer));
        return (tensor, result);
    }
    let values = Input(B::values(&tensor).as_ptr());
    // SAFETY: as the caller promises; no kernel reads what it has not written.
    unsafe { B::written(tensor.shape(), |room| kernel(values, Target(room))) }
}

/// The values of a tensor of one value a channel.
fn channel_values<B: Values<T> + Strided, T: Copy>(tensor: FloatTensor<B>) -> Vec<T> {
    B::values(&B::contiguous(tensor)).to_vec()
}

impl<R: Copy> Affine<R> {
    fn of<B: Values<R> + Strided>(affine: BatchNormAffine<B>) -> Self {
        Self {
            gamma: channel_values::<B, R>(affine.gamma),
            beta: channel_values::<B, R>(affine.beta),
        }
    }
}

/// A tensor of one value a channel.
fn channel_tensor<B: Backend, T: Element>(values: Vec<T>, device: &B::Device) -> FloatTensor<B> {
    let shape = [values.len()];
    B::float_from_data(TensorData::new(values, shape), device)
}

fn forward<B, T>(
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
    let affine = Affine::of::<B>(affine);
    // SAFETY: the tensor holds as many values as its dimensions say.
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

fn backward<B, T>(
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
    let affine = Affine::of::<B>(affine);
    let mean = channel_values::<B, T::Real>(statistics.mean);
    let mean_rest = channel_values::<B, T::Real>(statistics.mean_rest);
    let variance = channel_values::<B, T::Real>(statistics.variance);
    let statistics: Vec<_> = mean
        .into_iter()
        .zip(mean_rest)
        .zip(variance)
        .map(|((mean, mean_rest), variance)| Statistics {
            mean,
            mean_rest,
            variance,
        })
        .collect();
    let values = Input(<B as Values<T>>::values(&input).as_ptr());
    // SAFETY: both tensors hold as many values as the dimensions say, and the input is held till the end. A gradient
    // that nobody else holds shares no memory with it.
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

fn inference<B, T>(
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
    let affine = Affine::of::<B>(affine);
    let moments = Moments {
        mean: channel_values::<B, T::Real>(moments.mean),
        variance: channel_values::<B, T::Real>(moments.variance),
    };
    // SAFETY: the tensor holds as many values as its dimensions say.
    let (output, ()) = unsafe {
        write_over::<B, T, _>(input, |input, output| {
            kernels::inference(dims, input, output, &affine, &moments, epsilon, then);
        })
    };
    order.undo::<B>(output)
}

/// Calls a function for the type of a tensor's values.
macro_rules! for_dtype {
    ($dtype:expr, [$($variant:ident => $type:ty),*], $function:ident $arguments:tt) => {
        match $dtype {
            $(DType::$variant => $function::<Self, $type> $arguments,)*
            other => panic!("batch norm takes a floating point tensor, found one of {other:?}"),
        }
    };
}

/// Implements [`BatchNormBackend`] by the kernels, for the types that a backend has.
macro_rules! impl_batch_norm {
    ($backend:ty, $types:tt) => {
        impl BatchNormBackend for $backend {
            fn batch_norm_forward(
                input: FloatTensor<Self>,
                affine: BatchNormAffine<Self>,
                epsilon: f64,
                then: Then,
            ) -> BatchNormForward<Self> {
                for_dtype!(input.dtype(), $types, forward(input, affine, epsilon, then))
            }

            fn batch_norm_backward(
                saved: BatchNormBackward<Self>,
                epsilon: f64,
                frozen: bool,
                then: Then,
            ) -> BatchNormGradients<Self> {
                for_dtype!(
                    saved.input.dtype(),
                    $types,
                    backward(saved, epsilon, frozen, then)
                )
            }

            fn batch_norm_inference(
                input: FloatTensor<Self>,
                affine: BatchNormAffine<Self>,
                moments: BatchNormMoments<Self>,
                epsilon: f64,
                then: Then,
            ) -> FloatTensor<Self> {
                for_dtype!(
                    input.dtype(),
                    $types,
                    inference(input, affine, moments, epsilon, then)
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
