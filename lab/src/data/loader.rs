use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, FloatDType};
use rand::seq::SliceRandom;

use super::batch::HostBatch;
use super::{DigitBatch, ImageSet};
use crate::random::generator;

/// How many batches are prepared ahead of the one in use.
const AHEAD: usize = 4;

/// Walks an [`ImageSet`] in batches, an epoch with each [`iter`](DataLoader::iter).
///
/// In order, for validation and test; or [shuffled](Self::shuffled), for training, where the order
/// depends on nothing but the seed and the number of the epoch. A run that is resumed
/// [at an epoch](Self::starting_at_epoch) thus sees what an uninterrupted one would have seen.
///
/// The last batch is smaller if the batch size does not divide the number of images. Only if it
/// would be a single image after other batches, a shuffled loader leaves that image out of the
/// epoch: batch normalisation has no variance to take of one image.
///
/// The next batches are put together on a thread of their own, which ends with the iterator.
#[derive(Debug)]
pub struct Loader {
    set: ImageSet,
    batch_size: usize,
    device: Device,
    dtype: FloatDType,
    seed: Option<u64>,
    /// The number of the epoch that the next iterator walks.
    epoch: AtomicUsize,
}

impl Loader {
    /// Makes a loader that gives the images of `set` in order, as tensors on `device`.
    ///
    /// # Panics
    ///
    /// If `batch_size` is 0.
    pub fn new(set: ImageSet, batch_size: usize, device: Device) -> Self {
        assert!(batch_size > 0, "a batch needs at least one image");
        Self {
            set,
            batch_size,
            device,
            dtype: FloatDType::F32,
            seed: None,
            epoch: AtomicUsize::new(1),
        }
    }

    /// Gives the images in another float type than f32. A network of the lab computes in the type of its images.
    pub fn with_dtype(mut self, dtype: FloatDType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Shuffles the images, differently in each epoch.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Makes the next iterator walk epoch `epoch`; they are counted from 1, as Burn's learner
    /// does.
    pub fn starting_at_epoch(mut self, epoch: usize) -> Self {
        self.epoch = AtomicUsize::new(epoch);
        self
    }

    /// The same loader, at the same epoch, over another set or on another device.
    fn with(&self, set: ImageSet, device: Device) -> Arc<dyn DataLoader<DigitBatch>> {
        Arc::new(Self {
            set,
            batch_size: self.batch_size,
            device,
            dtype: self.dtype,
            seed: self.seed,
            epoch: AtomicUsize::new(self.epoch.load(Ordering::Relaxed)),
        })
    }
}

impl DataLoader<DigitBatch> for Loader {
    /// Starts the next epoch.
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<DigitBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        let (set, batch_size, items) = (self.set.clone(), self.batch_size, self.num_items());
        let seed = self.seed;

        let (sender, prepared) = sync_channel(AHEAD);
        let prepare = move || {
            let order = order(set.len(), seed, epoch);
            for indices in order[..items].chunks(batch_size) {
                // Nobody listens any more once the iterator is gone.
                if sender.send(HostBatch::gather(&set, indices)).is_err() {
                    return;
                }
            }
        };
        let worker = thread::Builder::new()
            .name("mnist-loader".into())
            .spawn(prepare);

        Box::new(Epoch {
            prepared: Some(prepared),
            worker: Some(worker),
            device: &self.device,
            dtype: self.dtype,
            items_done: 0,
            items,
        })
    }

    /// How many images an epoch has: all of them, but for one that a shuffled loader leaves out.
    fn num_items(&self) -> usize {
        let len = self.set.len();
        let lone = len > self.batch_size && len % self.batch_size == 1;
        len - usize::from(self.seed.is_some() && lone)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<DigitBatch>> {
        self.with(self.set.clone(), device.clone())
    }

    /// A loader over the images `start..end` of the set; a shuffled one shuffles these among
    /// themselves.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<DigitBatch>> {
        self.with(self.set.subset(start..end), self.device.clone())
    }
}

/// The order in which an epoch takes `len` images.
fn order(len: usize, seed: Option<u64>, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    if let Some(seed) = seed {
        order.shuffle(&mut generator(seed, epoch as u64));
    }
    order
}

/// An epoch under way.
struct Epoch<'a> {
    prepared: Option<Receiver<HostBatch>>,
    worker: Option<io::Result<JoinHandle<()>>>,
    device: &'a Device,
    dtype: FloatDType,
    items_done: usize,
    items: usize,
}

impl Epoch<'_> {
    /// Ends the thread. Returns why it prepared less than it should have, if it did.
    fn stop(&mut self) -> Option<io::Error> {
        // Without a receiver, a thread that waits to hand over a batch gives up.
        self.prepared = None;
        match self.worker.take()? {
            Err(error) => Some(error),
            Ok(worker) => worker.join().err().map(|_| io::Error::other("it panicked")),
        }
    }
}

impl Iterator for Epoch<'_> {
    type Item = Result<DigitBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.prepared.as_ref()?.recv() {
            Ok(batch) => {
                self.items_done += batch.len();
                Some(Ok(batch.into_batch(self.device, self.dtype)))
            }
            // The thread is through, or never was.
            Err(_) => self.stop().map(|error| {
                Err(DatasetError::new(io::Error::other(format!(
                    "the thread that prepares batches of images failed: {error}"
                ))))
            }),
        }
    }
}

impl DataLoaderIterator<DigitBatch> for Epoch<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.items_done, self.items, Some("items".into()))
    }
}

impl Drop for Epoch<'_> {
    fn drop(&mut self) {
        self.stop();
    }
}
