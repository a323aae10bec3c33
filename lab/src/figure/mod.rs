//! Describes figures, and draws them.
//!
//! A [`Figure`] has the same content as SVG, as PNG and on the [`page`](crate::page), which chooses the size of its
//! panels.

mod axes;
mod color;
mod draw;
mod grid;
mod pen;

pub use axes::{Axes, Axis};
pub use color::{Color, Mark};
pub(crate) use draw::Look;

use crate::number::Number;

/// The points of a [`Series`], as `f64` values on the axes.
///
/// A line ends where it leaves the axes, and a triangle at the edge marks the place. Other shapes are cut at the
/// edges. Points that are NaN, or have no logarithm on a logarithmic axis, are left out.
#[derive(Clone, Debug)]
pub enum Shape {
    /// A line through the points `(x, y)`.
    Line(Vec<[f64; 2]>),
    /// A bar from `x` to `x'` of height `y` for each `(x, x', y)`.
    Bars(Vec<[f64; 3]>),
    /// The area between `y` and `y'` for each `(x, y, y')`.
    Band(Vec<[f64; 3]>),
    /// The cells of a heat map.
    Cells(Vec<Cell>),
}

/// A cell of a heat map.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// From the left edge to the right one.
    pub x: [f64; 2],
    /// From the lower edge to the upper one.
    pub y: [f64; 2],
    /// The opacity of the colour, 0 to 1. A cell that is NaN is left out.
    pub share: f64,
}

/// The shares that a legend shows for [`Shape::Cells`].
pub(crate) const SCALE: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// How a [`Shape::Line`] is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    /// A continuous line.
    Solid,
    /// A dashed line, so that a line below it shows through.
    Dashed,
    /// A dot at each point.
    Dotted,
}

/// Points with a colour and a name.
#[derive(Clone, Debug)]
pub struct Series {
    /// The name in the legend; a series with an empty name has no entry.
    pub label: String,
    /// The colour.
    pub color: Color,
    /// How the line is drawn, if it is one.
    pub stroke: Stroke,
    /// The points.
    pub shape: Shape,
}

impl Series {
    /// A series of any shape; lines are solid.
    pub fn new(label: impl Into<String>, color: impl Into<Color>, shape: Shape) -> Self {
        Self {
            label: label.into(),
            color: color.into(),
            stroke: Stroke::Solid,
            shape,
        }
    }

    /// A solid line through the points `(x, y)`.
    pub fn line(
        label: impl Into<String>,
        color: impl Into<Color>,
        points: impl IntoIterator<Item = [f64; 2]>,
    ) -> Self {
        Self::new(label, color, Shape::Line(points.into_iter().collect()))
    }

    /// Repeated measurements: a band from the smallest to the largest value, and a line through the medians. Each
    /// point is an x and the values measured there.
    pub fn spread(
        label: impl Into<String>,
        color: impl Into<Color>,
        points: impl IntoIterator<Item = (f64, Vec<f64>)>,
    ) -> [Self; 2] {
        let color = color.into();
        let points = points.into_iter().map(|(x, values)| (x, spread(&values)));
        let (line, band) = points
            .map(|(x, [low, middle, high])| ([x, middle], [x, low, high]))
            .unzip();
        [
            Self::new("", color, Shape::Band(band)),
            Self::new(label, color, Shape::Line(line)),
        ]
    }

    /// Sets how the line is drawn.
    pub fn stroke(mut self, stroke: Stroke) -> Self {
        self.stroke = stroke;
        self
    }

    /// The points of a line; none for other shapes.
    fn points(&self) -> &[[f64; 2]] {
        match &self.shape {
            Shape::Line(points) => points,
            Shape::Bars(_) | Shape::Band(_) | Shape::Cells(_) => &[],
        }
    }
}

/// The smallest value, the median and the largest value. NaN counts as infinity.
///
/// # Panics
///
/// If `values` is empty.
pub fn spread(values: &[f64]) -> [f64; 3] {
    let order = |&value: &f64| if value.is_nan() { f64::INFINITY } else { value };
    let mut sorted: Vec<f64> = values.iter().map(order).collect();
    sorted.sort_by(f64::total_cmp);
    let (last, middle) = (sorted.len() - 1, sorted.len() / 2);
    let median = match sorted.len() % 2 {
        1 => sorted[middle],
        _ => 0.5 * (sorted[middle - 1] + sorted[middle]),
    };
    [sorted[0], median, sorted[last]]
}

/// The median. NaN counts as infinity.
///
/// # Panics
///
/// If `values` is empty.
pub fn median(values: &[f64]) -> f64 {
    spread(values)[1]
}

/// One pair of axes and the series drawn in it.
#[derive(Clone, Debug)]
pub struct Panel {
    /// A line above the axes; may be empty.
    pub title: String,
    /// Numbers to print: after the title, or one below the other in the cell of a grid.
    pub notes: Vec<String>,
    /// The axes.
    pub axes: Axes,
    /// The series, in drawing order.
    pub series: Vec<Series>,
}

impl Panel {
    /// An empty panel without a title.
    pub fn new(x: Axis, y: Axis) -> Self {
        Self {
            title: String::new(),
            notes: Vec::new(),
            axes: Axes { x, y },
            series: Vec::new(),
        }
    }

    /// Sets the title.
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Sets the notes.
    pub fn noted(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes = notes.into_iter().collect();
        self
    }

    /// The title and the notes, in one line.
    fn heading(&self) -> String {
        match self.notes.is_empty() {
            true => self.title.clone(),
            false => format!("{}: {}", self.title, self.notes.join(", ")),
        }
    }

    /// Adds series.
    pub fn with(mut self, series: impl IntoIterator<Item = Series>) -> Self {
        self.series.extend(series);
        self
    }

    /// Where each named curve starts and ends; `None` without any.
    fn ends(&self) -> Option<Ends> {
        let named = self.series.iter().filter(|it| !it.label.is_empty());
        let curves = named.filter_map(|series| {
            let ([_, first], [_, last]) = (series.points().first()?, series.points().last()?);
            Some((series.label.clone(), [said(*first), said(*last)]))
        });
        let ends = Ends {
            panel: self.title.clone(),
            quantity: self.axes.y.label.clone(),
            curves: curves.collect(),
        };
        (!ends.curves.is_empty()).then_some(ends)
    }

    /// Whether a curve leaves the axes.
    fn leaves(&self) -> bool {
        let mut points = self.series.iter().flat_map(Series::points);
        points.any(|&point| self.axes.beyond(point).is_some())
    }
}

/// Where the named curves of a panel start and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The title of the panel; may be empty.
    pub panel: String,
    /// The label of the y axis.
    pub quantity: String,
    /// The name of each curve, and its values at the left end and at the right one.
    pub curves: Vec<(String, [String; 2])>,
}

/// A number as words.
fn said(value: f64) -> String {
    match value.is_finite() {
        true => Number(value).to_string(),
        false => "no finite number".into(),
    }
}

/// Panels side by side.
#[derive(Clone, Debug)]
pub struct Row {
    /// A line above the panels; may be empty.
    pub label: String,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// Panels in rows, drawn into one picture. The page shows the panels separately, one row at a time if
/// [`steps`](Self::steps) is set, or all of them as small multiples if it is a [`grid`](Self::grid).
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its files, without the extension.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// How to read it. [`numbers`](Self::numbers) puts the curves into words.
    pub text: String,
    /// What the rows are, if the page shows them one at a time: `strategy`, `epoch`.
    pub steps: Option<String>,
    /// Whether the panels are small multiples: all have the same axes, and are drawn in cells that share them.
    pub grid: bool,
    /// Whether the page folds the figure away: it adds detail that the story does not need.
    pub folded: bool,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

impl Figure {
    /// A figure without rows.
    pub fn new(name: impl Into<String>, title: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            title: title.into(),
            text: text.into(),
            steps: None,
            grid: false,
            folded: false,
            rows: Vec::new(),
        }
    }

    /// Adds a row of one panel.
    pub fn panel(self, panel: Panel) -> Self {
        self.row("", [panel])
    }

    /// Adds a row.
    pub fn row(
        mut self,
        label: impl Into<String>,
        panels: impl IntoIterator<Item = Panel>,
    ) -> Self {
        self.rows.push(Row {
            label: label.into(),
            panels: panels.into_iter().collect(),
        });
        self
    }

    /// Makes the page show one row at a time; `what` names the rows.
    pub fn stepped(mut self, what: impl Into<String>) -> Self {
        self.steps = Some(what.into());
        self
    }

    /// Makes the panels small multiples.
    pub fn as_grid(mut self) -> Self {
        self.grid = true;
        self
    }

    /// Makes the page fold the figure away.
    pub fn fold(mut self) -> Self {
        self.folded = true;
        self
    }

    /// Whether the figure is a single panel.
    pub(crate) fn is_single(&self) -> bool {
        self.panels().count() == 1
    }

    fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    /// How to read the figure, including its triangles: one text or two.
    pub fn caption(&self) -> Vec<String> {
        const TRIANGLES: &str =
            "A triangle at the edge marks where a curve leaves the axis or stops being finite.";
        let triangles = self.panels().any(Panel::leaves).then(|| TRIANGLES.into());
        [self.text.clone()].into_iter().chain(triangles).collect()
    }

    /// Where each curve starts and ends, for readers who cannot see it. Empty if the figure has more than six panels or
    /// does not show all at once.
    pub fn numbers(&self) -> Vec<Ends> {
        match self.steps.is_none() && self.panels().count() <= 6 {
            true => self.panels().filter_map(Panel::ends).collect(),
            false => Vec::new(),
        }
    }

    /// The named series in drawing order. Each combination of name, colour and stroke appears once.
    pub(crate) fn legend(&self) -> Vec<&Series> {
        let mut legend: Vec<&Series> = Vec::new();
        for series in self.panels().flat_map(|panel| &panel.series) {
            let key = |it: &Series| (it.label.clone(), it.color, it.stroke);
            if !series.label.is_empty() && !legend.iter().any(|it| key(it) == key(series)) {
                legend.push(series);
            }
        }
        legend
    }
}
