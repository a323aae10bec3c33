use std::path::PathBuf;

use super::idx::{Element, MAX_BYTES};

/// Why a data folder could not be read.
///
/// Each message names the file, what was found, what was expected, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No folder was given, and neither default folder exists.
    #[error(
        "no MNIST data found: neither {} nor {} is a folder; \
         run from the checkout or pass --data DIR", .current.display(), .checkout.display()
    )]
    NotFound {
        /// The default folder in the current directory.
        current: PathBuf,
        /// The default folder in the checkout that this crate was built from.
        checkout: PathBuf,
    },

    /// The given path is not a folder.
    #[error(
        "{} is not a folder; pass --data DIR with a folder that holds the four MNIST files",
        .path.display()
    )]
    FolderMissing {
        /// The path as given.
        path: PathBuf,
    },

    /// One of the four files is not in the folder.
    #[error(
        "{} holds no file {name} or {name}.gz; it needs the images and the labels of both the training \
         and the test set; put the file there or pass --data DIR with another folder",
        .folder.display()
    )]
    FileMissing {
        /// The folder that was searched.
        folder: PathBuf,
        /// The official name of the file, without `.gz`.
        name: String,
    },

    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the file and its permissions", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },

    /// The name ends in `.gz` but the content is not gzip.
    #[error(
        "{} is not a gzip file: it begins with the bytes {found:02x?}, expected [1f, 8b]; \
         download it again, or take the .gz off its name if it is not compressed", .path.display()
    )]
    NotGzip {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most two.
        found: Vec<u8>,
    },

    /// The gzip data is damaged, or followed by something other than zeros.
    #[error(
        "{} cannot be decompressed: {source}, expected intact gzip data; download it again",
        .path.display()
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// The decompressor's error.
        source: std::io::Error,
    },

    /// The content is not IDX.
    #[error(
        "{} is not an IDX file: it begins with the bytes {found:02x?}, \
         expected {expected:02x?}; download it again", .path.display()
    )]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most four.
        found: Vec<u8>,
        /// The first four bytes it should have.
        expected: [u8; 4],
    },

    /// The IDX file has another element type or number of dimensions.
    #[error(
        "{} has the IDX magic number 0x{found:08x}, expected 0x{expected:08x} ({} in \
         {} dimension(s)); were the images and the labels swapped?",
        .path.display(), Element::of(*.expected), .expected & 0xff
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// The number it begins with.
        found: u32,
        /// The number it should begin with.
        expected: u32,
    },

    /// The header declares more content than is read.
    #[error(
        "{} declares the sizes {sizes:?}, which exceed the limit of {MAX_BYTES} bytes; \
         its header is damaged, download it again", .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The declared size of each dimension.
        sizes: Vec<u32>,
    },

    /// The file is shorter than its header declares.
    #[error(
        "{} is cut short: {found} bytes of content, expected {expected}; download it again",
        .path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its size in bytes, decompressed, header included.
        found: usize,
        /// The size it should have.
        expected: usize,
    },

    /// The file is longer than its header declares.
    #[error(
        "{} holds more than the {expected} bytes that its header declares; download it again",
        .path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The size it should have in bytes, decompressed, header included.
        expected: usize,
    },

    /// The images are not 28x28.
    #[error(
        "{} holds images of {height}x{width} pixels, expected 28x28; \
         pass --data DIR with a data set in MNIST's layout", .path.display()
    )]
    ImageSize {
        /// The file of images.
        path: PathBuf,
        /// Rows of an image.
        height: usize,
        /// Columns of an image.
        width: usize,
    },

    /// The numbers of images and labels differ.
    #[error(
        "{} holds {images} images but {} holds {labels} labels, expected as many of each; \
         take both files from the same data set", .images_path.display(), .labels_path.display()
    )]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// Its number of images.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// Its number of labels.
        labels: usize,
    },

    /// There are too few images.
    #[error(
        "{} holds {found} images, expected at least {least}; pass --data DIR with a larger data set",
        .path.display()
    )]
    TooFew {
        /// The file of images.
        path: PathBuf,
        /// Its number of images.
        found: usize,
        /// The least number that works.
        least: usize,
    },

    /// A label is not one of the ten classes.
    #[error(
        "{} gives image {index} (counted from 0) the label {label}, expected 0 to 9; \
         pass --data DIR with a data set of ten classes", .path.display()
    )]
    Label {
        /// The file of labels.
        path: PathBuf,
        /// The index of the first such label.
        index: usize,
        /// The label.
        label: i32,
    },

    /// The folder holds a part of EMNIST with more than ten classes.
    #[error(
        "{} belongs to a data set of {classes} classes, expected ten; \
         put the files emnist-digits-* or emnist-mnist-* into the folder", .path.display()
    )]
    Classes {
        /// The file of training images.
        path: PathBuf,
        /// The number of classes.
        classes: usize,
    },
}
