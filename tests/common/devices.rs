//! The devices that the tests run on.

use std::sync::OnceLock;

use burn::tensor::Device;
use burn_kindling::lab::device;

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
            .collect()
    };
    DEVICES.get_or_init(open).clone()
}
