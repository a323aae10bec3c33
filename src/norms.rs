//! Where the batch norm layers of a model are.

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamId};

/// The container name of a batch norm, of this crate or Burn's, in traversals and record adapters.
pub(crate) const CONTAINER: &str = "Struct:BatchNorm";

/// A batch norm layer of a model.
pub(crate) struct Norm {
    /// The names of the fields that lead to it, joined by dots.
    pub path: String,
    /// The id of its `training` flag, which every batch norm has.
    pub flag: ParamId,
}

/// The batch norm layers of a model, of this crate or Burn's, in the order of its fields.
pub(crate) fn norms_of<M: Module>(model: &M) -> Vec<Norm> {
    #[derive(Default)]
    struct Norms {
        place: Vec<String>,
        containers: Vec<bool>,
        found: Vec<Norm>,
    }

    impl ModuleVisitor for Norms {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.place.push(name.to_owned());
            self.containers.push(container == CONTAINER);
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.place.pop();
            self.containers.pop();
        }

        fn visit_flag(&mut self, flag: &Param<Flag>) {
            if let ([path @ .., name], Some(true)) = (&self.place[..], self.containers.last())
                && name == "training"
            {
                self.found.push(Norm {
                    path: path.join("."),
                    flag: flag.id,
                });
            }
        }
    }

    let mut norms = Norms::default();
    model.visit(&mut norms);
    norms.found
}
