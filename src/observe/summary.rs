//! Reduces a tensor to a [`Summary`], on the device.
//!
//! NaN and infinite values are counted. All other statistics leave them out: they replace them with a value that does
//! not change the result.

use burn::tensor::{Bool, FloatDType, IndexingUpdateOp, Int, Tensor, Transaction};

use super::percentiles::percentiles;
use super::readout::Readout;
use super::reduce::{filled, in_full_precision, number_of, scaled};
use super::report::{Histogram, Percentile, Summary};

/// What to compute for a tensor, besides the statistics that every [`Summary`] has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    /// Number of bins of the histogram.
    pub count: usize,
    /// Where they lie.
    pub bins: Bins,
    /// Where those of a gradient lie.
    pub gradient_bins: Bins,
    /// Ranks of the percentiles, 0 to 100.
    pub percentiles: Vec<f64>,
}

/// Where the bins of a histogram lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bins {
    /// Over the range of the data.
    OfData,
    /// Over a range.
    Fixed([f64; 2]),
    /// Over a range of log10 of the magnitude.
    Decades([f64; 2]),
}

impl Settings {
    /// The settings for the gradient of a watched tensor.
    pub fn of_gradients(&self) -> Self {
        Self {
            bins: self.gradient_bins,
            ..self.clone()
        }
    }
}

/// A [`Summary`] whose numbers may still be on the device.
// There are few of them.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub(super) enum SummaryOnDevice {
    OnHost(Summary),
    OnDevice {
        count: usize,
        settings: Settings,
        /// `None` if there are no values.
        tensors: Option<Tensors>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Tensors {
    /// Largest magnitude, min, max; mean, variance and variance between inputs, of the values divided by the largest
    /// magnitude; percentiles.
    numbers: Tensor<1>,
    /// NaN, infinite, zero; histogram: below the range, each bin, above the range, not finite.
    counts: Tensor<1, Int>,
}

impl SummaryOnDevice {
    /// Reduces `values`, `[batch, ...]`.
    ///
    /// Each index of the first axis is summed separately, then the sums are added. This keeps small summands from being
    /// lost in one large running sum.
    pub(super) fn of(values: &Tensor<3>, settings: &Settings) -> Self {
        let count = values.dims().iter().product();
        Self::OnDevice {
            count,
            settings: settings.clone(),
            tensors: (count > 0).then(|| reduce(values.clone(), settings)),
        }
    }

    pub(super) fn register(&self, transaction: Transaction) -> Transaction {
        match self {
            Self::OnDevice {
                tensors: Some(tensors),
                ..
            } => transaction
                .register(tensors.numbers.clone())
                .register(tensors.counts.clone()),
            _ => transaction,
        }
    }

    pub(super) fn read(self, readout: &mut Readout) -> Summary {
        let (size, settings, tensors) = match self {
            Self::OnHost(summary) => return summary,
            Self::OnDevice {
                count,
                settings,
                tensors,
            } => (count, settings, tensors),
        };
        let Settings {
            count: bins,
            bins: place,
            percentiles: ranks,
            ..
        } = settings;
        let (numbers, counts) = match tensors {
            None => (vec![f64::NAN; 6 + ranks.len()], vec![0; 3 + bins + 3]),
            Some(_) => (readout.numbers(), readout.counts()),
        };
        let &[
            largest,
            min,
            max,
            mean,
            variance,
            between_inputs,
            ref percentiles @ ..,
        ] = numbers.as_slice()
        else {
            unreachable!("`reduce` returns at least six numbers");
        };
        let &[nan, infinite, zeros, ref histogram @ ..] = counts.as_slice() else {
            unreachable!("`reduce` returns at least three counts");
        };
        let any = size > nan + infinite;
        let of_finite = |number| if any { number } else { f64::NAN };
        let percentile = |(rank, &value)| Percentile {
            rank,
            value: of_finite(value),
        };
        Summary {
            count: size,
            nan,
            infinite,
            mean: of_finite(mean * largest),
            std: of_finite(variance.sqrt() * largest),
            spread: of_finite(between_inputs.sqrt() * largest),
            min: of_finite(min),
            max: of_finite(max),
            zeros: zeros as f64 / size as f64,
            percentiles: ranks.into_iter().zip(percentiles).map(percentile).collect(),
            histogram: Histogram {
                range: match place {
                    Bins::OfData => data_range(of_finite(min), of_finite(max)),
                    Bins::Fixed(range) | Bins::Decades(range) => range,
                },
                below: histogram[0],
                counts: histogram[1..=bins].to_vec(),
                above: histogram[bins + 1],
            },
        }
    }
}

fn reduce(values: Tensor<3>, settings: &Settings) -> Tensors {
    let runs = values.dims()[0];
    let count: usize = values.dims().iter().product();
    // NdArray combines a tensor of one axis with a single value ten times as fast.
    let values = in_full_precision(values).reshape([count]);
    let nan = values.clone().is_nan();
    let infinite = values.clone().is_inf();
    let excluded = nan.clone().bool_or(infinite.clone());
    let zeros = number_of(values.clone().equal_elem(0.0));

    let min = filled(&values, &excluded, f64::INFINITY).min();
    let max = filled(&values, &excluded, f64::NEG_INFINITY).max();
    let values = filled(&values, &excluded, 0.0);
    let (scaled, largest) = scaled(values.clone());

    let finite = number_of(excluded.clone()).neg() + count as i64;
    let finite = finite.clamp_min(1).cast(FloatDType::from(values.dtype()));
    let mean = sum(scaled.clone(), runs) / finite.clone();
    let deviations = scaled.clone() - mean.clone();
    let variance = sum(filled(&deviations, &excluded, 0.0).square(), runs) / finite;

    let between_inputs = variance_between_inputs(&scaled, &excluded, runs);

    let mut numbers = vec![
        largest.clone(),
        min.clone(),
        max.clone(),
        mean,
        variance,
        between_inputs,
    ];
    if !settings.percentiles.is_empty() {
        numbers.push(percentiles(&values, &excluded, &settings.percentiles));
    }

    let bins = settings.count;
    let bin = match settings.bins {
        Bins::Fixed(range) => bin_in_range(values, range, bins),
        Bins::Decades(range) => {
            let decades = values.abs().log() * std::f64::consts::LOG10_E;
            bin_in_range(decades, range, bins)
        }
        Bins::OfData => {
            let data_range = [min, max].map(|end| end / largest.clone());
            let position = position_in_data_range(scaled, data_range, bins);
            // Without any finite value there is no range, and the position is NaN.
            bin_at(filled(&position, &excluded, 0.0), bins)
        }
    };
    let histogram = number_each(bin.mask_fill(excluded, bins as i64 + 2), bins + 3);
    let counts = vec![number_of(nan), number_of(infinite), zeros, histogram];
    Tensors {
        numbers: Tensor::cat(numbers, 0),
        counts: Tensor::cat(counts, 0),
    }
}

/// Adds up `values` in runs of equal length, then adds up the sums.
fn sum(values: Tensor<1>, runs: usize) -> Tensor<1> {
    let count = values.dims()[0];
    values.reshape([runs, count / runs]).sum_dim(1).sum()
}

/// The variance of each value over the inputs, `[runs]`, averaged over the values of an input: `[1]`.
fn variance_between_inputs(
    values: &Tensor<1>,
    excluded: &Tensor<1, Bool>,
    runs: usize,
) -> Tensor<1> {
    let count = values.dims()[0];
    let by_input = [runs, count / runs];
    let excluded = excluded.clone().reshape(by_input);
    let values = values
        .clone()
        .reshape(by_input)
        .mask_fill(excluded.clone(), 0.0);
    let finite = excluded.clone().int().sum_dim(0).neg() + runs as i64;
    let finite = finite.clamp_min(1).cast(FloatDType::from(values.dtype()));
    let mean = values.clone().sum_dim(0) / finite.clone();
    let deviations = (values - mean).mask_fill(excluded, 0.0);
    (deviations.square().sum_dim(0) / finite).mean()
}

/// The bin of each value in a fixed range: 1 to `bins`, 0 below the range, `bins + 1` above it.
fn bin_in_range(values: Tensor<1>, [low, high]: [f64; 2], bins: usize) -> Tensor<1, Int> {
    let below = values.clone().lower_elem(low);
    let above = values.clone().greater_elem(high);
    let position = (values - low) * (bins as f64 / (high - low));
    bin_at(position, bins)
        .mask_fill(below, 0)
        .mask_fill(above, bins as i64 + 1)
}

/// The position of each value in the range of the data, in bins from the low end.
fn position_in_data_range(
    values: Tensor<1>,
    [low, high]: [Tensor<1>; 2],
    bins: usize,
) -> Tensor<1> {
    let width = high - low.clone();
    let single = width.clone().equal_elem(0.0);
    // As in `data_range`.
    let low = low.clone().mask_where(single.clone(), low - 0.5);
    let width = width.mask_fill(single, 1.0);
    (values - low) * (width.recip() * bins as f64)
}

/// The range of a histogram without a fixed range: minimum to maximum, or a width of 1 around a single value, as in
/// NumPy.
pub(super) fn data_range(min: f64, max: f64) -> [f64; 2] {
    match min == max {
        true => [min - 0.5, max + 0.5],
        false => [min, max],
    }
}

/// The bin at a position, in bins from the low end: 1 to `bins`. The last bin includes its upper end.
fn bin_at(position: Tensor<1>, bins: usize) -> Tensor<1, Int> {
    // Positions are not negative, so truncation rounds down.
    position.clamp(0.0, bins as f64 - 1.0).int() + 1
}

/// Counts how often each of 0, 1, ... `kinds - 1` occurs: `[kinds]`.
fn number_each(values: Tensor<1, Int>, kinds: usize) -> Tensor<1, Int> {
    let [count] = values.dims();
    let options = (&values.device(), values.dtype());
    let zeros = Tensor::<1, Int>::zeros([kinds], options);
    let ones = Tensor::<1, Int>::ones([count], options);
    zeros.scatter(0, values, ones, IndexingUpdateOp::Add)
}
