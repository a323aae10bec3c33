//! The kernels.
//!
//! A tensor is seen as `[outer, channels, inner]`, in vectors of `N` values that lie side by side. Where
//! `inner` is 1 the values of a vector belong to neighbouring channels (`across`), else to one channel. A cube takes a
//! group of channels and a part of their values: `lanes` of its units stand side by side on neighbouring vectors of
//! channels, and all units of one lane share that lane's values among them.
//!
//! Sums are kept by every unit for itself and brought together as a tree, in an order that depends on nothing but the
//! shape, so that results are reproducible; no atomics.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Vectors of one value.
type One = Const<1>;

/// How a tensor lies, counted in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Extent {
    /// Channels, or vectors of channels.
    pub channels: usize,
    /// From one channel, or vector of channels, to the next.
    pub channel: usize,
    /// From one outer position to the next.
    pub outer: usize,
    /// Vectors of one channel at an outer position.
    pub inner: usize,
    /// Vectors in a row of these, and from one row to the next, where `inner` is in rows.
    pub row: usize,
    pub pitch: usize,
    /// Vectors of one channel, or of one vector of channels, in all.
    pub count: usize,
}

/// How the units of a cube are placed, known when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// Whether the values of a vector belong to neighbouring channels.
    pub across: bool,
    /// Whether what a channel has at an outer position is in rows with gaps behind them.
    pub pitched: bool,
    /// Units side by side on neighbouring vectors of channels.
    pub lanes: usize,
    /// Units that share a lane's values; a power of two.
    pub rows: usize,
}

/// What a unit works on.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Share {
    /// The channel, or vector of channels; always one that there is.
    channel: usize,
    /// Whether the unit has a channel of its own; the last cube may have more lanes than there are channels.
    active: bool,
    /// Place of the unit among those of its lane.
    row: usize,
    /// The first of the channel's vectors to look at, the distance to the next, and how many there are.
    first: usize,
    step: usize,
    steps: usize,
}

/// The part of a unit in a grid of groups of channels by parts of their values.
#[cube]
fn share(extent: Extent, #[comptime] plan: Plan) -> Share {
    let unit = UNIT_POS as usize;
    let wanted = CUBE_POS_X as usize * plan.lanes + unit % plan.lanes;
    let active = wanted < extent.channels;
    let row = unit / plan.lanes;
    let first = CUBE_POS_Y as usize * plan.rows + row;
    let step = CUBE_COUNT_Y as usize * plan.rows;
    let end = select(active, extent.count, 0);
    Share {
        channel: select(active, wanted, extent.channels - 1),
        active,
        row,
        first,
        step,
        steps: (max(end, first) - first).div_ceil(step),
    }
}

/// Where the vector lies that a unit looks at in a step.
#[cube]
fn position(extent: Extent, share: Share, at: usize, #[comptime] plan: Plan) -> usize {
    let index = share.first + at * share.step;
    let mut within = index % extent.inner;
    if comptime!(plan.pitched) {
        within = within / extent.row * extent.pitch + within % extent.row;
    }
    index / extent.inner * extent.outer + share.channel * extent.channel + within
}

/// The values of a channel, or of a vector of channels, out of a tensor of one value a channel.
#[cube]
fn load<P: Float, N: Size>(
    source: &Tensor<P>,
    channel: usize,
    #[comptime] across: bool,
) -> Vector<P, N> {
    load_at::<P, N>(source, 0, channel, across)
}

/// The same out of a tensor `[.., channels]`, from an offset on.
#[cube]
fn load_at<P: Float, N: Size>(
    source: &Tensor<P>,
    offset: usize,
    channel: usize,
    #[comptime] across: bool,
) -> Vector<P, N> {
    let mut values = Vector::<P, N>::empty();
    if across {
        #[unroll]
        for lane in 0usize..N::value() {
            values.insert(lane, source[offset + channel * N::value() + lane]);
        }
    } else {
        values = Vector::new(source[offset + channel]);
    }
    values
}

/// The reverse of [`load`].
#[cube]
fn store<P: Float, N: Size>(
    target: &mut Tensor<P>,
    channel: usize,
    values: Vector<P, N>,
    #[comptime] across: bool,
) {
    store_at::<P, N>(target, 0, channel, values, across);
}

/// The reverse of [`load_at`].
#[cube]
fn store_at<P: Float, N: Size>(
    target: &mut Tensor<P>,
    offset: usize,
    channel: usize,
    values: Vector<P, N>,
    #[comptime] across: bool,
) {
    if across {
        #[unroll]
        for lane in 0usize..N::value() {
            target[offset + channel * N::value() + lane] = values.extract(lane);
        }
    } else {
        target[offset + channel] = values.extract(0usize);
    }
}

/// Number of values, their mean as `shift + offset`, and the sum of the squared deviations from it.
///
/// The mean is not added up before the end: a compiler for GPUs may take `(a + b) - a` for `b`, so that what rounding
/// takes off a sum cannot be had back from it.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Moments<P: Float, N: Size> {
    count: P,
    shift: Vector<P, N>,
    offset: Vector<P, N>,
    squares: Vector<P, N>,
}

/// The moments of what a unit looks at.
///
/// Deviations are taken from the unit's own first value, so that a large mean cancels exactly. Where that value turns
/// out to be an outlier, more than two standard deviations off, they are taken once more from the mean it led to.
#[cube]
fn moments_of_unit<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    extent: Extent,
    share: Share,
    #[comptime] plan: Plan,
) -> Moments<P, N> {
    let zero = Vector::<P, N>::new(P::new(0.0));
    let count = P::cast_from(share.steps);
    let mut shift = zero;
    if share.steps > 0 {
        shift = Vector::cast_from(input[position(extent, share, 0, plan)]);
    }
    let mut sum = zero;
    let mut squares = zero;
    let mut readings = 0u32;
    while readings < 2 {
        sum = zero;
        squares = zero;
        for at in 0..share.steps {
            let value = Vector::<P, N>::cast_from(input[position(extent, share, at, plan)]);
            let deviation = value - shift;
            sum += deviation;
            squares += deviation * deviation;
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

/// The moments of both together (Chan, Golub & LeVeque 1979). Only `b` may be of no values, or both.
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

/// The moments of all units of a lane, for every unit of it.
#[cube]
fn merge_lane<P: Float, N: Size>(own: Moments<P, N>, #[comptime] plan: Plan) -> Moments<P, N> {
    let units = comptime!(plan.lanes * plan.rows);
    let mut counts = Shared::<[P]>::new_slice(units);
    let mut shifts = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut offsets = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut squares = Shared::<[Vector<P, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    // The unit's mean takes the place of its first value, so that what is added up below is small. Out of shared
    // memory, where no compiler sees what the mean was added up from: see `Moments`.
    counts[unit] = own.count;
    shifts[unit] = own.shift + own.offset;
    squares[unit] = own.squares;
    sync_cube();
    offsets[unit] = own.offset - (shifts[unit] - own.shift);
    sync_cube();

    let mut distance = comptime!(units / 2).runtime();
    while distance >= plan.lanes {
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

    let lane = unit % plan.lanes;
    let mut whole = Moments::<P, N> {
        count: counts[lane],
        shift: shifts[lane],
        offset: offsets[lane],
        squares: squares[lane],
    };
    if comptime!(!plan.across) {
        whole = merge_vector::<P, N>(whole);
    }
    whole
}

/// The moments of all values of a vector, in each of its places.
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

/// What a channel is normalised by.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Statistics<P: Float, N: Size> {
    mean: Vector<P, N>,
    mean_rest: Vector<P, N>,
    variance: Vector<P, N>,
}

/// The statistics of a lane, of which every unit has the moments.
#[cube]
fn statistics<P: Float, N: Size>(
    moments: Moments<P, N>,
    row: usize,
    #[comptime] plan: Plan,
) -> Statistics<P, N> {
    // Out of shared memory: see `Moments`.
    let mut means = Shared::<[Vector<P, N>]>::new_slice(plan.lanes);
    let lane = UNIT_POS as usize % plan.lanes;
    if row == 0 {
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

/// A variance of -1e-20 is the rounding of 0; what is not a number stays so.
#[cube]
fn not_negative<P: Float, N: Size>(variance: Vector<P, N>) -> Vector<P, N> {
    let mut values = variance;
    #[unroll]
    for lane in 0usize..N::value() {
        let value = variance.extract(lane);
        values.insert(lane, select(value < P::new(0.0), P::new(0.0), value));
    }
    values
}

/// What a ReLU lets through, values or their gradients, given what goes into it; all of it without `rectify`. What is
/// not a number goes through.
#[cube]
fn gated<P: Float, N: Size>(
    values: Vector<P, N>,
    input: Vector<P, N>,
    #[comptime] rectify: bool,
) -> Vector<P, N> {
    let mut result = values;
    if comptime!(rectify) {
        let zero = P::new(0.0);
        #[unroll]
        for lane in 0usize..N::value() {
            let shut = input.extract(lane) <= zero;
            result.insert(lane, select(shut, zero, values.extract(lane)));
        }
    }
    result
}

/// Writes `(x - mean) * scale + shift` for what a unit looks at, last things first: those that were just read for the
/// statistics are still in the device's cache.
#[cube]
fn normalise<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    output: &mut Tensor<Vector<T, N>>,
    extent: Extent,
    share: Share,
    mean: Vector<P, N>,
    mean_rest: Vector<P, N>,
    scale: Vector<P, N>,
    shift: Vector<P, N>,
    #[comptime] plan: Plan,
    #[comptime] rectify: bool,
) {
    for at in 0..share.steps {
        let place = position(extent, share, share.steps - 1 - at, plan);
        let value = Vector::<P, N>::cast_from(input[place]);
        let normalised = (value - mean - mean_rest) * scale + shift;
        output[place] = Vector::cast_from(gated::<P, N>(normalised, normalised, rectify));
    }
}

/// `1 / sqrt(variance + epsilon)`, by one step of Newton's from what the device takes for it: its own root and division
/// may be off in the last bits.
#[cube]
fn inverse_deviation<P: Float, N: Size>(variance: Vector<P, N>, epsilon: P) -> Vector<P, N> {
    let mut inverse = Vector::<P, N>::empty();
    #[unroll]
    for lane in 0usize..N::value() {
        let square = variance.extract(lane) + epsilon;
        let rough = P::new(1.0) / square.sqrt();
        let off = P::new(0.5) * (P::new(1.0) - square * rough * rough);
        // Not a number at 0 and infinity, where there is nothing to refine.
        inverse.insert(lane, select(off < P::new(1.0), rough + rough * off, rough));
    }
    inverse
}

/// The whole forward operation, one cube for all values of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_whole<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    epsilon: InputScalar,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] rectify: bool,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let moments = merge_lane::<P, N>(moments_of_unit::<T, P, N>(input, extent, share, plan), plan);
    let found = statistics::<P, N>(moments, share.row, plan);
    if share.active && share.row == 0 {
        store::<P, N>(mean, share.channel, found.mean, plan.across);
        store::<P, N>(mean_rest, share.channel, found.mean_rest, plan.across);
        store::<P, N>(variance, share.channel, found.variance, plan.across);
    }
    let gamma = load::<P, N>(gamma, share.channel, plan.across);
    normalise::<T, P, N>(
        input,
        output,
        extent,
        share,
        found.mean,
        found.mean_rest,
        gamma * inverse_deviation::<P, N>(found.variance, epsilon.get::<P>()),
        load::<P, N>(beta, share.channel, plan.across),
        plan,
        rectify,
    );
}

/// The moments of parts of the channels, into `[4, parts, channels]`: counts, shifts, offsets, squares.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_parts<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    parts: &mut Tensor<P>,
    extent: Extent,
    #[comptime] plan: Plan,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let moments = merge_lane::<P, N>(moments_of_unit::<T, P, N>(input, extent, share, plan), plan);
    if share.active && share.row == 0 {
        let channels = parts.shape(2);
        let plane = parts.shape(1) * channels;
        let own = CUBE_POS_Y as usize * channels;
        let count = Vector::<P, N>::new(moments.count);
        store_at::<P, N>(parts, own, share.channel, count, plan.across);
        store_at::<P, N>(
            parts,
            own + plane,
            share.channel,
            moments.shift,
            plan.across,
        );
        store_at::<P, N>(
            parts,
            own + 2 * plane,
            share.channel,
            moments.offset,
            plan.across,
        );
        store_at::<P, N>(
            parts,
            own + 3 * plane,
            share.channel,
            moments.squares,
            plan.across,
        );
    }
}

/// The statistics of the channels from those of their parts; one cube for each group of channels, and vectors of one.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn forward_merge<P: Float>(
    parts: &Tensor<P>,
    mean: &mut Tensor<P>,
    mean_rest: &mut Tensor<P>,
    variance: &mut Tensor<P>,
    extent: Extent,
    #[comptime] plan: Plan,
    #[define(P)] _dtype: ElemType,
) {
    let share = share(extent, plan);
    let channels = extent.channels;
    let plane = parts.shape(1) * channels;
    let zero = Vector::<P, One>::new(P::new(0.0));
    let mut own = Moments::<P, One> {
        count: P::new(0.0),
        shift: zero,
        offset: zero,
        squares: zero,
    };
    for at in 0..share.steps {
        let place = (share.first + at * share.step) * channels + share.channel;
        let part = Moments::<P, One> {
            count: parts[place],
            shift: Vector::new(parts[place + plane]),
            offset: Vector::new(parts[place + 2 * plane]),
            squares: Vector::new(parts[place + 3 * plane]),
        };
        if at == 0 {
            own = part;
        } else {
            own = merge::<P, One>(own, part);
        }
    }
    let moments = merge_lane::<P, One>(own, plan);
    let found = statistics::<P, One>(moments, share.row, plan);
    if share.active && share.row == 0 {
        mean[share.channel] = found.mean.extract(0usize);
        mean_rest[share.channel] = found.mean_rest.extract(0usize);
        variance[share.channel] = found.variance.extract(0usize);
    }
}

/// Normalises by given statistics. Without `exact` there is no rest of the mean, and what is passed for it not read.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn apply<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    variance: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    epsilon: InputScalar,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] exact: bool,
    #[comptime] rectify: bool,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let mut rest = Vector::<P, N>::new(P::new(0.0));
    if exact {
        rest = load::<P, N>(mean_rest, share.channel, plan.across);
    }
    let gamma = load::<P, N>(gamma, share.channel, plan.across);
    let variance = load::<P, N>(variance, share.channel, plan.across);
    normalise::<T, P, N>(
        input,
        output,
        extent,
        share,
        load::<P, N>(mean, share.channel, plan.across),
        rest,
        gamma * inverse_deviation::<P, N>(variance, epsilon.get::<P>()),
        load::<P, N>(beta, share.channel, plan.across),
        plan,
        rectify,
    );
}

/// `sum dy` and `sum dy * (x - mean)` of what a unit looks at; where the output went through a ReLU, `dy` is what that lets
/// through, by `scale` and `shift` of the forward pass.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Sums<P: Float, N: Size> {
    gradient: Vector<P, N>,
    product: Vector<P, N>,
}

#[cube]
fn sums_of_unit<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<T, N>>,
    mean: Vector<P, N>,
    mean_rest: Vector<P, N>,
    scale: Vector<P, N>,
    shift: Vector<P, N>,
    extent: Extent,
    share: Share,
    #[comptime] plan: Plan,
    #[comptime] rectified: bool,
) -> Sums<P, N> {
    let mut sum = Vector::<P, N>::new(P::new(0.0));
    let mut product = Vector::<P, N>::new(P::new(0.0));
    for at in 0..share.steps {
        let place = position(extent, share, at, plan);
        let value = Vector::<P, N>::cast_from(input[place]);
        let deviation = value - mean - mean_rest;
        let dy = Vector::<P, N>::cast_from(gradient[place]);
        let dy = gated::<P, N>(dy, deviation * scale + shift, rectified);
        sum += dy;
        product += dy * deviation;
    }
    Sums::<P, N> {
        gradient: sum,
        product,
    }
}

/// The sums of all units of a lane, for every unit of it.
#[cube]
fn add_lane<P: Float, N: Size>(own: Sums<P, N>, #[comptime] plan: Plan) -> Sums<P, N> {
    let units = comptime!(plan.lanes * plan.rows);
    let mut gradients = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut products = Shared::<[Vector<P, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    gradients[unit] = own.gradient;
    products[unit] = own.product;
    sync_cube();

    let mut distance = comptime!(units / 2).runtime();
    while distance >= plan.lanes {
        if unit < distance {
            let gradient = gradients[unit] + gradients[unit + distance];
            let product = products[unit] + products[unit + distance];
            gradients[unit] = gradient;
            products[unit] = product;
        }
        sync_cube();
        distance /= 2;
    }

    let lane = unit % plan.lanes;
    let mut gradient = gradients[lane];
    let mut product = products[lane];
    if comptime!(!plan.across) {
        gradient = Vector::new(add_vector::<P, N>(gradient));
        product = Vector::new(add_vector::<P, N>(product));
    }
    Sums::<P, N> { gradient, product }
}

/// The sum of a vector's values.
#[cube]
fn add_vector<P: Float, N: Size>(values: Vector<P, N>) -> P {
    let mut sum = values.extract(0usize);
    #[unroll]
    for lane in 1usize..N::value() {
        sum += values.extract(lane);
    }
    sum
}

/// What the gradient of the input is made of: `dx = scale * (dy - offset - slope * (x - mean))`; and `shift`, which with
/// the scale made the output of the input.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Line<P: Float, N: Size> {
    scale: Vector<P, N>,
    offset: Vector<P, N>,
    slope: Vector<P, N>,
    shift: Vector<P, N>,
}

/// The line of a channel of `count` values; with `frozen` statistics do not depend on the input.
#[cube]
fn line<P: Float, N: Size>(
    sums: Sums<P, N>,
    gamma: Vector<P, N>,
    beta: Vector<P, N>,
    inverse: Vector<P, N>,
    count: P,
    #[comptime] frozen: bool,
) -> Line<P, N> {
    let zero = Vector::<P, N>::new(P::new(0.0));
    let mut offset = zero;
    let mut slope = zero;
    if comptime!(!frozen) {
        let count = Vector::<P, N>::new(count);
        offset = sums.gradient / count;
        slope = sums.product * inverse * inverse / count;
    }
    Line::<P, N> {
        scale: gamma * inverse,
        offset,
        slope,
        shift: beta,
    }
}

/// Writes the gradient of the input for what a unit looks at, last things first as in [`normalise`].
#[cube]
fn differentiate<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    gradient: &Tensor<Vector<T, N>>,
    output: &mut Tensor<Vector<T, N>>,
    mean: Vector<P, N>,
    mean_rest: Vector<P, N>,
    line: Line<P, N>,
    extent: Extent,
    share: Share,
    #[comptime] plan: Plan,
    #[comptime] rectified: bool,
) {
    for at in 0..share.steps {
        let place = position(extent, share, share.steps - 1 - at, plan);
        let value = Vector::<P, N>::cast_from(input[place]);
        let deviation = value - mean - mean_rest;
        let dy = Vector::<P, N>::cast_from(gradient[place]);
        let dy = gated::<P, N>(dy, deviation * line.scale + line.shift, rectified);
        let dx = line.scale * (dy - line.offset - line.slope * deviation);
        output[place] = Vector::cast_from(dx);
    }
}

/// The whole backward operation, one cube for all values of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_whole<T: Float, P: Float, N: Size>(
    gradient: &Tensor<Vector<T, N>>,
    input: &Tensor<Vector<T, N>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    variance: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    for_gamma: &mut Tensor<P>,
    for_beta: &mut Tensor<P>,
    epsilon: InputScalar,
    count: InputScalar,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] frozen: bool,
    #[comptime] rectified: bool,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let mean = load::<P, N>(mean, share.channel, plan.across);
    let mean_rest = load::<P, N>(mean_rest, share.channel, plan.across);
    let variance = load::<P, N>(variance, share.channel, plan.across);
    let gamma = load::<P, N>(gamma, share.channel, plan.across);
    let beta = load::<P, N>(beta, share.channel, plan.across);
    let inverse = inverse_deviation::<P, N>(variance, epsilon.get::<P>());
    let own = sums_of_unit::<T, P, N>(
        input,
        gradient,
        mean,
        mean_rest,
        gamma * inverse,
        beta,
        extent,
        share,
        plan,
        rectified,
    );
    let sums = add_lane::<P, N>(own, plan);
    if share.active && share.row == 0 {
        let normalised = sums.product * inverse;
        store::<P, N>(for_gamma, share.channel, normalised, plan.across);
        store::<P, N>(for_beta, share.channel, sums.gradient, plan.across);
    }
    let line = line::<P, N>(sums, gamma, beta, inverse, count.get::<P>(), frozen);
    differentiate::<T, P, N>(
        input, gradient, output, mean, mean_rest, line, extent, share, plan, rectified,
    );
}

/// What made the output of the input, `[2, channels]`: the scale and the shift of each channel.
#[cube(launch_unchecked)]
pub fn forward_lines<P: Float>(
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    variance: &Tensor<P>,
    lines: &mut Tensor<P>,
    epsilon: InputScalar,
    #[define(P)] _dtype: ElemType,
) {
    let channel = ABSOLUTE_POS;
    let channels = lines.shape(1);
    if channel < channels {
        let variance = Vector::<P, One>::new(variance[channel]);
        let inverse = inverse_deviation::<P, One>(variance, epsilon.get::<P>());
        lines[channel] = gamma[channel] * inverse.extract(0usize);
        lines[channels + channel] = beta[channel];
    }
}

/// The sums of parts of the channels, into `[2, parts, channels]`. Where the output went through a ReLU, `lines` is what
/// [`forward_lines`] gives; else it is not read.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_parts<T: Float, P: Float, N: Size>(
    gradient: &Tensor<Vector<T, N>>,
    input: &Tensor<Vector<T, N>>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    lines: &Tensor<P>,
    parts: &mut Tensor<P>,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] rectified: bool,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let channels = parts.shape(2);
    let mean = load::<P, N>(mean, share.channel, plan.across);
    let mean_rest = load::<P, N>(mean_rest, share.channel, plan.across);
    let mut scale = Vector::<P, N>::new(P::new(0.0));
    let mut shift = scale;
    if comptime!(rectified) {
        scale = load::<P, N>(lines, share.channel, plan.across);
        shift = load_at::<P, N>(lines, channels, share.channel, plan.across);
    }
    let own = sums_of_unit::<T, P, N>(
        input, gradient, mean, mean_rest, scale, shift, extent, share, plan, rectified,
    );
    let sums = add_lane::<P, N>(own, plan);
    if share.active && share.row == 0 {
        let plane = parts.shape(1) * channels;
        let own = CUBE_POS_Y as usize * channels;
        store_at::<P, N>(parts, own, share.channel, sums.gradient, plan.across);
        store_at::<P, N>(parts, own + plane, share.channel, sums.product, plan.across);
    }
}

/// The gradients of gamma and beta from the sums of parts; one cube for each group of channels, and vectors of one.
///
/// `lines` is `[4, channels]`: what [`backward_apply`] makes the gradient of the input of.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_merge<P: Float>(
    parts: &Tensor<P>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    variance: &Tensor<P>,
    for_gamma: &mut Tensor<P>,
    for_beta: &mut Tensor<P>,
    lines: &mut Tensor<P>,
    epsilon: InputScalar,
    count: InputScalar,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] frozen: bool,
    #[define(P)] _dtype: ElemType,
) {
    let share = share(extent, plan);
    let channels = extent.channels;
    let plane = parts.shape(1) * channels;
    let mut gradient = Vector::<P, One>::new(P::new(0.0));
    let mut product = Vector::<P, One>::new(P::new(0.0));
    for at in 0..share.steps {
        let place = (share.first + at * share.step) * channels + share.channel;
        gradient += Vector::new(parts[place]);
        product += Vector::new(parts[place + plane]);
    }
    let sums = add_lane::<P, One>(Sums::<P, One> { gradient, product }, plan);
    if share.active && share.row == 0 {
        let channel = share.channel;
        let variance = Vector::<P, One>::new(variance[channel]);
        let inverse = inverse_deviation::<P, One>(variance, epsilon.get::<P>());
        let normalised = sums.product * inverse;
        for_gamma[channel] = normalised.extract(0usize);
        for_beta[channel] = sums.gradient.extract(0usize);
        let gamma = Vector::<P, One>::new(gamma[channel]);
        let beta = Vector::<P, One>::new(beta[channel]);
        let line = line::<P, One>(sums, gamma, beta, inverse, count.get::<P>(), frozen);
        lines[channel] = line.scale.extract(0usize);
        lines[channels + channel] = line.offset.extract(0usize);
        lines[2 * channels + channel] = line.slope.extract(0usize);
        lines[3 * channels + channel] = line.shift.extract(0usize);
    }
}

/// The gradient of the input from the lines of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_apply<T: Float, P: Float, N: Size>(
    gradient: &Tensor<Vector<T, N>>,
    input: &Tensor<Vector<T, N>>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    lines: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    extent: Extent,
    #[comptime] plan: Plan,
    #[comptime] rectified: bool,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = share(extent, plan);
    let channels = lines.shape(1);
    let line = Line::<P, N> {
        scale: load::<P, N>(lines, share.channel, plan.across),
        offset: load_at::<P, N>(lines, channels, share.channel, plan.across),
        slope: load_at::<P, N>(lines, 2 * channels, share.channel, plan.across),
        shift: load_at::<P, N>(lines, 3 * channels, share.channel, plan.across),
    };
    let mean = load::<P, N>(mean, share.channel, plan.across);
    let mean_rest = load::<P, N>(mean_rest, share.channel, plan.across);
    differentiate::<T, P, N>(
        input, gradient, output, mean, mean_rest, line, extent, share, plan, rectified,
    );
}
