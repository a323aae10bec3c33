//! The differentiable operation behind batch normalisation.
//!
//! [`batch_norm_train`] normalises by the statistics of the batch, [`batch_norm_inference`] by given statistics.
//! [`batch_norm_then_train`] and [`batch_norm_then_inference`] also do what [`Then`] says: add a residual, apply an
//! activation, pool. All four are functions of tensors and know nothing of modules or running statistics.
//! [`mod@reference`] has the first two as the paper's equations: read it first.
//!
//! The functions call [`BatchNormBackend`], a trait of three operations for which a backend may have kernels:
//!
//! - `cpu` has kernels for Flex and NdArray, `cube` for the GPU backends;
//! - `remote` runs the operations on another machine;
//! - `portable` has the default bodies, for backends without kernels;
//! - `autodiff` makes the operations differentiable, with one backward node for each way to normalise.
//!
//! These operations end with a ReLU at most. The backends with kernels also have those of `BatchNormThenBackend`, in
//! `then`: Flex and NdArray do all of [`Then`], the GPU backends all but the pooling. Burn's tensor operations do the
//! rest. On a backend that this crate was not compiled for, the functions compute the reference.

// Burn 0.22 deprecates NdArray; this crate supports it for as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]
// Without a backend, the generated dispatch does not use its arguments.
#![cfg_attr(
    not(any(
        feature = "flex",
        feature = "ndarray",
        feature = "cube",
        feature = "remote"
    )),
    allow(unused_variables, unused_imports)
)]

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, ExtensionType, backend_extension};
use burn::tensor::{Device, FloatDType, Tensor};

use crate::dtype::at_least_f32;
use crate::processor::is_processor;

mod autodiff;
mod average;
#[cfg(feature = "cpu-kernels")]
pub(super) mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "kernels")]
mod layout;
mod moments;
mod portable;
pub mod reference;
#[cfg(feature = "remote")]
mod remote;
mod then;

pub(super) use average::average;
/// What the kernels of GPUs cost, for benchmarks and tests.
#[cfg(feature = "cube")]
#[doc(hidden)]
pub use cube::cost;
pub use moments::{
    BatchMoments, BatchMomentsBackend, Exchange, Link, Meeting, Positions, batch_moments, exchange,
    masked_batch_moments,
};
pub(super) use moments::{Mask, moments_where};
#[cfg(feature = "remote")]
pub use remote::remote_server;
#[cfg(feature = "kernels")]
pub use then::{
    BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward, BatchNormThenGradients,
};
pub use then::{Pooling, PoolingKind, Tail, TailActivation, Then};

use then::Plan;

/// What [`batch_norm_train`] returns.
pub struct BatchNormOutput<const D: usize> {
    /// The normalised input, `[batch, channels, ...]`.
    pub output: Tensor<D>,
    /// The mean of the batch, `[channels]`, detached from the graph; f32 for f16 and bf16 inputs, otherwise of the
    /// input's type.
    pub mean: Tensor<1>,
    /// The biased variance of the batch, `[channels]`, detached from the graph; of the mean's type.
    pub variance: Tensor<1>,
}

/// Normalises each channel by the mean and the variance of the batch.
///
/// `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with the mean and the biased variance taken over the
/// batch axis and all trailing axes (Ioffe & Szegedy 2015, Algorithm 1). Gradients flow to `input`, `gamma` and
/// `beta`, through the statistics too.
///
/// # Shapes
///
/// - `input`: `[batch, channels, ...]`. If it is empty, the mean and the variance are NaN, and the gradients of
///   `gamma` and `beta` are 0.
/// - `gamma`, `beta`: `[channels]`; without them, the scale is 1 and the shift 0
///
/// # Panics
///
/// Panics if `input` has fewer than 2 axes, or if the length of `gamma` or `beta` is not the number of channels.
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> BatchNormOutput<D> {
    batch_norm_then_train(input, gamma, beta, epsilon, Then::new())
}

/// [`batch_norm_train`] and what follows it, in one operation.
///
/// Gradients flow to the residual too, if there is one.
///
/// # Shapes
///
/// Those of [`batch_norm_train`]. `output` has the shape that [`Then`] leads to.
///
/// # Panics
///
/// As [`batch_norm_train`], and if the residual's shape or type is not that of `input`.
pub fn batch_norm_then_train<const D: usize>(
    input: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
    then: Then<D>,
) -> BatchNormOutput<D> {
    then.check(&input);
    if input.shape().num_elements() == 0 {
        let mut result = train_on_nothing(input, [gamma, beta]);
        result.output = then.apply(result.output);
        return result;
    }
    let device = input.device();
    if !is_compiled_in(&device) {
        let mut result = reference::batch_norm_train(input, gamma, beta, epsilon);
        result.output = then.apply(result.output);
        return result;
    }
    let affine = affine(&input, [gamma, beta]);
    let (activation, then) = match then.plan(&input) {
        #[cfg(feature = "kernels")]
        Plan::Kernels(residual, tail, rest) => {
            let input = input.into_dispatch();
            let result = <Dispatch as BatchNormThenBackend>::batch_norm_then_forward(
                input, affine, residual, epsilon, tail, 1,
            );
            return BatchNormOutput::from_dispatch(result, rest);
        }
        Plan::Steps(activation, rest) => (activation, rest),
    };
    let result = <Dispatch as BatchNormBackend>::batch_norm_forward(
        input.into_dispatch(),
        affine,
        epsilon,
        activation,
    );
    BatchNormOutput::from_dispatch(result, then)
}

/// [`batch_norm_then_train`] of each of `parts` parts of equal size, one after the other along the batch. The
/// statistics are `[parts * channels]`.
pub(super) fn batch_norm_parts<const D: usize>(
    input: Tensor<D>,
    gamma_and_beta: [Option<Tensor<1>>; 2],
    epsilon: f64,
    then: Then<D>,
    parts: usize,
) -> BatchNormOutput<D> {
    then.check(&input);
    #[cfg(feature = "cpu-kernels")]
    let mut then = then;
    #[cfg(feature = "cpu-kernels")]
    if has_cpu_kernels(&input.device())
        && let Some((residual, tail)) = then.for_kernels(&input)
    {
        let affine = affine(&input, gamma_and_beta);
        let input = input.into_dispatch();
        let result = <Dispatch as BatchNormThenBackend>::batch_norm_then_forward(
            input, affine, residual, epsilon, tail, parts,
        );
        return BatchNormOutput::from_dispatch(result, then);
    }
    // As if the channels of each part were other ones.
    let [batch, channels] = [0, 1].map(|axis| input.dims()[axis]);
    let rows = batch / parts;
    // Swaps parts and rows; the result has these lengths of its first two axes.
    let swapped = |tensor: Tensor<D>, [outer, inner]: [usize; 2], first: [usize; 2]| {
        let mut shape = tensor.dims();
        shape[..2].copy_from_slice(&first);
        let others = shape[2..].iter().product();
        let tensor: Tensor<4> = tensor.reshape([outer, inner, channels, others]);
        tensor.swap_dims(0, 1).reshape(shape)
    };
    let apart = |tensor| swapped(tensor, [parts, rows], [rows, parts * channels]);
    let together = |tensor| swapped(tensor, [rows, parts], [batch, channels]);
    let [gamma, beta] = gamma_and_beta.map(|it| it.map(|values| values.repeat_dim(0, parts)));
    let then = then.map_residual(apart);
    let result = batch_norm_then_train(apart(input), gamma, beta, epsilon, then);
    BatchNormOutput {
        output: together(result.output),
        ..result
    }
}

impl<const D: usize> BatchNormOutput<D> {
    /// The result, with the rest of what follows.
    fn from_dispatch(result: BatchNormForward<Dispatch>, rest: Then<D>) -> Self {
        Self {
            output: rest.apply(Tensor::from_dispatch(result.output)),
            mean: Tensor::from_dispatch(result.mean),
            variance: Tensor::from_dispatch(result.variance),
        }
    }
}

/// The result for an empty input: an empty output through which gamma and beta get a gradient of 0.
fn train_on_nothing<const D: usize>(
    input: Tensor<D>,
    gamma_and_beta: [Option<Tensor<1>>; 2],
) -> BatchNormOutput<D> {
    let [gamma, beta] = affine_parameters(&input, gamma_and_beta);
    let options = (&input.device(), at_least_f32(input.dtype()));
    let undefined = Tensor::full([input.dims()[1]], f64::NAN, options);
    BatchNormOutput {
        output: scale_nothing(input, gamma, beta),
        mean: undefined.clone(),
        variance: undefined,
    }
}

/// `scale * input + shift` for an empty input.
fn scale_nothing<const D: usize>(
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
) -> Tensor<D> {
    let channels = input.dims()[1];
    if channels == 0 {
        // To `reshape`, a 0 stands for the axis's old length.
        return input;
    }
    let dtype = FloatDType::from(input.dtype());
    let mut broadcast = [1; D];
    broadcast[1] = channels;
    let [scale, shift] = [scale, shift].map(|values| values.cast(dtype).reshape(broadcast));
    input * scale + shift
}

/// Normalises each channel by a given mean and variance.
///
/// `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`. Gradients flow to every tensor argument.
///
/// # Shapes
///
/// - `input`: `[batch, channels, ...]`
/// - `mean`, `variance`, `gamma`, `beta`: `[channels]`; without gamma and beta, the scale is 1 and the shift 0
///
/// # Panics
///
/// Panics if `input` has fewer than 2 axes, or if the length of another tensor is not the number of channels.
pub fn batch_norm_inference<const D: usize>(
    input: Tensor<D>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    let statistics = [mean, variance];
    batch_norm_then_inference(input, statistics, [gamma, beta], epsilon, Then::new())
}

/// [`batch_norm_inference`] and what follows it, in one operation.
///
/// Gradients flow to every tensor argument, and to the residual.
///
/// # Shapes
///
/// Those of [`batch_norm_inference`]: `statistics` are the mean and the variance, `affine` gamma and beta. The output
/// has the shape that [`Then`] leads to.
///
/// # Panics
///
/// As [`batch_norm_inference`], and if the residual's shape or type is not that of `input`.
pub fn batch_norm_then_inference<const D: usize>(
    input: Tensor<D>,
    statistics: [Tensor<1>; 2],
    affine: [Option<Tensor<1>>; 2],
    epsilon: f64,
    then: Then<D>,
) -> Tensor<D> {
    then.check(&input);
    let [mean, variance] = statistics;
    if input.shape().num_elements() == 0 {
        let [gamma, beta] = affine_parameters(&input, affine);
        let mean = parameter(&input, "mean", Some(mean), 0.0);
        let variance = parameter(&input, "variance", Some(variance), 1.0);
        let scale = gamma / variance.add_scalar(epsilon).sqrt();
        let shift = beta - mean * scale.clone();
        return then.apply(scale_nothing(input, scale, shift));
    }
    if !is_compiled_in(&input.device()) {
        let [gamma, beta] = affine;
        let output = reference::batch_norm_inference(input, mean, variance, gamma, beta, epsilon);
        return then.apply(output);
    }
    let affine = self::affine(&input, affine);
    let moments = BatchNormMoments {
        mean: parameter(&input, "mean", Some(mean), 0.0).into_dispatch(),
        variance: parameter(&input, "variance", Some(variance), 1.0).into_dispatch(),
    };
    let (activation, then) = match then.plan(&input) {
        #[cfg(feature = "kernels")]
        Plan::Kernels(residual, tail, rest) => {
            let input = input.into_dispatch();
            let output = <Dispatch as BatchNormThenBackend>::batch_norm_then_inference(
                input, affine, moments, residual, epsilon, tail,
            );
            return rest.apply(Tensor::from_dispatch(output));
        }
        Plan::Steps(activation, rest) => (activation, rest),
    };
    then.apply(Tensor::from_dispatch(
        <Dispatch as BatchNormBackend>::batch_norm_inference(
            input.into_dispatch(),
            affine,
            moments,
            epsilon,
            activation,
        ),
    ))
}

/// Whether this crate was compiled for the device's backend.
///
/// Burn may have a backend for which this crate has no feature, or whose feature is off. On such a backend, the
/// functions compute the reference, in Burn's tensor operations.
#[allow(clippy::match_single_binding)]
fn is_compiled_in(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[cfg(feature = "remote")]
        DispatchDevice::Remote(_) => true,
        _ => false,
    }
}

/// Whether the device's backend is one of those with kernels for the CPU.
fn has_cpu_kernels(device: &Device) -> bool {
    is_processor(&device.clone().without_autodiff())
}

/// Whether the device's backend is one of those with kernels for a GPU.
#[cfg(feature = "kernels")]
#[allow(clippy::match_single_binding)]
fn has_gpu_kernels(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Gamma and beta as arguments of the operations.
fn affine<const D: usize>(
    input: &Tensor<D>,
    gamma_and_beta: [Option<Tensor<1>>; 2],
) -> BatchNormAffine<Dispatch> {
    let [gamma, beta] = affine_parameters(input, gamma_and_beta).map(Tensor::into_dispatch);
    BatchNormAffine { gamma, beta }
}

/// Gamma and beta, in the type of the statistics.
fn affine_parameters<const D: usize>(
    input: &Tensor<D>,
    [gamma, beta]: [Option<Tensor<1>>; 2],
) -> [Tensor<1>; 2] {
    [
        parameter(input, "gamma", gamma, 1.0),
        parameter(input, "beta", beta, 0.0),
    ]
}

/// A tensor with one value per channel, in the type of the statistics; filled with `default` if `values` is `None`.
fn parameter<const D: usize>(
    input: &Tensor<D>,
    name: &str,
    values: Option<Tensor<1>>,
    default: f64,
) -> Tensor<1> {
    assert!(
        D >= 2,
        "batch norm takes an input of shape [batch, channels, ...], found rank {D}; reshape it to rank 2 or more"
    );
    let dtype = at_least_f32(input.dtype());
    let channels = input.dims()[1];
    let Some(values) = values else {
        return Tensor::full([channels], default, (&input.device(), dtype));
    };
    let [found] = values.dims();
    assert_eq!(
        found, channels,
        "batch norm takes a {name} with one value per channel: {channels} for this input, found {found}"
    );
    if values.dtype() == dtype {
        values
    } else {
        values.cast(FloatDType::from(dtype))
    }
}

/// What [`BatchNormBackend::batch_norm_forward`] returns.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormForward<B: Backend> {
    /// The normalised input, `[batch, channels, ...]`.
    pub output: FloatTensor<B>,
    /// The mean of the batch, `[channels]`.
    pub mean: FloatTensor<B>,
    /// Rounding error of `mean`, `[channels]`; `mean + mean_rest` has twice the precision.
    pub mean_rest: FloatTensor<B>,
    /// The biased variance of the batch, `[channels]`.
    pub variance: FloatTensor<B>,
}

/// What [`BatchNormBackend::batch_norm_backward`] returns.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormGradients<B: Backend> {
    /// Gradient of the input, `[batch, channels, ...]`.
    pub input: FloatTensor<B>,
    /// Gradient of gamma, `[channels]`.
    pub gamma: FloatTensor<B>,
    /// Gradient of beta, `[channels]`.
    pub beta: FloatTensor<B>,
}

/// The scale and the shift of the normalised input: `gamma * xhat + beta`.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormAffine<B: Backend> {
    /// The scale, `[channels]`.
    pub gamma: FloatTensor<B>,
    /// The shift, `[channels]`.
    pub beta: FloatTensor<B>,
}

/// A mean and a variance of each channel, such as inference normalises by.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormMoments<B: Backend> {
    /// The mean, `[channels]`.
    pub mean: FloatTensor<B>,
    /// The biased variance, `[channels]`.
    pub variance: FloatTensor<B>,
}

/// The statistics by which a batch was normalised.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormStatistics<B: Backend> {
    /// The mean, `[channels]`.
    pub mean: FloatTensor<B>,
    /// Rounding error of `mean`, `[channels]`; `mean + mean_rest` has twice the precision.
    pub mean_rest: FloatTensor<B>,
    /// The biased variance, `[channels]`.
    pub variance: FloatTensor<B>,
}

/// The tensors that [`BatchNormBackend::batch_norm_backward`] needs.
#[derive(ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub struct BatchNormBackward<B: Backend> {
    /// The input of the forward pass, `[batch, channels, ...]`.
    pub input: FloatTensor<B>,
    /// Gradient of the output, `[batch, channels, ...]`.
    pub gradient: FloatTensor<B>,
    /// Gamma and beta of the forward pass.
    #[extension_type]
    pub affine: BatchNormAffine<B>,
    /// The statistics by which the input was normalised.
    #[extension_type]
    pub statistics: BatchNormStatistics<B>,
}

/// The activation that every backend can fuse with the normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FusedActivation {
    /// None: returns the normalised input.
    None,
    /// A ReLU: `max(y, 0)`, NaN where `y` is.
    Relu,
}

impl FusedActivation {
    /// The number by which fusion records it in an operation.
    #[cfg(feature = "fusion")]
    fn code(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Relu => 1,
        }
    }
}

/// The operations of batch normalisation that a backend computes.
///
/// Tensors `[channels]` have the type of the statistics: f32 for an input of half precision, else the input's type. A
/// backend without kernels uses the default bodies.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait BatchNormBackend: Backend {
    /// Normalises by the statistics of the batch; see [`batch_norm_train`].
    #[fusion(id = "burn_kindling::batch_norm_forward", meta = |input, affine, _epsilon, _activation| BatchNormForwardMetadata {
        output: input.clone(),
        mean: affine.gamma.clone(),
        mean_rest: affine.gamma.clone(),
        variance: affine.gamma.clone(),
    })]
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        #[extension_type] affine: BatchNormAffine<Self>,
        epsilon: f64,
        #[fusion(scalar = activation.code())] activation: FusedActivation,
    ) -> BatchNormForward<Self> {
        portable::forward::<Self>(input, affine, None, epsilon, activation.into())
    }

    /// The gradients of [`batch_norm_forward`](Self::batch_norm_forward), given the gradient of its output.
    ///
    /// With `frozen`, the gradients of [`batch_norm_inference`](Self::batch_norm_inference), whose statistics do not
    /// depend on the input. `epsilon` and `activation` are those of the forward pass.
    #[fusion(id = "burn_kindling::batch_norm_backward", meta = |saved, _epsilon, _frozen, _activation| BatchNormGradientsMetadata {
        input: saved.input.clone(),
        gamma: saved.affine.gamma.clone(),
        beta: saved.affine.beta.clone(),
    })]
    fn batch_norm_backward(
        #[extension_type] saved: BatchNormBackward<Self>,
        epsilon: f64,
        frozen: bool,
        #[fusion(scalar = activation.code())] activation: FusedActivation,
    ) -> BatchNormGradients<Self> {
        portable::backward::<Self>(saved, None, epsilon, frozen, activation.into()).0
    }

    /// Normalises by a given mean and variance; see [`batch_norm_inference`].
    #[fusion(id = "burn_kindling::batch_norm_inference", dtype = input, shape = input)]
    fn batch_norm_inference(
        input: FloatTensor<Self>,
        #[extension_type] affine: BatchNormAffine<Self>,
        #[extension_type] moments: BatchNormMoments<Self>,
        epsilon: f64,
        #[fusion(scalar = activation.code())] activation: FusedActivation,
    ) -> FloatTensor<Self> {
        portable::inference::<Self>(input, affine, moments, None, epsilon, activation.into())
    }
}
