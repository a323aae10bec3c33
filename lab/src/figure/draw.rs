//! Drawing figures, with plotters.

use std::io::Cursor;
use std::sync::Once;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::{Axis, Figure, Key, Panel, Shape, Stroke};

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (290, 212);
/// Height of the line that holds a figure's title, and of that of its legend.
const LINE: u32 = 26;
/// How much finer PNG files are than those pixels.
const FINER: u32 = 2;
const FONT: &str = "sans-serif";
/// Font sizes of a figure's title and legend.
const TITLE: u32 = 19;
const LEGEND: u32 = 15;
/// Between the text and the edge, in pixels.
const PAD: u32 = 8;

/// Plotters measures text with a font of its own list, also where the viewer sets it in another.
fn with_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .unwrap_or_else(|_| unreachable!("the font is a font"));
    });
}

impl From<super::Color> for RGBColor {
    fn from(super::Color(r, g, b): super::Color) -> Self {
        Self(r, g, b)
    }
}

const INK: RGBColor = {
    let super::Color(r, g, b) = super::Color::INK;
    RGBColor(r, g, b)
};
const GRID: RGBAColor = RGBAColor(0x80, 0x80, 0x80, 0.22);

/// Why something could not be drawn. The backends draw into memory, so nothing but the pictures'
/// own making could be the cause.
const DRAWS: &str = "drawing into memory does not fail";

impl Figure {
    /// The figure as one SVG picture, on white.
    pub fn svg(&self) -> String {
        with_font();
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, self.size()).into_drawing_area();
            self.draw(&root, 1);
            root.present().expect(DRAWS);
        }
        text
    }

    /// The figure as one PNG picture, on white.
    pub fn png(&self) -> Vec<u8> {
        with_font();
        let (width, height) = self.size();
        let (width, height) = (FINER * width, FINER * height);
        let mut pixels = vec![0; (3 * width * height) as usize];
        {
            let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            self.draw(&root, FINER);
            root.present().expect(DRAWS);
        }
        let mut file = Cursor::new(Vec::new());
        PngEncoder::new(&mut file)
            .write_image(&pixels, width, height, ExtendedColorType::Rgb8)
            .expect("pixels in memory make a PNG");
        file.into_inner()
    }

    /// Title, legend, and the rows, each under its label; as wide as the widest of them.
    fn size(&self) -> (u32, u32) {
        let columns = self.rows.iter().map(|row| row.panels.len()).max();
        let panels = PANEL.0 * columns.unwrap_or(0) as u32;
        let legend: u32 = self
            .legend()
            .iter()
            .map(|(label, _)| entry_width(label, 1))
            .sum();
        let title = text_width(&self.title, TITLE);
        let width = panels.max(legend + 2 * PAD).max(title + 2 * PAD);
        (
            width,
            2 * LINE + self.rows.len() as u32 * (self.label_height() + PANEL.1),
        )
    }

    /// The line above each row, if there is anything to write.
    fn label_height(&self) -> u32 {
        match self.rows.iter().all(|row| row.label.is_empty()) {
            true => 0,
            false => LINE,
        }
    }

    fn draw<B: DrawingBackend>(&self, root: &DrawingArea<B, Shift>, scale: u32) {
        root.fill(&WHITE).map_err(failed).expect(DRAWS);
        let line = (LINE * scale) as i32;
        let pad = (PAD * scale) as i32;
        let write = |area: &DrawingArea<B, Shift>, text: &str, size: u32, at: (i32, i32)| {
            let style = (FONT, (size * scale) as i32).into_font().color(&INK);
            let drawn = area.draw(&Text::new(text.to_string(), at, style));
            drawn.map_err(failed).expect(DRAWS);
        };
        write(root, &self.title, TITLE, (pad, pad));
        let mut x = pad;
        for (label, key) in self.legend() {
            let y = line + line / 2;
            let color = RGBColor::from(key.color);
            for (from, to) in strokes(key) {
                let length = |share: f64| x + (f64::from(24 * scale) * share) as i32;
                let ends = vec![(length(from), y), (length(to), y)];
                let drawn = match key.stroke {
                    Stroke::Dotted => root.draw(&Circle::new(ends[0], 3 * scale, color.filled())),
                    _ => root.draw(&PathElement::new(ends, color.stroke_width(2 * scale))),
                };
                drawn.map_err(failed).expect(DRAWS);
            }
            write(
                root,
                label,
                LEGEND,
                (x + 30 * scale as i32, y - 7 * scale as i32),
            );
            x += entry_width(label, scale) as i32;
        }
        let above = (self.label_height() * scale) as i32;
        for (index, row) in self.rows.iter().enumerate() {
            let top = 2 * line + index as i32 * (above + (PANEL.1 * scale) as i32);
            write(root, &row.label, 16, (pad, top + pad));
            for (column, panel) in row.panels.iter().enumerate() {
                let left = column as i32 * (PANEL.0 * scale) as i32;
                let area = root
                    .clone()
                    .shrink((left, top + above), (PANEL.0 * scale, PANEL.1 * scale));
                panel.draw(&area, scale).map_err(failed).expect(DRAWS);
            }
        }
    }
}

/// The width of a text, in pixels.
fn text_width(text: &str, size: u32) -> u32 {
    let font = (FONT, f64::from(size)).into_font();
    font.box_size(text).map_or(0, |(width, _)| width)
}

/// The width of a legend's entry: its stroke, its label, and the gap to the next.
fn entry_width(label: &str, scale: u32) -> u32 {
    48 * scale + text_width(label, LEGEND * scale)
}

/// Where on a length of 1 the strokes of a line lie.
fn strokes(key: Key) -> Vec<(f64, f64)> {
    match key.stroke {
        Stroke::Solid => vec![(0.0, 1.0)],
        Stroke::Dashed => vec![(0.0, 0.3), (0.5, 0.8)],
        Stroke::Dotted => vec![(0.2, 0.2), (0.7, 0.7)],
    }
}

/// Keeps an error's text; the backends' own types differ.
fn failed(error: impl std::error::Error) -> String {
    error.to_string()
}

type Plot<'a, 'b, B> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Panel {
    /// The panel alone as an SVG picture for a web page: without background and fixed size, in the
    /// colour of the text around it.
    pub(crate) fn svg(&self) -> String {
        with_font();
        let mut text = String::new();
        {
            let root = SVGBackend::with_string(&mut text, PANEL).into_drawing_area();
            self.draw(&root, 1).expect(DRAWS);
            root.present().expect(DRAWS);
        }
        let (width, height) = PANEL;
        text.replace(&String::from(super::Color::INK), "currentColor")
            .replace(&format!("width=\"{width}\" height=\"{height}\" "), "")
            .replace("<svg ", "<svg aria-hidden=\"true\" ")
    }

    fn draw<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        scale: u32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let font = |size: u32| (FONT, (size * scale) as i32).into_font().color(&INK);
        let ([left, right], [bottom, top]) = (self.x.ends(), self.y.ends());
        let area = area.titled(&self.title, font(16))?;
        let mut plot = ChartBuilder::on(&area)
            .margin(4 * scale)
            // Room for the upper half of the highest number of the axis, and for half of the last.
            .margin_top(10 * scale)
            .margin_right(12 * scale)
            .x_label_area_size(38 * scale)
            .y_label_area_size(54 * scale)
            .build_cartesian_2d(left..right, bottom..top)?;
        plot.configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK.stroke_width(scale))
            .label_style(font(14))
            .axis_desc_style(font(14))
            .x_labels(self.x.ticks())
            .y_labels(self.y.ticks())
            .x_label_formatter(&|&value| self.x.tick(value))
            .y_label_formatter(&|&value| self.y.tick(value))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .draw()?;
        for series in &self.series {
            let color = RGBColor::from(series.color);
            self.draw_shape(&mut plot, &series.shape, color, scale)?;
        }
        Ok(())
    }

    fn draw_shape<B: DrawingBackend>(
        &self,
        plot: &mut Plot<'_, '_, B>,
        shape: &Shape,
        color: RGBColor,
        scale: u32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let stroke = color.stroke_width(2 * scale);
        match shape {
            Shape::Line(points) | Shape::Dashed(points) => {
                for run in self.visible(points) {
                    match shape {
                        Shape::Line(_) => {
                            plot.draw_series([PathElement::new(run, stroke)])?;
                        }
                        _ => {
                            let (dash, gap) = (6 * scale, 4 * scale);
                            plot.draw_series(DashedLineSeries::new(run, dash, gap, stroke))?;
                        }
                    }
                }
                self.draw_ends(plot, points, color, scale)?;
            }
            Shape::Dots(points) => {
                let there = points.iter().filter(|&&point| self.beyond(point).is_none());
                let dots = there.filter_map(|&point| self.place(point));
                plot.draw_series(dots.map(|at| Circle::new(at, 3 * scale, color.filled())))?;
                self.draw_ends(plot, points, color, scale)?;
            }
            Shape::Bars(bars) => {
                let bottom = self.y.ends()[0];
                let boxes = bars.iter().filter_map(|&[from, to, height]| {
                    let (from, to) = (self.x.cut(from)?, self.x.cut(to)?);
                    let corners = [(from, bottom), (to, self.y.cut(height)?)];
                    (from < to).then(|| Rectangle::new(corners, color.filled()))
                });
                plot.draw_series(boxes)?;
            }
            Shape::Band(points) => {
                let edge = |[x, low, high]: [f64; 3]| {
                    let (low, high) = (self.y.cut(low)?, self.y.cut(high)?);
                    // Of a band beyond the axis, not even an edge is drawn.
                    let beyond = low == high && self.y.ends().contains(&low);
                    (!beyond).then_some((self.x.cut(x)?, low, high))
                };
                let edges: Vec<_> = points.iter().map(|&point| edge(point)).collect();
                for run in edges.split(Option::is_none) {
                    let run: Vec<_> = run.iter().copied().flatten().collect();
                    let there = run.iter().map(|&(x, low, _)| (x, low));
                    let back = run.iter().rev().map(|&(x, _, high)| (x, high));
                    let outline: Vec<_> = there.chain(back).collect();
                    plot.draw_series([Polygon::new(outline, color.mix(0.2))])?;
                }
            }
        }
        Ok(())
    }

    /// A triangle at the edge, once where a curve leaves the axes upwards or downwards.
    fn draw_ends<B: DrawingBackend>(
        &self,
        plot: &mut Plot<'_, '_, B>,
        points: &[[f64; 2]],
        color: RGBColor,
        scale: u32,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let (long, half) = (7 * scale as i32, 4 * scale as i32);
        let mut before = None;
        for &point in points {
            let beyond = self.beyond(point);
            if let Some(at) = beyond
                && before != Some(at.1)
            {
                let down = if at.1 == self.y.ends()[0] {
                    -long
                } else {
                    long
                };
                let corners = vec![(0, 0), (-half, down), (half, down)];
                plot.draw_series([
                    EmptyElement::at(at) + plotters::element::Polygon::new(corners, color.filled())
                ])?;
            }
            before = beyond.map(|at| at.1);
        }
        Ok(())
    }

    /// Where a point is in the coordinates that are drawn; nowhere if it is not finite.
    fn place(&self, [x, y]: [f64; 2]) -> Option<(f64, f64)> {
        let (x, y) = (self.x.coordinate(x), self.y.coordinate(y));
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }

    /// The place on the upper or lower edge that is next to a point beyond it; for a value that is not
    /// a number on the upper one.
    pub(super) fn beyond(&self, [x, y]: [f64; 2]) -> Option<(f64, f64)> {
        let [bottom, top] = self.y.ends();
        let (x, place) = (self.x.cut(x)?, self.y.coordinate(y));
        match place {
            _ if y.is_nan() || place > top => Some((x, top)),
            _ if place < bottom && place.is_finite() => Some((x, bottom)),
            _ => None,
        }
    }

    /// The parts of a line that lie within the axes.
    fn visible(&self, points: &[[f64; 2]]) -> Vec<Vec<(f64, f64)>> {
        let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
        for ends in points.windows(2) {
            let (Some(from), Some(to)) = (self.place(ends[0]), self.place(ends[1])) else {
                continue;
            };
            let Some((from, to)) = self.within(from, to) else {
                continue;
            };
            match runs.last_mut() {
                Some(run) if run.last() == Some(&from) => run.push(to),
                _ => runs.push(vec![from, to]),
            }
        }
        runs
    }

    /// The part of a straight line that lies within the axes (Liang & Barsky 1984).
    fn within(&self, from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
        let (across, up) = (to.0 - from.0, to.1 - from.1);
        let ([left, right], [bottom, top]) = (self.x.ends(), self.y.ends());
        let sides = [
            (-across, from.0 - left),
            (across, right - from.0),
            (-up, from.1 - bottom),
            (up, top - from.1),
        ];
        let (mut enters, mut leaves) = (0.0_f64, 1.0_f64);
        for (outwards, room) in sides {
            match outwards {
                0.0 if room < 0.0 => return None,
                0.0 => {}
                _ if outwards < 0.0 => enters = enters.max(room / outwards),
                _ => leaves = leaves.min(room / outwards),
            }
        }
        let at = |share: f64| match share {
            0.0 => from,
            1.0 => to,
            _ => (from.0 + share * across, from.1 + share * up),
        };
        (enters <= leaves).then(|| (at(enters), at(leaves)))
    }
}

impl Axis {
    /// The range in the coordinates that are drawn: powers of ten on a logarithmic axis.
    fn ends(&self) -> [f64; 2] {
        match self.log {
            true => self.range.map(f64::log10),
            false => self.range,
        }
    }

    /// A value in the coordinates that are drawn.
    fn coordinate(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    /// Where a value is drawn that is cut at the ends; nowhere if it is no number or has no logarithm.
    fn cut(&self, value: f64) -> Option<f64> {
        let [from, to] = self.ends();
        let value = self.coordinate(value);
        (!value.is_nan() && value != f64::NEG_INFINITY).then(|| value.clamp(from, to))
    }

    fn ticks(&self) -> usize {
        let [from, to] = self.ends();
        match self.log {
            true => ((to - from).abs().round() as usize + 1).min(9),
            false => 6,
        }
    }

    fn tick(&self, value: f64) -> String {
        match self.log {
            true if (value - value.round()).abs() > 1e-6 => String::new(),
            true if (-3.0..=4.0).contains(&value) => number(10f64.powf(value.round())),
            true => format!("1e{value:.0}"),
            false => number(value),
        }
    }
}

/// A number with as few digits as say it.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".to_string(),
        _ => text.to_string(),
    }
}
