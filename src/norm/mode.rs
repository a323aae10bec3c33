//! Which statistics normalise, and whether the running ones are updated.

use std::cell::Cell;

use burn::module::{Flag, Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use super::batch_norm::CONTAINER;

/// Which statistics normalise a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Those of the batch itself.
    Batch,
    /// The running ones. A layer that keeps none normalises by the batch's.
    Running,
}

/// What a batch norm layer does with statistics in a forward pass.
///
/// Left alone, a layer follows Burn's rule: [`TRAINING`](Mode::TRAINING) for an input on an autodiff device, unless
/// the layer is frozen; [`INFERENCE`](Mode::INFERENCE) otherwise. [`run`](Mode::run) overrides the rule for every
/// batch norm layer that a closure calls, [`BatchNorm::forward_in`](super::BatchNorm::forward_in) for one call.
///
/// Whether gamma and beta train is no part of it: they are parameters, and train when they require gradients and an
/// optimizer steps.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, Mode};
///
/// let device = Device::flex();
/// let norm = BatchNormConfig::new(3).init(&device);
/// let shifted = Tensor::<2>::random([64, 3], Distribution::Normal(5.0, 2.0), &device);
///
/// let adapted = Mode::TEST_TIME_ADAPTATION.run(|| norm.forward(shifted.clone()));
/// assert!(adapted.mean().into_scalar::<f32>().abs() < 1e-4);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Which statistics normalise.
    pub normalise_by: Statistics,
    /// Whether the batch's statistics enter the running ones. If the running ones also normalise, they do so with
    /// this batch in them.
    pub update: bool,
}

thread_local! {
    static OVERRIDE: Cell<Option<Mode>> = const { Cell::new(None) };
}

impl Mode {
    /// The batch's statistics normalise and enter the running ones.
    pub const TRAINING: Self = Self {
        normalise_by: Statistics::Batch,
        update: true,
    };
    /// The running statistics normalise and stay as they are.
    pub const INFERENCE: Self = Self {
        normalise_by: Statistics::Running,
        update: false,
    };
    /// The batch's statistics normalise, and the running ones stay as they are.
    pub const TEST_TIME_ADAPTATION: Self = Self {
        normalise_by: Statistics::Batch,
        update: false,
    };

    /// Calls `forward` with every batch norm layer that it calls in this mode, on any device, frozen or not.
    ///
    /// It holds for layers called on this thread, until `forward` returns or panics; an inner `run` takes precedence
    /// over an outer one.
    pub fn run<T>(self, forward: impl FnOnce() -> T) -> T {
        struct Restore(Option<Mode>);
        impl Drop for Restore {
            fn drop(&mut self) {
                OVERRIDE.set(self.0);
            }
        }
        let _restore = Restore(OVERRIDE.replace(Some(self)));
        forward()
    }

    /// The mode that the innermost [`run`](Mode::run) on this thread asks for.
    pub(super) fn requested() -> Option<Self> {
        OVERRIDE.get()
    }
}

/// Freezes every batch norm layer of the model, of this crate or Burn's: the running statistics normalise and stay,
/// and gamma and beta are not trained. For fine-tuning; the rest of the model trains on.
pub fn freeze<M: Module>(model: M) -> M {
    model.map(&mut SetTraining {
        statistics: false,
        parameters: Some(false),
        containers: Vec::new(),
    })
}

/// Freezes the running statistics of every batch norm layer of the model, of this crate or Burn's: they normalise and
/// stay. Gamma and beta train as they did.
pub fn freeze_statistics<M: Module>(model: M) -> M {
    model.map(&mut SetTraining {
        statistics: false,
        parameters: None,
        containers: Vec::new(),
    })
}

/// Undoes [`freeze`] and [`freeze_statistics`]: all of every batch norm layer trains.
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
            Some(trains) if self.is_in_batch_norm() => param.set_require_grad(trains),
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
