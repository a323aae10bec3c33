use std::path::Path;
use std::{fs, io};

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Cnn, CnnConfig, Mlp, MlpConfig, Normalization, Resnet, ResnetConfig};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::record::{Layout, Record, RecordError};

/// Configuration of a [`Classifier`]: the kind of network and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ModelConfig {
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
    /// A convolutional network.
    Cnn(CnnConfig),
    /// A residual network.
    Resnet(ResnetConfig),
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::new())
    }
}

impl ModelConfig {
    /// Makes the network on `device`, with the weights of seed 0. Weights are drawn on first use, so loading a record
    /// first skips the drawing.
    pub fn init(&self, device: &Device) -> Classifier {
        self.init_with_seed(device, 0)
    }

    /// Makes the network on `device`, with weights that depend on `seed` alone: they are the same on every backend.
    pub fn init_with_seed(&self, device: &Device, seed: u64) -> Classifier {
        match self {
            Self::Mlp(config) => Classifier::Mlp(config.init_with_seed(device, seed)),
            Self::Cnn(config) => Classifier::Cnn(config.init_with_seed(device, seed)),
            Self::Resnet(config) => Classifier::Resnet(config.init_with_seed(device, seed)),
        }
    }

    /// The name of the network: `mlp`, `cnn` or `resnet`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "mlp",
            Self::Cnn(_) => "cnn",
            Self::Resnet(_) => "resnet",
        }
    }

    /// The activation of the hidden layers.
    pub fn activation(&self) -> Activation {
        match self {
            Self::Mlp(config) => config.activation,
            Self::Cnn(config) => config.activation,
            Self::Resnet(config) => config.activation,
        }
    }

    /// The initialisation of the weights.
    pub fn strategy(&self) -> InitStrategy {
        match self {
            Self::Mlp(config) => config.init,
            Self::Cnn(config) => config.init,
            Self::Resnet(config) => config.init,
        }
    }

    /// The normalisation before each activation.
    pub fn norm(&self) -> Normalization {
        match self {
            Self::Mlp(config) => config.norm,
            Self::Cnn(config) => config.norm,
            Self::Resnet(config) => config.norm,
        }
    }

    /// The number of pixels that the network takes per image; `None` if it overflows.
    pub fn pixels(&self) -> Option<usize> {
        match self {
            Self::Mlp(config) => Some(config.inputs),
            Self::Cnn(config) => config.side.checked_pow(2),
            Self::Resnet(config) => config.side.checked_pow(2),
        }
    }

    /// Checks that the configuration describes a network.
    ///
    /// # Errors
    ///
    /// A sentence about the first invalid number.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Mlp(config) if config.inputs == 0 || config.classes == 0 => {
                Err("a perceptron must have at least 1 input and 1 class".into())
            }
            Self::Mlp(config) if config.hidden.contains(&0) => {
                Err("a hidden layer must have at least 1 unit".into())
            }
            Self::Cnn(config)
                if config.side < 4
                    || config.channels.contains(&0)
                    || config.dense == 0
                    || config.classes == 0 =>
            {
                Err("a convolutional network must have images of at least 4x4 pixels, and at least 1 unit a layer"
                    .into())
            }
            Self::Resnet(config) if config.blocks().is_none() => Err(format!(
                "a residual network has 6n + 2 layers, such as 8, 14 or 20; found a depth of {}",
                config.depth
            )),
            Self::Resnet(config)
                if config.side < 4 || config.channels == 0 || config.classes == 0 =>
            {
                Err("a residual network must have images of at least 4x4 pixels, and at least 1 channel and 1 class"
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// Checks that the configuration is valid and that its network has no more values than `record` holds, before
    /// memory is allocated for it.
    fn check(&self, record: &Record) -> Result<(), RecordError> {
        // A lower bound: every unit, and every input of a layer, has at least one value of its own.
        let values = match self {
            Self::Mlp(config) => {
                let widths = config.hidden.iter().copied();
                widths.chain([config.inputs, config.classes]).collect()
            }
            Self::Cnn(config) => {
                let [first, second] = config.channels;
                let side = config.side / 4;
                let inputs = [second, side]
                    .iter()
                    .try_fold(side, |n, &x| n.checked_mul(x));
                vec![
                    first,
                    second,
                    inputs.unwrap_or(usize::MAX),
                    config.dense,
                    config.classes,
                ]
            }
            Self::Resnet(config) => {
                let layers = config.depth.saturating_sub(2) / 6;
                let stages = config.stages().unwrap_or([usize::MAX; 3]);
                // Two convolutions a block, each with a weight for each pair of channels.
                let weights = stages.map(|stage| stage.saturating_pow(2).saturating_mul(layers));
                [&weights[..], &[config.classes]].concat()
            }
        };
        let values = values.into_iter().fold(0, usize::saturating_add);
        let reason = match self.validate() {
            Err(problem) => problem,
            Ok(()) if values > record.num_values() => format!(
                "it holds {} values, fewer than a network of its configuration has",
                record.num_values()
            ),
            Ok(()) => return Ok(()),
        };
        Err(record.damaged(reason))
    }

    /// The configuration of the network that [`Classifier::fold`] makes: this one without normalisation.
    pub fn folded(self) -> Self {
        match self {
            Self::Mlp(config) => Self::Mlp(config.with_norm(Normalization::None)),
            Self::Cnn(config) => Self::Cnn(config.with_norm(Normalization::None)),
            Self::Resnet(config) => Self::Resnet(config.with_norm(Normalization::None)),
        }
    }
}

/// A network that classifies images.
#[derive(Module, Debug)]
// A run has only one, so its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Classifier {
    /// A multi-layer perceptron.
    Mlp(Mlp),
    /// A convolutional network.
    Cnn(Cnn),
    /// A residual network.
    Resnet(Resnet),
}

impl Classifier {
    /// Computes the logits of a batch of images. All layers compute in the float type of the images; batch norm's
    /// statistics are at least f32.
    ///
    /// # Shapes
    ///
    /// - `images`: `[batch, height, width]`
    /// - output: `[batch, classes]`, in f32
    pub fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let logits = match self {
            Self::Mlp(model) => model.forward(images.flatten(1, 2)),
            Self::Cnn(model) => model.forward(images.unsqueeze_dim(1)),
            Self::Resnet(model) => model.forward(images.unsqueeze_dim(1)),
        };
        logits.cast(FloatDType::F32)
    }

    /// Folds every normalisation into the layer before it. The result in inference stays the same.
    /// [`ModelConfig::folded`] is the configuration of the new network.
    pub fn fold(self) -> Self {
        match self {
            Self::Mlp(model) => Self::Mlp(model.fold()),
            Self::Cnn(model) => Self::Cnn(model.fold()),
            Self::Resnet(model) => Self::Resnet(model.fold()),
        }
    }

    /// Makes a record of the network with its configuration. Parameters are named as in an [`Mlp`], a [`Cnn`] or a
    /// [`Resnet`] alone.
    pub fn record(&self, config: &ModelConfig, layout: Layout) -> Record {
        let record = match self {
            Self::Mlp(model) => Record::new(model, layout),
            Self::Cnn(model) => Record::new(model, layout),
            Self::Resnet(model) => Record::new(model, layout),
        };
        record.with_config(config)
    }

    /// Makes a network of this configuration with the values of a record.
    ///
    /// # Errors
    ///
    /// The configuration is invalid, or the record belongs to a different network.
    pub fn from_record(
        config: &ModelConfig,
        record: &Record,
        device: &Device,
    ) -> Result<Self, RecordError> {
        config.check(record)?;
        Ok(match config.init(device) {
            Self::Mlp(model) => Self::Mlp(record.load(model)?),
            Self::Cnn(model) => Self::Cnn(record.load(model)?),
            Self::Resnet(model) => Self::Resnet(record.load(model)?),
        })
    }

    /// Reads a trained network from a burnpack, safetensors or PyTorch file (see [`Record`]).
    ///
    /// The configuration comes from the file. If the file has none, it comes from `config.json` in the same folder,
    /// which holds a [`ModelConfig`] or the configuration of a run.
    ///
    /// # Errors
    ///
    /// The file or the configuration cannot be read or is damaged, or the two do not match.
    pub fn open(path: &Path, device: &Device) -> Result<(ModelConfig, Self), RecordError> {
        Self::open_part(path, None, device)
    }

    /// Reads a trained network from a part of a file (see [`Record::under`]), or from the whole if `part` is `None`.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), and if the file has no such part.
    pub fn open_part(
        path: &Path,
        part: Option<&str>,
        device: &Device,
    ) -> Result<(ModelConfig, Self), RecordError> {
        let record = Record::open(path)?;
        let record = match part {
            Some(part) => record.under(part)?,
            None => record,
        };
        let config = match record.try_config()? {
            Some(config) => config,
            None => config_beside(path)?,
        };
        let model = Self::from_record(&config, &record, device)?;
        Ok((config, model))
    }
}

/// Reads the configuration from `config.json` in the same folder.
fn config_beside(path: &Path) -> Result<ModelConfig, RecordError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Beside {
        Model(ModelConfig),
        Run { model: ModelConfig },
    }
    let beside = path.with_file_name("config.json");
    let text = match fs::read(&beside) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecordError::NoConfig {
                origin: path.display().to_string(),
            });
        }
        Err(source) => {
            return Err(RecordError::Io {
                action: "read",
                path: beside,
                source,
            });
        }
    };
    match serde_json::from_slice(&text) {
        Ok(Beside::Model(model) | Beside::Run { model }) => Ok(model),
        Err(_) => Err(RecordError::Damaged {
            origin: beside.display().to_string(),
            reason: "it is the configuration of neither a network nor a run".into(),
        }),
    }
}
