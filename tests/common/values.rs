//! Tensors from numbers and back, and the message of a panic.

// Each test uses only some of these functions.
#![allow(dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{DType, Device, Tensor, TensorData};

/// A tensor of this type and shape, from f64 numbers.
pub fn tensor<const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (device, dtype))
}

/// The tensor's numbers in row-major order.
pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The message of the panic that `misuse` must raise.
pub fn panic_of<T>(misuse: impl FnOnce() -> T) -> String {
    match catch_unwind(AssertUnwindSafe(misuse)) {
        Ok(_) => panic!("this must panic"),
        Err(payload) => message(payload),
    }
}

/// The message of a panic.
pub fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}
