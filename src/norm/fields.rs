//! Traversal of a batch norm module's fields.

use burn::module::{Module, ModuleMapper, ModuleVisitor};

pub(super) use crate::norms::CONTAINER;

/// The names of all fields that a traversal may meet in a batch norm, of this crate or Burn's.
pub(super) const FIELDS: [&str; 8] = [
    "gamma",
    "beta",
    "training",
    "running_mean",
    "running_var",
    "running_weight",
    "momentum",
    "epsilon",
];

/// Passes a field of the module to a visitor.
pub(super) fn visit_field<T: Module, V: ModuleVisitor>(name: &str, field: &T, visitor: &mut V) {
    visitor.enter_module(name, CONTAINER);
    field.visit(visitor);
    visitor.exit_module(name, CONTAINER);
}

/// Passes a field of the module through a mapper.
pub(super) fn map_field<T: Module, M: ModuleMapper>(name: &str, field: T, mapper: &mut M) -> T {
    mapper.enter_module(name, CONTAINER);
    let field = Module::map(field, mapper);
    mapper.exit_module(name, CONTAINER);
    field
}
