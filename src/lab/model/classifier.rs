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

    /// The configuration of the network that [`Classifier::fold`] makes: the same without
    /// normalisation.
    pub fn folded(self) -> Self {
        match self {
            Self::Mlp(config) => Self::Mlp(config.with_norm(Normalization::None)),
            Self::Cnn(config) => Self::Cnn(config.with_norm(Normalization::None)),
        }
    }
}

/// A network that tells images into classes.
#[derive(Module, Debug)]
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

    /// The network without normalisation that does in inference what this one does: every
    /// normalisation is folded into the layer before it. [`ModelConfig::folded`] describes it.
    pub fn fold(self) -> Self {
        match self {
            Self::Mlp(model) => Self::Mlp(model.fold()),
            Self::Cnn(model) => Self::Cnn(model.fold()),
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
