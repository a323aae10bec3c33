//! Ghost batches: statistics over parts of the batch.

use std::ops::Range;
use std::sync::Arc;

use crate::scope;

/// Ghost batch norm: each part of a batch is normalised by its own statistics (Hoffer, Hubara & Soudry 2017,
/// [arXiv:1705.08741](https://arxiv.org/abs/1705.08741)).
///
/// Large batches train faster but generalise worse, in part because their statistics are less noisy. Ghost batches keep
/// the noise of small ones. The result is that of a separate call for each part: output, gradients, and the running
/// statistics, which each part updates in turn.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, GhostBatches};
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(3).init(&device);
/// let batch = Tensor::<2>::random([256, 3], Distribution::Default, &device);
/// let output = GhostBatches::of(32).run(|| norm.forward(batch));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GhostBatches {
    rows: usize,
}

impl GhostBatches {
    /// Parts of `rows` rows each. The remaining rows are a smaller part or, if they have only one value per channel,
    /// belong to the part before them.
    ///
    /// # Panics
    ///
    /// Panics if `rows` is 0.
    pub fn of(rows: usize) -> Self {
        assert!(rows > 0, "a ghost batch needs at least one row, found 0");
        Self { rows }
    }

    /// Calls `step`, in which every batch norm layer that normalises by its batch's statistics does so part by part.
    ///
    /// Within a [`SyncGroup`](super::SyncGroup), a layer panics: the parts of one worker's batch are not those of
    /// another's. For threads, see [`Mode::run`](super::Mode::run).
    pub fn run<T: Send>(self, step: impl FnOnce() -> T + Send) -> T {
        scope::run(Arc::new(self), step)
    }

    /// Whether the caller is within a [`run`](Self::run).
    pub(super) fn are_asked_for() -> bool {
        scope::innermost::<Self>().is_some()
    }

    /// The parts of a batch of this many rows, with `each` values per channel in a row; at least one.
    pub(super) fn parts(rows: usize, each: usize) -> Vec<Range<usize>> {
        let size = match scope::innermost().map(|ghost: Arc<Self>| *ghost) {
            None => rows.max(1),
            Some(ghost) => ghost.rows,
        };
        let mut parts: Vec<_> = (0..rows.max(1))
            .step_by(size)
            .map(|start| start..(start + size).min(rows))
            .collect();
        if let [.., before, last] = &mut parts[..]
            && last.len() * each < 2
        {
            before.end = last.end;
            parts.pop();
        }
        parts
    }
}
