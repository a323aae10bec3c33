//! Names and colours, in texts and figures, for what the experiments compare.

use burn_kindling::init::{Activation, InitStrategy};

use crate::figure::Color;
use crate::model::Normalization;

/// The name of an initialisation.
pub(super) fn strategy_name(strategy: InitStrategy) -> &'static str {
    match strategy {
        InitStrategy::Zeros => "zeros",
        InitStrategy::StandardNormal => "N(0, 1)",
        InitStrategy::SmallNormal => "N(0, 0.01²)",
        InitStrategy::Xavier => "Xavier",
        InitStrategy::He => "He",
    }
}

/// The name of an activation.
pub(super) fn activation_name(activation: Activation) -> &'static str {
    match activation {
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::Relu => "ReLU",
        Activation::LeakyRelu => "leaky ReLU",
        Activation::Gelu => "GELU",
        Activation::Selu => "SELU",
        Activation::Silu => "SiLU",
    }
}

/// An initialisation has the same colour in every figure.
impl From<InitStrategy> for Color {
    fn from(strategy: InitStrategy) -> Self {
        match strategy {
            InitStrategy::Zeros => Self::GREY,
            InitStrategy::StandardNormal => Self::VERMILLION,
            InitStrategy::SmallNormal => Self::VIOLET,
            InitStrategy::Xavier => Self::BLUE,
            InitStrategy::He => Self::GREEN,
        }
    }
}

/// A normalisation has the same colour in every figure.
impl From<Normalization> for Color {
    fn from(norm: Normalization) -> Self {
        match norm {
            Normalization::None => Self::INK,
            Normalization::Batch => Self::AMBER,
            Normalization::Burn => Self::PINK,
        }
    }
}
