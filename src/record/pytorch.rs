//! Files from `torch.save`, read by `burn-store`.
//!
//! `burn-store` runs no code from a file, but it runs the file's pickle with little regard for memory: a pickle of
//! 351 bytes takes 66 MB, one of 4.2 MB takes 742 MB, and a tensor may claim 10 GB. So the file is checked first:
//! entries of the archive must be stored uncompressed, [`Budget`] limits the memory of the pickles, and the tensors
//! must not be larger than the file.

use std::io::{Cursor, Write};
use std::path::Path;

use burn_store::{ModuleStore, PytorchStore};
use zip::{CompressionMethod, ZipArchive};

use super::contents::{Contents, Layout};
use super::error::Reason;
use super::pickle::Budget;

const ZIP: &[u8] = b"PK\x03\x04";
/// The protocol instruction that pickles start with.
const PICKLE: u8 = 0x80;
/// The number at the start of a file from PyTorch before 1.6, in binary and in decimal, and how far from the start it
/// may be.
const LEGACY: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
const LEGACY_TEXT: &[u8] = b"119547037146038801333356";
const LEGACY_WITHIN: usize = 64;

/// Whether the file starts like one from `torch.save`. A safetensors file may start the same way.
pub(super) fn is_pytorch(file: &[u8]) -> bool {
    file.starts_with(ZIP) || file.first() == Some(&PICKLE)
}

/// Reads the tensors of a file that holds these bytes. `path` is the file that they were read from, if any.
pub(super) fn read(file: &[u8], path: Option<&Path>) -> Result<Contents, Reason> {
    match file.starts_with(ZIP) {
        true => check_archive(file)?,
        false => check_pickles(file)?,
    }
    // The reader takes a path, not bytes.
    let copy;
    let path = match path {
        Some(path) => path,
        None => {
            copy = tempfile::NamedTempFile::new()?;
            copy.as_file().write_all(file)?;
            copy.path()
        }
    };
    let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
    let tensors = store.get_all_tensors()?.values();
    // Tied weights are two tensors with the same bytes.
    Contents::new(Layout::PyTorch, None, tensors.cloned(), 2 * file.len())
}

fn check_archive(file: &[u8]) -> Result<(), Reason> {
    let mut archive = ZipArchive::new(Cursor::new(file))?;
    let mut budget = Budget::of(file);
    let mut total = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let size = entry.size();
        if entry.compression() != CompressionMethod::Stored || entry.compressed_size() != size {
            return Err("its entries are compressed, which torch.save does not do".into());
        }
        // Overlapping entries would be read again and again.
        total += size as u128;
        if total > file.len() as u128 {
            return Err("its entries are larger than the file".into());
        }
        if entry.name()?.ends_with("data.pkl") {
            let start = entry.data_start().unwrap_or(u64::MAX);
            let pickle = usize::try_from(start)
                .ok()
                .and_then(|start| file.get(start..)?.get(..size as usize))
                .ok_or("it is cut short")?;
            budget.charge(pickle)?;
        }
    }
    Ok(())
}

/// Checks the pickles of a file that is not an archive. A file from PyTorch before 1.6 has five pickles, then the
/// values.
fn check_pickles(file: &[u8]) -> Result<(), Reason> {
    // The reader would take this file for a TAR archive, with pickles that are not checked here.
    if file.get(257..262) == Some(b"ustar") {
        return Err("it is a TAR archive".into());
    }
    let start = &file[..file.len().min(LEGACY_WITHIN)];
    let has = |number: &[u8]| start.windows(number.len()).any(|bytes| bytes == number);
    let pickles = if has(LEGACY) || has(LEGACY_TEXT) {
        5
    } else {
        1
    };
    let mut budget = Budget::of(file);
    let mut rest = file;
    for _ in 0..pickles {
        rest = budget.charge(rest)?;
    }
    Ok(())
}
