//! Describes the machine.

use std::process::Command;

use burn_kindling_lab::device::Found;

use crate::case::Float;
use crate::entry::Entry;

/// The device, its driver and its float types.
pub fn about(found: &Found, dtypes: &[Float]) -> Vec<Entry> {
    let types: Vec<String> = dtypes.iter().map(Float::to_string).collect();
    let mut about = vec![
        Entry::about("device", found),
        Entry::about("float types", types.join(", ")),
    ];
    if found.software {
        let warning = "this driver computes on the CPU: the times say nothing about a GPU";
        about.push(Entry::note("machine", warning));
    }
    if let Some(bytes) = found.memory {
        about.push(Entry::about(
            "memory",
            format!("{:.1} GB", bytes as f64 / 1e9),
        ));
    }
    if let Some(driver) = graphics_driver(&found.description).or_else(nvidia_driver) {
        about.push(Entry::about("driver", driver));
    }
    about
}

/// The driver of the adapter whose name the description begins with.
#[cfg(any(feature = "wgpu", feature = "vulkan"))]
fn graphics_driver(description: &str) -> Option<String> {
    use burn_cubecl::cubecl::future::block_on;
    use burn_cubecl::cubecl::wgpu::wgpu;

    let instance = wgpu::Instance::default();
    let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let mut infos = adapters.iter().map(wgpu::Adapter::get_info);
    let info = infos.find(|info| description.starts_with(&info.name))?;
    Some(format!("{} {}", info.driver, info.driver_info))
}

#[cfg(not(any(feature = "wgpu", feature = "vulkan")))]
fn graphics_driver(_: &str) -> Option<String> {
    None
}

fn nvidia_driver() -> Option<String> {
    let mut ask = Command::new("nvidia-smi");
    let output = ask
        .args(["--query-gpu=driver_version", "--format=csv,noheader"])
        .output();
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    Some(format!("NVIDIA {}", text.lines().next()?))
}
