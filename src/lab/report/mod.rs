//! Figures, and the page that holds them.
//!
//! A [`Figure`] says what is drawn; it is drawn the same as SVG, as PNG, and on the [`page`].

mod figure;
mod page;
mod plot;

pub use figure::{Axis, Color, Figure, Panel, Row, Series, Shape, median, spread};
pub use page::{claims_markdown, page};

use std::path::{Path, PathBuf};

use crate::lab::experiment::Findings;
use crate::lab::train::{TrainError, write_atomically};

/// Writes the [`page`] as `report.html`, and the claims as `claims.md`, into a folder. Returns where
/// the page is.
///
/// # Errors
///
/// A file cannot be written.
pub fn write(folder: &Path, findings: &[Findings]) -> Result<PathBuf, TrainError> {
    let path = folder.join("report.html");
    write_atomically(
        &folder.join("claims.md"),
        claims_markdown(findings).as_bytes(),
    )?;
    write_atomically(&path, page(findings).as_bytes())?;
    Ok(path)
}
