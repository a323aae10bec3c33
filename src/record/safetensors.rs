//! The safetensors format, in PyTorch's names and layouts.
//!
//! `burn-store` reads the tensors. But it does not return the file's metadata, and it writes modules, not records. So
//! this file uses the `safetensors` crate directly for both.

use std::collections::HashMap;

use burn::tensor::DType;
use burn_store::{ModuleStore, SafetensorsStore};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::contents::{COUNTER, Contents, Layout};
use super::error::Reason;

/// Key of the metadata.
const CONFIG: &str = "config";

/// Whether the file starts like safetensors: eight bytes of length, then a JSON object.
pub(super) fn is_safetensors(file: &[u8]) -> bool {
    file.get(8) == Some(&b'{')
}

/// Makes the bytes of a file. A batch norm gets PyTorch's counter of batches beside its running mean.
pub(super) fn write(contents: &Contents) -> Result<Vec<u8>, Reason> {
    let counters: Vec<_> = contents
        .tensors
        .keys()
        .filter_map(|name| name.strip_suffix("running_mean"))
        .map(|norm| {
            let count = contents.counts.get(norm).copied().unwrap_or(0);
            (format!("{norm}{COUNTER}"), count.to_le_bytes())
        })
        .collect();
    let mut views = Vec::new();
    for (name, values) in &contents.tensors {
        let dtype = match values.dtype {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => return Err(format!("safetensors has no type for {other:?}").into()),
        };
        let view = TensorView::new(dtype, values.shape.clone(), &values.bytes)?;
        views.push((name.as_str(), view));
    }
    for (name, count) in &counters {
        views.push((name, TensorView::new(Dtype::I64, vec![], count)?));
    }
    let config = contents.config.clone();
    let metadata = config.map(|config| HashMap::from([(CONFIG.to_string(), config)]));
    Ok(safetensors::serialize(views, metadata)?)
}

pub(super) fn read(file: Vec<u8>) -> Result<Contents, Reason> {
    let (_, header) = SafeTensors::read_metadata(&file)?;
    let metadata = header.metadata().as_ref();
    let config = metadata.and_then(|metadata| metadata.get(CONFIG).cloned());
    let size = file.len();
    let mut store = SafetensorsStore::from_bytes(Some(file)).map_indices_contiguous(false);
    let tensors = store.get_all_tensors()?.values();
    Contents::new(Layout::PyTorch, config, tensors.cloned(), size)
}
