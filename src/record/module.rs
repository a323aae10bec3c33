//! Converts a module to a record, and back.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

use super::contents::{Contents, Layout, Values, WEIGHT, is_float};
use super::error::{Differences, RecordError};
use super::names::{Name, Place, names};

/// Keys of a network in a checkpoint, and prefixes that PyTorch's wrappers add.
const WRAPPERS: [&str; 5] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "_orig_mod",
];
/// The most nested wrappers.
const DEEPEST: usize = 4;

/// Collects the values of a module's parameters.
pub(super) fn collect<M: Module>(module: &M, layout: Layout) -> Contents {
    let mut collector = Collector {
        names: names(module, layout),
        place: Place::default(),
        tensors: BTreeMap::new(),
    };
    module.visit(&mut collector);
    let mut contents = Contents {
        layout,
        tensors: collector.tensors,
        counts: BTreeMap::new(),
        skipped: BTreeMap::new(),
        config: None,
    };
    if layout == Layout::PyTorch {
        contents.count_batches();
    }
    contents
}

/// Whether Burn saves this parameter as the transpose of PyTorch's. A linear layer in column layout is not transposed.
fn is_transposed<const D: usize>(name: &Name, param: &Param<Tensor<D>>) -> bool {
    if !name.is_linear || D != 2 {
        return false;
    }
    let mut row = [1; D];
    row[D - 1] = 2;
    let probe = Tensor::zeros(row, &param.lazy_device());
    param.clone().transform_for_load(probe, param.id).dims() == row
}

struct Collector {
    names: BTreeMap<String, Name>,
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
            self.place.only_floats()
        }
        let (bytes, shape) = (bytes.to_vec(), shape.to_vec());
        let values = Values {
            dtype,
            shape,
            bytes,
        };
        let name = &self.names[&self.place.path()];
        let values = match is_transposed(name, param) {
            true => values.transposed(),
            false => values,
        };
        self.tensors.insert(name.name.clone(), values);
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.place.only_floats()
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.place.only_floats()
    }
}

/// Loads the values of a record into a module.
pub(super) fn load<M: Module>(
    module: M,
    contents: &Contents,
    origin: &str,
) -> Result<M, RecordError> {
    let names = names(&module, contents.layout);
    let wanted: Vec<&str> = names.values().map(|name| name.name.as_str()).collect();
    let part = match part(contents, &wanted) {
        Ok(None) => None,
        Ok(Some(part)) => contents.under(&part).ok(),
        Err(parts) => {
            return Err(RecordError::Part {
                origin: origin.into(),
                parts,
            });
        }
    };
    let mut loader = Loader {
        contents: part.as_ref().unwrap_or(contents),
        origin,
        names,
        place: Place::default(),
        seen: BTreeSet::new(),
        differences: Differences::default(),
        error: None,
    };
    let module = module.map(&mut loader);
    let mut differences = loader.differences;
    let tensors = loader.contents.tensors.keys();
    let unexpected = tensors.filter(|name| !loader.seen.contains(*name));
    differences.unexpected.extend(unexpected.cloned());
    match loader.error {
        _ if !differences.is_empty() => Err(RecordError::OtherNetwork {
            origin: origin.into(),
            differences,
        }),
        Some(error) => Err(error),
        None => Ok(module),
    }
}

/// Finds the part of the record that holds the network; `None` for the whole record. It is an error if several parts
/// fit, or if a part fits only under a name that is not among [`WRAPPERS`].
fn part(contents: &Contents, wanted: &[&str]) -> Result<Option<String>, Vec<String>> {
    let found = |part: &str| {
        let has = |name: &&&str| contents.tensors.contains_key(&format!("{part}.{name}"));
        wanted.iter().filter(has).count()
    };
    if wanted
        .iter()
        .any(|name| contents.tensors.contains_key(*name))
    {
        return Ok(None);
    }
    let mut wrapped = BTreeSet::new();
    let mut others = BTreeSet::new();
    for name in contents.tensors.keys() {
        let words = name.split('.').take(DEEPEST);
        let wrappers = words.take_while(|word| WRAPPERS.contains(word));
        let ends = wrappers.scan(0, |end, word| {
            *end += word.len() + 1;
            Some(*end - 1)
        });
        wrapped.extend(ends.map(|end| &name[..end]));
        let first = wanted.first().and_then(|first| name.strip_suffix(first));
        others.extend(first.and_then(|part| part.strip_suffix('.')));
    }
    let best = wrapped.iter().map(|part| found(part)).max().unwrap_or(0);
    let mut parts: Vec<String> = match best {
        0 => {
            let fit = others.iter().filter(|part| found(part) == wanted.len());
            fit.map(|part| part.to_string()).collect()
        }
        best => {
            let best = wrapped.iter().filter(|part| found(part) == best);
            best.map(|part| part.to_string()).collect()
        }
    };
    match (best, parts.len()) {
        (0, 0) => Ok(None),
        (1.., 1) => Ok(parts.pop()),
        _ => Err(parts),
    }
}

struct Loader<'a> {
    contents: &'a Contents,
    origin: &'a str,
    names: BTreeMap<String, Name>,
    place: Place,
    seen: BTreeSet<String>,
    differences: Differences,
    error: Option<RecordError>,
}

impl Loader<'_> {
    /// The values of the current parameter, as Burn saves them, if the record has them and they fit.
    fn values<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Option<TensorData> {
        let name = self.names[&self.place.path()].clone();
        let transpose = is_transposed(&name, param);
        let name = name.name;
        let mut expected = match param.is_initialized() {
            true => param.transform_for_save().dims().to_vec(),
            false => param.lazy_shape().to_vec(),
        };
        if transpose {
            expected.reverse();
        }
        let Some(values) = self.found(&name, &expected) else {
            if let Some(&dtype) = self.contents.skipped.get(&name) {
                self.error.get_or_insert(RecordError::NotFloat {
                    origin: self.origin.into(),
                    name,
                    dtype,
                });
            } else {
                self.differences.missing.push(name);
            }
            return None;
        };
        self.seen.insert(name.clone());
        if expected != values.shape {
            let found = values.shape;
            self.differences.shapes.push((name, expected, found));
            return None;
        }
        let dtype = match param.is_initialized() {
            true => param.val().dtype(),
            false => DType::from(param.lazy_device().settings().float_dtype),
        };
        let values = match transpose {
            true => values.transposed(),
            false => values,
        };
        let values = values.cast(dtype);
        if let Err(error) = self.contents.check(&name, &values, self.origin) {
            self.error.get_or_insert(error);
            return None;
        }
        Some(values.data())
    }

    /// The values in the record. PyTorch stores the weight of a running average as a number of batches.
    fn found(&self, name: &str, expected: &[usize]) -> Option<Values> {
        if let Some(values) = self.contents.tensors.get(name) {
            return Some(values.clone());
        }
        let count = self.contents.counts.get(name.strip_suffix(WEIGHT)?)?;
        let data = TensorData::full(expected.to_vec(), *count as f64);
        Some(Values {
            dtype: DType::F64,
            shape: expected.to_vec(),
            bytes: data.bytes().to_vec(),
        })
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
        self.place.only_floats()
    }

    fn map_bool<const D: usize>(&mut self, _: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        self.place.only_floats()
    }
}
