//! Freezing the batch norm layers of a model.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use super::fields::{CONTAINER, FIELDS};

/// Freezes every batch norm layer of the model, of this crate or Burn's.
///
/// Their running statistics normalise and stay as they are; gamma and beta do not train. The rest of the model does.
/// For fine-tuning. Clones of the model are not affected.
///
/// A layer is recognised by its type's name and its fields. A `BatchNorm` of your own with other fields is left alone.
pub fn freeze<M: Module>(model: M) -> M {
    set_training(model, false, Some(false))
}

/// Freezes the running statistics of every batch norm layer of the model, of this crate or Burn's.
///
/// They normalise and stay as they are. Gamma and beta train as before. Clones of the model are not affected.
pub fn freeze_statistics<M: Module>(model: M) -> M {
    set_training(model, false, None)
}

/// Undoes [`freeze`] and [`freeze_statistics`]: every batch norm layer trains, gamma and beta included.
pub fn unfreeze<M: Module>(model: M) -> M {
    set_training(model, true, Some(true))
}

/// Freezes the layers whose gamma, beta and flag these are.
pub(super) fn freeze_layers<M: Module>(model: M, layers: HashSet<ParamId>) -> M {
    model.map(&mut SetTraining {
        statistics: false,
        parameters: Some(false),
        layers,
    })
}

/// Sets whether the running statistics and, unless `None`, gamma and beta of every batch norm layer train.
fn set_training<M: Module>(model: M, statistics: bool, parameters: Option<bool>) -> M {
    let mut survey = Survey::default();
    model.visit(&mut survey);
    model.map(&mut SetTraining {
        statistics,
        parameters,
        layers: survey.batch_norms(),
    })
}

/// The structs of a model that are called `BatchNorm`.
#[derive(Default)]
struct Survey {
    /// The names of the fields around the value, the innermost last.
    place: Vec<String>,
    /// The fields of each struct, and the ids of its gamma, beta and flag, by its place.
    structs: BTreeMap<Vec<String>, (BTreeSet<String>, Vec<ParamId>)>,
}

impl Survey {
    fn found(&mut self, id: ParamId) {
        if let [place @ .., name] = &self.place[..]
            && ["gamma", "beta", "training"].contains(&&**name)
            && let Some((_, ids)) = self.structs.get_mut(place)
        {
            ids.push(id);
        }
    }

    /// The gammas, betas and flags of the layers.
    fn batch_norms(self) -> HashSet<ParamId> {
        let structs = self.structs.into_values();
        let layers = structs.filter(|(fields, _)| {
            fields.contains("training") && fields.iter().all(|field| FIELDS.contains(&&**field))
        });
        layers.flat_map(|(_, ids)| ids).collect()
    }
}

impl ModuleVisitor for Survey {
    fn enter_module(&mut self, name: &str, container: &str) {
        if container == CONTAINER {
            let (fields, _) = self.structs.entry(self.place.clone()).or_default();
            fields.insert(name.to_owned());
        }
        self.place.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found(param.id);
    }

    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.found(flag.id);
    }
}

/// Sets what trains in the batch norm layers of a model.
struct SetTraining {
    statistics: bool,
    /// Whether gamma and beta require gradients; `None` leaves them.
    parameters: Option<bool>,
    /// The parameters of the layers.
    layers: HashSet<ParamId>,
}

impl ModuleMapper for SetTraining {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.parameters {
            // `map` gives the parameter a state of its own: clones share that of one which is not initialised yet.
            Some(trains) if self.layers.contains(&param.id) => {
                param.map(|value| value).set_require_grad(trains)
            }
            _ => param,
        }
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        match self.layers.contains(&flag.id) {
            true => flag.with_value(self.statistics),
            false => flag,
        }
    }
}
