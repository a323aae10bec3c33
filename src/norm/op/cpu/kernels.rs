//! The three operations on slices: what is summed, and which line the values are mapped through.

use super::lanes::{Gradient, GradientAndInput, Input, Real, Target, Value};
use super::walk::{ChannelLines, ChannelsNormalised, Region, share};
use crate::norm::op::Then;
use crate::norm::op::layout::Dims;

/// Values that make a task of their own worth starting.
const TASK: usize = 1 << 15;
/// Neighbouring columns that a task takes at least: fewer, and of each row it would read too little in a go.
const COLUMNS: usize = 128;
/// With fewer groups of channels than this, the groups are cut as well.
const GROUPS: usize = 8;

/// What scales and shifts each channel, one value per channel.
pub(super) struct Affine<R> {
    pub gamma: Vec<R>,
    pub beta: Vec<R>,
}

/// The mean and the variance that inference normalises by, one value per channel.
pub(super) struct Moments<R> {
    pub mean: Vec<R>,
    pub variance: Vec<R>,
}

/// The tensors of the backward pass, all of the same dimensions; `gradient` and `output` may be the same.
pub(super) struct Backward<T> {
    pub input: Input<T>,
    /// Gradient of the forward pass's output.
    pub gradient: Input<T>,
    /// Where the input's gradient goes.
    pub output: Target<T>,
}

/// The mean and the biased variance of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Statistics<R> {
    pub mean: R,
    /// Rounding error of `mean`; `mean + mean_rest` has twice the precision.
    pub mean_rest: R,
    pub variance: R,
}

/// The gradients of a channel's parameters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ParameterGradients<R> {
    pub gamma: R,
    pub beta: R,
}

/// Runs a job over all channels: in groups of channels, in parallel, where each group goes from its sums to its output
/// while its values are in the core's cache; or, where there are too few groups, over all channels in one region of
/// several pieces. How the work is cut depends on the dimensions alone, so that the number of threads never shows.
fn in_regions<C: Send>(dims: Dims, per_channel: &mut [C], job: impl Fn(Region, &mut [C]) + Sync) {
    let region = |channels, pieces| Region {
        dims,
        channels,
        pieces,
    };
    let columns = if dims.has_long_runs() { 1 } else { COLUMNS };
    let group = (TASK / dims.values_per_channel().max(1))
        .max(columns.div_ceil(dims.inner.max(1)))
        .clamp(1, dims.channels.max(1));
    let groups = dims.channels.div_ceil(group);
    if groups < GROUPS || dims.len() < 2 * TASK {
        job(region(0..dims.channels, pieces(dims)), per_channel);
    } else {
        let chunks = per_channel.chunks_mut(group).enumerate();
        share(chunks, |(index, chunk)| {
            let first = index * group;
            job(region(first..first + chunk.len(), 1), chunk);
        });
    }
}

/// The number of pieces in which all channels are walked at once.
fn pieces(dims: Dims) -> usize {
    (dims.len() / TASK).clamp(1, 4 * GROUPS)
}

/// The lower bound of outputs: 0 for a ReLU. NaN stays NaN.
fn floor(then: Then) -> f64 {
    match then {
        Then::Nothing => f64::NEG_INFINITY,
        Then::Relu => 0.0,
    }
}

/// Training mode, forward: writes the output; returns each channel's statistics.
///
/// # Safety
///
/// `input` must be valid for reading and `output` for writing `dims.len()` values; they may be the same.
pub(super) unsafe fn forward<T: Value>(
    dims: Dims,
    input: Input<T>,
    output: Target<T>,
    affine: &Affine<T::Real>,
    epsilon: f64,
    then: Then,
) -> Vec<Statistics<T::Real>> {
    let count = dims.values_per_channel() as f64;
    let mut statistics = vec![Statistics::default(); dims.channels];
    in_regions(dims, &mut statistics, |region, statistics| {
        // SAFETY: as the caller promises; regions share no values.
        let (centre, sums) = unsafe { settled_sums(&region, input, count) };
        let mut means = Vec::with_capacity(region.channels.len());
        let mut normalised = Vec::with_capacity(region.channels.len());
        for (index, channel) in region.channels.clone().enumerate() {
            let [sum, sum_of_squares] = sums[index];
            let centre = centre[index].to_f64();
            let off_centre = sum / count;
            // A variance of -1e-20 is the rounding of 0; NaN stays NaN.
            let variance = (sum_of_squares - sum * off_centre) / count;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            let mean = T::Real::from_f64(centre + off_centre);
            let mean_rest = off_centre - (mean.to_f64() - centre);
            let scale = affine.gamma[channel].to_f64() / (variance + epsilon).sqrt();
            means.push(mean);
            normalised.push((scale, affine.beta[channel].to_f64() - scale * mean_rest));
            statistics[index] = Statistics {
                mean,
                mean_rest: T::Real::from_f64(mean_rest),
                variance: T::Real::from_f64(variance),
            };
        }
        let mut lines = ChannelLines::new(ChannelsNormalised::about(means), floor(then));
        for (scale, shift) in normalised {
            lines.push(scale, 0.0, shift);
        }
        // SAFETY: as the caller promises; regions share no values.
        unsafe { region.map(input, output, &lines) };
    });
    statistics
}

/// The sums of `d = x - centre` and of its square, for a centre of each channel so near the mean that the variance
/// loses no precision in `sum d^2 - (sum d)^2 / count`.
///
/// A guess from a few values is nearly always near enough, and then the input is read once. Where it is off by more
/// than two standard deviations, the mean it led to is the centre of a second reading.
///
/// # Safety
///
/// `input` must be of the region's dimensions.
unsafe fn settled_sums<T: Value>(
    region: &Region,
    input: Input<T>,
    count: f64,
) -> (Vec<T::Real>, Vec<[f64; 2]>) {
    // SAFETY: as the caller promises.
    let mut about = ChannelsNormalised::about(unsafe { region.guess_means(input) });
    let sums = unsafe { region.sums(input, &about) };
    let mut settled = true;
    for (centre, [sum, sum_of_squares]) in about.centre.iter_mut().zip(&sums) {
        let off_centre = sum / count;
        let shift = sum * off_centre;
        if shift > 4.0 * (sum_of_squares - shift) && off_centre.is_finite() {
            *centre = T::Real::from_f64(centre.to_f64() + off_centre);
            settled = false;
        }
    }
    if settled {
        return (about.centre, sums);
    }
    // SAFETY: as the caller promises.
    let sums = unsafe { region.sums(input, &about) };
    (about.centre, sums)
}

/// Backward: writes the input's gradient, returns each channel's gradients of gamma and beta.
///
/// With `frozen`, the statistics do not depend on the input. With `RELU`, a ReLU follows the normalisation.
///
/// # Safety
///
/// `input` and `gradient` must be valid for reading and `output` for writing `dims.len()` values; `gradient` and
/// `output` may be the same, `input` and `output` must not overlap.
pub(super) unsafe fn backward<T: Value, const RELU: bool>(
    dims: Dims,
    tensors: Backward<T>,
    affine: &Affine<T::Real>,
    statistics: &[Statistics<T::Real>],
    epsilon: f64,
    frozen: bool,
) -> Vec<ParameterGradients<T::Real>> {
    let Backward {
        input,
        gradient,
        output,
    } = tensors;
    let count = dims.values_per_channel() as f64;
    let both = GradientAndInput::<T, RELU>(gradient.0, input.0);
    let mut parameters = vec![ParameterGradients::default(); dims.channels];
    in_regions(dims, &mut parameters, |region, parameters| {
        let statistics = &statistics[region.channels.clone()];
        let inverse_deviation =
            |of: &Statistics<T::Real>| 1.0 / (of.variance.to_f64() + epsilon).sqrt();
        let mut by = ChannelsNormalised::about(statistics.iter().map(|of| of.mean).collect());
        if RELU {
            for (index, channel) in region.channels.clone().enumerate() {
                let of = &statistics[index];
                let scale = affine.gamma[channel].to_f64() * inverse_deviation(of);
                by.scale[index] = T::Real::from_f64(scale);
                by.shift[index] = T::Real::from_f64(
                    affine.beta[channel].to_f64() - scale * of.mean_rest.to_f64(),
                );
            }
        }
        // SAFETY: as the caller promises; regions share no values.
        let sums = unsafe { region.sums(both, &by) };
        let mut lines = ChannelLines::new(by, f64::NEG_INFINITY);
        for (index, channel) in region.channels.clone().enumerate() {
            let [sum, sum_of_products] = sums[index];
            let mean_rest = statistics[index].mean_rest.to_f64();
            let inverse_deviation = inverse_deviation(&statistics[index]);
            let for_gamma = (sum_of_products - mean_rest * sum) * inverse_deviation;
            let scale = affine.gamma[channel].to_f64() * inverse_deviation;
            if frozen {
                lines.push(scale, 0.0, 0.0);
            } else {
                let slope = -scale * inverse_deviation * for_gamma / count;
                let shift = -scale * sum / count - slope * mean_rest;
                lines.push(scale, slope, shift);
            }
            parameters[index] = ParameterGradients {
                gamma: T::Real::from_f64(for_gamma),
                beta: T::Real::from_f64(sum),
            };
        }
        // SAFETY: as the caller promises; regions share no values.
        unsafe {
            if frozen {
                region.map(Gradient(both), output, &lines);
            } else {
                region.map(both, output, &lines);
            }
        }
    });
    parameters
}

/// Inference mode: writes the output.
///
/// # Safety
///
/// `input` must be valid for reading and `output` for writing `dims.len()` values; they may be the same.
pub(super) unsafe fn inference<T: Value>(
    dims: Dims,
    input: Input<T>,
    output: Target<T>,
    affine: &Affine<T::Real>,
    moments: &Moments<T::Real>,
    epsilon: f64,
    then: Then,
) {
    // Nothing is known of a channel but from its parameters, so that all channels are walked at once, in the order in
    // which they lie.
    let region = Region {
        dims,
        channels: 0..dims.channels,
        pieces: pieces(dims),
    };
    let mut lines = ChannelLines::new(ChannelsNormalised::about(moments.mean.clone()), floor(then));
    for channel in 0..dims.channels {
        let scale =
            affine.gamma[channel].to_f64() / (moments.variance[channel].to_f64() + epsilon).sqrt();
        lines.push(scale, 0.0, affine.beta[channel].to_f64());
    }
    // SAFETY: as the caller promises.
    unsafe { region.map(input, output, &lines) };
}
