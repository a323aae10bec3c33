use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use image::imageops;
use image::{GrayImage, ImageError, ImageFormat, ImageReader, Limits, Luma};

use super::{ImageSet, normalise};

/// The most pixels a side that a picture may have.
const MAX_SIDE: u32 = 10_000;

/// The most bytes that decoding may take: enough for 10,000 x 10,000 pixels of RGBA.
const MAX_DECODED: u64 = 512 << 20;

/// The side of the box that MNIST's authors scaled each digit into.
const BOX: u32 = 20;

/// The least difference, in grey levels, between the darkest and the lightest pixel of a picture
/// that shows something.
const MIN_CONTRAST: u8 = 16;

/// Less ink than this, of 255, is the texture of the paper.
const MIN_INK: u8 = 26;

/// A picture of a digit, brought into the form of MNIST's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pixels: [u8; ImageSet::PIXELS],
}

/// Why a picture could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The operating system would not let the file be read.
    #[error("cannot read {}: {source}; check the path and the file's permissions", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// The file is not a PNG, or is damaged.
    #[error("{} cannot be decoded as PNG: {source}; save the picture as PNG", .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: ImageError,
    },

    /// The picture has more pixels than are read.
    #[error(
        "{} is larger than the {MAX_SIDE} x {MAX_SIDE} pixels of 4 bytes that are read at most; \
         scale it down", .path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },

    /// The picture is of one colour, or nearly so.
    #[error(
        "{} shows no ink: all its pixels are nearly the same grey (transparent ones count as \
         white); draw one digit, dark on light or light on dark", .path.display()
    )]
    NoInk {
        /// The file.
        path: PathBuf,
    },
}

impl Picture {
    /// Reads a PNG file of any size and prepares it as MNIST's authors did theirs (LeCun, Cortes
    /// and Burges, "The MNIST database of handwritten digits").
    ///
    /// The picture becomes grey, transparent parts on white. Whether it is dark on light or light
    /// on dark is told from its border, which is taken for background. The ink is cropped to its
    /// bounding box, scaled to fit a box of 20x20 with its aspect kept, and placed with its centre
    /// of mass in the middle of 28x28. Its strongest spot becomes 255.
    ///
    /// # Errors
    ///
    /// A [`PictureError`] that names the file, if it cannot be read or decoded, is larger than
    /// 10,000 x 10,000 pixels, or shows nothing.
    pub fn open(path: &Path) -> Result<Self, PictureError> {
        let grey = decode(path)?;
        let ink = extract_ink(grey).and_then(|ink| fit(&ink));
        match ink {
            Some(pixels) => Ok(Self { pixels }),
            None => Err(PictureError::NoInk { path: path.into() }),
        }
    }

    /// The 784 pixels, row by row: 0 is background, 255 is ink.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The picture as a network's input, `[1, 28, 28]`, normalised as by [`normalise`].
    pub fn tensor(&self, device: &Device) -> Tensor<3> {
        normalise(std::iter::once(self.pixels()), device)
    }
}

/// Reads a picture as grey on white.
fn decode(path: &Path) -> Result<GrayImage, PictureError> {
    let file = File::open(path).map_err(|source| PictureError::Read {
        path: path.into(),
        source,
    })?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader = ImageReader::with_format(BufReader::new(file), ImageFormat::Png);
    reader.limits(limits);
    let picture = reader.decode().map_err(|error| match error {
        ImageError::Limits(_) => PictureError::TooLarge { path: path.into() },
        source => PictureError::Decode {
            path: path.into(),
            source,
        },
    })?;

    if !picture.color().has_alpha() {
        return Ok(picture.into_luma8());
    }
    let picture = picture.into_luma_alpha8();
    let (width, height) = picture.dimensions();
    Ok(GrayImage::from_fn(width, height, |x, y| {
        let [grey, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        Luma([((grey * alpha + 255 * (255 - alpha) + 127) / 255) as u8])
    }))
}

/// Turns brightness into ink, from 0 for the background to 255 for what differs most from it.
/// `None` if nothing does.
fn extract_ink(mut grey: GrayImage) -> Option<GrayImage> {
    let darkest = *grey.iter().min()?;
    let lightest = *grey.iter().max()?;
    if lightest - darkest < MIN_CONTRAST {
        return None;
    }

    let (width, height) = grey.dimensions();
    let mut border: Vec<u8> = grey
        .enumerate_pixels()
        .filter(|&(x, y, _)| x == 0 || y == 0 || x == width - 1 || y == height - 1)
        .map(|(_, _, pixel)| pixel.0[0])
        .collect();
    // The median holds even where the ink runs off the edge.
    let middle = border.len() / 2;
    let background = *border.select_nth_unstable(middle).1;
    let dark_on_light = background - darkest >= lightest - background;
    let range = u32::from(if dark_on_light {
        background - darkest
    } else {
        lightest - background
    });

    for pixel in grey.iter_mut() {
        let difference = if dark_on_light {
            background.saturating_sub(*pixel)
        } else {
            pixel.saturating_sub(background)
        };
        let ink = ((u32::from(difference) * 255 + range / 2) / range) as u8;
        *pixel = if ink < MIN_INK { 0 } else { ink };
    }
    Some(grey)
}

/// Crops ink to its bounding box, scales that to 20x20 and centres it in 28x28. `None` if there is
/// so little ink that nothing is left of it.
fn fit(ink: &GrayImage) -> Option<[u8; ImageSet::PIXELS]> {
    let inked = || {
        ink.enumerate_pixels()
            .filter(|(_, _, pixel)| pixel.0[0] > 0)
    };
    let left = inked().map(|(x, _, _)| x).min()?;
    let right = inked().map(|(x, _, _)| x).max()?;
    let top = inked().map(|(_, y, _)| y).min()?;
    let bottom = inked().map(|(_, y, _)| y).max()?;
    let (width, height) = (right - left + 1, bottom - top + 1);
    let digit = imageops::crop_imm(ink, left, top, width, height).to_image();

    let longer = f64::from(width.max(height));
    let scaled = |side: u32| (f64::from(side * BOX) / longer).round().max(1.0) as u32;
    let digit = scale(&digit, scaled(width), scaled(height));

    let strongest = u32::from(*digit.iter().max()?);
    let mass: f64 = digit.iter().map(|&ink| f64::from(ink)).sum();
    if strongest == 0 {
        return None;
    }
    // Where the digit begins, along one axis, for its centre of mass to come to row (or column) 14,
    // counted from 0: that is where it lies in each of MNIST's images, to half a pixel.
    let offset = |position: fn(u32, u32) -> u32, side: u32| {
        let moment: f64 = digit
            .enumerate_pixels()
            .map(|(x, y, ink)| f64::from(position(x, y)) * f64::from(ink.0[0]))
            .sum();
        let room = ImageSet::SIDE as u32 - side;
        let centred = (ImageSet::SIDE as f64 / 2.0 - moment / mass).round();
        centred.clamp(0.0, f64::from(room)) as usize
    };
    let left = offset(|x, _| x, digit.width());
    let top = offset(|_, y| y, digit.height());

    let mut pixels = [0; ImageSet::PIXELS];
    for (x, y, ink) in digit.enumerate_pixels() {
        let (row, column) = (top + y as usize, left + x as usize);
        // A thin pen is faint once it is scaled down; MNIST's strokes are not.
        pixels[row * ImageSet::SIDE + column] = (u32::from(ink.0[0]) * 255 / strongest) as u8;
    }
    Some(pixels)
}

/// Scales a picture to `width` x `height`, each pixel the mean of the area that it covers.
fn scale(picture: &GrayImage, width: u32, height: u32) -> GrayImage {
    let area = u64::from(picture.width()) * u64::from(picture.height());
    GrayImage::from_fn(width, height, |x, y| {
        let mut sum = 0;
        for (row, row_share) in covered(y, height, picture.height()) {
            for (column, column_share) in covered(x, width, picture.width()) {
                let pixel = picture.get_pixel(column, row).0[0];
                sum += row_share * column_share * u64::from(pixel);
            }
        }
        Luma([((sum + area / 2) / area) as u8])
    })
}

/// The pixels that pixel `i` of `to` covers in a row of `from`, with their shares in it. The shares
/// add up to `from`.
fn covered(i: u32, to: u32, from: u32) -> impl Iterator<Item = (u32, u64)> {
    // In this unit, a pixel of the one row is `from` long and a pixel of the other `to`.
    let [i, to, from] = [i, to, from].map(u64::from);
    let (start, end) = (i * from, (i + 1) * from);
    (start / to..end.div_ceil(to)).map(move |j| {
        let share = end.min((j + 1) * to) - start.max(j * to);
        (j as u32, share)
    })
}

/// Draws an image of 784 bytes as text, 28 columns wide and 14 lines high: a character stands for
/// two pixels, one above the other, each inked or not.
///
/// # Panics
///
/// If `image` is not of 784 bytes.
pub fn draw(image: &[u8]) -> String {
    assert_eq!(image.len(), ImageSet::PIXELS, "an image has 784 pixels");
    let mut text = String::new();
    for rows in image.chunks_exact(2 * ImageSet::SIDE) {
        let (upper, lower) = rows.split_at(ImageSet::SIDE);
        let line: String = upper
            .iter()
            .zip(lower)
            .map(|(&upper, &lower)| match (upper >= 96, lower >= 96) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
