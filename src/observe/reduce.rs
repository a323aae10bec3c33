//! Many values to a few numbers, in tensor operations.
//!
//! Values are divided by the largest magnitude among them before they are squared: a signal that has faded to 1e-30
//! or grown to 1e+30 has a std in f32 too. What is not finite is counted, and replaced by what the statistic at hand
//! does not see.

use std::vec::IntoIter;

use burn::tensor::{
    Bool, DType, FloatDType, IndexingUpdateOp, Int, Tensor, TensorData, Transaction,
};

use super::observer::Observer;
use super::report::{Histogram, Percentile, Summary};
use crate::init::Activation;

/// Percentiles of more values than these are those of a sample of this size.
const SAMPLE: usize = 1 << 14;

/// How close the values of two units have to be for the units to count as identical, over the largest magnitude in
/// the layer: a few times the rounding of f32.
const IDENTICAL: f32 = 1e-6;

/// Data read off a device, in the order in which it was registered.
pub(super) type Read = IntoIter<TensorData>;

/// A [`Summary`] that is still on the device.
#[derive(Debug)]
pub(super) struct Reduced {
    count: usize,
    bins: usize,
    range: Option<[f64; 2]>,
    ranks: Vec<f64>,
    /// None if there are no values.
    on_device: Option<ReducedTensors>,
}

#[derive(Debug)]
struct ReducedTensors {
    /// Largest magnitude, min, max; mean and variance of the values over the largest magnitude; percentiles.
    numbers: Tensor<1>,
    /// NaN, infinite, zero; histogram: below the range, a bin each, above, not finite.
    counts: Tensor<1, Int>,
}

/// Reduces values to a [`Summary`] with a histogram over `range`, or over their own range.
///
/// The first axis is that of the batch, or whatever splits the values into some runs.
pub(super) fn values(values: &Tensor<3>, observer: &Observer, range: Option<[f64; 2]>) -> Reduced {
    let count: usize = values.dims().iter().product();
    Reduced {
        count,
        bins: observer.bins,
        range,
        ranks: observer.percentiles.clone(),
        on_device: (count > 0).then(|| reduce(values.clone(), count, observer, range)),
    }
}

fn reduce(
    values: Tensor<3>,
    count: usize,
    observer: &Observer,
    range: Option<[f64; 2]>,
) -> ReducedTensors {
    let runs = values.dims()[0];
    // In a row, where NdArray is ten times as fast at combining them with a single value.
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

    let mut numbers = vec![largest.clone(), min.clone(), max.clone(), mean, variance];
    if !observer.percentiles.is_empty() {
        numbers.push(percentiles(&values, &excluded, &observer.percentiles));
    }

    let bins = observer.bins;
    let counts = match range {
        Some([low, high]) => {
            let below = values.clone().lower_elem(low);
            let above = values.clone().greater_elem(high);
            let position = (values - low) * (bins as f64 / (high - low));
            bin_of(position, bins)
                .mask_fill(below, 0)
                .mask_fill(above, bins as i64 + 1)
        }
        None => {
            let [low, high] = [min, max].map(|end| end / largest.clone());
            let width = high - low.clone();
            let single = width.clone().equal_elem(0.0);
            // As in `data_range`.
            let low = low.clone().mask_where(single.clone(), low - 0.5);
            let width = width.mask_fill(single, 1.0);
            let position = (scaled - low) * (width.recip() * bins as f64);
            // Without a finite value there is no range, and no position either.
            bin_of(filled(&position, &excluded, 0.0), bins)
        }
    };
    let histogram = number_each(counts.mask_fill(excluded, bins as i64 + 2), bins + 3);

    ReducedTensors {
        numbers: Tensor::cat(numbers, 0),
        counts: Tensor::cat(
            vec![number_of(nan), number_of(infinite), zeros, histogram],
            0,
        ),
    }
}

impl Reduced {
    pub(super) fn register(&self, reading: Transaction) -> Transaction {
        match &self.on_device {
            None => reading,
            Some(tensors) => reading
                .register(tensors.numbers.clone())
                .register(tensors.counts.clone()),
        }
    }

    pub(super) fn read(self, read: &mut Read) -> Summary {
        let bins = self.bins;
        let (numbers, counts) = match self.on_device {
            None => (vec![f64::NAN; 5 + self.ranks.len()], vec![0; 3 + bins + 3]),
            Some(_) => (next_numbers(read), next_counts(read)),
        };
        let &[largest, min, max, mean, variance, ref percentiles @ ..] = numbers.as_slice() else {
            unreachable!("as many numbers as `reduce` puts there");
        };
        let &[nan, infinite, zeros, ref histogram @ ..] = counts.as_slice() else {
            unreachable!("as many counts as `reduce` puts there");
        };
        let any = self.count > nan + infinite;
        let of_finite = |number| if any { number } else { f64::NAN };
        Summary {
            count: self.count,
            nan,
            infinite,
            mean: of_finite(mean * largest),
            std: of_finite(variance.sqrt() * largest),
            min: of_finite(min),
            max: of_finite(max),
            zeros: zeros as f64 / self.count as f64,
            percentiles: self
                .ranks
                .iter()
                .zip(percentiles)
                .map(|(&rank, &value)| Percentile {
                    rank,
                    value: of_finite(value),
                })
                .collect(),
            histogram: Histogram {
                range: self
                    .range
                    .unwrap_or_else(|| data_range(of_finite(min), of_finite(max))),
                below: histogram[0],
                counts: histogram[1..=bins].to_vec(),
                above: histogram[bins + 1],
            },
        }
    }
}

/// The range of a histogram from the least to the largest value: of width 1 around a single value, as NumPy has it.
fn data_range(min: f64, max: f64) -> [f64; 2] {
    match min == max {
        true => [min - 0.5, max + 0.5],
        false => [min, max],
    }
}

/// What the units of a layer do, still on the device.
#[derive(Debug)]
pub(super) struct ReducedUnits {
    saturates: bool,
    /// Values saturated (zero where nothing saturates), units dead, units that are copies. None if there are no values.
    counts: Option<Tensor<1, Int>>,
}

/// What was read of [`ReducedUnits`].
pub(super) struct ReadUnits {
    /// How many values are saturated, if they can be.
    pub saturated: Option<usize>,
    pub dead: usize,
    pub duplicates: usize,
}

/// Counts what is saturated, dead and duplicate among units `[before, units, after]`.
pub(super) fn units(values: &Tensor<3>, activation: Option<Activation>) -> ReducedUnits {
    let saturates = activation.is_some_and(saturates);
    let count: usize = values.dims().iter().product();
    ReducedUnits {
        saturates,
        counts: (count > 0).then(|| {
            let values = in_full_precision(values.clone());
            let inactive = inactive(values.clone(), activation.filter(|_| saturates));
            let active = inactive.clone().bool_not().int().sum_dim(0).sum_dim(2);
            Tensor::cat(
                vec![
                    number_of(inactive),
                    number_of(active.equal_elem(0)),
                    duplicates(values),
                ],
                0,
            )
        }),
    }
}

impl ReducedUnits {
    pub(super) fn register(&self, reading: Transaction) -> Transaction {
        match &self.counts {
            None => reading,
            Some(counts) => reading.register(counts.clone()),
        }
    }

    pub(super) fn read(self, read: &mut Read) -> ReadUnits {
        let counts = match self.counts {
            None => vec![0; 3],
            Some(_) => next_counts(read),
        };
        let &[saturated, dead, duplicates] = counts.as_slice() else {
            unreachable!("as many counts as `units` puts there");
        };
        ReadUnits {
            saturated: self.saturates.then_some(saturated),
            dead,
            duplicates,
        }
    }
}

/// Whether an activation has ends where its output tells that its slope has gone.
fn saturates(activation: Activation) -> bool {
    match activation {
        Activation::Sigmoid | Activation::Tanh | Activation::Relu => true,
        // Leaky ReLU never flattens. GELU does, but where it is close to 0 it may also be steep.
        Activation::LeakyRelu | Activation::Gelu => false,
    }
}

/// Where an activation that saturates does; where the output is 0 without one.
fn inactive(values: Tensor<3>, activation: Option<Activation>) -> Tensor<3, Bool> {
    match activation {
        Some(Activation::Sigmoid) => {
            let low = values.clone().lower_elem(0.03);
            low.bool_or(values.greater_elem(0.97))
        }
        Some(Activation::Tanh) => values.abs().greater_elem(0.97),
        _ => values.equal_elem(0.0),
    }
}

/// The number of units that are copies of another one, which is not counted: `[1]`.
///
/// Comparing all pairs would take time in the square of the units. A random projection of each unit's values puts
/// copies next to each other in order, and neighbours are then compared value by value.
fn duplicates(values: Tensor<3>) -> Tensor<1, Int> {
    let device = values.device();
    let [before, units, after] = values.dims();
    if units < 2 {
        return Tensor::zeros([1], &device);
    }
    let each = before * after;
    let values = values.swap_dims(0, 1).reshape([units * each]);
    let excluded = values.clone().is_finite().bool_not();
    let (values, _) = scaled(filled(&values, &excluded, 0.0));
    let values = values.reshape([units, each]);

    // Sines of whole numbers: as good as random, and the same every time.
    let direction = Tensor::<1, Int>::arange(1..each as i64 + 1, &device)
        .cast(FloatDType::from(values.dtype()))
        .sin()
        .reshape([1, each]);
    let projections = (values.clone() * direction).sum_dim(1).reshape([units]);
    let values = values.select(0, projections.argsort(0));
    let gaps = values.clone().narrow(0, 1, units - 1) - values.narrow(0, 0, units - 1);
    let differing = gaps.abs().greater_elem(IDENTICAL).int();
    number_of(differing.sum_dim(1).equal_elem(0))
}

/// The std of a parameter's values, or of anything else of that size: largest magnitude, and the std over it.
pub(super) fn spread(values: Tensor<1>) -> Tensor<1> {
    let count = values.dims()[0];
    let (values, largest) = scaled(in_full_precision(values));
    let mean = values.clone().sum() / count as f64;
    let variance = (values - mean).square().sum() / count as f64;
    Tensor::cat(vec![largest, variance.sqrt()], 0)
}

/// The percentiles of what is not excluded, interpolated between neighbours as NumPy does: `[ranks]`.
///
/// Sorting is what they cost, and CubeCL devices sort on the host (Burn 0.22.1): hence the sample.
fn percentiles(values: &Tensor<1>, excluded: &Tensor<1, Bool>, ranks: &[f64]) -> Tensor<1> {
    let device = values.device();
    let dtype = FloatDType::from(values.dtype());
    let [count] = values.dims();
    let mut values = filled(values, excluded, f64::INFINITY);
    if count > SAMPLE {
        let sample = Tensor::<1, Int>::from_ints(sample(count).as_slice(), &device);
        values = values.select(0, sample);
    }
    let values = values.sort(0);
    let last = number_of(values.clone().lower_elem(f64::INFINITY)) - 1;
    let last = last.clamp_min(0).expand([ranks.len()]);

    let ranks = Tensor::<1>::from_data(TensorData::from(ranks), (&device, values.dtype()));
    let position = last.clone().cast(dtype) * (ranks / 100.0);
    let lower = position.clone().floor();
    let weight = position - lower.clone();
    let lower = lower.int();
    let upper = (lower.clone() + 1).min_pair(last);
    values.clone().select(0, lower) * (1.0 - weight.clone()) + values.select(0, upper) * weight
}

/// [`SAMPLE`] different indices below `count`, spread evenly over every axis.
///
/// They are the multiples of a number without a common divisor with `count`, so none of a tensor's axes, whose lengths
/// divide `count`, is met at some of its indices only; close to the golden ratio, so that they spread.
fn sample(count: usize) -> Vec<i64> {
    let golden = (count as f64 * 0.618_033_988_749_895) as usize;
    let step = (golden..)
        .find(|&step| greatest_common_divisor(step, count) == 1)
        .expect("count + 1 at the latest");
    let mut index = 0;
    (0..SAMPLE)
        .map(|_| {
            index = (index + step) % count;
            index as i64
        })
        .collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

/// The bin of a value at this position, in bins from the low end: 1 to `bins`; the last one holds its upper end.
fn bin_of(position: Tensor<1>, bins: usize) -> Tensor<1, Int> {
    // Never below 0, so that cutting off the fraction rounds down.
    position.clamp(0.0, bins as f64 - 1.0).int() + 1
}

/// How many of the values are 0, 1, ... `kinds - 1`: `[kinds]`.
fn number_each(values: Tensor<1, Int>, kinds: usize) -> Tensor<1, Int> {
    let [count] = values.dims();
    let options = (&values.device(), values.dtype());
    let zeros = Tensor::<1, Int>::zeros([kinds], options);
    let ones = Tensor::<1, Int>::ones([count], options);
    zeros.scatter(0, values, ones, IndexingUpdateOp::Add)
}

fn number_of<const D: usize>(mask: Tensor<D, Bool>) -> Tensor<1, Int> {
    mask.int().sum()
}

/// The sum of all values, run by run, so that no long sequence of small summands meets a large sum.
fn sum(values: Tensor<1>, runs: usize) -> Tensor<1> {
    let count = values.dims()[0];
    values.reshape([runs, count / runs]).sum_dim(1).sum()
}

fn filled(values: &Tensor<1>, mask: &Tensor<1, Bool>, value: f64) -> Tensor<1> {
    values.clone().mask_fill(mask.clone(), value)
}

/// The values over their largest magnitude, which is `[1]`, and 1 if they are all 0.
fn scaled(values: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let largest = values.clone().max_abs();
    let all_zero = largest.clone().equal_elem(0.0);
    let largest = largest.mask_fill(all_zero, 1.0);
    (values / largest.clone(), largest)
}

/// Half precision has neither the range nor the digits for a sum of many values.
fn in_full_precision<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    match values.dtype() {
        DType::F16 | DType::BF16 => values.cast(FloatDType::F32),
        _ => values,
    }
}

/// The next of the data read, as numbers.
pub(super) fn next_numbers(read: &mut Read) -> Vec<f64> {
    next(read).iter().collect()
}

/// The next of the data read, as counts.
fn next_counts(read: &mut Read) -> Vec<usize> {
    next(read)
        .iter::<i64>()
        .map(|count| usize::try_from(count).expect("a count"))
        .collect()
}

fn next(read: &mut Read) -> TensorData {
    read.next().expect("as much read as registered")
}
