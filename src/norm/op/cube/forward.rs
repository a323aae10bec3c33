//! The forward kernels: statistics of a channel, then its output.
//!
//! [`forward_whole`] does both; [`forward_parts`], [`forward_merge`] and [`apply`] do the same in three steps, for
//! channels that several cubes share. Where the last of these cubes can merge what they found, [`forward_joint`] does
//! the first two steps. [`apply`] alone is inference.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::affine::{Activation, Affine, gate, inverse_deviation, not_negative, plus};
use super::index::{Extent, Share, Tile};
use super::joint::is_last;
use super::pooling::{Pooled, pool};

/// Vectors of one value.
type One = Const<1>;

/// Normalises by the statistics of the batch, which it returns. One cube processes all values of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_whole<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    epsilon: InputScalar,
    slope: InputScalar,
    extent: Extent,
    pooled: ComptimeOption<Pooled>,
    #[comptime] tile: Tile,
    #[comptime] held: usize,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let values = share.hold::<T, N>(input, held);
    let own = moments_of_unit::<T, P, N>(input, &values, share, held);
    let found = statistics::<P, N>(merge_lane::<P, N>(own, share), share);
    if share.leads {
        share.store::<P, N>(mean, found.mean);
        share.store::<P, N>(mean_rest, found.mean_rest);
        share.store::<P, N>(variance, found.variance);
    }
    let inverse = inverse_deviation::<P, N>(found.variance, epsilon.get::<P>());
    let affine = Affine::<P, N> {
        mean: found.mean,
        mean_rest: found.mean_rest,
        scale: share.load::<P, N>(gamma) * inverse,
        shift: share.load::<P, N>(beta),
        slope: slope.get::<P>(),
    };
    if comptime!(held == 0) {
        normalise::<T, P, N>(input, residual, output, share, pooled, affine, activation);
    }
    #[unroll]
    for at in 0..held {
        if at < share.steps {
            let place = share.position(at);
            output[place] = output_at::<T, P, N>(values[at], residual, place, affine, activation);
        }
    }
}

/// Computes the moments of one part of each channel, into `[4, parts, channels]`: counts, shifts, offsets, squares.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_parts<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    parts: &mut Tensor<P>,
    extent: Extent,
    #[comptime] tile: Tile,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    store_part::<T, P, N>(input, parts, share);
}

/// [`forward_parts`], after which the last cube of each group of channels does the work of [`forward_merge`].
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_joint<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    parts: &mut Tensor<P>,
    counters: &mut Tensor<Atomic<u32>>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    first_counter: u32,
    extent: Extent,
    #[comptime] tile: Tile,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    store_part::<T, P, N>(input, parts, share);
    if is_last(counters, first_counter) {
        if comptime!(tile.across) {
            merge_parts::<P, N>(&*parts, mean, mean_rest, variance, share);
        } else {
            merge_parts::<P, One>(&*parts, mean, mean_rest, variance, share);
        }
    }
}

/// Merges the moments of the parts into the statistics of the channels. Vectors have one value; one cube reads all
/// parts of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_merge<P: Float>(
    parts: &Tensor<P>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    extent: Extent,
    #[comptime] tile: Tile,
    #[define(P)] _dtype: ElemType,
) {
    let share = Share::of_unit(extent, tile);
    merge_parts::<P, One>(parts, mean, mean_rest, variance, share);
}

/// Normalises by given statistics.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn apply<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: ComptimeOption<&Tensor<P>>,
    variance: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    epsilon: InputScalar,
    slope: InputScalar,
    extent: Extent,
    pooled: ComptimeOption<Pooled>,
    #[comptime] tile: Tile,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let mut rest = Vector::<P, N>::new(P::new(0.0));
    #[comptime]
    if let ComptimeOption::Some(mean_rest) = mean_rest {
        rest = share.load::<P, N>(mean_rest);
    }
    let inverse = inverse_deviation::<P, N>(share.load::<P, N>(variance), epsilon.get::<P>());
    let affine = Affine::<P, N> {
        mean: share.load::<P, N>(mean),
        mean_rest: rest,
        scale: share.load::<P, N>(gamma) * inverse,
        shift: share.load::<P, N>(beta),
        slope: slope.get::<P>(),
    };
    normalise::<T, P, N>(input, residual, output, share, pooled, affine, activation);
}

/// Stores the moments of a cube's part of its channels in `[4, parts, channels]`.
#[cube]
fn store_part<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    parts: &mut Tensor<P>,
    share: Share,
) {
    let own = moments_of_unit::<T, P, N>(input, &share.hold::<T, N>(input, 0usize), share, 0usize);
    let moments = merge_lane::<P, N>(own, share);
    if share.leads {
        let channels = parts.shape(2);
        let plane = parts.shape(1) * channels;
        let part = CUBE_POS_Y as usize * channels;
        let count = Vector::<P, N>::new(moments.count);
        share.store_at::<P, N>(parts, part, count);
        share.store_at::<P, N>(parts, part + plane, moments.shift);
        share.store_at::<P, N>(parts, part + 2 * plane, moments.offset);
        share.store_at::<P, N>(parts, part + 3 * plane, moments.squares);
    }
}

/// Merges all parts of the unit's channels, and stores their statistics. Vectors lie across channels, or have one value.
#[cube]
fn merge_parts<P: Float, N: Size>(
    parts: &Tensor<P>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    share: Share,
) {
    let channels = parts.shape(2);
    let plane = parts.shape(1) * channels;
    let zero = Vector::<P, N>::new(P::new(0.0));
    let mut own = Moments::<P, N> {
        count: P::new(0.0),
        shift: zero,
        offset: zero,
        squares: zero,
    };
    let mut part = share.rank;
    while part < parts.shape(1) {
        let place = part * channels;
        let next = Moments::<P, N> {
            count: share.load_at::<P, N>(parts, place).extract(0usize),
            shift: share.load_at::<P, N>(parts, place + plane),
            offset: share.load_at::<P, N>(parts, place + 2 * plane),
            squares: share.load_at::<P, N>(parts, place + 3 * plane),
        };
        if part == share.rank {
            own = next;
        } else {
            own = merge::<P, N>(own, next);
        }
        part += share.tile.units_per_lane;
    }
    let found = statistics::<P, N>(merge_lane::<P, N>(own, share), share);
    if share.leads {
        share.store::<P, N>(mean, found.mean);
        share.store::<P, N>(mean_rest, found.mean_rest);
        share.store::<P, N>(variance, found.variance);
    }
}

/// Writes the output of a unit's share, last values first: those just read for the statistics are still in the cache.
/// With a pooling, writes the unit's share of the pooled output.
#[cube]
fn normalise<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    output: &mut Tensor<Vector<T, N>>,
    share: Share,
    pooled: ComptimeOption<Pooled>,
    affine: Affine<P, N>,
    #[comptime] activation: Activation,
) {
    #[comptime]
    match pooled {
        ComptimeOption::Some(pooled) => {
            pool::<T, P, N>(input, residual, output, share, pooled, affine, activation);
        }
        ComptimeOption::None => {
            for at in 0..share.steps {
                let place = share.position(share.steps - 1 - at);
                output[place] =
                    output_at::<T, P, N>(input[place], residual, place, affine, activation);
            }
        }
    }
}

/// The output at a place, for the vector of the input there.
#[cube]
pub fn output_at<T: Float, P: Float, N: Size>(
    value: Vector<T, N>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    place: usize,
    affine: Affine<P, N>,
    #[comptime] activation: Activation,
) -> Vector<T, N> {
    let y = affine.output(affine.deviation(Vector::cast_from(value)));
    let z = plus::<T, P, N>(y, residual, place);
    Vector::cast_from(gate::<P, N>(z, z, affine.slope, activation))
}

/// The number of values, their mean as `shift + offset`, and the sum of the squared deviations from it.
///
/// The mean is not added up until the end: a compiler may replace `(a + b) - a` by `b`, and then the rounding error of
/// a sum cannot be recovered.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Moments<P: Float, N: Size> {
    count: P,
    shift: Vector<P, N>,
    offset: Vector<P, N>,
    squares: Vector<P, N>,
}

/// Computes the moments of a unit's share. `values` are its `held` vectors; if that is 0, they are read from the input.
///
/// Deviations are taken from the unit's first value, so that a large mean cancels exactly. If that value turns out to
/// be an outlier, more than two standard deviations from the mean, they are taken again, from the mean.
#[cube]
fn moments_of_unit<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    values: &Array<Vector<T, N>>,
    share: Share,
    #[comptime] held: usize,
) -> Moments<P, N> {
    let zero = Vector::<P, N>::new(P::new(0.0));
    let count = P::cast_from(share.steps);
    let mut shift = zero;
    if share.steps > 0 {
        if comptime!(held == 0) {
            shift = Vector::cast_from(input[share.position(0)]);
        } else {
            shift = Vector::cast_from(values[0]);
        }
    }
    let mut sum = zero;
    let mut squares = zero;
    let mut readings = 0u32;
    while readings < 2 {
        sum = zero;
        squares = zero;
        #[unroll]
        for at in 0..held {
            if at < share.steps {
                let deviation = Vector::<P, N>::cast_from(values[at]) - shift;
                sum += deviation;
                squares += deviation * deviation;
            }
        }
        if comptime!(held == 0) {
            for at in 0..share.steps {
                let deviation = Vector::<P, N>::cast_from(input[share.position(at)]) - shift;
                sum += deviation;
                squares += deviation * deviation;
            }
        }
        readings += 1;
        if readings == 1 {
            let offset = sum / Vector::new(at_least_one::<P>(count));
            let off_centre = sum * offset;
            let four = P::new(4.0);
            let mut settled = true;
            #[unroll]
            for lane in 0usize..N::value() {
                let here = off_centre.extract(lane);
                if here > four * (squares.extract(lane) - here) {
                    settled = false;
                }
            }
            if settled {
                readings = 2;
            } else {
                shift += offset;
            }
        }
    }
    let offset = sum / Vector::new(at_least_one::<P>(count));
    Moments::<P, N> {
        count,
        shift,
        offset,
        squares: squares - sum * offset,
    }
}

#[cube]
fn at_least_one<P: Float>(count: P) -> P {
    max(count, P::new(1.0))
}

/// Merges two sets of values (Chan, Golub & LeVeque 1979). `b` may be empty; `a` only if `b` is.
#[cube]
fn merge<P: Float, N: Size>(a: Moments<P, N>, b: Moments<P, N>) -> Moments<P, N> {
    let count = a.count + b.count;
    let share = Vector::<P, N>::new(b.count / at_least_one::<P>(count));
    let delta = (b.shift - a.shift) + (b.offset - a.offset);
    Moments::<P, N> {
        count,
        shift: a.shift,
        offset: a.offset + delta * share,
        squares: a.squares + b.squares + delta * delta * share * Vector::new(a.count),
    }
}

/// Merges the moments of all units of a lane, and returns them to each unit.
///
/// Units merge in pairs, half of the ranks at a time (here 8 ranks in one lane):
///
/// ```text
///   rank     0   1   2   3   4   5   6   7
///            |   |   |   |   |   |   |   |
///            +---|---|---|---+   |   |   |     rank 0 takes 4, 1 takes 5, 2 takes 6, 3 takes 7
///            +---|---+   ...                   rank 0 takes 2, 1 takes 3
///            +---+                             rank 0 takes 1
///            |
///            +-> all ranks read it from shared memory
/// ```
///
/// The order depends only on the shape and there are no atomics, so results are reproducible.
#[cube]
fn merge_lane<P: Float, N: Size>(own: Moments<P, N>, share: Share) -> Moments<P, N> {
    let units = comptime!(share.tile.units());
    let lanes = comptime!(share.tile.lanes);
    let mut counts = Shared::<[P]>::new_slice(units);
    let mut shifts = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut offsets = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut squares = Shared::<[Vector<P, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    // From here on, the unit's mean is its shift, which keeps the sums below small. It is read back from shared memory,
    // so that no compiler sees which sum it came from: see `Moments`.
    counts[unit] = own.count;
    shifts[unit] = own.shift + own.offset;
    squares[unit] = own.squares;
    sync_cube();
    offsets[unit] = own.offset - (shifts[unit] - own.shift);
    sync_cube();

    let mut distance = comptime!(units / 2).runtime();
    while distance >= lanes {
        if unit < distance {
            let other = unit + distance;
            let merged = merge::<P, N>(
                Moments::<P, N> {
                    count: counts[unit],
                    shift: shifts[unit],
                    offset: offsets[unit],
                    squares: squares[unit],
                },
                Moments::<P, N> {
                    count: counts[other],
                    shift: shifts[other],
                    offset: offsets[other],
                    squares: squares[other],
                },
            );
            counts[unit] = merged.count;
            shifts[unit] = merged.shift;
            offsets[unit] = merged.offset;
            squares[unit] = merged.squares;
        }
        sync_cube();
        distance /= 2;
    }

    let lane = unit % lanes;
    let mut whole = Moments::<P, N> {
        count: counts[lane],
        shift: shifts[lane],
        offset: offsets[lane],
        squares: squares[lane],
    };
    if comptime!(!share.tile.across) {
        whole = merge_vector::<P, N>(whole);
    }
    whole
}

/// Merges the moments of all values of a vector, and returns the result in every place of the vector.
#[cube]
fn merge_vector<P: Float, N: Size>(moments: Moments<P, N>) -> Moments<P, N> {
    let mut whole = Moments::<P, N> {
        count: moments.count,
        shift: Vector::new(moments.shift.extract(0usize)),
        offset: Vector::new(moments.offset.extract(0usize)),
        squares: Vector::new(moments.squares.extract(0usize)),
    };
    #[unroll]
    for lane in 1usize..N::value() {
        whole = merge::<P, N>(
            whole,
            Moments::<P, N> {
                count: moments.count,
                shift: Vector::new(moments.shift.extract(lane)),
                offset: Vector::new(moments.offset.extract(lane)),
                squares: Vector::new(moments.squares.extract(lane)),
            },
        );
    }
    whole
}

/// The statistics of a channel.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Statistics<P: Float, N: Size> {
    mean: Vector<P, N>,
    /// Rounding error of `mean`.
    mean_rest: Vector<P, N>,
    /// The biased variance.
    variance: Vector<P, N>,
}

/// The statistics of a lane. Every unit already has the lane's moments.
#[cube]
fn statistics<P: Float, N: Size>(moments: Moments<P, N>, share: Share) -> Statistics<P, N> {
    // Through shared memory, so that no compiler sees which sum the mean came from: see `Moments`.
    let mut means = Shared::<[Vector<P, N>]>::new_slice(share.tile.lanes);
    let lane = UNIT_POS as usize % share.tile.lanes;
    if share.rank == 0 {
        means[lane] = moments.shift + moments.offset;
    }
    sync_cube();
    let mean = means[lane];
    Statistics::<P, N> {
        mean,
        mean_rest: moments.offset - (mean - moments.shift),
        variance: not_negative::<P, N>(moments.squares / Vector::new(moments.count)),
    }
}
