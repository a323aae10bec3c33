//! The batch normalisation module.

use std::sync::Arc;

use burn::module::{Flag, Param, RunningState};
use burn::tensor::{Bool, Device, FloatDType, Tensor};

use super::accumulate::Collected;
use super::average::{RunningAverage, Weighting};
use super::batch::{Batch, Layer, assert_has_variance};
use super::ghost::GhostBatches;
use super::mode::Mode;
use super::op::{self, BatchNormOutput, Mask, Then};
use super::probe::{Met, Probe};
use super::recalibrate::{Recorder, Seat};
use super::statistics::{BatchStatistics, Lock, NO_STATISTICS, Own, RunningStatistics, State};
use crate::observe::watch::watch_norm;

/// Batch normalisation of an input `[batch, channels, ...]` of rank 2 or more.
///
/// Computes `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` for each channel, with the mean and the variance
/// over the batch axis and all trailing axes (Ioffe & Szegedy 2015,
/// [arXiv:1502.03167](https://arxiv.org/abs/1502.03167)). Create it with
/// [`BatchNormConfig`](super::BatchNormConfig). It replaces `burn::nn::BatchNorm`; their records load into each other,
/// except for the options that Burn's layer lacks.
///
/// # Which statistics
///
/// - On an autodiff device, the batch's statistics normalise and update the running ones.
/// - On any other device, and in a layer frozen by [`freeze`] or [`freeze_group`], the running statistics normalise and
///   stay as they are.
///
/// A [`Mode`] overrides this.
///
/// # Running statistics
///
/// They average the batch's mean and *unbiased* variance, as in the paper's Algorithm 2. With `m` values per channel,
/// the unbiased variance is `m / (m - 1)` times the one that normalises. They are stored in f32, or in f64 if the
/// device or the record uses f64. Every update is visible at once to whatever reads, exports, clones or moves the
/// module.
///
/// If the batch's mean or variance of a channel is not finite, that channel's running statistics stay as they are, so
/// one bad batch cannot spoil a model for good. The output is what the arithmetic gives. An empty batch changes
/// nothing.
///
/// # Clones and threads
///
/// Running statistics describe the effect of given weights on the data. So modules share them as long as they share
/// weights: clones do, and so do forks on other devices, which Burn's workers use. Each batch that any of them sees, on
/// any thread, counts once, for all of them.
///
/// A module gets its own copy of the statistics together with its own weights: when an optimizer steps, a record is
/// loaded, or it is frozen or moved by `to_device`. So later training does not affect a clone kept from before an
/// optimizer step. [`valid`] and [`into_record`] always copy.
///
/// While other threads train, read the statistics of such a copy, not the fields. Mean and variance of a copy are from
/// the same batch. The fields change one after the other, and on a GPU backend Burn 0.22.1 may lose a value that one
/// thread reads while another replaces it.
///
/// If Burn trains on several devices, a [`SyncGroup`](super::SyncGroup) makes them normalise by the statistics of all
/// their batches. Without it, each device normalises by those of its own batch. Under the `MultiDevice` strategy the
/// workers are forks and update the same running statistics: a step on `n` devices makes `n` updates, each with the
/// full momentum, in no fixed order. Under the distributed strategy each worker maps the parameters of its fork, and so
/// has its own running statistics; those of the first device are kept.
///
/// # Records
///
/// The parameters are `gamma`, `beta`, `running_mean` and `running_var`, `[channels]` each, as in Burn. Averages other
/// than the exponential one add `running_weight`, the weight of the batches seen so far. A record without it loads with
/// `allow_partial`; the next batch in training then counts as the first.
///
/// [`freeze`]: burn::module::Module::freeze
/// [`freeze_group`]: burn::module::Module::freeze_group
/// [`valid`]: burn::module::Module::valid
/// [`into_record`]: burn::module::Module::into_record
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// The learned factor, `[channels]`. A layer without gamma does not use this field, and hides it from optimizers
    /// and records.
    pub gamma: Param<Tensor<1>>,
    /// The learned offset, `[channels]`. A layer without beta does not use this field, and hides it likewise.
    pub beta: Param<Tensor<1>>,
    /// Whether the layer trains when its input is on an autodiff device; cleared by
    /// [`freeze`](burn::module::Module::freeze).
    pub training: Param<Flag>,
    /// The running mean, `[channels]`. `value` and `value_sync` both return it after the last batch. A layer without
    /// running statistics does not use this field, and hides it likewise.
    pub running_mean: RunningState<Tensor<1>>,
    /// The running variance, `[channels]`, as [`running_mean`](Self::running_mean).
    pub running_var: RunningState<Tensor<1>>,
    /// The weight of a new batch in the exponential averages.
    pub momentum: f64,
    /// Added to the variance before its root is taken.
    pub epsilon: f64,
    pub(super) running_weight: Option<State>,
    pub(super) lock: Arc<Lock>,
    pub(super) num_features: usize,
    pub(super) channel_axis: isize,
    pub(super) average: RunningAverage,
    pub(super) affine: bool,
    pub(super) bias: bool,
    pub(super) running_statistics: bool,
    pub(super) unbiased_variance: bool,
}

impl BatchNorm {
    /// Normalises the input by the statistics that [the rule](BatchNorm#which-statistics) or a [`Mode`] chooses.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, num_features, ...]`
    /// - output: as the input. An empty input gives gradients of 0, and changes no running statistics.
    ///
    /// The channels are axis 1, as in Burn and PyTorch. For `[batch, time, features]`, build the layer with
    /// [`with_channel_axis(-1)`](super::BatchNormConfig::with_channel_axis). Without it, and if `time` happens to equal
    /// `num_features`, nothing panics: the layer then silently normalises each time step instead of each feature.
    ///
    /// # Panics
    ///
    /// Panics if the input's rank is below 2 or the axis of its channels is not `num_features` long. Panics if the
    /// batch's statistics are needed and there is only one value per channel, which has no variance.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Then::new())
    }

    /// Applies [`forward`](BatchNorm::forward) and a ReLU in one operation, at hardly more than the cost of batch norm.
    ///
    /// Equals `relu(norm.forward(input))` without the ReLU's own passes over the activation, forward and backward, and
    /// without the tensor between the two. Short for [`forward_then`](Self::forward_then) with `Then::new().relu()`;
    /// shapes, the caution about axes and panics are those of [`forward`](BatchNorm::forward).
    pub fn forward_relu<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Then::new().relu())
    }

    /// Applies [`forward`](BatchNorm::forward) and what follows in one operation: a residual to add, an activation, a
    /// pooling. [`Then`] has an example, and says what this saves.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, num_features, ...]`
    /// - output: as the input or, with a pooling, `[batch, num_features, height out, width out]`
    ///
    /// # Panics
    ///
    /// As [`forward`](BatchNorm::forward), and if the residual's shape or type is not the input's.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, then: Then<D>) -> Tensor<D> {
        self.forward_where(input, None, then)
    }

    /// Normalises by the statistics of the values that `mask` marks, in training: those that are not padding.
    ///
    /// All values are normalised, also those that do not count. Gradients flow from all of them, and through the
    /// statistics to those that count. If the running statistics normalise, the mask changes nothing.
    ///
    /// ```
    /// use burn::tensor::{Bool, Device, Distribution, Tensor};
    /// use burn_kindling::norm::BatchNormConfig;
    ///
    /// let device = Device::flex().autodiff();
    /// let norm = BatchNormConfig::new(8).with_channel_axis(-1).init(&device);
    /// // Two sequences of 8 features, of the lengths 5 and 3, padded to 5.
    /// let x = Tensor::<3>::random([2, 5, 8], Distribution::Default, &device);
    /// let mask = Tensor::<2, Bool>::from_data(
    ///     [[true, true, true, true, true], [true, true, true, false, false]],
    ///     &device,
    /// );
    /// let y = norm.forward_masked(x, mask);
    /// ```
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, num_features, ...]`
    /// - `mask`: `[batch, ...]`, the input's without the channels; true where a value counts. If it is true nowhere,
    ///   the running statistics normalise and stay as they are.
    /// - output: as the input
    ///
    /// # Panics
    ///
    /// As [`forward`](BatchNorm::forward), and if the mask has another shape.
    pub fn forward_masked<const D: usize, const M: usize>(
        &self,
        input: Tensor<D>,
        mask: Tensor<M, Bool>,
    ) -> Tensor<D> {
        self.forward_masked_then(input, mask, Then::new())
    }

    /// [`forward_masked`](BatchNorm::forward_masked) and what follows.
    pub fn forward_masked_then<const D: usize, const M: usize>(
        &self,
        input: Tensor<D>,
        mask: Tensor<M, Bool>,
        then: Then<D>,
    ) -> Tensor<D> {
        self.forward_where(input, Some(Mask::new(mask)), then)
    }

    fn forward_where<const D: usize>(
        &self,
        input: Tensor<D>,
        mask: Option<Mask>,
        then: Then<D>,
    ) -> Tensor<D> {
        let (axis, activation) = (self.axis(&input), then.activation());
        let output = match axis {
            1 => self.forward_channels_first(input, mask, then),
            axis => {
                // Views: the kernels take the values as they lie.
                let first = |tensor: Tensor<D>| tensor.movedim(axis as isize, 1);
                let then = then.map_residual(first);
                let output = self.forward_channels_first(first(input), mask, then);
                output.movedim(1, axis as isize)
            }
        };
        watch_norm(self.training.id, activation, axis, output)
    }

    fn forward_channels_first<const D: usize>(
        &self,
        input: Tensor<D>,
        mask: Option<Mask>,
        then: Then<D>,
    ) -> Tensor<D> {
        let Some(statistics) = self.statistics() else {
            return self.forward_training(input, mask, then).0;
        };
        if let Some(probe) = Probe::here() {
            let input = probe.meet(self.training.id, || self.met(statistics), input);
            return self.forward_inference(statistics, input, then);
        }
        let is_empty = input.shape().num_elements() == 0;
        if let Some(seat) = Seat::here() {
            let measured = (!is_empty).then(|| self.measure(input.clone(), mask));
            seat.wait(statistics, measured.flatten(), self.weighting());
            return self.forward_inference(statistics, input, then);
        }
        if !is_empty && let Some(recorder) = Recorder::of(statistics) {
            if let Some(batch) = self.measure(input.clone(), mask) {
                recorder.record(batch, self.weighting());
            }
            return self.forward_inference(statistics, input, then);
        }
        match self.mode(&input) {
            Mode::Inference => self.forward_inference(statistics, input, then),
            Mode::TestTimeAdaptation => self.forward_training(input, mask, then).0,
            Mode::Training => {
                let (output, batches) = self.forward_training(input, mask, then);
                let collected = Collected::here();
                for batch in batches {
                    match &collected {
                        None => statistics.update(batch, self.weighting()),
                        Some(collected) => collected.add(statistics, batch, self.weighting()),
                    }
                }
                output
            }
        }
    }

    /// The mode for an input: the one requested, or that of Burn's rule.
    fn mode<const D: usize>(&self, input: &Tensor<D>) -> Mode {
        let trains = input.device().is_autodiff() && self.training.is_enabled();
        Mode::requested().unwrap_or(match trains {
            true => Mode::Training,
            false => Mode::Inference,
        })
    }

    /// Normalises by the statistics of the batch or of each of its parts, and returns those of the parts that have any.
    fn forward_training<const D: usize>(
        &self,
        input: Tensor<D>,
        mask: Option<Mask>,
        then: Then<D>,
    ) -> (Tensor<D>, Vec<BatchStatistics>) {
        let dims = input.dims();
        let parts = GhostBatches::parts(dims[0], dims[2..].iter().product());
        if let [_] = parts[..] {
            let (output, found) = self.forward_part(input, mask, then);
            return (output, found.into_iter().collect());
        }
        // Parts of equal size are one operation. One after the other, each would pay for a gradient of the whole batch.
        let size = parts[0].len();
        let equal = match mask.is_none() && Batch::is_usually_plain() {
            true => parts.iter().take_while(|part| part.len() == size).count(),
            false => 0,
        };
        if equal == parts.len() {
            let (output, found) = self.forward_equal_parts(input, equal, then);
            return (output, found.collect());
        }
        let mut outputs = Vec::new();
        let mut statistics = Vec::new();
        if equal > 0 {
            let rows = |tensor: Tensor<D>| tensor.narrow(0, 0, equal * size);
            let then = then.clone().map_residual(rows);
            let (output, found) = self.forward_equal_parts(rows(input.clone()), equal, then);
            outputs.push(output);
            statistics.extend(found);
        }
        for part in &parts[equal..] {
            let rows = |tensor: Tensor<D>| tensor.narrow(0, part.start, part.len());
            let mask = mask.as_ref().map(|mask| mask.rows(part.clone()));
            let then = then.clone().map_residual(rows);
            let (output, found) = self.forward_part(rows(input.clone()), mask, then);
            outputs.push(output);
            statistics.extend(found);
        }
        (Tensor::cat(outputs, 0), statistics)
    }

    /// Normalises `parts` parts of equal size, each by its own statistics.
    fn forward_equal_parts<const D: usize>(
        &self,
        input: Tensor<D>,
        parts: usize,
        then: Then<D>,
    ) -> (Tensor<D>, impl Iterator<Item = BatchStatistics>) {
        let values = values_per_channel(&input) / parts;
        let affine = [self.gamma(), self.beta()];
        let BatchNormOutput {
            output,
            mean,
            variance,
        } = op::batch_norm_parts(input, affine, self.epsilon, then, parts);
        let statistics = mean
            .chunk(parts, 0)
            .into_iter()
            .zip(variance.chunk(parts, 0));
        let statistics = statistics.map(move |(mean, variance)| BatchStatistics {
            mean,
            variance,
            values,
            occasion: None,
        });
        (output, statistics)
    }

    /// Normalises by the statistics of one part, and returns them if it has any.
    fn forward_part<const D: usize>(
        &self,
        input: Tensor<D>,
        mask: Option<Mask>,
        then: Then<D>,
    ) -> (Tensor<D>, Option<BatchStatistics>) {
        let batch = Batch::here(mask);
        if !batch.is_plain() {
            let layer = Layer {
                affine: [self.gamma(), self.beta()],
                epsilon: self.epsilon,
                statistics: self.statistics(),
            };
            return batch.normalise(input, layer, then);
        }
        let values = values_per_channel(&input);
        assert_has_variance(&input, values);
        let BatchNormOutput {
            output,
            mean,
            variance,
        } = op::batch_norm_then_train(input, self.gamma(), self.beta(), self.epsilon, then);
        let batch = BatchStatistics {
            mean,
            variance,
            values,
            occasion: None,
        };
        (output, (values > 0).then_some(batch))
    }

    /// Normalises by the running statistics.
    fn forward_inference<const D: usize>(
        &self,
        statistics: RunningStatistics,
        input: Tensor<D>,
        then: Then<D>,
    ) -> Tensor<D> {
        let (mean, variance) = statistics.read(&input.device());
        op::batch_norm_then_inference(
            input,
            [mean, variance],
            [self.gamma(), self.beta()],
            self.epsilon,
            then,
        )
    }

    /// The batch's statistics, if it has any.
    fn measure<const D: usize>(
        &self,
        input: Tensor<D>,
        mask: Option<Mask>,
    ) -> Option<BatchStatistics> {
        let mask = mask.map(Mask::without_autodiff);
        let moments = op::moments_where(input.without_autodiff(), mask);
        (moments.values > 0).then_some(BatchStatistics {
            mean: moments.mean,
            variance: moments.variance,
            values: moments.values,
            occasion: None,
        })
    }

    /// Returns the layer with running statistics of its own, set to these values.
    ///
    /// Shapes and panics are those of [`set_running`](Self::set_running).
    pub fn with_running(self, mean: Tensor<1>, variance: Tensor<1>) -> Self {
        let statistics = self.values().copy_to(&self.device());
        let layer = self.with_own(statistics);
        layer.set_running(mean, variance);
        layer
    }

    /// Replaces the running statistics of this layer and of all that share them.
    ///
    /// The next batch in training enters them as it would enter those of a layer that has seen one batch.
    ///
    /// # Shapes
    ///
    /// - `mean`, `variance`: `[num_features]`
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics, or a tensor has another shape.
    pub fn set_running(&self, mean: Tensor<1>, variance: Tensor<1>) {
        for (name, tensor) in [("mean", &mean), ("variance", &variance)] {
            assert!(
                tensor.dims() == [self.num_features],
                "BatchNorm over {} channels takes a running {name} of shape [{}], but got {:?}.",
                self.num_features,
                self.num_features,
                tensor.dims()
            );
        }
        self.tracked()
            .replace(mean, variance, self.weighting().after(0.0));
    }

    /// Sets the running statistics of this layer and of all that share them to those of a new layer: mean 0, variance
    /// 1, no batch seen.
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics.
    pub fn reset_running_statistics(&self) {
        let statistics = self.tracked();
        let (mean, variance) = statistics.read(&self.device());
        statistics.replace(mean.zeros_like(), variance.ones_like(), 0.0);
    }

    pub(super) fn tracked(&self) -> RunningStatistics<'_> {
        self.statistics().expect(NO_STATISTICS)
    }

    /// What a probe notes of the layer.
    fn met(&self, statistics: RunningStatistics) -> Met {
        let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect();
        let (scale, mean, beta) = self.inference_terms();
        let beta = beta.unwrap_or_else(|| mean.zeros_like());
        Met {
            flag: self.training.id,
            affine: [self.gamma.id, self.beta.id],
            statistics: statistics.ids(),
            epsilon: self.epsilon,
            terms: [scale, mean, beta].map(numbers),
        }
    }

    /// The scale, mean and beta of inference, `y = scale * (x - mean) + beta`: `[channels]` each, outside of any graph.
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics.
    pub(super) fn inference_terms(&self) -> (Tensor<1>, Tensor<1>, Option<Tensor<1>>) {
        let statistics = self.statistics().expect(
            "a batch norm without running statistics normalises each batch by the batch's own, so it cannot be folded.",
        );
        let (mean, variance) = statistics.read(&self.device().without_autodiff());
        let dtype = FloatDType::from(mean.dtype());
        let plain = |param: Tensor<1>| param.without_autodiff().cast(dtype);
        let deviation = variance.add_scalar(self.epsilon).sqrt();
        let scale = match self.gamma() {
            Some(gamma) => plain(gamma) / deviation,
            None => deviation.recip(),
        };
        (scale, mean, self.beta().map(plain))
    }

    /// The running statistics, unless the layer has none.
    pub(super) fn statistics(&self) -> Option<RunningStatistics<'_>> {
        self.running_statistics.then(|| self.values())
    }

    /// The fields of the running statistics, used or not.
    pub(super) fn values(&self) -> RunningStatistics<'_> {
        RunningStatistics {
            mean: &self.running_mean,
            variance: &self.running_var,
            weight: self.running_weight.as_ref(),
            lock: &self.lock,
        }
    }

    /// The layer with running statistics that it shares with no other.
    pub(super) fn with_own(self, statistics: Own) -> Self {
        Self {
            running_mean: statistics.mean,
            running_var: statistics.variance,
            running_weight: statistics.weight,
            lock: statistics.lock,
            ..self
        }
    }

    /// The layer with the gamma and beta of another.
    pub(super) fn with_affine_of(self, other: &Self) -> Self {
        Self {
            gamma: other.gamma.clone(),
            beta: other.beta.clone(),
            affine: other.affine,
            bias: other.bias,
            ..self
        }
    }

    fn weighting(&self) -> Weighting {
        self.average
            .weighting(self.momentum, self.unbiased_variance)
    }

    /// The device of the layer, whether or not gamma has been drawn.
    pub(super) fn device(&self) -> Device {
        self.gamma.lazy_device()
    }

    pub(super) fn has_beta(&self) -> bool {
        self.affine && self.bias
    }

    pub(super) fn gamma(&self) -> Option<Tensor<1>> {
        self.affine.then(|| self.gamma.val())
    }

    pub(super) fn beta(&self) -> Option<Tensor<1>> {
        self.has_beta().then(|| self.beta.val())
    }

    /// Checks the input's shape, and returns the axis of its channels.
    fn axis<const D: usize>(&self, input: &Tensor<D>) -> usize {
        let dims = input.dims();
        let channels = self.num_features;
        // They begin as Burn's own panics do.
        assert!(
            D >= 2,
            "assert_shape!(input, [_, num_features, ..]): expected rank at least 2, got {D} (dims {dims:?}). \
             BatchNorm takes [batch, channels, ...]."
        );
        let axis = match self.channel_axis {
            axis if axis < 0 => D as isize + axis,
            axis => axis,
        };
        let found = usize::try_from(axis)
            .ok()
            .filter(|axis| (1..D).contains(axis));
        let Some(axis) = found else {
            panic!(
                "BatchNorm has its channels along axis {} (`with_channel_axis`), and its batch along axis 0, but the input \
                 of shape {dims:?} has the axes 0 to {}.",
                self.channel_axis,
                D - 1
            );
        };
        assert!(
            dims[axis] == channels,
            "assert_shape!(input, [_, num_features, ..]): axis {axis} expected {channels}, got {} (dims {dims:?}). \
             BatchNorm over {channels} channels takes them along axis {axis}; if they are along another one, say so with \
             `BatchNormConfig::with_channel_axis`.",
            dims[axis]
        );
        axis
    }
}

/// The number of values per channel of an input with channels.
fn values_per_channel<const D: usize>(input: &Tensor<D>) -> usize {
    input.shape().num_elements() / input.dims()[1]
}
