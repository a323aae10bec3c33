//! Names of a module's parameters in each layout.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};

use super::contents::Layout;

/// Layers whose gamma and beta PyTorch calls weight and bias.
const NORMS: [&str; 5] = [
    "Struct:BatchNorm",
    "Struct:LayerNorm",
    "Struct:GroupNorm",
    "Struct:InstanceNorm",
    "Struct:RmsNorm",
];
/// The parameters of a norm.
const NORM_FIELDS: [&str; 5] = [
    "gamma",
    "beta",
    "running_mean",
    "running_var",
    "running_weight",
];

/// The current place of a traversal: the fields on the path, each with its container (`Struct:Linear`, `Vec` or
/// `Enum:Norm`).
#[derive(Default)]
pub(super) struct Place(Vec<(String, String)>);

impl Place {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.into(), container.into()));
    }

    pub(super) fn exit(&mut self) {
        self.0.pop();
    }

    /// The name of the current parameter in Burn's layout.
    pub(super) fn path(&self) -> String {
        path(&self.0)
    }

    /// Panics because the module has a parameter that does not hold floating-point numbers.
    pub(super) fn only_floats(&self) -> ! {
        let name = self.path();
        panic!("a record holds only floating-point parameters, but {name} has another type.")
    }
}

fn path(fields: &[(String, String)]) -> String {
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    names.join(".")
}

/// The name of a parameter, and whether it is the weight of a `Linear` layer, which PyTorch transposes.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) is_linear: bool,
}

/// The names of a module's parameters, by their names in Burn's layout.
///
/// # Panics
///
/// If two parameters have the same name.
pub(super) fn names<M: Module>(module: &M, layout: Layout) -> BTreeMap<String, Name> {
    let mut survey = Survey::default();
    module.visit(&mut survey);
    let mut names = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for struct_fields in survey.structs.values() {
        for field in struct_fields {
            let path = path(&field.place);
            let name = match layout {
                Layout::Burn => Name {
                    name: path.clone(),
                    is_linear: false,
                },
                Layout::PyTorch => field.pytorch_name(struct_fields),
            };
            if let Some(other) = owners.insert(name.name.clone(), path.clone()) {
                let name = name.name;
                panic!(
                    "{other} and {path} have the same name in a record, {name}. Rename a field, or use Layout::Burn."
                );
            }
            names.insert(path, name);
        }
    }
    names
}

/// A parameter.
struct Field {
    place: Vec<(String, String)>,
    shape: Vec<usize>,
}

impl Field {
    fn field(&self) -> &str {
        self.place.last().map_or("", |(name, _)| name)
    }

    fn is_in(&self, container: &str) -> bool {
        self.place.last().is_some_and(|(_, it)| it == container)
    }

    /// `siblings` are the parameters of the same struct, this one included.
    fn pytorch_name(&self, siblings: &[Field]) -> Name {
        let is_norm = NORMS.iter().any(|norm| self.is_in(norm))
            && siblings
                .iter()
                .all(|sibling| NORM_FIELDS.contains(&sibling.field()));
        let mut names: Vec<&str> = self
            .place
            .iter()
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        if let (true, Some(last)) = (is_norm, names.last_mut()) {
            *last = match *last {
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
        }
        let outputs = self.shape.last().copied();
        let fits = |sibling: &Field| match sibling.field() {
            "weight" => sibling.shape.len() == 2,
            "bias" => sibling.shape.len() == 1 && sibling.shape.last().copied() == outputs,
            _ => false,
        };
        Name {
            name: names.join("."),
            is_linear: self.field() == "weight"
                && self.is_in("Struct:Linear")
                && siblings.iter().all(fits),
        }
    }
}

/// Collects the parameters of a module, grouped by struct, without initialising them.
#[derive(Default)]
struct Survey {
    place: Place,
    structs: BTreeMap<String, Vec<Field>>,
}

impl ModuleVisitor for Survey {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let place = self.place.0.clone();
        let parent = path(&place[..place.len().saturating_sub(1)]);
        let shape = match param.is_initialized() {
            true => param.val().dims().to_vec(),
            false => param.lazy_shape().to_vec(),
        };
        let fields = self.structs.entry(parent).or_default();
        fields.push(Field { place, shape });
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.place.only_floats()
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.place.only_floats()
    }
}
