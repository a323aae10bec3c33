//! Batch normalisation.

pub mod op;

mod batch_norm;
mod fold;
mod mode;
mod recalibrate;
mod statistics;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use fold::Fold;
pub use mode::{Mode, Statistics, freeze, freeze_statistics, unfreeze};
pub use recalibrate::{RecalibrateError, Recalibration, RecalibrationProgress, recalibrate};
pub use statistics::RunningAverage;
