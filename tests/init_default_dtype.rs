//! The default float type of a device applies to the whole process, so this test has its own process.
#![cfg(feature = "flex")]

use burn::nn::LinearConfig;
use burn::tensor::{DType, Device, FloatDType};
use burn_kindling::init::{InitStrategy, initialize};

#[test]
fn parameters_take_the_device_default_float_type() {
    let mut device = Device::flex();
    device.configure(FloatDType::F64).unwrap();
    for strategy in InitStrategy::ALL {
        let layer = LinearConfig::new(16, 16).init(&device);
        let weight = initialize(layer, strategy, 1).0.weight.val();
        assert_eq!(weight.dtype(), DType::F64);
        let rounded = weight.clone().cast(DType::F32).cast(DType::F64);
        let drawn_in_f64 = !weight.equal(rounded).all().into_scalar::<bool>();
        assert_eq!(drawn_in_f64, strategy != InitStrategy::Zeros);
    }
}
