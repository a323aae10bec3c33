use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use burn::train::checkpoint::{Checkpoint, Checkpointer, CheckpointerError};

use super::TrainError;
use super::folder::write_atomically;
use burn_kindling::record::{Record, RecordError, remove_leftovers};

/// How many epochs have a checkpoint at a time.
pub(super) const KEPT: usize = 2;

/// The three records that make a checkpoint.
const PARTS: [&str; 3] = ["model", "optimizer", "scheduler"];

/// The checkpoints of a run: three burnpack files an epoch, each written whole or not at all, and followed by the
/// CRC-32 of its bytes in little-endian order, which Burn's own reader passes over.
#[derive(Clone)]
pub(super) struct Checkpoints {
    folder: PathBuf,
    /// The first file that could not be written. Burn's dashboard resets the learner's own error.
    failure: Arc<Mutex<Option<TrainError>>>,
}

impl Checkpoints {
    /// The checkpoints in the folder of a run, cleared of what a run that was killed has left half-written.
    pub(super) fn in_folder(run: &Path) -> Result<Self, TrainError> {
        let folder = run.join("checkpoint");
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        for folder in [run, &folder] {
            remove_leftovers(folder).map_err(TrainError::io("clean", folder))?;
        }
        Ok(Self {
            folder,
            failure: Arc::default(),
        })
    }

    /// One writer for each of the three records, in the order that Burn's learner asks for.
    pub(super) fn writers(&self) -> [Part; 3] {
        PARTS.map(|name| Part {
            checkpoints: self.clone(),
            name,
        })
    }

    /// The last epoch, of those up to `epochs`, whose three records are all there and whole; 0 if
    /// there is none. A file that was cut short or damaged makes it the epoch before.
    ///
    /// Removes what a run that was killed has not: the records of epochs that are not kept.
    ///
    /// # Errors
    ///
    /// The epoch's record is of another network than `model`; a file cannot be removed.
    pub(super) fn latest(&self, epochs: usize, model: impl Module) -> Result<usize, TrainError> {
        let whole = |&epoch: &usize| {
            let [model, optimizer, scheduler] = PARTS.map(|name| self.path(name, epoch));
            read::<ModuleRecord>(&model).is_ok()
                && read::<OptimizerRecord>(&optimizer).is_ok()
                && read::<LrSchedulerRecord>(&scheduler).is_ok()
        };
        let latest = (1..=epochs).rev().find(whole).unwrap_or(0);
        let kept: Vec<PathBuf> = (latest.saturating_sub(KEPT - 1)..=latest)
            .flat_map(|epoch| PARTS.map(|name| self.path(name, epoch)))
            .collect();
        let entries = fs::read_dir(&self.folder).map_err(TrainError::io("read", &self.folder))?;
        for entry in entries {
            let path = entry.map_err(TrainError::io("read", &self.folder))?.path();
            if path.extension().is_some_and(|it| it == "bpk") && !kept.contains(&path) {
                fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
            }
        }
        if latest > 0 {
            self.check(&self.path("model", latest), model)?;
        }
        Ok(latest)
    }

    /// Burn's learner would panic on a record of another network.
    fn check(&self, path: &Path, model: impl Module) -> Result<(), TrainError> {
        let bytes = read_bytes(path).map_err(|error| TrainError::damaged(path, error))?;
        match Record::from_bytes(bytes).and_then(|record| record.load(model)) {
            // A run whose weights have overflowed may go on.
            Ok(_) | Err(RecordError::NotFinite { .. }) => Ok(()),
            Err(RecordError::OtherNetwork { differences, .. }) => Err(TrainError::OtherNetwork {
                path: path.to_path_buf(),
                reason: differences.to_string(),
            }),
            Err(error) => Err(TrainError::damaged(path, error)),
        }
    }

    /// Why the run lost its checkpoints, if it did.
    pub(super) fn failure(&self) -> Option<TrainError> {
        self.failure.lock().expect("no writer panics").take()
    }

    fn path(&self, name: &str, epoch: usize) -> PathBuf {
        self.folder.join(format!("{name}-{epoch}.bpk"))
    }
}

/// Writes one of the three records of each checkpoint.
pub(super) struct Part {
    checkpoints: Checkpoints,
    name: &'static str,
}

impl<R: Checkpoint> Checkpointer<R> for Part {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        let bytes = record
            .checkpoint_into_bytes()
            .map_err(CheckpointerError::Record)?;
        let checksum = crc32fast::hash(&bytes).to_le_bytes();
        let bytes = [&bytes, &checksum[..]].concat();
        write_atomically(&self.checkpoints.path(self.name, epoch), &bytes).map_err(|error| {
            let text = error.to_string();
            let mut failure = self.checkpoints.failure.lock().expect("no writer panics");
            failure.get_or_insert(error);
            CheckpointerError::Unknown(text)
        })
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        match fs::remove_file(self.checkpoints.path(self.name, epoch)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointerError::IOError(error))
            }
            _ => Ok(()),
        }
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        read(&self.checkpoints.path(self.name, epoch))
    }
}

/// Reads a record whose checksum is right.
fn read<R: Checkpoint>(path: &Path) -> Result<R, CheckpointerError> {
    let bytes = read_bytes(path)?;
    R::checkpoint_from_bytes(Bytes::from_bytes_vec(bytes)).map_err(CheckpointerError::Record)
}

/// The bytes before the checksum, which is right.
fn read_bytes(path: &Path) -> Result<Vec<u8>, CheckpointerError> {
    let mut bytes = fs::read(path).map_err(CheckpointerError::IOError)?;
    let checksum = bytes.len().checked_sub(4).map(|end| bytes.split_off(end));
    if checksum.as_deref() != Some(&crc32fast::hash(&bytes).to_le_bytes()) {
        let text = format!("{} is damaged or cut short", path.display());
        return Err(CheckpointerError::Unknown(text));
    }
    Ok(bytes)
}
