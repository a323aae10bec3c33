//! Whether a device is the CPU.

use burn::tensor::Device;

/// Whether a device, without autodiff, is the CPU, and this crate was compiled for its backend.
// Without a CPU backend there is only one arm.
#[allow(clippy::match_single_binding)]
pub(crate) fn is_processor(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}

/// Whether a device is one of Flex.
#[allow(clippy::match_single_binding)]
pub(crate) fn is_flex(device: &Device) -> bool {
    match device.clone().without_autodiff().as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns)]
        _ => false,
    }
}
