//! Draws figures with plotters.

use std::io::Cursor;
use std::ops::Range;
use std::sync::Once;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{Color as _, FontStyle, register_font};

use super::{Axis, Color, Figure, Panel, SCALE, Series, Shape, Stroke};

/// Width and height of a panel, in pixels.
const PANEL: (u32, u32) = (290, 212);
/// Height of a figure's title line and of its legend line, in pixels.
const LINE: u32 = 26;
/// Pixels of a PNG file per pixel of these sizes, across and down.
const FINER: u32 = 2;
const FONT: &str = "sans-serif";
/// Font sizes of a figure's title and legend.
const TITLE: u32 = 19;
const LEGEND: u32 = 15;
/// Distance between the text and the edge, in pixels.
const PAD: u32 = 8;

/// Registers the font with which plotters measures text.
fn with_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .unwrap_or_else(|_| unreachable!("the font is a font"));
    });
}

impl From<Color> for RGBColor {
    fn from(Color(r, g, b): Color) -> Self {
        Self(r, g, b)
    }
}

const INK: RGBColor = {
    let Color(r, g, b) = Color::INK;
    RGBColor(r, g, b)
};
const GRID: RGBAColor = RGBAColor(0x80, 0x80, 0x80, 0.22);

/// The backends draw into memory, so no file or device can fail.
const DRAWS: &str = "drawing into memory does not fail";

type Area<B> = DrawingArea<B, Shift>;
type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

fn font(size: u32) -> TextStyle<'static> {
    (FONT, size as i32).into_font().color(&INK)
}

/// Draws an SVG picture of this size.
fn svg(
    size: (u32, u32),
    draw: impl for<'a> FnOnce(&Area<SVGBackend<'a>>) -> Drawn<SVGBackend<'a>>,
) -> String {
    with_font();
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&root).expect(DRAWS);
        root.present().expect(DRAWS);
    }
    text
}

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

    /// Width and height in pixels: title, legend and rows, as wide as the widest of them.
    fn size(&self) -> (u32, u32) {
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
                panel.draw(&root.clone().shrink((left, top + above), size), scale)?;
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
    let dot = |share| root.draw(&Circle::new(at(share), 3 * scale, color.filled()));
    if let Shape::Cells(_) = series.shape {
        let (width, half) = (6 * scale as i32, 5 * scale as i32);
        return (0..).zip(SCALE).try_for_each(|(i, share)| {
            let corners = [(x + i * width, y - half), (x + (i + 1) * width, y + half)];
            root.draw(&Rectangle::new(corners, color.mix(share).filled()))
        });
    }
    match series.stroke {
        Stroke::Solid => line([0.0, 1.0]),
        Stroke::Dashed => line([0.0, 0.3]).and(line([0.5, 0.8])),
        Stroke::Dotted => dot(0.2).and(dot(0.7)),
    }
}

/// The width of a text, in pixels.
fn text_width(text: &str, size: u32) -> u32 {
    let font = (FONT, f64::from(size)).into_font();
    font.box_size(text).map_or(0, |(width, _)| width)
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
    /// The panel as an SVG picture for a web page: without background or fixed size, and with ink in the colour of the
    /// surrounding text.
    pub(crate) fn svg(&self) -> String {
        let (width, height) = PANEL;
        svg(PANEL, |root| self.draw(root, 1))
            .replace(&String::from(Color::INK), "currentColor")
            .replace(&format!("width=\"{width}\" height=\"{height}\" "), "")
            .replace("<svg ", "<svg aria-hidden=\"true\" ")
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, scale: u32) -> Drawn<B> {
        let (x, y) = (&self.axes.x, &self.axes.y);
        let bottom = y.ends()[0];
        let area = area.titled(&self.title, font(16 * scale))?;
        let mut plot = ChartBuilder::on(&area)
            .margin(4 * scale)
            // Room for the upper half of the top number on the y axis and the right half of the last number on the x
            // axis.
            .margin_top(10 * scale)
            .margin_right(12 * scale)
            .x_label_area_size(38 * scale)
            .y_label_area_size(54 * scale)
            .build_cartesian_2d(x.clone(), y.clone())?;
        plot.configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK.stroke_width(scale))
            .label_style(font(14 * scale))
            .axis_desc_style(font(14 * scale))
            .x_labels(x.ticks())
            .y_labels(y.ticks())
            .x_label_formatter(&|&value| x.tick(value))
            .y_label_formatter(&|&value| y.tick(value))
            .x_desc(&x.label)
            .y_desc(&y.label)
            .draw()?;
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
                        Stroke::Dotted => {
                            let dots = self.axes.dots(points).into_iter();
                            let dot = |at| Circle::new(at, 3 * scale, color.filled());
                            plot.draw_series(dots.map(dot))?;
                        }
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
        Ok(())
    }
}
