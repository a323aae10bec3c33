//! What all drawings share: fonts, the colours of ink and grid, marks, and pictures in memory.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{Color as _, FontStyle, register_font};

use super::{Color, Mark, Stroke};

const FONT: &str = "sans-serif";
/// Radius of a mark, in pixels.
const MARK: u32 = 4;

/// Registers the font with which plotters measures text.
pub(super) fn with_font() {
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

pub(super) const INK: RGBColor = {
    let Color(r, g, b) = Color::INK;
    RGBColor(r, g, b)
};
pub(super) const GRID: RGBAColor = RGBAColor(0x80, 0x80, 0x80, 0.22);

/// The backends draw into memory, so no file or device can fail.
pub(super) const DRAWS: &str = "drawing into memory does not fail";

pub(super) type Area<B> = DrawingArea<B, Shift>;
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

pub(super) fn font(size: u32) -> TextStyle<'static> {
    (FONT, size as i32).into_font().color(&INK)
}

/// Draws an SVG picture of this size.
pub(super) fn svg(
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

/// Draws the mark of a colour. Ink has none; where it stands for a point, it is a disc.
pub(super) fn draw_mark<B: DrawingBackend>(
    root: &Area<B>,
    (x, y): (i32, i32),
    color: Color,
    stroke: Stroke,
    scale: u32,
) -> Drawn<B> {
    let point = (stroke == Stroke::Dotted).then_some(Mark::Disc);
    let Some(mark) = color.mark().or(point) else {
        return Ok(());
    };
    let corners = mark.corners(f64::from(MARK * scale)).into_iter();
    let corners =
        corners.map(|(across, down)| (x + across.round() as i32, y + down.round() as i32));
    let corners: Vec<_> = corners.collect();
    root.draw(&Polygon::new(corners, RGBColor::from(color).filled()))
}

/// The width of a text, in pixels.
pub(super) fn text_width(text: &str, size: u32) -> u32 {
    with_font();
    let font = (FONT, f64::from(size)).into_font();
    font.box_size(text).map_or(0, |(width, _)| width)
}

/// Makes an SVG picture one for a web page: without background or fixed size, and with ink in the colour of the
/// surrounding text.
pub(super) fn for_page((width, height): (u32, u32), svg: String) -> String {
    svg.replace(&String::from(Color::INK), "currentColor")
        .replace(&format!("width=\"{width}\" height=\"{height}\" "), "")
        .replace("<svg ", "<svg aria-hidden=\"true\" ")
}
