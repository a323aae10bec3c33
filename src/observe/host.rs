//! The statistics of values that lie in the host's memory: one pass for the sums, and one each for the histogram and
//! the percentiles.
//!
//! On the CPU, every tensor operation is a pass of its own, and the statistics of a point take about a hundred.
//!
//! Only finite values of f32 are measured here. All others are left to the tensor operations, whose definitions these
//! follow.

use burn::tensor::Tensor;

use super::floats::Floats;
use super::percentiles::{SAMPLE, sample};
use super::report::{Histogram, Percentile, Summary};
use super::summary::{Bins, Settings, data_range};
use super::units::{IDENTICAL, UnitCounts, saturates};
use crate::init::Activation;

/// Columns that are summed at once: their sums stay in the first cache.
const BLOCK: usize = 256;

/// Values `[before, units, after]`.
pub(super) struct HostValues {
    tensor: Tensor<3>,
    values: Floats,
    view: [usize; 3],
}

impl HostValues {
    /// The values of a tensor of f32 on the CPU, without autodiff; `None` for others, and if there are none.
    pub(super) fn of(tensor: &Tensor<3>) -> Option<Self> {
        let view = tensor.dims();
        let some = view.iter().product::<usize>() > 0;
        (some && Floats::has(tensor)).then(|| Self {
            tensor: tensor.clone(),
            values: Floats::of(tensor.clone()),
            view,
        })
    }

    /// The tensor of the values.
    pub(super) fn tensor(&self) -> &Tensor<3> {
        &self.tensor
    }

    fn values(&self) -> &[f32] {
        self.values.as_slice()
    }

    /// Everything about the output of `activation`. `None` if a value is not finite.
    pub(super) fn measure(
        &self,
        activation: Option<Activation>,
        settings: &Settings,
    ) -> Option<(Summary, UnitCounts)> {
        let [_, units, _] = self.view;
        let saturates = activation.filter(|it| saturates(*it));
        let pass = match saturates {
            Some(Activation::Sigmoid) => self.pass::<true>(|it| !(0.03..=0.97).contains(&it)),
            Some(Activation::Tanh) => self.pass::<true>(|it| it.abs() > 0.97),
            _ => self.pass::<true>(|it| it == 0.0),
        };
        let summary = self.summary_of(&pass, settings)?;
        let counts = UnitCounts {
            saturated: saturates.map(|_| self.values().len() - pass.active.iter().sum::<usize>()),
            dead: pass.active.iter().filter(|&&active| active == 0).count(),
            duplicates: match units {
                0 | 1 => 0,
                _ => self.duplicates(&pass),
            },
        };
        Some((summary, counts))
    }

    /// The statistics alone. `None` if a value is not finite.
    pub(super) fn summary(&self, settings: &Settings) -> Option<Summary> {
        self.summary_of(&self.pass::<false>(|_| true), settings)
    }

    fn summary_of(&self, pass: &Pass, settings: &Settings) -> Option<Summary> {
        let values = self.values();
        // No sum in f64 of squares of numbers of f32 overflows, so it is finite if they are.
        pass.square.is_finite().then(|| Summary {
            count: values.len(),
            nan: 0,
            infinite: 0,
            mean: pass.mean,
            std: pass.within.hypot(pass.between_columns),
            spread: pass.within,
            min: pass.min.into(),
            max: pass.max.into(),
            zeros: pass.zeros as f64 / values.len() as f64,
            percentiles: percentiles(values, &settings.percentiles),
            histogram: histogram(values, pass, settings),
        })
    }

    /// Goes over all values once. `UNITS`: over those of each unit too.
    fn pass<const UNITS: bool>(&self, is_inactive: impl Fn(f32) -> bool + Copy) -> Pass {
        vectorised(
            #[inline(always)]
            || pass::<UNITS>(self.values(), self.view, is_inactive),
        )
    }

    /// Counts the units that repeat another one, without the first of each kind; see [`super::units`].
    fn duplicates(&self, pass: &Pass) -> usize {
        let [before, units, after] = self.view;
        let values = self.values();
        let tolerance = pass.min.abs().max(pass.max.abs()) * IDENTICAL;
        let mut order: Vec<usize> = (0..units).collect();
        order.sort_unstable_by(|&a, &b| pass.projections[a].total_cmp(&pass.projections[b]));
        let run = |row: usize, unit: usize| &values[(row * units + unit) * after..][..after];
        let equal = |pair: &&[usize]| {
            (0..before).all(|row| {
                let [a, b] = [run(row, pair[0]), run(row, pair[1])];
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
            })
        };
        order.windows(2).filter(equal).count()
    }
}

/// What one pass over the values adds up.
struct Pass {
    min: f32,
    max: f32,
    zeros: usize,
    mean: f64,
    /// Sum of squares of distances; not finite if a value is not.
    square: f64,
    /// The std of a column over the rows, root mean square over the columns.
    within: f64,
    /// The std over the columns of their means.
    between_columns: f64,
    /// For each unit: how many of its values are active.
    active: Vec<usize>,
    /// For each unit: the projection of its values.
    projections: Vec<f64>,
}

#[inline(always)]
fn pass<const UNITS: bool>(
    values: &[f32],
    [before, units, after]: [usize; 3],
    is_inactive: impl Fn(f32) -> bool,
) -> Pass {
    let columns = units * after;
    let rows = before as f64;
    let origin = f64::from(values[0]);
    let mut found = Pass {
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        zeros: 0,
        mean: 0.0,
        square: 0.0,
        within: 0.0,
        between_columns: 0.0,
        active: vec![0; if UNITS { units } else { 0 }],
        projections: vec![0.0; if UNITS { units } else { 0 }],
    };
    let [mut shifts, mut shift_squares, mut variances] = [0.0; 3];
    for start in (0..columns).step_by(BLOCK) {
        let width = BLOCK.min(columns - start);
        let mut first = [0.0; BLOCK];
        for (first, value) in first.iter_mut().zip(&values[start..start + width]) {
            *first = f64::from(*value);
        }
        let [mut sum, mut square, mut projection] = [[0.0; BLOCK]; 3];
        let mut active = [0u32; BLOCK];
        let [mut min, mut max, mut zeros] =
            [[f32::INFINITY; 8], [f32::NEG_INFINITY; 8], [0.0f32; 8]];
        for row in 0..before {
            let row_values = &values[row * columns + start..][..width];
            // The sums are of differences from the first row, so nothing is lost where inputs hardly differ.
            for (((value, first), sum), square) in
                (row_values.iter().zip(&first).zip(&mut sum)).zip(&mut square)
            {
                let difference = f64::from(*value) - first;
                *sum += difference;
                *square += difference * difference;
            }
            let (chunks, rest) = row_values.as_chunks::<8>();
            for chunk in chunks {
                for lane in 0..8 {
                    let value = chunk[lane];
                    min[lane] = if value < min[lane] { value } else { min[lane] };
                    max[lane] = if value > max[lane] { value } else { max[lane] };
                    zeros[lane] += if value == 0.0 { 1.0 } else { 0.0 };
                }
            }
            for value in rest {
                min[0] = min[0].min(*value);
                max[0] = max[0].max(*value);
                found.zeros += usize::from(*value == 0.0);
            }
            if row % 1024 == 1023 {
                // A count in f32 is exact to 2^24.
                found.zeros += zeros.iter().sum::<f32>() as usize;
                zeros = [0.0; 8];
            }
            if UNITS {
                let direction = ((row + 1) as f64).sin();
                for ((value, active), projection) in
                    row_values.iter().zip(&mut active).zip(&mut projection)
                {
                    *active += u32::from(!is_inactive(*value));
                    *projection += direction * f64::from(*value);
                }
            }
        }
        found.zeros += zeros.iter().sum::<f32>() as usize;
        found.min = min.into_iter().fold(found.min, f32::min);
        found.max = max.into_iter().fold(found.max, f32::max);
        for column in 0..width {
            let (sum, square) = (sum[column], square[column]);
            found.square += square;
            // Rounding may have taken it below 0.
            variances += ((square - sum * sum / rows) / rows).max(0.0);
            let shift = first[column] - origin + sum / rows;
            shifts += shift;
            shift_squares += shift * shift;
            if UNITS {
                let (unit, place) = ((start + column) / after, (start + column) % after);
                found.active[unit] += active[column] as usize;
                // Another direction for each place, or two units with the same values elsewhere would look equal.
                found.projections[unit] += projection[column] * ((place + 1) as f64).cos();
            }
        }
    }
    let columns = columns as f64;
    let shift = shifts / columns;
    found.mean = origin + shift;
    found.square += shift_squares;
    found.within = (variances / columns).sqrt();
    found.between_columns = (shift_squares / columns - shift * shift).max(0.0).sqrt();
    found
}

fn histogram(values: &[f32], pass: &Pass, settings: &Settings) -> Histogram {
    let bins = settings.count;
    let range = match settings.bins {
        Bins::OfData => data_range(pass.min.into(), pass.max.into()),
        Bins::Fixed(range) | Bins::Decades(range) => range,
    };
    let [low, high] = range;
    let factor = bins as f64 / (high - low);
    let all = match settings.bins {
        Bins::Decades(_) => {
            let edges: Vec<f64> = (0..=bins)
                .map(|edge| 10f64.powf(low + (high - low) * edge as f64 / bins as f64))
                .collect();
            tally(values, bins, |value| {
                let size = f64::from(value.abs());
                let near = ((log10(value.abs()) - low) * factor).clamp(0.0, bins as f64 - 1.0);
                // The logarithm is close, so the right bin is this one or a neighbour.
                let mut bin = near as usize;
                while size < edges[bin] {
                    if bin == 0 {
                        return 0;
                    }
                    bin -= 1;
                }
                while bin < bins && size > edges[bin + 1] {
                    bin += 1;
                }
                let at_edge = bin + 1 < bins && size == edges[bin + 1];
                (bin + 1 + usize::from(at_edge)).min(bins + 1)
            })
        }
        _ => vectorised(
            #[inline(always)]
            || {
                let last = i32::try_from(bins).unwrap_or(i32::MAX);
                tally(values, bins, |value| {
                    let value = f64::from(value);
                    let bin = (((value - low) * factor) as i32).min(last - 1) + 1;
                    let above = if value > high { last + 1 } else { bin };
                    (if value < low { 0 } else { above }) as usize
                })
            },
        ),
    };
    Histogram {
        range,
        below: all[0],
        counts: all[1..=bins].to_vec(),
        above: all[bins + 1],
    }
}

/// Counts how many values are at each place: below the bins, in each, above them.
#[inline(always)]
fn tally(values: &[f32], bins: usize, place: impl Fn(f32) -> usize) -> Vec<usize> {
    // Neighbours are often at the same place. Several counters for each do not wait for one another.
    let mut counters = vec![[0usize; 4]; bins + 2];
    let (chunks, rest) = values.as_chunks::<64>();
    for chunk in chunks {
        // Calculated together, then counted.
        let mut places = [0; 64];
        for (place_of, value) in places.iter_mut().zip(chunk) {
            *place_of = place(*value);
        }
        for four in places.as_chunks::<4>().0 {
            for lane in 0..4 {
                counters[four[lane]][lane] += 1;
            }
        }
    }
    for value in rest {
        counters[place(*value)][0] += 1;
    }
    counters.iter().map(|it| it.iter().sum()).collect()
}

/// log10 of a positive number, to 1e-3.
fn log10(value: f32) -> f64 {
    let bits = value.to_bits();
    let exponent = f64::from((bits >> 23) as i32 - 127);
    let x = f64::from(f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000)) - 1.0;
    // A polynomial for log2 of the mantissa that is exact at 1 and 2.
    let mantissa = x * (1.4249 + x * (-0.6819 + x * (0.4131 - x * 0.1561)));
    (exponent + mantissa) * std::f64::consts::LOG10_2
}

/// The percentiles at these ranks; see [`super::percentiles`].
fn percentiles(values: &[f32], ranks: &[f64]) -> Vec<Percentile> {
    if ranks.is_empty() {
        return Vec::new();
    }
    let sampled: Vec<f32>;
    let values = match values.len() > SAMPLE {
        true => {
            let places = sample(values.len());
            sampled = places.iter().map(|&place| values[place as usize]).collect();
            &sampled
        }
        false => values,
    };
    let last = values.len() - 1;
    let ends = |rank: f64| {
        let position = rank / 100.0 * last as f64;
        let lower = position.floor() as usize;
        ([lower, (lower + 1).min(last)], position.fract())
    };
    let wanted = ranks.iter().flat_map(|&rank| ends(rank).0).collect();
    let found = in_order(values, wanted);
    let at = |place: usize| {
        let index = found.partition_point(|it| it.0 < place);
        f64::from(found[index].1)
    };
    let percentile = |&rank: &f64| {
        let ([lower, upper], weight) = ends(rank);
        Percentile {
            rank,
            value: at(lower) * (1.0 - weight) + at(upper) * weight,
        }
    };
    ranks.iter().map(percentile).collect()
}

/// The values at some places of the sorted values, by place: looks only into the neighbourhoods of these places.
///
/// There are at most [`SAMPLE`] values.
fn in_order(values: &[f32], mut places: Vec<usize>) -> Vec<(usize, f32)> {
    const SIGN: u32 = 1 << 31;
    /// The order of these is that of the values.
    fn key(value: f32) -> u32 {
        let bits = value.to_bits();
        bits ^ (((bits as i32) >> 31) as u32 | SIGN)
    }
    fn value(key: u32) -> f32 {
        let is_negative = key < SIGN;
        f32::from_bits(key ^ if is_negative { u32::MAX } else { SIGN })
    }
    /// A neighbourhood: sign, exponent and three more bits.
    const SHIFT: u32 = 20;
    const GROUPS: usize = 1 << (32 - SHIFT);

    places.sort_unstable();
    places.dedup();
    let mut counts = [0u16; GROUPS];
    for value in values {
        counts[(key(*value) >> SHIFT) as usize] += 1;
    }
    // The neighbourhoods of the wanted places, and these places in the keys of all of them.
    let mut is_wanted = [false; GROUPS];
    let mut places_in_keys = Vec::with_capacity(places.len());
    let (mut start, mut left_out, mut rest) = (0, 0, &places[..]);
    for (count, is_wanted) in counts.into_iter().zip(&mut is_wanted) {
        let count = usize::from(count);
        let (here, others) = rest.split_at(rest.partition_point(|it| *it < start + count));
        *is_wanted = !here.is_empty();
        left_out += if *is_wanted { 0 } else { count };
        places_in_keys.extend(here.iter().map(|place| place - left_out));
        (start, rest) = (start + count, others);
    }
    // A key that is not wanted is overwritten by the next: no processor would predict a branch.
    let mut keys = vec![0; values.len()];
    let mut collected = 0;
    for value in values {
        let key = key(*value);
        keys[collected] = key;
        collected += usize::from(is_wanted[(key >> SHIFT) as usize]);
    }
    let (mut above, mut start) = (&mut keys[..collected], 0);
    let mut found = Vec::with_capacity(places.len());
    for place in places_in_keys {
        let (_, key, rest) = above.select_nth_unstable(place - start);
        found.push(value(*key));
        (above, start) = (rest, place + 1);
    }
    places.into_iter().zip(found).collect()
}

/// Population std and root mean square of the values of a parameter.
pub(super) fn spread_of(values: &Floats) -> [f64; 2] {
    let values = values.as_slice();
    // If all values are equal, the std is exactly 0.
    let origin = values[0];
    spread(values, values, origin.into(), |value, _| {
        f64::from(value) - f64::from(origin)
    })
}

/// The same of how the values differ after the step.
pub(super) fn spread_of_update(before: &Floats, after: &Floats) -> [f64; 2] {
    spread(before.as_slice(), after.as_slice(), 0.0, |before, after| {
        f64::from(after - before)
    })
}

/// Population std and root mean square of the distances between two values each; `origin` is added to all.
fn spread(a: &[f32], b: &[f32], origin: f64, distance: impl Fn(f32, f32) -> f64) -> [f64; 2] {
    let [sum, square] = vectorised(
        #[inline(always)]
        || {
            let (mut sum, mut square) = ([0.0; 8], [0.0; 8]);
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
            let mut add = |lane: usize, a, b| {
                let distance = distance(a, b);
                sum[lane] += distance;
                square[lane] += distance * distance;
            };
            for (a, b) in a.iter().zip(b) {
                for lane in 0..8 {
                    add(lane, a[lane], b[lane]);
                }
            }
            for (a, b) in a_rest.iter().zip(b_rest) {
                add(0, *a, *b);
            }
            [sum, square].map(|lanes| lanes.iter().sum::<f64>())
        },
    );
    let count = a.len() as f64;
    let mean = sum / count;
    let variance = square / count - mean * mean;
    // Rounding may have taken it below 0. NaN stays.
    let std = if variance < 0.0 { 0.0 } else { variance.sqrt() };
    [std, (origin + mean).hypot(std)]
}

/// Calls `f`, compiled for the widest vectors of this machine. It must be inlined.
#[inline(always)]
fn vectorised<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cpu-kernels")]
    return pulp::Arch::new().dispatch(f);
    #[cfg(not(feature = "cpu-kernels"))]
    f()
}
