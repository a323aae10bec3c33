use serde::Serialize;

use crate::init::InitStrategy;
use crate::lab::model::Normalization;

/// A colour of Okabe and Ito's palette, told apart by colour-blind readers too, or ink, which is
/// black on paper and follows the text on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// The colour of text: almost black, so that it can be told from every other.
    pub const INK: Self = Self(0x1a, 0x1b, 0x1c);
    /// Grey, for what is in the background.
    pub const GREY: Self = Self(0x80, 0x80, 0x80);
    /// Orange.
    pub const ORANGE: Self = Self(0xe6, 0x9f, 0x00);
    /// Sky blue.
    pub const SKY: Self = Self(0x56, 0xb4, 0xe9);
    /// Bluish green.
    pub const GREEN: Self = Self(0x00, 0x9e, 0x73);
    /// Blue.
    pub const BLUE: Self = Self(0x00, 0x72, 0xb2);
    /// Vermillion.
    pub const VERMILLION: Self = Self(0xd5, 0x5e, 0x00);
    /// Reddish purple.
    pub const PURPLE: Self = Self(0xcc, 0x79, 0xa7);
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
            InitStrategy::SmallNormal => Self::ORANGE,
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
            Normalization::Batch => Self::SKY,
            Normalization::Burn => Self::PURPLE,
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

/// How the points of a [`Series`] are drawn. What lies beyond an axis is drawn at its end; a point
/// that is not finite, or not positive on a logarithmic axis, is left out.
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
    pub fn dashed(mut self) -> Self {
        if let Shape::Line(points) = self.shape {
            self.shape = Shape::Dashed(points);
        }
        self
    }
}

/// The least, the median and the largest of some values; those that are not finite count as larger
/// than any.
///
/// # Panics
///
/// If there are none.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let mut sorted: Vec<f64> = values
        .iter()
        .map(|&value| {
            if value.is_finite() {
                value
            } else {
                f64::INFINITY
            }
        })
        .collect();
    sorted.sort_by(f64::total_cmp);
    let (last, middle) = (sorted.len() - 1, sorted.len() / 2);
    let median = match sorted.len() % 2 {
        1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    };
    [sorted[0], median, sorted[last]]
}

/// The median of some values; those that are not finite count as larger than any.
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
    /// What there is to see in it, for those who do not.
    pub alt: String,
    /// What a reader steps through, if the rows are to be shown one by one: `strategy`, `epoch`.
    pub steps: Option<String>,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// What the name of a legend stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) color: Color,
    pub(super) dashed: bool,
}

impl Figure {
    /// A figure of which all is shown at once.
    pub fn new(
        name: impl Into<String>,
        title: impl Into<String>,
        alt: impl Into<String>,
        rows: Vec<Row>,
    ) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            alt: alt.into(),
            steps: None,
            rows,
        }
    }

    /// Shows the rows one by one; `what` says what they are.
    pub fn stepped(mut self, what: impl Into<String>) -> Self {
        self.steps = Some(what.into());
        self
    }

    /// The names of the series, each once, in the order in which they are drawn.
    pub(super) fn legend(&self) -> Vec<(&str, Key)> {
        let mut legend: Vec<(&str, Key)> = Vec::new();
        let panels = self.rows.iter().flat_map(|row| &row.panels);
        for series in panels.flat_map(|panel| &panel.series) {
            let key = Key {
                color: series.color,
                dashed: matches!(series.shape, Shape::Dashed(_)),
            };
            let entry = (series.label.as_str(), key);
            if !series.label.is_empty() && !legend.contains(&entry) {
                legend.push(entry);
            }
        }
        legend
    }
}
