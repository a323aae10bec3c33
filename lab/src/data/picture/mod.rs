//! Pictures of digits: reads them, and turns them into images like MNIST's.

mod background;
mod doubt;
mod draw;
mod error;
mod file;
mod fit;
mod noise;
mod prepare;
mod scale;
mod shape;

pub use doubt::Doubt;
pub use draw::draw;
pub use error::PictureError;

use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::{ImageSet, normalise};

/// A picture of a digit, turned into an image like MNIST's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pixels: [u8; ImageSet::PIXELS],
    doubts: Vec<Doubt>,
}

impl Picture {
    /// Reads a PNG or JPEG file of any size and prepares it as MNIST's authors prepared their images (LeCun, Cortes and
    /// Burges, "The MNIST database of handwritten digits").
    ///
    /// 1. The picture is decoded, turned upright by its EXIF orientation, and converted to grey. Transparent parts
    ///    become white, or black if the opaque parts are light.
    /// 2. The background is estimated at each pixel, so uneven light, shaded corners and dark edges do not count as
    ///    ink. This also detects whether the ink is dark on light paper or light on a dark board.
    /// 3. The digit is the connected shape with the most ink that does not touch the border, with the strokes near it.
    ///    Specks and ruled lines are left out.
    /// 4. The digit is cropped, scaled to fit 20x20 pixels with its aspect ratio kept, and placed with its centre of
    ///    mass in the middle of 28x28. Its strongest spot becomes 255.
    ///
    /// [`doubts`](Self::doubts) lists what may make the result wrong.
    ///
    /// # Errors
    ///
    /// A [`PictureError`] that names the file, if it cannot be read or decoded, is larger than 10,000 x 10,000 pixels,
    /// or shows no ink.
    pub fn open(path: &Path) -> Result<Self, PictureError> {
        let grey = file::read(path)?;
        match prepare::prepare(&grey) {
            Some(prepared) => Ok(Self {
                pixels: prepared.pixels,
                doubts: prepared.doubts,
            }),
            None => Err(PictureError::NoInk { path: path.into() }),
        }
    }

    /// The 784 pixels, row by row: 0 is background, 255 is ink.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Reasons why the picture may be misread; empty if there are none.
    pub fn doubts(&self) -> &[Doubt] {
        &self.doubts
    }

    /// The picture as a network's input: `[1, 28, 28]`, normalised by [`normalise`].
    pub fn tensor(&self, device: &Device) -> Tensor<3> {
        normalise(std::iter::once(self.pixels()), device)
    }
}
