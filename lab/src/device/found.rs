//! A device that was found, and what it says of itself.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(feature = "cube", feature = "remote"))]
use burn::backend::DispatchDevice;
use burn::tensor::{Device, ExecutionError, Tensor};

use super::error::DeviceError;
use crate::panic;

/// A device that is compiled in and present.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name, as [`open`](super::open) takes it.
    pub name: String,
    /// The device.
    pub device: Device,
    /// What it calls itself, and the graphics API it is reached through, if any; for the CPU, the processor's name and
    /// the number of threads.
    pub description: String,
    /// How much memory it may fill, in bytes, where the system or the backend says so.
    pub memory: Option<u64>,
    /// Whether it is a GPU's driver that computes on the CPU: slower there than the backends made for it.
    pub software: bool,
}

/// As `name (description)`.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.description)
    }
}

/// Tries a device, and asks it what it is.
pub(super) fn describe(name: &str, device: Device) -> Result<Found, DeviceError> {
    probe(&device).map_err(|reason| DeviceError::NoAnswer {
        name: name.to_string(),
        reason,
    })?;
    let (description, memory, software) = properties(&device);
    Ok(Found {
        name: name.to_string(),
        device,
        description,
        memory,
        software,
    })
}

/// What a device calls itself, how much memory it may fill, and whether it is a GPU without a card behind it.
fn properties(device: &Device) -> (String, Option<u64>, bool) {
    #[cfg(feature = "cube")]
    if let DispatchDevice::Cube(device) = device.as_dispatch() {
        let client = device.client();
        let properties = client.properties();
        let software = properties.identity.physical.is_none();
        let mut name = properties.identity.name.clone();
        if let Some(api) = super::api::graphics_api(device) {
            name = format!("{name} through {api}");
        }
        let memory = properties.memory.max_memory();
        return (
            name,
            memory.or_else(|| software.then(main_memory).flatten()),
            software,
        );
    }
    #[cfg(feature = "remote")]
    if let DispatchDevice::Remote(_) = device.as_dispatch() {
        return ("a device of another machine".into(), None, false);
    }
    let _ = device;
    (processor(), main_memory(), false)
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = line(&info, "model name").unwrap_or(std::env::consts::ARCH);
    match std::thread::available_parallelism() {
        Ok(threads) => format!("{name}, {threads} threads"),
        Err(_) => name.to_string(),
    }
}

fn main_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes: u64 = line(&info, "MemTotal")?.strip_suffix(" kB")?.parse().ok()?;
    Some(1024 * kibibytes)
}

/// The value of the first line `name : value`.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.trim() == name)?;
    Some(value.trim())
}

/// Computes on a device.
fn probe(device: &Device) -> Result<(), String> {
    caught(|| Tensor::<1>::ones([2], device).sum().try_into_data())?;
    Ok(())
}

/// What a device answers, or the first line of its error or its panic, which is not printed.
pub(super) fn caught<T>(ask: impl FnOnce() -> Result<T, ExecutionError>) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(ask));
    std::panic::set_hook(hook);
    let failure = match outcome {
        Ok(answer) => return answer.map_err(|error| first_line(&error.to_string())),
        Err(panic) => panic,
    };
    Err(first_line(panic::message(failure.as_ref())))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

/// Whether a device is a GPU's driver that computes on the CPU, as far as that shows before it is opened.
pub(super) fn computes_on_the_cpu(device: &Device) -> bool {
    #[cfg(any(
        feature = "wgpu",
        feature = "vulkan",
        feature = "metal",
        feature = "webgpu"
    ))]
    if let DispatchDevice::Cube(burn_cubecl::CubeDevice::Wgpu(device)) = device.as_dispatch() {
        return device.kind == burn_cubecl::cubecl::wgpu::WgpuDeviceKind::Cpu;
    }
    let _ = device;
    false
}
