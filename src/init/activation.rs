//! Activation functions.

use std::f64::consts::SQRT_2;

use burn::tensor::{DType, Tensor, activation};

use crate::processor::is_flex;

/// SELU's alpha and lambda: they keep the mean and variance of N(0, 1) (Klambauer et al. 2017, eq. 14).
pub(super) const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
pub(super) const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

/// An activation function between two layers. It determines the scale of their initial weights; see
/// [`InitStrategy::recommended_for`](super::InitStrategy::recommended_for).
///
/// Displayed, parsed and serialised as `sigmoid`, `tanh`, `relu`, `leaky-relu`, `gelu`, `selu`, `silu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `tanh(x)`.
    Tanh,
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, [`LEAKY_SLOPE`](Self::LEAKY_SLOPE) times `x` below.
    LeakyRelu,
    /// `x Phi(x)`, where `Phi` is the distribution function of N(0, 1) (Hendrycks & Gimpel 2016,
    /// [arXiv:1606.08415](https://arxiv.org/abs/1606.08415)). Exact, not the tanh approximation.
    Gelu,
    /// `lambda x` above 0, `lambda alpha (exp(x) - 1)` below, where `lambda = 1.0507...` and `alpha = 1.6733...`
    /// (Klambauer et al. 2017, [arXiv:1706.02515](https://arxiv.org/abs/1706.02515), eq. 2).
    Selu,
    /// `x / (1 + exp(-x))`, also called swish (Elfwing et al. 2018,
    /// [arXiv:1702.03118](https://arxiv.org/abs/1702.03118)).
    Silu,
}

crate::names!(Activation, "activation":
    Sigmoid = "sigmoid",
    Tanh = "tanh",
    Relu = "relu",
    LeakyRelu = "leaky-relu",
    Gelu = "gelu",
    Selu = "selu",
    Silu = "silu",
);

impl Activation {
    /// The slope of the leaky ReLU below 0.
    pub const LEAKY_SLOPE: f64 = 0.01;

    /// Applies the activation to every element of a tensor of any shape. The output has the same shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Sigmoid => sigmoid(input),
            Self::Tanh => activation::tanh(input),
            Self::Relu => activation::relu(input),
            Self::LeakyRelu => activation::leaky_relu(input, Self::LEAKY_SLOPE),
            Self::Gelu => gelu(input),
            Self::Selu => {
                // Burn's own computes exp above 0 too, where it overflows and makes the gradient NaN.
                let below = (input.clone().clamp_max(0.0).exp() - 1.0) * SELU_ALPHA;
                (activation::relu(input) + below) * SELU_SCALE
            }
            Self::Silu => input.clone() * sigmoid(input),
        }
    }

    /// The gain g. A layer of fan-in n between two such activations takes weights from N(0, g²/n).
    ///
    /// | activation | gain | source |
    /// | --- | --- | --- |
    /// | sigmoid | 1 | PyTorch's `calculate_gain` |
    /// | tanh | 5/3 | PyTorch's `calculate_gain` |
    /// | ReLU | `sqrt(2)` | `1 / sqrt(E[phi(z)²])`; He et al. 2015, eq. 10 |
    /// | leaky ReLU | `sqrt(2 / (1 + 0.01²))` | `1 / sqrt(E[phi(z)²])`; He et al. 2015, eq. 15 |
    /// | GELU | 1.5335 | `1 / sqrt(E[phi(z)²])` |
    /// | SELU | 1 | `1 / sqrt(E[phi(z)²])`; Klambauer et al. 2017 |
    /// | SiLU | 1.6765 | `1 / sqrt(E[phi(z)²])` |
    ///
    /// With `g = 1 / sqrt(E[phi(z)²])` and z from N(0, 1), wide layers keep a second moment of 1. PyTorch's gain for
    /// SELU is 3/4, which shrinks the signal; it has none for GELU and SiLU.
    /// [`MeanField::critical`](super::MeanField::critical) says what these gains do to the gradient.
    pub fn gain(&self) -> f64 {
        match self {
            Self::Sigmoid | Self::Selu => 1.0,
            Self::Tanh => 5.0 / 3.0,
            Self::Relu => 2f64.sqrt(),
            Self::LeakyRelu => (2.0 / (1.0 + Self::LEAKY_SLOPE.powi(2))).sqrt(),
            Self::Gelu => 1.533_530_441_195_535_2,
            Self::Silu => 1.676_532_470_331_091,
        }
    }
}

/// Burn's computes f64 in single precision, except on Flex.
fn sigmoid<const D: usize>(z: Tensor<D>) -> Tensor<D> {
    if z.dtype() != DType::F64 || is_flex(&z.device()) {
        return activation::sigmoid(z);
    }
    // Further below, exp or the square in its gradient would overflow.
    (z.clamp_min(-350.0).neg().exp() + 1.0).recip()
}

/// Burn's gradient is that of the tanh approximation, except on Flex: off by up to 9e-4.
fn gelu<const D: usize>(z: Tensor<D>) -> Tensor<D> {
    if is_flex(&z.device()) {
        return activation::gelu(z);
    }
    z.clone() * ((z / SQRT_2).erf() + 1.0) * 0.5
}
