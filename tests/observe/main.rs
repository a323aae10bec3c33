//! Tests of `observe` through its public interface.

// Burn 0.22 deprecates NdArray; it is tested as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

#[path = "../common/devices.rs"]
mod devices;
mod diagnosis;
mod norms;
mod passes;
mod report;
mod sink;
mod statistics;
mod units;

use burn::tensor::{DType, Device, Tensor, TensorData};
use devices::{any_device, devices, is_processor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A tensor of f32, from f64 numbers.
fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device) -> Tensor<D> {
    let data = TensorData::new(values.to_vec(), shape);
    Tensor::from_data(data, (device, DType::F32))
}

/// The tensor's numbers in row-major order.
fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The bits of the tensor's numbers in row-major order.
fn bits<const D: usize>(tensor: Tensor<D>) -> Vec<u32> {
    let numbers = tensor.into_data().try_into_vec::<f32>();
    numbers.unwrap().into_iter().map(f32::to_bits).collect()
}

/// Numbers from N(0, 1) that are exact in f32 (Box-Muller method).
fn normal(count: usize, seed: u64) -> Vec<f64> {
    let mut generator = StdRng::seed_from_u64(seed);
    let mut draw = || {
        let radius = (-2.0 * generator.random_range(1e-12..1.0f64).ln()).sqrt();
        let angle = generator.random_range(0.0..std::f64::consts::TAU);
        f64::from((radius * angle.cos()) as f32)
    };
    (0..count).map(|_| draw()).collect()
}

/// Panics unless the numbers agree within `tolerance * scale`.
#[track_caller]
fn assert_close(found: f64, expected: f64, scale: f64, tolerance: f64) {
    let distance = (found - expected).abs();
    assert!(
        distance <= tolerance * scale,
        "found {found}, expected {expected}: {distance:e} apart"
    );
}
