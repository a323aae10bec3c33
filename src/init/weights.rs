//! Finds and scales the weights of a model's layers, for calibration.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::layer::{Layer, LayerKind, Role};
use super::param::is_trained;
use super::place::Place;

/// A parameter of a model, and its role.
pub(crate) struct Found {
    /// The path of the parameter, joined by dots.
    pub path: String,
    pub is_weight: bool,
    pub is_bias: bool,
    pub is_norm: bool,
    pub is_trained: bool,
    /// The number of output units, of a weight.
    pub units: usize,
}

/// Lists the parameters of a model, in the order of its fields.
pub(crate) fn parameters<M: Module>(model: &M) -> Vec<Found> {
    struct List<'a> {
        text: &'a str,
        place: Place,
        found: Vec<Found>,
    }

    impl ModuleVisitor for List<'_> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.place.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.place.exit();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (layer, role) = self.place.layer(param, self.text);
            let units = match (role, param.dims().as_slice()) {
                (Role::Weight, shape @ &[first, second, ..]) if first > 0 && second > 0 => {
                    layer.unit(shape, first - 1, second - 1) + 1
                }
                _ => 0,
            };
            self.found.push(Found {
                path: self.place.path(),
                is_weight: role == Role::Weight,
                is_bias: role == Role::Bias,
                is_norm: layer.kind == LayerKind::Norm,
                is_trained: is_trained(param),
                units,
            });
        }
    }

    let text = format!("{model:?}");
    let mut list = List {
        text: &text,
        place: Place::default(),
        found: Vec::new(),
    };
    model.visit(&mut list);
    list.found
}

/// Factor and shift of each output unit of a layer. A single pair holds for all units.
pub(crate) type ByUnit = Vec<[f64; 2]>;

/// Multiplies the weights and biases at these paths by the factors of their units, and adds the shifts to the biases.
pub(crate) fn scale<M: Module>(model: M, by_unit: impl Fn(&str) -> Option<ByUnit>) -> M {
    struct Scale<'a, F> {
        text: &'a str,
        place: Place,
        by_unit: F,
    }

    impl<F: Fn(&str) -> Option<ByUnit>> ModuleMapper for Scale<'_, F> {
        fn enter_module(&mut self, name: &str, container_type: &str) {
            self.place.enter(name, container_type);
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.place.exit();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Some(by_unit) = (self.by_unit)(&self.place.path()) else {
                return param;
            };
            let (layer, role) = self.place.layer(&param, self.text);
            param.map(|value| {
                let trains = value.is_require_grad();
                let value = value.set_require_grad(false);
                let factors = spread(&by_unit, 0, &layer, role, &value);
                let value = match role {
                    Role::Bias => {
                        value.clone() * factors + spread(&by_unit, 1, &layer, role, &value)
                    }
                    _ => value * factors,
                };
                value.set_require_grad(trains)
            })
        }
    }

    let text = format!("{model:?}");
    model.map(&mut Scale {
        text: &text,
        place: Place::default(),
        by_unit,
    })
}

/// One number per unit (factor or shift, by `index`), in a shape that broadcasts to that of the parameter.
fn spread<const D: usize>(
    by_unit: &ByUnit,
    index: usize,
    layer: &Layer,
    role: Role,
    value: &Tensor<D>,
) -> Tensor<D> {
    let shape = value.dims();
    let mut broadcast = [1; D];
    let numbers: Vec<f64> = match (&by_unit[..], role) {
        ([one], _) => vec![one[index]],
        (_, Role::Bias) => {
            broadcast[0] = shape[0];
            by_unit.iter().map(|unit| unit[index]).collect()
        }
        _ => {
            broadcast[..2].copy_from_slice(&shape[..2]);
            let unit = |i, j| layer.unit(&shape, i, j);
            (0..shape[0])
                .flat_map(|i| (0..shape[1]).map(move |j| by_unit[unit(i, j)][index]))
                .collect()
        }
    };
    let data = TensorData::new(numbers, broadcast);
    Tensor::from_data(data, (&value.device(), value.dtype()))
}
