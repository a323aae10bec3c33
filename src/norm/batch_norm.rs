//! The batch normalisation module.

use std::fmt;

use burn::config::Config;
use burn::module::{
    Content, Devices, DisplaySettings, Flag, Module, ModuleDisplay, ModuleDisplayDefault,
    ModuleMapper, ModuleVisitor, Param,
};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};

use super::fields::{map_field, visit_field};
use super::mode::Mode;
use super::op::{self, BatchNormOutput, Then};
use super::recalibrate::Recorder;
use super::statistics::{BatchStatistics, RunningAverage, RunningStatistics, Weighting};

/// Configuration of a [`BatchNorm`].
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels. Must be greater than zero.
    pub num_features: usize,
    /// Added to the variance before its root is taken. Finite and positive. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The weight of a new batch in the exponential running averages, in `[0, 1]`. 0 keeps the running statistics; 1
    /// replaces them by the batch's. Default: 0.1
    #[config(default = 0.1)]
    pub momentum: f64,
    /// How the running statistics are averaged. Default: [`RunningAverage::Exponential`]
    #[config(default = "RunningAverage::Exponential")]
    pub average: RunningAverage,
    /// Whether the layer has the learned factor gamma and offset beta. Default: `true`
    #[config(default = true)]
    pub affine: bool,
    /// Whether the layer keeps running statistics. Without them it normalises by the batch's in inference too.
    /// Default: `true`
    #[config(default = true)]
    pub running_statistics: bool,
}

impl BatchNormConfig {
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
            beta: self
                .affine
                .then(|| Initializer::Zeros.init([channels], device)),
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
/// - On any other device, and in a layer frozen by [`freeze`](Module::freeze) or
///   [`freeze_group`](Module::freeze_group), the running statistics normalise and stay as they are.
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
/// optimizer step. [`valid`](Module::valid) and [`into_record`](Module::into_record) always copy.
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
#[derive(Clone, Debug)]
pub struct BatchNorm {
    /// The learned factor, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The learned offset, `[channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    /// Whether the layer trains when its input is on an autodiff device; cleared by [`freeze`](Module::freeze).
    pub training: Param<Flag>,
    /// The weight of a new batch in the exponential averages.
    pub momentum: f64,
    /// Added to the variance before its root is taken.
    pub epsilon: f64,
    statistics: Option<RunningStatistics>,
    num_features: usize,
    average: RunningAverage,
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

/// Written by hand: the running statistics are one field under one lock, but traversals must see the fields
/// `running_mean` and `running_var`.
impl Module for BatchNorm {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visit_field("gamma", &self.gamma, visitor);
        visit_field("beta", &self.beta, visitor);
        visit_field("training", &self.training, visitor);
        if let Some(statistics) = &self.statistics {
            statistics.visit(visitor);
        }
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self {
            gamma: map_field("gamma", self.gamma, mapper),
            beta: map_field("beta", self.beta, mapper),
            training: map_field("training", self.training, mapper),
            statistics: self
                .statistics
                .map(|statistics| statistics.map(self.average, mapper)),
            ..self
        }
    }

    fn to_device(self, device: &Device) -> Self {
        Self {
            gamma: self.gamma.to_device(device),
            beta: self.beta.to_device(device),
            statistics: self.statistics.map(|statistics| {
                let device = device
                    .clone()
                    .with_autodiff_context_from(statistics.device());
                statistics.copy_to(device)
            }),
            ..self
        }
    }

    fn fork(self, device: &Device) -> Self {
        Self {
            gamma: self.gamma.fork(device),
            beta: self.beta.fork(device),
            statistics: self.statistics.map(|statistics| statistics.fork(device)),
            ..self
        }
    }

    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.gamma.collect_devices(devices);
        let mut devices = self.beta.collect_devices(devices);
        if let Some(statistics) = &self.statistics
            && !devices.contains(statistics.device())
        {
            devices.push(statistics.device().clone());
        }
        devices
    }

    fn materialize(self) -> Self {
        Self {
            gamma: self.gamma.materialize(),
            beta: self.beta.materialize(),
            ..self
        }
    }

    fn valid(&self) -> Self {
        Self {
            gamma: self.gamma.valid(),
            beta: self.beta.valid(),
            training: self.training.valid(),
            statistics: self.statistics.as_ref().map(|statistics| {
                statistics.copy_to(statistics.device().clone().without_autodiff())
            }),
            ..*self
        }
    }

    fn train(self) -> Self {
        Self {
            gamma: self.gamma.train(),
            beta: self.beta.train(),
            training: self.training.train(),
            statistics: self
                .statistics
                .map(|statistics| statistics.copy_to(statistics.device().clone().autodiff())),
            ..self
        }
    }
}

impl ModuleDisplayDefault for BatchNorm {
    fn content(&self, content: Content) -> Option<Content> {
        let content = content
            .set_top_level_type("BatchNorm")
            .add("num_features", &self.num_features)
            .add("momentum", &self.momentum)
            .add("epsilon", &self.epsilon);
        // Options that Burn's layer has are shown as it shows them; the others only if they differ from the default.
        let content = match self.average {
            RunningAverage::Exponential => content,
            other => content.add_debug_attribute("average", &other),
        };
        let content = match self.gamma.is_some() || self.beta.is_some() {
            true => content,
            false => content.add("affine", &false),
        };
        let content = match self.statistics {
            Some(_) => content,
            None => content.add("running_statistics", &false),
        };
        match self.training.is_enabled() {
            true => content.optional(),
            false => content.add("training", &self.training).optional(),
        }
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl ModuleDisplay for BatchNorm {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }
}

impl fmt::Display for BatchNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(DisplaySettings::default()))
    }
}
