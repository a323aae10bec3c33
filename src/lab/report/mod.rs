//! Figures, and the page that holds them.
//!
//! A [`Figure`] says what is drawn; it is drawn the same as SVG, as PNG, and on the [`page`].

mod figure;
mod page;
mod plot;

pub use figure::{Axis, Color, Figure, Panel, Row, Series, Shape, median, spread};
pub use page::{claims_markdown, page};

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

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
    write_atomically(&path, page(findings, &today()).as_bytes())?;
    Ok(path)
}

/// The date in UTC, as 2026-11-24.
fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = now.map_or(0, |now| now.as_secs() / 86_400);
    // From 1 March of the year 0, in eras of 400 years (Hinnant, chrono-compatible date algorithms).
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + 400 * era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
