use thiserror::Error;

use crate::train::TrainError;

/// Why an experiment came to no end.
#[derive(Debug, Error)]
pub enum ExperimentError {
    /// It was asked to stop. What is finished is kept.
    #[error("stopped; the same command goes on from the runs that are finished")]
    Interrupted,
    /// A network could not be trained, or a file could not be written.
    #[error(transparent)]
    Train(#[from] TrainError),
}
