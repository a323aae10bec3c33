use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, FloatDType};
use rand::seq::SliceRandom;

use super::batch::{HostBatch, Unpacker};
use super::{DigitBatch, ImageSet};
use crate::random::generator;

/// Number of batches prepared in advance.
const AHEAD: usize = 4;

/// Iterates over an [`ImageSet`] in batches. Each call of [`iter`](DataLoader::iter) starts an epoch.
///
/// The images come in order, for validation and test, or [shuffled](Self::shuffled), for training. The order of a
/// shuffled epoch depends only on the seed and the number of the epoch. A run resumed
/// [at an epoch](Self::starting_at_epoch) therefore sees the same batches as an uninterrupted one.
///
/// The last batch is smaller if the batch size does not divide the number of images. If only one image is left for it,
/// a shuffled loader drops that image, because batch normalisation needs more than one image for a variance. It keeps a
/// single image that is the whole set.
///
/// A background thread prepares the next batches. It ends with the iterator.
#[derive(Debug)]
pub struct Loader {
    set: ImageSet,
    batch_size: usize,
    device: Device,
    dtype: FloatDType,
    seed: Option<u64>,
    /// The epoch of the next iterator.
    epoch: AtomicUsize,
}

impl Loader {
    /// Creates a loader that returns the images of `set` in order, as tensors on `device`.
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

    /// Returns the images in this float type; the default is f32. The lab's networks compute in the type of their
    /// input.
    pub fn with_dtype(mut self, dtype: FloatDType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Shuffles the images, differently in each epoch.
    pub fn shuffled(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Starts the next iterator at epoch `epoch`, counted from 1 as in Burn's learner.
    pub fn starting_at_epoch(mut self, epoch: usize) -> Self {
        self.epoch = AtomicUsize::new(epoch);
        self
    }

    /// The first `count` images of a set, or all of them, as one batch.
    ///
    /// # Panics
    ///
    /// If that is no image.
    pub fn first_batch(images: &ImageSet, count: usize, device: &Device) -> DigitBatch {
        let count = count.min(images.len());
        let loader = Self::new(images.subset(0..count), count, device.clone());
        let batch = loader.iter().next().expect("a set of images has a batch");
        batch.expect("a set in memory gives every batch")
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

        let unpacker = Unpacker::for_gpu(&self.device);
        let packed = unpacker.is_some();
        let (sender, prepared) = sync_channel(AHEAD);
        let prepare = move || {
            let order = order(set.len(), seed, epoch);
            for indices in order[..items].chunks(batch_size) {
                // The iterator has been dropped.
                if sender
                    .send(HostBatch::gather(&set, indices, packed))
                    .is_err()
                {
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
            unpacker,
            items_done: 0,
            items,
        })
    }

    /// Number of images in an epoch: all, except the one that a shuffled loader may drop.
    fn num_items(&self) -> usize {
        items(self.set.len(), self.batch_size, self.seed)
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<DigitBatch>> {
        self.with(self.set.clone(), device.clone())
    }

    /// A loader over the images `start..end` of the set, which shuffles only these.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<DigitBatch>> {
        self.with(self.set.subset(start..end), self.device.clone())
    }
}

/// Number of images in an epoch over a set of `len`.
pub(super) fn items(len: usize, batch_size: usize, seed: Option<u64>) -> usize {
    let lone = len > batch_size && len % batch_size == 1;
    len - usize::from(seed.is_some() && lone)
}

/// The order of the `len` images in an epoch.
pub(super) fn order(len: usize, seed: Option<u64>, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    if let Some(seed) = seed {
        order.shuffle(&mut generator(seed, epoch as u64));
    }
    order
}

/// An epoch in progress.
struct Epoch<'a> {
    prepared: Option<Receiver<HostBatch>>,
    worker: Option<io::Result<JoinHandle<()>>>,
    device: &'a Device,
    dtype: FloatDType,
    unpacker: Option<Unpacker>,
    items_done: usize,
    items: usize,
}

impl Epoch<'_> {
    /// Ends the thread. Returns the reason if the thread failed.
    fn stop(&mut self) -> Option<io::Error> {
        // A thread that waits to send a batch ends when the receiver is gone.
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
                Some(Ok(batch.into_batch(
                    self.device,
                    self.dtype,
                    self.unpacker.as_ref(),
                )))
            }
            // The thread has finished or could not be started.
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
