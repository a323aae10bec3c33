//! Figures: what is drawn, and drawing it.
//!
//! A [`Figure`] draws the same as SVG, as PNG, and on the [`page`](crate::page).

mod draw;

use burn_kindling::init::InitStrategy;
use serde::Serialize;

use crate::model::Normalization;
use crate::number::Number;

/// A colour that colour-blind readers tell from the others in its figure, with a contrast of at least
/// 3 to 1 on the light page and on the dark one; or ink, which is black on paper and follows the text
/// on the page. Blue, green and vermillion are Okabe and Ito's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// The colour of text: almost black, so that it can be told from every other.
    pub const INK: Self = Self(0x1a, 0x1b, 0x1c);
    /// Grey.
    pub const GREY: Self = Self(0x76, 0x7b, 0x82);
    /// Vermillion.
    pub const VERMILLION: Self = Self(0xd5, 0x5e, 0x00);
    /// Violet.
    pub const VIOLET: Self = Self(0x9a, 0x45, 0xe6);
    /// Blue.
    pub const BLUE: Self = Self(0x00, 0x72, 0xb2);
    /// Bluish green.
    pub const GREEN: Self = Self(0x00, 0x9e, 0x73);
    /// Dark amber.
    pub const AMBER: Self = Self(0xa8, 0x79, 0x00);
    /// Dark pink.
    pub const PINK: Self = Self(0xc2, 0x50, 0x9a);
}

impl From<Color> for String {
    fn from(Color(r, g, b): Color) -> Self {
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}

/// An initialisation has the same colour in every figure.
impl From<InitStrategy> for Color {
    fn from(strategy: InitStrategy) -> Self {
        match strategy {
            InitStrategy::Zeros => Self::GREY,
            InitStrategy::StandardNormal => Self::VERMILLION,
            InitStrategy::SmallNormal => Self::VIOLET,
            InitStrategy::Xavier => Self::BLUE,
            InitStrategy::He => Self::GREEN,
        }
    }
}

/// So has a normalisation.
impl From<Normalization> for Color {
    fn from(norm: Normalization) -> Self {
        match norm {
            Normalization::None => Self::INK,
            Normalization::Batch => Self::AMBER,
            Normalization::Burn => Self::PINK,
        }
    }
}

/// One axis of a [`Panel`].
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with its unit.
    pub label: String,
    /// Where it starts and ends.
    pub range: [f64; 2],
    /// Whether equal steps are equal factors; the range is then positive.
    pub log: bool,
}

impl Axis {
    /// An axis of equal steps.
    pub fn linear(label: impl Into<String>, range: [f64; 2]) -> Self {
        Self {
            label: label.into(),
            range,
            log: false,
        }
    }

    /// An axis of equal factors.
    pub fn log(label: impl Into<String>, range: [f64; 2]) -> Self {
        Self {
            log: true,
            ..Self::linear(label, range)
        }
    }
}

/// How the points of a [`Series`] are drawn. Lines and dots end where they leave the axes, and a
/// triangle at the edge points to where they go; bars and bands are cut there. A point that is not a
/// number, or has no logarithm on a logarithmic axis, is left out.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A line through `(x, y)`.
    Line(Vec<[f64; 2]>),
    /// A dashed line through `(x, y)`.
    Dashed(Vec<[f64; 2]>),
    /// A dot at each `(x, y)`.
    Dots(Vec<[f64; 2]>),
    /// A bar from `x` to `x'`, as high as `y`, for each `(x, x', y)`.
    Bars(Vec<[f64; 3]>),
    /// The area between `y` and `y'` for each `(x, y, y')`.
    Band(Vec<[f64; 3]>),
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// The name in the legend; series without one are not in it.
    pub label: String,
    /// The colour.
    pub color: Color,
    /// The points.
    pub shape: Shape,
}

impl Series {
    /// A series with its name in the legend.
    pub fn new(label: impl Into<String>, color: impl Into<Color>, shape: Shape) -> Self {
        Self {
            label: label.into(),
            color: color.into(),
            shape,
        }
    }

    /// The median of repeated measurements as a line, and from the least to the largest as a band.
    /// Each of `points` is an x and what was measured there.
    pub fn spread(
        label: impl Into<String>,
        color: impl Into<Color>,
        points: impl IntoIterator<Item = (f64, Vec<f64>)>,
    ) -> [Self; 2] {
        let color = color.into();
        let (mut line, mut band) = (Vec::new(), Vec::new());
        for (x, values) in points {
            let [low, middle, high] = spread(&values);
            line.push([x, middle]);
            band.push([x, low, high]);
        }
        [
            Self::new("", color, Shape::Band(band)),
            Self::new(label, color, Shape::Line(line)),
        ]
    }

    /// The series with its line dashed, so that another one can be seen beneath.
    pub fn dashed(self) -> Self {
        self.with_line(Shape::Dashed)
    }

    /// The series with the points of its line dotted.
    pub fn dotted(self) -> Self {
        self.with_line(Shape::Dots)
    }

    fn with_line(mut self, shape: fn(Vec<[f64; 2]>) -> Shape) -> Self {
        if let Shape::Line(points) = self.shape {
            self.shape = shape(points);
        }
        self
    }

    /// The points of a line, dashed or not, or of dots.
    fn points(&self) -> &[[f64; 2]] {
        match &self.shape {
            Shape::Line(points) | Shape::Dashed(points) | Shape::Dots(points) => points,
            Shape::Bars(_) | Shape::Band(_) => &[],
        }
    }
}

/// The least, the median and the largest of some values; NaN counts as larger than any.
///
/// # Panics
///
/// If there are none.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted: Vec<f64> = values
        .iter()
        .map(|&value| if value.is_nan() { f64::INFINITY } else { value })
        .collect();
    sorted.sort_by(f64::total_cmp);
    let (last, middle) = (sorted.len() - 1, sorted.len() / 2);
    let median = match sorted.len() % 2 {
        1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    };
    [sorted[0], median, sorted[last]]
}

/// The median of some values; NaN counts as larger than any.
///
/// # Panics
///
/// If there are none.
pub fn median(values: &[f64]) -> f64 {
    spread(values)[1]
}

/// One pair of axes and what is drawn in it.
#[derive(Clone, Debug)]
pub struct Panel {
    /// A line above the axes.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn, in this order.
    pub series: Vec<Series>,
}

impl Panel {
    /// Where each named curve starts and ends: a sentence.
    fn curves(&self) -> Option<String> {
        let named = self.series.iter().filter(|it| !it.label.is_empty());
        let curves: Vec<String> = named
            .filter_map(|series| {
                let ([_, first], [_, last]) = (series.points().first()?, series.points().last()?);
                let (first, last) = (said(*first), said(*last));
                Some(match first == last {
                    true => format!("{} {first}", series.label),
                    false => format!("{} {first} to {last}", series.label),
                })
            })
            .collect();
        let title = match self.title.is_empty() {
            true => String::new(),
            false => format!("{}, ", self.title),
        };
        (!curves.is_empty()).then(|| {
            format!(
                "{title}{}, from the left end to the right: {}.",
                self.y.label,
                curves.join("; ")
            )
        })
    }

    /// Whether a curve leaves the axes.
    fn leaves(&self) -> bool {
        let mut points = self.series.iter().flat_map(|series| series.points());
        points.any(|&point| self.beyond(point).is_some())
    }
}

/// A number as it is read out.
fn said(value: f64) -> String {
    match value.is_finite() {
        true => Number(value).to_string(),
        false => "no finite number".into(),
    }
}

/// Panels side by side.
#[derive(Clone, Debug)]
pub struct Row {
    /// What they have in common.
    pub label: String,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// A figure: panels in rows, drawn as one picture in a file; on the page, panel by panel, and with
/// [`steps`](Self::steps) one row at a time.
#[derive(Clone, Debug)]
pub struct Figure {
    /// Name of its files.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How to read it. What its curves come to is said by [`numbers`](Self::numbers).
    pub text: String,
    /// What a reader steps through, if the rows are to be shown one by one: `strategy`, `epoch`.
    pub steps: Option<String>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// What the name of a legend stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) color: Color,
    pub(super) stroke: Stroke,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Figure {
    /// A figure of which all is shown at once.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        text: impl Into<String>,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            text: text.into(),
            steps: None,
            rows,
        }
    }

    /// Shows the rows one by one; `what` says what they are.
    pub fn stepped(mut self, what: impl Into<String>) -> Self {
        self.steps = Some(what.into());
        self
    }

    /// How to read the figure, its triangles included.
    pub fn caption(&self) -> String {
        let mut panels = self.rows.iter().flat_map(|row| &row.panels);
        match panels.any(Panel::leaves) {
            true => format!(
                "{} A triangle at the edge marks where a curve leaves the axis, or where it has no finite \
                 numbers any more.",
                self.text
            ),
            false => self.text.clone(),
        }
    }

    /// Where each curve starts and ends, for those who do not see it: a sentence a panel, in a figure of
    /// a few panels that are not stepped through.
    pub fn numbers(&self) -> Vec<String> {
        let panels: Vec<&Panel> = self.rows.iter().flat_map(|row| &row.panels).collect();
        match self.steps.is_none() && panels.len() <= 4 {
            true => panels.into_iter().filter_map(Panel::curves).collect(),
            false => Vec::new(),
        }
    }

    /// The names of the series, each once, in the order in which they are drawn.
    pub(super) fn legend(&self) -> Vec<(&str, Key)> {
        let mut legend: Vec<(&str, Key)> = Vec::new();
        let panels = self.rows.iter().flat_map(|row| &row.panels);
        for series in panels.flat_map(|panel| &panel.series) {
            let key = Key {
                color: series.color,
                stroke: match series.shape {
                    Shape::Dashed(_) => Stroke::Dashed,
                    Shape::Dots(_) => Stroke::Dotted,
                    _ => Stroke::Solid,
                },
            };
            let entry = (series.label.as_str(), key);
            if !series.label.is_empty() && !legend.contains(&entry) {
                legend.push(entry);
            }
        }
        legend
    }
}
