//! The safetensors format, in PyTorch's names and layouts.

use std::collections::{BTreeMap, HashMap};

use burn::tensor::DType;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::{Contents, Layout, Values, not_float};

/// Key of the metadata.
const CONFIG: &str = "config";
/// PyTorch's counter beside each running mean.
pub(super) const COUNTER: &str = "num_batches_tracked";

/// A JSON object after the eight bytes of its length.
pub(super) fn is_safetensors(file: &[u8]) -> bool {
    file.get(8) == Some(&b'{')
}

pub(super) fn write(
    tensors: &BTreeMap<String, Values>,
    config: Option<&str>,
) -> Result<Vec<u8>, String> {
    let mut views = Vec::new();
    for (name, values) in tensors {
        let dtype = match values.dtype {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => return Err(not_float(name, other)),
        };
        let view = TensorView::new(dtype, values.shape.clone(), &values.bytes);
        views.push((name.clone(), view.map_err(|error| error.to_string())?));
        if let Some(norm) = name.strip_suffix("running_mean") {
            let view = TensorView::new(Dtype::I64, vec![], &[0; 8]);
            views.push((
                format!("{norm}{COUNTER}"),
                view.map_err(|error| error.to_string())?,
            ));
        }
    }
    let metadata = config.map(|config| HashMap::from([(CONFIG.to_string(), config.to_string())]));
    safetensors::serialize(views, metadata).map_err(|error| error.to_string())
}

pub(super) fn read(file: &[u8]) -> Result<Contents, String> {
    let (_, header) = SafeTensors::read_metadata(file).map_err(|error| error.to_string())?;
    let config = header
        .metadata()
        .as_ref()
        .and_then(|m| m.get(CONFIG).cloned());
    let views = SafeTensors::deserialize(file).map_err(|error| error.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in views.iter() {
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 if name.ends_with(COUNTER) => continue,
            other => return Err(not_float(name, other)),
        };
        tensors.insert(
            name.to_string(),
            Values {
                dtype,
                shape: view.shape().to_vec(),
                bytes: view.data().to_vec(),
            },
        );
    }
    Ok(Contents {
        layout: Layout::PyTorch,
        tensors,
        config,
    })
}
