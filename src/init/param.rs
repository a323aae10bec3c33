//! Properties of a parameter that Burn does not state. Reading them does not draw the values of a lazy parameter.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};

/// The shape of the values of a parameter.
///
/// The lazy shape of a parameter with a mapper is the shape in its record. Burn has one such layer: `Linear` in `Col`
/// layout, whose record has the axes exchanged.
pub(super) fn shape_of<const D: usize>(param: &Param<Tensor<D>>) -> Vec<usize> {
    let mut shape = param.lazy_shape().to_vec();
    if !param.is_initialized() && has_mapper(param) && D == 2 {
        shape.reverse();
    }
    shape
}

/// Whether the parameter's values are transformed on their way into a record and back.
pub(super) fn has_mapper<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    // Burn shows the mapper nowhere else.
    !format!("{param:?}").contains("load: false")
}

/// Whether the parameter's values are stored in a quantised form.
pub(super) fn is_quantized<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    param.is_initialized() && matches!(param.base().dtype(), DType::QFloat(_))
}

/// Whether the parameter is trained, or would be after `Module::train`.
pub(super) fn is_trained<const D: usize>(param: &Param<Tensor<D>>) -> bool {
    // A parameter without autodiff does not show it.
    if param.is_initialized() {
        return param.clone().train().is_require_grad();
    }
    // Nor does a lazy one, but one that is loaded in its place.
    let probe = Tensor::zeros([1; D], &param.lazy_device());
    let loaded = param.clone().transform_for_load(probe, param.id);
    loaded.train().is_require_grad()
}
