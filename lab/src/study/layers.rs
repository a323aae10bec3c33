//! Histograms and gradients of observed layers.

use burn_kindling::init::Activation;
use burn_kindling::observe::{Layer, Summary};

use crate::figure::{Axis, Color, Panel, Series, Shape};

/// The range of an activation's outputs that histograms cover. It is the same for all layers, which makes the
/// histograms comparable.
pub(super) fn output_range(activation: Activation) -> [f64; 2] {
    match activation {
        Activation::Sigmoid => [0.0, 1.0],
        Activation::Tanh => [-1.0, 1.0],
        _ => [0.0, 4.0],
    }
}

/// The std of the gradient at a layer's outputs; 0 if no gradient reached it.
pub(super) fn gradient(layer: &Layer) -> f64 {
    layer.gradient.as_ref().map_or(0.0, |gradient| gradient.std)
}

/// A histogram of the outputs of layer `depth`, counted from 0, or of their gradients. Its notes are the std and what
/// lies off the axis.
pub(super) fn histogram(values: &Summary, depth: usize, color: Color, x: Axis) -> Panel {
    let bars = shares(values, x.range);
    let drawn: f64 = bars.iter().map(|bar| bar[2]).sum();
    let finite = values.count - values.nan - values.infinite;
    let beyond = finite as f64 / values.count as f64 - drawn;
    let beyond = (beyond > 0.005).then(|| format!("{:.0} % off axis", 100.0 * beyond));
    let std = match values.std.is_nan() {
        true => "not finite".into(),
        false => format!("std {}", short(values.std)),
    };
    Panel::new(x, Axis::linear("share", [0.0, 0.5]))
        .titled(format!("layer {}", depth + 1))
        .noted([std].into_iter().chain(beyond))
        .with([Series::new("", color, Shape::Bars(bars))])
}

/// A [`histogram`] of outputs, which also notes their spread between inputs.
pub(super) fn output_histogram(values: &Summary, depth: usize, color: Color, x: Axis) -> Panel {
    let mut panel = histogram(values, depth, color, x);
    if values.spread.is_finite() {
        panel
            .notes
            .insert(1, format!("inputs {}", short(values.spread)));
    }
    panel
}

/// A number in as few digits as a small picture has room for.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        0.01..10.0 => format!("{value:.3}"),
        0.0001..0.01 => format!("{value:.4}"),
        10.0..1000.0 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

/// Bins the values again over `[low, high]`: `(from, to, share)` of each bin. Assumes that values are spread evenly
/// over each bin of the original histogram.
fn shares(values: &Summary, [low, high]: [f64; 2]) -> Vec<[f64; 3]> {
    let histogram = &values.histogram;
    let bins = histogram.counts.len();
    let width = (high - low) / bins as f64;
    let mut bars: Vec<[f64; 3]> = (0..bins)
        .map(|i| [low + width * i as f64, low + width * (i + 1) as f64, 0.0])
        .collect();
    // If all values are equal, the bins have no width.
    let edges = match values.std {
        0.0 => vec![values.mean; bins + 1],
        _ => histogram.edges(),
    };
    for (ends, &count) in edges.windows(2).zip(&histogram.counts) {
        for bar in bars.iter_mut().filter(|_| count > 0) {
            let common = ends[1].min(bar[1]) - ends[0].max(bar[0]);
            let share = match ends[1] - ends[0] {
                0.0 => f64::from(u8::from(bar[0] <= ends[0] && ends[0] < bar[1])),
                length => common.max(0.0) / length,
            };
            bar[2] += share * count as f64 / values.count as f64;
        }
    }
    bars
}
