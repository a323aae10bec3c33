//! Axes, and clipping of shapes to them.

/// One axis of a [`Panel`](super::Panel).
#[derive(Clone, Debug)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// The values at the two ends.
    pub range: [f64; 2],
    /// Whether the axis is logarithmic; its range must then be positive.
    pub log: bool,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>, range: [f64; 2]) -> Self {
        Self {
            label: label.into(),
            range,
            log: false,
        }
    }

    /// A logarithmic axis.
    pub fn log(label: impl Into<String>, range: [f64; 2]) -> Self {
        Self {
            log: true,
            ..Self::linear(label, range)
        }
    }

    /// The range in drawn coordinates: powers of ten on a logarithmic axis.
    pub(super) fn ends(&self) -> [f64; 2] {
        self.range.map(|end| self.coordinate(end))
    }

    fn coordinate(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    /// A value in drawn coordinates, clamped to the axis; `None` if it is NaN or has no logarithm.
    pub(super) fn cut(&self, value: f64) -> Option<f64> {
        let [from, to] = self.ends();
        let value = self.coordinate(value);
        (!value.is_nan() && value != f64::NEG_INFINITY).then(|| value.clamp(from, to))
    }

    /// The number of ticks that the axis has room for.
    pub(super) fn ticks(&self) -> usize {
        let [from, to] = self.ends();
        match self.log {
            true => ((to - from).abs().round() as usize + 1).min(9),
            false => 6,
        }
    }

    /// Whether the axis is logarithmic and too short for ticks at powers of ten alone.
    fn is_short(&self) -> bool {
        let [from, to] = self.ends();
        self.log && to - from < 2.0
    }

    /// The ticks of a short logarithmic axis, in drawn coordinates: 1, 2 and 5 times each power of ten.
    pub(super) fn fine_ticks(&self) -> Option<Vec<f64>> {
        let [from, to] = self.ends();
        let powers = from.floor() as i32..=to.floor() as i32;
        let ticks =
            powers.flat_map(|power| [1.0_f64, 2.0, 5.0].map(|it| f64::from(power) + it.log10()));
        self.is_short()
            .then(|| ticks.filter(|tick| (from..=to).contains(tick)).collect())
    }

    /// The text at a tick, given in drawn coordinates.
    pub(super) fn tick(&self, value: f64) -> String {
        match self.log {
            true if self.is_short() => number(10f64.powf(value)),
            true if (value - value.round()).abs() > 1e-6 => String::new(),
            true if (-3.0..=4.0).contains(&value) => number(10f64.powf(value.round())),
            true => format!("1e{value:.0}"),
            false => number(value),
        }
    }
}

/// A number with at most four decimals.
fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".into(),
        text => text.into(),
    }
}

/// A point in drawn coordinates.
pub(super) type Place = (f64, f64);

/// The two axes of a [`Panel`](super::Panel).
#[derive(Clone, Debug)]
pub struct Axes {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
}

impl Axes {
    /// Where a point is drawn; `None` if it is not finite.
    fn place(&self, [x, y]: [f64; 2]) -> Option<Place> {
        let (x, y) = (self.x.coordinate(x), self.y.coordinate(y));
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }

    /// The nearest place on the upper or lower edge, if a point lies beyond that edge. NaN counts as above.
    pub(super) fn beyond(&self, [x, y]: [f64; 2]) -> Option<Place> {
        let [bottom, top] = self.y.ends();
        let (x, place) = (self.x.cut(x)?, self.y.coordinate(y));
        match place {
            _ if y.is_nan() || place > top => Some((x, top)),
            _ if place < bottom && place.is_finite() => Some((x, bottom)),
            _ => None,
        }
    }

    /// The places of all points that do not lie beyond an edge.
    pub(super) fn dots(&self, points: &[[f64; 2]]) -> Vec<Place> {
        let inside = points.iter().filter(|&&it| self.beyond(it).is_none());
        inside.filter_map(|&it| self.place(it)).collect()
    }

    /// The places at which a curve leaves the axes at the upper or lower edge: one per stretch outside, and whether it
    /// is the upper edge.
    pub(super) fn exits(&self, points: &[[f64; 2]]) -> Vec<(Place, bool)> {
        let top = self.y.ends()[1];
        let mut before = None;
        let mut exits = Vec::new();
        for &point in points {
            let beyond = self.beyond(point);
            let edge = beyond.map(|(_, y)| y);
            if let Some(place) = beyond
                && edge != before
            {
                exits.push((place, place.1 == top));
            }
            before = edge;
        }
        exits
    }

    /// The parts of a line that lie within the axes.
    pub(super) fn visible(&self, points: &[[f64; 2]]) -> Vec<Vec<Place>> {
        let mut runs: Vec<Vec<Place>> = Vec::new();
        for ends in points.windows(2) {
            let ends = self.place(ends[0]).zip(self.place(ends[1]));
            let Some((from, to)) = ends.and_then(|(from, to)| self.within(from, to)) else {
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
    fn within(&self, from: Place, to: Place) -> Option<(Place, Place)> {
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

    /// The area between `y` and `y'` of each `(x, y, y')`, as polygons cut at the edges. Stretches outside are left
    /// out.
    pub(super) fn areas(&self, points: &[[f64; 3]]) -> Vec<Vec<Place>> {
        let edge = |&[x, low, high]: &[f64; 3]| {
            let (low, high) = (self.y.cut(low)?, self.y.cut(high)?);
            let outside = low == high && self.y.ends().contains(&low);
            (!outside).then_some((self.x.cut(x)?, low, high))
        };
        let edges: Vec<_> = points.iter().map(edge).collect();
        let runs = edges.split(Option::is_none).map(|run| {
            let run = run.iter().flatten();
            let there = run.clone().map(|&(x, low, _)| (x, low));
            there
                .chain(run.rev().map(|&(x, _, high)| (x, high)))
                .collect()
        });
        runs.collect()
    }
}
