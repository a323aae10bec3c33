use std::fmt;
use std::io;
use std::path::PathBuf;

use burn::tensor::DType;
use burn_store::{PytorchStoreError, SafetensorsStoreError, burn_pack};
use safetensors::SafeTensorError;
use thiserror::Error;
use zip::result::ZipError;

/// Why a record cannot be written, read, or loaded into a module.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file cannot be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is not a record, or is damaged.
    #[error("{origin} is damaged or not a record: {}", limited(.reason))]
    Damaged {
        /// The file.
        origin: String,
        /// What is wrong with it.
        #[source]
        reason: Reason,
    },
    /// The record belongs to another network.
    #[error("{origin} holds another network: {differences}")]
    OtherNetwork {
        /// The file.
        origin: String,
        /// Where they differ.
        differences: Differences,
    },
    /// A tensor has values that are NaN or infinite.
    #[error("{origin}: {count} values of {} are NaN or infinite", shortened(.name))]
    NotFinite {
        /// The file.
        origin: String,
        /// The first such tensor.
        name: String,
        /// The number of such values in it.
        count: usize,
    },
    /// A running variance or the weight of a running average is negative.
    #[error("{origin}: {}[{index}] is {value:.1e}, but it cannot be negative", shortened(.name))]
    Negative {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// The channel.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A parameter has a floating-point type, but its tensor has another.
    #[error("{origin}: {} should hold floating-point numbers, found {dtype:?}", shortened(.name))]
    NotFloat {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// The record holds the network as part of something larger.
    #[error("{origin} holds the network under {}; choose one with `Record::under` or --under", quoted(.parts))]
    Part {
        /// The file.
        origin: String,
        /// The parts that fit, as [`Record::under`](super::Record::under) takes them.
        parts: Vec<String>,
    },
    /// The record has no such part.
    #[error("{origin} holds nothing under {}; its names begin with {}", shortened(.part), quoted(.found))]
    NoPart {
        /// The file.
        origin: String,
        /// The part.
        part: String,
        /// The first words of the names.
        found: Vec<String>,
    },
    /// The record has no configuration of its network.
    #[error("{origin} does not say which network it holds: it has no configuration")]
    NoConfig {
        /// The file.
        origin: String,
    },
    /// The format cannot hold the record.
    #[error("the record cannot be written: {0}")]
    Unwritable(#[source] Reason),
}

/// The reason why a format's reader or writer failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Burn's format.
    #[error(transparent)]
    Burnpack(#[from] burn_pack::Error),
    /// Safetensors.
    #[error(transparent)]
    Safetensors(#[from] SafeTensorError),
    /// Safetensors, read by `burn-store`.
    #[error(transparent)]
    SafetensorsStore(#[from] SafetensorsStoreError),
    /// A file written by `torch.save`.
    #[error("{0}. Save it again with torch.save(model.state_dict(), path)")]
    PyTorch(#[from] PytorchStoreError),
    /// The archive that `torch.save` writes.
    #[error(transparent)]
    Archive(#[from] ZipError),
    /// The configuration.
    #[error("its configuration is of something else: {0}")]
    Config(#[from] serde_json::Error),
    /// A copy of the file could not be made.
    #[error("it cannot be copied to read it: {0}")]
    Copy(#[from] io::Error),
    /// A check of this crate failed.
    #[error("{0}")]
    Check(String),
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        Self::Check(reason)
    }
}

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        Self::Check(reason.into())
    }
}

/// The differences between a record and a module, in the record's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Name, shape in the module, shape in the record.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names that only the module has.
    pub missing: Vec<String>,
    /// Names that only the record has.
    pub unexpected: Vec<String>,
}

impl Differences {
    /// Whether there are no differences.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.missing.is_empty() && self.unexpected.is_empty()
    }
}

/// The most tensors of each kind that a message names.
const NAMED: usize = 8;

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = self.shapes.iter().map(|(name, expected, found)| {
            format!("{} {expected:?}, found {found:?}", shortened(name))
        });
        let names = |names: &[String]| names.iter().map(|name| shortened(name)).collect();
        let groups: [(&str, Vec<String>); 3] = [
            ("expected ", shapes.collect()),
            ("missing ", names(&self.missing)),
            ("not expected ", names(&self.unexpected)),
        ];
        let groups = groups.iter().filter(|(_, items)| !items.is_empty());
        for (number, (title, items)) in groups.enumerate() {
            let separator = if number > 0 { "; " } else { "" };
            write!(f, "{separator}{title}{}", listed(items))?;
        }
        Ok(())
    }
}

/// The first items of a list, and the number of further ones.
fn listed(items: &[String]) -> String {
    let shown = items[..items.len().min(NAMED)].join(", ");
    match items.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| format!("`{}`", shortened(name)))
        .collect();
    listed(&names)
}

/// Escapes and shortens a name for a message: a name in a file may have any length and any characters.
pub(super) fn shortened(name: &str) -> String {
    const LONGEST: usize = 100;
    cut(&name.escape_debug().to_string(), LONGEST)
}

/// Shortens a reason for a message: readers may quote the file at any length.
fn limited(reason: &Reason) -> String {
    const LONGEST: usize = 1_000;
    cut(&reason.to_string(), LONGEST)
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into(),
    }
}
