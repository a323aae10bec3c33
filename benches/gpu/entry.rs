//! What a part of the benchmark reports, one JSON object a line on standard output. `peer.py` writes the same.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::case::{Case, Float};

/// One result.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A property of the machine or of a program.
    About { name: String, value: String },
    /// A case failed, or several were left out.
    Note {
        part: String,
        case: Option<String>,
        text: String,
    },
    /// A kernel's results, compared with an oracle in f64.
    Check {
        device: String,
        shape: Vec<usize>,
        dtype: Float,
        /// What was computed.
        what: String,
        /// The largest error of each result, in units of what rounding explains.
        errors: BTreeMap<String, f64>,
    },
    /// A copy from device memory to device memory.
    Copy {
        who: String,
        /// Read and written bytes together.
        bytes: usize,
        time: Timing,
    },
    /// The time of one call of a layer.
    Time {
        who: String,
        case: Case,
        time: Timing,
        /// Bytes that the kernels read and write, by this crate's model of their cost.
        moved: Option<usize>,
        /// The kernels of one call.
        kernels: Vec<Kernel>,
    },
    /// The time of an epoch on MNIST.
    Epoch {
        who: String,
        network: String,
        norm: String,
        images: usize,
        seconds: f64,
        /// Kernels that a training step launches.
        #[serde(default)]
        launches: Option<usize>,
    },
    /// The part is complete. Some drivers crash when a program ends.
    End,
}

/// Milliseconds per call.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Timing {
    pub median: f64,
    /// The 10th percentile.
    pub low: f64,
    /// The 90th percentile.
    pub high: f64,
    /// Windows that were timed.
    pub samples: usize,
    /// Calls in each of them.
    pub calls: usize,
    pub clock: Clock,
}

/// A kernel of a call, timed by itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Kernel {
    pub name: String,
    pub launches: usize,
    pub milliseconds: f64,
}

/// Whose clock timed a window.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The device's.
    Device,
    /// The host's, between two synchronisations.
    Host,
}

impl Entry {
    /// Writes the entry on standard output.
    pub fn say(&self) {
        println!(
            "{}",
            serde_json::to_string(self).expect("an entry has a JSON form")
        );
    }

    pub fn note(part: &str, text: impl ToString) -> Self {
        Self::Note {
            part: part.to_string(),
            case: None,
            text: text.to_string(),
        }
    }

    pub fn about(name: &str, value: impl ToString) -> Self {
        Self::About {
            name: name.to_string(),
            value: value.to_string(),
        }
    }
}
