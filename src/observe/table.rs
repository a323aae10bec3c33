//! Prints a report as tables for the terminal.

use std::fmt::{Display, Formatter, Result};

use super::report::{Layer, Parameter, Report, Summary};

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write_table(
            f,
            [
                "<layer",
                "<shape",
                ">mean",
                ">std",
                ">spread",
                ">min",
                ">max",
                ">zero",
                ">sat.",
                ">dead",
                ">copies",
                ">grad std",
                "<histogram",
            ],
            self.layers.iter().map(layer_row),
        )?;
        for layer in &self.layers {
            write_unusual(f, &layer.name, "", &layer.data)?;
            if let Some(gradient) = &layer.gradient {
                write_unusual(f, &layer.name, "the gradient of ", gradient)?;
            }
        }
        if !self.layers.is_empty() && !self.parameters.is_empty() {
            writeln!(f)?;
        }
        write_table(
            f,
            [
                "<parameter",
                "<shape",
                ">std",
                ">grad std",
                ">grad:data",
                ">log10 update:data",
            ],
            self.parameters.iter().map(parameter_row),
        )
    }
}

fn layer_row(layer: &Layer) -> [String; 13] {
    let data = &layer.data;
    [
        layer.name.clone(),
        shape(&layer.shape),
        or_dash(Some(data.mean), number),
        or_dash(Some(data.std), number),
        or_dash(Some(data.spread), number),
        or_dash(Some(data.min), number),
        or_dash(Some(data.max), number),
        or_dash(Some(data.zeros), percent),
        or_dash(layer.saturated, percent),
        layer.dead.to_string(),
        layer.duplicates.to_string(),
        or_dash(layer.gradient.as_ref().map(|gradient| gradient.std), number),
        blocks(&data.histogram.counts),
    ]
}

fn parameter_row(parameter: &Parameter) -> [String; 6] {
    [
        parameter.name.clone(),
        shape(&parameter.shape),
        or_dash(Some(parameter.std), number),
        or_dash(parameter.gradient_std, number),
        or_dash(parameter.gradient_to_data(), number),
        or_dash(parameter.update_to_data(), exponent),
    ]
}

/// Writes a line about values that the statistics leave out.
fn write_unusual(f: &mut Formatter<'_>, name: &str, what: &str, values: &Summary) -> Result {
    if values.count == 0 {
        writeln!(f, "! {what}{name} is empty")?;
    }
    if values.nan + values.infinite > 0 {
        let Summary {
            count,
            nan,
            infinite,
            ..
        } = values;
        writeln!(
            f,
            "! {what}{name} has {nan} NaN and {infinite} infinite of {count} values; the rest is described"
        )?;
    }
    Ok(())
}

/// Writes rows under headings. The first character of a heading aligns its column: `<` left, `>` right. Writes nothing
/// if there are no rows.
fn write_table<const C: usize>(
    f: &mut Formatter<'_>,
    headings: [&str; C],
    rows: impl Iterator<Item = [String; C]>,
) -> Result {
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return Ok(());
    }
    let titles = headings.map(|heading| heading[1..].to_owned());
    let lines = || std::iter::once(&titles).chain(&rows);
    let widths: [usize; C] = std::array::from_fn(|column| {
        lines()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    for line in lines() {
        let mut written = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            match headings[column].starts_with('<') {
                true => written += &format!("{cell:<width$}  "),
                false => written += &format!("{cell:>width$}  "),
            }
        }
        writeln!(f, "{}", written.trim_end())?;
    }
    Ok(())
}

/// Formats a value; a dash if it was not seen or is not finite, such as a ratio of zeros.
fn or_dash(value: Option<f64>, print: fn(f64) -> String) -> String {
    match value {
        Some(value) if value.is_finite() => print(value),
        _ => "-".into(),
    }
}

/// Formats a number with at most four significant digits, in scientific notation if it is very small or very large.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.01..10.0 => format!("{value:.3}"),
        10.0..1000.0 => format!("{value:.1}"),
        _ => format!("{value:.1e}"),
    }
}

fn exponent(value: f64) -> String {
    format!("{value:.2}")
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

fn shape(dims: &[usize]) -> String {
    let dims: Vec<_> = dims.iter().map(usize::to_string).collect();
    dims.join("x")
}

/// Draws a histogram with one block character per bin: a full block for the tallest bin, a blank for an empty one.
///
/// Heights follow the square root of the counts. So if a single bin holds half of the values, such as the zeros of
/// ReLU, the shape of the others stays visible.
fn blocks(counts: &[usize]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let tallest = counts.iter().copied().max().unwrap_or(0);
    let block = |&count: &usize| match count {
        0 => ' ',
        // Rounded up: a bin with a value is never blank.
        _ => {
            let height = (count as f64 / tallest as f64).sqrt();
            BLOCKS[(height * BLOCKS.len() as f64).ceil() as usize - 1]
        }
    };
    counts.iter().map(block).collect()
}
