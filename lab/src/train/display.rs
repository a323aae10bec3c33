use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::MetricDefinition;
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
    MetricsRendererTraining,
};

use super::scores::{Epoch, EpochScores};
use crate::say::say;

/// How a run shows its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// Burn's full-screen dashboard.
    Dashboard,
    /// A line per epoch on standard error, and one every few seconds within an epoch.
    Lines,
    /// Not at all.
    Silent,
}

impl Display {
    /// The dashboard if standard input and output are a terminal, lines otherwise.
    pub fn detect() -> Self {
        match std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            true => Self::Dashboard,
            false => Self::Lines,
        }
    }
}

/// Least time between two lines within an epoch.
const INTERVAL: Duration = Duration::from_secs(5);

/// Progress as plain lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Mutex<Progress>>);

struct Progress {
    /// Number of epochs finished before this run of the program.
    first: usize,
    epochs: usize,
    /// The current epoch.
    epoch: usize,
    /// Images per epoch to train on, and to validate on.
    train: usize,
    valid: usize,
    training: bool,
    quiet: bool,
    /// Images done in this epoch; validation comes after training.
    position: usize,
    started: Instant,
    spoken: Instant,
}

impl Lines {
    /// Makes the lines of a run of `epochs` epochs of `train` and `valid` images, of which `first` are already
    /// finished. If `quiet`, no line is written.
    pub(super) fn new(
        first: usize,
        epochs: usize,
        [train, valid]: [usize; 2],
        quiet: bool,
    ) -> Self {
        Self(Arc::new(Mutex::new(Progress {
            first,
            epochs,
            epoch: first + 1,
            train,
            valid,
            training: true,
            quiet,
            position: 0,
            started: Instant::now(),
            spoken: Instant::now(),
        })))
    }

    /// Reports a finished epoch.
    pub(super) fn epoch(&self, epoch: &Epoch) {
        let mut progress = self.progress();
        progress.epoch = epoch.epoch + 1;
        progress.position = 0;
        progress.spoken = Instant::now();
        if progress.quiet {
            return;
        }
        let EpochScores { train, valid, .. } = &epoch.scores;
        say(format_args!(
            "epoch {:>2}/{}  loss {:.4}  accuracy {:5.2} %  validation loss {:.4}  accuracy {:5.2} %  \
             {:.1} s{}",
            epoch.epoch,
            progress.epochs,
            train.loss,
            100.0 * train.accuracy,
            valid.loss,
            100.0 * valid.accuracy,
            epoch.seconds,
            progress.left(),
        ));
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().expect("no holder of the progress panics")
    }
}

impl Progress {
    /// The time left at the speed so far; empty at the end.
    fn left(&self) -> String {
        let of_epoch = self.train + self.valid;
        let done = (self.epoch - 1 - self.first) * of_epoch + self.position;
        let rest = ((self.epochs - self.first) * of_epoch).saturating_sub(done);
        let seconds = self.started.elapsed().as_secs_f64() * rest as f64 / done.max(1) as f64;
        match rest {
            0 => String::new(),
            _ => format!("  about {} left", duration(seconds)),
        }
    }
}

/// A time in seconds, or in minutes from 90 seconds on.
pub(super) fn duration(seconds: f64) -> String {
    match seconds < 90.0 {
        true => format!("{seconds:.0} s"),
        false => format!("{:.0} min", seconds / 60.0),
    }
}

impl TrainingProgressLogger for Lines {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {}

    fn update_epoch(&mut self, _: usize) {}

    fn start_split(&mut self, split: &str, _: usize) {
        self.progress().training = split == "train";
    }

    fn update_split(&mut self, items_processed: usize) {
        let mut progress = self.progress();
        let (what, images, before) = match progress.training {
            true => ("training", progress.train, 0),
            false => ("validating", progress.valid, progress.train),
        };
        progress.position = before + items_processed;
        if !progress.quiet && progress.spoken.elapsed() >= INTERVAL {
            progress.spoken = Instant::now();
            say(format_args!(
                "epoch {:>2}/{}  {what}: {items_processed} of {images} images{}",
                progress.epoch,
                progress.epochs,
                progress.left(),
            ));
        }
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

/// Shows none of the metrics. [`Lines::epoch`] writes them once they are final.
impl MetricsRendererTraining for Lines {
    fn update_train(&mut self, _: MetricState) {}

    fn update_valid(&mut self, _: MetricState) {}
}

/// The test images are scored outside Burn's learner.
impl MetricsRendererEvaluation for Lines {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for Lines {
    fn start_global_progress(&mut self, _: usize) {}

    fn start_test(&mut self, _: &str, _: usize) {}

    fn update_test_progress(&mut self, _: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for Lines {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, _: MetricDefinition) {}
}
