use serde::{Deserialize, Deserializer, Serialize};

use crate::init::Activation;

/// What an [`Observer`](super::Observer) saw of one step: a row for each point passed, in the order of the forward
/// pass, and one for each parameter.
///
/// It prints as two aligned tables for the terminal, and goes in and out of any serde format. A number that there is
/// none for, as the mean of no values, is NaN, and `null` in JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The points.
    pub layers: Vec<Layer>,
    /// The parameters, if [`Observation::backward`](super::Observation::backward) was shown them.
    pub parameters: Vec<Parameter>,
}

/// The tensor at one [`Point`](super::Point).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// The name of the point.
    pub name: String,
    /// The shape of the tensor.
    pub shape: Vec<usize>,
    /// The activation that it is the output of, if the point says so.
    pub activation: Option<Activation>,
    /// The values of the tensor.
    pub data: Summary,
    /// The gradient of the loss with respect to the tensor, if the backward pass was seen and reached it.
    pub gradient: Option<Summary>,
    /// How many units there are.
    pub units: usize,
    /// The share of values, 0 to 1, where the activation is so close to an end that its slope has all but gone: beyond
    /// ±0.97 for tanh, below 0.03 or above 0.97 for sigmoid, at 0 for ReLU. None after any other activation, or none.
    pub saturated: Option<f64>,
    /// How many units are never active over the batch: all their values saturated, or 0 where nothing saturates.
    pub dead: usize,
    /// How many units are copies of another one, which is not counted itself: 99 if all of 100 units are the same.
    ///
    /// Units are the same if over the whole batch their values differ by no more than a millionth of the largest
    /// magnitude in the layer, which is what rounding may do to them. Dead units at 0 are copies of one another too.
    pub duplicates: usize,
}

impl Layer {
    /// The std of the gradient over that of the values; None if the gradient was not seen.
    pub fn gradient_to_data(&self) -> Option<f64> {
        Some(self.gradient.as_ref()?.std / self.data.std)
    }
}

/// A parameter of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameter {
    /// Its path in the module, for example `hidden.0.weight`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The standard deviation of its values before the step, by their number (not one less).
    #[serde(deserialize_with = "nan_for_null")]
    pub std: f64,
    /// That of its gradient, if it has one.
    pub gradient_std: Option<f64>,
    /// That of the optimizer's update, the values after the step less those before, if the step was seen.
    pub update_std: Option<f64>,
}

impl Parameter {
    /// The std of the gradient over that of the values; None if there is no gradient.
    pub fn gradient_to_data(&self) -> Option<f64> {
        Some(self.gradient_std? / self.std)
    }

    /// The logarithm to base 10 of the std of the update over that of the values; None if the step was not seen.
    ///
    /// About -3 in healthy training (Karpathy, makemore part 3). Of a parameter whose values are all the same, as a
    /// bias at the start, it is infinite or NaN.
    pub fn update_to_data(&self) -> Option<f64> {
        Some((self.update_std? / self.std).log10())
    }
}

/// Statistics of many values, all axes taken together.
///
/// Values that are NaN or infinite are counted, and left out of everything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many values there are, NaN and infinite ones included.
    pub count: usize,
    /// How many are NaN.
    pub nan: usize,
    /// How many are infinite.
    pub infinite: usize,
    /// Their mean.
    #[serde(deserialize_with = "nan_for_null")]
    pub mean: f64,
    /// Their standard deviation, by their number (not one less).
    #[serde(deserialize_with = "nan_for_null")]
    pub std: f64,
    /// The least.
    #[serde(deserialize_with = "nan_for_null")]
    pub min: f64,
    /// The largest.
    #[serde(deserialize_with = "nan_for_null")]
    pub max: f64,
    /// The share, 0 to 1, that is exactly 0, of all there are.
    #[serde(deserialize_with = "nan_for_null")]
    pub zeros: f64,
    /// The percentiles that the observer was asked for, in its order. Exact up to 16,384 values; of more values they
    /// are those of 16,384 among them, evenly spread, whose ranks are off by 0.4 percent or less (one sigma).
    pub percentiles: Vec<Percentile>,
    /// How the values are distributed.
    pub histogram: Histogram,
}

/// The value that a share of the values lies below.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentile {
    /// The share, in percent.
    pub rank: f64,
    /// The value, interpolated linearly between the two closest, as NumPy does by default.
    #[serde(deserialize_with = "nan_for_null")]
    pub value: f64,
}

/// Counts of values in bins of equal width.
///
/// A bin holds its lower end, the last one its upper end too. Which of two bins a value at their boundary falls into
/// is up to rounding in the tensor's float type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Where the first bin starts and the last one ends. The range of the data, if the observer was given none: 1 wide
    /// around a single value, NaN if there is no value.
    #[serde(deserialize_with = "nan_for_nulls")]
    pub range: [f64; 2],
    /// How many values are in each bin.
    pub counts: Vec<usize>,
    /// How many are below the range.
    pub below: usize,
    /// How many are above it.
    pub above: usize,
}

impl Histogram {
    /// The boundaries of the bins, one more than there are bins.
    pub fn edges(&self) -> Vec<f64> {
        let [low, high] = self.range;
        let bins = self.counts.len();
        (0..=bins)
            .map(|edge| low + (high - low) * edge as f64 / bins as f64)
            .collect()
    }

    /// The histogram as a line of block characters, one a bin: the tallest bin full, empty ones blank.
    ///
    /// ```
    /// # use burn_kindling::observe::Histogram;
    /// let histogram = Histogram { range: [0.0, 4.0], counts: vec![1, 0, 4, 8], below: 0, above: 0 };
    /// assert_eq!(histogram.blocks(), "▁ ▄█");
    /// ```
    pub fn blocks(&self) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let tallest = self.counts.iter().copied().max().unwrap_or(0);
        self.counts
            .iter()
            .map(|&count| match count {
                0 => ' ',
                // Rounded up: a bin that is not empty is not drawn blank.
                _ => BLOCKS[(count * BLOCKS.len()).div_ceil(tallest) - 1],
            })
            .collect()
    }
}

fn nan_for_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn nan_for_nulls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
    let ends = <[Option<f64>; 2]>::deserialize(deserializer)?;
    Ok(ends.map(|end| end.unwrap_or(f64::NAN)))
}
