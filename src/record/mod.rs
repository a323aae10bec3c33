//! Trained weights, out and back in.
//!
//! A [`Record`] is the parameters and running statistics of a module by name, and, if you like, the module's
//! configuration. It is saved whole or not at all, and what is read is checked before it is believed.
//!
//! | file | written | read | names and layouts |
//! | --- | --- | --- | --- |
//! | `.bpk`, burnpack | yes | yes | Burn's: `hidden.0.weight` `[in, out]`, `norm.gamma` |
//! | `.safetensors` | yes | yes | PyTorch's: `hidden.0.weight` `[out, in]`, `norm.weight` |
//! | `.pt`, a `state_dict` by `torch.save` | no | yes | PyTorch's |
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::Device;
//! use burn_kindling::record::{Layout, Record};
//!
//! let (folder, device) = (tempfile::tempdir()?, Device::flex());
//! let path = folder.path().join("linear.safetensors");
//! let config = LinearConfig::new(4, 3);
//! let linear: Linear = config.init(&device);
//! Record::new(&linear, Layout::PyTorch).with_config(&config).save(&path)?;
//!
//! // Elsewhere: the file says what it is of.
//! let record = Record::open(&path)?;
//! let linear = record.load(record.config::<LinearConfig>()?.init(&device))?;
//! # assert_eq!(linear.weight.dims(), [4, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # PyTorch's names and layouts
//!
//! - A field is a field, an element of a `Vec` its number, and the variant of an enum is not named.
//! - The weight of a `Linear` layer is transposed, `[out, in]`; those of convolutions are the same in both.
//! - The norms' `gamma` and `beta` are `weight` and `bias`, and a batch norm has `num_batches_tracked`, which is
//!   written as 0 and not read: it matters to a PyTorch layer only with `momentum=None`.
//! - The averages that PyTorch does not have keep their `running_weight`, which `load_state_dict(strict=True)`
//!   refuses.
//!
//! # Files are hostile
//!
//! A file may be cut short, damaged, of another network or made to do harm. Reading allocates in proportion to the
//! file, runs nothing that is in it, decompresses nothing, and ends in a module or in a [`RecordError`] that says what
//! differs. Burnpack files of this crate and `.pt` files carry checksums, which are compared; a safetensors file has
//! none.

mod atomic;
mod burnpack;
mod error;
mod module;
mod pytorch;
mod safetensors;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{DType, FloatDType, TensorData};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use atomic::{is_leftover, remove_leftovers, write_atomically};
pub use error::{Differences, RecordError};

/// Whose names and layouts the tensors of a [`Record`] have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Burn's, as a burnpack file has them.
    Burn,
    /// PyTorch's, as a safetensors file has them.
    PyTorch,
}

/// The parameters and running statistics of a module, by name, and its configuration.
#[derive(Clone, Debug)]
pub struct Record {
    layout: Layout,
    tensors: BTreeMap<String, Values>,
    /// As JSON.
    config: Option<String>,
    /// What messages call it: the file it was read from.
    origin: String,
}

/// A tensor of a record.
#[derive(Clone, Debug, PartialEq)]
struct Values {
    dtype: DType,
    shape: Vec<usize>,
    /// Little-endian, of the length that type and shape say.
    bytes: Vec<u8>,
}

impl Values {
    fn data(&self) -> TensorData {
        TensorData::from_bytes_vec(self.bytes.clone(), self.shape.clone(), self.dtype)
    }

    fn cast(self, dtype: DType) -> Self {
        match dtype == self.dtype {
            true => self,
            false => Self {
                bytes: self.data().convert_dtype(dtype).bytes().to_vec(),
                dtype,
                ..self
            },
        }
    }

    /// How many of the values are NaN or infinite.
    fn not_finite(&self) -> usize {
        let values = self.data().convert_dtype(DType::F64);
        let values = values.as_slice::<f64>().expect("they were made so");
        values.iter().filter(|value| !value.is_finite()).count()
    }
}

impl Record {
    /// The record of a module, as it is now.
    ///
    /// # Panics
    ///
    /// If a parameter is not of floating-point numbers, or is quantised.
    pub fn new<M: Module>(module: &M, layout: Layout) -> Self {
        Self {
            layout,
            tensors: module::collect(module, layout),
            config: None,
            origin: "the record".into(),
        }
    }

    /// Carries the configuration that makes such a module, so that whoever reads the file needs nothing else.
    ///
    /// # Panics
    ///
    /// If it has no form in JSON, as a map with keys that are not strings.
    pub fn with_config(self, config: &impl Serialize) -> Self {
        let config = serde_json::to_string(config).expect("a configuration has a JSON form");
        Self {
            config: Some(config),
            ..self
        }
    }

    /// Converts the values to `dtype`, except those of batch norms if it is a half-precision type: a running variance
    /// may be out of its range, and they are few.
    ///
    /// # Errors
    ///
    /// A value is beyond what `dtype` can hold.
    pub fn cast(mut self, dtype: FloatDType) -> Result<Self, RecordError> {
        let half = matches!(dtype, FloatDType::F16 | FloatDType::BF16);
        let norms: Vec<String> = self
            .tensors
            .keys()
            .filter_map(|name| name.strip_suffix("running_mean"))
            .map(str::to_string)
            .collect();
        for (name, values) in &mut self.tensors {
            let (parent, _) = name.split_at(name.rfind('.').map_or(0, |dot| dot + 1));
            if half && norms.iter().any(|norm| norm == parent) {
                continue;
            }
            let finite = values.not_finite() == 0;
            *values = values.clone().cast(dtype.into());
            let count = values.not_finite();
            if finite && count > 0 {
                return Err(RecordError::NotFinite {
                    origin: self.origin,
                    name: name.clone(),
                    count,
                });
            }
        }
        Ok(self)
    }

    /// Reads a burnpack, safetensors or PyTorch file; which one it is, its first bytes say.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is none of these, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let bytes = read_file(path).map_err(|source| RecordError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(bytes, path.display().to_string())
    }

    /// Reads what a burnpack, safetensors or PyTorch file holds.
    ///
    /// # Errors
    ///
    /// It is none of these, or damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, RecordError> {
        Self::parse(bytes, "the record".into())
    }

    fn parse(bytes: Vec<u8>, origin: String) -> Result<Self, RecordError> {
        let parsed = if burnpack::is_burnpack(&bytes) {
            burnpack::read(bytes)
        } else if pytorch::is_zip(&bytes) {
            pytorch::read(&bytes)
        } else if safetensors::is_safetensors(&bytes) {
            safetensors::read(&bytes)
        } else {
            Err("it begins like none of burnpack, safetensors and a PyTorch file".into())
        };
        match parsed {
            Ok(contents) => Ok(Self {
                layout: contents.layout,
                tensors: contents.tensors,
                config: contents.config,
                origin,
            }),
            Err(reason) => Err(RecordError::Damaged { origin, reason }),
        }
    }

    /// The bytes of a burnpack or safetensors file, as [`Layout`] says. The same record always gives the same bytes.
    ///
    /// # Errors
    ///
    /// It is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let written = match self.layout {
            Layout::Burn => burnpack::write(&self.tensors, self.config.as_deref()),
            Layout::PyTorch => safetensors::write(&self.tensors, self.config.as_deref()),
        };
        written.map_err(|reason| RecordError::Unwritable { reason })
    }

    /// Writes the file, whole or not at all (see [`write_atomically`]).
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), RecordError> {
        let path = path.as_ref();
        write_atomically(path, &self.to_bytes()?).map_err(|source| RecordError::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        })
    }

    /// Gives the values to `module`, which is to have just these parameters; its own are not looked at, nor drawn if
    /// they have not been yet. Values are converted to the module's float type.
    ///
    /// # Errors
    ///
    /// Names or shapes differ, or a value is NaN or infinite.
    ///
    /// # Panics
    ///
    /// If a parameter of the module is not of floating-point numbers.
    pub fn load<M: Module>(&self, module: M) -> Result<M, RecordError> {
        module::load(module, self)
    }

    /// Whose names and layouts the tensors have.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The number of values, of all tensors together.
    pub fn num_values(&self) -> usize {
        let numbers = |values: &Values| values.shape.iter().product::<usize>();
        self.tensors.values().map(numbers).sum()
    }

    /// The configuration that came with the record; `None` if none did.
    ///
    /// # Errors
    ///
    /// It is not one of a `C`.
    pub fn try_config<C: DeserializeOwned>(&self) -> Result<Option<C>, RecordError> {
        self.config
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| {
                self.damaged(format!("its configuration is of something else: {error}"))
            })
    }

    /// The error that says this record cannot be used, and why.
    pub fn damaged(&self, reason: String) -> RecordError {
        RecordError::Damaged {
            origin: self.origin.clone(),
            reason,
        }
    }

    /// The configuration that came with the record.
    ///
    /// # Errors
    ///
    /// There is none, or it is not one of a `C`.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C, RecordError> {
        self.try_config()?.ok_or_else(|| RecordError::NoConfig {
            origin: self.origin.clone(),
        })
    }
}

/// What the readers make of a file.
struct Contents {
    layout: Layout,
    tensors: BTreeMap<String, Values>,
    config: Option<String>,
}

/// Reads a regular file: a device or a pipe may have no end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(metadata.len())
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The number of bytes of a tensor, if it is a number at all.
fn byte_len(shape: &[usize], dtype: DType) -> Option<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |size, &dim| size.checked_mul(dim))
}

/// The types of a record's tensors.
fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
}

/// A reason that a reader turns a tensor down for.
fn not_float(name: &str, found: impl std::fmt::Debug) -> String {
    let name = error::shortened(name);
    format!("tensor {name} should be of floating-point numbers, found {found:?}")
}
