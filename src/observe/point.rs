use std::fmt::Display;

use burn::tensor::Tensor;

use super::observer;
use crate::init::Activation;

/// Watches `tensor` under this name if an [`Observer`](super::Observer) runs around the call, and gives it back as it
/// is.
///
/// The short form of [`Point::new`]`(name).`[`watch`](Point::watch)`(tensor)`.
pub fn watch<const D: usize>(name: impl Display, tensor: Tensor<D>) -> Tensor<D> {
    Point::new(name).watch(tensor)
}

/// A place in a forward pass, and how to read the tensor that passes there.
///
/// The name is only printed when somebody watches: `format_args!("hidden.{i}")` costs nothing otherwise.
///
/// ```
/// # use burn::tensor::{Device, Tensor};
/// use burn_kindling::init::Activation;
/// use burn_kindling::observe::{Observer, Point};
///
/// # let x = Tensor::<2>::from_floats([[0.5, -3.0], [0.1, -4.0]], &Device::flex());
/// let (_, seen) = Observer::new().run(|| Point::new("hidden").after(Activation::Tanh).watch(x.tanh()));
/// let report = seen.report();
///
/// assert_eq!(report.layers[0].saturated, Some(0.5));
/// assert_eq!(report.layers[0].dead, 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Point<N> {
    pub(super) name: N,
    pub(super) activation: Option<Activation>,
    pub(super) units_axis: usize,
}

impl<N: Display> Point<N> {
    /// A point of this name, after no activation, with its units along axis 1.
    pub fn new(name: N) -> Self {
        Self {
            name,
            activation: None,
            units_axis: 1,
        }
    }

    /// Says that the tensor is the output of this activation, which decides what counts as
    /// [saturated](super::Layer::saturated) and [dead](super::Layer::dead).
    pub fn after(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Says which axis of the tensor counts the units. By default it is axis 1, as in `[batch, units]` and
    /// `[batch, channels, height, width]`; for `[batch, sequence, features]` say 2.
    pub fn units_along(mut self, axis: usize) -> Self {
        self.units_axis = axis;
        self
    }

    /// Watches `tensor` if an [`Observer`](super::Observer) runs around the call, and gives it back as it is: the same
    /// values, and the same gradients through it. (Only where a tensor is used three times or more may autodiff add
    /// up the gradients in another order, and round them differently.)
    ///
    /// A tensor of one axis is taken for one unit. An observer watches the calls on its own thread; a point that is
    /// passed several times makes a row each time.
    ///
    /// # Panics
    ///
    /// Panics when watched if the tensor has no such axis of units.
    pub fn watch<const D: usize>(self, tensor: Tensor<D>) -> Tensor<D> {
        observer::record(self, tensor)
    }
}
