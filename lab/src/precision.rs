//! The float types to train in.

use burn::tensor::FloatDType;

/// The float type in which layers compute during training.
///
/// Parameters, optimiser state, batch norm statistics, the loss and inference stay f32: mixed precision after
/// Micikevicius et al. 2018 (arXiv:1710.03740).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// IEEE half precision: 11 significant bits, from 6e-8 to 65504.
    ///
    /// The loss is multiplied by 1024 before the backward pass and the gradients are divided by 1024 after it; this
    /// keeps small gradients from underflowing. A step whose gradients overflow is skipped and counted. To detect
    /// this, the host waits for every step.
    F16,
    /// Brain half precision: 8 significant bits, the range of f32.
    Bf16,
}

burn_kindling::names!(Precision, "float type":
    F32 = "f32",
    F16 = "f16",
    Bf16 = "bf16",
);

impl Precision {
    /// Burn's name for the type.
    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// The factor on the loss in the backward pass.
    pub(crate) fn loss_scale(self) -> f64 {
        match self {
            Self::F16 => 1024.0,
            Self::F32 | Self::Bf16 => 1.0,
        }
    }
}
