//! The MNIST data set: reads its files, makes batches, and prepares pictures of digits.
//!
//! [`Mnist::find`] and [`Mnist::load`] read a folder of four IDX files into two [`ImageSet`]s.
//! [`Mnist::train_and_validation`] splits off the validation images. A [`Loader`] iterates over a set in batches, as
//! Burn's learner expects. [`Picture::open`] turns the picture of a digit into an image like MNIST's.
//!
//! Other data sets work in MNIST's place if they have 28x28 images and ten classes: Fashion-MNIST, KMNIST, QMNIST, and
//! the `digits` and `mnist` parts of EMNIST. Their files must keep their official names: EMNIST stores its images
//! transposed, and only the names show it.

mod batch;
mod batches;
mod error;
mod files;
mod gzip;
mod idx;
mod image_set;
mod loader;
mod picture;

pub use batch::{DigitBatch, DigitBatcher, MEAN, STD, normalise};
pub use batches::Batches;
pub use error::DataError;
pub use image_set::{Digit, ImageSet};
pub use loader::Loader;
pub use picture::{Doubt, Picture, PictureError, draw};

use std::path::{Path, PathBuf};

/// The number of training images held out for validation: the last 5,000 of 60,000.
///
/// With fewer than 60,000 images, the last twelfth is held out: the same proportion.
pub const VALIDATION: usize = 5_000;

/// The folder of the data in the checkout.
const FOLDER: &str = "data/mnist";

/// The two image sets of an MNIST folder, one byte per pixel.
#[derive(Clone, Debug)]
pub struct Mnist {
    /// All images of the training file: 60,000 in MNIST.
    pub train: ImageSet,
    /// The images of the test file: 10,000 in MNIST.
    pub test: ImageSet,
}

impl Mnist {
    /// Returns the folder that holds the data.
    ///
    /// That is `dir` if given. Otherwise it is `data/mnist` in the current directory or, if that does not exist, in the
    /// checkout that this crate was built from.
    ///
    /// # Errors
    ///
    /// [`DataError::FolderMissing`] if `dir` is not a folder, [`DataError::NotFound`] if neither default folder exists.
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
    /// It looks for the official names of MNIST (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, ...), then of
    /// EMNIST (`emnist-digits-*`, then `emnist-mnist-*`), then of QMNIST (`qmnist-*`). A dot may replace the hyphen
    /// before `idx`. Each file may be plain or end in `.gz`; the plain file is preferred. EMNIST's images are
    /// transposed to stand upright.
    ///
    /// # Errors
    ///
    /// A [`DataError`] that names the file, if it is missing, cannot be read, or does not hold 28x28 images and as many
    /// labels from 0 to 9, at least 12 in the training set and 1 in the test set. For a part of EMNIST with more than
    /// ten classes, the error is [`DataError::Classes`].
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        if !dir.is_dir() {
            return Err(DataError::FolderMissing { path: dir.into() });
        }
        let [train, test] = files::load(dir)?;
        Ok(Self { train, test })
    }

    /// Splits [`train`](Self::train) into the images to train on and those to validate on.
    ///
    /// The validation images are the last [`VALIDATION`] or, if there are fewer than 60,000, the last twelfth. No image
    /// is copied.
    pub fn train_and_validation(&self) -> (ImageSet, ImageSet) {
        let images = self.train.len();
        self.train.split_at(images - VALIDATION.min(images / 12))
    }
}
