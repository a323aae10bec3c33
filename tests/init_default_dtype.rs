//! The default float type of a device applies to the whole process, so this test has its own process.
#![cfg(feature = "flex")]

use burn::tensor::{DType, Device, FloatDType};
use burn_kindling::init::InitStrategy;

#[test]
fn parameters_take_the_device_default_float_type() {
    let mut device = Device::flex();
    device.configure(FloatDType::F64).unwrap();
    device.seed(1);
    for strategy in InitStrategy::ALL {
        let weight = strategy.init::<2>([16, 16], 16, &device).val();
        assert_eq!(weight.dtype(), DType::F64);
        let rounded = weight.clone().cast(DType::F32).cast(DType::F64);
        let drawn_in_f64 = !weight.equal(rounded).all().into_scalar::<bool>();
        assert_eq!(drawn_in_f64, strategy != InitStrategy::Zeros);
    }
}
