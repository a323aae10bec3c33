//! Freezing the batch norm layers of a model.

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use super::fields::CONTAINER;

/// Freezes every batch norm layer of the model, of this crate or Burn's.
///
/// Their running statistics normalise and stay as they are; gamma and beta do not train. The rest of the model does.
/// For fine-tuning. Clones of the model are not affected.
pub fn freeze<M: Module>(model: M) -> M {
    model.map(&mut SetTraining {
        statistics: false,
        parameters: Some(false),
        containers: Vec::new(),
    })
}

/// Freezes the running statistics of every batch norm layer of the model, of this crate or Burn's.
///
/// They normalise and stay as they are. Gamma and beta train as before. Clones of the model are not affected.
pub fn freeze_statistics<M: Module>(model: M) -> M {
    model.map(&mut SetTraining {
        statistics: false,
        parameters: None,
        containers: Vec::new(),
    })
}

/// Undoes [`freeze`] and [`freeze_statistics`]: every batch norm layer trains, gamma and beta included.
pub fn unfreeze<M: Module>(model: M) -> M {
    model.map(&mut SetTraining {
        statistics: true,
        parameters: Some(true),
        containers: Vec::new(),
    })
}

/// Sets what trains in the batch norm layers of a model.
struct SetTraining {
    statistics: bool,
    /// Whether gamma and beta require gradients; `None` leaves them.
    parameters: Option<bool>,
    /// The types of the modules around the value, the innermost last.
    containers: Vec<String>,
}

impl SetTraining {
    fn is_in_batch_norm(&self) -> bool {
        self.containers
            .last()
            .is_some_and(|container| container == CONTAINER)
    }
}

impl ModuleMapper for SetTraining {
    fn enter_module(&mut self, _name: &str, container: &str) {
        self.containers.push(container.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.parameters {
            // `map` gives the parameter a state of its own: clones share that of one which is not initialised yet.
            Some(trains) if self.is_in_batch_norm() => {
                param.map(|value| value).set_require_grad(trains)
            }
            _ => param,
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.is_in_batch_norm() {
            true => flag.with_value(self.statistics),
            false => flag,
        }
    }
}
