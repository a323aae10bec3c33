//! Batch renormalisation.

use std::sync::Arc;

use crate::scope;

/// Batch renormalisation (Ioffe 2017, [arXiv:1702.03275](https://arxiv.org/abs/1702.03275)), for batches that are small
/// or not a fair sample.
///
/// In training, a layer corrects its batch's statistics towards the running ones:
///
/// ```text
/// xhat = (x - batch mean) / batch deviation * r + d
/// r = batch deviation / running deviation          between 1 / max_scale and max_scale
/// d = (batch mean - running mean) / running deviation   between -max_shift and max_shift
/// ```
///
/// Within the limits, the output is the one that inference gives for the same values. Gradients flow through the
/// batch's statistics, but not through `r` and `d`. With a `max_scale` of 1 and a `max_shift` of 0 this is batch norm.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, Renormalization};
///
/// let device = Device::flex().autodiff();
/// let norm = BatchNormConfig::new(3).with_momentum(0.01).init(&device);
/// for step in 0..10 {
///     let batch = Tensor::<2>::random([4, 3], Distribution::Default, &device);
///     Renormalization::at(step).run(|| norm.forward(batch));
/// }
/// ```
///
/// The deviations are `sqrt(variance + epsilon)`. The running statistics are those before the batch; they must move
/// slowly (the paper takes a momentum of 0.01) but not too slowly for the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Renormalization {
    /// The largest factor `r`, and the inverse of the smallest. At least 1.
    pub max_scale: f64,
    /// The largest shift `d`, in running deviations. At least 0.
    pub max_shift: f64,
}

impl Renormalization {
    /// # Panics
    ///
    /// Panics if `max_scale` is below 1, `max_shift` is below 0, or one of them is NaN.
    pub fn new(max_scale: f64, max_shift: f64) -> Self {
        assert!(
            max_scale >= 1.0 && max_shift >= 0.0,
            "batch renormalisation takes a max_scale of at least 1 and a max_shift of at least 0, found {max_scale} and \
             {max_shift}"
        );
        Self {
            max_scale,
            max_shift,
        }
    }

    /// The paper's limits after `step` training steps: those of batch norm for 5000 steps, so that the running
    /// statistics settle; then `max_scale` rises to 3 at step 40,000, and `max_shift` to 5 at step 25,000.
    pub fn at(step: usize) -> Self {
        let between = |from: f64, to: f64| ((step as f64 - from) / (to - from)).clamp(0.0, 1.0);
        Self::new(1.0 + 2.0 * between(5e3, 40e3), 5.0 * between(5e3, 25e3))
    }

    /// Calls `step`, in which every batch norm layer that normalises by its batch's statistics corrects them within
    /// these limits.
    ///
    /// A layer without running statistics panics there. For threads, see [`Mode::run`](super::Mode::run).
    pub fn run<T: Send>(self, step: impl FnOnce() -> T + Send) -> T {
        scope::run(Arc::new(self), step)
    }

    /// The limits of the innermost [`run`](Self::run) around the caller.
    pub(super) fn requested() -> Option<Self> {
        scope::innermost().map(|limits: Arc<Self>| *limits)
    }
}
