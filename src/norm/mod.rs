//! Batch normalisation.

pub mod op;

mod batch_norm;
mod mode;
mod statistics;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use mode::{Mode, Statistics};
pub use statistics::RunningAverage;
