//! Reads picture files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageDecoder, ImageError, ImageReader, Limits, Luma};

use super::PictureError;

/// The most pixels per side of a picture.
pub(super) const MAX_SIDE: u32 = 10_000;

/// The most bytes that decoding may take: enough for 10,000 x 10,000 pixels of RGBA.
const MAX_DECODED: u64 = 512 << 20;

/// Reads a PNG or JPEG file as grey, upright according to its EXIF orientation.
///
/// Transparent parts become white, or black if the opaque parts are light.
pub(super) fn read(path: &Path) -> Result<GrayImage, PictureError> {
    let read_failed = |source| PictureError::Read {
        path: path.into(),
        source,
    };
    let file = File::open(path).map_err(read_failed)?;
    let reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(read_failed)?;
    let picture = decode(reader).map_err(|error| match error {
        ImageError::Limits(_) => PictureError::TooLarge { path: path.into() },
        source => PictureError::Decode {
            path: path.into(),
            source,
        },
    })?;
    Ok(match picture.color().has_alpha() {
        true => flatten(&picture),
        false => picture.into_luma8(),
    })
}

fn decode(mut reader: ImageReader<BufReader<File>>) -> Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Puts a picture with transparent parts on white, or on black if the opaque parts are light.
fn flatten(picture: &DynamicImage) -> GrayImage {
    let picture = picture.to_luma_alpha8();
    let opaque = |pixel: &image::LumaA<u8>| pixel.0.map(u64::from);
    let (light, total) = picture
        .pixels()
        .map(opaque)
        .fold((0, 0), |(light, total), [grey, alpha]| {
            (light + grey * alpha, total + alpha)
        });
    let canvas = if 2 * light > 255 * total { 0 } else { 255 };
    let (width, height) = picture.dimensions();
    GrayImage::from_fn(width, height, |x, y| {
        let [grey, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        Luma([((grey * alpha + canvas * (255 - alpha) + 127) / 255) as u8])
    })
}
