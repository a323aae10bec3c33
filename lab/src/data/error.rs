use std::path::PathBuf;

use super::idx::MAX_BYTES;

/// Why a data folder could not be read.
///
/// Each prints as a sentence that names the file, what it holds, what was expected, and what to
/// do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No folder was named, and neither of the usual places is there.
    #[error(
        "no MNIST data found: neither {} nor {} is a folder; \
         run from the checkout or pass --data DIR", .current.display(), .checkout.display()
    )]
    NotFound {
        /// The place under the current directory.
        current: PathBuf,
        /// The place in the checkout that the crate was built from.
        checkout: PathBuf,
    },

    /// The named folder is not there, or is not a folder.
    #[error(
        "{} is not a folder; pass --data DIR with a folder that holds the four MNIST files",
        .path.display()
    )]
    FolderMissing {
        /// The folder as it was named.
        path: PathBuf,
    },

    /// One of the four files is not in the folder.
    #[error(
        "{} holds no file {name} or {name}.gz; it needs the images and the labels \
         of both train and t10k; put the file there or pass --data DIR with another folder",
        .folder.display()
    )]
    FileMissing {
        /// The folder that was searched.
        folder: PathBuf,
        /// The official name of the file, without `.gz`.
        name: String,
    },

    /// The operating system would not let the file be read.
    #[error("cannot read {}: {source}; check the file and its permissions", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// The name ends in `.gz`, the content is something else.
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

    /// The gzip stream is damaged, or something follows it.
    #[error(
        "{} cannot be decompressed: {reason}, expected one intact gzip stream; download it again",
        .path.display()
    )]
    Gzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor said.
        reason: String,
    },

    /// The content is not in the IDX format at all.
    #[error(
        "{} is not an IDX file: it begins with the bytes {found:02x?}, \
         expected {expected:02x?}; download it again", .path.display()
    )]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most four.
        found: Vec<u8>,
        /// The first four bytes of the file it should be.
        expected: [u8; 4],
    },

    /// An IDX file, but of another element type or with another number of dimensions.
    #[error(
        "{} has the IDX magic number 0x{found:08x}, expected 0x{expected:08x} (unsigned bytes in \
         {} dimension(s)); were the images and the labels swapped?",
        .path.display(), .expected & 0xff
    )]
    Magic {
        /// The file.
        path: PathBuf,
        /// The number it begins with.
        found: u32,
        /// The number it should begin with.
        expected: u32,
    },

    /// The header declares more than any data set of this kind holds.
    #[error(
        "{} declares the sizes {sizes:?}, more than the {MAX_BYTES} bytes that are read at most; \
         its header is damaged, download it again", .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The declared size of each dimension.
        sizes: Vec<u32>,
    },

    /// The file ends before its header says it does.
    #[error(
        "{} is cut short: {found} bytes of content, expected {expected}; download it again",
        .path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// How many bytes there are, decompressed and with the header.
        found: usize,
        /// How many there should be.
        expected: usize,
    },

    /// The file goes on after its header says it ends.
    #[error(
        "{} holds more than the {expected} bytes that its header declares; download it again",
        .path.display()
    )]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// How many bytes there should be, decompressed and with the header.
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

    /// There are not as many labels as images.
    #[error(
        "{} holds {images} images but {} holds {labels} labels, expected as many of each; \
         take both files from the same data set", .images_path.display(), .labels_path.display()
    )]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// How many images it holds.
        images: usize,
        /// The file of labels.
        labels_path: PathBuf,
        /// How many labels it holds.
        labels: usize,
    },

    /// There are too few images to work with.
    #[error(
        "{} holds {found} images, expected at least {least}; pass --data DIR with a larger data set",
        .path.display()
    )]
    TooFew {
        /// The file of images.
        path: PathBuf,
        /// How many it holds.
        found: usize,
        /// How many are needed.
        least: usize,
    },

    /// A label is none of the ten classes.
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
        label: u8,
    },
}
