//! What decides a run's result besides its configuration.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data::ImageSet;

/// The devices and the data that a run is trained on: `setup.json` in its folder.
///
/// `--resume` uses them again. On one CPU device, the result is then bit-identical to that of a run that was never
/// stopped. On other devices or data, the run keeps its weights, its optimiser state and its place in the learning-rate
/// schedule, but not its exact result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSetup {
    /// The names of the devices, as `--devices` takes them.
    pub devices: Vec<String>,
    /// The folder of the data, as an absolute path.
    pub data: PathBuf,
    /// The number of images in the training file, including those held out for validation.
    pub images: usize,
    /// The CRC-32 of their pixels and labels.
    pub checksum: u32,
}

impl RunSetup {
    /// The setup of a run on these devices, and on `train` from the folder `data`.
    ///
    /// # Errors
    ///
    /// The current directory, which `data` may be relative to, is gone.
    pub fn new(devices: Vec<String>, data: &Path, train: &ImageSet) -> io::Result<Self> {
        Ok(Self {
            devices,
            data: std::path::absolute(data)?,
            images: train.len(),
            checksum: train.checksum(),
        })
    }

    /// Describes what changes the result of a run of this setup if it continues on `now`: one phrase per difference.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        // Of the names, the backend counts, not which of its devices it is.
        let backends = |setup: &Self| -> Vec<String> {
            let names = setup.devices.iter();
            names
                .map(|name| name.split(':').next().unwrap_or(name).to_string())
                .collect()
        };
        if backends(self) != backends(now) {
            let [before, now] = [self, now].map(|setup| setup.devices.join(","));
            found.push(format!("it was trained on {before}, not {now}"));
        }
        if (self.images, self.checksum) != (now.images, now.checksum) {
            let [before, now] = [self, now].map(|setup| setup.data.display());
            found.push(format!("it had other training images: {before}, not {now}"));
        }
        found
    }
}
