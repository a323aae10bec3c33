//! Access to the values of Flex's tensors.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Element, Shape, TensorData, bf16, f16};

use super::adapters::Values;
use super::memory;
use crate::norm::op::layout::Strided;

impl Strided for Flex {
    const TAKES_PITCH: bool = false;

    fn strides(tensor: &FlexTensor) -> Vec<isize> {
        tensor.layout().strides().to_vec()
    }

    fn contiguous(tensor: FlexTensor) -> FlexTensor {
        if tensor.is_contiguous() {
            tensor
        } else {
            tensor.to_contiguous()
        }
    }
}

macro_rules! impl_values {
    ($($type:ty),*) => {$(
        impl Values<$type> for Flex {
            fn values(tensor: &FlexTensor) -> &[$type] {
                tensor.as_slice().expect("the tensor is contiguous and of this type")
            }

            fn values_mut(tensor: &mut FlexTensor) -> Option<&mut [$type]> {
                let (start, end) = tensor.layout().contiguous_offsets()?;
                Some(&mut tensor.try_storage_mut()?[start..end])
            }

            unsafe fn written<R>(
                shape: Shape,
                write: impl FnOnce(*mut $type) -> R,
            ) -> (FlexTensor, R) {
                // SAFETY: by this function's condition.
                let (bytes, result) = unsafe { memory::written(shape.num_elements(), write) };
                let data = TensorData::from_bytes(bytes, shape, <$type>::dtype());
                (FlexTensor::from_data(data), result)
            }
        }
    )*};
}
impl_values!(f32, f64, f16, bf16);
