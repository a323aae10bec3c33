//! From a module to names and values, and back.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

use super::{Differences, Layout, Record, RecordError, Values, is_float};

/// Layers whose factor and offset PyTorch calls weight and bias.
const NORMS: [&str; 5] = [
    "Struct:BatchNorm",
    "Struct:LayerNorm",
    "Struct:GroupNorm",
    "Struct:InstanceNorm",
    "Struct:RmsNorm",
];

/// Where a traversal is: the names of the fields on the way, each with what it is a field of, `Struct:Linear`, `Vec`
/// or `Enum:Norm`.
#[derive(Default)]
struct Place(Vec<(String, String)>);

impl Place {
    fn enter(&mut self, name: &str, container: &str) {
        self.0.push((name.into(), container.into()));
    }

    fn exit(&mut self) {
        self.0.pop();
    }

    /// The name of the parameter here.
    fn name(&self, layout: Layout) -> String {
        let fields = self.0.iter();
        let names: Vec<&str> = match layout {
            Layout::Burn => fields.map(|(name, _)| name.as_str()).collect(),
            Layout::PyTorch => fields
                .filter(|(_, container)| !container.starts_with("Enum:"))
                .map(|(name, container)| match name.as_str() {
                    "gamma" if NORMS.contains(&container.as_str()) => "weight",
                    "beta" if NORMS.contains(&container.as_str()) => "bias",
                    name => name,
                })
                .collect(),
        };
        names.join(".")
    }

    /// Whether the parameter here is saved by Burn as the transpose of what PyTorch has.
    fn is_transposed<const D: usize>(&self, layout: Layout, param: &Param<Tensor<D>>) -> bool {
        let linear = self
            .0
            .last()
            .is_some_and(|(name, container)| name == "weight" && container == "Struct:Linear");
        if layout == Layout::Burn || !linear || D != 2 {
            return false;
        }
        // A linear layer in column layout saves its weight as PyTorch does, and transposes what it loads.
        let mut row = [1; D];
        row[D - 1] = 2;
        let probe = Tensor::zeros(row, &param.lazy_device());
        param.clone().transform_for_load(probe, param.id).dims() == row
    }
}

/// What a module with other than float parameters is told.
fn only_floats(place: &Place) -> ! {
    let name = place.name(Layout::Burn);
    panic!("a record holds parameters of floating-point numbers, but {name} is not one.")
}

/// The parameters of a module.
pub(super) fn collect<M: Module>(module: &M, layout: Layout) -> BTreeMap<String, Values> {
    let mut collector = Collector {
        layout,
        place: Place::default(),
        tensors: BTreeMap::new(),
    };
    module.visit(&mut collector);
    collector.tensors
}

struct Collector {
    layout: Layout,
    place: Place,
    tensors: BTreeMap<String, Values>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let (bytes, shape, dtype) = param.transform_for_save().val().into_data().into_parts();
        if !is_float(dtype) {
            only_floats(&self.place)
        }
        let (bytes, shape) = (bytes.to_vec(), shape.to_vec());
        let values = Values {
            dtype,
            shape,
            bytes,
        };
        let values = match self.place.is_transposed(self.layout, param) {
            true => transposed(&values),
            false => values,
        };
        self.tensors.insert(self.place.name(self.layout), values);
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        only_floats(&self.place)
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        only_floats(&self.place)
    }
}

/// The module with the values of the record.
pub(super) fn load<M: Module>(module: M, record: &Record) -> Result<M, RecordError> {
    let mut loader = Loader {
        record,
        place: Place::default(),
        seen: BTreeSet::new(),
        differences: Differences::default(),
        not_finite: None,
    };
    let module = module.map(&mut loader);
    let mut differences = loader.differences;
    let unexpected = record
        .tensors
        .keys()
        .filter(|name| !loader.seen.contains(*name));
    differences.unexpected.extend(unexpected.cloned());
    let origin = record.origin.clone();
    if !differences.is_empty() {
        return Err(RecordError::OtherNetwork {
            origin,
            differences,
        });
    }
    match loader.not_finite {
        Some((name, count)) => Err(RecordError::NotFinite {
            origin,
            name,
            count,
        }),
        None => Ok(module),
    }
}

struct Loader<'a> {
    record: &'a Record,
    place: Place,
    seen: BTreeSet<String>,
    differences: Differences,
    not_finite: Option<(String, usize)>,
}

impl Loader<'_> {
    /// The values for the parameter here, as Burn saves them, if there are any that fit.
    fn values<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<TensorData> {
        let layout = self.record.layout;
        let name = self.place.name(layout);
        let Some(values) = self.record.tensors.get(&name) else {
            self.differences.missing.push(name);
            return None;
        };
        self.seen.insert(name.clone());
        let transpose = self.place.is_transposed(layout, param);
        let mut expected = match param.is_initialized() {
            true => param.transform_for_save().dims().to_vec(),
            false => param.lazy_shape().to_vec(),
        };
        if transpose {
            expected.reverse();
        }
        if expected != values.shape {
            let found = values.shape.clone();
            self.differences.shapes.push((name, expected, found));
            return None;
        }
        let dtype = match param.is_initialized() {
            true => param.val().dtype(),
            false => DType::from(param.lazy_device().settings().float_dtype),
        };
        let values = match transpose {
            true => transposed(values),
            false => values.clone(),
        };
        let values = values.cast(dtype);
        let count = values.not_finite();
        if count > 0 {
            self.not_finite.get_or_insert((name, count));
            return None;
        }
        Some(values.data())
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(data) = self.values(&param) else {
            return param;
        };
        let options = (&param.lazy_device(), data.dtype());
        let tensor = Tensor::from_data(data, options);
        let id = param.id;
        param.transform_for_load(tensor, id)
    }

    fn map_int<const D: usize>(&mut self, _: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        only_floats(&self.place)
    }

    fn map_bool<const D: usize>(&mut self, _: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        only_floats(&self.place)
    }
}

/// The transpose of a matrix.
fn transposed(matrix: &Values) -> Values {
    let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
    let size = matrix.dtype.size();
    let mut bytes = Vec::with_capacity(matrix.bytes.len());
    for column in 0..columns {
        for row in 0..rows {
            let at = (row * columns + column) * size;
            bytes.extend_from_slice(&matrix.bytes[at..at + size]);
        }
    }
    Values {
        dtype: matrix.dtype,
        shape: vec![columns, rows],
        bytes,
    }
}
