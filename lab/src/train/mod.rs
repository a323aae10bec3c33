//! A training run, from a serialisable [`TrainConfig`] to a serialisable [`RunResult`], through Burn's learner.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use burn_kindling_lab::data::Mnist;
//! use burn_kindling_lab::train::{RunFolder, TrainConfig, Trainer};
//!
//! let config = TrainConfig::default();
//! let data = Mnist::load(&Mnist::find(None)?)?;
//! let folder = RunFolder::create("runs/first", &config)?;
//! let result = Trainer::new(Device::flex()).run(&folder, &data)?;
//! println!("test accuracy {:.2} %", 100.0 * result.test.accuracy);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod config;
mod display;
mod error;
mod folder;
mod history;
mod result;
mod scores;
mod setup;
mod step;
mod sweep;
mod terminal;
mod trainer;

pub use burn::train::Interrupter;

pub use crate::precision::Precision;
pub use config::{OptimizerKind, Schedule, TrainConfig};
pub use display::Display;
pub use error::TrainError;
pub use folder::RunFolder;
pub(crate) use folder::write_atomically;
pub use result::{Outcome, RunResult, Timing};
pub use scores::{Epoch, EpochScores, Score};
pub use setup::RunSetup;
pub use step::{StepOutput, TrainingStep, Watcher};
pub use sweep::{Job, Sweep};
pub use terminal::restore as restore_terminal;
pub use trainer::{Trained, Trainer, evaluate};
