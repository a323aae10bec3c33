//! A training epoch in a bare loop, which computes what Burn's learner does.

use std::time::{Duration, Instant};

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::Device;
use burn_kindling_lab::data::{ImageSet, Loader};
use burn_kindling_lab::train::{StepOutput, TrainConfig};

/// Trains one epoch on `train` and evaluates `valid`.
pub fn bare_epoch(
    device: &Device,
    config: &TrainConfig,
    train: &ImageSet,
    valid: &ImageSet,
) -> Duration {
    let training = device.clone().autodiff();
    let mut model = config.init_model(&training);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let train = Loader::new(train.clone(), config.batch_size, training).shuffled(config.seed);
    let valid = Loader::new(valid.clone(), config.batch_size, device.clone());

    let started = Instant::now();
    let mut scores = Vec::new();
    for batch in train.iter() {
        let output = model.forward_step(batch.expect("the data is in memory"));
        let grads = GradientsParams::from_grads(output.loss.backward(), &model);
        model = optimizer.step(config.learning_rate, model, grads);
        scores.push(score(output));
    }
    let inference = model.valid();
    for batch in valid.iter() {
        scores.push(score(
            inference.forward_step(batch.expect("the data is in memory")),
        ));
    }
    assert!(scores.iter().all(|(loss, _)| loss.is_finite()));
    started.elapsed()
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
