//! Batch normalisation of `[batch, channels, inner]` over plain vectors in f64, and helpers for the tests of the
//! kernels.

// Each test uses only some of these functions.
#![allow(dead_code, unused_imports)]

#[path = "../common/devices.rs"]
mod devices;
#[path = "../batch_norm/oracle.rs"]
mod equations;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
pub use devices::{any_device, devices, devices_with, is_processor};
use equations::{Layout, Pass};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

pub const EPSILON: f64 = 1e-5;

/// A tensor `[batch, channels, inner]` in f64.
#[derive(Clone, Debug)]
pub struct Array {
    pub batch: usize,
    pub channels: usize,
    pub inner: usize,
    pub values: Vec<f64>,
}

pub struct Forward {
    pub output: Vec<f64>,
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

impl Array {
    fn layout(&self) -> Layout {
        Layout {
            channels: self.channels,
            trailing: self.inner,
        }
    }

    pub fn statistics(&self) -> (Vec<f64>, Vec<f64>) {
        let (mean, variance, _) = equations::moments(&self.values, &self.layout());
        (mean, variance)
    }

    pub fn inference(
        &self,
        mean: &[f64],
        variance: &[f64],
        gamma: &[f64],
        beta: &[f64],
        epsilon: f64,
    ) -> Vec<f64> {
        let (statistics, affine) = ((mean, variance), (gamma, beta));
        // The gradients are not used: any will do.
        let any = &self.values;
        equations::pass(any, any, &self.layout(), statistics, affine, epsilon, false).output
    }

    pub fn train(&self, gamma: &[f64], beta: &[f64], epsilon: f64) -> Forward {
        let (mean, variance) = self.statistics();
        Forward {
            output: self.inference(&mean, &variance, gamma, beta, epsilon),
            mean,
            variance,
        }
    }

    /// The gradients of `sum(output * gradient)` for given statistics. If `frozen`, the statistics are constants.
    pub fn gradients(
        &self,
        gradient: &[f64],
        mean: &[f64],
        variance: &[f64],
        gamma: &[f64],
        epsilon: f64,
        frozen: bool,
    ) -> Pass {
        let (layout, statistics) = (self.layout(), (mean, variance));
        let affine = (gamma, &*vec![0.0; self.channels]);
        equations::pass(
            &self.values,
            gradient,
            &layout,
            statistics,
            affine,
            epsilon,
            !frozen,
        )
    }
}

/// About normally distributed values, with a different mean in every channel.
pub fn sample(batch: usize, channels: usize, inner: usize, seed: u64) -> Array {
    let mut rng = StdRng::seed_from_u64(seed);
    let places: Vec<(f64, f64)> = (0..channels)
        .map(|_| (rng.random_range(-3.0..3.0), rng.random_range(0.1..2.0)))
        .collect();
    let values = (0..batch * channels * inner)
        .map(|index| {
            let (mean, deviation) = places[index / inner % channels];
            f64::from((mean + deviation * noise(&mut rng)) as f32)
        })
        .collect();
    Array {
        batch,
        channels,
        inner,
        values,
    }
}

/// An about normally distributed number: mean 0, variance 1.
pub fn noise(rng: &mut impl Rng) -> f64 {
    (0..4).map(|_| rng.random_range(-1.0..1.0)).sum::<f64>() * (3.0f64 / 4.0).sqrt()
}

pub fn parameters(channels: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut draw = || {
        (0..channels)
            .map(|_| f64::from(rng.random_range(-2.0f32..2.0)))
            .collect()
    };
    (draw(), draw())
}

pub fn tensor3(array: &Array, dtype: FloatDType, device: &Device) -> Tensor<3> {
    let shape = [array.batch, array.channels, array.inner];
    Tensor::from_data(
        TensorData::new(array.values.clone(), shape).convert_dtype(dtype.into()),
        (device, DType::from(dtype)),
    )
}

pub fn tensor1(values: &[f64], dtype: FloatDType, device: &Device) -> Tensor<1> {
    Tensor::from_data(
        TensorData::new(values.to_vec(), [values.len()]).convert_dtype(dtype.into()),
        (device, DType::from(dtype)),
    )
}

pub fn to_f64<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// Asserts that means are right to rounding, on the scale of the channel's values.
///
/// The kernels of the CPU backends add up in f64 and round twice. CubeCL's kernels round the difference of two means,
/// its share and the sum, each of the 8 times that they merge the means of two units.
pub fn assert_means_close(found: &[f64], expected: &Forward, device: &Device) {
    assert_eq!(found.len(), expected.mean.len());
    let roundings = if is_processor(device) { 2.0 } else { 3.0 * 8.0 };
    let rounding = f64::from(f32::EPSILON / 2.0);
    for ((found, mean), variance) in found.iter().zip(&expected.mean).zip(&expected.variance) {
        let tolerance = rounding * (2.0 * mean.abs() + roundings * variance.sqrt());
        assert!(
            (found - mean).abs() <= tolerance,
            "mean on {device:?}: found {found}, expected {mean}, variance {variance}"
        );
    }
}

/// Asserts that each value is off by at most `tolerance`, relative to the larger of its magnitude and 1.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected.abs().max(1.0);
        assert!(
            error <= tolerance,
            "{what}[{index}]: found {found}, expected {expected}, off by {error:e}"
        );
    }
}

/// Shapes that together take every path of the kernels.
pub fn shapes() -> impl Strategy<Value = (usize, usize, usize)> {
    prop_oneof![
        (1..40usize, 1..70usize, Just(1usize)),
        (1..20usize, 1..10usize, 1..300usize),
        (1..4usize, 1..40usize, 2..64usize),
        (100..2000usize, 1..40usize, 1..4usize),
        (1..5usize, 1..4usize, 5000..40000usize),
    ]
}
