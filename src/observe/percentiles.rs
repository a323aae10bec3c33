//! Percentiles on the device.

use burn::tensor::{Bool, FloatDType, Int, Tensor, TensorData};

use super::reduce::{filled, number_of};

/// The most values that are sorted; if there are more, a sample of this size.
pub(super) const SAMPLE: usize = 1 << 14;

/// The percentiles at these ranks, 0 to 100, of the values that are not excluded: `[ranks]`.
///
/// They are interpolated linearly between the two closest values, as NumPy does by default. Sorting dominates the
/// cost, and CubeCL devices sort on the host (Burn 0.22.1): hence the sample.
pub(super) fn percentiles(
    values: &Tensor<1>,
    excluded: &Tensor<1, Bool>,
    ranks: &[f64],
) -> Tensor<1> {
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

/// [`SAMPLE`] different indices below `count`, spread evenly over every axis of the tensor.
///
/// They are multiples, modulo `count`, of a step that has no common divisor with `count`. The length of every axis
/// divides `count`, so the sample covers all indices of an axis, not only some. A step close to the golden ratio of
/// `count` spreads the sample evenly.
pub(super) fn sample(count: usize) -> Vec<i64> {
    let golden = (count as f64 * 0.618_033_988_749_895) as usize;
    let step = (golden..)
        .find(|&step| greatest_common_divisor(step, count) == 1)
        .expect("count + 1 has no common divisor with count");
    let mut index = 0;
    (0..SAMPLE)
        .map(|_| {
            index += step;
            if index >= count {
                index -= count;
            }
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
