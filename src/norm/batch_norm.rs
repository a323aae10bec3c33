//! The batch normalisation module.

use std::fmt;

use burn::config::Config;
use burn::module::{
    Content, Devices, DisplaySettings, Flag, Module, ModuleDisplay, ModuleDisplayDefault,
    ModuleMapper, ModuleVisitor, Param,
};
use burn::nn::Initializer;
use burn::tensor::{Device, FloatDType, Tensor};

use super::mode::{Mode, Statistics};
use super::op::{self, BatchNormOutput};
use super::recalibrate;
use super::statistics::{RunningAverage, RunningStatistics};

/// Configuration of a [`BatchNorm`].
#[derive(Config, Debug)]
pub struct BatchNormConfig {
    /// The number of channels. Must be greater than zero.
    pub num_features: usize,
    /// Added to the variance before its root is taken. Finite and positive. Default: 1e-5
    #[config(default = 1e-5)]
    pub epsilon: f64,
    /// The weight of a new batch in the exponential running averages, in `[0, 1]`: 0 keeps the running statistics, 1
    /// replaces them by the batch's. Default: 0.1
    #[config(default = 0.1)]
    pub momentum: f64,
    /// How the running statistics are averaged. Default: [`RunningAverage::Exponential`]
    #[config(default = "RunningAverage::Exponential")]
    pub average: RunningAverage,
    /// Whether the layer has the learned factor gamma and offset beta. Default: `true`
    #[config(default = true)]
    pub affine: bool,
    /// Whether the layer keeps running statistics. One that does not always normalises by the batch's, in inference
    /// too. Default: `true`
    #[config(default = true)]
    pub running_statistics: bool,
}

impl BatchNormConfig {
    /// A layer with gamma 1, beta 0, running mean 0 and running variance 1.
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
/// `y = gamma * (x - mean) / sqrt(variance + epsilon) + beta`, channel by channel, with mean and variance over the
/// batch axis and all trailing axes (Ioffe & Szegedy 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167)).
/// Created with [`BatchNormConfig`]; it takes the place of `burn::nn::BatchNorm`, and their records load into each
/// other, except for the options that Burn's does not have.
///
/// # Which statistics
///
/// On an autodiff device the batch's own normalise, and enter the running ones; on any other device, and in a layer
/// frozen by [`freeze`](Module::freeze) or [`freeze_group`](Module::freeze_group), the running ones normalise and
/// stay. [`Mode`] overrides this.
///
/// # Running statistics
///
/// They average the batch's mean and *unbiased* variance (`m / (m - 1)` times the one that normalises, with `m`
/// values a channel), as in the paper's Algorithm 2. They are kept in f32, or f64 if the device's or the record's
/// type is, and are never behind: an update is seen at once by whatever reads, exports, clones or moves the module.
///
/// A channel in which the batch's mean or variance is not finite does not enter them, so one bad batch cannot spoil
/// a model for good; its output is what the arithmetic gives. An empty batch changes nothing.
///
/// # Clones and threads
///
/// Running statistics describe what given weights do to the data, so they are shared for as long as the weights are
/// the same: between clones, and forks on other devices, as Burn's workers make them. Each batch that any of them
/// sees, on any thread, is counted once, in all of them. As soon as one gets weights of its own (an optimizer steps,
/// a record is loaded, it is frozen, moved with `to_device`) it also gets its own copy of the statistics. A
/// clone kept from before an optimizer step thus never feels the training after it. [`valid`](Module::valid) and
/// [`into_record`](Module::into_record) take copies at once.
///
/// Where Burn trains on several devices, each normalises its batch by that batch's own statistics. Under its
/// `MultiDevice` strategy the workers are forks, and feed the same running ones: a step on `n` devices is `n` updates,
/// each with the whole momentum, in an order that is not determined. Under the distributed strategy every worker maps
/// its fork's parameters, and so has running statistics of its own; those of the first device are kept.
///
/// # Records
///
/// The parameters are `gamma`, `beta`, `running_mean` and `running_var`, `[channels]` each, as in Burn. The averages
/// other than the exponential one have one more, `running_weight`: the weight of the batches seen so far. A record
/// without it loads with `allow_partial`; the next batch in training then counts as the first.
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
    /// Normalises the input, by the statistics that [the rule](BatchNorm#which-statistics) or a [`Mode`] says.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, num_features, ...]`
    /// - output: as the input. An empty input is returned as it is, and changes no running statistics.
    ///
    /// # Panics
    ///
    /// Panics if the input's rank is below 2 or its second axis is not `num_features`, and if the batch's statistics
    /// are called for where there is only one value a channel, which has no variance.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.apply(self.mode(&input), input, false)
    }

    /// [`forward`](BatchNorm::forward) and a ReLU in one operation: what follows batch norm in most networks, at hardly
    /// more than the cost of batch norm alone.
    ///
    /// The same as `relu(norm.forward(input))`, without the ReLU's own passes over the activation, forward and backward,
    /// and without the tensor between the two. Shapes and panics are those of [`forward`](BatchNorm::forward).
    pub fn forward_relu<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.apply(self.mode(&input), input, true)
    }

    /// The mode in which an input is normalised.
    fn mode<const D: usize>(&self, input: &Tensor<D>) -> Mode {
        let trains = input.device().is_autodiff() && self.training.is_enabled();
        Mode::requested().unwrap_or(match trains {
            true => Mode::TRAINING,
            false => Mode::INFERENCE,
        })
    }

    /// Normalises the input in the given mode, whatever the device, the layer's state or a surrounding
    /// [`Mode::run`] would have it do.
    ///
    /// Shapes and panics are those of [`forward`](BatchNorm::forward).
    pub fn forward_in<const D: usize>(&self, mode: Mode, input: Tensor<D>) -> Tensor<D> {
        self.apply(mode, input, false)
    }

    /// The layer, and a ReLU behind it with `rectify`.
    fn apply<const D: usize>(&self, mode: Mode, input: Tensor<D>, rectify: bool) -> Tensor<D> {
        let values = self.values_a_channel(&input);
        if values == 0 {
            return input;
        }
        if let Some(statistics) = &self.statistics
            && recalibrate::records(statistics)
        {
            let batch = self.train(input, rectify);
            recalibrate::record(statistics, batch.mean, batch.variance, values);
            return batch.output;
        }
        let running = match mode.normalise_by {
            Statistics::Batch => None,
            Statistics::Running => self.statistics.as_ref(),
        };
        let Some(running) = running else {
            assert_variance(values, &input.dims());
            let BatchNormOutput {
                output,
                mean,
                variance,
            } = self.train(input, rectify);
            if let Some(statistics) = self.statistics.as_ref().filter(|_| mode.update) {
                statistics.update(mean, variance, values, self.decay_and_gain());
            }
            return output;
        };
        if mode.update {
            assert_variance(values, &input.dims());
            let batch =
                op::batch_norm_train(input.clone().without_autodiff(), None, None, self.epsilon);
            running.update(batch.mean, batch.variance, values, self.decay_and_gain());
        }
        let (mean, variance) = running.read(&input.device());
        op::inference(
            input,
            [mean, variance],
            self.gamma(),
            self.beta(),
            self.epsilon,
            rectify,
        )
    }

    /// Normalises by the batch's statistics.
    fn train<const D: usize>(&self, input: Tensor<D>, rectify: bool) -> BatchNormOutput<D> {
        op::train(input, self.gamma(), self.beta(), self.epsilon, rectify)
    }

    /// The running mean, `[channels]`, as of the last batch; none if the layer keeps no running statistics.
    pub fn running_mean(&self) -> Option<Tensor<1>> {
        self.running().map(|(mean, _)| mean)
    }

    /// The running variance, `[channels]`, as of the last batch; none if the layer keeps no running statistics.
    pub fn running_var(&self) -> Option<Tensor<1>> {
        self.running().map(|(_, variance)| variance)
    }

    /// What the layer does in inference, `scale * (x - mean) + beta`: its scale, mean and beta, `[channels]` each and
    /// outside of any graph.
    ///
    /// # Panics
    ///
    /// Panics if the layer keeps no running statistics.
    pub(super) fn inference_terms(&self) -> (Tensor<1>, Tensor<1>, Option<Tensor<1>>) {
        let (mean, variance) = self.running().expect(
            "a batch norm without running statistics normalises every batch by its own, and cannot be folded.",
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

    fn decay_and_gain(&self) -> (f64, f64) {
        self.average.decay_and_gain(self.momentum)
    }

    fn gamma(&self) -> Option<Tensor<1>> {
        self.gamma.as_ref().map(Param::val)
    }

    fn beta(&self) -> Option<Tensor<1>> {
        self.beta.as_ref().map(Param::val)
    }

    /// The number of values a channel has in the input, which is checked.
    fn values_a_channel<const D: usize>(&self, input: &Tensor<D>) -> usize {
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

fn assert_variance(values: usize, dims: &[usize]) {
    assert!(
        values > 1,
        "BatchNorm needs at least two values a channel to normalise by the batch's statistics, but the input of shape \
         {dims:?} has one; use a larger batch, or the running statistics (`valid()`, `freeze()`)."
    );
}

/// The name by which traversals and record adapters know this module, Burn's own among them.
pub(super) const CONTAINER: &str = "Struct:BatchNorm";

/// Shows a field of the module to a visitor.
pub(super) fn visit_field<T: Module, V: ModuleVisitor>(name: &str, field: &T, visitor: &mut V) {
    visitor.enter_module(name, CONTAINER);
    field.visit(visitor);
    visitor.exit_module(name, CONTAINER);
}

/// What a mapper makes of a field of the module.
pub(super) fn map_field<T: Module, M: ModuleMapper>(name: &str, field: T, mapper: &mut M) -> T {
    mapper.enter_module(name, CONTAINER);
    let field = Module::map(field, mapper);
    mapper.exit_module(name, CONTAINER);
    field
}

/// Written out, not derived, so that the running statistics, which are one thing under one lock, are traversed as the
/// fields `running_mean` and `running_var` of this module.
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
        // What is as in Burn's layer is shown as in Burn's layer; the rest when it is not the default.
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
