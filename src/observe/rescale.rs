//! Rescales the tensors that pass the points of a forward pass.

use std::fmt::Display;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};

use super::layer::view;
use super::name;
use super::point::Point;
use crate::init::Activation;
use crate::scope;

/// What rescales the tensors.
pub(crate) trait Rescale: Send + Sync {
    /// Gets the values at a point, by rows of `[before, units, after]`, and returns factor and shift of each unit:
    /// the tensor goes on as `factor * x + shift`. `None` leaves it as it is.
    fn rescale(
        &self,
        name: &str,
        activation: Option<Activation>,
        values: Values,
    ) -> Option<Vec<[f64; 2]>>;
}

/// The values at a point.
pub(crate) struct Values {
    pub data: TensorData,
    /// `[before, units, after]`: the axes before the axis of units, the units, and the axes after it.
    pub view: [usize; 3],
}

struct Rescaling(Box<dyn Rescale>);

/// Calls `forward`. In it, `rescale` decides what passes on from each point.
pub(crate) fn run<T: Send>(
    rescale: impl Rescale + 'static,
    forward: impl FnOnce() -> T + Send,
) -> T {
    scope::run(Arc::new(Rescaling(Box::new(rescale))), forward)
}

/// Whether a [`run`] is under way.
pub(super) fn is_rescaled() -> bool {
    scope::innermost::<Rescaling>().is_some()
}

/// Rescales the tensor at a point, if a [`run`] is under way.
pub(super) fn rescaled<N: Display, const D: usize>(
    point: &Point<N>,
    tensor: Tensor<D>,
) -> Tensor<D> {
    let Some(rescaling) = scope::innermost::<Rescaling>() else {
        return tensor;
    };
    let name = name::full(&point.name);
    let view = view(&name, tensor.dims(), point.units_axis);
    let values = Values {
        data: tensor.clone().into_data(),
        view,
    };
    let Some(by_unit) = rescaling.0.rescale(&name, point.activation, values) else {
        return tensor;
    };
    let (device, dtype, shape) = (tensor.device(), tensor.dtype(), tensor.shape());
    let column = |index: usize| {
        let values: Vec<f64> = by_unit.iter().map(|pair| pair[index]).collect();
        Tensor::<3>::from_data(TensorData::new(values, [1, view[1], 1]), (&device, dtype))
    };
    let tensor = tensor.reshape(view) * column(0) + column(1);
    tensor.reshape(shape)
}
