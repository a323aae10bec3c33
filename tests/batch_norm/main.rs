//! Tests batch normalisation through its public interface.

// Burn 0.22 deprecates NdArray; it is tested as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

#[path = "../common/devices.rs"]
mod devices;
mod drop_in;
mod fixtures;
mod fold;
mod fold_model;
mod gradients;
mod module;
mod oracle;
mod properties;
mod pytorch_suite;
mod recalibrate;
mod statistics;
#[path = "../common/values.rs"]
mod values;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use devices::{any_device, devices, devices_with, is_processor, processors};
use values::{numbers, panic_of, tensor};

/// The layer with all its values in this type.
fn init(config: &BatchNormConfig, dtype: DType, device: &Device) -> BatchNorm {
    struct Cast(FloatDType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let trains = param.is_require_grad();
            param.map(|tensor| {
                tensor
                    .detach()
                    .cast(self.0)
                    .detach()
                    .set_require_grad(trains)
            })
        }
    }
    config.init(device).map(&mut Cast(dtype.into()))
}

/// The largest absolute difference, and the largest expected magnitude.
fn distance(found: &[f64], expected: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    // NaN counts as the largest distance.
    let difference = |(a, b): (&f64, &f64)| {
        if (a - b).is_nan() {
            f64::INFINITY
        } else {
            (a - b).abs()
        }
    };
    (
        largest(&mut found.iter().zip(expected).map(difference)),
        largest(&mut expected.iter().map(|x| x.abs())),
    )
}

/// Panics unless the numbers agree to the tolerance, relative to the largest expected magnitude.
#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let (error, scale) = distance(found, expected);
    assert!(
        error <= tolerance * scale,
        "{what}: off by {error:e}, at a largest value of {scale:e}\nfound    {:?}\nexpected {:?}",
        &found[..found.len().min(12)],
        &expected[..expected.len().min(12)],
    );
}
