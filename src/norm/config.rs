//! The configuration of batch normalisation.

use std::fmt;

use burn::config::{Config, config_to_json};
use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::average::RunningAverage;
use super::batch_norm::BatchNorm;
use super::statistics::Own;

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
    /// The axis of the channels, 1 or more, or counted from the last axis, which is -1. Default: 1
    #[serde(default = "second")]
    pub channel_axis: isize,
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
    /// Whether the running variance averages the batches' unbiased variances, as the paper and PyTorch do, or the
    /// biased ones, as Burn's layer does. Default: `true`
    #[serde(default = "yes")]
    pub unbiased_variance: bool,
}

fn exponential() -> RunningAverage {
    RunningAverage::Exponential
}

fn second() -> isize {
    1
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
            channel_axis: second(),
            average: exponential(),
            affine: true,
            bias: true,
            running_statistics: true,
            unbiased_variance: true,
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

    /// Sets [`channel_axis`](Self::channel_axis): -1 for `[batch, time, features]` and for channels-last images. The
    /// input is not copied.
    pub fn with_channel_axis(self, channel_axis: isize) -> Self {
        Self {
            channel_axis,
            ..self
        }
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

    /// Sets [`unbiased_variance`](Self::unbiased_variance).
    pub fn with_unbiased_variance(self, unbiased_variance: bool) -> Self {
        Self {
            unbiased_variance,
            ..self
        }
    }

    /// Creates a layer with gamma 1, beta 0, running mean 0 and running variance 1.
    ///
    /// # Panics
    ///
    /// Panics if `num_features` or `channel_axis` is zero, `epsilon` is not finite and positive, or `momentum` is not
    /// within `[0, 1]`.
    pub fn init(&self, device: &Device) -> BatchNorm {
        assert!(
            self.num_features > 0,
            "num_features must be greater than zero."
        );
        assert!(
            self.epsilon.is_finite() && self.epsilon > 0.0,
            "epsilon must be finite and positive. It is {}.",
            self.epsilon
        );
        assert!(
            (0.0..=1.0).contains(&self.momentum),
            "momentum must be finite and within [0, 1]. It is {}.",
            self.momentum
        );
        assert!(
            self.channel_axis != 0,
            "channel_axis must not be 0, the axis of the batch."
        );
        let channels = self.num_features;
        let statistics = Own::new(channels, self.average, device);
        BatchNorm {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            training: Param::from_bool(true),
            running_mean: statistics.mean,
            running_var: statistics.variance,
            momentum: self.momentum,
            epsilon: self.epsilon,
            running_weight: statistics.weight,
            lock: statistics.lock,
            num_features: channels,
            channel_axis: self.channel_axis,
            average: self.average,
            affine: self.affine,
            bias: self.bias,
            running_statistics: self.running_statistics,
            unbiased_variance: self.unbiased_variance,
        }
    }
}
