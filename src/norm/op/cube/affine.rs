//! The function from an input to its output, which the forward and the backward pass evaluate alike.
//!
//! A ReLU lets a gradient through where its input `z` is above 0: the normalised input and the residual, if one is
//! added. The backward pass does not keep `z`: it computes it again, from the same stored statistics, by the same
//! operations in the same order, rounded to the output's type. Both passes use [`Affine::output`] and [`plus`] for
//! that, so the gate never disagrees with the output, even where it is exactly 0.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// The activation that a kernel applies. Known when the kernel is compiled, all but the slope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// None.
    None,
    /// A ReLU.
    Relu,
    /// A leaky ReLU.
    LeakyRelu,
}

/// `y = (x - mean - mean_rest) * scale + shift` for one channel, and the slope of the activation.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Affine<P: Float, N: Size> {
    /// The mean.
    pub mean: Vector<P, N>,
    /// Rounding error of `mean`.
    pub mean_rest: Vector<P, N>,
    /// `gamma / sqrt(variance + epsilon)`.
    pub scale: Vector<P, N>,
    /// beta.
    pub shift: Vector<P, N>,
    /// The slope of a leaky ReLU at and below 0.
    pub slope: P,
}

#[cube]
impl<P: Float, N: Size> Affine<P, N> {
    /// `x - mean`.
    pub fn deviation(&self, value: Vector<P, N>) -> Vector<P, N> {
        value - self.mean - self.mean_rest
    }

    /// `y`, given `x - mean`.
    ///
    /// The multiply-add is explicit: a compiler that is free to fuse a product and a sum may do so in one kernel and
    /// not in another.
    pub fn output(&self, deviation: Vector<P, N>) -> Vector<P, N> {
        fma(deviation, self.scale, self.shift)
    }
}

/// `z`: `y` plus the value of the residual at a place, if there is one.
#[cube]
pub fn plus<T: Float, P: Float, N: Size>(
    y: Vector<P, N>,
    residual: ComptimeOption<&Tensor<Vector<T, N>>>,
    place: usize,
) -> Vector<P, N> {
    let mut z = y;
    #[comptime]
    if let ComptimeOption::Some(residual) = residual {
        z += Vector::cast_from(residual[place]);
    }
    z
}

/// Rounds to the type `T` of a tensor.
#[cube]
pub fn rounded<T: Float, P: Float, N: Size>(values: Vector<P, N>) -> Vector<P, N> {
    Vector::cast_from(Vector::<T, N>::cast_from(values))
}

/// `values` where `z` is above 0 or NaN, elsewhere `values` times the slope of the activation: for a ReLU 0. Without an
/// activation, returns `values`.
///
/// The activation of `z`, if `values` are `z`; the gradient of `z`, if they are that of the activation.
#[cube]
pub fn gate<P: Float, N: Size>(
    values: Vector<P, N>,
    z: Vector<P, N>,
    slope: P,
    #[comptime] activation: Activation,
) -> Vector<P, N> {
    let mut result = values;
    if comptime!(activation != Activation::None) {
        let zero = P::new(0.0);
        #[unroll]
        for lane in 0usize..N::value() {
            let value = values.extract(lane);
            let z = z.extract(lane);
            let mut below = zero;
            if comptime!(activation == Activation::LeakyRelu) {
                below = slope * value;
            }
            let let_through = select(z <= zero, below, value);
            result.insert(lane, select(is_nan::<P>(z), value, let_through));
        }
    }
    result
}

/// The variance, or 0 if rounding made it negative. NaN stays NaN.
#[cube]
pub fn not_negative<P: Float, N: Size>(variance: Vector<P, N>) -> Vector<P, N> {
    let mut values = variance;
    #[unroll]
    for lane in 0usize..N::value() {
        let value = variance.extract(lane);
        let clamped = max(value, P::new(0.0));
        values.insert(lane, select(is_nan::<P>(value), value, clamped));
    }
    values
}

/// `1 / sqrt(variance + epsilon)`, accurate to the last bits.
///
/// The square root and the division of a GPU may be off in the last bits. One step of Newton's method corrects them.
#[cube]
pub fn inverse_deviation<P: Float, N: Size>(variance: Vector<P, N>, epsilon: P) -> Vector<P, N> {
    let mut inverse = Vector::<P, N>::empty();
    #[unroll]
    for lane in 0usize..N::value() {
        let square = variance.extract(lane) + epsilon;
        let rough = P::new(1.0) / square.sqrt();
        let error = P::new(0.5) * (P::new(1.0) - square * rough * rough);
        // NaN at 0 and infinity, where `rough` is exact.
        inverse.insert(
            lane,
            select(is_nan::<P>(error), rough, rough + rough * error),
        );
    }
    inverse
}

/// Whether a value is NaN, decided from its bits.
///
/// A compiler that assumes there is no NaN may drop every comparison that would show one; OpenGL and Metal allow it.
/// Mesa, for one, replaces `select(x <= 0, 0, x)` by `max(x, 0)`, which is 0 for NaN.
#[cube]
pub fn is_nan<P: Float>(value: P) -> bool {
    // Any NaN stays one in f32.
    let bits = u32::reinterpret(f32::cast_from(value));
    (bits & 0x7fff_ffffu32) > 0x7f80_0000u32
}
