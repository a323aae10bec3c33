use thiserror::Error;

use super::backend::{compiled_in, known};
use crate::precision::Precision;

/// Why a device cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is unknown.
    #[error(
        "'{name}' is not a device; expected one of {}, with an index after a colon to pick one of several GPUs \
         (cuda:0), or remote:HOST:PORT",
        listed(known())
    )]
    Unknown {
        /// The device that was asked for.
        name: String,
    },
    /// The backend was left out at compile time.
    #[error(
        "the device '{name}' is not compiled in (this program has {}); build with `--features {feature}`",
        listed(compiled_in())
    )]
    NotCompiledIn {
        /// The device that was asked for.
        name: String,
        /// The Cargo feature that adds it.
        feature: &'static str,
    },
    /// No backend at all was compiled in.
    #[error(
        "no backend is compiled in; build with `--features flex`, which needs nothing but a CPU"
    )]
    NoBackend,
    /// The backend is compiled in, but the hardware or its driver is missing.
    #[error("the device '{name}' is not present: {found}; {advice}")]
    NotPresent {
        /// The device that was asked for.
        name: String,
        /// What was found instead.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The device is present but does not compute.
    #[error("the device '{name}' does not answer: {reason}")]
    NoAnswer {
        /// The device that was asked for.
        name: String,
        /// What the backend reported.
        reason: String,
    },
    /// The device does not compute in this float type.
    #[error(
        "the device '{name}' does not compute in {dtype}; it computes in {}",
        listed(supported)
    )]
    NoDType {
        /// The device that was asked for.
        name: String,
        /// The type asked for.
        dtype: Precision,
        /// The types it supports.
        supported: Vec<Precision>,
    },
}

/// Joins the names in a list; `none` if there are none.
fn listed(names: impl IntoIterator<Item = impl ToString>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    match names.is_empty() {
        true => "none".to_string(),
        false => names.join(", "),
    }
}
