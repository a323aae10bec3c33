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
use crate::say::say;

/// Many small trainings, several of them at the same time.
///
/// A small network cannot keep several cores busy: its matrices are not worth a hand-over to
/// another thread, and most of a step is not a matrix product. So a sweep has workers, each of
/// which takes one job after the other and computes on its own share of the cores.
///
/// The results are the same to the bit for any number of workers. At a time, memory holds what as
/// many jobs take as there are workers, and the results so far.
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
    /// What the progress is told under, if it is.
    name: Option<String>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self::new()
    }
}

impl Sweep {
    /// As many workers as there are cores, without a word. On a GPU, one worker is best.
    pub fn new() -> Self {
        Self {
            workers: cores(),
            name: None,
        }
    }

    /// Does so many jobs at a time.
    ///
    /// # Panics
    ///
    /// If there are to be none.
    pub fn with_workers(mut self, workers: usize) -> Self {
        assert!(workers > 0, "a sweep needs at least one worker");
        self.workers = workers;
        self
    }

    /// Tells on standard error, every few seconds and under this name, how far the whole is.
    pub fn with_progress(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The results of `run` for all `jobs`, in their order.
    ///
    /// # Errors
    ///
    /// The first error of a job. The jobs under way are then brought to their end, and no other is
    /// begun.
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

/// Does `work` with a pool of so many threads of its own, so that what one worker spreads over
/// threads does not wait behind what another does. Where there cannot be such a pool, the workers
/// share the one of the process.
fn on_threads(threads: usize, work: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// A job of a [`Sweep`] that is under way.
#[derive(Clone)]
pub struct Job(Arc<Progress>);

impl Job {
    /// Trains a network as [`Trainer::train`] does, and has each step count towards the progress
    /// of the sweep: all of them make up the job.
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
        let steps = config.epochs * train.len().div_ceil(config.batch_size);
        let job = self.clone();
        trainer.train(config, train, valid, move |step| {
            watcher(step);
            job.advance(1.0 / steps as f64);
        })
    }

    /// Counts another `share` of the job, of 1 in all, as done.
    pub fn advance(&self, share: f64) {
        self.0.advance(share);
    }
}

/// Tells how far a sweep is.
struct Progress {
    /// Without a name, it is not told.
    name: Option<String>,
    jobs: usize,
    started: Instant,
    done: Mutex<Done>,
}

/// What is behind.
struct Done {
    finished: usize,
    /// In jobs, as far as they told.
    advanced: f64,
    spoken: Instant,
}

/// How long the progress keeps quiet.
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

    /// Says so every few seconds, and at the end.
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
