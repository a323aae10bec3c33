//! The contents of a file, independent of its format.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{DType, TensorData};
use burn_store::burn_pack::Tensor;

use super::error::{Reason, RecordError, shortened};

/// The naming and memory layout of the tensors in a [`Record`](super::Record).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Burn's, as in a burnpack file.
    Burn,
    /// PyTorch's, as in a safetensors file.
    PyTorch,
}

/// PyTorch's counter of batches, stored beside a running mean.
pub(super) const COUNTER: &str = "num_batches_tracked";
/// The weight of a running average. PyTorch stores it only as [`COUNTER`].
pub(super) const WEIGHT: &str = "running_weight";

#[derive(Clone, Debug)]
pub(super) struct Contents {
    pub(super) layout: Layout,
    pub(super) tensors: BTreeMap<String, Values>,
    /// The number of batches in a running mean, by the name of its batch norm with a dot appended.
    pub(super) counts: BTreeMap<String, u64>,
    /// Tensors of other types than floating-point numbers; their values are not read.
    pub(super) skipped: BTreeMap<String, DType>,
    /// The configuration, as JSON.
    pub(super) config: Option<String>,
}

impl Contents {
    /// Reads the tensors of a file, if they take no more than `most` bytes.
    pub(super) fn new(
        layout: Layout,
        config: Option<String>,
        tensors: impl Iterator<Item = Tensor>,
        most: usize,
    ) -> Result<Self, Reason> {
        let mut contents = Self {
            layout,
            tensors: BTreeMap::new(),
            counts: BTreeMap::new(),
            skipped: BTreeMap::new(),
            config,
        };
        let mut counters = Vec::new();
        let mut total = 0usize;
        for tensor in tensors {
            let counter = is_counter(&tensor) && tensor.shape.iter().all(|&dim| dim == 1);
            if !counter && !is_float(tensor.dtype) {
                contents.skipped.insert(tensor.name, tensor.dtype);
                continue;
            }
            let (len, size) = (tensor.byte_len(), tensor.dtype.size());
            let mut dims = tensor.shape.iter();
            let expected = dims.try_fold(size, |len, &dim| len.checked_mul(dim));
            total = total.saturating_add(len);
            if expected != Some(len) || total > most {
                return Err("its tensors are larger than the file".into());
            }
            let (name, dtype, shape, _, bytes) = tensor.into_parts()?;
            let values = Values {
                dtype,
                shape: shape.to_vec(),
                bytes: bytes.to_vec(),
            };
            match counter {
                true => counters.push((name, values)),
                false => drop(contents.tensors.insert(name, values)),
            }
        }
        for (name, values) in counters {
            contents.insert_counter(name, values)?;
        }
        Ok(contents)
    }

    /// Adds a tensor with the name of PyTorch's counter. It is a counter only if a running mean is beside it.
    fn insert_counter(&mut self, name: String, values: Values) -> Result<(), Reason> {
        let norm = name.strip_suffix(COUNTER).unwrap_or_default();
        if self.tensors.contains_key(&format!("{norm}running_mean")) {
            let count = values.to_f64()[0];
            if count < 0.0 || count.fract() != 0.0 || !count.is_finite() {
                let name = shortened(&name);
                return Err(format!("{name} should be a number of batches, found {count}").into());
            }
            self.counts.insert(norm.to_string(), count as u64);
        } else if is_float(values.dtype) {
            self.tensors.insert(name, values);
        } else {
            self.skipped.insert(name, values.dtype);
        }
        Ok(())
    }

    /// Converts the weights of cumulative averages to PyTorch's form: one number of batches.
    pub(super) fn count_batches(&mut self) {
        let counts = self.tensors.iter().filter_map(|(name, values)| {
            let norm = name.strip_suffix(WEIGHT)?;
            self.tensors.get(&format!("{norm}running_mean"))?;
            let weights = values.to_f64();
            let count = *weights.first()?;
            let whole = count >= 1.0 && count.fract() == 0.0;
            (whole && weights.iter().all(|&weight| weight == count))
                .then(|| (norm.to_string(), count as u64))
        });
        let counts: Vec<_> = counts.collect();
        for (norm, _) in &counts {
            self.tensors.remove(&format!("{norm}{WEIGHT}"));
        }
        self.counts.extend(counts);
    }

    /// Checks that `values` are valid for the tensor of this name.
    pub(super) fn check(
        &self,
        name: &str,
        values: &Values,
        origin: &str,
    ) -> Result<(), RecordError> {
        let count = values.not_finite();
        if count > 0 {
            return Err(RecordError::NotFinite {
                origin: origin.into(),
                name: name.into(),
                count,
            });
        }
        let norm = name
            .strip_suffix("running_var")
            .or(name.strip_suffix(WEIGHT));
        if !norm.is_some_and(|norm| self.tensors.contains_key(&format!("{norm}running_mean"))) {
            return Ok(());
        }
        let values = values.to_f64();
        match values.iter().position(|&value| value < 0.0) {
            Some(index) => Err(RecordError::Negative {
                origin: origin.into(),
                name: name.into(),
                index,
                value: values[index],
            }),
            None => Ok(()),
        }
    }

    /// The part whose names begin with `part` and a dot. If there is none, the error lists the first words of all
    /// names.
    pub(super) fn under(&self, part: &str) -> Result<Self, Vec<String>> {
        let prefix = format!("{part}.");
        let found = Self {
            layout: self.layout,
            tensors: under(&self.tensors, &prefix),
            counts: under(&self.counts, &prefix),
            skipped: under(&self.skipped, &prefix),
            config: self.config.clone(),
        };
        if found.tensors.is_empty() {
            let words = self
                .tensors
                .keys()
                .filter_map(|name| name.split('.').next());
            let words: BTreeSet<_> = words.collect();
            return Err(words.into_iter().map(str::to_string).collect());
        }
        Ok(found)
    }
}

fn under<T: Clone>(map: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
    let part = map.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_string(), value.clone()))
    });
    part.collect()
}

/// Whether a tensor has the name and type of PyTorch's counter. In a network that was cast, the type may differ.
fn is_counter(tensor: &Tensor) -> bool {
    let dtype = tensor.dtype;
    tensor.name.rsplit('.').next() == Some(COUNTER)
        && (is_float(dtype) || dtype.is_int() || dtype.is_uint())
}

/// Whether a record can hold tensors of this type.
pub(super) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

/// The values of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// Little-endian; the length is what type and shape require.
    pub(super) bytes: Vec<u8>,
}

impl Values {
    pub(super) fn data(&self) -> TensorData {
        TensorData::from_bytes_vec(self.bytes.clone(), self.shape.clone(), self.dtype)
    }

    pub(super) fn cast(self, dtype: DType) -> Self {
        match dtype == self.dtype {
            true => self,
            false => Self {
                bytes: self.data().convert_dtype(dtype).bytes().to_vec(),
                dtype,
                ..self
            },
        }
    }

    pub(super) fn to_f64(&self) -> Vec<f64> {
        let values = self.data().convert_dtype(DType::F64);
        values.try_to_vec().expect("they are f64")
    }

    /// The number of values that are NaN or infinite.
    pub(super) fn not_finite(&self) -> usize {
        let values = self.to_f64();
        values.iter().filter(|value| !value.is_finite()).count()
    }

    /// The transpose of a matrix.
    pub(super) fn transposed(&self) -> Self {
        let (rows, columns) = (self.shape[0], self.shape[1]);
        let size = self.dtype.size();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for column in 0..columns {
            for row in 0..rows {
                let at = (row * columns + column) * size;
                bytes.extend_from_slice(&self.bytes[at..at + size]);
            }
        }
        Self {
            dtype: self.dtype,
            shape: vec![columns, rows],
            bytes,
        }
    }
}
