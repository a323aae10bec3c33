//! Which statistics normalise, and whether the batch updates the running statistics.

use std::sync::Arc;

use crate::scope;

/// Which statistics a batch norm layer uses in a forward pass, and whether it updates its running statistics.
///
/// By default a layer follows Burn's rule: [`Training`](Mode::Training) for an input on an autodiff device, unless the
/// layer is frozen; otherwise [`Inference`](Mode::Inference). [`run`](Mode::run) overrides the rule for every batch
/// norm layer that a closure calls.
///
/// A mode does not decide whether gamma and beta train. They are parameters: they train when they require gradients and
/// an optimizer steps.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, Mode};
///
/// let device = Device::flex();
/// let norm = BatchNormConfig::new(3).init(&device);
/// let shifted = Tensor::<2>::random([64, 3], Distribution::Normal(5.0, 2.0), &device);
///
/// let adapted = Mode::TestTimeAdaptation.run(|| norm.forward(shifted.clone()));
/// assert!(adapted.mean().into_scalar::<f32>().abs() < 1e-4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Normalises with the batch's statistics, and updates the running statistics with them.
    Training,
    /// Normalises with the running statistics. A layer that has none uses the batch's statistics.
    Inference,
    /// Normalises with the batch's statistics. The running statistics stay as they are.
    TestTimeAdaptation,
}

impl Mode {
    /// Calls `forward` with all its batch norm layers in this mode, on any device, frozen or not.
    ///
    /// It applies to layers called on the thread of `forward`, until `forward` returns or panics. Other work is not
    /// affected. An inner `run` takes precedence over an outer one.
    ///
    /// # Threads
    ///
    /// If `forward` hands work to other threads, call `run` inside that work.
    ///
    /// On a rayon worker, `forward` runs on a new thread, where rayon uses one thread; that costs up to 1 ms. The
    /// worker itself would run unrelated jobs while it waits, and those must not be affected.
    pub fn run<T: Send>(self, forward: impl FnOnce() -> T + Send) -> T {
        scope::run(Arc::new(self), forward)
    }

    /// The mode of the innermost [`run`](Mode::run) around the caller.
    pub(super) fn requested() -> Option<Self> {
        scope::innermost().map(|mode: Arc<Self>| *mode)
    }
}
