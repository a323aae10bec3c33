//! The devices that the tests run on.

// Each test takes its part, and Burn's NdArray is on its way out.
#![allow(dead_code, deprecated)]

use burn::tensor::{DType, Device};
use burn_kindling_lab::device::{self, Found};

/// One device of every backend that is compiled in and present, without autodiff.
pub fn devices() -> Vec<Device> {
    static DEVICES: std::sync::LazyLock<Vec<Device>> = std::sync::LazyLock::new(|| {
        let opened = device::compiled_in().map(device::open);
        let found = opened.filter_map(|found| found.inspect_err(say_skipped).ok());
        found.map(|found| found.device).collect()
    });
    DEVICES.clone()
}

/// Says why a device is left out, past the test harness, which would keep it to itself.
#[allow(clippy::explicit_write)]
pub fn say_skipped(reason: &device::DeviceError) {
    use std::io::Write;
    writeln!(std::io::stderr(), "skipped: {reason}").unwrap();
}

/// Those that compute in a float type.
pub fn devices_with(dtype: impl Into<DType>) -> Vec<Device> {
    let dtype = dtype.into();
    let mut devices = devices();
    devices.retain(|device| device.supports_dtype(dtype));
    devices
}

/// One, for what does not depend on it: a processor, where its backend is compiled in.
pub fn any_device() -> Device {
    let mut devices = processors().into_iter().chain(devices());
    devices.next().expect("a device to test on")
}

/// Flex once more, as another machine would lend it: over the network, by a server that this starts. None where the
/// remote backend is not compiled in.
///
/// It is not among [`devices`]: Burn 0.22.1 ends a session at the first float tensor that is flipped.
pub fn lent() -> Option<Found> {
    #[cfg(all(feature = "remote", feature = "flex"))]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (server, transport) = device::lend([Device::flex()], listener).unwrap();
        std::thread::spawn(move || server.serve(transport).unwrap());
        Some(device::open(&format!("remote:{address}")).unwrap())
    }
    #[cfg(not(all(feature = "remote", feature = "flex")))]
    None
}

/// Those that compute on the processor.
///
/// On the others Burn chooses among its own kernels by timing them, so that the bits of a result differ from one call
/// to the next; on the software Vulkan driver some of those it may choose sum up wrong numbers. And they have no f64
/// beyond the four operations. What needs either is tested here alone.
pub fn processors() -> Vec<Device> {
    vec![
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        Device::ndarray(),
    ]
}

/// Whether a device computes on the processor, where batch norm sums in f64.
pub fn is_processor(device: &Device) -> bool {
    processors().contains(&device.clone().inner())
}
