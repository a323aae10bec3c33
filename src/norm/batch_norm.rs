//! The batch normalisation module.

use std::fmt;

use burn::config::{Config, config_to_json};
use burn::module::{Flag, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use super::mode::Mode;
use super::op::{self, BatchNormOutput, Then};
use super::recalibrate::Recorder;
use super::statistics::{BatchStatistics, RunningAverage, RunningStatistics, Weighting};

/// Configuration of a [`BatchNorm`].
///
/// A configuration that `burn::nn::BatchNormConfig` saved loads here: options that it lacks have their defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNormConfig {
    /// The number of channels. Must be greater than zero.
    pub num_features: usize,
    /// Added to the variance before its root is taken. Finite and positive. Default: 1e-5
    pub epsilon: f64,
    /// The weight of a new batch in the exponential running averages, in `[0, 1]`. 0 keeps the running statistics; 1
    /// replaces them by the batch's. Default: 0.1
    pub momentum: f64,
    /// How the running statistics are averaged. Default: [`RunningAverage::Exponential`]
    #[serde(default = "exponential")]
    pub average: RunningAverage,
    /// Whether the layer has the learned factor gamma and offset beta. Default: `true`
    #[serde(default = "yes")]
    pub affine: bool,
    /// Whether the layer has the learned offset beta, if it is affine: PyTorch's `bias`. Default: `true`
    #[serde(default = "yes")]
    pub bias: bool,
    /// Whether the layer keeps running statistics. Without them it normalises by the batch's in inference too.
    /// Default: `true`
    #[serde(default = "yes")]
    pub running_statistics: bool,
}

fn exponential() -> RunningAverage {
    RunningAverage::Exponential
}

fn yes() -> bool {
    true
}

/// Written by hand: what Burn derives reads no configuration that lacks a field.
impl Config for BatchNormConfig {}

impl fmt::Display for BatchNormConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&config_to_json(self))
    }
}

impl BatchNormConfig {
    /// The defaults, for `num_features` channels.
    pub fn new(num_features: usize) -> Self {
        Self {
            num_features,
            epsilon: 1e-5,
            momentum: 0.1,
            average: exponential(),
            affine: true,
            bias: true,
            running_statistics: true,
        }
    }

    /// Sets [`epsilon`](Self::epsilon).
    pub fn with_epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// Sets [`momentum`](Self::momentum).
    pub fn with_momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Sets [`average`](Self::average).
    pub fn with_average(self, average: RunningAverage) -> Self {
        Self { average, ..self }
    }

    /// Sets [`affine`](Self::affine).
    pub fn with_affine(self, affine: bool) -> Self {
        Self { affine, ..self }
    }

    /// Sets [`bias`](Self::bias).
    pub fn with_bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Sets [`running_statistics`](Self::running_statistics).
    pub fn with_running_statistics(self, running_statistics: bool) -> Self {
        Self {
            running_statistics,
            ..self
        }
    }

    /// Creates a layer with gamma 1, beta 0, running mean 0 and running variance 1.
    ///
    /// # Panics
    ///
    /// Panics if `num_features` is zero, `epsilon` is not finite and positive, or `momentum` is not within `[0, 1]`.
    pub fn init(&self, device: &Device) -> BatchNorm {
        assert!(
            self.num_features > 0,
            "num_features must be greater than zero."
        );
        assert!(
            self.epsilon.is_finite() && self.epsilon > 0.0,
            "epsilon must be finite and positive, but is {}.",
            self.epsilon
        );
        assert!(
            (0.0..=1.0).contains(&self.momentum),
            "momentum must be finite and within [0, 1], but is {}.",
            self.momentum
        );
        let channels = self.num_features;
        BatchNorm {
            gamma: self
                .affine
                .then(|| Initializer::Ones.init([channels], device)),
            beta: (self.affine && self.bias).then(|| Initializer::Zeros.init([channels], device)),
            training: Param::from_bool(true),
            statistics: self
                .running_statistics
                .then(|| RunningStatistics::new(channels, self.average, device)),
            num_features: channels,
            momentum: self.momentum,
            epsilon: self.epsilon,
            average: self.average,
        }
    }
}

/// Batch normalisation of an input `[batch, channels, ...]` of rank 2 or more.
///
/// Computes `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta` for each channel, with the mean and the variance
/// over the batch axis and all trailing axes (Ioffe & Szegedy 2015,
/// [arXiv:1502.03167](https://arxiv.org/abs/1502.03167)). Create it with [`BatchNormConfig`]. It replaces
/// `burn::nn::BatchNorm`; their records load into each other, except for the options that Burn's layer lacks.
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
/// If Burn trains on several devices, each device normalises by the statistics of its own batch. Under the
/// `MultiDevice` strategy the workers are forks and update the same running statistics: a step on `n` devices makes `n`
/// updates, each with the full momentum, in no fixed order. Under the distributed strategy each worker maps the
/// parameters of its fork, and so has its own running statistics; those of the first device are kept.
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
    /// The learned factor, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The learned offset, `[channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Whether the layer trains when its input is on an autodiff device; cleared by [`freeze`](burn::module::Module::freeze).
    pub training: Param<Flag>,
    /// The weight of a new batch in the exponential averages.
    pub momentum: f64,
    /// Added to the variance before its root is taken.
    pub epsilon: f64,
    pub(super) statistics: Option<RunningStatistics>,
    pub(super) num_features: usize,
    pub(super) average: RunningAverage,
}

impl BatchNorm {
    /// Normalises the input by the statistics that [the rule](BatchNorm#which-statistics) or a [`Mode`] chooses.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, num_features, ...]`
    /// - output: as the input. An empty input is returned as it is, and changes no running statistics.
    ///
    /// The channels are axis 1, as in Burn and PyTorch. For `[batch, time, features]` swap the last two axes before and
    /// after (`input.swap_dims(1, 2)`). If `time` happens to equal `num_features`, nothing panics without the swap: the
    /// layer then silently normalises each time step instead of each feature.
    ///
    /// # Panics
    ///
    /// Panics if the input's rank is below 2 or its second axis is not `num_features`. Panics if the batch's statistics
    /// are needed and there is only one value per channel, which has no variance.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.normalise(input, Then::Nothing)
    }

    /// Applies [`forward`](BatchNorm::forward) and a ReLU in one operation, at hardly more than the cost of batch norm.
    ///
    /// Equals `relu(norm.forward(input))` without the ReLU's own passes over the activation, forward and backward, and
    /// without the tensor between the two. Shapes, the caution about axes and panics are those of
    /// [`forward`](BatchNorm::forward).
    pub fn forward_relu<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.normalise(input, Then::Relu)
    }

    /// Normalises the input as its mode says, and does what follows.
    fn normalise<const D: usize>(&self, input: Tensor<D>, then: Then) -> Tensor<D> {
        let values = self.values_per_channel(&input);
        if values == 0 {
            return input;
        }
        let Some(statistics) = &self.statistics else {
            return self.forward_training(input, values, then).0;
        };
        if let Some(recorder) = Recorder::of(statistics) {
            recorder.record(self.measure(input.clone(), values), self.weighting());
            return self.forward_inference(statistics, input, then);
        }
        match self.mode(&input) {
            Mode::Inference => self.forward_inference(statistics, input, then),
            Mode::TestTimeAdaptation => self.forward_training(input, values, then).0,
            Mode::Training => {
                let (output, batch) = self.forward_training(input, values, then);
                statistics.update(batch, self.weighting());
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

    /// Normalises by the batch's statistics, and returns them.
    fn forward_training<const D: usize>(
        &self,
        input: Tensor<D>,
        values: usize,
        then: Then,
    ) -> (Tensor<D>, BatchStatistics) {
        assert!(
            values > 1,
            "BatchNorm needs at least two values per channel to normalise by the batch's statistics, but the input of \
             shape {:?} has one; use a larger batch, or the running statistics (`valid()`, `freeze()`).",
            input.dims()
        );
        let BatchNormOutput {
            output,
            mean,
            variance,
        } = op::train(input, self.gamma(), self.beta(), self.epsilon, then);
        let batch = BatchStatistics {
            mean,
            variance,
            values,
        };
        (output, batch)
    }

    /// Normalises by the running statistics.
    fn forward_inference<const D: usize>(
        &self,
        statistics: &RunningStatistics,
        input: Tensor<D>,
        then: Then,
    ) -> Tensor<D> {
        let (mean, variance) = statistics.read(&input.device());
        op::inference(
            input,
            [mean, variance],
            [self.gamma(), self.beta()],
            self.epsilon,
            then,
        )
    }

    /// The batch's statistics.
    fn measure<const D: usize>(&self, input: Tensor<D>, values: usize) -> BatchStatistics {
        let BatchNormOutput { mean, variance, .. } =
            op::batch_norm_train(input.without_autodiff(), None, None, self.epsilon);
        BatchStatistics {
            mean,
            variance,
            values,
        }
    }

    /// The running mean, `[channels]`, after the last batch; `None` if the layer keeps no running statistics.
    pub fn running_mean(&self) -> Option<Tensor<1>> {
        self.running().map(|(mean, _)| mean)
    }

    /// The running variance, `[channels]`, after the last batch; `None` if the layer keeps no running statistics.
    pub fn running_var(&self) -> Option<Tensor<1>> {
        self.running().map(|(_, variance)| variance)
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

    /// Sets the running statistics of this layer and of all that share them to those of a new layer: mean 0, variance 1,
    /// no batch seen.
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics.
    pub fn reset_running_statistics(&self) {
        let statistics = self.tracked();
        let (mean, variance) = statistics.read(statistics.device());
        statistics.replace(mean.zeros_like(), variance.ones_like(), 0.0);
    }

    fn tracked(&self) -> &RunningStatistics {
        self.statistics.as_ref().expect(
            "this BatchNorm keeps no running statistics (`with_running_statistics(false)`), so they cannot be set.",
        )
    }

    /// The scale, mean and beta of inference, `y = scale * (x - mean) + beta`: `[channels]` each, outside of any graph.
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics.
    pub(super) fn inference_terms(&self) -> (Tensor<1>, Tensor<1>, Option<Tensor<1>>) {
        let (mean, variance) = self.running().expect(
            "a batch norm without running statistics normalises each batch by the batch's own, so it cannot be folded.",
        );
        let (mean, variance) = (mean.without_autodiff(), variance.without_autodiff());
        let dtype = FloatDType::from(mean.dtype());
        let plain = |param: Tensor<1>| param.without_autodiff().cast(dtype);
        let deviation = variance.add_scalar(self.epsilon).sqrt();
        let scale = match self.gamma() {
            Some(gamma) => plain(gamma) / deviation,
            None => deviation.recip(),
        };
        (scale, mean, self.beta().map(plain))
    }

    fn running(&self) -> Option<(Tensor<1>, Tensor<1>)> {
        self.statistics
            .as_ref()
            .map(|statistics| statistics.read(statistics.device()))
    }

    fn weighting(&self) -> Weighting {
        self.average.weighting(self.momentum)
    }

    fn gamma(&self) -> Option<Tensor<1>> {
        self.gamma.as_ref().map(Param::val)
    }

    fn beta(&self) -> Option<Tensor<1>> {
        self.beta.as_ref().map(Param::val)
    }

    /// Checks the input's shape, and returns the number of values per channel.
    fn values_per_channel<const D: usize>(&self, input: &Tensor<D>) -> usize {
        let dims = input.dims();
        assert!(
            D >= 2,
            "BatchNorm takes an input of rank 2 or more, [batch, channels, ...], but got rank {D}, shape {dims:?}."
        );
        assert!(
            dims[1] == self.num_features,
            "BatchNorm over {} channels takes an input [batch, {}, ...], but got shape {dims:?}.",
            self.num_features,
            self.num_features
        );
        dims.iter().product::<usize>() / self.num_features
    }
}
