//! Losses and accuracies of a run.

use serde::{Deserialize, Serialize};

/// Mean loss and accuracy over a set of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy, in nats. Written as `null` if it is not finite.
    #[serde(with = "finite_or_null")]
    pub loss: f64,
    /// Share of the images that are classified correctly, 0 to 1.
    pub accuracy: f64,
}

/// Loss and accuracy of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScores {
    /// Over the training images, each at the step that used it.
    pub train: Score,
    /// Over the validation images, after the epoch.
    pub valid: Score,
    /// Mean learning rate over the steps of the epoch.
    pub learning_rate: f64,
}

/// The scores of one epoch, and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// What another run with the same seed repeats.
    #[serde(flatten)]
    pub scores: EpochScores,
    /// Wall time in seconds, validation and checkpoint included.
    pub seconds: f64,
}

/// The validation loss of each epoch.
pub(super) fn valid_losses(epochs: &[Epoch]) -> Vec<f64> {
    let losses = epochs.iter().map(|epoch| epoch.scores.valid.loss);
    losses.collect()
}

/// The epoch, counted from 1, with the lowest of the finite losses; the first of several.
pub(super) fn best_epoch(losses: &[f64]) -> Option<usize> {
    let finite = (1..).zip(losses).filter(|(_, loss)| loss.is_finite());
    finite
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(epoch, _)| epoch)
}

/// Floats in JSON, which has no NaN and no infinity: they are written as `null`, and read as NaN.
mod finite_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}
