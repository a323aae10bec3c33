//! The devices that the tests run on.

// Each test takes its part, and Burn's NdArray is on its way out.
#![allow(dead_code, deprecated)]

use std::sync::OnceLock;

use burn::tensor::Device;
use burn_kindling::lab::device::{self, Found};

/// One device of every backend that is compiled in and present, without autodiff. Says what is left out, and why.
pub fn devices() -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let open = || {
        device::compiled_in()
            .filter_map(|name| {
                device::open(name)
                    .inspect_err(|reason| eprintln!("not tested on {name}: {reason}"))
                    .ok()
            })
            .map(|found| found.device)
            .collect()
    };
    DEVICES.get_or_init(open).clone()
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
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_io()
                .build()
                .unwrap();
            runtime.block_on(server.serve_async(transport)).unwrap();
        });
        Some(device::open(&format!("remote:{address}")).unwrap())
    }
    #[cfg(not(all(feature = "remote", feature = "flex")))]
    None
}

/// Those that compute on the processor.
///
/// On the others Burn chooses among its own kernels by timing them, so that the bits of a result differ from one call
/// to the next; on the software Vulkan driver some of those it may choose sum up wrong numbers. They have no f64 beyond
/// the four operations, and tensors that threads share come out mixed up under its fusion. What needs one of these is
/// tested here alone.
pub fn processors() -> Vec<Device> {
    devices().into_iter().filter(is_processor).collect()
}

/// Whether a device computes on the processor, where batch norm sums in f64.
pub fn is_processor(device: &Device) -> bool {
    let device = device.clone().inner();
    let processors = [
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        Device::ndarray(),
    ];
    processors.contains(&device)
}
