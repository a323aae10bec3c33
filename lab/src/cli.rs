//! What the examples' command lines share.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::tensor::Device;
use clap::Args;

use crate::data::{DataError, Mnist};
use crate::device::{self, DeviceError, Found};
use crate::model::{Classifier, ModelConfig};
pub use crate::say::{print, say};
use crate::study::ExperimentError;
use crate::train::{self, Display, Interrupter, RunFolder, TrainError};

/// Reports an error on standard error, and returns the exit code: 2 if the command was used wrongly, as clap has it,
/// 130 if Ctrl-C stopped it, otherwise 1.
pub fn fail(error: Box<dyn Error>) -> ExitCode {
    say(format_args!("error: {error}"));
    let device = match error.downcast_ref() {
        Some(TrainError::Device(error)) => Some(error),
        _ => error.downcast_ref(),
    };
    let misused = matches!(error.downcast_ref(), Some(TrainError::Config(_)))
        || matches!(
            device,
            Some(DeviceError::Unknown { .. } | DeviceError::NoDType { .. })
        );
    let stopped = matches!(error.downcast_ref(), Some(ExperimentError::Interrupted));
    ExitCode::from(match (misused, stopped) {
        (true, _) => 2,
        (_, true) => 130,
        _ => 1,
    })
}

/// Ends the program quietly when the reader of its output closes the pipe, as `head` does.
///
/// For programs that only print. Rust makes writing to a closed pipe an error, and `println!` panics on it.
pub fn end_with_the_pipe() {
    #[cfg(unix)]
    // SAFETY: the default action is installed for a signal that nothing else here handles.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// The flag `--device`.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlag {
    /// Device: flex, ndarray, wgpu, vulkan, metal, webgpu, cuda or rocm (append :INDEX to choose among several GPUs),
    /// or remote:HOST:PORT [default: the best one that is compiled in and present]
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
}

impl DeviceFlag {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// There is no such device; see [`device::pick`].
    pub fn pick(&self) -> Result<Found, DeviceError> {
        device::pick(self.device.as_deref())
    }
}

/// The flag `--data`.
#[derive(Args, Clone, Debug)]
pub struct DataFlag {
    /// Folder of the four files of MNIST, or of a data set in the same format such as Fashion-MNIST, gzipped or not
    /// [default: data/mnist]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl DataFlag {
    /// Returns the folder of the data set.
    ///
    /// # Errors
    ///
    /// The folder is missing.
    pub fn find(&self) -> Result<PathBuf, DataError> {
        Mnist::find(self.data.as_deref())
    }

    /// Reads the data set.
    ///
    /// # Errors
    ///
    /// The folder or one of its files is missing or damaged.
    pub fn load(&self) -> Result<Mnist, DataError> {
        Mnist::load(&self.find()?)
    }
}

/// Opens the network of a run's folder, or of a file; `under` names the part of the file that holds it.
///
/// # Errors
///
/// There is no such folder or file; it is damaged, or holds no network of the lab.
pub fn open_network(
    path: &Path,
    under: Option<&str>,
    device: &Device,
) -> Result<(ModelConfig, Classifier), Box<dyn Error>> {
    if !path.exists() {
        return Err(format!(
            "there is no {}; `cargo run --release --example mnist` trains a network and prints its folder",
            path.display()
        )
        .into());
    }
    if !path.is_dir() {
        return Ok(Classifier::open_part(path, under, device)?);
    }
    let run = RunFolder::open(path)?;
    Ok((run.config()?.model, run.load_model(device)?))
}

/// Reads a count from a flag.
///
/// # Errors
///
/// It is no whole number, or 0.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

/// Makes the first Ctrl-C stop the training after the current step, and the second end the program.
///
/// Nothing is printed while the dashboard fills the screen; the second Ctrl-C restores the terminal first.
///
/// # Errors
///
/// The system takes no handler, or has one already.
pub fn stop_on_ctrl_c(interrupter: &Interrupter, display: Display) -> Result<(), ctrlc::Error> {
    let dashboard = display == Display::Dashboard;
    let interrupter = interrupter.clone();
    let stopping = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::Relaxed) {
            if dashboard {
                train::restore_terminal();
            }
            std::process::exit(130);
        }
        if !dashboard {
            say("stopping after this step; press Ctrl-C again to exit now");
        }
        interrupter.stop(Some("Ctrl-C"));
    })
}

/// Makes the C library keep the memory that a training step frees, for the next step.
///
/// glibc returns large blocks to the system, which hands them out again page by page and fills each page with zeros.
/// If the activations of a network take megabytes, this takes as long as the step itself. Keeping them takes up to
/// twice the memory. The setting applies to the whole process, so a program should make it, not a library. Without
/// glibc, this does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: both calls set a parameter of malloc. If one is refused, nothing changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
