use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};

/// Images of 28x28 pixels and their labels, one byte each.
///
/// A set is a range of shared memory. [`subset`](Self::subset), [`split_at`](Self::split_at) and `clone` copy no image.
#[derive(Clone)]
pub struct ImageSet {
    pixels: Arc<[u8]>,
    labels: Arc<[u8]>,
    /// The images of this set, among those in memory.
    range: Range<usize>,
}

/// One image and its label, the item of an [`ImageSet`] as a Burn [`Dataset`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digit {
    /// The image, row by row: 0 is background, 255 is ink.
    pub pixels: [u8; ImageSet::PIXELS],
    /// Its label, 0 to 9.
    pub label: u8,
}

impl ImageSet {
    /// Rows of an image, and columns.
    pub const SIDE: usize = 28;
    /// Pixels of an image.
    pub const PIXELS: usize = Self::SIDE * Self::SIDE;
    /// Number of different labels.
    pub const CLASSES: usize = 10;

    /// Creates a set from the pixels of all images, each row by row, and their labels.
    ///
    /// # Panics
    ///
    /// If there are not 784 pixels for each label, or if a label is above 9.
    pub fn new(pixels: impl Into<Arc<[u8]>>, labels: impl Into<Arc<[u8]>>) -> Self {
        let (pixels, labels) = (pixels.into(), labels.into());
        assert_eq!(
            pixels.len(),
            labels.len() * Self::PIXELS,
            "an image set needs 784 pixels for each of its {} labels",
            labels.len()
        );
        assert!(
            labels.iter().all(|&it| usize::from(it) < Self::CLASSES),
            "the labels of an image set go from 0 to 9"
        );
        let range = 0..labels.len();
        Self {
            pixels,
            labels,
            range,
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether the set holds no image.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The CRC-32 of all pixels, followed by all labels.
    pub fn checksum(&self) -> u32 {
        let pixels = self.range.start * Self::PIXELS..self.range.end * Self::PIXELS;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.pixels[pixels]);
        hasher.update(&self.labels[self.range.clone()]);
        hasher.finalize()
    }

    /// The 784 pixels of image `i`, row by row: 0 is background, 255 is ink.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    pub fn image(&self, i: usize) -> &[u8] {
        let start = self.position(i) * Self::PIXELS;
        &self.pixels[start..start + Self::PIXELS]
    }

    /// The label of image `i`, 0 to 9.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    pub fn label(&self, i: usize) -> u8 {
        self.labels[self.position(i)]
    }

    /// A copy of image `i` and its label.
    ///
    /// # Panics
    ///
    /// If `i >= len()`.
    pub fn digit(&self, i: usize) -> Digit {
        let mut pixels = [0; Self::PIXELS];
        pixels.copy_from_slice(self.image(i));
        Digit {
            pixels,
            label: self.label(i),
        }
    }

    /// The images in `range`. Copies nothing.
    ///
    /// # Panics
    ///
    /// If `range` does not lie within `0..len()`.
    pub fn subset(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "the images {range:?} are not a part of a set of {}",
            self.len()
        );
        Self {
            range: self.range.start + range.start..self.range.start + range.end,
            ..self.clone()
        }
    }

    /// The first `n` images, and the rest. Copies nothing.
    ///
    /// # Panics
    ///
    /// If `n > len()`.
    pub fn split_at(&self, n: usize) -> (Self, Self) {
        (self.subset(0..n), self.subset(n..self.len()))
    }

    /// The position of image `i` in memory.
    fn position(&self, i: usize) -> usize {
        assert!(i < self.len(), "image {i} of a set of {}", self.len());
        self.range.start + i
    }
}

impl fmt::Debug for ImageSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageSet")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Dataset<Digit> for ImageSet {
    fn get(&self, index: usize) -> Result<Digit, DatasetError> {
        Ok(self.digit(index))
    }

    fn len(&self) -> usize {
        self.len()
    }
}
