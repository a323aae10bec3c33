use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::config::TrainConfig;
use super::display::duration;
use super::error::TrainError;
use super::step::TrainingStep;
use super::trainer::{Trained, Trainer};
use crate::data::ImageSet;
use crate::model::Classifier;
use crate::say::say;

/// Runs many small trainings, several at the same time.
///
/// A small network cannot keep several cores busy: its matrices are too small to be worth another thread, and most of a
/// step is not a matrix product. So a sweep has workers. Each worker takes one job after the other and computes on its
/// own share of the cores.
///
/// The results are bit-identical for any number of workers. Memory holds one job per worker, and the results so far.
///
/// ```no_run
/// use burn::tensor::Device;
/// use burn_kindling_lab::data::Mnist;
/// use burn_kindling_lab::train::{Sweep, TrainConfig, TrainError, Trainer, evaluate};
///
/// let data = Mnist::load(&Mnist::find(None)?)?;
/// let (train, valid) = data.train_and_validation();
/// let device = Device::flex();
/// let trainer = Trainer::new(device.clone());
/// let configs: Vec<TrainConfig> = (0..8)
///     .map(|seed| TrainConfig { seed, epochs: 2, ..TrainConfig::default() })
///     .collect();
/// let scores = Sweep::new()
///     .with_progress("seeds")
///     .run(&configs, |config, job| {
///         let trained = job.train(&trainer, config, &train, &valid, |_| {})?;
///         Ok::<_, TrainError>(evaluate(&trained.network, &data.test, &device))
///     })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Sweep {
    workers: usize,
    /// The name in progress reports; `None` for no reports.
    name: Option<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self::new()
    }
}

impl Sweep {
    /// Makes a sweep with one worker per core and no progress reports. On a GPU, one worker is best.
    pub fn new() -> Self {
        Self {
            workers: cores(),
            name: None,
        }
    }

    /// Sets how many jobs run at the same time.
    ///
    /// # Panics
    ///
    /// If `workers` is 0.
    pub fn with_workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "a sweep needs at least one worker");
        self.workers = workers;
        self
    }

    /// Reports the progress of the sweep on standard error every few seconds, under this name.
    pub fn with_progress(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Calls `run` for all `jobs` and returns the results in the order of the jobs.
    ///
    /// # Errors
    ///
    /// The first error of a job. Running jobs are then finished, and no other job is started.
    pub fn run<J, R, E>(
        &self,
        jobs: &[J],
        run: impl Fn(&J, &Job) -> Result<R, E> + Sync,
    ) -> Result<Vec<R>, E>
    where
        J: Sync,
        R: Send,
        E: Send,
    {
        let progress = Arc::new(Progress::new(self.name.clone(), jobs.len()));
        let next = AtomicUsize::new(0);
        let outcome = Mutex::new((Vec::new(), None));
        let work = &|| {
            while let Some((index, job)) = {
                let index = next.fetch_add(1, Ordering::Relaxed);
                jobs.get(index).map(|job| (index, job))
            } {
                let result = run(job, &Job(progress.clone()));
                let mut outcome = outcome.lock().expect("no worker panics with the results");
                match result {
                    Ok(result) => {
                        outcome.0.push((index, result));
                        progress.finished();
                    }
                    Err(error) => {
                        outcome.1.get_or_insert(error);
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        match self.workers.min(jobs.len()) {
            0 | 1 => work(),
            workers => std::thread::scope(|scope| {
                let threads = (cores() / workers).max(1);
                for _ in 0..workers {
                    scope.spawn(move || on_threads(threads, work));
                }
            }),
        }
        let (mut results, error) = outcome.into_inner().expect("no worker panics");
        if let Some(error) = error {
            return Err(error);
        }
        results.sort_by_key(|&(index, _)| index);
        Ok(results.into_iter().map(|(_, result)| result).collect())
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs `work` in a thread pool of its own, so that one worker's parallel work does not wait behind another's. If the
/// pool cannot be created, the workers share the process's pool.
fn on_threads(threads: usize, work: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// A running job of a [`Sweep`].
#[derive(Clone)]
pub struct Job(Arc<Progress>);

impl Job {
    /// Trains a network like [`Trainer::train`], and counts each step towards the progress of the sweep. All steps
    /// together are the whole job.
    ///
    /// # Errors
    ///
    /// As [`Trainer::train`].
    pub fn train(
        &self,
        trainer: &Trainer,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, TrainError> {
        config.validate()?;
        trainer.train(config, train, valid, self.counting(config, train, watcher))
    }

    /// Trains like [`Trainer::train_from`], and counts each step as [`train`](Self::train) does.
    ///
    /// # Errors
    ///
    /// As [`Trainer::train_from`].
    pub fn train_from(
        &self,
        trainer: &Trainer,
        network: Classifier,
        config: &TrainConfig,
        train: &ImageSet,
        valid: &ImageSet,
        watcher: impl Fn(TrainingStep) + Send + Sync + 'static,
    ) -> Result<Trained, TrainError> {
        config.validate()?;
        let watcher = self.counting(config, train, watcher);
        trainer.train_from(network, config, train, valid, watcher)
    }

    /// Counts each step that `watcher` sees.
    fn counting<W: Fn(TrainingStep) + Send + Sync + 'static>(
        &self,
        config: &TrainConfig,
        train: &ImageSet,
        watcher: W,
    ) -> impl Fn(TrainingStep) + Send + Sync + 'static + use<W> {
        let steps = config.epochs * train.len().div_ceil(config.batch_size);
        let job = self.clone();
        move |step| {
            watcher(step);
            job.advance(1.0 / steps as f64);
        }
    }

    /// Counts another `share` of the job as done. The whole job is 1.
    pub fn advance(&self, share: f64) {
        self.0.advance(share);
    }
}

/// Reports the progress of a sweep.
struct Progress {
    /// The name in reports; `None` for no reports.
    name: Option<String>,
    jobs: usize,
    started: Instant,
    done: Mutex<Done>,
}

/// The work done so far.
struct Done {
    finished: usize,
    /// The sum of the shares that jobs have reported, in jobs.
    advanced: f64,
    spoken: Instant,
}

/// Least time between two reports.
const INTERVAL: Duration = Duration::from_secs(3);

impl Progress {
    fn new(name: Option<String>, jobs: usize) -> Self {
        Self {
            name,
            jobs,
            started: Instant::now(),
            done: Mutex::new(Done {
                finished: 0,
                advanced: 0.0,
                spoken: Instant::now(),
            }),
        }
    }

    fn finished(&self) {
        let mut done = self.done.lock().expect("no speaker panics");
        done.finished += 1;
        self.speak(&mut done);
    }

    fn advance(&self, share: f64) {
        let mut done = self.done.lock().expect("no speaker panics");
        done.advanced += share;
        self.speak(&mut done);
    }

    /// Prints a report every few seconds, and at the end.
    fn speak(&self, done: &mut Done) {
        let Some(name) = &self.name else { return };
        let (jobs, finished) = (self.jobs, done.finished);
        if finished < jobs && done.spoken.elapsed() < INTERVAL {
            return;
        }
        done.spoken = Instant::now();
        let elapsed = self.started.elapsed().as_secs_f64();
        let behind = done.advanced.max(finished as f64);
        let time = match jobs - finished {
            0 => format!("in {}", duration(elapsed)),
            _ => {
                let left = elapsed * (jobs as f64 - behind).max(0.0) / behind;
                format!("about {} left", duration(left))
            }
        };
        say(format_args!("{name}: {finished} of {jobs} runs, {time}"));
    }
}
