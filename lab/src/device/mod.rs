//! Choosing a device by name (`flex`, `wgpu`, `cuda:1`), listing what there is, and measuring it.
//!
//! | name | what | its Cargo feature |
//! | --- | --- | --- |
//! | `flex`, `ndarray` | the CPU | the name |
//! | `wgpu` | the GPU that Burn takes for the best, by the graphics API that reaches it | `wgpu` |
//! | `vulkan`, `metal`, `webgpu` | the same, by this API or not at all | the name |
//! | `cuda`, `rocm` | the first GPU of NVIDIA's or AMD's own runtime | the name |
//! | `remote:HOST:PORT` | what the example `serve` lends on another machine | `remote` |
//!
//! An index picks one of several: `wgpu:0`, `wgpu:1` and so on, in the order of [`survey`].

mod error;
#[cfg(feature = "remote")]
mod remote;
mod speed;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(feature = "cube", feature = "remote"))]
use burn::backend::DispatchDevice;
use burn::tensor::{Device, DeviceType, ExecutionError, Tensor};

use crate::train::Precision;

pub use error::DeviceError;
#[cfg(feature = "remote")]
use remote::connect;
#[cfg(feature = "remote")]
pub use remote::lend;
pub use speed::{Speed, measure};

/// A device that is compiled in and present.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name, as [`open`] takes it.
    pub name: String,
    /// The device.
    pub device: Device,
    /// What it calls itself; for the CPU the processor's name and how many threads there are.
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

/// What there is of a backend.
#[derive(Debug)]
pub struct Survey {
    /// Its name.
    pub backend: &'static str,
    /// The devices that are present, or why there are none. A device that is there and does not compute makes an
    /// error of its own.
    pub devices: Result<Vec<Result<Found, DeviceError>>, DeviceError>,
}

/// One backend: the name people type, how its devices are opened if it is compiled in, and what to do if it has none.
struct Backend {
    name: &'static str,
    compiled: Option<Compiled>,
    advice: &'static str,
}

#[derive(Clone, Copy)]
struct Compiled {
    default: fn() -> Device,
    kind: fn() -> DeviceType,
}

impl Compiled {
    fn all(self) -> Vec<Device> {
        Device::enumerate((self.kind)()).into_vec()
    }
}

macro_rules! backends {
    ($($name:literal => $kind:ident, $default:expr, $advice:expr;)*) => {
        [$(Backend {
            name: $name,
            compiled: {
                #[cfg(feature = $name)]
                let compiled = Some(Compiled { default: || $default, kind: || DeviceType::$kind });
                #[cfg(not(feature = $name))]
                let compiled = None;
                compiled
            },
            advice: $advice,
        }),*]
    };
}

const GRAPHICS_DRIVER: &str = match cfg!(target_os = "linux") {
    true => {
        "install the GPU's Vulkan driver (on Debian, the package mesa-vulkan-drivers has those of AMD and Intel, and \
         one that computes on the CPU; nvidia-vulkan-icd has NVIDIA's), or take another device"
    }
    false => "install the GPU's driver, or take another device",
};

/// In order of preference: the first that is compiled in and present is the default.
const BACKENDS: [Backend; 8] = backends![
    "cuda" => Cuda, Device::cuda(0usize), "it takes an NVIDIA GPU and its driver (libcuda)";
    "rocm" => Rocm, Device::rocm(0usize), "it takes an AMD GPU and ROCm";
    "metal" => Metal, Device::metal(burn::tensor::DeviceKind::DefaultDevice), "it takes an Apple GPU";
    "vulkan" => Vulkan, Device::vulkan(burn::tensor::DeviceKind::DefaultDevice), GRAPHICS_DRIVER;
    "webgpu" => WebGpu, Device::webgpu(burn::tensor::DeviceKind::DefaultDevice),
        "it is a browser's API; outside of one, take wgpu";
    "wgpu" => Wgpu, Device::wgpu(burn::tensor::DeviceKind::DefaultDevice), GRAPHICS_DRIVER;
    "flex" => Flex, Device::flex(), "every CPU will do";
    "ndarray" => NdArray, ndarray(), "every CPU will do";
];

#[cfg(feature = "ndarray")]
fn ndarray() -> Device {
    // Burn deprecates NdArray in favour of Flex; 0.22 still ships it, and it is the second CPU
    // implementation that results are checked against.
    #[allow(deprecated)]
    Device::ndarray()
}

/// The names of all backends, the preferred first.
fn known() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|backend| backend.name)
}

/// The names of the backends that are compiled in, the preferred first.
pub fn compiled_in() -> impl Iterator<Item = &'static str> {
    let compiled = BACKENDS.iter().filter(|it| it.compiled.is_some());
    compiled.map(|backend| backend.name)
}

/// Opens the device called `name`: a backend, with an index after a colon for one of several
/// (`flex`, `wgpu`, `wgpu:1`, `cuda:0`), or a device that another machine lends by the example `serve`
/// (`remote:HOST:PORT`, with an index after a slash for one of several).
///
/// The device is tried with one small computation, so that what is missing is found here.
///
/// # Errors
///
/// The name is unknown, its backend is not compiled in, the device is not present, or it does not answer.
pub fn open(name: &str) -> Result<Found, DeviceError> {
    let unknown = || DeviceError::Unknown {
        name: name.to_string(),
    };
    if let Some(address) = name.strip_prefix("remote:") {
        let (server, index) = match address.split_once('/') {
            Some((server, index)) => (server, index.parse().map_err(|_| unknown())?),
            None => (address, 0),
        };
        return match server.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                describe(name, connect(name, server, index)?)
            }
            _ => Err(unknown()),
        };
    }
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index.parse::<usize>().map_err(|_| unknown())?)),
        None => (name, None),
    };
    let backend = BACKENDS
        .iter()
        .find(|backend| backend.name == kind)
        .ok_or_else(unknown)?;
    if index.is_some_and(|index| index > 0) && matches!(kind, "flex" | "ndarray") {
        return Err(unknown());
    }
    let compiled = backend.compiled_as(name)?;
    let all = compiled.all();
    let device = match index {
        None if !all.is_empty() => Some((compiled.default)()),
        None => None,
        Some(index) => all.get(index).cloned(),
    };
    match device {
        Some(device) => describe(name, device),
        None => Err(backend.not_present(name, &all)),
    }
}

#[cfg(not(feature = "remote"))]
fn connect(name: &str, _: &str, _: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotCompiledIn {
        name: name.to_string(),
        feature: "remote",
    })
}

/// Opens the device called `name` or, without a name, the best that is compiled in and present: a GPU, else the CPU
/// by the backends made for it, else a GPU's driver that computes on the CPU.
///
/// # Errors
///
/// As [`open`]; without a name, no backend is compiled in or none of them has a device that answers.
pub fn pick(name: Option<&str>) -> Result<Found, DeviceError> {
    if let Some(name) = name {
        return open(name);
    }
    let (mut software, mut failure) = (None, DeviceError::NoBackend);
    for backend in &BACKENDS {
        let Some(compiled) = backend.compiled else {
            continue;
        };
        let all = compiled.all();
        if !all.is_empty() && all.iter().all(computes_on_the_cpu) {
            // Not opened before it is needed: that takes a second.
            software = software.or(Some(backend.name));
            continue;
        }
        match open(backend.name) {
            Ok(found) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    match software {
        Some(name) => open(name),
        None => Err(failure),
    }
}

/// Whether a device is a GPU's driver that computes on the CPU, as far as that shows before it is opened.
fn computes_on_the_cpu(device: &Device) -> bool {
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

/// Looks at every backend there could be, and at every device it has.
pub fn survey() -> Vec<Survey> {
    let devices = |backend: &Backend| {
        let all = backend.compiled_as(backend.name)?.all();
        if all.is_empty() {
            return Err(backend.not_present(backend.name, &all));
        }
        let indexed = !matches!(backend.name, "flex" | "ndarray");
        let found = all.into_iter().enumerate().map(|(index, device)| {
            let name = match indexed {
                true => format!("{}:{index}", backend.name),
                false => backend.name.to_string(),
            };
            describe(&name, device)
        });
        Ok(found.collect())
    };
    BACKENDS
        .iter()
        .map(|backend| Survey {
            backend: backend.name,
            devices: devices(backend),
        })
        .collect()
}

impl Backend {
    fn compiled_as(&self, name: &str) -> Result<Compiled, DeviceError> {
        self.compiled.ok_or_else(|| DeviceError::NotCompiledIn {
            name: name.to_string(),
            feature: self.name,
        })
    }

    fn not_present(&self, name: &str, all: &[Device]) -> DeviceError {
        let found = match all.len() {
            0 => format!("{} finds none here", self.name),
            count => {
                let names = (0..count).map(|index| format!("{}:{index}", self.name));
                format!("there is {}", names.collect::<Vec<_>>().join(", "))
            }
        };
        DeviceError::NotPresent {
            name: name.to_string(),
            found,
            advice: match all.is_empty() {
                true => self.advice,
                false => "`cargo run --release --example devices` says which is which",
            },
        }
    }
}

/// Checks that a device computes in a float type. `name` is what the error calls the device.
///
/// # Errors
///
/// It does not.
pub fn check_dtype(name: &str, device: &Device, dtype: Precision) -> Result<(), DeviceError> {
    let supports = |dtype: &Precision| device.supports_dtype(dtype.dtype());
    match supports(&dtype) {
        true => Ok(()),
        false => Err(DeviceError::NoDType {
            name: name.to_string(),
            dtype,
            supported: Precision::ALL.into_iter().filter(supports).collect(),
        }),
    }
}

/// Tries a device, and asks it what it is.
fn describe(name: &str, device: Device) -> Result<Found, DeviceError> {
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
        let name = properties.identity.name.clone();
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
fn caught<T>(ask: impl FnOnce() -> Result<T, ExecutionError>) -> Result<T, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(ask));
    std::panic::set_hook(hook);
    let failure = match outcome {
        Ok(answer) => return answer.map_err(|error| first_line(&error.to_string())),
        Err(panic) => panic,
    };
    Err(first_line(panic_message(failure.as_ref())))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_string()
}

/// What a panic says.
pub(super) fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}
