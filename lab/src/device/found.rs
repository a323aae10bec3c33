//! A device that was found, and its properties.

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
    /// The name that the device reports, and the graphics API, if any; for the CPU, the processor's name and the number
    /// of threads.
    pub description: String,
    /// The memory that it can use, in bytes, if the system or the backend reports it.
    pub memory: Option<u64>,
    /// Whether it is a GPU driver that computes on the CPU: slower than the backends made for the CPU.
    pub software: bool,
}

/// As `name (description)`.
impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.description)
    }
}

/// Tests a device and reads its properties.
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

/// A device's [`description`](Found::description), [`memory`](Found::memory) and [`software`](Found::software).
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
        return ("a device on another machine".into(), None, false);
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

/// Runs one small computation on a device.
fn probe(device: &Device) -> Result<(), String> {
    caught(|| Tensor::<1>::ones([2], device).sum().try_into_data())?;
    Ok(())
}

/// Runs `ask`. Returns its answer, or the first line of its error or panic; a panic is not printed.
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

/// Whether a device is a GPU driver that computes on the CPU, as far as is known before it is opened.
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
