//! Normalises by statistics of a batch that are not simply those of its values.

use std::ops::Range;

use burn::tensor::{Bool, FloatDType, Tensor};

use super::batch_norm::{BatchNorm, assert_has_variance};
use super::ghost::GhostBatches;
use super::op::{self, BatchMoments, Then};
use super::renormalization::Renormalization;
use super::statistics::BatchStatistics;
use super::sync::{self, Met};

/// What makes the statistics of a batch.
pub(super) struct Batch<const D: usize> {
    /// The values that count; all without it.
    valid: Option<Valid<D>>,
    /// The workers whose batches count too.
    met: Option<Met>,
    /// How far the running statistics correct those of the batch.
    renormalization: Option<Renormalization>,
}

impl<const D: usize> Batch<D> {
    /// The batch of the scopes around the caller.
    pub(super) fn here(valid: Option<Valid<D>>) -> Self {
        Self {
            valid,
            met: sync::next_meeting(),
            renormalization: Renormalization::requested(),
        }
    }

    /// Whether its statistics are simply those of its values.
    pub(super) fn is_plain(&self) -> bool {
        self.valid.is_none() && self.met.is_none() && self.renormalization.is_none()
    }
}

impl BatchNorm {
    /// Normalises by the batch's statistics, and returns them; `None` if there is no value.
    pub(super) fn forward_batch<const D: usize>(
        &self,
        input: Tensor<D>,
        batch: Batch<D>,
        then: Then<D>,
    ) -> (Tensor<D>, Option<BatchStatistics>) {
        assert!(
            !(batch.met.is_some() && GhostBatches::are_asked_for()),
            "ghost batches are parts of one worker's batch, so a layer cannot also be synchronised by a SyncGroup; use one \
             of the two"
        );
        let moments = match &batch.valid {
            None => op::batch_moments(input.clone()),
            Some(valid) => valid.moments(input.clone()),
        };
        let (moments, occasion) = match batch.met {
            None => (moments, None),
            Some(met) => (op::exchange(moments, met.meeting), met.occasion),
        };
        let values = moments.values;
        assert_has_variance(&input, values);

        let affine = match batch.renormalization {
            Some(renormalization) if values > 0 => self.renormalized(renormalization, &moments),
            _ => [self.gamma(), self.beta()],
        };
        let moments = match self.statistics() {
            // No value describes the batch, so nothing depends on it either.
            Some(statistics) if values == 0 => {
                let (mean, variance) = statistics.read(&input.device());
                moments.replaced_by(mean, variance)
            }
            _ => moments,
        };
        let found = (values > 0).then(|| BatchStatistics {
            mean: moments.mean.clone(),
            variance: moments.variance.clone(),
            values,
            occasion,
        });
        let beta = moments.corrected_beta(affine.clone(), self.epsilon);
        let [gamma, _] = affine;
        let statistics = [moments.mean, moments.variance];
        let output = op::batch_norm_then_inference(
            input,
            statistics,
            [gamma, Some(beta)],
            self.epsilon,
            then,
        );
        (output, found)
    }

    /// Gamma and beta with the correction of batch renormalisation: `gamma * r` and `beta + gamma * d`.
    fn renormalized(
        &self,
        limits: Renormalization,
        moments: &BatchMoments,
    ) -> [Option<Tensor<1>>; 2] {
        let statistics = self.tracked();
        let dtype = FloatDType::from(moments.mean.dtype());
        let (mean, variance) = statistics.read(&moments.mean.device());
        let [mean, variance] = [mean, variance].map(|tensor| tensor.cast(dtype));
        let deviation = |variance: Tensor<1>| variance.add_scalar(self.epsilon).sqrt();
        let running = deviation(variance);
        let (scale, shift) = (limits.max_scale, limits.max_shift);
        let r = deviation(moments.variance.clone().detach()) / running.clone();
        let r = r.clamp(1.0 / scale, scale);
        let d = (moments.mean.clone().detach() - mean) / running;
        let d = d.clamp(-shift, shift);
        match self.gamma() {
            None => [Some(r), Some(d)],
            Some(gamma) => {
                let gamma = gamma.cast(dtype);
                let shift = gamma.clone() * d;
                let beta = match self.beta() {
                    Some(beta) => beta.cast(dtype) + shift,
                    None => shift,
                };
                [Some(gamma * r), Some(beta)]
            }
        }
    }
}

/// A mask `[batch, ...]`, true where values count.
#[derive(Clone)]
pub(super) struct Mask {
    /// `[batch, positions]`
    rows: Tensor<2, Bool>,
    dims: Vec<usize>,
}

impl Mask {
    pub(super) fn new<const M: usize>(mask: Tensor<M, Bool>) -> Self {
        let dims = mask.dims();
        let positions = dims[1..].iter().product();
        Self {
            rows: mask.reshape([dims[0], positions]),
            dims: dims.to_vec(),
        }
    }

    /// That of some rows of the batch.
    pub(super) fn rows(&self, range: Range<usize>) -> Self {
        let mut dims = self.dims.clone();
        dims[0] = range.len();
        Self {
            rows: self.rows.clone().narrow(0, range.start, range.len()),
            dims,
        }
    }

    pub(super) fn without_autodiff(self) -> Self {
        Self {
            rows: self.rows.without_autodiff(),
            ..self
        }
    }
}

/// The values of a batch that count.
pub(super) struct Valid<const D: usize> {
    /// Where values do not count, of the input's shape.
    invalid: Tensor<D, Bool>,
    /// The number that count, of each channel.
    values: usize,
}

impl<const D: usize> Valid<D> {
    /// The values of `input`, `[batch, channels, ...]`, that the mask marks.
    ///
    /// # Panics
    ///
    /// If the mask has another shape.
    pub(super) fn new(mask: Mask, input: &Tensor<D>) -> Self {
        let dims = input.dims();
        let others = (0..D).filter(|&axis| axis != 1);
        let expected: Vec<_> = others.map(|axis| dims[axis]).collect();
        assert!(
            mask.dims == expected,
            "BatchNorm takes a mask of the input's shape without its channels: {expected:?}, but got {:?}.",
            mask.dims
        );
        let is_empty = input.shape().num_elements() == 0;
        let values = match is_empty {
            true => 0,
            false => mask.rows.clone().int().sum().into_scalar::<i64>() as usize,
        };
        let mut broadcast = dims;
        broadcast[1] = 1;
        let invalid = match is_empty {
            true => Tensor::empty(dims, &input.device()),
            false => mask.rows.bool_not().reshape(broadcast).expand(dims),
        };
        Self { invalid, values }
    }

    /// The moments of the values that count.
    ///
    /// The others are replaced by a number near the mean, so that they add nothing to the sums of deviations from it.
    pub(super) fn moments(&self, input: Tensor<D>) -> BatchMoments {
        let dims = input.dims();
        if self.values == 0 {
            // Tied to the input, so that the backward pass of a group comes by here.
            let zeros = input.mask_fill(self.invalid.clone(), 0.0);
            return BatchMoments {
                values: 0,
                ..op::batch_moments(zeros)
            };
        }
        let mut broadcast = [1; D];
        broadcast[1] = dims[1];
        let ratio = input.shape().num_elements() as f64 / (dims[1] * self.values) as f64;

        let zeroed = input.clone().detach().mask_fill(self.invalid.clone(), 0.0);
        let centre = op::batch_moments(zeroed).mean * ratio;
        // Of the input's type, as it is what the sums are about.
        let centre = centre.cast(FloatDType::from(input.dtype()));
        let filling = centre.clone().reshape(broadcast).expand(dims);
        let found = op::batch_moments(input.mask_where(self.invalid.clone(), filling));

        let centre = centre.cast(FloatDType::from(found.mean.dtype()));
        let off = (found.mean - centre.clone()) + found.mean_rest;
        let shift = off.clone() * ratio;
        let mean = centre.clone() + shift.clone();
        let mean_rest = (shift.clone() - (mean.clone() - centre)).detach();
        let squares = (found.variance + off.square()) * ratio;
        BatchMoments {
            mean,
            mean_rest,
            // The difference of two numbers that are equal up to rounding, where all values are.
            variance: (squares - shift.square()).clamp_min(0.0),
            values: self.values,
        }
    }
}
