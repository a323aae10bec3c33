//! The three operations on the values of tensors: what is added up, and the line that values are mapped through.

use super::blocks::{Gradient, GradientAndInput, Input, Line, Normalisation, Real, Target, Value};
use super::channels::PerChannel;
use super::regions::{Region, all_channels, in_regions};
use super::traversal::Sums;
use crate::norm::op::Then;
use crate::norm::op::layout::Dims;

/// No lower bound of outputs.
const NO_FLOOR: f64 = f64::NEG_INFINITY;

/// What scales and shifts each channel, one value per channel.
pub(super) struct Affine<R> {
    pub gamma: Vec<R>,
    pub beta: Vec<R>,
}

/// The tensors of the backward pass, all of the same dimensions.
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

impl<R: Real> Statistics<R> {
    fn inverse_deviation(&self, epsilon: f64) -> f64 {
        inverse_deviation(self.variance.to_f64(), epsilon)
    }

    /// The forward pass of a channel, from what is stored of it.
    fn normalisation(&self, gamma: R, beta: R, epsilon: f64) -> Normalisation<R> {
        let (rest, variance) = (self.mean_rest.to_f64(), self.variance.to_f64());
        normalisation((self.mean, rest, variance), gamma, beta, epsilon)
    }
}

fn inverse_deviation(variance: f64, epsilon: f64) -> f64 {
    1.0 / (variance + epsilon).sqrt()
}

/// The forward pass of a channel of mean `mean + rest`.
fn normalisation<R: Real>(
    (mean, rest, variance): (R, f64, f64),
    gamma: R,
    beta: R,
    epsilon: f64,
) -> Normalisation<R> {
    let scale = gamma.to_f64() * inverse_deviation(variance, epsilon);
    // Without a rest, an infinite scale must not turn beta into NaN.
    let correction = if rest == 0.0 { 0.0 } else { scale * rest };
    Normalisation {
        centre: mean,
        scale: R::from_f64(scale),
        shift: R::from_f64(beta.to_f64() - correction),
    }
}

/// The gradients of a channel's parameters.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ParameterGradients<R> {
    pub gamma: R,
    pub beta: R,
}

/// The forward passes of a region's channels, given their statistics.
fn normalisations<R: Real>(
    region: &Region,
    statistics: &[Statistics<R>],
    affine: &Affine<R>,
    epsilon: f64,
) -> PerChannel<R> {
    let channels = region.channels.clone().zip(statistics);
    PerChannel::new(channels.map(|(channel, of)| {
        of.normalisation(affine.gamma[channel], affine.beta[channel], epsilon)
    }))
}

/// Writes the output of a region's forward passes.
///
/// # Safety
///
/// Those of [`Region::map`].
unsafe fn normalise<T: Value>(
    region: &Region,
    input: Input<T>,
    output: Target<T>,
    forward: &PerChannel<T::Real>,
    then: Then,
) {
    let floor = match then {
        Then::Nothing => NO_FLOOR,
        Then::Relu => 0.0,
    };
    // SAFETY: by this function's conditions.
    unsafe { region.map(input, output, forward, &forward.lines(), floor) };
}

/// Training mode, forward: writes the output, returns each channel's statistics.
///
/// # Safety
///
/// - `input` and `output` have `dims.len()` values, valid for reading and for writing.
/// - They are the same or do not overlap.
/// - Nobody else reads or writes them meanwhile.
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
        // SAFETY: by this function's conditions; regions share no values.
        let (centres, sums) = unsafe { settled_sums(&region, input, count) };
        let channels = region.channels.clone().zip(statistics);
        let found = channels.zip(centres.into_iter().zip(sums));
        let forward = PerChannel::new(found.map(|((channel, stored), (centre, sums))| {
            let [sum, sum_of_squares] = sums;
            let centre = centre.to_f64();
            let off_centre = sum / count;
            // A variance of -1e-20 is the rounding of 0; NaN stays NaN.
            let variance = (sum_of_squares - sum * off_centre) / count;
            let variance = if variance < 0.0 { 0.0 } else { variance };
            let mean = T::Real::from_f64(centre + off_centre);
            let rest = off_centre - (mean.to_f64() - centre);
            *stored = Statistics {
                mean,
                mean_rest: T::Real::from_f64(rest),
                variance: T::Real::from_f64(variance),
            };
            let (gamma, beta) = (affine.gamma[channel], affine.beta[channel]);
            match then {
                Then::Nothing => normalisation((mean, rest, variance), gamma, beta, epsilon),
                // The backward pass computes the output again, from what is stored: if this pass does so too, the
                // ReLU's gate agrees with the output to the bit.
                Then::Relu => stored.normalisation(gamma, beta, epsilon),
            }
        }));
        // SAFETY: by this function's conditions; regions share no values.
        unsafe { normalise(&region, input, output, &forward, then) };
    });
    statistics
}

/// The sums of `d = x - centre` and of its square, for a centre of each channel so near the mean that the variance
/// loses no precision in `sum d^2 - (sum d)^2 / count`.
///
/// A guess from a few values is nearly always near enough, and then the input is read once. If it is off by more than
/// two standard deviations, the input is read again, and the mean that the guess led to is the centre.
///
/// # Safety
///
/// Those of [`Region::sums`].
unsafe fn settled_sums<T: Value>(
    region: &Region,
    input: Input<T>,
    count: f64,
) -> (Vec<T::Real>, Vec<Sums>) {
    // SAFETY: by this function's conditions.
    let mut centres = unsafe { region.guess_means(input) };
    let sums = unsafe { region.sums(input, &PerChannel::about(&centres)) };
    let mut settled = true;
    for (centre, [sum, sum_of_squares]) in centres.iter_mut().zip(&sums) {
        let off_centre = sum / count;
        let shift = sum * off_centre;
        if shift > 4.0 * (sum_of_squares - shift) && off_centre.is_finite() {
            *centre = T::Real::from_f64(centre.to_f64() + off_centre);
            settled = false;
        }
    }
    if settled {
        return (centres, sums);
    }
    // SAFETY: by this function's conditions.
    let sums = unsafe { region.sums(input, &PerChannel::about(&centres)) };
    (centres, sums)
}

/// Backward: writes the input's gradient, returns each channel's gradients of gamma and beta.
///
/// With `frozen`, the statistics do not depend on the input. With `RELU`, a ReLU follows the normalisation.
///
/// # Safety
///
/// - The tensors have `dims.len()` values, valid for reading and, for `output`, for writing.
/// - `gradient` and `output` are the same or do not overlap; `input` and `output` do not overlap.
/// - Nobody else writes to `input`, or reads or writes the others, meanwhile.
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
    let both = GradientAndInput::<T, RELU> { gradient, input };
    let mut parameters = vec![ParameterGradients::default(); dims.channels];
    in_regions(dims, &mut parameters, |region, parameters| {
        let statistics = &statistics[region.channels.clone()];
        let forward = normalisations(&region, statistics, affine, epsilon);
        // SAFETY: by this function's conditions; regions share no values.
        let sums = unsafe { region.sums(both, &forward) };
        let of_channels = region.channels.clone().zip(statistics).zip(sums);
        let of_channels = of_channels.zip(parameters);
        let lines = PerChannel::new(of_channels.map(
            |(((channel, of), [sum, products]), found)| {
                let mean_rest = of.mean_rest.to_f64();
                let inverse_deviation = of.inverse_deviation(epsilon);
                let for_gamma = (products - mean_rest * sum) * inverse_deviation;
                *found = ParameterGradients {
                    gamma: T::Real::from_f64(for_gamma),
                    beta: T::Real::from_f64(sum),
                };
                let scale = affine.gamma[channel].to_f64() * inverse_deviation;
                let (slope, shift) = if frozen {
                    (0.0, 0.0)
                } else {
                    let slope = -scale * inverse_deviation * for_gamma / count;
                    (slope, -scale * sum / count - slope * mean_rest)
                };
                Line {
                    scale: T::Real::from_f64(scale),
                    slope: T::Real::from_f64(slope),
                    shift: T::Real::from_f64(shift),
                }
            },
        ));
        // SAFETY: by this function's conditions; regions share no values.
        unsafe {
            if frozen {
                region.map(Gradient(both), output, &forward, &lines, NO_FLOOR);
            } else {
                region.map(both, output, &forward, &lines, NO_FLOOR);
            }
        }
    });
    parameters
}

/// Inference mode: writes the output.
///
/// # Safety
///
/// Those of [`forward`].
pub(super) unsafe fn inference<T: Value>(
    dims: Dims,
    input: Input<T>,
    output: Target<T>,
    affine: &Affine<T::Real>,
    statistics: &[Statistics<T::Real>],
    epsilon: f64,
    then: Then,
) {
    // Nothing is added up, so the tensor is read and written in the order in which it lies.
    let region = all_channels(dims);
    let forward = normalisations(&region, statistics, affine, epsilon);
    // SAFETY: by this function's conditions.
    unsafe { normalise(&region, input, output, &forward, then) };
}
