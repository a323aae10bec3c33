//! Finds the files of a data set in a folder, and reads them.

use std::path::{Path, PathBuf};

use super::idx::{self, Element};
use super::{DataError, ImageSet};

/// How a data set names and stores its four files.
struct Layout {
    /// The prefix of the names.
    prefix: &'static str,
    /// The name of the test part; the other is `train`.
    test: &'static str,
    labels: Labels,
    /// Whether images are stored column by column; MNIST stores them row by row.
    transposed: bool,
}

/// How labels are stored.
#[derive(Clone, Copy)]
enum Labels {
    /// One byte per image.
    Bytes,
    /// One row of 32-bit integers per image; the first is the class.
    Rows,
}

/// MNIST and the data sets that use its names (Fashion-MNIST, KMNIST), the two parts of EMNIST with ten classes, and
/// QMNIST. The first one whose files are all in the folder is read.
const LAYOUTS: [Layout; 4] = [
    Layout {
        prefix: "",
        test: "t10k",
        labels: Labels::Bytes,
        transposed: false,
    },
    Layout {
        prefix: "emnist-digits-",
        test: "test",
        labels: Labels::Bytes,
        transposed: true,
    },
    Layout {
        prefix: "emnist-mnist-",
        test: "test",
        labels: Labels::Bytes,
        transposed: true,
    },
    Layout {
        prefix: "qmnist-",
        test: "test",
        labels: Labels::Rows,
        transposed: false,
    },
];

/// The parts of EMNIST that have more than ten classes.
const UNSUPPORTED: [(&str, usize); 4] = [
    ("emnist-balanced-", 47),
    ("emnist-byclass-", 62),
    ("emnist-bymerge-", 47),
    ("emnist-letters-", 26),
];

/// Reads the training set and the test set of a folder.
pub(super) fn load(dir: &Path) -> Result<[ImageSet; 2], DataError> {
    let layout = Layout::find(dir)?;
    // With 12 images, one is held out for validation.
    Ok([
        layout.load(dir, "train", 12)?,
        layout.load(dir, layout.test, 1)?,
    ])
}

impl Layout {
    /// Finds a layout whose files are all in the folder, or else one with at least one file there.
    fn find(dir: &Path) -> Result<&'static Self, DataError> {
        let there = |layout: &Layout| layout.names().map(|name| find_file(dir, &name).is_some());
        let complete = |layout: &&Layout| !there(layout).contains(&false);
        let begun = |layout: &&Layout| there(layout).contains(&true);
        if let Some(layout) = LAYOUTS.iter().find(complete).or(LAYOUTS.iter().find(begun)) {
            return Ok(layout);
        }
        for (prefix, classes) in UNSUPPORTED {
            if let Some(path) = find_file(dir, &format!("{prefix}train-images-idx3-ubyte")) {
                return Err(DataError::Classes { path, classes });
            }
        }
        Ok(&LAYOUTS[0])
    }

    fn names(&self) -> [String; 4] {
        let [train, test] = ["train", self.test];
        [
            self.images_name(train),
            self.labels_name(train),
            self.images_name(test),
            self.labels_name(test),
        ]
    }

    fn images_name(&self, part: &str) -> String {
        format!("{}{part}-images-idx3-ubyte", self.prefix)
    }

    fn labels_name(&self, part: &str) -> String {
        let form = match self.labels {
            Labels::Bytes => "idx1-ubyte",
            Labels::Rows => "idx2-int",
        };
        format!("{}{part}-labels-{form}", self.prefix)
    }

    /// Reads the images and the labels of one part, which must hold at least `least` images.
    fn load(&self, dir: &Path, part: &str, least: usize) -> Result<ImageSet, DataError> {
        let path = |name: String| {
            find_file(dir, &name).ok_or_else(|| DataError::FileMissing {
                folder: dir.into(),
                name,
            })
        };
        let images_path = path(self.images_name(part))?;
        let labels_path = path(self.labels_name(part))?;
        let images = idx::read::<3>(&images_path, Element::Byte)?;
        let labels = self.labels.read(&labels_path)?;

        let [count, height, width] = images.sizes;
        if [height, width] != [ImageSet::SIDE; 2] {
            return Err(DataError::ImageSize {
                path: images_path,
                height,
                width,
            });
        }
        if count != labels.len() {
            return Err(DataError::CountMismatch {
                images_path,
                images: count,
                labels_path,
                labels: labels.len(),
            });
        }
        if count < least {
            return Err(DataError::TooFew {
                path: images_path,
                found: count,
                least,
            });
        }
        let class = |label: i32| {
            u8::try_from(label)
                .ok()
                .filter(|&it| usize::from(it) < ImageSet::CLASSES)
        };
        let classes: Option<Vec<u8>> = labels.iter().map(|&label| class(label)).collect();
        let classes = classes.ok_or_else(|| {
            let index = labels.iter().position(|&label| class(label).is_none());
            let index = index.expect("a label is no class");
            DataError::Label {
                path: labels_path,
                index,
                label: labels[index],
            }
        })?;

        let mut pixels = images.bytes;
        if self.transposed {
            pixels
                .chunks_exact_mut(ImageSet::PIXELS)
                .for_each(transpose);
        }
        Ok(ImageSet::new(pixels, classes))
    }
}

impl Labels {
    fn read(self, path: &Path) -> Result<Vec<i32>, DataError> {
        match self {
            Self::Bytes => {
                let labels = idx::read::<1>(path, Element::Byte)?;
                Ok(labels.bytes.into_iter().map(i32::from).collect())
            }
            Self::Rows => {
                let labels = idx::read::<2>(path, Element::Int)?;
                let row = (labels.sizes[1] * Element::Int.size()).max(1);
                let first = |row: &[u8]| i32::from_be_bytes([row[0], row[1], row[2], row[3]]);
                Ok(labels.bytes.chunks_exact(row).map(first).collect())
            }
        }
    }
}

/// Finds a file by its official name (`train-images-idx3-ubyte`) or with a dot instead of the hyphen before `idx`
/// (`train-images.idx3-ubyte`), plain or with `.gz` appended.
fn find_file(dir: &Path, official: &str) -> Option<PathBuf> {
    let dotted = official.replace("-idx", ".idx");
    [
        official,
        &dotted,
        &format!("{official}.gz"),
        &format!("{dotted}.gz"),
    ]
    .iter()
    .map(|name| dir.join(name))
    .find(|path| path.is_file())
}

/// Swaps the rows and the columns of an image.
fn transpose(image: &mut [u8]) {
    let side = ImageSet::SIDE;
    for row in 0..side {
        for column in row + 1..side {
            image.swap(row * side + column, column * side + row);
        }
    }
}
