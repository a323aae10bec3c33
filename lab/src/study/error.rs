use thiserror::Error;

use burn_kindling::calibration::CalibrateError;

use crate::train::TrainError;

/// Why an experiment did not finish.
#[derive(Debug, Error)]
pub enum ExperimentError {
    /// It was stopped. Finished runs are kept.
    #[error("stopped; run the same command again to continue from the finished runs")]
    Interrupted,
    /// A network could not be trained, or a file could not be written.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A network could not be calibrated.
    #[error(transparent)]
    Calibrate(#[from] CalibrateError),
}
