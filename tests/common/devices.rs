//! The devices that the tests run on.

// Each test uses only some of these functions, and Burn deprecates NdArray.
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

/// Prints why a device is left out. Bypasses the test harness, which would capture the message.
#[allow(clippy::explicit_write)]
pub fn say_skipped(reason: &device::DeviceError) {
    use std::io::Write;
    writeln!(std::io::stderr(), "skipped: {reason}").unwrap();
}

/// The devices that compute in a float type.
pub fn devices_with(dtype: impl Into<DType>) -> Vec<Device> {
    let dtype = dtype.into();
    let mut devices = devices();
    devices.retain(|device| device.supports_dtype(dtype));
    devices
}

/// One device, for tests that do not depend on it: a CPU, if its backend is compiled in.
pub fn any_device() -> Device {
    let mut devices = processors().into_iter().chain(devices());
    devices.next().expect("a device to test on")
}

/// A CPU device again, over the network, as if another machine lent it: this starts a server. `None` if the remote
/// backend is not compiled in.
///
/// It is not among [`devices`]: Burn 0.22.1 ends a session at the first float tensor that is flipped.
pub fn lent() -> Option<Found> {
    #[cfg(feature = "remote")]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (server, transport) = device::lend(processors().into_iter().take(1), listener).unwrap();
        std::thread::spawn(move || server.serve(transport).unwrap());
        Some(device::open(&format!("remote:{address}")).unwrap())
    }
    #[cfg(not(feature = "remote"))]
    None
}

/// The devices that compute on the CPU.
///
/// On other devices, Burn chooses among its own kernels by timing them, so the bits of a result differ between calls.
/// On the software Vulkan driver, some of these kernels give wrong sums. And other devices have only the four basic
/// operations in f64. Tests that need reproducible bits or f64 run only on these.
pub fn processors() -> Vec<Device> {
    vec![
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        Device::ndarray(),
    ]
}

/// Whether a device computes on the CPU, where batch norm sums in f64.
pub fn is_processor(device: &Device) -> bool {
    processors().contains(&device.clone().inner())
}
