//! Records a forward pass: every point that it passes while an observer watches.

use std::collections::HashMap;
use std::fmt::Display;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::ParamId;
use burn::tensor::Tensor;

use super::layer::LayerOnDevice;
use super::name;
use super::point::Point;
use super::rescale::rescaled;
use super::summary::Settings;
use crate::init::Activation;
use crate::scope;

/// The names of batch norm layers, by the ids of their flags.
pub(super) type Norms = HashMap<ParamId, String>;

struct Recording {
    settings: Settings,
    norms: Arc<Norms>,
    layers: Mutex<Vec<LayerOnDevice>>,
}

impl Recording {
    /// Records the tensor at a point, and returns it.
    fn add<const D: usize>(&self, point: Point<String>, tensor: Tensor<D>) -> Tensor<D> {
        let (tensor, layer) = LayerOnDevice::new(point, tensor, &self.settings);
        self.with_layers(|layers| layers.push(layer));
        tensor
    }

    /// Calls `f` on the layers recorded so far. Must not wait for a device: no lock is held while one computes.
    fn with_layers<T>(&self, f: impl FnOnce(&mut Vec<LayerOnDevice>) -> T) -> T {
        f(&mut self.layers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Calls `forward` and records the points and norms that it passes. An inner recording takes precedence over an outer
/// one.
pub(super) fn record<T: Send>(
    settings: Settings,
    norms: Arc<Norms>,
    forward: impl FnOnce() -> T + Send,
) -> (T, Vec<LayerOnDevice>) {
    let recording = Arc::new(Recording {
        settings,
        norms,
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
        let point = Point {
            name: name::full(self.name),
            activation: self.activation,
            units_axis: self.units_axis,
        };
        recording.add(point, tensor)
    }
}

/// Watches the output of a batch norm layer, if an observer runs that knows the layer. Returns the output unchanged.
pub(crate) fn watch_norm<const D: usize>(
    flag: ParamId,
    activation: Option<Activation>,
    units_axis: usize,
    output: Tensor<D>,
) -> Tensor<D> {
    let recording = scope::innermost::<Recording>();
    let known = recording
        .as_ref()
        .and_then(|it| Some((it, it.norms.get(&flag)?)));
    let Some((recording, name)) = known else {
        return output;
    };
    let point = Point {
        name: name.clone(),
        activation,
        units_axis,
    };
    recording.add(point, output)
}

/// Watches `tensor` under this name; short for [`Point::new(name).watch(tensor)`](Point::watch).
///
/// Use [`Point`] if the tensor is the output of an activation or has its units along another axis than 1.
pub fn watch<const D: usize>(name: impl Display, tensor: Tensor<D>) -> Tensor<D> {
    Point::new(name).watch(tensor)
}
