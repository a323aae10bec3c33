use std::io;
use std::path::{Path, PathBuf};

use burn_kindling::record::RecordError;
use thiserror::Error;

use crate::device::DeviceError;

/// Why a training run could not be started, went wrong, or cannot be read back.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The configuration is invalid.
    #[error("{0}")]
    Config(String),
    /// A new run was to be put where one is already.
    #[error(
        "{folder} already holds a run; continue it with `--resume {folder}`, or choose another folder with `--out`",
        folder = .0.display()
    )]
    Occupied(PathBuf),
    /// A new run was to be put into a folder that holds other files.
    #[error("{} is not empty and holds no run; choose another folder", .0.display())]
    NotEmpty(PathBuf),
    /// There is no run in the folder.
    #[error("{} holds no run: there is no {}", .folder.display(), .missing)]
    NotARun {
        /// The folder.
        folder: PathBuf,
        /// The file that makes it a run.
        missing: &'static str,
    },
    /// The run has nothing left to do.
    #[error("the run in {} is complete; its result is in {}", .0.display(), .0.join("result.json").display())]
    Complete(PathBuf),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// `read`, `write`, `create`, `clean` or `remove`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the run is damaged.
    #[error("{} is damaged or not what it should be: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The record of the trained network cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A device does not compute in the float type of the run.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A step does not fit into the memory of the device.
    #[error(
        "the device has no memory for steps of {batch_size} images ({reason}); try `--batch-size {}`",
        (batch_size / 2).max(1)
    )]
    OutOfMemory {
        /// The batch size of the run.
        batch_size: usize,
        /// What the backend reported.
        reason: String,
    },
    /// The user killed the training in the dashboard.
    #[error("training was killed; `--resume` continues after the last finished epoch")]
    Killed,
    /// Burn's learner stopped on an error.
    #[error("training stopped: {0}")]
    Learner(String),
}

impl TrainError {
    /// The error of a backend that is out of memory, if that is what it says, in steps of `batch_size` images.
    pub fn out_of_memory(message: &str, batch_size: usize) -> Option<Self> {
        // CubeCL's and wgpu's words for a device that is full, and for a buffer larger than it has.
        let says_so = |line: &&str| {
            let line = line.to_lowercase();
            let words = [
                "out of memory",
                "out of device memory",
                "out-of-memory",
                "can't allocate buffer",
            ];
            words.iter().any(|words| line.contains(words))
        };
        let reason = message.lines().find(says_so)?.trim().to_string();
        Some(Self::OutOfMemory { batch_size, reason })
    }

    /// Names the file or folder that `action` failed on.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    pub(super) fn damaged(path: &Path, reason: impl ToString) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            reason: reason.to_string(),
        }
    }
}
