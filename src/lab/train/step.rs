use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::ExecutionError;
use burn::tensor::{Int, Tensor};
use burn::train::metric::{AccuracyInput, Adaptor, LossInput};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::lab::mnist::DigitBatch;
use crate::lab::model::Classifier;

/// What one step leaves for the metrics.
pub struct StepOutput {
    /// Mean cross-entropy of the batch, in nats: `[1]`.
    pub loss: Tensor<1>,
    /// Logits: `[batch, classes]`.
    pub logits: Tensor<2>,
    /// Labels: `[batch]`.
    pub targets: Tensor<1, Int>,
}

impl Classifier {
    /// Loss and logits of a batch.
    pub fn forward_step(&self, batch: DigitBatch) -> StepOutput {
        let logits = self.forward(batch.images);
        let loss = CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits.clone(), batch.targets.clone());
        StepOutput {
            loss,
            logits,
            targets: batch.targets,
        }
    }
}

impl TrainStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<StepOutput> {
        let output = self.forward_step(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> StepOutput {
        self.forward_step(batch)
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            logits: self.logits.without_autodiff(),
            targets: self.targets.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for StepOutput {
    /// Burn weighs a batch by the length of this tensor, so that the mean over an epoch counts
    /// every image once, the smaller last batch included.
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone().expand(self.targets.dims()))
    }
}

impl Adaptor<AccuracyInput> for StepOutput {
    fn adapt(&self) -> AccuracyInput {
        AccuracyInput::new(self.logits.clone(), self.targets.clone())
    }
}
