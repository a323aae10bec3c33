//! Several micro-batches that enter the running statistics as one batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::ParamId;

use super::average::Weighting;
use super::statistics::{BatchStatistics, RunningStatistics, Shared};
use crate::scope;

/// Makes the micro-batches of one optimiser step enter the running statistics as the one batch that they are.
///
/// Otherwise each micro-batch updates the running statistics, with the full momentum and a smaller sample. Each
/// micro-batch is still normalised by its own statistics.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, Microbatches};
///
/// let device = Device::flex().autodiff();
/// let [accumulating, whole] = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
/// let batch = Tensor::<2>::random([8, 3], Distribution::Default, &device);
///
/// let micro = Microbatches::of(2);
/// for part in batch.clone().chunk(2, 0) {
///     micro.run(|| accumulating.forward(part));
/// }
/// whole.forward(batch);
///
/// let [found, expected] = [accumulating, whole].map(|norm| norm.running_var.value());
/// assert!(found.all_close(expected, None, None));
/// ```
///
/// The last [`run`](Self::run) of a step updates the running statistics. Step the optimiser after it.
#[derive(Debug)]
pub struct Microbatches {
    each: usize,
    collected: Arc<Collected>,
}

impl Microbatches {
    /// Treats every `count` micro-batches as one batch.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0.
    pub fn of(count: usize) -> Self {
        assert!(count > 0, "a step needs at least one micro-batch, found 0");
        Self {
            each: count,
            collected: Arc::default(),
        }
    }

    /// Calls `step`, the forward pass of one micro-batch and, if you like, its backward pass. After the last one of a
    /// step, updates the running statistics.
    ///
    /// For threads, see [`Mode::run`](super::Mode::run). If `step` panics, the call does not count, but the layers that
    /// it reached keep its statistics.
    pub fn run<T: Send>(&self, step: impl FnOnce() -> T + Send) -> T {
        let output = scope::run(self.collected.clone(), step);
        let mut collected = self.collected.lock();
        collected.runs += 1;
        let is_last = collected.runs == self.each;
        drop(collected);
        if is_last {
            self.finish();
        }
        output
    }

    /// Updates the running statistics by the micro-batches so far, if a step ends early.
    pub fn finish(&self) {
        let Collection { layers, .. } = std::mem::take(&mut *self.collected.lock());
        layers.into_iter().for_each(Layer::update);
    }
}

/// The statistics collected since the last update.
#[derive(Default)]
pub(super) struct Collected(Mutex<Collection>);

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let collection = self.lock();
        f.debug_struct("Collected")
            .field("runs", &collection.runs)
            .field("layers", &collection.layers.len())
            .finish()
    }
}

#[derive(Default)]
struct Collection {
    runs: usize,
    layers: Vec<Layer>,
}

struct Layer {
    ids: [Option<ParamId>; 3],
    statistics: Shared,
    weighting: Weighting,
    batch: BatchStatistics,
}

impl Layer {
    fn update(self) {
        self.statistics.get().update(self.batch, self.weighting);
    }
}

impl Collected {
    /// The collection of the innermost [`Microbatches::run`] around the caller.
    pub(super) fn here() -> Option<Arc<Self>> {
        scope::innermost()
    }

    pub(super) fn add(
        &self,
        statistics: RunningStatistics,
        batch: BatchStatistics,
        weighting: Weighting,
    ) {
        let ids = statistics.ids();
        let mut collection = self.lock();
        let known = collection.layers.iter_mut().find(|layer| layer.ids == ids);
        match known {
            Some(layer) => layer.batch.pool(batch),
            None => collection.layers.push(Layer {
                ids,
                statistics: statistics.share(),
                weighting,
                batch,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Collection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
