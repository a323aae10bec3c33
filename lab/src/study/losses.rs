//! Curves of training losses.

use crate::train::TrainingStep;

/// Steps per point of a curve.
pub(super) const SMOOTH: usize = 25;

/// The loss of a step, in nats; `None` if it is not finite.
pub(super) fn loss(step: &TrainingStep) -> Option<f64> {
    let loss = step.loss.clone().into_scalar::<f64>();
    loss.is_finite().then_some(loss)
}

/// The means of each [`SMOOTH`] losses in a row; `None` if one of them is not finite.
pub(super) fn smooth(losses: &[Option<f64>]) -> Vec<Option<f64>> {
    let blocks = losses.chunks_exact(SMOOTH);
    let sums = blocks.map(|block| block.iter().copied().sum::<Option<f64>>());
    sums.map(|sum| sum.map(|sum| sum / SMOOTH as f64)).collect()
}

/// The step in the middle of point `i` of a [smoothed](smooth) curve.
fn middle(i: usize) -> f64 {
    (i as f64 + 0.5) * SMOOTH as f64
}

/// The points `(step, loss)` of a [smoothed](smooth) curve; infinite if the loss is not finite.
pub(super) fn curve(smoothed: &[Option<f64>]) -> Vec<[f64; 2]> {
    let points = smoothed.iter().enumerate();
    points
        .map(|(i, loss)| [middle(i), loss.unwrap_or(f64::INFINITY)])
        .collect()
}

/// The step at which a [smoothed](smooth) curve first falls below a loss of 1; infinite if it never does.
pub(super) fn steps_to_1(smoothed: &[Option<f64>]) -> f64 {
    steps_to(1.0, smoothed)
}

/// The step at which a [smoothed](smooth) curve first falls below a loss; infinite if it never does.
pub(super) fn steps_to(level: f64, smoothed: &[Option<f64>]) -> f64 {
    let below = |loss: &Option<f64>| loss.is_some_and(|loss| loss < level);
    smoothed
        .iter()
        .position(below)
        .map_or(f64::INFINITY, middle)
}
