//! Chooses a device by name (`flex`, `wgpu`, `cuda:1`), lists the devices, and measures their speed.
//!
//! | name | device | Cargo feature |
//! | --- | --- | --- |
//! | `flex`, `ndarray` | the CPU | the name |
//! | `wgpu` | the GPU that Burn considers best, through any graphics API that it supports | `wgpu` |
//! | `vulkan`, `metal`, `webgpu` | the same, but only through this API | the name |
//! | `cuda`, `rocm` | the first GPU, through NVIDIA's or AMD's own runtime | the name |
//! | `remote:HOST:PORT` | a device that the example `serve` lends on another machine | `remote` |
//!
//! An index picks one of several: `wgpu:0`, `wgpu:1` and so on, in the order of [`survey`].

#[cfg(feature = "cube")]
mod api;
mod backend;
mod error;
mod found;
#[cfg(feature = "remote")]
mod remote;
mod speed;

use burn::tensor::Device;

use crate::precision::Precision;
use backend::{BACKENDS, Backend, Compiled};
use found::{computes_on_the_cpu, describe};

pub use backend::{compiled_in, is_cpu_backend};
pub use error::DeviceError;
pub use found::Found;
#[cfg(feature = "remote")]
use remote::connect;
#[cfg(feature = "remote")]
pub use remote::lend;
pub use speed::{Speed, measure};

/// The devices of a backend.
#[derive(Debug)]
pub struct Survey {
    /// Its name.
    pub backend: &'static str,
    /// The devices that are present, or why there are none. A device that is present but does not compute has its own
    /// error.
    pub devices: Result<Vec<Result<Found, DeviceError>>, DeviceError>,
}

/// Opens the device called `name`. The name is a backend, with an index after a colon to pick one of several devices
/// (`flex`, `wgpu`, `wgpu:1`, `cuda:0`), or a device that another machine lends through the example `serve`
/// (`remote:HOST:PORT`, with an index after a slash to pick one of several).
///
/// The device runs one small computation as a test, so a device that does not work fails here and not later.
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
    if index.is_some_and(|index| index > 0) && is_cpu_backend(kind) {
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

/// Opens the device called `name` or, without a name, the best one that is compiled in and present: a GPU, else the CPU
/// through a backend made for it, else a GPU driver that computes on the CPU.
///
/// # Errors
///
/// As [`open`]. Without a name: no backend is compiled in, or none has a device that answers.
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
            // Opened only if needed, because opening takes a second.
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

/// Lists every backend, compiled in or not, and every device it has.
pub fn survey() -> Vec<Survey> {
    let devices = |backend: &Backend| {
        let all = backend.compiled_as(backend.name)?.all();
        if all.is_empty() {
            return Err(backend.not_present(backend.name, &all));
        }
        let indexed = !is_cpu_backend(backend.name);
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
            0 => format!("{} finds no device on this machine", self.name),
            count => {
                let names = (0..count).map(|index| format!("{}:{index}", self.name));
                format!("found {}", names.collect::<Vec<_>>().join(", "))
            }
        };
        DeviceError::NotPresent {
            name: name.to_string(),
            found,
            advice: match all.is_empty() {
                true => self.advice,
                false => "`cargo run --release --example devices` describes them",
            },
        }
    }
}

/// Checks that a device computes in a float type. `name` is the device's name in the error.
///
/// # Errors
///
/// The device does not compute in this type.
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
