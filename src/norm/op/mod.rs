//! The differentiable operation behind batch normalisation.
//!
//! Two functions of tensors, one for each of the statistics that can normalise: [`batch_norm_train`] uses those of
//! the batch, [`batch_norm_inference`] those it is given. Neither knows of modules or of running statistics.
//! [`reference`] holds the same two written as the paper writes them.

use burn::tensor::Tensor;

pub mod reference;

/// What [`batch_norm_train`] returns.
pub struct BatchNormOutput<const D: usize> {
    /// The normalised input, `[batch, channels, ...]`.
    pub output: Tensor<D>,
    /// The mean of the batch, `[channels]`, detached from the graph; f32 for f16 and bf16 inputs, else of the
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
/// - `input`: `[batch, channels, ...]`, at least one value a channel
/// - `gamma`, `beta`: `[channels]`; without them the factor is 1 and the offset 0
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> BatchNormOutput<D> {
    reference::batch_norm_train(input, gamma, beta, epsilon)
}

/// Normalises each channel by a given mean and variance.
///
/// `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`. Gradients flow to every tensor given.
///
/// # Shapes
///
/// - `input`: `[batch, channels, ...]`
/// - `mean`, `variance`, `gamma`, `beta`: `[channels]`; without gamma and beta the factor is 1 and the offset 0
pub fn batch_norm_inference<const D: usize>(
    input: Tensor<D>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    gamma: Option<Tensor<1>>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<D> {
    reference::batch_norm_inference(input, mean, variance, gamma, beta, epsilon)
}
