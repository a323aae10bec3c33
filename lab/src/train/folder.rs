use std::path::{Path, PathBuf};
use std::{fs, io};

use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config::TrainConfig;
use super::error::TrainError;
use super::result::{Outcome, RunResult};
use super::setup::RunSetup;
use crate::model::Classifier;
use burn_kindling::record::{self, Layout, Record};

const CONFIG: &str = "config.json";
const SETUP: &str = "setup.json";

/// The folder of one training run.
///
/// | file | what |
/// | --- | --- |
/// | `config.json` | the [`TrainConfig`] |
/// | `setup.json` | the [`RunSetup`]: devices and data |
/// | `metrics.json` | loss and accuracy of every finished epoch |
/// | `result.json` | the [`RunResult`], once the run has ended |
/// | `model.bpk` | the trained network: Burn's record, parameters and running statistics |
/// | `checkpoint/` | the state that `--resume` continues from |
///
/// Every file is written under a temporary name, flushed, and renamed, so none is ever incomplete.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run, and the folders above it, and writes its configuration.
    ///
    /// # Errors
    ///
    /// The folder holds a run or other files, or cannot be written.
    pub fn create(path: impl Into<PathBuf>, config: &TrainConfig) -> Result<Self, TrainError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(TrainError::io("create", &path))?;
        let mut entries = fs::read_dir(&path).map_err(TrainError::io("read", &path))?;
        if path.join(CONFIG).exists() {
            return Err(TrainError::Occupied(path));
        }
        // A run that was killed before it had a configuration leaves no more than a temporary file.
        let foreign = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| !record::is_leftover(&entry.file_name()))
        };
        if entries.any(foreign) {
            return Err(TrainError::NotEmpty(path));
        }
        let folder = Self { path };
        folder.write_json(CONFIG, config)?;
        Ok(folder)
    }

    /// Makes the folder of a new run as `parent/name-1`, or with the first number that is free.
    ///
    /// # Errors
    ///
    /// The folder cannot be written.
    pub fn create_numbered(
        parent: &Path,
        name: &str,
        config: &TrainConfig,
    ) -> Result<Self, TrainError> {
        fs::create_dir_all(parent).map_err(TrainError::io("create", parent))?;
        for number in 1.. {
            let path = parent.join(format!("{name}-{number}"));
            // Two programs that start together must not get the same folder: making it decides.
            match fs::create_dir(&path) {
                Ok(()) => return Self::create(path, config),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(TrainError::io("create", &path)(error)),
            }
        }
        unreachable!("there is always a free number")
    }

    /// Opens the folder of a run that was started before.
    ///
    /// # Errors
    ///
    /// There is no run in it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, TrainError> {
        let path = path.into();
        match path.join(CONFIG).is_file() {
            true => Ok(Self { path }),
            false => Err(TrainError::NotARun {
                folder: path,
                missing: CONFIG,
            }),
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the trained network lies.
    pub fn record(&self) -> PathBuf {
        self.path.join("model.bpk")
    }

    /// The configuration of the run.
    ///
    /// # Errors
    ///
    /// `config.json` cannot be read, or is none.
    pub fn config(&self) -> Result<TrainConfig, TrainError> {
        let config: TrainConfig = self.read_json(CONFIG)?;
        config
            .validate()
            .map_err(|error| TrainError::damaged(&self.path.join(CONFIG), error))?;
        Ok(config)
    }

    /// The devices and the data of the run, or `None` if they were not written down.
    ///
    /// # Errors
    ///
    /// `setup.json` cannot be read, or is none.
    pub fn setup(&self) -> Result<Option<RunSetup>, TrainError> {
        match self.path.join(SETUP).exists() {
            true => self.read_json(SETUP).map(Some),
            false => Ok(None),
        }
    }

    /// Writes the devices and the data of the run.
    ///
    /// # Errors
    ///
    /// `setup.json` cannot be written.
    pub fn save_setup(&self, setup: &RunSetup) -> Result<(), TrainError> {
        self.write_json(SETUP, setup)
    }

    /// The result of the run, or `None` if it has not ended.
    ///
    /// # Errors
    ///
    /// `result.json` cannot be read, or is none.
    pub fn result(&self) -> Result<Option<RunResult>, TrainError> {
        match self.path.join("result.json").exists() {
            true => self.read_json("result.json").map(Some),
            false => Ok(None),
        }
    }

    /// Checks that the run can be resumed.
    ///
    /// # Errors
    ///
    /// The run is complete; `result.json` cannot be read.
    pub fn check_unfinished(&self) -> Result<(), TrainError> {
        match self.result()? {
            Some(result) if result.outcome != Outcome::Interrupted => {
                Err(TrainError::Complete(self.path.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The trained network, on `device`.
    ///
    /// # Errors
    ///
    /// The record cannot be read, is damaged, or is of another architecture than the configuration
    /// says.
    pub fn load_model(&self, device: &Device) -> Result<Classifier, TrainError> {
        let config = self.config()?.model;
        let record = Record::open(self.record())?;
        Ok(Classifier::from_record(&config, &record, device)?)
    }

    /// Writes the record of the trained network.
    pub(super) fn save_model(&self, model: &Classifier) -> Result<(), TrainError> {
        let record = model.record(&self.config()?.model, Layout::Burn);
        Ok(record.save(self.record())?)
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_vec_pretty(value).expect("plain data has a JSON form");
        text.push(b'\n');
        write_atomically(&self.path.join(name), &text)
    }

    pub(super) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, TrainError> {
        let path = self.path.join(name);
        let text = fs::read(&path).map_err(TrainError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| TrainError::damaged(&path, error))
    }
}

/// Writes a file so that, whatever happens, there is the old one or the whole new one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    record::write_atomically(path, bytes).map_err(TrainError::io("write", path))
}
