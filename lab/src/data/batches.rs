use burn::tensor::{Device, FloatDType};

use super::batch::HostBatch;
use super::loader::{items, order};
use super::{DigitBatch, ImageSet};

/// The batches of a training, by the number of the step: what a shuffled [`Loader`](super::Loader) of the same set,
/// batch size and seed returns over all epochs, in any order of asking.
///
/// A loader gives one batch after the other. This gives any batch, so a training can go back to an earlier step.
#[derive(Debug)]
pub struct Batches {
    set: ImageSet,
    batch_size: usize,
    seed: u64,
    device: Device,
    /// The epoch of `order`, counted from 1.
    epoch: usize,
    order: Vec<usize>,
}

impl Batches {
    /// Batches of `batch_size` images of `set`, as tensors on `device`.
    ///
    /// # Panics
    ///
    /// If the batch size is 0, or there are no images.
    pub fn new(set: ImageSet, batch_size: usize, seed: u64, device: Device) -> Self {
        assert!(
            batch_size > 0 && !set.is_empty(),
            "a batch needs at least one image"
        );
        Self {
            set,
            batch_size,
            seed,
            device,
            epoch: 0,
            order: Vec::new(),
        }
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        items(self.set.len(), self.batch_size, Some(self.seed)).div_ceil(self.batch_size)
    }

    /// The batch of this step, counted from 0 over all epochs.
    pub fn at(&mut self, step: usize) -> DigitBatch {
        let steps = self.steps_per_epoch();
        let (epoch, step) = (1 + step / steps, step % steps);
        if epoch != self.epoch {
            self.order = order(self.set.len(), Some(self.seed), epoch);
            self.epoch = epoch;
        }
        let items = items(self.set.len(), self.batch_size, Some(self.seed));
        let start = step * self.batch_size;
        let indices = &self.order[start..items.min(start + self.batch_size)];
        HostBatch::gather(&self.set, indices, false).into_batch(&self.device, FloatDType::F32, None)
    }
}
