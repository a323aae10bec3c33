//! Sigmoid, tanh and SiLU, each as a pass of its own over what the other kernels have written.
//!
//! Inside these kernels they would take no pass, but be compiled once more with each of them.

use pulp::{Arch, Simd, WithSimd};

use super::parallel::share;
use super::regions::TASK;
use super::value::{Real, Value};
use crate::norm::op::{Tail, TailActivation};

/// Values that are calculated together.
const LANES: usize = 16;

/// A smooth activation.
///
/// With `s` the sigmoid and `e = exp(-|z|)`, the derivative of `s` is `e / (1 + e)^2`, which is accurate at both ends.
#[derive(Clone, Copy)]
pub(super) enum Smooth {
    Sigmoid,
    Tanh,
    Silu,
}

impl Smooth {
    /// Takes a smooth activation out of a tail.
    ///
    /// # Panics
    ///
    /// If a pooling follows it.
    pub fn take(tail: Tail) -> (Tail, Option<Self>) {
        let smooth = match tail.activation {
            TailActivation::Sigmoid => Self::Sigmoid,
            TailActivation::Tanh => Self::Tanh,
            TailActivation::Silu => Self::Silu,
            _ => return (tail, None),
        };
        assert!(
            tail.pooling.is_none(),
            "batch norm's kernels do not pool after a smooth activation, found {tail:?}"
        );
        (Tail::NOTHING, Some(smooth))
    }

    /// Replaces each `z` by its activation.
    pub fn activate<T: Value>(self, values: &mut [T]) {
        share(values.chunks_mut(TASK), |values| {
            Arch::new().dispatch(Activate {
                smooth: self,
                values,
            });
        });
    }

    /// Replaces each `z` by its gradient, given that of its activation.
    pub fn differentiate<T: Value>(self, values: &mut [T], gradients: &[T]) {
        let chunks = values.chunks_mut(TASK).zip(gradients.chunks(TASK));
        share(chunks, |(values, gradients)| {
            Arch::new().dispatch(Differentiate {
                smooth: self,
                values,
                gradients,
            });
        });
    }

    #[inline(always)]
    fn of_block<R: Real, const L: usize>(self, z: &[R; L]) -> [R; L] {
        let mut y = [R::default(); L];
        match self {
            Self::Sigmoid => {
                for lane in 0..L {
                    [y[lane], _] = sigmoid(z[lane]);
                }
            }
            Self::Tanh => {
                for lane in 0..L {
                    y[lane] = z[lane].tanh();
                }
            }
            Self::Silu => {
                for lane in 0..L {
                    let [s, _] = sigmoid(z[lane]);
                    y[lane] = z[lane] * s;
                }
            }
        }
        y
    }

    #[inline(always)]
    fn slopes_of_block<R: Real, const L: usize>(self, z: &[R; L]) -> [R; L] {
        let mut slopes = [R::default(); L];
        match self {
            Self::Sigmoid => {
                for lane in 0..L {
                    [_, slopes[lane]] = sigmoid(z[lane]);
                }
            }
            Self::Tanh => {
                // tanh(z) = 2 s(2 z) - 1.
                for lane in 0..L {
                    let [_, slope] = sigmoid(z[lane] + z[lane]);
                    slopes[lane] = R::from_f64(4.0) * slope;
                }
            }
            Self::Silu => {
                for lane in 0..L {
                    let [s, slope] = sigmoid(z[lane]);
                    slopes[lane] = s + z[lane] * slope;
                }
            }
        }
        slopes
    }
}

/// The sigmoid and its derivative.
#[inline(always)]
fn sigmoid<R: Real>(z: R) -> [R; 2] {
    let (zero, one) = (R::default(), R::from_f64(1.0));
    let e = if z > zero { zero - z } else { z }.exp_of_negative();
    let above = one / (one + e);
    let below = e * above;
    [if z > zero { above } else { below }, below * above]
}

/// A type and not a closure, so that all of it is inlined into the function that is compiled for the machine's
/// instruction set.
struct Activate<'a, T> {
    smooth: Smooth,
    values: &'a mut [T],
}

impl<T: Value> WithSimd for Activate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) {
        let (blocks, rest) = self.values.as_chunks_mut::<LANES>();
        for block in blocks {
            *block = T::narrow(self.smooth.of_block(&T::widen(*block)));
        }
        for value in rest {
            [*value] = T::narrow(self.smooth.of_block(&T::widen([*value])));
        }
    }
}

/// A type for the same reason as [`Activate`].
struct Differentiate<'a, T> {
    smooth: Smooth,
    values: &'a mut [T],
    gradients: &'a [T],
}

impl<T: Value> Differentiate<'_, T> {
    #[inline(always)]
    fn of_block<const L: usize>(smooth: Smooth, values: [T; L], gradients: [T; L]) -> [T; L] {
        let mut found = smooth.slopes_of_block(&T::widen(values));
        let gradients = T::widen(gradients);
        for lane in 0..L {
            found[lane] = gradients[lane] * found[lane];
        }
        T::narrow(found)
    }
}

impl<T: Value> WithSimd for Differentiate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) {
        let (blocks, rest) = self.values.as_chunks_mut::<LANES>();
        let (of_blocks, of_rest) = self.gradients.as_chunks::<LANES>();
        for (block, gradients) in blocks.iter_mut().zip(of_blocks) {
            *block = Self::of_block(self.smooth, *block, *gradients);
        }
        for (value, gradient) in rest.iter_mut().zip(of_rest) {
            [*value] = Self::of_block(self.smooth, [*value], [*gradient]);
        }
    }
}
