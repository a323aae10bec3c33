//! The result of a run.

use serde::{Deserialize, Serialize};

use super::scores::{EpochScores, Score};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All epochs were run.
    Completed,
    /// The validation loss had not fallen for as many epochs as the patience allows.
    StoppedEarly,
    /// The training loss of an epoch was NaN or infinite.
    Diverged,
    /// It was asked to stop; `--resume` continues after the last finished epoch.
    Interrupted,
}

/// The result of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Over the official test images, once, at the end.
    pub test: Score,
    /// Number of parameters of the network, running statistics included.
    pub parameters: usize,
    /// Loss and accuracy of every finished epoch, without its time.
    pub epochs: Vec<EpochScores>,
    /// Epoch, counted from 1, whose weights the record holds: the last; with a patience, the one with the lowest
    /// validation loss; if the run diverged, the one before. `None` if the run stopped within an epoch, if no finite
    /// weights were left (there is no record then), and in results written before this field.
    #[serde(default)]
    pub record_epoch: Option<usize>,
    /// Steps since the start, or since the run was resumed, that changed no weight because a gradient was not
    /// finite: an overflow in [`Precision::F16`](super::Precision::F16).
    #[serde(default)]
    pub skipped_steps: usize,
    /// Everything that another run with the same seed would not repeat.
    pub timing: Timing,
}

/// How long a run took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// The device, as Burn names it.
    pub device: String,
    /// Wall time of each epoch in seconds, validation and checkpoint included.
    pub epoch_seconds: Vec<f64>,
    /// Sum of the epochs, in seconds.
    pub training_seconds: f64,
    /// Wall time of the score on the test images, in seconds.
    pub test_seconds: f64,
    /// Training images per second of an epoch's wall time.
    pub images_per_second: f64,
}
