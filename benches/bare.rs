//! A training epoch in a bare loop, which computes what Burn's learner does.

use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::Device;
use burn_kindling_lab::data::{DigitBatch, ImageSet, Loader};
use burn_kindling_lab::model::Classifier;
use burn_kindling_lab::train::{StepOutput, TrainConfig};

/// Trains one epoch on `train` and evaluates `valid`.
pub fn bare_epoch(
    device: &Device,
    config: &TrainConfig,
    train: &ImageSet,
    valid: &ImageSet,
) -> Duration {
    let training = device.clone().autodiff();
    let mut learner = Learner::new(config, &training);
    let train = Loader::new(train.clone(), config.batch_size, training).shuffled(config.seed);
    let valid = Loader::new(valid.clone(), config.batch_size, device.clone());

    let started = Instant::now();
    let mut scores = Vec::new();
    for batch in train.iter() {
        scores.push(score(learner.step(batch.expect("the data is in memory"))));
    }
    let inference = learner.model().valid();
    for batch in valid.iter() {
        scores.push(score(
            inference.forward_step(batch.expect("the data is in memory")),
        ));
    }
    assert!(scores.iter().all(|(loss, _)| loss.is_finite()));
    started.elapsed()
}

/// A network and its optimiser.
pub struct Learner {
    /// `None` within a step.
    model: Option<Classifier>,
    optimizer: ModuleOptimizer,
    learning_rate: f64,
}

impl Learner {
    pub fn new(config: &TrainConfig, device: &Device) -> Self {
        Self {
            model: Some(config.init_model(device)),
            optimizer: AdamConfig::new().with_epsilon(1e-8).init(),
            learning_rate: config.learning_rate,
        }
    }

    pub fn model(&self) -> &Classifier {
        self.model.as_ref().expect("no step is in progress")
    }

    /// Makes one training step.
    pub fn step(&mut self, batch: DigitBatch) -> StepOutput {
        let model = self.model.take().expect("no step is in progress");
        let output = model.forward_step(batch);
        let gradients = GradientsParams::from_grads(output.loss.backward(), &model);
        let model = self.optimizer.step(self.learning_rate, model, gradients);
        self.model = Some(model);
        output
    }
}

/// Reads the loss and the number of correct answers of a step.
pub fn score(output: StepOutput) -> (f64, i64) {
    let right = output
        .logits
        .argmax(1)
        .squeeze_dim::<1>(1)
        .equal(output.targets)
        .int()
        .sum();
    (output.loss.into_scalar(), right.into_scalar())
}
