use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why a record cannot be written, read, or loaded into a module.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was read is no record, or not any more.
    #[error("{origin} is damaged or not a record: {reason}")]
    Damaged {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The record is of another network.
    #[error("{origin} is of another network: {differences}")]
    OtherNetwork {
        /// The file.
        origin: String,
        /// Where they differ.
        differences: Differences,
    },
    /// There are values that no trained network has.
    #[error("{origin}: {count} values of {} are NaN or infinite", shortened(.name))]
    NotFinite {
        /// The file.
        origin: String,
        /// The first tensor with such values.
        name: String,
        /// How many there are in it.
        count: usize,
    },
    /// The record says nothing about the network that it is of.
    #[error("{origin} does not say which network it is of: no configuration came with it")]
    NoConfig {
        /// The file.
        origin: String,
    },
    /// The format cannot hold the record.
    #[error("the record cannot be written: {reason}")]
    Unwritable {
        /// What the format said.
        reason: String,
    },
}

/// Where a record and a module differ, by the record's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Name, shape of the module, shape of the record.
    pub shapes: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Names that the module has and the record has not.
    pub missing: Vec<String>,
    /// Names that the record has and the module has not.
    pub unexpected: Vec<String>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.missing.is_empty() && self.unexpected.is_empty()
    }
}

/// How many tensors a message names of each kind.
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
            let shown = &items[..items.len().min(NAMED)];
            write!(f, "{separator}{title}{}", shown.join(", "))?;
            if items.len() > NAMED {
                write!(f, " and {} more", items.len() - NAMED)?;
            }
        }
        Ok(())
    }
}

/// A name as a message shows it: one out of a file may be of any length, and hold anything.
pub(super) fn shortened(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown: String = name
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if name.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}
