//! Pooling: the value of a window, and the gradient that windows hand to a place of the image.
//!
//! The vectors of a channel are numbered image by image, and row by row, however they lie in memory
//! ([`Share::place`]). A vector has one value, or lies across channels: never along a row.
//!
//! Forward, a unit computes the values of its windows from the input, and writes only these. Backward, [`choose`] finds
//! once more where the maximum of each window lies, and [`Gradient`] collects for each place the gradients of the
//! windows that chose it. So nobody writes the gradient of the image before it is pooled.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::affine::{Activation, Affine, inverse_deviation, is_nan};
use super::forward::output_at;
use super::index::{Extent, Share, Tile};
use crate::norm::op::{Pooling, PoolingKind};

/// A pooling, and the extent of the pooled tensor.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Pooled {
    extent: Extent,
    #[cube(comptime)]
    pooling: Pooling,
}

#[cube]
impl Pooled {
    /// The unit's share of the pooled tensor, given that of the input.
    fn share(&self, of_input: Share) -> Share {
        Share::of_unit(self.extent, comptime!(of_input.tile.dense()))
    }
}

/// Writes a unit's share of the pooled tensor.
#[cube]
pub fn pool<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    output: &mut Tensor<Vector<T, N>>,
    of_input: Share,
    pooled: Pooled,
    affine: Affine<P, N>,
    #[comptime] activation: Activation,
) {
    let share = pooled.share(of_input);
    let pooling = comptime!(pooled.pooling);
    for at in 0..share.steps {
        let index = share.index(at);
        let value = match comptime!(pooling.kind) {
            PoolingKind::Max => {
                largest::<T, P, N>(
                    input, residual, of_input, index, affine, pooling, activation,
                )
                .value
            }
            PoolingKind::Average { .. } => average::<T, P, N>(
                input, residual, of_input, index, affine, pooling, activation,
            ),
        };
        output[share.place(index)] = Vector::cast_from(value);
    }
}

/// Finds where the maximum of each window lies: its index in the image.
#[cube(launch_unchecked, address_type = "dynamic")]
pub fn choose<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    gamma: &Tensor<P>,
    beta: &Tensor<P>,
    mean: &Tensor<P>,
    mean_rest: &Tensor<P>,
    variance: &Tensor<P>,
    choices: &mut Tensor<Vector<u32, N>>,
    epsilon: InputScalar,
    slope: InputScalar,
    extent: Extent,
    pooled: Pooled,
    #[comptime] tile: Tile,
    #[comptime] activation: Activation,
    #[define(T, P)] _dtypes: [ElemType; 2],
) {
    let of_input = Share::of_unit(extent, tile);
    let inverse = inverse_deviation::<P, N>(of_input.load::<P, N>(variance), epsilon.get::<P>());
    let affine = Affine::<P, N> {
        mean: of_input.load::<P, N>(mean),
        mean_rest: of_input.load::<P, N>(mean_rest),
        scale: of_input.load::<P, N>(gamma) * inverse,
        shift: of_input.load::<P, N>(beta),
        slope: slope.get::<P>(),
    };
    let share = pooled.share(of_input);
    let pooling = comptime!(pooled.pooling);
    for at in 0..share.steps {
        let index = share.index(at);
        let largest = largest::<T, P, N>(
            input, residual, of_input, index, affine, pooling, activation,
        );
        choices[share.place(index)] = largest.pixel;
    }
}

/// The gradient of the activation's output: given, or collected from the windows of a pooling.
#[derive(CubeType, CubeLaunch)]
pub struct Gradient<T: Float, N: Size> {
    /// The gradient of the output.
    values: OwnedTensor<Vector<T, N>>,
    /// Where the maximum of each window lies.
    choices: ComptimeOption<OwnedTensor<Vector<u32, N>>>,
    pooled: ComptimeOption<Pooled>,
}

#[cube]
impl<T: Float, N: Size> Gradient<T, N> {
    /// The gradient at the vector of the input that a unit reads in its `at`-th step.
    pub fn read<P: Float>(&self, share: Share, at: usize) -> Vector<T, N> {
        #[comptime]
        match &self.pooled {
            ComptimeOption::None => self.values[share.position(at)],
            ComptimeOption::Some(pooled) => self.collect::<P>(pooled, share, share.index(at)),
        }
    }

    /// Reads a unit's share, of at most `held` vectors, into registers.
    pub fn hold<P: Float>(&self, share: Share, #[comptime] held: usize) -> Array<Vector<T, N>> {
        let mut values = Array::<Vector<T, N>>::new(comptime!(held.max(1)));
        #[unroll]
        for at in 0..held {
            if at < share.steps {
                values[at] = self.read::<P>(share, at);
            }
        }
        values
    }

    /// Adds up the gradients of the windows that hold, or chose, a vector of the input. Rounds the sum, as if the
    /// pooling had been an operation of its own.
    fn collect<P: Float>(&self, pooled: &Pooled, of_input: Share, index: usize) -> Vector<T, N> {
        let share = pooled.share(of_input);
        let pooling = comptime!(pooled.pooling);
        let pixel = Pixel::new(index, comptime!(pooling.input));
        let rows = windows_of(pixel.row, 0usize, pooling);
        let columns = windows_of(pixel.column, 1usize, pooling);
        let here = pixel.within(comptime!(pooling.input)) as u32;
        let first = share.place(pixel.first(comptime!(pooling.output)));
        let zero = P::new(0.0);
        let mut sum = Vector::<P, N>::new(zero);
        for row in rows.start..rows.end {
            for column in columns.start..columns.end {
                let window = Pixel {
                    image: pixel.image,
                    row,
                    column,
                };
                let place = first + share.offset(window.within(comptime!(pooling.output)));
                let gradient = Vector::<P, N>::cast_from(self.values[place]);
                #[comptime]
                match &self.choices {
                    ComptimeOption::Some(choices) => {
                        let choice = choices[place];
                        #[unroll]
                        for lane in 0usize..N::value() {
                            let value = gradient.extract(lane);
                            let taken = select(choice.extract(lane) == here, value, zero);
                            sum.insert(lane, sum.extract(lane) + taken);
                        }
                    }
                    ComptimeOption::None => {
                        sum += gradient / Vector::new(divisor::<P>(window, pooling));
                    }
                }
            }
        }
        Vector::cast_from(sum)
    }
}

/// A place in an image.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Pixel {
    image: usize,
    row: usize,
    column: usize,
}

#[cube]
impl Pixel {
    /// The place of a vector of a channel, given its index and the size of the images.
    fn new(index: usize, #[comptime] size: [usize; 2]) -> Pixel {
        let within = index % comptime!(size[0] * size[1]);
        Pixel {
            image: index / comptime!(size[0] * size[1]),
            row: within / size[1],
            column: within % size[1],
        }
    }

    /// The index of the image's first vector in the channel.
    fn first(&self, #[comptime] size: [usize; 2]) -> usize {
        self.image * comptime!(size[0] * size[1])
    }

    /// The index of the place's vector in the image.
    fn within(&self, #[comptime] size: [usize; 2]) -> usize {
        self.row * size[1] + self.column
    }
}

/// Rows or columns, without the one at `end`.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Span {
    start: usize,
    end: usize,
}

/// Rows (axis 0) or columns of the image in the window at a row or column of the output.
#[cube]
fn in_window(at: usize, #[comptime] axis: usize, #[comptime] pooling: Pooling) -> Span {
    let first = at * pooling.strides[axis];
    let padding = comptime!(pooling.padding[axis]);
    Span {
        start: max(first, padding) - padding,
        end: min(
            first + comptime!(pooling.window[axis] - padding),
            pooling.input[axis],
        ),
    }
}

/// Rows (axis 0) or columns of the windows that hold a row or column of the image.
#[cube]
fn windows_of(at: usize, #[comptime] axis: usize, #[comptime] pooling: Pooling) -> Span {
    let padded = at + pooling.padding[axis];
    let window = comptime!(pooling.window[axis]);
    let stride = comptime!(pooling.strides[axis]);
    Span {
        start: (max(padded + 1, window) - window).div_ceil(stride),
        end: min(padded / stride + 1, pooling.output[axis]),
    }
}

/// The largest value of a window, in each lane.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
struct Largest<P: Float, N: Size> {
    value: Vector<P, N>,
    /// Where it lies: its index in the image.
    pixel: Vector<u32, N>,
}

/// The largest value of the window with this index, rounded to the type of the tensors: the first of several, or the
/// last NaN, as in PyTorch.
#[cube]
fn largest<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    of_input: Share,
    index: usize,
    affine: Affine<P, N>,
    #[comptime] pooling: Pooling,
    #[comptime] activation: Activation,
) -> Largest<P, N> {
    let window = Pixel::new(index, comptime!(pooling.output));
    let rows = in_window(window.row, 0usize, pooling);
    let columns = in_window(window.column, 1usize, pooling);
    let first = of_input.place(window.first(comptime!(pooling.input)));
    let mut value = Vector::<P, N>::new(P::new(0.0));
    let mut pixel = Vector::<u32, N>::new(0u32);
    for row in rows.start..rows.end {
        for column in columns.start..columns.end {
            let is_first = row == rows.start && column == columns.start;
            let here = Pixel {
                image: window.image,
                row,
                column,
            };
            let within = here.within(comptime!(pooling.input));
            let place = first + of_input.offset(within);
            let output = output_at::<T, P, N>(input[place], residual, place, affine, activation);
            let found = Vector::<P, N>::cast_from(output);
            #[unroll]
            for lane in 0usize..N::value() {
                let new = found.extract(lane);
                let old = value.extract(lane);
                let is_larger = is_first || is_nan::<P>(new) || (new > old && !is_nan::<P>(old));
                value.insert(lane, select(is_larger, new, old));
                pixel.insert(lane, select(is_larger, within as u32, pixel.extract(lane)));
            }
        }
    }
    Largest::<P, N> { value, pixel }
}

/// The average of the window with this index.
#[cube]
fn average<T: Float, P: Float, N: Size>(
    input: &Tensor<Vector<T, N>>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    of_input: Share,
    index: usize,
    affine: Affine<P, N>,
    #[comptime] pooling: Pooling,
    #[comptime] activation: Activation,
) -> Vector<P, N> {
    let window = Pixel::new(index, comptime!(pooling.output));
    let rows = in_window(window.row, 0usize, pooling);
    let columns = in_window(window.column, 1usize, pooling);
    let first = of_input.place(window.first(comptime!(pooling.input)));
    let mut sum = Vector::<P, N>::new(P::new(0.0));
    for row in rows.start..rows.end {
        for column in columns.start..columns.end {
            let here = Pixel {
                image: window.image,
                row,
                column,
            };
            let place = first + of_input.offset(here.within(comptime!(pooling.input)));
            let output = output_at::<T, P, N>(input[place], residual, place, affine, activation);
            sum += Vector::cast_from(output);
        }
    }
    sum / Vector::new(divisor::<P>(window, pooling))
}

/// By what the sum of a window's values is divided.
#[cube]
fn divisor<P: Float>(window: Pixel, #[comptime] pooling: Pooling) -> P {
    match comptime!(pooling.kind) {
        PoolingKind::Average {
            count_padding: false,
        } => {
            let rows = in_window(window.row, 0usize, pooling);
            let columns = in_window(window.column, 1usize, pooling);
            P::cast_from((rows.end - rows.start) * (columns.end - columns.start))
        }
        _ => P::cast_from(comptime!(pooling.window[0] * pooling.window[1])),
    }
}
