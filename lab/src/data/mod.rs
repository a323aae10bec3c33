//! The MNIST data set: reading the files, making batches of them, and turning any picture of a
//! digit into an image of the same kind.
//!
//! [`Mnist::find`] and [`Mnist::load`] read a folder of four IDX files into two [`ImageSet`]s;
//! [`Mnist::train_and_validation`] sets the validation images apart; a [`Loader`] walks a set in
//! batches, as Burn's learner wants them.
//!
//! Any data set in the same layout works in MNIST's place: 28x28 images of one byte a pixel, with
//! ten classes (Fashion-MNIST, KMNIST, EMNIST-digits).

mod batch;
mod error;
mod idx;
mod image_set;
mod loader;
mod picture;

pub use batch::{DigitBatch, DigitBatcher, MEAN, STD, normalise};
pub use error::DataError;
pub use image_set::{Digit, ImageSet};
pub use loader::Loader;
pub use picture::{Picture, PictureError, draw};

use std::path::{Path, PathBuf};

/// How many images of the training file are set apart to validate: the last 5,000 of 60,000.
///
/// A training file of fewer than 60,000 images gives up one twelfth, the same proportion.
pub const VALIDATION: usize = 5_000;

/// Where the data lies in the checkout, relative to its root.
const FOLDER: &str = "data/mnist";

/// The two sets of images of an MNIST folder, each pixel still one byte.
#[derive(Clone, Debug)]
pub struct Mnist {
    /// All images of the training file: 60,000 in MNIST.
    pub train: ImageSet,
    /// The images of the test file: 10,000 in MNIST.
    pub test: ImageSet,
}

impl Mnist {
    /// Says which folder holds the data.
    ///
    /// With `dir`, that folder. Without, `data/mnist` under the current directory or, where that
    /// is not there, under the folder this crate was built in.
    ///
    /// # Errors
    ///
    /// [`DataError::FolderMissing`] if `dir` is not a folder, [`DataError::NotFound`] if neither of
    /// the two usual places is one.
    pub fn find(dir: Option<&Path>) -> Result<PathBuf, DataError> {
        if let Some(dir) = dir {
            return match dir.is_dir() {
                true => Ok(dir.to_path_buf()),
                false => Err(DataError::FolderMissing { path: dir.into() }),
            };
        }
        let current = std::env::current_dir().unwrap_or_default().join(FOLDER);
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name(FOLDER);
        if current.is_dir() {
            Ok(current)
        } else if checkout.is_dir() {
            Ok(checkout)
        } else {
            Err(DataError::NotFound { current, checkout })
        }
    }

    /// Reads the four files in `dir`.
    ///
    /// They go by their official names (`train-images-idx3-ubyte` and so on) or with a dot in the
    /// place of the second hyphen (`train-images.idx3-ubyte`), plain or with `.gz` after the name;
    /// where there are several, the plain file is read.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names the file, if one is missing, cannot be read or is not what it
    /// should be: 28x28 images and as many labels from 0 to 9, at least 12 to train on and 1 to
    /// test with.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        if !dir.is_dir() {
            return Err(DataError::FolderMissing { path: dir.into() });
        }
        Ok(Self {
            // With 12, one is left to validate.
            train: load_set(dir, "train", 12)?,
            test: load_set(dir, "t10k", 1)?,
        })
    }

    /// Splits [`train`](Self::train) into the images to train on and those to validate with, which
    /// are the last [`VALIDATION`] or, where there are fewer than 60,000, the last twelfth.
    ///
    /// Copies no image.
    pub fn train_and_validation(&self) -> (ImageSet, ImageSet) {
        let images = self.train.len();
        self.train.split_at(images - VALIDATION.min(images / 12))
    }
}

/// Reads the images and the labels of `part` (`train` or `t10k`).
fn load_set(dir: &Path, part: &str, least: usize) -> Result<ImageSet, DataError> {
    let images_path = find_file(dir, part, "images", 3)?;
    let labels_path = find_file(dir, part, "labels", 1)?;
    let images = idx::read::<3>(&images_path)?;
    let labels = idx::read::<1>(&labels_path)?;

    let [count, height, width] = images.sizes;
    if [height, width] != [ImageSet::SIDE; 2] {
        return Err(DataError::ImageSize {
            path: images_path,
            height,
            width,
        });
    }
    if count != labels.sizes[0] {
        return Err(DataError::CountMismatch {
            images_path,
            images: count,
            labels_path,
            labels: labels.sizes[0],
        });
    }
    if count < least {
        return Err(DataError::TooFew {
            path: images_path,
            found: count,
            least,
        });
    }
    let outside = |&label: &u8| usize::from(label) >= ImageSet::CLASSES;
    if let Some(index) = labels.bytes.iter().position(outside) {
        return Err(DataError::Label {
            path: labels_path,
            index,
            label: labels.bytes[index],
        });
    }
    Ok(ImageSet::new(images.bytes, labels.bytes))
}

/// The path of one of the four files, whichever of its names it goes by.
fn find_file(dir: &Path, part: &str, content: &str, rank: u8) -> Result<PathBuf, DataError> {
    let official = format!("{part}-{content}-idx{rank}-ubyte");
    let dotted = format!("{part}-{content}.idx{rank}-ubyte");
    [
        official.clone(),
        dotted.clone(),
        format!("{official}.gz"),
        format!("{dotted}.gz"),
    ]
    .iter()
    .map(|name| dir.join(name))
    .find(|path| path.is_file())
    .ok_or_else(|| DataError::FileMissing {
        folder: dir.into(),
        name: official,
    })
}
