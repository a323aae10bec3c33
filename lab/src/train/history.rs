use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use burn::train::EarlyStoppingStrategy;
use burn::train::Interrupter;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{Aggregate, EpochSummary, EventStoreClient, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use serde::{Deserialize, Serialize};

use super::checkpoint::{LOSS, best_epoch};
use super::display::Lines;
use super::{RunFolder, TrainError};

/// Names of Burn's metrics.
const ACCURACY: &str = "Accuracy";
const LEARNING_RATE: &str = "Learning Rate";

/// Mean loss and accuracy over a set of images.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean cross-entropy, in nats. Written as `null` where it is not finite.
    #[serde(with = "finite_or_null")]
    pub loss: f64,
    /// Share of the images that are told right, 0 to 1.
    pub accuracy: f64,
}

/// Loss and accuracy of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochScores {
    /// Over the training images, each at the step that it was used in.
    pub train: Score,
    /// Over the validation images, after the epoch.
    pub valid: Score,
    /// Mean learning rate over the steps of the epoch.
    pub learning_rate: f64,
}

/// What one epoch came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// What another run with the same seed repeats.
    #[serde(flatten)]
    pub scores: EpochScores,
    /// Wall time, validation and checkpoint included.
    pub seconds: f64,
}

/// Floats in JSON, which knows no NaN and no infinity: they are written as `null`, and read as NaN.
mod finite_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
    }
}

/// The validation loss of each epoch.
pub(super) fn valid_losses(epochs: &[Epoch]) -> Vec<f64> {
    let losses = epochs.iter().map(|epoch| epoch.scores.valid.loss);
    losses.collect()
}

/// A number that JSON gives back to the bit, as what a resumed run reads must be: serde_json reads longer ones only to
/// within the last bit.
fn twelve_digits(number: f64) -> f64 {
    let text = format!("{number:.11e}");
    text.parse().expect("what is printed can be read")
}

/// Follows a run: collects the metrics from Burn's learner and, after each epoch, writes them down,
/// reports them, and says whether to go on.
///
/// It is plugged into the learner twice: as the metric logger, which is handed every value, and as
/// the early stopping strategy, which is asked after every epoch.
#[derive(Clone)]
pub(super) struct History(Arc<Mutex<State>>);

struct State {
    epochs: Vec<Epoch>,
    /// Where the metrics are written, if they are.
    folder: Option<RunFolder>,
    patience: Option<usize>,
    lines: Lines,
    interrupter: Interrupter,
    names: HashMap<MetricId, String>,
    /// Mean so far over the current epoch, by split and metric.
    current: HashMap<(&'static str, String), f64>,
    epoch_started: Instant,
    stopped_early: bool,
    failure: Option<TrainError>,
}

impl History {
    /// Goes on from `epochs`, which are finished.
    pub(super) fn new(
        epochs: Vec<Epoch>,
        folder: Option<RunFolder>,
        patience: Option<usize>,
        lines: Lines,
        interrupter: Interrupter,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            epochs,
            folder,
            patience,
            lines,
            interrupter,
            names: HashMap::new(),
            current: HashMap::new(),
            epoch_started: Instant::now(),
            stopped_early: false,
            failure: None,
        })))
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        self.state().epochs.clone()
    }

    pub(super) fn stopped_early(&self) -> bool {
        self.state().stopped_early
    }

    /// Why the metrics could not be written, if they could not.
    pub(super) fn failure(&self) -> Option<TrainError> {
        self.state().failure.take()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the history panics")
    }
}

impl State {
    fn mean(&self, split: &'static str, metric: &str) -> f64 {
        let key = (split, metric.to_string());
        self.current.get(&key).copied().unwrap_or(f64::NAN)
    }

    fn score(&self, split: &'static str) -> Score {
        Score {
            loss: twelve_digits(self.mean(split, LOSS)),
            // Burn gives percent; a share of up to a million images has six digits.
            accuracy: (self.mean(split, ACCURACY) * 1e4).round() / 1e6,
        }
    }

    /// Whether the validation loss has not fallen for as many epochs as there is patience.
    fn out_of_patience(&self) -> bool {
        let best = best_epoch(&valid_losses(&self.epochs)).unwrap_or(0);
        self.patience
            .is_some_and(|patience| self.epochs.len() - best >= patience)
    }
}

impl MetricLogger for History {
    fn log(&mut self, update: MetricsUpdate, _epoch: usize, split: &Split) {
        let mut state = self.state();
        for numeric in update.entries_numeric {
            // At the end of an epoch its mean comes as a final value, before that as a running one.
            let mean = match numeric.numeric_entry {
                Some(NumericEntry::Final(mean)) => Some(mean),
                _ => numeric.running_entry.map(|entry| entry.current()),
            };
            if let Some(name) = state.names.get(&numeric.entry.metric_id).cloned()
                && let Some(mean) = mean
            {
                state.current.insert((split.clone().into(), name), mean);
            }
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        _epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let mean = self.state().mean(split.clone().into(), name);
        Ok(vec![NumericEntry::Value(twelve_digits(mean))])
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.state()
            .names
            .insert(definition.metric_id, definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, _summary: EpochSummary) {}
}

impl EarlyStoppingStrategy for History {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        // The values come through the store's thread: its answer means that all have arrived.
        store.find_metric(LOSS, epoch, Aggregate::Mean, &Split::Valid);
        let mut state = self.state();
        let finished = Epoch {
            epoch,
            scores: EpochScores {
                train: state.score("train"),
                valid: state.score("valid"),
                learning_rate: twelve_digits(state.mean("train", LEARNING_RATE)),
            },
            seconds: state.epoch_started.elapsed().as_secs_f64(),
        };
        state.epoch_started = Instant::now();
        state.current.clear();
        state.lines.epoch(&finished);
        state.epochs.push(finished);
        if let Some(folder) = &state.folder
            && let Err(error) = folder.write_json("metrics.json", &state.epochs)
        {
            state.failure = Some(error);
            state
                .interrupter
                .stop(Some("the metrics could not be written"));
        }
        state.stopped_early = state.out_of_patience();
        state.stopped_early
    }
}
