//! Burn's own format.
//!
//! The tensors carry no parameter ids: Burn draws these at random for every process, and a record is to depend on the
//! weights alone.

use std::collections::BTreeMap;

use burn::tensor::Bytes;
use burn_pack::{MAGIC_NUMBER, Reader, Tensor, Writer};

use super::{Contents, Layout, Values, byte_len, is_float, not_float};

/// Keys of the metadata.
const CONFIG: &str = "config";
const CHECKSUM: &str = "crc32";

pub(super) fn is_burnpack(file: &[u8]) -> bool {
    file.starts_with(&MAGIC_NUMBER.to_le_bytes())
}

pub(super) fn write(
    tensors: &BTreeMap<String, Values>,
    config: Option<&str>,
) -> Result<Vec<u8>, String> {
    let pack = tensors.iter().map(|(name, values)| {
        let bytes = Bytes::from_bytes_vec(values.bytes.clone());
        Tensor::new(
            name.clone(),
            values.dtype,
            values.shape.clone(),
            None,
            bytes,
        )
    });
    let mut writer =
        Writer::new(pack.collect()).with_metadata(CHECKSUM, &checksum(tensors, config));
    if let Some(config) = config {
        writer = writer.with_metadata(CONFIG, config);
    }
    let bytes = writer.into_bytes().map_err(|error| error.to_string())?;
    Ok(bytes.to_vec())
}

pub(super) fn read(file: Vec<u8>) -> Result<Contents, String> {
    let size = file.len();
    let reader =
        Reader::from_bytes(Bytes::from_bytes_vec(file)).map_err(|error| error.to_string())?;
    let config = reader.metadata().get(CONFIG).cloned();
    let expected = reader.metadata().get(CHECKSUM).cloned();
    // The reader checks each tensor against the end of the file, but not that they lie apart.
    let mut total = 0;
    let mut tensors = BTreeMap::new();
    for tensor in reader.into_tensors().map_err(|error| error.to_string())? {
        if !is_float(tensor.dtype) {
            return Err(not_float(&tensor.name, tensor.dtype));
        }
        let shape = tensor.shape.to_vec();
        let len = tensor.byte_len();
        total += len;
        if byte_len(&shape, tensor.dtype) != Some(len) || total > size {
            return Err("its tensors are larger than the file".into());
        }
        let (name, dtype, _, _, bytes) = tensor.into_parts().map_err(|error| error.to_string())?;
        let bytes = bytes.to_vec();
        tensors.insert(
            name,
            Values {
                dtype,
                shape,
                bytes,
            },
        );
    }
    if let Some(expected) = expected
        && expected != checksum(&tensors, config.as_deref())
    {
        return Err("its values are not the ones it was written with".into());
    }
    Ok(Contents {
        layout: Layout::Burn,
        tensors,
        config,
    })
}

/// Over names, values and configuration.
fn checksum(tensors: &BTreeMap<String, Values>, config: Option<&str>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (name, values) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(&values.bytes);
    }
    hasher.update(config.unwrap_or_default().as_bytes());
    format!("{:08x}", hasher.finalize())
}
