//! The backward kernels: two sums over each channel, then the gradient of its input.
//!
//! With `d = x - mean`, `s = 1 / sqrt(variance + epsilon)`, sums over the `m` values of a channel, and `dy` the
//! gradient that the activation lets through, if there is one:
//!
//! ```text
//!   dbeta  = sum(dy)
//!   dgamma = sum(dy * d) * s
//!   dx     = gamma * s * (dy - sum(dy) / m - d * s^2 * sum(dy * d) / m)
//! ```
//!
//! With frozen statistics, which do not depend on the input, `dx = gamma * s * dy`.
//!
//! If a residual was added before the activation, its gradient is `dy`. The loops that add up write it to `gated`, and
//! the loops that compute `dx` read it there. Otherwise they compute it again.
//!
//! [`backward_whole`] does everything; [`forward_scale`] (for an activation), [`backward_parts`], [`backward_merge`]
//! and [`backward_apply`] do the same in steps, for channels that several cubes share. Where the last of these cubes can
//! merge what they found, [`backward_joint`] does all steps but the last.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::affine::{Activation, Affine, gate, inverse_deviation, plus, rounded};
use super::index::{Extent, Share, Tile};
use super::joint::is_last;
use super::pooling::Gradient;

/// Vectors of one value.
type One = Const<1>;

/// Computes all gradients. One cube processes all values of its channels.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_whole<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    variance: &Tensor<P>,
    mut gated: ComptimeOption<&mut Tensor<Vector<T, N>>>,
    output: &mut Tensor<Vector<T, N>>,
    for_gamma: &mut Tensor<P>,
    for_beta: &mut Tensor<P>,
    epsilon: InputScalar,
    slope: InputScalar,
    values_per_channel: InputScalar,
    extent: Extent,
    #[comptime] tile: Tile,
    #[comptime] held: usize,
    #[comptime] frozen: bool,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let mut gradients = gradient.hold::<P>(share, held);
    let inputs = share.hold::<T, N>(input, held);
    let inverse = inverse_deviation::<P, N>(share.load::<P, N>(variance), epsilon.get::<P>());
    let affine = Affine::<P, N> {
        mean: share.load::<P, N>(mean),
        mean_rest: share.load::<P, N>(mean_rest),
        scale: share.load::<P, N>(gamma) * inverse,
        shift: share.load::<P, N>(beta),
        slope: slope.get::<P>(),
    };
    let zero = Vector::<P, N>::new(P::new(0.0));
    let mut own = Sums::<P, N> {
        gradient: zero,
        product: zero,
    };
    if comptime!(held == 0) {
        own = sums_of_unit::<T, P, N>(
            gradient, input, residual, &mut gated, share, affine, activation,
        );
    }
    #[unroll]
    for at in 0..held {
        if at < share.steps {
            let place = share.position(at);
            let ungated = point::<T, P, N>(gradients[at], inputs[at], affine);
            let point = through_gate::<T, P, N>(ungated, residual, place, affine, activation);
            own.gradient += point.gradient;
            own.product += point.gradient * point.deviation;
            gradients[at] = Vector::cast_from(point.gradient);
            #[comptime]
            if let ComptimeOption::Some(gated) = &mut gated {
                gated[place] = gradients[at];
            }
        }
    }
    let sums = add_lane::<P, N>(own, share);
    if share.leads {
        share.store::<P, N>(for_gamma, sums.product * inverse);
        share.store::<P, N>(for_beta, sums.gradient);
    }
    let values = values_per_channel.get::<P>();
    let centring = centring::<P, N>(sums, inverse, values, frozen);
    if comptime!(held == 0) {
        differentiate::<T, P, N>(
            gradient, input, &gated, output, share, affine, centring, activation,
        );
    }
    #[unroll]
    for at in 0..held {
        if at < share.steps {
            let point = point::<T, P, N>(gradients[at], inputs[at], affine);
            output[share.position(at)] = derivative::<T, P, N>(point, affine.scale, centring);
        }
    }
}

/// Computes the scale of each channel, `gamma / sqrt(variance + epsilon)`: one unit per channel.
#[cube(launch_unchecked)]
pub fn forward_scale<P: Float>(
    gamma: &Tensor<P>,
    variance: &Tensor<P>,
    scale: &mut Tensor<P>,
    epsilon: InputScalar,
    #[define(P)] _dtype: ElemType,
) {
    let channel = ABSOLUTE_POS;
    if channel < scale.shape(0) {
        let variance = Vector::<P, One>::new(variance[channel]);
        let inverse = inverse_deviation::<P, One>(variance, epsilon.get::<P>());
        scale[channel] = gamma[channel] * inverse.extract(0usize);
    }
}

/// Computes the sums of one part of each channel, into `[2, parts, channels]`.
///
/// Without an activation, `scales` and `beta` are not read.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_parts<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    scales: &Tensor<P>,
    beta: &Tensor<P>,
    mut gated: ComptimeOption<&mut Tensor<Vector<T, N>>>,
    parts: &mut Tensor<P>,
    slope: InputScalar,
    extent: Extent,
    #[comptime] tile: Tile,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let mut scale = Vector::<P, N>::new(P::new(0.0));
    let mut shift = scale;
    if comptime!(activation != Activation::None) {
        scale = share.load::<P, N>(scales);
        shift = share.load::<P, N>(beta);
    }
    let affine = Affine::<P, N> {
        mean: share.load::<P, N>(mean),
        mean_rest: share.load::<P, N>(mean_rest),
        scale,
        shift,
        slope: slope.get::<P>(),
    };
    let own = sums_of_unit::<T, P, N>(
        gradient, input, residual, &mut gated, share, affine, activation,
    );
    store_part::<P, N>(own, parts, share);
}

/// [`backward_parts`], after which the last cube of each group of channels does the work of [`backward_merge`].
/// Computes the scales itself.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_joint<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    variance: &Tensor<P>,
    mut gated: ComptimeOption<&mut Tensor<Vector<T, N>>>,
    parts: &mut Tensor<P>,
    counters: &mut Tensor<Atomic<u32>>,
    for_gamma: &mut Tensor<P>,
    for_beta: &mut Tensor<P>,
    lines: &mut Tensor<P>,
    epsilon: InputScalar,
    slope: InputScalar,
    values_per_channel: InputScalar,
    first_counter: u32,
    extent: Extent,
    #[comptime] tile: Tile,
    #[comptime] frozen: bool,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let epsilon = epsilon.get::<P>();
    let inverse = inverse_deviation::<P, N>(share.load::<P, N>(variance), epsilon);
    let affine = Affine::<P, N> {
        mean: share.load::<P, N>(mean),
        mean_rest: share.load::<P, N>(mean_rest),
        scale: share.load::<P, N>(gamma) * inverse,
        shift: share.load::<P, N>(beta),
        slope: slope.get::<P>(),
    };
    let own = sums_of_unit::<T, P, N>(
        gradient, input, residual, &mut gated, share, affine, activation,
    );
    store_part::<P, N>(own, parts, share);
    if is_last(counters, first_counter) {
        let values = values_per_channel.get::<P>();
        if comptime!(tile.across) {
            let sums = add_parts::<P, N>(&*parts, share);
            store_results::<P, N>(
                sums, gamma, beta, variance, for_gamma, for_beta, lines, epsilon, values, share,
                frozen,
            );
        } else {
            let sums = add_parts::<P, One>(&*parts, share);
            store_results::<P, One>(
                sums, gamma, beta, variance, for_gamma, for_beta, lines, epsilon, values, share,
                frozen,
            );
        }
    }
}

/// Adds up the sums of the parts. Writes the gradients of gamma and beta, and the `lines` for [`backward_apply`],
/// `[4, channels]`: scale, shift, offset and slope. Vectors have one value; one cube reads all parts of its channels.
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
    values_per_channel: InputScalar,
    extent: Extent,
    #[comptime] tile: Tile,
    #[comptime] frozen: bool,
    #[define(P)] _dtype: ElemType,
) {
    let share = Share::of_unit(extent, tile);
    let sums = add_parts::<P, One>(parts, share);
    store_results::<P, One>(
        sums,
        gamma,
        beta,
        variance,
        for_gamma,
        for_beta,
        lines,
        epsilon.get::<P>(),
        values_per_channel.get::<P>(),
        share,
        frozen,
    );
}

/// Computes the gradient of the input from the `lines` of [`backward_merge`]. If a residual was added, `gradient` has
/// passed the activation already.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn backward_apply<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    lines: &Tensor<P>,
    output: &mut Tensor<Vector<T, N>>,
    slope: InputScalar,
    extent: Extent,
    #[comptime] tile: Tile,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let share = Share::of_unit(extent, tile);
    let channels = lines.shape(1);
    let affine = Affine::<P, N> {
        mean: share.load::<P, N>(mean),
        mean_rest: share.load::<P, N>(mean_rest),
        scale: share.load_at::<P, N>(lines, 0),
        shift: share.load_at::<P, N>(lines, channels),
        slope: slope.get::<P>(),
    };
    let centring = Centring::<P, N> {
        offset: share.load_at::<P, N>(lines, 2 * channels),
        slope: share.load_at::<P, N>(lines, 3 * channels),
    };
    let gated = ComptimeOption::<&mut Tensor<Vector<T, N>>>::new_None();
    differentiate::<T, P, N>(
        gradient, input, &gated, output, share, affine, centring, activation,
    );
}

/// `sum(dy)` and `sum(dy * (x - mean))`.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Sums<P: Float, N: Size> {
    gradient: Vector<P, N>,
    product: Vector<P, N>,
}

/// `dy` and `x - mean`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Point<P: Float, N: Size> {
    gradient: Vector<P, N>,
    deviation: Vector<P, N>,
}

/// The point of a vector of the gradient and one of the input.
#[cube]
fn point<T: Float, P: Float, N: Size>(
    gradient: Vector<T, N>,
    input: Vector<T, N>,
    affine: Affine<P, N>,
) -> Point<P, N> {
    Point::<P, N> {
        gradient: Vector::cast_from(gradient),
        deviation: affine.deviation(Vector::cast_from(input)),
    }
}

/// A point whose gradient has passed the activation. It is rounded to the type of the tensors, as if the activation had
/// been an operation of its own.
#[cube]
fn through_gate<T: Float, P: Float, N: Size>(
    point: Point<P, N>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    place: usize,
    affine: Affine<P, N>,
    #[comptime] activation: Activation,
) -> Point<P, N> {
    let mut gradient = point.gradient;
    if comptime!(activation != Activation::None) {
        let z = plus::<T, P, N>(affine.output(point.deviation), residual, place);
        let z = rounded::<T, P, N>(z);
        gradient = rounded::<T, P, N>(gate::<P, N>(gradient, z, affine.slope, activation));
    }
    Point::<P, N> {
        gradient,
        deviation: point.deviation,
    }
}

/// Computes the sums of a unit's share. Writes the gradients that pass the activation to `gated`, which may be
/// `gradient` itself: each value is read before it is overwritten, by the same unit.
#[cube]
fn sums_of_unit<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gated: &mut ComptimeOption<&mut Tensor<Vector<T, N>>>,
    share: Share,
    affine: Affine<P, N>,
    #[comptime] activation: Activation,
) -> Sums<P, N> {
    let mut sum = Vector::<P, N>::new(P::new(0.0));
    let mut product = Vector::<P, N>::new(P::new(0.0));
    for at in 0..share.steps {
        let place = share.position(at);
        let ungated = point::<T, P, N>(gradient.read::<P>(share, at), input[place], affine);
        let point = through_gate::<T, P, N>(ungated, residual, place, affine, activation);
        sum += point.gradient;
        product += point.gradient * point.deviation;
        #[comptime]
        if let ComptimeOption::Some(gated) = gated {
            gated[place] = Vector::cast_from(point.gradient);
        }
    }
    Sums::<P, N> {
        gradient: sum,
        product,
    }
}

/// Stores the sums of a cube's part of its channels in `[2, parts, channels]`.
#[cube]
fn store_part<P: Float, N: Size>(own: Sums<P, N>, parts: &mut Tensor<P>, share: Share) {
    let sums = add_lane::<P, N>(own, share);
    if share.leads {
        let channels = parts.shape(2);
        let plane = parts.shape(1) * channels;
        let part = CUBE_POS_Y as usize * channels;
        share.store_at::<P, N>(parts, part, sums.gradient);
        share.store_at::<P, N>(parts, part + plane, sums.product);
    }
}

/// Adds up all parts of the unit's channels. Vectors lie across channels, or have one value.
#[cube]
fn add_parts<P: Float, N: Size>(parts: &Tensor<P>, share: Share) -> Sums<P, N> {
    let channels = parts.shape(2);
    let plane = parts.shape(1) * channels;
    let mut gradient = Vector::<P, N>::new(P::new(0.0));
    let mut product = Vector::<P, N>::new(P::new(0.0));
    let mut part = share.rank;
    while part < parts.shape(1) {
        gradient += share.load_at::<P, N>(parts, part * channels);
        product += share.load_at::<P, N>(parts, part * channels + plane);
        part += share.tile.units_per_lane;
    }
    add_lane::<P, N>(Sums::<P, N> { gradient, product }, share)
}

/// Stores what follows from the sums of the unit's channels: the gradients of gamma and beta, and the `lines`.
#[cube]
fn store_results<P: Float, N: Size>(
    sums: Sums<P, N>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    variance: &Tensor<P>,
    for_gamma: &mut Tensor<P>,
    for_beta: &mut Tensor<P>,
    lines: &mut Tensor<P>,
    epsilon: P,
    values_per_channel: P,
    share: Share,
    #[comptime] frozen: bool,
) {
    if share.leads {
        let channels = lines.shape(1);
        let inverse = inverse_deviation::<P, N>(share.load::<P, N>(variance), epsilon);
        share.store::<P, N>(for_gamma, sums.product * inverse);
        share.store::<P, N>(for_beta, sums.gradient);
        let centring = centring::<P, N>(sums, inverse, values_per_channel, frozen);
        let scale = share.load::<P, N>(gamma) * inverse;
        share.store_at::<P, N>(lines, 0, scale);
        share.store_at::<P, N>(lines, channels, share.load::<P, N>(beta));
        share.store_at::<P, N>(lines, 2 * channels, centring.offset);
        share.store_at::<P, N>(lines, 3 * channels, centring.slope);
    }
}

/// Adds up the sums of all units of a lane, and returns them to each unit. Units add in pairs, as in the forward
/// kernels' `merge_lane`.
#[cube]
fn add_lane<P: Float, N: Size>(own: Sums<P, N>, share: Share) -> Sums<P, N> {
    let units = comptime!(share.tile.units());
    let lanes = comptime!(share.tile.lanes);
    let mut gradients = Shared::<[Vector<P, N>]>::new_slice(units);
    let mut products = Shared::<[Vector<P, N>]>::new_slice(units);
    let unit = UNIT_POS as usize;
    gradients[unit] = own.gradient;
    products[unit] = own.product;
    sync_cube();

    let mut distance = comptime!(units / 2).runtime();
    while distance >= lanes {
        if unit < distance {
            let gradient = gradients[unit] + gradients[unit + distance];
            let product = products[unit] + products[unit + distance];
            gradients[unit] = gradient;
            products[unit] = product;
        }
        sync_cube();
        distance /= 2;
    }

    let lane = unit % lanes;
    let mut gradient = gradients[lane];
    let mut product = products[lane];
    if comptime!(!share.tile.across) {
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

/// The correction of the gradient because the statistics depend on the input:
/// `dx = scale * (dy - offset - slope * (x - mean))`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Centring<P: Float, N: Size> {
    offset: Vector<P, N>,
    slope: Vector<P, N>,
}

/// The centring of a channel; 0 with `frozen` statistics.
#[cube]
fn centring<P: Float, N: Size>(
    sums: Sums<P, N>,
    inverse: Vector<P, N>,
    values_per_channel: P,
    #[comptime] frozen: bool,
) -> Centring<P, N> {
    let zero = Vector::<P, N>::new(P::new(0.0));
    let mut offset = zero;
    let mut slope = zero;
    if comptime!(!frozen) {
        let count = Vector::<P, N>::new(values_per_channel);
        offset = sums.gradient / count;
        slope = sums.product * inverse * inverse / count;
    }
    Centring::<P, N> { offset, slope }
}

/// Writes the gradient of the input for a unit's share, last values first: those just read for the sums are still in
/// the cache. `output` may be `gradient` itself: each value is read before it is overwritten, by the same unit.
///
/// With `gated`, the gradients that passed the activation are read there.
#[cube]
fn differentiate<T: Float, P: Float, N: Size>(
    gradient: &Gradient<T, N>,
    input: &Tensor<Vector<T, N>>,
    gated: &ComptimeOption<&mut Tensor<Vector<T, N>>>,
    output: &mut Tensor<Vector<T, N>>,
    share: Share,
    affine: Affine<P, N>,
    centring: Centring<P, N>,
    #[comptime] activation: Activation,
) {
    for step in 0..share.steps {
        let at = share.steps - 1 - step;
        let place = share.position(at);
        #[comptime]
        let point = match gated {
            ComptimeOption::Some(gated) => point::<T, P, N>(gated[place], input[place], affine),
            ComptimeOption::None => {
                let given = gradient.read::<P>(share, at);
                let ungated = point::<T, P, N>(given, input[place], affine);
                let none = ComptimeOption::<&Tensor<Vector<T, N>>>::new_None();
                through_gate::<T, P, N>(ungated, none, place, affine, activation)
            }
        };
        output[place] = derivative::<T, P, N>(point, affine.scale, centring);
    }
}

/// The gradient of the input at a point.
#[cube]
fn derivative<T: Float, P: Float, N: Size>(
    point: Point<P, N>,
    scale: Vector<P, N>,
    centring: Centring<P, N>,
) -> Vector<T, N> {
    let centred = point.gradient - centring.offset - centring.slope * point.deviation;
    Vector::cast_from(scale * centred)
}
