//! Statistics of a layer's values on the host, in a pass or two over them.
//!
//! Watching must not slow the training, so these are loops over slices: some hundred times as fast as tensor
//! operations. They follow the definitions of [`observe`](burn_kindling::observe). What is called for every value is
//! inlined, which the compiler would not do across its units.

use burn_kindling::init::Activation;

/// Bins of every histogram.
pub(super) const BINS: usize = 40;

/// The decades of the histograms of gradients: one scale for all layers and all steps.
pub(super) const DECADES: [f64; 2] = [-20.0, 2.0];

/// Values `[rows, units]`, row by row.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    pub units: usize,
    pub values: &'a [f32],
}

impl<'a> Values<'a> {
    #[inline]
    fn rows(self) -> impl Iterator<Item = &'a [f32]> {
        self.values.chunks_exact(self.units)
    }

    fn count(self) -> usize {
        self.values.len() / self.units
    }
}

/// Mean and population variance of each unit over the inputs.
pub(super) struct Units {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

/// Statistics of all values of a layer.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    pub mean: f64,
    pub std: f64,
    /// The std of a unit over the inputs, root mean square over the units.
    pub between_inputs: f64,
    /// The std over the units of their means.
    pub between_units: f64,
}

impl Units {
    pub fn of(values: Values) -> Self {
        let count = values.count() as f64;
        // The sums are of differences from the first row, so nothing is lost where inputs hardly differ.
        let first: Vec<f64> = values.values[..values.units]
            .iter()
            .map(|&it| f64::from(it))
            .collect();
        let (mut sum, mut square) = (vec![0.0; values.units], vec![0.0; values.units]);
        for row in values.rows() {
            for (((value, first), sum), square) in
                row.iter().zip(&first).zip(&mut sum).zip(&mut square)
            {
                let difference = f64::from(*value) - first;
                *sum += difference;
                *square += difference * difference;
            }
        }
        let variance = sum.iter().zip(&square);
        let variance =
            variance.map(|(sum, square)| not_negative((square - sum * sum / count) / count));
        let variance = variance.collect();
        let mean = sum.iter().zip(&first);
        let mean = mean.map(|(sum, first)| first + sum / count);
        Self {
            mean: mean.collect(),
            variance,
        }
    }

    pub fn spread(&self) -> Spread {
        let mean = average(&self.mean);
        let within = average(&self.variance);
        let units = self.mean.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
        let units = units / self.mean.len() as f64;
        Spread {
            mean,
            std: (within + units).sqrt(),
            between_inputs: within.sqrt(),
            between_units: units.sqrt(),
        }
    }
}

/// A variance that rounding may have taken below 0. NaN stays.
#[inline]
fn not_negative(variance: f64) -> f64 {
    if variance < 0.0 { 0.0 } else { variance }
}

pub(super) fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The statistics of what [`normalised`] returns.
pub(super) fn normalised_units(units: &Units, gamma: &[f32], beta: &[f32], epsilon: f64) -> Units {
    let terms = units.variance.iter().zip(gamma);
    let variance =
        terms.map(|(variance, gamma)| f64::from(*gamma).powi(2) * variance / (variance + epsilon));
    Units {
        mean: beta.iter().map(|&it| f64::from(it)).collect(),
        variance: variance.collect(),
    }
}

/// Normalises by these statistics, in place of the layer's own operation, which does not keep what it gives the
/// activation.
pub(super) fn normalised(
    values: Values,
    units: &Units,
    gamma: &[f32],
    beta: &[f32],
    epsilon: f64,
) -> Vec<f32> {
    let scale: Vec<f32> = (units.variance.iter().zip(gamma))
        .map(|(variance, gamma)| (f64::from(*gamma) / (variance + epsilon).sqrt()) as f32)
        .collect();
    let mean: Vec<f32> = units.mean.iter().map(|&mean| mean as f32).collect();
    let mut output = Vec::with_capacity(values.values.len());
    for row in values.rows() {
        let terms = row.iter().zip(&mean).zip(&scale).zip(beta);
        output.extend(terms.map(|(((x, mean), scale), beta)| (x - mean) * scale + beta));
    }
    output
}

/// Counts of values in bins of equal width.
#[derive(Clone)]
pub(super) struct Counts {
    pub range: [f64; 2],
    pub counts: [u32; BINS],
    pub below: u32,
    pub above: u32,
}

/// A histogram over a range around 0 that holds four times this size of values, in steps of 1, 2 and 5.
pub(super) fn histogram(values: &[f32], size: f64) -> Counts {
    let high = round_up(4.0 * size);
    let (low, factor) = (-high as f32, (BINS as f64 / (2.0 * high)) as f32);
    let all = tally(values, |value| place((value - low) * factor));
    counts(&all, [-high, high])
}

/// The place of a position, in bins from the low end: 0 below the range, 1 to [`BINS`], then above it.
#[inline(always)]
fn place(position: f32) -> i32 {
    // NaN goes to 0. What is not finite lies outside of the range.
    (position + 1.0).clamp(0.0, BINS as f32 + 1.0) as i32
}

/// The place of what has none.
const NOWHERE: i32 = BINS as i32 + 2;

/// Counts how many values are at each place.
#[inline(always)]
fn tally(values: &[f32], place: impl Fn(f32) -> i32) -> [u32; BINS + 3] {
    // Neighbours are often at the same place. Several counters for each do not wait for one another. There are 64 of
    // them, so that no index has to be checked.
    let mut counters = [[0u32; 64]; 4];
    let (chunks, rest) = values.as_chunks::<64>();
    for chunk in chunks {
        let mut places = [0; 64];
        for (place_of, value) in places.iter_mut().zip(chunk) {
            *place_of = place(*value);
        }
        for four in places.as_chunks::<4>().0 {
            for lane in 0..4 {
                let count = &mut counters[lane][(four[lane] & 63) as usize];
                *count = count.wrapping_add(1);
            }
        }
    }
    for value in rest {
        counters[0][(place(*value) & 63) as usize] += 1;
    }
    std::array::from_fn(|place| counters.iter().map(|counter| counter[place]).sum())
}

fn counts(all: &[u32; BINS + 3], range: [f64; 2]) -> Counts {
    let mut counts = [0; BINS];
    counts.copy_from_slice(&all[1..=BINS]);
    Counts {
        range,
        counts,
        below: all[0],
        above: all[BINS + 1],
    }
}

/// Sum and sum of squares, in lanes that the compiler adds up at once.
fn sums(values: &[f32]) -> [f64; 2] {
    let (mut sum, mut square) = ([0.0; 8], [0.0; 8]);
    let (chunks, rest) = values.as_chunks::<8>();
    for chunk in chunks {
        for lane in 0..8 {
            let value = f64::from(chunk[lane]);
            sum[lane] += value;
            square[lane] += value * value;
        }
    }
    for value in rest {
        sum[0] += f64::from(*value);
        square[0] += f64::from(*value).powi(2);
    }
    [sum.iter().sum(), square.iter().sum()]
}

/// The next of 1, 2, 5, 10, 20, ... and 1 for 0 and what is not finite.
fn round_up(size: f64) -> f64 {
    if !(size.is_finite() && size > 1e-36) {
        return 1.0;
    }
    let decade = 10f64.powf(size.log10().floor());
    let steps = [1.0, 2.0, 5.0];
    let step = steps.into_iter().find(|step| step * decade >= size);
    step.unwrap_or(10.0) * decade
}

/// Magnitudes of gradients: a histogram of their logarithms, how many are 0, and the std.
pub(super) struct Magnitudes {
    pub counts: Counts,
    pub zero: u32,
    pub std: f64,
}

pub(super) fn magnitudes(values: &[f32]) -> Magnitudes {
    let [low, high] = DECADES;
    let factor = (BINS as f64 / (high - low)) as f32;
    let decades = std::f32::consts::LOG10_2;
    let all = tally(values, |value| {
        let place = place((log2(value.abs()) * decades - low as f32) * factor);
        if value == 0.0 { NOWHERE } else { place }
    });
    let [sum, square] = sums(values);
    let count = values.len() as f64;
    let mean = sum / count;
    Magnitudes {
        counts: counts(&all, DECADES),
        zero: all[NOWHERE as usize],
        std: not_negative(square / count - mean * mean).sqrt(),
    }
}

/// log2 of a positive number, to 1e-2: enough for the bins of a histogram.
#[inline(always)]
fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 23) as i32 - 127) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000);
    // A parabola that is exact at 1 and 2.
    let x = mantissa - 1.0;
    exponent + x * (1.3431 - x * 0.3431)
}

/// What [`Layer`](burn_kindling::observe::Layer) says about the units of a layer.
pub(super) struct Inactive {
    /// Share of the values, if the activation saturates.
    pub saturated: Option<f64>,
    pub dead: usize,
    pub copies: usize,
}

pub(super) fn inactive(values: Values, activation: Activation) -> Inactive {
    let (low, high, saturates) = match activation {
        Activation::Sigmoid => (0.03, 0.97, true),
        Activation::Tanh => (-0.97, 0.97, true),
        // Inactive is what is exactly 0.
        Activation::Relu => (f32::MIN_POSITIVE, f32::INFINITY, true),
        _ => (0.0, 0.0, false),
    };
    let mut active = vec![0u32; values.units];
    // The order of magnitudes is that of their bits.
    let mut largest = 0;
    let mut projection = vec![0f64; values.units];
    for (number, row) in values.rows().enumerate() {
        let direction = ((number + 1) as f64).sin();
        for ((value, active), projection) in row.iter().zip(&mut active).zip(&mut projection) {
            let inactive = match saturates {
                true => *value < low || *value > high,
                false => *value == 0.0,
            };
            *active += u32::from(!inactive);
            largest = largest.max(value.to_bits() & 0x7fff_ffff);
            *projection += direction * f64::from(*value);
        }
    }
    let total = values.values.len() as f64;
    let alive: u32 = active.iter().sum();
    Inactive {
        saturated: saturates.then(|| 1.0 - f64::from(alive) / total),
        dead: active.iter().filter(|&&count| count == 0).count(),
        copies: copies(values, &projection, f32::from_bits(largest) * 1e-4),
    }
}

/// How many units repeat another one: neighbours in the order of a projection are compared value by value.
fn copies(values: Values, projection: &[f64], tolerance: f32) -> usize {
    let mut order: Vec<usize> = (0..values.units).collect();
    order.sort_by(|&a, &b| projection[a].total_cmp(&projection[b]));
    let equal = |&[a, b]: &[usize; 2]| {
        values
            .rows()
            .all(|row| (row[a] - row[b]).abs() <= tolerance)
    };
    let pairs = order.windows(2).map(|pair| [pair[0], pair[1]]);
    pairs.filter(equal).count()
}

/// Mean and root mean square of some values; and the root mean square of how others differ from them.
pub(super) struct Moved {
    pub std: f64,
    pub rms: f64,
    pub update_rms: Option<f64>,
}

pub(super) fn moved(before: &[f32], after: Option<&[f32]>) -> Moved {
    let count = before.len() as f64;
    let [sum, square] = sums(before);
    let mean = sum / count;
    Moved {
        std: not_negative(square / count - mean * mean).sqrt(),
        rms: (square / count).sqrt(),
        update_rms: after.map(|after| {
            let (mut update, (chunks, rest)) = ([0.0; 8], before.as_chunks::<8>());
            let (new_chunks, new_rest) = after.as_chunks::<8>();
            for (old, new) in chunks.iter().zip(new_chunks) {
                for lane in 0..8 {
                    update[lane] += f64::from(new[lane] - old[lane]).powi(2);
                }
            }
            for (old, new) in rest.iter().zip(new_rest) {
                update[0] += f64::from(new - old).powi(2);
            }
            (update.iter().sum::<f64>() / count).sqrt()
        }),
    }
}

/// How many values are NaN, and how many infinite. `std` is that of all values.
pub(super) fn not_finite(values: &[f32], std: f64) -> [usize; 2] {
    // No sum in f64 of squares of numbers of f32 overflows, so it is finite if they are.
    if std.is_finite() {
        return [0; 2];
    }
    [
        values.iter().filter(|it| it.is_nan()).count(),
        values.iter().filter(|it| it.is_infinite()).count(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_close() {
        for i in 1..2000 {
            let value = 1e-13f32 * 1.02f32.powi(i);
            assert!(
                (log2(value) - value.log2()).abs() < 1e-2,
                "log2 of {value}: {} and not {}",
                log2(value),
                value.log2()
            );
        }
    }

    #[test]
    fn units_that_hardly_differ_between_inputs_still_have_a_spread() {
        let values: Vec<f32> = (0..64)
            .map(|i| 0.5 + (i / 2 % 2) as f32 * 1e-6 + (i % 2) as f32)
            .collect();
        let units = Units::of(Values {
            units: 2,
            values: &values,
        });
        let spread = units.spread();
        assert!(
            (spread.between_inputs / 5e-7 - 1.0).abs() < 0.1,
            "{}",
            spread.between_inputs
        );
        assert!((spread.between_units - 0.5).abs() < 1e-6);
    }
}
