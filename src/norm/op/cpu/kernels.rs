//! The three operations on the values of tensors: what is added up, and the line (affine function) that maps the
//! values.

use super::blocks::{
    Gating, Gradient, GradientAndInput, Input, InputAndResidual, Line, Normalisation, RealOf,
    Source, Target,
};
use super::channels::PerChannel;
use super::gate::{Gate, Leaky, Open, Relu, for_gate};
use super::planes::{Pooled, PooledBackward};
use super::regions::{Part, Region, all_channels, in_regions};
use super::traversal::{Mapping, Sums};
use super::value::{Real, Value};
use std::ops::Range;

use crate::norm::op::{Tail, TailActivation};

/// What scales and shifts each channel, one value per channel.
pub(super) struct Affine<R> {
    pub gamma: Vec<R>,
    pub beta: Vec<R>,
}

/// The tensors of the forward pass.
pub(super) struct Forward<T> {
    pub input: Input<T>,
    /// Of the input's dimensions.
    pub residual: Option<Input<T>>,
    /// Of the input's dimensions or, after a pooling, of the pooling's output.
    pub output: Target<T>,
}

/// The tensors of the backward pass.
pub(super) struct Backward<T> {
    pub input: Input<T>,
    /// Of the input's dimensions.
    pub residual: Option<Input<T>>,
    /// Gradient of the forward pass's output.
    pub gradient: Input<T>,
    /// Where the gradient of the activation's input goes, which is the residual's. Of the input's dimensions. Not
    /// written if nothing follows the normalisation.
    pub gated: Target<T>,
    /// Where the input's gradient goes. Of the input's dimensions.
    pub output: Target<T>,
}

impl<T> Clone for Forward<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Forward<T> {}

impl<T> Clone for Backward<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Backward<T> {}

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

/// The gradients of the parameters of all parts of a batch, from those of some and of others.
pub(super) fn added<R: Real>(
    mut some: Vec<ParameterGradients<R>>,
    others: Vec<ParameterGradients<R>>,
) -> Vec<ParameterGradients<R>> {
    let sum = |a: R, b: R| R::from_f64(a.to_f64() + b.to_f64());
    for (some, other) in some.iter_mut().zip(others) {
        some.gamma = sum(some.gamma, other.gamma);
        some.beta = sum(some.beta, other.beta);
    }
    some
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
/// Those of [`Region::map`] or, with a pooling, of [`Region::map_pooled`].
unsafe fn normalise<T: Value>(
    region: &Region,
    tensors: Forward<T>,
    forward: &PerChannel<T::Real>,
    tail: Tail,
) {
    let Forward {
        input,
        residual,
        output,
    } = tensors;
    // SAFETY: by this function's conditions.
    unsafe {
        match residual {
            None => normalise_source(region, input, output, forward, tail),
            Some(residual) => {
                let source = InputAndResidual { input, residual };
                normalise_source(region, source, output, forward, tail);
            }
        }
    }
}

/// [`normalise`] for the input, or for input and residual.
///
/// # Safety
///
/// Those of [`normalise`].
unsafe fn normalise_source<S: Source>(
    region: &Region,
    source: S,
    output: Target<S::Value>,
    forward: &PerChannel<RealOf<S>>,
    tail: Tail,
) {
    // SAFETY: by this function's conditions.
    unsafe {
        if let Some(pooling) = tail.pooling {
            let pooled = Pooled {
                forward,
                activation: tail.activation,
                pooling,
            };
            return region.map_pooled(source, output, pooled);
        }
        let lines = &forward.lines(1.0);
        for_gate!(tail.activation, |gate| {
            region.map(source, output, mapping(forward, lines, gate));
        });
    }
}

fn mapping<'a, R, G>(
    forward: &'a PerChannel<R>,
    lines: &'a PerChannel<R>,
    gate: G,
) -> Mapping<'a, R, G> {
    Mapping {
        forward,
        lines,
        gate,
    }
}

/// Training mode, forward: writes the output of a part, returns the statistics of each of its channels.
///
/// # Safety
///
/// - The tensors have as many values as their dimensions say, valid for reading and, for `output`, for writing.
/// - `input` and `output` are the same or, always with a pooling, do not overlap. `residual` and `output` do not
///   overlap.
/// - Nobody else reads or writes them meanwhile.
pub(super) unsafe fn forward<T: Value>(
    part: &Part,
    tensors: Forward<T>,
    affine: &Affine<T::Real>,
    epsilon: f64,
    tail: Tail,
) -> Vec<Statistics<T::Real>> {
    let mut statistics = vec![Statistics::default(); part.dims.channels];
    in_regions(part, &mut statistics, |region, statistics| {
        // SAFETY: by this function's conditions; regions share no values.
        let found = unsafe { settled_statistics(&region, tensors.input, None) };
        let channels = region.channels.clone().zip(statistics).zip(found);
        let forward = PerChannel::new(channels.map(|((channel, stored), found)| {
            let Found {
                mean,
                rest,
                variance,
            } = found;
            *stored = found.rounded();
            let (gamma, beta) = (affine.gamma[channel], affine.beta[channel]);
            if tail == Tail::NOTHING {
                normalisation((mean, rest, variance), gamma, beta, epsilon)
            } else {
                // The backward pass computes the output again, from what is stored: if this pass does so too, the
                // activation's gate and the pooling's choice agree with the output to the bit.
                stored.normalisation(gamma, beta, epsilon)
            }
        }));
        // SAFETY: by this function's conditions; regions share no values.
        unsafe { normalise(&region, tensors, &forward, tail) };
    });
    statistics
}

/// The statistics of a channel, before they are stored.
struct Found<R> {
    mean: R,
    /// Rounding error of `mean`.
    rest: f64,
    variance: f64,
}

impl<R: Real> Found<R> {
    fn rounded(&self) -> Statistics<R> {
        Statistics {
            mean: self.mean,
            mean_rest: R::from_f64(self.rest),
            variance: R::from_f64(self.variance),
        }
    }
}

/// The statistics of a region's channels, over all places or over these runs of places.
///
/// # Safety
///
/// Those of [`Region::sums_of`].
unsafe fn settled_statistics<T: Value>(
    region: &Region,
    input: Input<T>,
    runs: Option<&[Range<usize>]>,
) -> impl ExactSizeIterator<Item = Found<T::Real>> + use<T> {
    let places = match runs {
        None => region.part.places().len(),
        Some(runs) => runs.iter().map(Range::len).sum(),
    };
    let count = (places * region.columns_per_channel()) as f64;
    // SAFETY: by this function's conditions.
    let (centres, sums) = unsafe { settled_sums(region, input, runs, count) };
    centres.into_iter().zip(sums).map(move |(centre, sums)| {
        let [sum, sum_of_squares] = sums;
        let centre = centre.to_f64();
        let off_centre = sum / count;
        // A variance of -1e-20 is the rounding of 0; NaN stays NaN.
        let variance = (sum_of_squares - sum * off_centre) / count;
        let variance = if variance < 0.0 { 0.0 } else { variance };
        let mean = T::Real::from_f64(centre + off_centre);
        Found {
            mean,
            rest: off_centre - (mean.to_f64() - centre),
            variance,
        }
    })
}

/// The statistics of each channel, over all places or over these runs of the part's places, which are not empty.
///
/// # Safety
///
/// - `input` has as many values as the dimensions say, valid for reading.
/// - Nobody writes to them meanwhile.
/// - The places are the part's.
pub(super) unsafe fn moments<T: Value>(
    part: &Part,
    input: Input<T>,
    runs: Option<&[Range<usize>]>,
) -> Vec<Statistics<T::Real>> {
    let mut statistics = vec![Statistics::default(); part.dims.channels];
    in_regions(part, &mut statistics, |region, statistics| {
        // SAFETY: by this function's conditions.
        let found = unsafe { settled_statistics(&region, input, runs) };
        for (stored, found) in statistics.iter_mut().zip(found) {
            *stored = found.rounded();
        }
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
/// Those of [`Region::sums_of`].
unsafe fn settled_sums<T: Value>(
    region: &Region,
    input: Input<T>,
    runs: Option<&[Range<usize>]>,
    count: f64,
) -> (Vec<T::Real>, Vec<Sums>) {
    let all = [region.part.places()];
    let runs = runs.unwrap_or(&all);
    // SAFETY: by this function's conditions.
    let mut centres = unsafe { region.guess_means(input, runs[0].clone()) };
    let sums_about = |centres: &[T::Real]| {
        // SAFETY: by this function's conditions.
        unsafe { region.sums_of(input, &PerChannel::about(centres), runs) }
    };
    let sums = sums_about(&centres);
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
    let sums = sums_about(&centres);
    (centres, sums)
}

/// Backward: writes the input's gradient of a part and, if anything follows the normalisation, that of the activation's
/// input. Returns each channel's gradients of gamma and beta.
///
/// With `frozen`, the statistics do not depend on the input.
///
/// # Safety
///
/// - The tensors have as many values as their dimensions say, valid for reading and, for `gated` and `output`, for
///   writing.
/// - `gated` and `output` are the same or do not overlap. `gradient` is one of them or overlaps neither; with a
///   pooling, it overlaps neither. `input` and `residual` overlap neither.
/// - Nobody else writes to `input`, or reads or writes the others, meanwhile.
pub(super) unsafe fn backward<T: Value>(
    part: &Part,
    tensors: Backward<T>,
    affine: &Affine<T::Real>,
    statistics: &[Statistics<T::Real>],
    epsilon: f64,
    frozen: bool,
    tail: Tail,
) -> Vec<ParameterGradients<T::Real>> {
    let Backward {
        input, gradient, ..
    } = tensors;
    let channels = Channels {
        affine,
        statistics,
        epsilon,
        frozen,
        count: part.values_per_channel() as f64,
    };
    let mut parameters = vec![ParameterGradients::default(); part.dims.channels];
    in_regions(part, &mut parameters, |region, parameters| {
        let forward = channels.forward(&region);
        // SAFETY: by this function's conditions; regions share no values.
        unsafe {
            let (gradient, sums) = match tail {
                Tail::NOTHING => {
                    let both = GradientAndInput { gradient, input };
                    (gradient, region.sums(both, &forward))
                }
                _ => {
                    let sums = match tensors.residual {
                        None => gated_sums(&region, input, tensors, &forward, tail),
                        Some(residual) => {
                            let source = InputAndResidual { input, residual };
                            gated_sums(&region, source, tensors, &forward, tail)
                        }
                    };
                    (tensors.gated.as_input(), sums)
                }
            };
            let both = GradientAndInput { gradient, input };
            channels.finish(&region, both, tensors.output, &forward, sums, parameters);
        }
    });
    parameters
}

/// The sums of a region's channels, and the gradient of the activation's input. `source` is what the activation was
/// applied to: the input, or input and residual.
///
/// # Safety
///
/// Those of [`backward`], for the region's values.
unsafe fn gated_sums<S: Source>(
    region: &Region,
    source: S,
    tensors: Backward<S::Value>,
    forward: &PerChannel<RealOf<S>>,
    tail: Tail,
) -> Vec<Sums> {
    let Backward {
        input,
        gradient,
        gated,
        ..
    } = tensors;
    // SAFETY: by this function's conditions.
    unsafe {
        if let Some(pooling) = tail.pooling {
            let pooled = Pooled {
                forward,
                activation: tail.activation,
                pooling,
            };
            let tensors = PooledBackward {
                input,
                gradient,
                gated,
            };
            return region.pooled_sums(source, tensors, pooled);
        }
        for_gate!(tail.activation, |gate| {
            region.sums(gating(source, tensors, gate), forward)
        })
    }
}

fn gating<S: Source, G: Gate<RealOf<S>>>(
    source: S,
    tensors: Backward<S::Value>,
    gate: G,
) -> Gating<S, G> {
    let Backward {
        input,
        gradient,
        gated,
        ..
    } = tensors;
    Gating {
        source,
        input,
        gradient,
        gate,
        gated,
    }
}

/// What the backward pass knows of each channel.
struct Channels<'a, R> {
    affine: &'a Affine<R>,
    statistics: &'a [Statistics<R>],
    epsilon: f64,
    frozen: bool,
    /// Values of a channel.
    count: f64,
}

impl<R: Real> Channels<'_, R> {
    /// The forward passes of a region's channels.
    fn forward(&self, region: &Region) -> PerChannel<R> {
        let statistics = &self.statistics[region.channels.clone()];
        normalisations(region, statistics, self.affine, self.epsilon)
    }

    /// Stores the gradients of a region's parameters, and writes its input's gradient, given the sums.
    ///
    /// # Safety
    ///
    /// Those of [`Region::map`].
    unsafe fn finish<T: Value<Real = R>>(
        &self,
        region: &Region,
        both: GradientAndInput<T>,
        output: Target<T>,
        forward: &PerChannel<R>,
        sums: Vec<Sums>,
        parameters: &mut [ParameterGradients<R>],
    ) {
        let of_channels = region.channels.clone().zip(sums).zip(parameters);
        let lines = PerChannel::new(of_channels.map(|((channel, sums), found)| {
            let (gradients, line) = self.gradients(channel, sums);
            *found = gradients;
            line
        }));
        let mapping = mapping(forward, &lines, Open);
        // SAFETY: by this function's conditions.
        unsafe {
            if self.frozen {
                region.map(Gradient(both.gradient), output, mapping);
            } else {
                region.map(both, output, mapping);
            }
        }
    }

    /// The gradients of a channel's parameters, and the line from its gradients and deviations to its input's gradient.
    fn gradients(&self, channel: usize, [sum, products]: Sums) -> (ParameterGradients<R>, Line<R>) {
        let of = &self.statistics[channel];
        let mean_rest = of.mean_rest.to_f64();
        let inverse_deviation = of.inverse_deviation(self.epsilon);
        let for_gamma = (products - mean_rest * sum) * inverse_deviation;
        let gradients = ParameterGradients {
            gamma: R::from_f64(for_gamma),
            beta: R::from_f64(sum),
        };
        let scale = self.affine.gamma[channel].to_f64() * inverse_deviation;
        let (slope, shift) = if self.frozen {
            (0.0, 0.0)
        } else {
            let slope = -scale * inverse_deviation * for_gamma / self.count;
            (slope, -scale * sum / self.count - slope * mean_rest)
        };
        let line = Line {
            scale: R::from_f64(scale),
            slope: R::from_f64(slope),
            shift: R::from_f64(shift),
        };
        (gradients, line)
    }
}

/// Whether inference mode leaves every value as it is: after [`fold`](crate::norm::fold).
pub(super) fn is_identity<R: Real>(
    affine: &Affine<R>,
    statistics: &[Statistics<R>],
    epsilon: f64,
) -> bool {
    let mut channels = statistics.iter().zip(&affine.gamma).zip(&affine.beta);
    channels.all(|((of, &gamma), &beta)| {
        let Normalisation {
            centre,
            scale,
            shift,
        } = of.normalisation(gamma, beta, epsilon);
        [centre, scale, shift].map(Real::to_f64) == [0.0, 1.0, 0.0]
    })
}

/// Inference mode: writes the output.
///
/// # Safety
///
/// Those of [`forward`].
pub(super) unsafe fn inference<T: Value>(
    part: &Part,
    tensors: Forward<T>,
    affine: &Affine<T::Real>,
    statistics: &[Statistics<T::Real>],
    epsilon: f64,
    tail: Tail,
) {
    // Nothing is added up, so the tensor is read and written in the order in which it lies.
    let region = all_channels(part);
    let forward = normalisations(&region, statistics, affine, epsilon);
    // SAFETY: by this function's conditions.
    unsafe { normalise(&region, tensors, &forward, tail) };
}

/// Writes 0 to every value of the part's places but these runs.
///
/// # Safety
///
/// - `target` has as many values as the part's dimensions say, valid for writing.
/// - The runs are in order, and their places are the part's.
/// - Nobody else reads or writes the values meanwhile.
pub(super) unsafe fn clear_others<T: Value>(part: &Part, target: Target<T>, runs: &[Range<usize>]) {
    let all = part.places();
    let starts = std::iter::once(all.start).chain(runs.iter().map(|run| run.end));
    let ends = runs.iter().map(|run| run.start).chain([all.end]);
    let region = all_channels(part);
    for places in starts.zip(ends).map(|(start, end)| start..end) {
        if !part.by_runs {
            let row = part.dims.channels * part.dims.inner;
            // SAFETY: by this function's conditions.
            unsafe { target.clear(places.start * row, places.len() * row) };
            continue;
        }
        for outer in region.outer(&places) {
            for channel in region.channels.clone() {
                let (start, len) = region.run(channel, outer, &places);
                // SAFETY: by this function's conditions.
                unsafe { target.clear(start, len) };
            }
        }
    }
}
