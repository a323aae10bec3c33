//! A named place in a forward pass.

use crate::init::Activation;

/// A named place in a forward pass, and how to read the tensor there.
///
/// The names of the blocks around it come first: see [`inside`](super::inside()).
///
/// The name is formatted only while an observer watches: otherwise `format_args!("hidden.{i}")` costs nothing.
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

impl<N> Point<N> {
    /// A point without an activation, whose tensor has its units along axis 1.
    pub fn new(name: N) -> Self {
        Self {
            name,
            activation: None,
            units_axis: 1,
        }
    }

    /// Declares the tensor to be the output of `activation`. This decides which values count as
    /// [saturated](super::Layer::saturated) and which units as [dead](super::Layer::dead).
    pub fn after(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Sets the axis of the units. The default, 1, suits `[batch, units]` and `[batch, channels, height, width]`;
    /// `[batch, sequence, features]` needs 2.
    pub fn units_along(mut self, axis: usize) -> Self {
        self.units_axis = axis;
        self
    }
}
