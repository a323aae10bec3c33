use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use burn::train::EarlyStoppingStrategy;
use burn::train::Interrupter;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{Aggregate, EpochSummary, EventStoreClient, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};

use super::checkpoint::LOSS;
use super::config::TrainConfig;
use super::display::Lines;
use super::error::TrainError;
use super::folder::RunFolder;
use super::result::Outcome;
use super::scores::{Epoch, EpochScores, Score, best_epoch, valid_losses};
use crate::precision::Precision;

/// Names of Burn's metrics.
const ACCURACY: &str = "Accuracy";
const LEARNING_RATE: &str = "Learning Rate";

/// Rounds to a number that JSON preserves bit for bit, as a resumed run needs. serde_json may read longer numbers with
/// an error in the last bit.
fn twelve_digits(number: f64) -> f64 {
    let text = format!("{number:.11e}");
    text.parse().expect("what is printed can be read")
}

/// What ends a run before its last epoch.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Epochs without a lower validation loss.
    patience: Option<usize>,
    /// A training loss that is not finite.
    divergence: bool,
}

impl End {
    /// What ends a run of this configuration. With `divergence`, that includes a training loss that is not finite,
    /// unless the layers compute in f16: there a step that overflows is skipped, and the loss recovers.
    pub(super) fn of(config: &TrainConfig, divergence: bool) -> Self {
        Self {
            patience: config.patience,
            divergence: divergence && config.dtype != Precision::F16,
        }
    }

    fn is_reached(self, epochs: &[Epoch]) -> Option<Outcome> {
        let last = epochs.last()?;
        if self.divergence && !last.scores.train.loss.is_finite() {
            return Some(Outcome::Diverged);
        }
        let best = best_epoch(&valid_losses(epochs)).unwrap_or(0);
        let patience = self.patience?;
        (epochs.len() - best >= patience).then_some(Outcome::StoppedEarly)
    }
}

/// Follows a run: collects the metrics from Burn's learner and, after each epoch, writes them to a file,
/// reports them, and says whether to continue.
///
/// It is plugged into the learner twice: as the metric logger, which is handed every value, and as
/// the early stopping strategy, which is asked after every epoch.
#[derive(Clone)]
pub(super) struct History(Arc<Mutex<State>>);

struct State {
    epochs: Vec<Epoch>,
    /// Where the metrics are written, if they are.
    folder: Option<RunFolder>,
    end: End,
    lines: Lines,
    interrupter: Interrupter,
    names: HashMap<MetricId, String>,
    /// Mean so far over the current epoch, by split and metric.
    current: HashMap<(&'static str, String), f64>,
    epoch_started: Instant,
    /// Why no epoch follows, if it is not the last.
    ended: Option<Outcome>,
    failure: Option<TrainError>,
}

impl History {
    /// Goes on from `epochs`, which are finished.
    pub(super) fn new(
        epochs: Vec<Epoch>,
        folder: Option<RunFolder>,
        end: End,
        lines: Lines,
        interrupter: Interrupter,
    ) -> Self {
        Self(Arc::new(Mutex::new(State {
            epochs,
            folder,
            end,
            lines,
            interrupter,
            names: HashMap::new(),
            current: HashMap::new(),
            epoch_started: Instant::now(),
            ended: None,
            failure: None,
        })))
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        self.state().epochs.clone()
    }

    /// How a run of so many epochs ended.
    pub(super) fn outcome(&self, epochs: usize) -> Outcome {
        let state = self.state();
        match state.ended {
            Some(Outcome::Diverged) => Outcome::Diverged,
            _ if state.epochs.len() == epochs => Outcome::Completed,
            ended => ended.unwrap_or(Outcome::Interrupted),
        }
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
        state.ended = state.end.is_reached(&state.epochs);
        state.ended.is_some()
    }
}
