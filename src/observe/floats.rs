//! The values of a tensor in the host's memory.

#[cfg(feature = "flex")]
use burn::backend::{Flex, tensor::FloatTensor};
use burn::tensor::{DType, Tensor, TensorData};

use crate::processor::is_processor;

/// The values of a tensor of f32 on the CPU.
///
/// On Flex they are borrowed, or copied if they have gaps or another order than that of the axes.
pub(super) enum Floats {
    #[cfg(feature = "flex")]
    Borrowed(FloatTensor<Flex>),
    Copied(TensorData),
}

impl Floats {
    /// Whether a tensor's values can be had.
    pub(super) fn has<const D: usize>(tensor: &Tensor<D>) -> bool {
        tensor.dtype() == DType::F32 && is_processor(&tensor.device())
    }

    /// The values of such a tensor, without autodiff.
    pub(super) fn of<const D: usize>(tensor: Tensor<D>) -> Self {
        #[cfg(feature = "flex")]
        if crate::processor::is_flex(&tensor.device()) {
            let tensor = tensor
                .try_into_primitive::<Flex>()
                .expect("a tensor on Flex is one of Flex");
            return Self::Borrowed(tensor.to_contiguous());
        }
        Self::Copied(tensor.into_data())
    }

    pub(super) fn as_slice(&self) -> &[f32] {
        match self {
            #[cfg(feature = "flex")]
            Self::Borrowed(tensor) => tensor.as_slice().expect("contiguous, and of f32"),
            Self::Copied(data) => data.as_slice().expect("of f32"),
        }
    }
}
