use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

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

/// The epoch, counted from 1, with the lowest of the finite losses; the first of several.
pub(super) fn best_epoch(losses: &[f64]) -> Option<usize> {
    let finite = (1..).zip(losses).filter(|(_, loss)| loss.is_finite());
    finite
        .min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(epoch, _)| epoch)
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
            let [model, optimizer, scheduler] = PARTS.map(|name| self.path(name, epoch));
            read::<ModuleRecord>(&model).is_ok()
                && read::<OptimizerRecord>(&optimizer).is_ok()
                && read::<LrSchedulerRecord>(&scheduler).is_ok()
        };
        let best_is_whole = |epoch: usize| match keep.best {
            true => best_epoch(&keep.losses[..epoch]).is_none_or(|best| whole(&best)),
            false => true,
        };
        let latest = (1..=keep.losses.len())
            .rev()
            .find(|&epoch| whole(&epoch) && best_is_whole(epoch))
            .unwrap_or(0);
        let kept: Vec<PathBuf> = keep
            .after(latest)
            .into_iter()
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
        let path = &self.path("model", epoch);
        let bytes = read_bytes(path).map_err(|error| TrainError::damaged(path, error))?;
        match Record::from_bytes(bytes).and_then(|record| record.load(model)) {
            Ok(model) => Ok(Some(model)),
            // A run whose weights have overflowed may continue.
            Err(RecordError::NotFinite { .. }) => Ok(None),
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
