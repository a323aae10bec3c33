//! What the examples' command lines share.

use std::error::Error;
use std::process::ExitCode;

use super::device::DeviceError;
use super::train::TrainError;

/// Tells a person what went wrong, on standard error, and gives the exit code: 2 if the command was
/// used wrongly, as clap has it, and 1 for all else.
pub fn fail(error: Box<dyn Error>) -> ExitCode {
    eprintln!("error: {error}");
    let usage = matches!(error.downcast_ref(), Some(DeviceError::Unknown { .. }))
        || matches!(error.downcast_ref(), Some(TrainError::Config(_)));
    ExitCode::from(if usage { 2 } else { 1 })
}
