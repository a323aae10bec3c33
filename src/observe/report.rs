//! The statistics of one training step.

use serde::{Deserialize, Deserializer, Serialize};

use crate::init::Activation;

/// The statistics of one training step: one [`Layer`] per point passed, in the order of the forward pass, and one
/// [`Parameter`] per parameter.
///
/// It prints as two aligned tables for the terminal, and supports serde. A number without a value, such as the mean of
/// an empty tensor, is NaN, or `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The tensors at the points.
    pub layers: Vec<Layer>,
    /// The parameters. Empty without [`Observation::backward`](super::Observation::backward).
    pub parameters: Vec<Parameter>,
}

/// The tensor at one [`Point`](super::Point).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The name of the point.
    pub name: String,
    /// The shape of the tensor.
    pub shape: Vec<usize>,
    /// The activation before the point, if the point declares it.
    pub activation: Option<Activation>,
    /// Statistics of its values.
    pub data: Summary,
    /// Statistics of the gradient of the loss with respect to the tensor. `None` if the backward pass was not seen or
    /// did not reach it.
    pub gradient: Option<Summary>,
    /// Number of units: the length of the [axis of units](super::Point::units_along).
    pub units: usize,
    /// Share of the values, 0 to 1, at which the slope of the activation is close to 0: beyond ±0.97 for tanh, below
    /// 0.03 or above 0.97 for sigmoid, at 0 for ReLU. `None` after any other activation, or without one.
    pub saturated: Option<f64>,
    /// Number of units that are inactive for the whole batch: all their values are saturated. After an activation that
    /// does not saturate, or without one: all their values are 0.
    pub dead: usize,
    /// Number of units that are copies of another one. The first of each kind is not counted: 99 if 100 units are
    /// equal.
    ///
    /// Two units are copies if none of their values in the batch differ by more than a ten-thousandth of the largest
    /// magnitude in the layer, which allows for rounding and for the epsilon of batch norm. Dead units at 0 are copies
    /// of one another.
    pub duplicates: usize,
}

/// A parameter of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its path in the module, such as `hidden.0.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Population standard deviation of its values before the step.
    #[serde(deserialize_with = "nan_for_null")]
    pub std: f64,
    /// Root mean square of its values before the step.
    #[serde(deserialize_with = "nan_for_null")]
    pub rms: f64,
    /// Population standard deviation of its gradient. `None` if the backward pass did not reach it.
    pub gradient_std: Option<f64>,
    /// Root mean square of the optimizer's update: the values after the step minus the values before it. `None` if the
    /// step was not seen.
    pub update_rms: Option<f64>,
}

impl Parameter {
    /// The std of the gradient divided by the std of the values. `None` if there is no gradient.
    pub fn gradient_to_data(&self) -> Option<f64> {
        Some(self.gradient_std? / self.std)
    }

    /// log10 of the root mean square of the update divided by that of the values. `None` if the step was not seen.
    ///
    /// In healthy training it is about -3 with SGD (Karpathy, makemore part 3), and up to -1 in the first steps of
    /// Adam; see the [module](super#what-to-look-for). It is infinite or NaN if all values are 0, as in a bias at the
    /// start.
    ///
    /// Karpathy compares standard deviations. For weights, whose mean is near 0, these are the same. But Adam's first
    /// steps move all values by the same amount, and a norm's gamma starts with all values equal: their std says
    /// nothing about the size.
    pub fn update_to_data(&self) -> Option<f64> {
        Some((self.update_rms? / self.rms).log10())
    }
}

/// Statistics of all values of a tensor.
///
/// NaN and infinite values are counted. All other statistics leave them out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of values, NaN and infinite ones included.
    pub count: usize,
    /// Number of NaN values.
    pub nan: usize,
    /// Number of infinite values.
    pub infinite: usize,
    /// Mean.
    #[serde(deserialize_with = "nan_for_null")]
    pub mean: f64,
    /// Population standard deviation: the sum of squares is divided by the count, not by one less.
    #[serde(deserialize_with = "nan_for_null")]
    pub std: f64,
    /// How much the values differ between inputs: the population standard deviation over the axes before the axis of
    /// [units](super::Point::units_along), such as the batch; root mean square over the units and the axes after it.
    ///
    /// `std` also counts how the units differ from one another. So a layer whose output hardly depends on its input
    /// any more may have a healthy `std`, and a spread near 0.
    #[serde(default = "nan", deserialize_with = "nan_for_null")]
    pub spread: f64,
    /// Minimum.
    #[serde(deserialize_with = "nan_for_null")]
    pub min: f64,
    /// Maximum.
    #[serde(deserialize_with = "nan_for_null")]
    pub max: f64,
    /// Share of the values, 0 to 1, that are exactly 0. NaN and infinite values count in the total.
    #[serde(deserialize_with = "nan_for_null")]
    pub zeros: f64,
    /// The percentiles chosen with [`with_percentiles`](super::Observer::with_percentiles), in that order.
    ///
    /// They are exact for up to 16,384 values. For more, they are computed from an evenly spread sample of 16,384
    /// values: the standard error of a rank is at most 0.4 percentage points.
    pub percentiles: Vec<Percentile>,
    /// Histogram.
    pub histogram: Histogram,
}

/// The value below which a given share of the values lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// The share, in percent, 0 to 100.
    pub rank: f64,
    /// The value, interpolated linearly between the two closest ones, as in NumPy.
    #[serde(deserialize_with = "nan_for_null")]
    pub value: f64,
}

/// Counts of values in bins of equal width.
///
/// A bin includes its lower edge; the last bin also includes its upper edge. Rounding in the tensor's float type may
/// put a value at an edge into the neighbouring bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Lower edge of the first bin and upper edge of the last one: the range chosen with
    /// [`with_range`](super::Observer::with_range), or else the range of the data. The range has a width of 1 around a
    /// single value, and is NaN without any value. With
    /// [`with_gradient_decades`](super::Observer::with_gradient_decades), the edges for a gradient are log10 of
    /// magnitudes.
    #[serde(deserialize_with = "nan_for_nulls")]
    pub range: [f64; 2],
    /// Number of values in each bin.
    pub counts: Vec<usize>,
    /// Number of values below the range.
    pub below: usize,
    /// Number of values above the range.
    pub above: usize,
}

impl Summary {
    /// The root mean square of the values.
    pub fn rms(&self) -> f64 {
        self.mean.hypot(self.std)
    }
}

impl Histogram {
    /// The edges of the bins, one more than there are bins.
    pub fn edges(&self) -> Vec<f64> {
        let [low, high] = self.range;
        let bins = self.counts.len();
        (0..=bins)
            .map(|edge| low + (high - low) * edge as f64 / bins as f64)
            .collect()
    }
}

fn nan() -> f64 {
    f64::NAN
}

fn nan_for_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn nan_for_nulls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let ends = <[Option<f64>; 2]>::deserialize(deserializer)?;
    Ok(ends.map(|end| end.unwrap_or(f64::NAN)))
}
