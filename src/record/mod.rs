//! Save trained weights and load them again.
//!
//! A [`Record`] holds the parameters and running statistics of a module by name and, optionally, the module's
//! configuration. Saving is atomic. Loading checks the values first.
//!
//! | file | written | read | names and layouts |
//! | --- | --- | --- | --- |
//! | `.bpk`, burnpack | yes | yes | Burn's: `hidden.0.weight` `[in, out]`, `norm.gamma` |
//! | `.safetensors` | yes | yes | PyTorch's: `hidden.0.weight` `[out, in]`, `norm.weight` |
//! | `.pt`, from `torch.save` | no | yes | PyTorch's |
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
//! // Elsewhere: the file has the configuration.
//! let record = Record::open(&path)?;
//! let linear = record.load(record.config::<LinearConfig>()?.init(&device))?;
//! # assert_eq!(linear.weight.dims(), [4, 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # PyTorch's names and layouts
//!
//! - A field keeps its name, an element of a `Vec` has its index, and the variant of an enum has no name.
//! - The weight of a `Linear` layer is transposed to `[out, in]`. Weights of convolutions have the same layout in both.
//! - `gamma` and `beta` of a norm are `weight` and `bias`.
//! - A batch norm has `num_batches_tracked`. [`RunningAverage::Cumulative`] is PyTorch's `momentum=None` and takes its
//!   count from there. The next batch enters with weight 1 / (count + 1), as in PyTorch.
//! - A [`RunningAverage::DebiasedExponential`] keeps its `running_weight`. PyTorch has no such tensor:
//!   `load_state_dict(strict=True)` refuses it.
//!
//! Burn gives a traversal the name of a struct, not its type. So a struct of yours counts as a norm if it has a norm's
//! name and no fields but a norm's parameters. It counts as `Linear` if it has this name, a `weight` of two axes, and
//! no other parameter but a `bias` that fits. Give yours another name if this is not what you want.
//!
//! # Files from `torch.save`
//!
//! [`Record::open`] reads a `state_dict`, a checkpoint that holds one, and a whole module. From PyTorch before 1.6, it
//! reads only the first two. [`Record::load`] finds a part called `state_dict`, `model_state_dict` or `model`, and
//! removes the prefixes `module` and `_orig_mod` that PyTorch's wrappers put before every name. [`Record::under`]
//! chooses any other part. Tensors of integers are skipped. If a parameter needs one, that is an error.
//!
//! # Untrusted files
//!
//! A file may be truncated, damaged, from another network, or malicious. Reading allocates in proportion to the file,
//! runs no code from it, decompresses nothing, and returns a [`RecordError`] that says what is wrong. Values that are
//! NaN or infinite, and negative running variances, are refused. Burnpack files of this crate and `.pt` files have
//! checksums, which are verified; safetensors has none.
//!
//! # What `burn-store` does here
//!
//! `burn-store` reads all three formats and writes burnpack. This module adds the checks that make untrusted files
//! safe, configurations, atomic writes, and a traversal of modules that differs from `burn-store`'s in three points:
//! it refuses a record that does not match instead of loading a part, converts values to the module's type, and
//! transposes a `Linear` layer in column layout correctly.
//!
//! [`RunningAverage::Cumulative`]: crate::norm::RunningAverage::Cumulative
//! [`RunningAverage::DebiasedExponential`]: crate::norm::RunningAverage::DebiasedExponential

mod atomic;
mod burnpack;
mod contents;
mod error;
mod module;
mod names;
mod pickle;
mod pytorch;
mod safetensors;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use burn::module::Module;
use burn::tensor::FloatDType;
use serde::Serialize;
use serde::de::DeserializeOwned;

use contents::{Contents, Values};

pub use atomic::{is_leftover, remove_leftovers, write_atomically};
pub use contents::Layout;
pub use error::{Differences, Reason, RecordError};

/// The parameters and running statistics of a module, by name, and its configuration.
#[derive(Clone, Debug)]
pub struct Record {
    contents: Contents,
    /// The record's name in messages: the file that it was read from.
    origin: String,
}

impl Record {
    /// Makes a record of a module's current values.
    ///
    /// # Panics
    ///
    /// If a parameter does not hold floating-point numbers, or is quantised; or if two parameters have the same name in
    /// this layout.
    pub fn new<M: Module>(module: &M, layout: Layout) -> Self {
        Self {
            contents: module::collect(module, layout),
            origin: "the record".into(),
        }
    }

    /// Adds the configuration of the module, so that the file alone is enough to load it.
    ///
    /// # Panics
    ///
    /// If JSON cannot express the configuration, such as a map whose keys are not strings.
    pub fn with_config(mut self, config: &impl Serialize) -> Self {
        let config = serde_json::to_string(config).expect("a configuration has a JSON form");
        self.contents.config = Some(config);
        self
    }

    /// Converts the values to `dtype`. If `dtype` is a half-precision type, batch norms keep their type: a running
    /// variance may exceed the range of `dtype`.
    ///
    /// # Errors
    ///
    /// A value exceeds the range of `dtype`.
    pub fn cast(mut self, dtype: FloatDType) -> Result<Self, RecordError> {
        let half = matches!(dtype, FloatDType::F16 | FloatDType::BF16);
        let tensors = &mut self.contents.tensors;
        let norms: Vec<String> = tensors
            .keys()
            .filter_map(|name| name.strip_suffix("running_mean"))
            .map(str::to_string)
            .collect();
        for (name, values) in tensors {
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

    /// Reads a burnpack, safetensors or PyTorch file. Its first bytes decide which format it is.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is none of these, or is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RecordError> {
        let path = path.as_ref();
        let bytes = read_file(path).map_err(|source| RecordError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(bytes, Some(path))
    }

    /// Reads the bytes of a burnpack, safetensors or PyTorch file. The bytes of a PyTorch file are copied to a
    /// temporary file.
    ///
    /// # Errors
    ///
    /// The bytes are none of these, or damaged.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, RecordError> {
        Self::parse(bytes, None)
    }

    fn parse(bytes: Vec<u8>, path: Option<&Path>) -> Result<Self, RecordError> {
        let parsed = if burnpack::is_burnpack(&bytes) {
            burnpack::read(bytes)
        } else if safetensors::is_safetensors(&bytes) {
            safetensors::read(bytes)
        } else if pytorch::is_pytorch(&bytes) {
            pytorch::read(&bytes, path)
        } else {
            Err("it starts like none of burnpack, safetensors and a PyTorch file".into())
        };
        let origin = path.map_or("the record".into(), |path| path.display().to_string());
        match parsed {
            Ok(contents) => Ok(Self { contents, origin }),
            Err(reason) => Err(RecordError::Damaged { origin, reason }),
        }
    }

    /// Returns the bytes of a burnpack or safetensors file, depending on the [`Layout`]. The same record always gives
    /// the same bytes.
    ///
    /// # Errors
    ///
    /// The record is too large for the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let written = match self.layout() {
            Layout::Burn => burnpack::write(&self.contents),
            Layout::PyTorch => safetensors::write(&self.contents),
        };
        written.map_err(RecordError::Unwritable)
    }

    /// Writes the file atomically (see [`write_atomically`]).
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

    /// Returns the part whose names begin with `part` and a dot, and removes that prefix. A part is a network in a
    /// larger one, an entry of a checkpoint (`state_dict`), or everything under a wrapper's prefix (`module`).
    ///
    /// # Errors
    ///
    /// No name begins with `part` and a dot.
    pub fn under(mut self, part: &str) -> Result<Self, RecordError> {
        match self.contents.under(part) {
            Ok(contents) => {
                self.contents = contents;
                Ok(self)
            }
            Err(found) => Err(RecordError::NoPart {
                origin: self.origin,
                part: part.into(),
                found,
            }),
        }
    }

    /// Loads the values into `module`; parameter names and shapes must match exactly. Converts values to the module's
    /// float type. Lazy parameters are not initialised first.
    ///
    /// If the network is wrapped (in `state_dict`, `model_state_dict`, `model`, `module`, `_orig_mod`, or several of
    /// these), loads the wrapped network.
    ///
    /// # Errors
    ///
    /// Names or shapes differ, a value is NaN or infinite, or a running variance is negative.
    ///
    /// # Panics
    ///
    /// If a parameter of the module does not hold floating-point numbers; or if two parameters have the same name in
    /// this layout.
    pub fn load<M: Module>(&self, module: M) -> Result<M, RecordError> {
        module::load(module, &self.contents, &self.origin)
    }

    /// Checks that this record could be loaded again from a file.
    ///
    /// # Errors
    ///
    /// A value is NaN or infinite, or a running variance is negative.
    pub fn check(&self) -> Result<(), RecordError> {
        let mut tensors = self.contents.tensors.iter();
        tensors.try_for_each(|(name, values)| self.contents.check(name, values, &self.origin))
    }

    /// The naming and memory layout of the tensors.
    pub fn layout(&self) -> Layout {
        self.contents.layout
    }

    /// The names of the tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.contents.tensors.keys().map(String::as_str)
    }

    /// The number of values in all tensors.
    pub fn num_values(&self) -> usize {
        let numbers = |values: &Values| values.shape.iter().product::<usize>();
        self.contents.tensors.values().map(numbers).sum()
    }

    /// The configuration in the record, or `None`.
    ///
    /// # Errors
    ///
    /// The configuration is not a `C`.
    pub fn try_config<C: DeserializeOwned>(&self) -> Result<Option<C>, RecordError> {
        let config = self.contents.config.as_deref();
        let config = config.map(serde_json::from_str).transpose();
        config.map_err(|error| self.damaged(error))
    }

    /// Makes the error that says why this record cannot be used.
    pub fn damaged(&self, reason: impl Into<Reason>) -> RecordError {
        RecordError::Damaged {
            origin: self.origin.clone(),
            reason: reason.into(),
        }
    }

    /// The configuration in the record.
    ///
    /// # Errors
    ///
    /// There is no configuration, or it is not a `C`.
    pub fn config<C: DeserializeOwned>(&self) -> Result<C, RecordError> {
        self.try_config()?.ok_or_else(|| RecordError::NoConfig {
            origin: self.origin.clone(),
        })
    }
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
