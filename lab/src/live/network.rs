//! One network on the bench: its weights, its optimiser, and what can be done to it.

use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::nn::Linear;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, FloatDType, Tensor};
use burn_kindling::norm::recalibrate_at_once;

use super::action::Id;
use super::config::{NetworkConfig, within};
use super::frame::Lost;
use super::see::{Capture, Captured};
use super::text::Text;
use crate::data::DigitBatch;
use crate::model::{Block, Classifier, Mlp, Norm, Normalization};
use crate::train::StepOutput;

/// A network in training.
pub(super) struct Network {
    pub id: Id,
    pub config: NetworkConfig,
    /// The network that this was copied from, and the step.
    pub origin: Option<(Id, usize)>,
    pub model: Mlp,
    pub optimizer: ModuleOptimizer,
    /// Loss of the last batch.
    pub loss: f64,
    /// Set once the loss is not finite. The network then stands still.
    pub lost: Option<Lost>,
}

impl Network {
    /// Draws the weights. `device` has autodiff.
    pub fn new(id: Id, config: NetworkConfig, batch: usize, seed: u64, device: &Device) -> Self {
        let training = config.training(batch, seed);
        let Classifier::Mlp(model) = training.init_model(device) else {
            unreachable!("a bench trains perceptrons");
        };
        Self {
            id,
            config,
            origin: None,
            model,
            optimizer: training.optimizer.init(),
            loss: f64::NAN,
            lost: None,
        }
    }

    /// A copy that shares nothing that a step changes. Values are copied when one of the two steps.
    ///
    /// Its parameters are leaves of their own: in Burn 0.22.1, two threads whose graphs share a leaf may each wait for
    /// the other's lock for ever, and the networks of a bench train on several threads.
    pub fn copy(&self) -> Self {
        Self {
            id: self.id,
            config: self.config.clone(),
            origin: self.origin,
            model: with_own_statistics(self.model.clone()).map(&mut OwnLeaves),
            optimizer: self.optimizer.clone(),
            loss: self.loss,
            lost: self.lost.clone(),
        }
    }

    /// Bytes of the weights and the optimiser's moments.
    pub fn bytes(&self) -> usize {
        use crate::train::OptimizerKind::{Adam, AdamW, Momentum, Sgd};
        let moments = match self.config.optimizer {
            Sgd => 0,
            Momentum => 1,
            Adam | AdamW => 2,
        };
        4 * (1 + moments) * self.model.num_params()
    }

    /// Makes a training step, the `step`th, as the trainer does. If the loss is not finite, the weights stay, and the
    /// network is lost.
    pub fn train(&mut self, batch: DigitBatch, step: usize) {
        if self.lost.is_some() {
            return;
        }
        let logits = self.model.forward(batch.images.flatten(1, 2));
        let output = StepOutput::of(logits.cast(FloatDType::F32), batch.targets);
        if self.is_finite(&output, step) {
            let gradients = output.loss.backward();
            self.update(GradientsParams::from_grads(gradients, &self.model));
        }
    }

    /// Makes a training step with the same result, and captures what flows.
    pub fn train_watched(&mut self, batch: DigitBatch, step: usize) -> Option<Captured> {
        if self.lost.is_some() {
            return None;
        }
        let (output, mut capture) = Capture::forward(&self.model, batch);
        if !self.is_finite(&output, step) {
            return None;
        }
        let gradients = output.loss.backward();
        capture.backward(&gradients);
        self.update(GradientsParams::from_grads(gradients, &self.model));
        Some(capture.finish(&self.model, true))
    }

    /// Captures what flows for a batch, without a step. Also sets the loss.
    pub fn look(&mut self, batch: DigitBatch) -> Captured {
        // A pass in training changes the running statistics: of a copy only.
        let model = with_own_statistics(self.model.clone());
        let (output, mut capture) = Capture::forward(&model, batch);
        if self.lost.is_none() {
            self.loss = output.loss.clone().into_scalar::<f64>();
        }
        capture.backward(&output.loss.backward());
        // The statistics before this batch.
        capture.finish(&self.model, false)
    }

    /// Whether the loss is; called right after the forward pass.
    fn is_finite(&mut self, output: &StepOutput, step: usize) -> bool {
        for block in &self.model.hidden {
            // Burn's layer applies an update when the thread that made it comes again. A copy may be trained on
            // another.
            if let Some(Norm::Burn(norm)) = &block.norm {
                norm.running_mean.value_sync();
                norm.running_var.value_sync();
            }
        }
        self.loss = output.loss.clone().into_scalar::<f64>();
        if !self.loss.is_finite() {
            self.lost = Some(Lost {
                step,
                text: Text::new(
                    format!(
                        "the loss became NaN or infinite at step {step}; this network stands still"
                    ),
                    format!(
                        "{step}번째 스텝에서 손실이 NaN 또는 무한대가 되어 이 신경망은 멈췄습니다"
                    ),
                ),
            });
        }
        self.lost.is_none()
    }

    fn update(&mut self, gradients: GradientsParams) {
        // Parameters are shared, so this copies none of them.
        let model = self.model.clone();
        self.model = self.optimizer.step(self.config.lr, model, gradients);
    }

    /// Goes on as a network of another configuration, with the weights kept: a new normalisation, and a bias that comes
    /// with having none, start fresh; so do the moments of another optimiser.
    pub fn change_to(&mut self, config: NetworkConfig, batch: usize) {
        debug_assert!(self.config.same_weights(&config));
        if config.norm != self.config.norm {
            let blocks = std::mem::take(&mut self.model.hidden);
            let blocks = blocks
                .into_iter()
                .map(|block| with_norm(block, config.norm));
            self.model.hidden = blocks.collect();
        }
        for block in &mut self.model.hidden {
            block.activation = config.activation;
        }
        if config.optimizer != self.config.optimizer {
            self.optimizer = config.training(batch, 0).optimizer.init();
        }
        self.config = config;
    }

    /// Multiplies the weights of a layer; after the hidden layers comes the output.
    pub fn multiply(&mut self, layer: usize, factor: f64) -> Result<(), Text> {
        within("layer", layer, 0..=self.model.hidden.len())?;
        within("factor", factor, -1e6..=1e6)?;
        let affine = match self.model.hidden.get_mut(layer) {
            Some(block) => &mut block.affine,
            None => &mut self.model.output,
        };
        affine.weight = replaced(&affine.weight, |weight| weight * factor);
        Ok(())
    }

    /// Makes everything that goes into the first units of a hidden layer 0.
    pub fn kill(&mut self, layer: usize, share: f64) -> Result<(), Text> {
        within("layer", layer, 0..=self.model.hidden.len() - 1)?;
        within("share", share, 0.0..=1.0)?;
        let Block { affine, norm, .. } = &mut self.model.hidden[layer];
        let [_, units] = affine.weight.dims();
        let killed = ((share * units as f64).round() as usize).min(units);
        let first = |values| silenced(values, 0, killed);
        match norm {
            None => {
                affine.weight = replaced(&affine.weight, |weight| silenced(weight, 1, killed));
                affine.bias = affine.bias.as_ref().map(|bias| replaced(bias, first));
            }
            Some(Norm::Batch(norm)) => {
                norm.gamma = replaced(&norm.gamma, first);
                norm.beta = replaced(&norm.beta, first);
            }
            Some(Norm::Burn(norm)) => {
                norm.gamma = replaced(&norm.gamma, first);
                norm.beta = replaced(&norm.beta, first);
            }
        }
        // Old moments would move the weights on, without any gradient.
        self.optimizer = self.config.training(2, 0).optimizer.init();
        Ok(())
    }

    /// Sets gamma or beta of all units of a hidden layer's normalisation.
    pub fn set_affine(
        &mut self,
        layer: usize,
        gamma: Option<f64>,
        beta: Option<f64>,
    ) -> Result<(), Text> {
        within("layer", layer, 0..=self.model.hidden.len() - 1)?;
        let (norm_gamma, norm_beta) = match &mut self.model.hidden[layer].norm {
            Some(Norm::Batch(norm)) => (&mut norm.gamma, &mut norm.beta),
            Some(Norm::Burn(norm)) => (&mut norm.gamma, &mut norm.beta),
            None => {
                return Err(Text::new(
                    "this network has no batch norm, so there is no gamma or beta to set",
                    "이 신경망에는 배치 정규화가 없으므로 정할 감마와 베타가 없습니다",
                ));
            }
        };
        for (name, value, param) in [("gamma", gamma, norm_gamma), ("beta", beta, norm_beta)] {
            if let Some(value) = value {
                within(name, value, -1000.0..=1000.0)?;
                *param = replaced(param, |old| old.full_like(value));
            }
        }
        Ok(())
    }

    /// Recomputes the running statistics over these images, `[batch, 28, 28]` each, on the device without autodiff.
    pub fn recalibrate(&mut self, images: &[Tensor<3>]) -> Result<(), Text> {
        match self.config.norm {
            Normalization::None => {
                return Err(Text::new(
                    "this network has no batch norm, so there are no running statistics to recompute",
                    "이 신경망에는 배치 정규화가 없으므로 다시 계산할 이동평균이 없습니다",
                ));
            }
            Normalization::Burn => {
                return Err(Text::new(
                    "recalibration is for this crate's batch norm (norm `batch`), not for Burn's",
                    "재보정은 이 크레이트의 배치 정규화(norm `batch`)에서만 됩니다. Burn의 것은 지원하지 않습니다",
                ));
            }
            Normalization::Batch => (),
        }
        let forward = |model: &Mlp, images: Tensor<3>| model.forward(images.flatten(1, 2));
        let model = recalibrate_at_once(&self.model, images.iter().cloned(), forward);
        self.model = model.map_err(|error| {
            Text::new(
                format!("cannot recalibrate: {error}"),
                format!("재보정할 수 없습니다: {error}"),
            )
        })?;
        Ok(())
    }
}

/// Makes every parameter a new leaf of the graph, with the same values and the same id.
struct OwnLeaves;

impl ModuleMapper for OwnLeaves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|values| {
            let trains = values.is_require_grad();
            values.detach().set_require_grad(trains)
        })
    }
}

/// A parameter with new values, that trains and keeps its id.
fn replaced<const D: usize>(
    param: &Param<Tensor<D>>,
    change: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Param<Tensor<D>> {
    let values = change(param.val().detach());
    Param::initialized(param.id, values.detach().require_grad())
}

/// Sets the first `count` values along an axis to 0.
fn silenced<const D: usize>(values: Tensor<D>, axis: usize, count: usize) -> Tensor<D> {
    let all = values.dims()[axis];
    match count {
        0 => values,
        count if count == all => values.zeros_like(),
        count => {
            let first = values.clone().narrow(axis, 0, count).zeros_like();
            Tensor::cat(vec![first, values.narrow(axis, count, all - count)], axis)
        }
    }
}

/// The network with running statistics that no clone shares. The weights are shared until one of the two steps.
pub(super) fn with_own_statistics(mut model: Mlp) -> Mlp {
    struct Same;
    impl ModuleMapper for Same {}

    for block in &mut model.hidden {
        block.norm = block.norm.take().map(|norm| match norm {
            // Whatever maps a layer gives it its own statistics.
            Norm::Batch(norm) => Norm::Batch(norm.map(&mut Same)),
            Norm::Burn(norm) => Norm::Burn(burn::nn::BatchNorm {
                running_mean: RunningState::new(norm.running_mean.value_sync()),
                running_var: RunningState::new(norm.running_var.value_sync()),
                ..norm
            }),
        });
    }
    model
}

/// A hidden layer with the same weights and another normalisation.
fn with_norm(block: Block<Linear>, norm: Normalization) -> Block<Linear> {
    let Block {
        affine,
        norm: old,
        activation,
    } = block;
    let device = affine.weight.val().device();
    let [_, units] = affine.weight.dims();
    let bias = match norm {
        Normalization::None => Some(Param::from_tensor(Tensor::zeros([units], &device))),
        Normalization::Batch | Normalization::Burn => None,
    };
    let norm = match (old, norm) {
        (Some(old), Normalization::Batch) => Some(Norm::Batch(old.into_batch_norm())),
        (_, norm) => norm.init(units, &device),
    };
    Block {
        affine: Linear { bias, ..affine },
        norm,
        activation,
    }
}
