//! The IDX format, the format of MNIST's files.
//!
//! A file holds a magic number (two zero bytes, the element type, the number of dimensions), the size of each
//! dimension, then the elements, the last dimension varying fastest. Numbers are big-endian.
//!
//! Files are not trusted: nothing is allocated for a declared size before that many bytes have been read.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;

use super::DataError;
use super::gzip::Gunzip;

/// The most bytes of content that are read from one file: 1.3 million images.
pub(super) const MAX_BYTES: usize = 1 << 30;

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The type of a file's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    /// Unsigned bytes.
    Byte,
    /// 32-bit integers, signed.
    Int,
}

impl Element {
    /// The third byte of a file.
    fn code(self) -> u8 {
        match self {
            Self::Byte => 0x08,
            Self::Int => 0x0c,
        }
    }

    /// The element type that a magic number declares.
    pub fn of(magic: u32) -> Self {
        match magic >> 8 & 0xff {
            0x0c => Self::Int,
            _ => Self::Byte,
        }
    }

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::Byte => 1,
            Self::Int => 4,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Byte => "unsigned bytes",
            Self::Int => "32-bit integers",
        })
    }
}

/// The content of an IDX file with `RANK` dimensions.
pub(super) struct Idx<const RANK: usize> {
    /// The size of each dimension.
    pub sizes: [usize; RANK],
    /// The elements in big-endian bytes: as many elements as the product of the sizes.
    pub bytes: Vec<u8>,
}

/// Reads the file at `path`, and decompresses it if it is gzip.
pub(super) fn read<const RANK: usize>(
    path: &Path,
    element: Element,
) -> Result<Idx<RANK>, DataError> {
    let failed = |source: io::Error| DataError::Read {
        path: path.into(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let start = read_up_to(&mut file, GZIP.len()).map_err(failed)?;
    file.rewind().map_err(failed)?;

    // The content decides, not the name: browsers may decompress a file and keep its name.
    let mut content: Box<dyn Read> = if start == GZIP {
        Box::new(Gunzip::new(BufReader::new(file)))
    } else if path.extension().is_some_and(|it| it == "gz") && start != [0, 0] {
        return Err(DataError::NotGzip {
            path: path.into(),
            found: start,
        });
    } else {
        Box::new(file)
    };
    parse(path, element, &mut content)
}

fn parse<const RANK: usize>(
    path: &Path,
    element: Element,
    content: &mut dyn Read,
) -> Result<Idx<RANK>, DataError> {
    let mut read = |limit: usize| {
        let path = path.into();
        read_up_to(&mut *content, limit).map_err(|source| match source.kind() {
            // The decompressor's errors for a damaged or truncated stream.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof => DataError::Gzip { path, source },
            _ => DataError::Read { path, source },
        })
    };
    let truncated = |found: usize, expected: usize| DataError::Truncated {
        path: path.into(),
        found,
        expected,
    };

    let expected_magic = [0, 0, element.code(), RANK as u8];
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
        .try_fold(element.size(), |product, &size| product.checked_mul(size))
        .filter(|&len| len <= MAX_BYTES)
        .ok_or_else(|| DataError::TooLarge {
            path: path.into(),
            sizes: declared,
        })?;

    // One byte more than declared, to detect trailing bytes. The buffer grows with what is read.
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
