//! What the bench trains: its networks, and how.

use std::fmt::Display;
use std::ops::RangeInclusive;

use burn_kindling::init::{Activation, InitStrategy};
use serde::{Deserialize, Deserializer, Serialize};

use super::text::Text;
use crate::model::{MlpConfig, ModelConfig, Normalization};
use crate::train::{OptimizerKind, Schedule, TrainConfig};

/// The most networks side by side.
pub const NETWORKS: usize = 4;

/// The most multiplications of a forward pass of all networks: a step takes some seconds at most.
const WORK: usize = 8_000_000_000;

/// One network and its training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Initialisation of the weights of every layer.
    pub init: InitStrategy,
    /// If given, weights from N(0, std²) in place of `init`: 1e-4 to 10.
    pub std: Option<f64>,
    /// Factor on every drawn weight: 1e-4 to 1000.
    pub scale: f64,
    /// Activation of the hidden layers.
    pub activation: Activation,
    /// Normalisation before each activation.
    pub norm: Normalization,
    /// Hidden layers: 1 to 30.
    pub depth: usize,
    /// Units of each hidden layer: 4 to 512.
    pub width: usize,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Learning rate: 1e-6 to 10.
    pub lr: f64,
}

impl Default for NetworkConfig {
    /// The network of the default job, five layers of 100, without normalisation.
    fn default() -> Self {
        Self {
            init: InitStrategy::He,
            std: None,
            scale: 1.0,
            activation: Activation::Relu,
            norm: Normalization::None,
            depth: 5,
            width: 100,
            optimizer: OptimizerKind::Adam,
            lr: 1e-3,
        }
    }
}

impl NetworkConfig {
    /// Checks every number.
    ///
    /// # Errors
    ///
    /// A sentence that names the field, what was found and what is allowed.
    pub fn validate(&self) -> Result<(), Text> {
        within("scale", self.scale, 1e-4..=1000.0)?;
        if let Some(std) = self.std {
            within("std", std, 1e-4..=10.0)?;
        }
        within("depth", self.depth, 1..=30)?;
        within("width", self.width, 4..=512)?;
        within("lr", self.lr, 1e-6..=10.0)
    }

    /// The training that `examples/mnist` makes of this, at a constant rate.
    pub fn training(&self, batch_size: usize, seed: u64) -> TrainConfig {
        let (init, scale) = match self.std {
            Some(std) => (InitStrategy::StandardNormal, std * self.scale),
            None => (self.init, self.scale),
        };
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_hidden(vec![self.width; self.depth])
                    .with_activation(self.activation)
                    .with_init(init)
                    .with_weight_scale(scale)
                    .with_norm(self.norm),
            ),
            optimizer: self.optimizer,
            learning_rate: self.lr,
            schedule: Schedule::Constant,
            epochs: 1,
            batch_size,
            seed,
            ..TrainConfig::default()
        }
    }

    /// The std of the weights of a layer with this fan-in.
    pub fn weight_std(&self, fan_in: usize) -> f64 {
        self.scale * self.std.unwrap_or_else(|| self.init.std(fan_in))
    }

    /// Whether the weights are drawn as the initialisation that suits the activation draws them.
    pub fn is_recommended(&self) -> bool {
        self.std.is_none()
            && self.scale == 1.0
            && self.init == InitStrategy::recommended_for(self.activation)
    }

    /// This with the fields of a change.
    pub fn with(&self, change: &Change) -> Self {
        // Without words about `std`, an initialisation replaces it.
        let std = change.std.unwrap_or(match change.init {
            Some(_) => None,
            None => self.std,
        });
        Self {
            init: change.init.unwrap_or(self.init),
            std,
            scale: change.scale.unwrap_or(self.scale),
            activation: change.activation.unwrap_or(self.activation),
            norm: change.norm.unwrap_or(self.norm),
            depth: change.depth.unwrap_or(self.depth),
            width: change.width.unwrap_or(self.width),
            optimizer: change.optimizer.unwrap_or(self.optimizer),
            lr: change.lr.unwrap_or(self.lr),
        }
    }

    /// Whether a network of this configuration can go on as one of the other, with its weights kept.
    pub fn same_weights(&self, other: &Self) -> bool {
        let of = |it: &Self| (it.init, it.std, it.scale, it.depth, it.width);
        of(self) == of(other)
    }

    /// Multiplications of a forward pass of one image.
    fn work(&self) -> usize {
        784 * self.width + (self.depth - 1) * self.width * self.width + self.width * 10
    }
}

/// Fields of a [`NetworkConfig`] that change; the others stay.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Initialisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<InitStrategy>,
    /// The std in place of the initialisation; `Some(None)` takes it away.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "given_or_null"
    )]
    pub std: Option<Option<f64>>,
    /// Factor on the drawn weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Activation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<Activation>,
    /// Normalisation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm: Option<Normalization>,
    /// Hidden layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Units of each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Optimiser.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerKind>,
    /// Learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
}

/// Tells a field that is null from one that is missing.
pub(super) fn given_or_null<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// The bench: networks that train in lockstep, on the same batches from the same seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchConfig {
    /// One to four networks.
    pub networks: Vec<NetworkConfig>,
    /// Images per step: 2 to 1024.
    #[serde(default = "usual_batch")]
    pub batch: usize,
    /// Seed of the weights and of the order of the images: 0 to 2^32 - 1.
    #[serde(default = "usual_seed")]
    pub seed: u64,
    /// Whether it trains or waits.
    #[serde(default = "yes")]
    pub play: bool,
}

fn usual_batch() -> usize {
    128
}

fn usual_seed() -> u64 {
    42
}

fn yes() -> bool {
    true
}

impl Default for BenchConfig {
    /// The race that the page opens with: ten layers of ReLU, left with weights too small, right with He. It waits.
    fn default() -> Self {
        let right = NetworkConfig {
            depth: 10,
            optimizer: OptimizerKind::Momentum,
            lr: 0.02,
            ..NetworkConfig::default()
        };
        let left = NetworkConfig {
            init: InitStrategy::SmallNormal,
            ..right.clone()
        };
        Self {
            networks: vec![left, right],
            batch: usual_batch(),
            seed: usual_seed(),
            play: false,
        }
    }
}

impl BenchConfig {
    /// Checks every number, and that a step ends within seconds.
    ///
    /// # Errors
    ///
    /// A sentence that names the field, what was found and what is allowed.
    pub fn validate(&self) -> Result<(), Text> {
        within("networks", self.networks.len(), 1..=NETWORKS)?;
        within("batch", self.batch, 2..=1024)?;
        within("seed", self.seed, 0..=u64::from(u32::MAX))?;
        self.networks.iter().try_for_each(NetworkConfig::validate)?;
        let work = self.networks.iter().map(NetworkConfig::work).sum::<usize>() * self.batch;
        match work <= WORK {
            true => Ok(()),
            false => Err(Text::new(
                format!(
                    "a step of these networks takes {:.1} billion multiplications, and at most {} billion are allowed; \
                     take fewer or narrower layers, or a smaller batch",
                    work as f64 / 1e9,
                    WORK / 1_000_000_000
                ),
                format!(
                    "이 신경망들의 한 스텝에는 곱셈이 {:.1}십억 번 필요하지만 {}십억 번까지만 허용됩니다. 층을 줄이거나 좁히거나, \
                     배치를 작게 하세요",
                    work as f64 / 1e9,
                    WORK / 1_000_000_000
                ),
            )),
        }
    }
}

/// Checks that a number lies in its range. NaN does not.
///
/// # Errors
///
/// A sentence that names the field, what was found and what is allowed.
pub(super) fn within<T: PartialOrd + Display>(
    field: &str,
    found: T,
    allowed: RangeInclusive<T>,
) -> Result<(), Text> {
    if allowed.contains(&found) {
        return Ok(());
    }
    let (low, high) = (allowed.start(), allowed.end());
    Err(Text::new(
        format!("`{field}` must be from {low} to {high}, found {found}"),
        format!("`{field}` 값은 {low}에서 {high} 사이여야 하지만 {found}입니다"),
    ))
}
