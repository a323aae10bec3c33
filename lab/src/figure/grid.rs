//! Draws a figure as small multiples: cells that share their axes, with the rows named at the left and the columns at
//! the top.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::pen::{Area, Drawn, INK, font, text_width};
use super::{Figure, Row, Shape};

/// Height of a cell, in pixels, and width of all cells together.
const CELL: u32 = 58;
const CELLS: u32 = 505;
/// Heights of the line above the cells and of the axis below them, and distance between cells.
const HEAD: u32 = 24;
const AXIS: u32 = 40;
const GAP: u32 = 6;
const CELL_COLOR: RGBAColor = RGBAColor(0x80, 0x80, 0x80, 0.1);
/// Font size, and distance between the lines of a note.
const TEXT: u32 = 15;
const LINE: u32 = 16;

impl Figure {
    /// Width of the column with the names of the rows.
    fn names_width(&self) -> u32 {
        let widths = self.rows.iter().map(|row| text_width(&row.label, TEXT));
        widths.max().unwrap_or(0) + 8
    }

    /// Width and height of the cells with their axes and names, in pixels.
    pub(super) fn cells_size(&self) -> (u32, u32) {
        let height = HEAD + self.rows.len() as u32 * CELL + AXIS;
        (self.names_width() + CELLS + 16, height)
    }

    /// Draws the cells.
    pub(super) fn draw_cells<B: DrawingBackend>(&self, root: &Area<B>, scale: u32) -> Drawn<B> {
        let left = self.names_width();
        let write = |text: &str, (x, y): (u32, u32), across: HPos, down: VPos| {
            let style = font(TEXT * scale).pos(Pos::new(across, down));
            let at = ((x * scale) as i32, (y * scale) as i32);
            root.draw(&Text::new(text.to_string(), at, style))
        };
        let Some(first) = self.rows.first() else {
            return Ok(());
        };
        let width = CELLS / first.panels.len().max(1) as u32;
        for (column, panel) in (0..).zip(&first.panels) {
            let middle = left + column * width + (width - GAP) / 2;
            write(&panel.title, (middle, 6), HPos::Center, VPos::Top)?;
            // The axis, below the last row: its ends and its middle.
            let axis = &panel.axes.x;
            let bottom = HEAD + self.rows.len() as u32 * CELL;
            let [from, to] = axis.ends();
            for (share, across) in [(0.0, HPos::Left), (0.5, HPos::Center), (1.0, HPos::Right)] {
                let x = left + column * width + (f64::from(width - GAP) * share) as u32;
                let tick = axis.tick(from + share * (to - from));
                write(&tick, (x, bottom), across, VPos::Top)?;
            }
            if column == first.panels.len() as u32 / 2 {
                write(&axis.label, (middle, bottom + 18), HPos::Center, VPos::Top)?;
            }
        }
        for (index, row) in (0..).zip(&self.rows) {
            let top = HEAD + index * CELL;
            write(&row.label, (0, top + CELL / 2), HPos::Left, VPos::Center)?;
            draw_row(root, row, [left, top, width], scale)?;
        }
        Ok(())
    }
}

/// Draws the cells of a row: its place, and the width of a cell with its gap.
fn draw_row<B: DrawingBackend>(
    root: &Area<B>,
    row: &Row,
    [left, top, width]: [u32; 3],
    scale: u32,
) -> Drawn<B> {
    for (column, panel) in (0..).zip(&row.panels) {
        let at = |x: f64, y: f64| ((x * f64::from(scale)) as i32, (y * f64::from(scale)) as i32);
        let (x, y) = (f64::from(left + column * width), f64::from(top));
        let (across, down) = (f64::from(width - GAP), f64::from(CELL - GAP));
        let frame = [at(x, y), at(x + across, y + down)];
        root.draw(&Rectangle::new(frame, CELL_COLOR.filled()))?;
        let base = [at(x, y + down), at(x + across, y + down)];
        root.draw(&PathElement::new(base, INK.stroke_width(scale)))?;
        let share = |axis: &super::Axis, value: f64| {
            let [from, to] = axis.ends();
            Some((axis.cut(value)? - from) / (to - from))
        };
        for series in &panel.series {
            let Shape::Bars(bars) = &series.shape else {
                continue;
            };
            for &[from, to, height] in bars {
                let (axes, color) = (&panel.axes, RGBColor::from(series.color));
                let ends = share(&axes.x, from).zip(share(&axes.x, to));
                let Some(((from, to), height)) = ends.zip(share(&axes.y, height)) else {
                    continue;
                };
                if from < to && height > 0.0 {
                    let corners = [
                        at(x + from * across, y + down),
                        at(x + to * across, y + (1.0 - height) * down),
                    ];
                    root.draw(&Rectangle::new(corners, color.filled()))?;
                }
            }
        }
        for (line, note) in (0..).zip(&panel.notes) {
            let style = font(TEXT * scale).pos(Pos::new(HPos::Right, VPos::Top));
            let place = at(x + across - 3.0, y + 2.0 + f64::from(line * LINE));
            root.draw(&Text::new(note.clone(), place, style))?;
        }
    }
    Ok(())
}
