use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, ModuleOptimizer, SgdConfig};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::error::TrainError;
use crate::data::ImageSet;
use crate::model::{Classifier, ModelConfig, Normalization};
use crate::precision::Precision;

/// Everything that decides what a training run computes. The same configuration, data and backend give the same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The network.
    pub model: ModelConfig,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// Learning rate, at the start if there is a schedule.
    pub learning_rate: f64,
    /// How the learning rate changes over the run.
    pub schedule: Schedule,
    /// Passes over the training images.
    pub epochs: usize,
    /// Images per training step; on several devices, images per step and device.
    pub batch_size: usize,
    /// Float type in which the layers compute during training. Files from before this field existed mean f32.
    #[serde(default)]
    pub dtype: Precision,
    /// Whether, on several devices, this crate's batch norm normalises by the statistics of all devices' batches. Files
    /// from before this field existed mean no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync_norm: bool,
    /// Seed of the initial weights and of the order of the images.
    pub seed: u64,
    /// Stop after this many epochs without a lower validation loss, and keep the weights of the epoch with the lowest
    /// loss. `None`: run all epochs and keep the last weights.
    pub patience: Option<usize>,
}

impl Default for TrainConfig {
    /// The default job: the default [`ModelConfig`], Adam at 1e-3 on a cosine schedule, 10 epochs, batches of 128.
    fn default() -> Self {
        Self {
            model: ModelConfig::default(),
            optimizer: OptimizerKind::Adam,
            learning_rate: 1e-3,
            schedule: Schedule::Cosine,
            epochs: 10,
            batch_size: 128,
            dtype: Precision::F32,
            sync_norm: false,
            seed: 42,
            patience: None,
        }
    }
}

impl TrainConfig {
    /// Makes the network on `device`, before its first step. The same seed gives the same weights on every backend.
    pub fn init_model(&self, device: &Device) -> Classifier {
        self.model.init_with_seed(device, self.seed)
    }

    /// Checks that a run is possible with this configuration.
    ///
    /// # Errors
    ///
    /// A count is zero; the learning rate is not a positive number (at most 1 on a cosine schedule); or the network
    /// cannot be built, or cannot be trained in this float type or on batches of this size.
    pub fn validate(&self) -> Result<(), TrainError> {
        let problem = |text: String| Err(TrainError::Config(text));
        if self.epochs == 0 {
            return problem("the number of epochs must be at least 1".into());
        }
        if self.batch_size == 0 {
            return problem("the batch size must be at least 1".into());
        }
        if self.patience == Some(0) {
            return problem("the patience must be at least 1 epoch".into());
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return problem(format!(
                "the learning rate must be a positive number, found {}",
                self.learning_rate
            ));
        }
        if self.schedule == Schedule::Cosine && self.learning_rate > 1.0 {
            return problem(format!(
                "the cosine schedule takes a learning rate of at most 1, found {}; use a constant one",
                self.learning_rate
            ));
        }
        self.model.validate().map_err(TrainError::Config)?;
        if self.model.pixels() != Some(ImageSet::PIXELS) {
            return problem(format!(
                "the network must take images of {0}x{0} pixels, those of the data",
                ImageSet::SIDE
            ));
        }
        if self.batch_size == 1 && self.normalizes() {
            return problem(
                "batch normalisation needs batches of at least 2 images: a single one has no variance; use a larger \
                 batch size or no normalisation (norm `none`)"
                    .into(),
            );
        }
        if self.sync_norm && self.model.norm() != Normalization::Batch {
            return problem(format!(
                "only this crate's batch norm (norm `batch`) is synchronised over devices, found norm `{}`",
                self.model.norm()
            ));
        }
        if self.dtype != Precision::F32 && self.model.norm() == Normalization::Burn {
            return problem(format!(
                "Burn's own batch norm does not take {} beside parameters of f32; use this crate's (norm `batch`)",
                self.dtype
            ));
        }
        Ok(())
    }

    /// Whether any layer normalises with the statistics of the batch.
    pub(super) fn normalizes(&self) -> bool {
        let layers = match &self.model {
            ModelConfig::Mlp(mlp) => mlp.hidden.len(),
            ModelConfig::Cnn(_) | ModelConfig::Resnet(_) => 3,
        };
        layers > 0 && self.model.norm() != Normalization::None
    }

    /// The schedule over a run of `steps` training steps.
    pub(super) fn scheduler(&self, steps: usize) -> Result<ModuleLrScheduler, TrainError> {
        match self.schedule {
            Schedule::Constant => Ok(self.learning_rate.into()),
            Schedule::Cosine => CosineAnnealingLrSchedulerConfig::new(self.learning_rate, steps)
                .init()
                .map_err(TrainError::Config),
        }
    }
}

/// The optimisers on offer, with the moment constants of PyTorch's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Stochastic gradient descent with momentum 0.9.
    Momentum,
    /// Adam (Kingma & Ba 2015, arXiv:1412.6980), betas 0.9 and 0.999.
    Adam,
    /// Adam with decoupled weight decay 0.01 (Loshchilov & Hutter 2019, arXiv:1711.05101).
    AdamW,
}

impl OptimizerKind {
    /// Makes the optimiser.
    pub fn init(self) -> ModuleOptimizer {
        match self {
            Self::Sgd => SgdConfig::new().init(),
            Self::Momentum => SgdConfig::new()
                .with_momentum(Some(MomentumConfig::new().with_dampening(0.0)))
                .init(),
            Self::Adam => AdamConfig::new().with_epsilon(1e-8).init(),
            Self::AdamW => AdamWConfig::new()
                .with_epsilon(1e-8)
                .with_weight_decay(1e-2)
                .init(),
        }
    }
}

burn_kindling::names!(OptimizerKind, "optimizer":
    Sgd = "sgd",
    Momentum = "momentum",
    Adam = "adam",
    AdamW = "adamw",
);

/// How the learning rate changes over a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Schedule {
    /// It stays constant.
    Constant,
    /// It falls along half a cosine, step by step, to 0 at the last one (Loshchilov & Hutter 2017,
    /// arXiv:1608.03983, without restarts).
    Cosine,
}

burn_kindling::names!(Schedule, "schedule":
    Constant = "constant",
    Cosine = "cosine",
);
