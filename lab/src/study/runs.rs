//! Runs every setting of an experiment over its seeds, and keeps the results of finished runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::ExperimentError;
use super::setup::Setup;
use crate::data::ImageSet;
use crate::figure::median;
use crate::model::Classifier;
use crate::say::say;
use crate::train::{
    Job, Outcome, Sweep, TrainConfig, TrainError, Trained, Trainer, TrainingStep, write_atomically,
};

/// One setting of an experiment, such as an initialisation with an activation.
pub(super) trait Setting: Clone + PartialEq + Serialize + Sync {
    /// The result of one run.
    type Result: Serialize + DeserializeOwned + Send;

    /// How many seeds to repeat it over: at full size, and for a quick look.
    const SEEDS: [usize; 2];

    /// The network and its training, except for the seed.
    fn config(&self, setup: &Setup) -> TrainConfig;

    /// Measures this setting.
    fn run(&self, run: &Run) -> Result<Self::Result, ExperimentError>;
}

/// The environment of one run of a [`Setting`].
pub(super) struct Run<'a> {
    pub(super) setup: &'a Setup,
    /// The configuration, with the seed of this run.
    pub(super) config: &'a TrainConfig,
    job: &'a Job,
}

impl Run<'_> {
    /// Trains the network on the first set of images and validates it on the second. `watch` sees every step and can
    /// record notes, which are returned.
    pub(super) fn train<N: Default + Send + 'static>(
        &self,
        images: &[ImageSet; 2],
        watch: impl Fn(&mut N, TrainingStep) + Send + Sync + 'static,
    ) -> Result<(Trained, N), ExperimentError> {
        let device = self.setup.device.clone().autodiff();
        self.train_from(self.config.init_model(&device), images, watch)
    }

    /// Trains like [`train`](Self::train), but starts from `network`, which has the configuration's layers.
    pub(super) fn train_from<N: Default + Send + 'static>(
        &self,
        network: Classifier,
        [train, valid]: &[ImageSet; 2],
        watch: impl Fn(&mut N, TrainingStep) + Send + Sync + 'static,
    ) -> Result<(Trained, N), ExperimentError> {
        let interrupter = self.setup.interrupter.clone();
        let trainer = Trainer::new(self.setup.device.clone()).with_interrupter(interrupter);
        let notes = Arc::new(Mutex::new(N::default()));
        let writing = notes.clone();
        let watcher = move |step: TrainingStep| {
            watch(&mut writing.lock().expect("one writer"), step);
        };
        let trained = self
            .job
            .train_from(&trainer, network, self.config, train, valid, watcher)?;
        if trained.outcome == Outcome::Interrupted {
            return Err(ExperimentError::Interrupted);
        }
        let notes = std::mem::take(&mut *notes.lock().expect("one reader"));
        Ok((trained, notes))
    }
}

/// A finished run.
pub(super) struct Measured<S: Setting> {
    pub(super) setting: S,
    pub(super) seed: u64,
    pub(super) result: S::Result,
}

/// All runs of an experiment: for each setting, its seeds in order.
pub(super) struct Runs<S: Setting>(pub(super) Vec<Measured<S>>);

impl<S: Setting> Runs<S> {
    /// The results of a setting, one per seed.
    pub(super) fn of(&self, setting: &S) -> impl Iterator<Item = &S::Result> {
        let runs = self.0.iter().filter(move |run| run.setting == *setting);
        runs.map(|run| &run.result)
    }

    /// One number from each result of a setting.
    pub(super) fn values(&self, setting: S, number: impl Fn(&S::Result) -> f64) -> Vec<f64> {
        self.of(&setting).map(number).collect()
    }

    /// The median over the seeds of one number of a setting.
    pub(super) fn median(&self, setting: S, number: impl Fn(&S::Result) -> f64) -> f64 {
        median(&self.values(setting, number))
    }

    /// One curve from each result of a setting, combined: at each x, the values over the seeds. All curves have the
    /// same x.
    pub(super) fn curve(
        &self,
        setting: S,
        points: impl Fn(&S::Result) -> Vec<[f64; 2]>,
    ) -> Vec<(f64, Vec<f64>)> {
        let curves: Vec<_> = self.of(&setting).map(points).collect();
        let at = |i: usize| (curves[0][i][0], curves.iter().map(|it| it[i][1]).collect());
        (0..curves[0].len()).map(at).collect()
    }
}

/// The points `(1, first), (2, second), ...`.
pub(super) fn from_1(values: impl IntoIterator<Item = f64>) -> Vec<[f64; 2]> {
    let values = values.into_iter().enumerate();
    values.map(|(i, value)| [(i + 1) as f64, value]).collect()
}

/// The validation accuracy after each epoch.
pub(super) fn accuracies(trained: &Trained) -> Vec<f64> {
    let epochs = trained.epochs.iter();
    epochs.map(|epoch| epoch.valid.accuracy).collect()
}

/// Everything that decides the result of a run.
#[derive(Serialize)]
struct Key<'a, S> {
    crate_version: &'a str,
    device: String,
    data: &'a str,
    quick: bool,
    setting: &'a S,
    training: &'a TrainConfig,
}

/// The content of a finished run's file. `key` is the [`Key`] as JSON; its hash names the file.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    key: String,
    result: R,
}

impl Setup {
    /// Runs all settings over their seeds, several at a time. Results that are already in `out/name/runs` are read from
    /// there. Each new result is written there as soon as its run is finished.
    pub(super) fn measure<S: Setting>(
        &self,
        name: &str,
        settings: impl IntoIterator<Item = S>,
    ) -> Result<Runs<S>, ExperimentError> {
        let folder = self.out.join(name).join("runs");
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        let mut planned = Vec::new();
        for setting in settings {
            for seed in self.seeds(S::SEEDS) {
                let config = setting.config(self);
                let config = TrainConfig { seed, ..config };
                let key = text(&Key {
                    crate_version: env!("CARGO_PKG_VERSION"),
                    device: format!("{:?}", self.device),
                    data: &self.data_sum,
                    quick: self.pick(false, true),
                    setting: &setting,
                    training: &config,
                });
                planned.push((setting.clone(), config, key));
            }
        }
        let kept = planned.iter().map(|(.., key)| kept(&folder, key));
        let mut results: Vec<Option<S::Result>> = kept.collect();
        let missing: Vec<usize> = (0..results.len())
            .filter(|&index| results[index].is_none())
            .collect();
        let mut sweep = Sweep::new().with_workers(self.workers);
        if self.verbose {
            let before = planned.len() - missing.len();
            let all = planned.len();
            say(format_args!(
                "{name}: {all} runs, {before} of them already finished"
            ));
            sweep = sweep.with_progress(name);
        }
        let fresh = sweep.run(&missing, |&index, job| {
            if self.interrupter.should_stop() {
                return Err(ExperimentError::Interrupted);
            }
            let (setting, config, key) = &planned[index];
            let result = setting.run(&Run {
                setup: self,
                config,
                job,
            })?;
            keep(&folder, key, result)
        })?;
        for (index, result) in missing.into_iter().zip(fresh) {
            results[index] = Some(result);
        }
        let measured = planned.into_iter().zip(results.into_iter().flatten());
        let measured = measured.map(|((setting, config, _), result)| Measured {
            setting,
            seed: config.seed,
            result,
        });
        Ok(Runs(measured.collect()))
    }
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

/// The file of a run, named by a hash of its key.
fn path(folder: &Path, key: &str) -> PathBuf {
    // FNV-1a: the same on every machine and in every version.
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    folder.join(format!("{hash:016x}.json"))
}

/// Reads the result of a finished run; `None` if there is no file, or if its key or form differs.
fn kept<R: DeserializeOwned>(folder: &Path, key: &str) -> Option<R> {
    let text = fs::read(path(folder, key)).ok()?;
    let run: Kept<R> = serde_json::from_slice(&text).ok()?;
    (run.key == key).then_some(run.result)
}

/// Writes the result of a run and reads it back, so the caller sees the same floats as a later reader: they may differ
/// in the last digit.
fn keep<R>(folder: &Path, key: &str, result: R) -> Result<R, ExperimentError>
where
    R: Serialize + DeserializeOwned,
{
    let path = path(folder, key);
    let finished = text(&Kept {
        key: key.into(),
        result,
    });
    write_atomically(&path, (finished + "\n").as_bytes())?;
    let damaged = || TrainError::Damaged {
        path,
        reason: "it does not read back as it was written".into(),
    };
    Ok(kept(folder, key).ok_or_else(damaged)?)
}
