//! Access to the values of NdArray's tensors.

use burn::backend::NdArray;
use burn::backend::ndarray::NdArrayTensor;

use burn::tensor::{Shape, TensorData};

use super::adapters::Values;
use crate::norm::op::layout::Strided;

macro_rules! for_float {
    ($tensor:expr, $storage:ident => $body:expr) => {
        match $tensor {
            NdArrayTensor::F32($storage) => $body,
            NdArrayTensor::F64($storage) => $body,
            other => panic!("batch norm takes a floating point tensor, found {other:?}"),
        }
    };
}

impl Strided for NdArray {
    const TAKES_PITCH: bool = false;

    fn strides(tensor: &NdArrayTensor) -> Vec<isize> {
        for_float!(tensor, storage => storage.view().strides().to_vec())
    }

    fn contiguous(tensor: NdArrayTensor) -> NdArrayTensor {
        for_float!(tensor, storage => {
            if storage.view().is_standard_layout() {
                storage.into()
            } else {
                storage.view().as_standard_layout().into_owned().into_shared().into()
            }
        })
    }
}

macro_rules! impl_values {
    ($($variant:ident: $type:ty),*) => {$(
        impl Values<$type> for NdArray {
            fn values(tensor: &NdArrayTensor) -> &[$type] {
                match tensor {
                    NdArrayTensor::$variant(storage) => {
                        storage.view().to_slice().expect("the tensor is contiguous")
                    }
                    other => panic!("batch norm found a tensor of another type among its own: {other:?}"),
                }
            }

            fn values_mut(tensor: &mut NdArrayTensor) -> Option<&mut [$type]> {
                match tensor {
                    NdArrayTensor::$variant(storage) if storage.is_unique() => {
                        storage.ensure_owned().as_slice_mut()
                    }
                    _ => None,
                }
            }

            unsafe fn written<R>(
                shape: Shape,
                write: impl FnOnce(*mut $type) -> R,
            ) -> (NdArrayTensor, R) {
                // NdArray can write in place only to memory that it owns as a `Vec`.
                let len = shape.num_elements();
                let mut values = Vec::with_capacity(len);
                let result = write(values.as_mut_ptr());
                // SAFETY: there is room for `len` values, and `write` has written them.
                unsafe { values.set_len(len) };
                (NdArrayTensor::from_data(TensorData::new(values, shape)), result)
            }
        }
    )*};
}
impl_values!(F32: f32, F64: f64);
