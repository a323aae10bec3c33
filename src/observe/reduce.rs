//! Tensor operations that the statistics share.

use burn::tensor::{Bool, FloatDType, Int, Tensor};

use crate::dtype::at_least_f32;

/// Converts half precision to f32: a sum of many values needs more range and more digits.
pub(super) fn in_full_precision<const D: usize>(values: Tensor<D>) -> Tensor<D> {
    let dtype = at_least_f32(values.dtype());
    values.cast(FloatDType::from(dtype))
}

/// Divides values by their largest magnitude. Returns the quotients and the magnitude, `[1]`, which is 1 if all values
/// are 0.
///
/// The squares of the quotients neither overflow nor underflow, so even a signal of 1e-30 or 1e+30 has a std in f32.
pub(super) fn scaled(values: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let largest = values.clone().max_abs();
    let all_zero = largest.clone().equal_elem(0.0);
    let largest = largest.mask_fill(all_zero, 1.0);
    (values / largest.clone(), largest)
}

/// Replaces the masked values by `value`.
pub(super) fn filled(values: &Tensor<1>, mask: &Tensor<1, Bool>, value: f64) -> Tensor<1> {
    values.clone().mask_fill(mask.clone(), value)
}

/// Counts the values for which the mask is true: `[1]`.
pub(super) fn number_of<const D: usize>(mask: Tensor<D, Bool>) -> Tensor<1, Int> {
    mask.int().sum()
}

/// The largest magnitude of some values, and their population std and root mean square divided by it: `[3]`.
pub(super) fn spread(values: Tensor<1>) -> Tensor<1> {
    let count = values.dims()[0];
    let (values, largest) = scaled(in_full_precision(values));
    let mean = values.clone().sum() / count as f64;
    let mean_square = values.clone().square().sum() / count as f64;
    let variance = (values - mean).square().sum() / count as f64;
    Tensor::cat(vec![largest, variance.sqrt(), mean_square.sqrt()], 0)
}
