//! Activation functions.

use burn::tensor::{Tensor, activation};

/// The slope of leaky ReLU below 0.
pub(super) const LEAKY_SLOPE: f64 = 0.01;

/// An activation function between two layers. It determines how large their initial weights should be
/// ([`InitStrategy::recommended_for`](super::InitStrategy::recommended_for)).
///
/// Displayed, parsed and serialised as `sigmoid`, `tanh`, `relu`, `leaky-relu`, `gelu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, `0.01 x` below.
    LeakyRelu,
    /// `x Phi(x)`, where `Phi` is the distribution function of N(0, 1), exact rather than its tanh approximation
    /// (Hendrycks & Gimpel 2016, [arXiv:1606.08415](https://arxiv.org/abs/1606.08415)).
    Gelu,
}

crate::names!(Activation, "activation":
    Sigmoid = "sigmoid",
    Tanh = "tanh",
    Relu = "relu",
    LeakyRelu = "leaky-relu",
    Gelu = "gelu",
);

impl Activation {
    /// Applies the activation to every element of a tensor of any shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Sigmoid => activation::sigmoid(input),
            Self::Tanh => activation::tanh(input),
            Self::Relu => activation::relu(input),
            Self::LeakyRelu => activation::leaky_relu(input, LEAKY_SLOPE),
            Self::Gelu => activation::gelu(input),
        }
    }
}
