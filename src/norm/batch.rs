//! Normalises by statistics of a batch that are not simply those of its values.

use burn::tensor::{FloatDType, Tensor};

use super::ghost::GhostBatches;
use super::op::{self, BatchMoments, Mask, Then};
use super::renormalization::Renormalization;
use super::statistics::{BatchStatistics, NO_STATISTICS, RunningStatistics};
use super::sync::{self, Met};

/// What makes the statistics of a batch.
pub(super) struct Batch {
    /// Which values count; `None` if all do.
    mask: Option<Mask>,
    /// The workers whose batches count too.
    met: Option<Met>,
    /// How far the running statistics correct those of the batch.
    renormalization: Option<Renormalization>,
}

impl Batch {
    /// The batch of the scopes around the caller.
    pub(super) fn here(mask: Option<Mask>) -> Self {
        Self {
            mask,
            met: sync::next_meeting(),
            renormalization: Renormalization::requested(),
        }
    }

    /// Whether no scope around the caller changes what the statistics of a batch are.
    pub(super) fn is_usually_plain() -> bool {
        !sync::is_in_a_group() && Renormalization::requested().is_none()
    }

    /// Whether its statistics are simply those of its values.
    pub(super) fn is_plain(&self) -> bool {
        self.mask.is_none() && self.met.is_none() && self.renormalization.is_none()
    }
}

/// The layer that normalises a batch.
pub(super) struct Layer<'a> {
    /// Gamma and beta.
    pub affine: [Option<Tensor<1>>; 2],
    pub epsilon: f64,
    pub statistics: Option<RunningStatistics<'a>>,
}

impl Batch {
    /// Normalises by the batch's statistics, and returns them; `None` if there is no value.
    pub(super) fn normalise<const D: usize>(
        self,
        input: Tensor<D>,
        layer: Layer,
        then: Then<D>,
    ) -> (Tensor<D>, Option<BatchStatistics>) {
        assert!(
            !(self.met.is_some() && GhostBatches::are_asked_for()),
            "ghost batches are parts of one worker's batch, so a layer cannot also be synchronised by a SyncGroup; use one \
             of the two"
        );
        let moments = op::moments_where(input.clone(), self.mask);
        let (moments, occasion) = match self.met {
            None => (moments, None),
            Some(met) => (op::exchange(moments, met.meeting), met.occasion),
        };
        let values = moments.values;
        assert_has_variance(&input, values);

        let epsilon = layer.epsilon;
        let affine = match self.renormalization {
            Some(limits) if values > 0 => layer.renormalized(limits, &moments),
            _ => layer.affine,
        };
        let moments = match layer.statistics {
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
        let beta = moments.corrected_beta(affine.clone(), epsilon);
        let [gamma, _] = affine;
        let statistics = [moments.mean, moments.variance];
        let output =
            op::batch_norm_then_inference(input, statistics, [gamma, Some(beta)], epsilon, then);
        (output, found)
    }
}

impl Layer<'_> {
    /// Gamma and beta with the correction of batch renormalisation: `gamma * r` and `beta + gamma * d`.
    fn renormalized(
        &self,
        limits: Renormalization,
        moments: &BatchMoments,
    ) -> [Option<Tensor<1>>; 2] {
        let statistics = self.statistics.as_ref().expect(NO_STATISTICS);
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
        let [gamma, beta] = &self.affine;
        match gamma {
            None => [Some(r), Some(d)],
            Some(gamma) => {
                let gamma = gamma.clone().cast(dtype);
                let shift = gamma.clone() * d;
                let beta = match beta {
                    Some(beta) => beta.clone().cast(dtype) + shift,
                    None => shift,
                };
                [Some(gamma * r), Some(beta)]
            }
        }
    }
}

/// # Panics
///
/// If a channel has a single value.
pub(super) fn assert_has_variance<const D: usize>(input: &Tensor<D>, values: usize) {
    assert!(
        values != 1,
        "BatchNorm needs at least two values per channel to normalise by the batch's statistics, but the input of \
         shape {:?} has one; use a larger batch, or the running statistics (`valid()`, `freeze()`).",
        input.dims()
    );
}
