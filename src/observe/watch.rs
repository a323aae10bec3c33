//! The recording of a forward pass: every point that is passed on this thread while an observer watches.

use std::cell::RefCell;
use std::fmt::Display;

use burn::tensor::Tensor;

use super::layer::LayerOnDevice;
use super::point::Point;
use super::summary::Settings;

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

struct Recording {
    settings: Settings,
    layers: Vec<LayerOnDevice>,
}

/// Calls `forward` and records the points that it passes. An inner recording takes precedence over an outer one.
pub(super) fn record<T>(
    settings: Settings,
    forward: impl FnOnce() -> T,
) -> (T, Vec<LayerOnDevice>) {
    /// Restores the outer recording, also if `forward` panics.
    struct Restore(Option<Recording>);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0.take());
        }
    }
    let _restore = Restore(RECORDING.replace(Some(Recording {
        settings,
        layers: Vec::new(),
    })));
    let output = forward();
    let recording = RECORDING.take().expect("the recording of this call");
    (output, recording.layers)
}

impl<N: Display> Point<N> {
    /// Watches `tensor`, of any shape, while an [`Observer`](super::Observer) runs on this thread. Returns the tensor
    /// unchanged, with the same gradients.
    ///
    /// A tensor with a single axis counts as one unit. A point that is passed several times makes a row each time.
    ///
    /// Autodiff may add up the gradients of a tensor that is used three times or more in another order, and so round
    /// them differently.
    ///
    /// # Panics
    ///
    /// Panics while watched if the tensor lacks the axis of units ([`units_along`](Self::units_along)).
    pub fn watch<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        // Not borrowed while the device computes.
        let settings = RECORDING.with_borrow(|it| it.as_ref().map(|it| it.settings.clone()));
        let Some(settings) = settings else {
            return tensor;
        };
        let (tensor, layer) = LayerOnDevice::new(self, tensor, &settings);
        RECORDING.with_borrow_mut(|it| it.as_mut().map(|it| it.layers.push(layer)));
        tensor
    }
}

/// Watches `tensor` under this name; short for [`Point::new(name).watch(tensor)`](Point::watch).
///
/// For a tensor that is the output of an activation, or has its units along another axis than 1, use [`Point`].
pub fn watch<const D: usize>(name: impl Display, tensor: Tensor<D>) -> Tensor<D> {
    Point::new(name).watch(tensor)
}
