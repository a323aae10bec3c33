//! The kernel that averages the statistics of a batch into running ones.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Computes the new running mean and variance: one unit per channel.
#[cube(launch_unchecked)]
pub fn average(
    running_mean: &Tensor<f32>,
    running_variance: &Tensor<f32>,
    batch_mean: &Tensor<f32>,
    batch_variance: &Tensor<f32>,
    mean: &mut Tensor<f32>,
    variance: &mut Tensor<f32>,
    gain: f32,
    correction: f32,
) {
    let channel = ABSOLUTE_POS;
    if channel < mean.shape(0) {
        let kept = 1.0f32 - gain;
        let old_mean = running_mean[channel];
        let old_variance = running_variance[channel];
        let new_variance = old_variance * kept + batch_variance[channel] * correction * gain;
        let new_mean = old_mean * kept + batch_mean[channel] * gain;
        let finite = is_finite(new_variance);
        mean[channel] = select(finite, new_mean, old_mean);
        variance[channel] = select(finite, new_variance, old_variance);
    }
}

/// Decides from the bits, for the reason that `affine::is_nan` gives.
#[cube]
fn is_finite(value: f32) -> bool {
    (u32::reinterpret(value) & 0x7f80_0000u32) != 0x7f80_0000u32
}
