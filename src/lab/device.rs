//! Choosing a device by name: `flex`, `wgpu`, `cuda:1`, ...

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, Tensor};
use thiserror::Error;

/// Why a device cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is none of the known ones.
    #[error(
        "'{name}' is not a device; expected one of {}, with an index after a colon for a GPU (cuda:0)",
        known()
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The backend was left out at compile time.
    #[error(
        "the device '{name}' is not compiled in (this program has {}); build it with `--features {feature}`",
        compiled()
    )]
    NotCompiledIn {
        /// What was asked for.
        name: String,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// No backend at all was compiled in.
    #[error(
        "no backend is compiled in; build with `--features flex`, which needs nothing but a CPU"
    )]
    NoBackend,
    /// The backend is there, the hardware or its driver is not.
    #[error(
        "the device '{name}' is not present or did not answer ({reason}); this program has {}",
        compiled()
    )]
    NotPresent {
        /// What was asked for.
        name: String,
        /// What the backend reported.
        reason: String,
    },
}

/// One backend: the name people type, whether it is compiled in, and how to open a device of it.
struct Backend {
    name: &'static str,
    open: Option<fn(Option<usize>) -> Device>,
}

macro_rules! backends {
    ($($name:literal => $open:expr),* $(,)?) => {
        [$(Backend {
            name: $name,
            open: {
                #[cfg(feature = $name)]
                let open: Option<fn(Option<usize>) -> Device> = Some($open);
                #[cfg(not(feature = $name))]
                let open: Option<fn(Option<usize>) -> Device> = None;
                open
            },
        }),*]
    };
}

/// In order of preference: the first that is compiled in and present is the default.
const BACKENDS: [Backend; 8] = backends![
    "cuda" => |index| Device::cuda(index.unwrap_or(0)),
    "rocm" => |index| Device::rocm(index.unwrap_or(0)),
    "metal" => |index| Device::metal(adapter(index)),
    "vulkan" => |index| Device::vulkan(adapter(index)),
    "webgpu" => |index| Device::webgpu(adapter(index)),
    "wgpu" => |index| Device::wgpu(adapter(index)),
    "flex" => |_| Device::flex(),
    "ndarray" => |_| ndarray(),
];

#[cfg(feature = "ndarray")]
fn ndarray() -> Device {
    // Burn deprecates NdArray in favour of Flex; 0.22 still ships it, and it is the second CPU
    // implementation that results are checked against.
    #[allow(deprecated)]
    Device::ndarray()
}

#[cfg(any(
    feature = "wgpu",
    feature = "vulkan",
    feature = "metal",
    feature = "webgpu"
))]
fn adapter(index: Option<usize>) -> burn::tensor::DeviceKind {
    match index {
        Some(index) => burn::tensor::DeviceKind::DiscreteGpu(index),
        None => burn::tensor::DeviceKind::DefaultDevice,
    }
}

fn known() -> String {
    BACKENDS.map(|backend| backend.name).join(", ")
}

fn compiled() -> String {
    let names: Vec<_> = compiled_in().collect();
    match names.is_empty() {
        true => "none".to_string(),
        false => names.join(", "),
    }
}

/// The names of the backends that are compiled in, the preferred first.
pub fn compiled_in() -> impl Iterator<Item = &'static str> {
    BACKENDS
        .iter()
        .filter(|backend| backend.open.is_some())
        .map(|backend| backend.name)
}

/// Opens the device called `name`: a backend, with an index after a colon where there are several
/// (`flex`, `wgpu`, `wgpu:1`, `cuda:0`).
///
/// The device is tried with one small computation, so that what is missing is found here.
///
/// # Errors
///
/// The name is unknown, its backend is not compiled in, or the device does not answer.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    let unknown = || DeviceError::Unknown {
        name: name.to_string(),
    };
    let (kind, index) = match name.split_once(':') {
        Some((kind, index)) => (kind, Some(index.parse().map_err(|_| unknown())?)),
        None => (name, None),
    };
    let backend = BACKENDS
        .iter()
        .find(|backend| backend.name == kind)
        .ok_or_else(unknown)?;
    if index.is_some_and(|index| index > 0) && matches!(kind, "flex" | "ndarray") {
        return Err(unknown());
    }
    let open = backend.open.ok_or_else(|| DeviceError::NotCompiledIn {
        name: name.to_string(),
        feature: backend.name,
    })?;
    probe(|| open(index)).map_err(|reason| DeviceError::NotPresent {
        name: name.to_string(),
        reason,
    })
}

/// Opens the device called `name` or, without a name, the best that is compiled in and present.
/// Returns its name too.
///
/// # Errors
///
/// As [`open`]; without a name, no backend is compiled in or none of them answers.
pub fn pick(name: Option<&str>) -> Result<(String, Device), DeviceError> {
    if let Some(name) = name {
        return Ok((name.to_string(), open(name)?));
    }
    let mut failure = DeviceError::NoBackend;
    for name in compiled_in() {
        match open(name) {
            Ok(device) => return Ok((name.to_string(), device)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Opens a device and computes on it. A backend reports a missing driver or adapter by a panic,
/// which becomes an error here.
fn probe(open: impl FnOnce() -> Device) -> Result<Device, String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let device = open();
        Tensor::<1>::ones([2], &device)
            .sum()
            .try_into_data()
            .map(|_| device)
    }));
    std::panic::set_hook(hook);
    match outcome {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(panic_message(panic.as_ref())),
    }
}

/// The first line of a panic's message.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given");
    text.lines().next().unwrap_or("no reason given").to_string()
}
