use std::io;
use std::path::PathBuf;

use image::ImageError;

use super::file::MAX_SIDE;

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the path and the file's permissions", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },

    /// The file is neither PNG nor JPEG, or is damaged.
    #[error(
        "{} cannot be decoded: {source}; open it in an image viewer and save it as PNG or JPEG", .path.display()
    )]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's error.
        source: ImageError,
    },

    /// The picture has too many pixels.
    #[error(
        "{} exceeds the limit of {MAX_SIDE} x {MAX_SIDE} pixels of 4 bytes; scale it down", .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },

    /// Nothing in the picture stands out from the background.
    #[error(
        "{} shows no ink: nothing stands out from the background; draw one digit with a clear stroke, dark on light or \
         light on dark", .path.display()
    )]
    NoInk {
        /// The file.
        path: PathBuf,
    },
}
