//! Records a forward pass: every point that it passes while an observer watches.

use std::fmt::Display;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;

use super::layer::LayerOnDevice;
use super::point::Point;
use super::rescale::rescaled;
use super::summary::Settings;
use crate::scope;

struct Recording {
    settings: Settings,
    layers: Mutex<Vec<LayerOnDevice>>,
}

impl Recording {
    /// Calls `f` on the layers recorded so far. Must not wait for a device: no lock is held while one computes.
    fn with_layers<T>(&self, f: impl FnOnce(&mut Vec<LayerOnDevice>) -> T) -> T {
        f(&mut self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Calls `forward` and records the points that it passes. An inner recording takes precedence over an outer one.
pub(super) fn record<T: Send>(
    settings: Settings,
    forward: impl FnOnce() -> T + Send,
) -> (T, Vec<LayerOnDevice>) {
    let recording = Arc::new(Recording {
        settings,
        layers: Mutex::default(),
    });
    let output = scope::run(recording.clone(), forward);
    (output, recording.with_layers(mem::take))
}

/// Whether an observer watches the caller.
pub(super) fn is_observed() -> bool {
    scope::innermost::<Recording>().is_some()
}

impl<N: Display> Point<N> {
    /// Watches `tensor`, of any shape, while an [`Observer`](super::Observer) runs on this thread. Returns the tensor
    /// unchanged, with the same gradients.
    ///
    /// A tensor with a single axis counts as one unit. A point that is passed several times makes a row each time.
    ///
    /// If a tensor is used three times or more, watching it may change the order in which autodiff adds up its
    /// gradients, and so their rounding.
    ///
    /// # Panics
    ///
    /// Panics if an observer watches and the tensor lacks the axis of units ([`units_along`](Self::units_along)).
    pub fn watch<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        let tensor = rescaled(&self, tensor);
        let Some(recording) = scope::innermost::<Recording>() else {
            return tensor;
        };
        let (tensor, layer) = LayerOnDevice::new(self, tensor, &recording.settings);
        recording.with_layers(|layers| layers.push(layer));
        tensor
    }
}

/// Watches `tensor` under this name; short for [`Point::new(name).watch(tensor)`](Point::watch).
///
/// Use [`Point`] if the tensor is the output of an activation or has its units along another axis than 1.
pub fn watch<const D: usize>(name: impl Display, tensor: Tensor<D>) -> Tensor<D> {
    Point::new(name).watch(tensor)
}
