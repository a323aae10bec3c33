//! The IDX format, in which MNIST is published: a magic number (two zero bytes, the element type,
//! the number of dimensions), the size of each dimension, then the elements, the last dimension
//! varying fastest. Numbers are big-endian.
//!
//! A file is read as if it came from an enemy: no size that it declares is believed before that
//! many bytes were really there.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::DataError;

/// The most bytes of content that are read from one file: 1.3 million images.
pub(super) const MAX_BYTES: usize = 1 << 30;

/// The element type of MNIST's files, unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The content of an IDX file of unsigned bytes with `RANK` dimensions.
pub(super) struct Idx<const RANK: usize> {
    /// The size of each dimension.
    pub sizes: [usize; RANK],
    /// The elements: as many as the product of the sizes.
    pub bytes: Vec<u8>,
}

/// Reads the file at `path`, decompressing it if it is gzip.
pub(super) fn read<const RANK: usize>(path: &Path) -> Result<Idx<RANK>, DataError> {
    let failed = |error: io::Error| DataError::Read {
        path: path.into(),
        source: error,
    };
    let mut file = File::open(path).map_err(failed)?;
    let start = read_up_to(&mut file, GZIP.len()).map_err(failed)?;
    file.rewind().map_err(failed)?;

    // The content decides: browsers decompress what they save and leave the name as it was.
    let mut content: Box<dyn Read> = if start == GZIP {
        Box::new(MultiGzDecoder::new(BufReader::new(file)))
    } else if path.extension().is_some_and(|it| it == "gz") && start != [0, 0] {
        return Err(DataError::NotGzip {
            path: path.into(),
            found: start,
        });
    } else {
        Box::new(file)
    };
    parse(path, &mut content)
}

fn parse<const RANK: usize>(path: &Path, content: &mut dyn Read) -> Result<Idx<RANK>, DataError> {
    let mut read = |limit: usize| {
        read_up_to(&mut *content, limit).map_err(|error| match error.kind() {
            // What the decompressor reports for a damaged stream and for one that stops early.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => DataError::Gzip {
                path: path.into(),
                reason: error.to_string(),
            },
            _ => DataError::Read {
                path: path.into(),
                source: error,
            },
        })
    };
    let truncated = |found: usize, expected: usize| DataError::Truncated {
        path: path.into(),
        found,
        expected,
    };

    let expected_magic = [0, 0, UNSIGNED_BYTE, RANK as u8];
    let header_len = 4 + 4 * RANK;
    let header = read(header_len)?;
    if header.len() >= 2 && header[..2] != [0, 0] {
        return Err(DataError::NotIdx {
            path: path.into(),
            found: header[..header.len().min(4)].to_vec(),
            expected: expected_magic,
        });
    }
    let mut numbers = header
        .chunks_exact(4)
        .map(|it| u32::from_be_bytes([it[0], it[1], it[2], it[3]]));
    let expected_magic = u32::from_be_bytes(expected_magic);
    match numbers.next() {
        Some(magic) if magic != expected_magic => {
            return Err(DataError::Magic {
                path: path.into(),
                found: magic,
                expected: expected_magic,
            });
        }
        _ if header.len() < header_len => return Err(truncated(header.len(), header_len)),
        _ => {}
    }

    let declared: Vec<u32> = numbers.collect();
    let sizes: [usize; RANK] = std::array::from_fn(|i| declared[i] as usize);
    let len = sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&len| len <= MAX_BYTES)
        .ok_or_else(|| DataError::TooLarge {
            path: path.into(),
            sizes: declared,
        })?;

    // One byte more than declared, to notice what follows. The buffer grows with what is read.
    let mut bytes = read(len + 1)?;
    if bytes.len() < len {
        return Err(truncated(header_len + bytes.len(), header_len + len));
    }
    if bytes.len() > len {
        return Err(DataError::TrailingBytes {
            path: path.into(),
            expected: header_len + len,
        });
    }
    bytes.shrink_to_fit();
    Ok(Idx { sizes, bytes })
}

/// Reads `limit` bytes, or as many as there are.
fn read_up_to(mut source: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.by_ref().take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
