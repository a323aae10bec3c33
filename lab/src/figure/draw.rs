//! Draws figures with plotters.

use std::io::Cursor;
use std::ops::Range;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::pen::{
    Area, DRAWS, Drawn, GRID, INK, draw_mark, font, for_page, svg, text_width, with_font,
};
use super::{Axis, Color, Figure, Panel, SCALE, Series, Shape, Stroke};

/// How a panel is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Beside two or more others, or in a file.
    Small,
    /// Beside three others, in the whole width of the page.
    Row,
    /// Alone on a phone.
    Narrow,
    /// Beside one other.
    Half,
    /// Alone, with the names of the curves at their ends.
    Wide,
}

impl Look {
    /// Width and height, in pixels.
    const fn size(self) -> (u32, u32) {
        match self {
            Self::Small => (270, 172),
            Self::Row => (290, 178),
            Self::Narrow => (340, 180),
            Self::Half => (376, 172),
            Self::Wide => (760, 178),
        }
    }
}

const PANEL: (u32, u32) = Look::Small.size();
/// Height of a figure's title line and of its legend line, in pixels.
const LINE: u32 = 26;
/// Pixels of a PNG file per pixel of these sizes, across and down.
const FINER: u32 = 2;
/// Font sizes of a figure's title and legend.
const TITLE: u32 = 19;
const LEGEND: u32 = 15;
/// Font sizes within a panel: of its title, and of its axes.
const HEADING: u32 = 17;
const AXIS: u32 = 16;
/// Distance between the names of curves, in pixels.
const APART: i32 = 17;
/// Distance between the text and the edge, in pixels.
const PAD: u32 = 8;
/// The most marks on a line.
const MARKS: usize = 6;

impl Figure {
    /// The figure as an SVG picture on white.
    pub fn svg(&self) -> String {
        with_font();
        svg(self.size(), |root| self.draw(root, 1))
    }

    /// The figure as a PNG picture on white.
    pub fn png(&self) -> Vec<u8> {
        with_font();
        let (width, height) = self.size();
        let (width, height) = (FINER * width, FINER * height);
        let mut pixels = vec![0; (3 * width * height) as usize];
        {
            let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            self.draw(&root, FINER).expect(DRAWS);
            root.present().expect(DRAWS);
        }
        let mut file = Cursor::new(Vec::new());
        PngEncoder::new(&mut file)
            .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
            .expect("pixels in memory make a PNG");
        file.into_inner()
    }

    /// The cells of the figure as an SVG picture for a web page, as [`Panel::svg`].
    pub(crate) fn grid_svg(&self) -> String {
        for_page(
            self.cells_size(),
            svg(self.cells_size(), |root| self.draw_cells(root, 1)),
        )
    }

    /// Width and height in pixels: title, legend and rows, as wide as the widest of them.
    fn size(&self) -> (u32, u32) {
        if self.grid {
            let (width, height) = self.cells_size();
            let title = text_width(&self.title, TITLE) + 2 * PAD;
            return (width.max(title), LINE + height);
        }
        let columns = self.rows.iter().map(|row| row.panels.len()).max();
        let panels = PANEL.0 * columns.unwrap_or(0) as u32;
        let entries = self.legend().into_iter();
        let legend: u32 = entries.map(|it| entry_width(&it.label, 1)).sum();
        let text = legend.max(text_width(&self.title, TITLE)) + 2 * PAD;
        let row = self.label_height() + PANEL.1;
        (panels.max(text), 2 * LINE + self.rows.len() as u32 * row)
    }

    /// Height of the line above each row; 0 if no row has a label.
    fn label_height(&self) -> u32 {
        match self.rows.iter().all(|row| row.label.is_empty()) {
            true => 0,
            false => LINE,
        }
    }

    fn draw<B: DrawingBackend>(&self, root: &Area<B>, scale: u32) -> Drawn<B> {
        root.fill(&WHITE)?;
        let (line, pad) = ((LINE * scale) as i32, (PAD * scale) as i32);
        let write = |text: &str, size: u32, at: (i32, i32)| {
            root.draw(&Text::new(text.to_string(), at, font(size * scale)))
        };
        write(&self.title, TITLE, (pad, pad))?;
        if self.grid {
            let (width, height) = self.cells_size();
            let size = (width * scale, height * scale);
            return self.draw_cells(&root.clone().shrink((0, line), size), scale);
        }
        let mut x = pad;
        for series in self.legend() {
            let y = line + line / 2;
            draw_key(root, series, (x, y), scale)?;
            let text = (x + 30 * scale as i32, y - 7 * scale as i32);
            write(&series.label, LEGEND, text)?;
            x += entry_width(&series.label, scale) as i32;
        }
        let above = (self.label_height() * scale) as i32;
        let size = (PANEL.0 * scale, PANEL.1 * scale);
        for (index, row) in self.rows.iter().enumerate() {
            let top = 2 * line + index as i32 * (above + size.1 as i32);
            write(&row.label, 16, (pad, top + pad))?;
            for (column, panel) in row.panels.iter().enumerate() {
                let left = column as i32 * size.0 as i32;
                let area = root.clone().shrink((left, top + above), size);
                panel.draw(&area, Look::Small, scale)?;
            }
        }
        Ok(())
    }
}

/// Draws the stroke of a series in a legend, or its scale.
fn draw_key<B: DrawingBackend>(
    root: &Area<B>,
    series: &Series,
    (x, y): (i32, i32),
    scale: u32,
) -> Drawn<B> {
    let color = RGBColor::from(series.color);
    let at = |share: f64| (x + (f64::from(24 * scale) * share) as i32, y);
    let line = |[from, to]: [f64; 2]| {
        root.draw(&PathElement::new(
            [at(from), at(to)],
            color.stroke_width(2 * scale),
        ))
    };
    let mark = |share| draw_mark(root, at(share), series.color, series.stroke, scale);
    if let Shape::Cells(_) = series.shape {
        let (width, half) = (6 * scale as i32, 5 * scale as i32);
        return (0..).zip(SCALE).try_for_each(|(i, share)| {
            let corners = [(x + i * width, y - half), (x + (i + 1) * width, y + half)];
            root.draw(&Rectangle::new(corners, color.mix(share).filled()))
        });
    }
    match series.stroke {
        Stroke::Solid => line([0.0, 1.0])?,
        Stroke::Dashed => line([0.0, 0.3]).and(line([0.6, 0.9]))?,
        Stroke::Dotted => return mark(0.2).and(mark(0.7)),
    }
    mark(0.45)
}

/// At most [`MARKS`] of the places, evenly spread. Colours begin at different places, so that the marks of lines on
/// each other all show.
fn spread_out<P: Copy>(places: &[P], color: Color) -> Vec<P> {
    let apart = places.len().div_ceil(MARKS).max(1);
    let first = color.mark().map_or(0, |mark| mark as usize) % apart;
    places.iter().copied().skip(first).step_by(apart).collect()
}

/// The width of a legend entry, in pixels: stroke, label, and the gap to the next entry.
fn entry_width(label: &str, scale: u32) -> u32 {
    48 * scale + text_width(label, LEGEND * scale)
}

/// An axis, for plotters: values are in drawn coordinates.
impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, pixels: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range()).map(value, pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let chosen = || RangedCoordf64::from(self.range()).key_points(hint);
        self.fine_ticks().unwrap_or_else(chosen)
    }

    fn range(&self) -> Range<f64> {
        let [from, to] = self.ends();
        from..to
    }
}

impl Panel {
    /// The panel as an SVG picture for a web page.
    pub(crate) fn svg(&self, look: Look) -> String {
        for_page(
            look.size(),
            svg(look.size(), |root| self.draw(root, look, 1)),
        )
    }

    /// The names of the curves and the heights of their right ends, in drawn coordinates.
    fn names(&self) -> Vec<(&Series, f64)> {
        // A heat map needs its legend, and has the names there.
        if self
            .series
            .iter()
            .any(|it| matches!(it.shape, Shape::Cells(_)))
        {
            return Vec::new();
        }
        let named = self.series.iter().filter(|it| !it.label.is_empty());
        let names = named.filter_map(|series| {
            let &last = series.points().last()?;
            let end = self.axes.beyond(last).map(|(_, y)| y);
            Some((series, end.or_else(|| self.axes.y.cut(last[1]))?))
        });
        names.collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, look: Look, scale: u32) -> Drawn<B> {
        let (x, y) = (&self.axes.x, &self.axes.y);
        let bottom = y.ends()[0];
        let heading = self.heading();
        let area = match heading.is_empty() {
            true => area.clone(),
            false => area.titled(&heading, font(HEADING * scale))?,
        };
        let names = match look {
            Look::Wide => self.names(),
            Look::Small | Look::Row | Look::Narrow | Look::Half => Vec::new(),
        };
        let room = names
            .iter()
            .map(|(series, _)| 24 + text_width(&series.label, AXIS))
            .max();
        let mut plot = ChartBuilder::on(&area)
            .margin(4 * scale)
            // Room for labels in letters taller than those that were measured.
            .margin_left(8 * scale)
            // Room for the upper half of the top number on the y axis and the right half of the last number on the x
            // axis.
            .margin_top(14 * scale)
            .margin_right(room.unwrap_or(14) * scale)
            .x_label_area_size(42 * scale)
            .y_label_area_size(58 * scale)
            .build_cartesian_2d(x.clone(), y.clone())?;
        plot.configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK.stroke_width(scale))
            .label_style(font(AXIS * scale))
            .axis_desc_style(font(AXIS * scale))
            .x_labels(x.ticks())
            .y_labels(y.ticks())
            .x_label_formatter(&|&value| x.tick(value))
            .y_label_formatter(&|&value| y.tick(value))
            .x_desc(&x.label)
            .y_desc(&y.label)
            .draw()?;
        // Where the panel begins within the whole picture.
        let (left, above) = area.get_base_pixel();
        for series in &self.series {
            let color = RGBColor::from(series.color);
            match &series.shape {
                Shape::Line(points) => {
                    let style = color.stroke_width(2 * scale);
                    match series.stroke {
                        Stroke::Solid => {
                            let runs = self.axes.visible(points).into_iter();
                            plot.draw_series(runs.map(|run| PathElement::new(run, style)))?;
                        }
                        Stroke::Dashed => {
                            for run in self.axes.visible(points) {
                                let (dash, gap) = (6 * scale, 4 * scale);
                                plot.draw_series(DashedLineSeries::new(run, dash, gap, style))?;
                            }
                        }
                        Stroke::Dotted => {}
                    }
                    let dots = self.axes.dots(points);
                    let dots = match series.stroke {
                        Stroke::Dotted => dots,
                        Stroke::Solid | Stroke::Dashed => spread_out(&dots, series.color),
                    };
                    for dot in dots {
                        let (x, y) = plot.backend_coord(&dot);
                        draw_mark(
                            &area,
                            (x - left, y - above),
                            series.color,
                            series.stroke,
                            scale,
                        )?;
                    }
                    let exits = self.axes.exits(points).into_iter();
                    plot.draw_series(exits.map(|(at, up)| {
                        let (long, half) = (7 * scale as i32, 4 * scale as i32);
                        let base = if up { long } else { -long };
                        let corners = vec![(0, 0), (-half, base), (half, base)];
                        EmptyElement::at(at)
                            + plotters::element::Polygon::new(corners, color.filled())
                    }))?;
                }
                Shape::Bars(bars) => {
                    plot.draw_series(bars.iter().filter_map(|&[from, to, height]| {
                        let (from, to) = (x.cut(from)?, x.cut(to)?);
                        let corners = [(from, bottom), (to, y.cut(height)?)];
                        (from < to).then(|| Rectangle::new(corners, color.filled()))
                    }))?;
                }
                Shape::Cells(cells) => {
                    plot.draw_series(cells.iter().filter_map(|cell| {
                        let ([left, right], [bottom, top]) = (cell.x, cell.y);
                        let corners =
                            [(x.cut(left)?, y.cut(bottom)?), (x.cut(right)?, y.cut(top)?)];
                        let style = color.mix(cell.share).filled();
                        (!cell.share.is_nan()).then(|| Rectangle::new(corners, style))
                    }))?;
                }
                Shape::Band(points) => {
                    let areas = self.axes.areas(points).into_iter();
                    plot.draw_series(areas.map(|area| Polygon::new(area, color.mix(0.2))))?;
                }
            }
        }
        // Names that would lie on each other move apart.
        let right = plot.plotting_area().get_x_axis_pixel_range().end;
        let heights = plot.plotting_area().get_y_axis_pixel_range();
        let height = |y: f64| plot.backend_coord(&(x.ends()[1], y)).1;
        let mut names: Vec<_> = names
            .into_iter()
            .map(|(series, y)| (series, height(y)))
            .collect();
        names.sort_by_key(|&(_, y)| y);
        let (apart, mut top) = (APART * scale as i32, i32::MIN);
        for (_, y) in &mut names {
            *y = (*y).max(top);
            top = *y + apart;
        }
        let mut lowest = heights.end.max(heights.start);
        for (_, y) in names.iter_mut().rev() {
            *y = (*y).min(lowest);
            lowest = *y - apart;
        }
        for (series, y) in names {
            let at = |after: u32| (right + (after * scale) as i32 - left, y - above);
            draw_mark(&area, at(9), series.color, series.stroke, scale)?;
            let style = font(AXIS * scale).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(series.label.clone(), at(17), style))?;
        }
        Ok(())
    }
}
