use burn::module::Module;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Cnn, CnnConfig, Mlp, MlpConfig, Normalization};
use crate::init::{Activation, InitStrategy};

/// Configuration of a [`Classifier`]: which network, and how it is built.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
    /// A convolutional network.
    Cnn(CnnConfig),
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::new())
    }
}

impl ModelConfig {
    /// Makes the network on `device`. Its weights are drawn when they are first needed, which they
    /// are not if a record is loaded before.
    pub fn init(&self, device: &Device) -> Classifier {
        match self {
            Self::Mlp(config) => Classifier::Mlp(config.init(device)),
            Self::Cnn(config) => Classifier::Cnn(config.init(device)),
        }
    }

    /// The name of the network: `mlp` or `cnn`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "mlp",
            Self::Cnn(_) => "cnn",
        }
    }

    /// The activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Mlp(config) => config.activation,
            Self::Cnn(config) => config.activation,
        }
    }

    /// How the weights start.
    pub fn strategy(&self) -> InitStrategy {
        match self {
            Self::Mlp(config) => config.init,
            Self::Cnn(config) => config.init,
        }
    }

    /// What stands before each activation.
    pub fn norm(&self) -> Normalization {
        match self {
            Self::Mlp(config) => config.norm,
            Self::Cnn(config) => config.norm,
        }
    }
}

/// A network that tells images into classes.
#[derive(Module, Debug)]
// There is one value a run: its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Classifier {
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// A convolutional network.
    Cnn(Cnn),
}

impl Classifier {
    /// Logits of a batch of images.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        match self {
            Self::Mlp(model) => model.forward(images.flatten(1, 2)),
            Self::Cnn(model) => model.forward(images.unsqueeze_dim(1)),
        }
    }

    /// The record of the network itself, which loads into an [`Mlp`] or a [`Cnn`].
    pub fn into_network_record(self) -> ModuleRecord {
        match self {
            Self::Mlp(model) => model.into_record(),
            Self::Cnn(model) => model.into_record(),
        }
    }

    /// Loads what [`into_network_record`](Self::into_network_record) gave.
    ///
    /// # Errors
    ///
    /// The record is of another architecture: names or shapes differ.
    pub fn try_load_network_record(self, record: ModuleRecord) -> Result<Self, RecordError> {
        Ok(match self {
            Self::Mlp(model) => Self::Mlp(model.try_load_record(record)?),
            Self::Cnn(model) => Self::Cnn(model.try_load_record(record)?),
        })
    }
}
