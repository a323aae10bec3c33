//! Max pooling of 2x2 windows side by side, the most common one, in registers.
//!
//! Each window has two neighbouring values of one row and two of the next. A block of windows is read as one block from
//! each row, split into its even and its odd columns:
//!
//! ```text
//! a row of the image        a0 b0 a1 b1 a2 b2 ...      even columns  a0 a1 a2 ...      odd columns  b0 b1 b2 ...
//! the next row              c0 d0 c1 d1 c2 d2 ...                    c0 c1 c2 ...                   d0 d1 d2 ...
//!
//! the outputs               max(a, b, c, d), lane by lane
//! ```
//!
//! The results are those of [`pooling`](super::pooling), to the bit.

use super::blocks::{Input, Line, RealOf, Source, Target, in_covering_blocks};
use super::channels::PerChannel;
use super::gate::Gate;
use super::pooling::{is_larger, larger};
use super::regions::Image;
use super::value::{Real, Value};
use crate::norm::op::{Pooling, PoolingKind};

/// Whether a pooling takes the maxima of 2x2 windows side by side.
pub(super) fn is_of_quads(pooling: &Pooling) -> bool {
    pooling.kind == PoolingKind::Max
        && pooling.window == [2, 2]
        && pooling.strides == [2, 2]
        && pooling.padding == [0, 0]
}

/// The windows of an image.
#[derive(Clone, Copy)]
pub(super) struct Quads<'a, S: Source, G> {
    /// The input, or input and residual.
    pub source: S,
    /// The forward pass of each channel.
    pub forward: &'a PerChannel<RealOf<S>>,
    pub gate: G,
    pub image: Image,
    /// Rows and columns of the image.
    pub size: [usize; 2],
}

/// The four values of each of `P` windows, or their gradients: row by row, even columns before odd ones.
type Four<R, const P: usize> = [[[R; P]; 2]; 2];

impl<S: Source, G: Gate<RealOf<S>>> Quads<'_, S, G> {
    /// Writes the maxima of the values of the image, normalised and activated.
    ///
    /// # Safety
    ///
    /// - The image's places are within each tensor of the source; their memory is valid for reading, and nobody writes
    ///   to them meanwhile.
    /// - Its outputs are within `target`; their memory is valid for writing, and nobody else reads or writes them
    ///   meanwhile.
    #[inline(always)]
    pub unsafe fn pool(self, target: Target<S::Value>) {
        let [rows, columns] = self.size.map(|len| len / 2);
        for row in 0..rows {
            in_covering_blocks!(columns, |at, P| {
                // SAFETY: by this function's conditions; the windows are in the image.
                let [[a, b], [c, d]] = unsafe { self.values::<P>([row, at]) };
                let largest = larger(&larger(&larger(&a, &b), &c), &d);
                let place = self.image.output + row * columns + at;
                // SAFETY: by this function's conditions.
                unsafe { target.write(place, largest) };
            });
        }
    }

    /// Writes the gradient of the activation's input to `gated`, given that of the outputs.
    ///
    /// # Safety
    ///
    /// - The image's places are within each tensor of the source, and its outputs within `gradient`; their memory is
    ///   valid for reading, and nobody writes to them meanwhile.
    /// - The image's places are within `gated`; their memory is valid for writing, and nobody else reads or writes them
    ///   meanwhile.
    #[inline(always)]
    pub unsafe fn unpool(self, gradient: Input<S::Value>, gated: Target<S::Value>) {
        let [height, width] = self.size;
        let [rows, columns] = self.size.map(|len| len / 2);
        for row in 0..rows {
            in_covering_blocks!(columns, |at, P| {
                let place = self.image.output + row * columns + at;
                // SAFETY: by this function's conditions; the windows are in the image.
                let (values, gradient) =
                    unsafe { (self.values::<P>([row, at]), gradient.load::<P>(place)) };
                let unpooled = unpooled(&values, gradient);
                for below in 0..2 {
                    let ([z, more_z], [g, more_g]) = (&values[below], &unpooled[below]);
                    let even = self.gate.let_block_through(g, z);
                    let odd = self.gate.let_block_through(more_g, more_z);
                    let [first, second] = halves(RealOf::<S>::join([even, odd]));
                    let place = self.place([row, at], below);
                    // SAFETY: by this function's conditions.
                    unsafe {
                        gated.write(place, first);
                        gated.write(place + P, second);
                    }
                }
            });
            if width % 2 == 1 {
                for row in [2 * row, 2 * row + 1] {
                    // SAFETY: by this function's conditions; this is the last column, which is in no window.
                    unsafe { gated.clear(self.image.start + (row + 1) * width - 1, 1) };
                }
            }
        }
        if height % 2 == 1 {
            // SAFETY: by this function's conditions; this is the last row, which is in no window.
            unsafe { gated.clear(self.image.start + (height - 1) * width, width) };
        }
    }

    /// The place of the first value of a window in its upper row, or in the row `below`.
    #[inline(always)]
    fn place(&self, [row, column]: [usize; 2], below: usize) -> usize {
        self.image.start + (2 * row + below) * self.size[1] + 2 * column
    }

    /// The values of `P` windows from the one at this row and column, rounded to the type of the tensor.
    ///
    /// # Safety
    ///
    /// The windows are in the image. Its places are within each tensor of the source; their memory is valid for
    /// reading, and nobody writes to them meanwhile.
    #[inline(always)]
    unsafe fn values<const P: usize>(self, window: [usize; 2]) -> Four<RealOf<S>, P> {
        let forward = self.forward.copies::<P, _>(self.image.channel);
        let line = Line::of_forward(&forward);
        let mut found = [[[RealOf::<S>::default(); P]; 2]; 2];
        for (below, found) in found.iter_mut().enumerate() {
            let place = self.place(window, below);
            // SAFETY: by this function's conditions.
            let ([u, d], [more_u, more_d]) = unsafe {
                (
                    self.source.read::<P>(place, &forward),
                    self.source.read::<P>(place + P, &forward),
                )
            };
            let first = S::Value::round(self.gate.activate_block(&line.of::<S>(&u, &d)));
            let second = self.gate.activate_block(&line.of::<S>(&more_u, &more_d));
            *found = RealOf::<S>::split(pairs([first, S::Value::round(second)]));
        }
        found
    }
}

/// The gradient of each value of the windows: that of the output for the maximum, and 0 for the others. The maximum is
/// the last NaN, or else the first of equal values.
#[inline(always)]
fn unpooled<R: Real, const P: usize>(values: &Four<R, P>, gradient: [R; P]) -> Four<R, P> {
    let [[a, b], [c, d]] = values;
    let of_ab = larger(a, b);
    let of_abc = larger(&of_ab, c);
    let none = R::default();
    // What is left of the gradient for the values before.
    let [mut for_b, mut for_c, mut for_d] = [[none; P]; 3];
    let [mut for_a, mut left] = [[none; P]; 2];
    for lane in 0..P {
        for_d[lane] = if is_larger(d[lane], of_abc[lane]) {
            gradient[lane]
        } else {
            none
        };
    }
    let mut left_abc = [none; P];
    for lane in 0..P {
        left_abc[lane] = if is_larger(d[lane], of_abc[lane]) {
            none
        } else {
            gradient[lane]
        };
    }
    for lane in 0..P {
        for_c[lane] = if is_larger(c[lane], of_ab[lane]) {
            left_abc[lane]
        } else {
            none
        };
    }
    for lane in 0..P {
        left[lane] = if is_larger(c[lane], of_ab[lane]) {
            none
        } else {
            left_abc[lane]
        };
    }
    for lane in 0..P {
        for_b[lane] = if is_larger(b[lane], a[lane]) {
            left[lane]
        } else {
            none
        };
    }
    for lane in 0..P {
        for_a[lane] = if is_larger(b[lane], a[lane]) {
            none
        } else {
            left[lane]
        };
    }
    [[for_a, for_b], [for_c, for_d]]
}

/// `2 P` values as pairs.
#[inline(always)]
fn pairs<R: Real, const P: usize>(halves: [[R; P]; 2]) -> [[R; 2]; P] {
    // SAFETY: both types are `2 P` numbers side by side.
    unsafe { (&raw const halves).cast::<[[R; 2]; P]>().read() }
}

/// Pairs as `2 P` values.
#[inline(always)]
fn halves<R: Real, const P: usize>(pairs: [[R; 2]; P]) -> [[R; P]; 2] {
    // SAFETY: both types are `2 P` numbers side by side.
    unsafe { (&raw const pairs).cast::<[[R; P]; 2]>().read() }
}
