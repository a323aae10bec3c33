use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::{fs, io};

use burn::lr_scheduler::LrSchedulerRecord;
use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::Bytes;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::{Aggregate, EventStoreClient, Split};

use super::error::TrainError;
use super::folder::write_atomically;
use super::scores::best_epoch;
use burn_kindling::record::{Record, RecordError, remove_leftovers};

/// Name of the loss among Burn's metrics.
pub(super) const LOSS: &str = "Loss";

/// Which checkpoints a run keeps: those of the last two epochs and, with a patience, those of the best epochs so far
/// when each of the two ended. So a run whose last checkpoint is damaged can still continue from the one before.
pub(super) struct Keep {
    /// Validation loss of each finished epoch.
    losses: Vec<f64>,
    best: bool,
}

impl Keep {
    /// Continues after the epochs of these validation losses; `best` keeps the best epochs.
    pub(super) fn new(losses: Vec<f64>, best: bool) -> Self {
        Self { losses, best }
    }

    /// The epochs that have a checkpoint after epoch `last`, which is finished.
    fn after(&self, last: usize) -> Vec<usize> {
        let ends = last.saturating_sub(1)..=last;
        let best = ends.clone().filter_map(|end| match self.best {
            true => best_epoch(&self.losses[..end]),
            false => None,
        });
        let mut kept: Vec<usize> = ends
            .clone()
            .chain(best)
            .filter(|&epoch| epoch > 0)
            .collect();
        kept.sort_unstable();
        kept.dedup();
        kept
    }
}

impl CheckpointingStrategy for Keep {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        let before = self.after(epoch - 1);
        let loss = store.find_metric(LOSS, epoch, Aggregate::Mean, &Split::Valid);
        self.losses.push(loss.unwrap_or(f64::NAN));
        let kept = self.after(epoch);
        let gone = before.into_iter().filter(|epoch| !kept.contains(epoch));
        std::iter::once(CheckpointingAction::Save)
            .chain(gone.map(CheckpointingAction::Delete))
            .collect()
    }
}

/// The three records that make a checkpoint.
const PARTS: [&str; 3] = ["model", "optimizer", "scheduler"];

/// The checkpoints of a run: three burnpack files per epoch, each written whole or not at all, and followed by the
/// CRC-32 of its bytes in little-endian order, which Burn's own reader ignores.
#[derive(Clone)]
pub(super) struct Checkpoints {
    place: Place,
    /// The first file that could not be written. Burn's dashboard resets the learner's own error.
    failure: Arc<Mutex<Option<TrainError>>>,
}

/// Where checkpoints are kept.
#[derive(Clone)]
enum Place {
    Folder(PathBuf),
    Memory(Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>),
}

impl Place {
    /// The file of a checkpoint, or what would be one.
    fn path(&self, name: &str, epoch: usize) -> PathBuf {
        let file = format!("{name}-{epoch}.bpk");
        match self {
            Self::Folder(folder) => folder.join(file),
            Self::Memory(_) => file.into(),
        }
    }

    fn write(&self, name: &str, epoch: usize, bytes: Vec<u8>) -> Result<(), TrainError> {
        let path = self.path(name, epoch);
        match self {
            Self::Folder(_) => write_atomically(&path, &bytes),
            Self::Memory(files) => {
                files.lock().expect("no writer panics").insert(path, bytes);
                Ok(())
            }
        }
    }

    fn read(&self, name: &str, epoch: usize) -> io::Result<Vec<u8>> {
        let path = self.path(name, epoch);
        match self {
            Self::Folder(_) => fs::read(path),
            Self::Memory(files) => {
                let files = files.lock().expect("no writer panics");
                files
                    .get(&path)
                    .cloned()
                    .ok_or_else(|| io::ErrorKind::NotFound.into())
            }
        }
    }

    fn remove(&self, name: &str, epoch: usize) -> io::Result<()> {
        let path = self.path(name, epoch);
        match self {
            Self::Folder(_) => fs::remove_file(path),
            Self::Memory(files) => {
                files.lock().expect("no writer panics").remove(&path);
                Ok(())
            }
        }
    }
}

impl Checkpoints {
    /// The checkpoints in the folder of a run, without the incomplete files that a killed run left.
    pub(super) fn in_folder(run: &Path) -> Result<Self, TrainError> {
        let folder = run.join("checkpoint");
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        for folder in [run, &folder] {
            remove_leftovers(folder).map_err(TrainError::io("clean", folder))?;
        }
        Ok(Self {
            place: Place::Folder(folder),
            failure: Arc::default(),
        })
    }

    /// Checkpoints that last as long as this value.
    pub(super) fn in_memory() -> Self {
        Self {
            place: Place::Memory(Arc::default()),
            failure: Arc::default(),
        }
    }

    /// One writer for each of the three records, in the order that Burn's learner asks for.
    ///
    /// A run that is resumed gets `schedule`, not the one in its checkpoint: that counts the steps of the devices and
    /// the data it was trained with.
    pub(super) fn writers(&self, schedule: LrSchedulerRecord) -> (Part, Part, Scheduler) {
        let [model, optimizer, part] = PARTS.map(|name| Part {
            checkpoints: self.clone(),
            name,
        });
        let schedule = schedule
            .checkpoint_into_bytes()
            .expect("a record of a few numbers can be written")
            .to_vec();
        (model, optimizer, Scheduler { part, schedule })
    }

    /// The last epoch whose checkpoint is complete and undamaged, as are those that [`Keep`] needs; 0 if there is none.
    /// `keep` holds the losses of the epochs to consider.
    ///
    /// Removes the checkpoints of epochs that are not kept, which a killed run leaves behind.
    ///
    /// # Errors
    ///
    /// The epoch's record is of another network than `model`; a file cannot be removed.
    pub(super) fn latest(&self, keep: &Keep, model: impl Module) -> Result<usize, TrainError> {
        let whole = |&epoch: &usize| {
            let [model, optimizer, scheduler] = PARTS;
            self.read::<ModuleRecord>(model, epoch).is_ok()
                && self.read::<OptimizerRecord>(optimizer, epoch).is_ok()
                && self.read::<LrSchedulerRecord>(scheduler, epoch).is_ok()
        };
        let best_is_whole = |epoch: usize| match keep.best {
            true => best_epoch(&keep.losses[..epoch]).is_none_or(|best| whole(&best)),
            false => true,
        };
        let latest = (1..=keep.losses.len())
            .rev()
            .find(|&epoch| whole(&epoch) && best_is_whole(epoch))
            .unwrap_or(0);
        if let Place::Folder(folder) = &self.place {
            let kept: Vec<PathBuf> = keep
                .after(latest)
                .into_iter()
                .flat_map(|epoch| PARTS.map(|name| self.place.path(name, epoch)))
                .collect();
            for entry in fs::read_dir(folder).map_err(TrainError::io("read", folder))? {
                let path = entry.map_err(TrainError::io("read", folder))?.path();
                if path.extension().is_some_and(|it| it == "bpk") && !kept.contains(&path) {
                    fs::remove_file(&path).map_err(TrainError::io("remove", &path))?;
                }
            }
        }
        if latest > 0 {
            // Burn's learner would panic on a record of another network.
            self.model(latest, model)?;
        }
        Ok(latest)
    }

    /// Loads the weights of an epoch into `model`. `None` if some of them are not finite.
    ///
    /// # Errors
    ///
    /// The record is damaged or of another network.
    pub(super) fn model<M: Module>(&self, epoch: usize, model: M) -> Result<Option<M>, TrainError> {
        let path = self.place.path("model", epoch);
        let damaged = |reason: &dyn ToString| TrainError::damaged(&path, reason.to_string());
        let bytes = self
            .bytes("model", epoch)
            .map_err(|error| damaged(&error))?;
        match Record::from_bytes(bytes).and_then(|record| record.load(model)) {
            Ok(model) => Ok(Some(model)),
            // A run whose weights have overflowed may continue.
            Err(RecordError::NotFinite { .. }) => Ok(None),
            Err(RecordError::OtherNetwork { differences, .. }) => Err(RecordError::OtherNetwork {
                origin: path.display().to_string(),
                differences,
            }
            .into()),
            Err(error) => Err(damaged(&error)),
        }
    }

    /// Why the run lost its checkpoints, if it did.
    pub(super) fn failure(&self) -> Option<TrainError> {
        self.failure.lock().expect("no writer panics").take()
    }

    /// Reads a record whose checksum is right.
    fn read<R: Checkpoint>(&self, name: &str, epoch: usize) -> Result<R, CheckpointerError> {
        let bytes = Bytes::from_bytes_vec(self.bytes(name, epoch)?);
        R::checkpoint_from_bytes(bytes).map_err(CheckpointerError::Record)
    }

    /// The bytes of a record, without the checksum, which is right.
    fn bytes(&self, name: &str, epoch: usize) -> Result<Vec<u8>, CheckpointerError> {
        let mut bytes = self
            .place
            .read(name, epoch)
            .map_err(CheckpointerError::IOError)?;
        let checksum = bytes.len().checked_sub(4).map(|end| bytes.split_off(end));
        if checksum.as_deref() != Some(&crc32fast::hash(&bytes).to_le_bytes()) {
            let path = self.place.path(name, epoch);
            let text = format!("{} is damaged or cut short", path.display());
            return Err(CheckpointerError::Unknown(text));
        }
        Ok(bytes)
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
        self.checkpoints
            .place
            .write(self.name, epoch, bytes)
            .map_err(|error| {
                let text = error.to_string();
                let mut failure = self.checkpoints.failure.lock().expect("no writer panics");
                failure.get_or_insert(error);
                CheckpointerError::Unknown(text)
            })
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        match self.checkpoints.place.remove(self.name, epoch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointerError::IOError(error))
            }
            _ => Ok(()),
        }
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        self.checkpoints.read(self.name, epoch)
    }
}

/// Writes the state of the learning rate schedule, and gives another back.
pub(super) struct Scheduler {
    part: Part,
    schedule: Vec<u8>,
}

impl Checkpointer<LrSchedulerRecord> for Scheduler {
    fn save(&self, epoch: usize, record: LrSchedulerRecord) -> Result<(), CheckpointerError> {
        self.part.save(epoch, record)
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        Checkpointer::<LrSchedulerRecord>::delete(&self.part, epoch)
    }

    fn restore(&self, _: usize) -> Result<LrSchedulerRecord, CheckpointerError> {
        let bytes = Bytes::from_bytes_vec(self.schedule.clone());
        LrSchedulerRecord::checkpoint_from_bytes(bytes).map_err(CheckpointerError::Record)
    }
}
