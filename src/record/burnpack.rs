//! Burn's own format.
//!
//! The tensors have no parameter ids. Burn draws ids at random, but the same weights should give the same file.

use std::collections::BTreeMap;

use burn::tensor::Bytes;
use burn_store::burn_pack::{MAGIC_NUMBER, Reader, Tensor, Writer};

use super::contents::{Contents, Layout, Values};
use super::error::Reason;

/// Keys of the metadata.
const CONFIG: &str = "config";
const CHECKSUM: &str = "crc32";

pub(super) fn is_burnpack(file: &[u8]) -> bool {
    file.starts_with(&MAGIC_NUMBER.to_le_bytes())
}

pub(super) fn write(contents: &Contents) -> Result<Vec<u8>, Reason> {
    let Contents {
        tensors, config, ..
    } = contents;
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
    let checksum = checksum(tensors, config.as_deref());
    let mut writer = Writer::new(pack.collect()).with_metadata(CHECKSUM, &checksum);
    if let Some(config) = config {
        writer = writer.with_metadata(CONFIG, config);
    }
    Ok(writer.into_bytes()?.to_vec())
}

pub(super) fn read(file: Vec<u8>) -> Result<Contents, Reason> {
    let size = file.len();
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(file))?;
    let config = reader.metadata().get(CONFIG).cloned();
    let expected = reader.metadata().get(CHECKSUM).cloned();
    let tensors = reader.into_tensors()?.into_iter();
    let contents = Contents::new(Layout::Burn, config, tensors, size)?;
    let found = || checksum(&contents.tensors, contents.config.as_deref());
    match expected {
        Some(expected) if expected != found() => {
            Err("its values are not the ones it was written with".into())
        }
        _ => Ok(contents),
    }
}

/// The checksum of names, values and configuration.
fn checksum(tensors: &BTreeMap<String, Values>, config: Option<&str>) -> String {
    let mut hasher = crc32fast::Hasher::new();
    for (name, values) in tensors {
        hasher.update(name.as_bytes());
        hasher.update(&values.bytes);
    }
    hasher.update(config.unwrap_or_default().as_bytes());
    format!("{:08x}", hasher.finalize())
}
