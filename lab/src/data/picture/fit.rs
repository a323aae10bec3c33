//! Scales and centres a digit as MNIST's authors did.

use image::{GrayImage, imageops};

use super::scale::scale;
use super::shape::Bounds;
use crate::data::ImageSet;

/// The side of the box that MNIST's authors scaled each digit into.
const BOX: u32 = 20;

/// Crops ink to its bounding box, scales the box to 20x20 and centres it in 28x28. `None` if there is so little ink
/// that nothing remains.
pub(super) fn fit(ink: &GrayImage) -> Option<[u8; ImageSet::PIXELS]> {
    let bounds = ink
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel.0[0] > 0)
        .map(|(x, y, _)| Bounds::point(x, y))
        .reduce(|a, b| a.union(&b))?;
    let (width, height) = (bounds.width(), bounds.height());
    let digit = imageops::crop_imm(ink, bounds.left, bounds.top, width, height).to_image();

    let longer = f64::from(width.max(height));
    let scaled = |side: u32| (f64::from(side * BOX) / longer).round().max(1.0) as u32;
    let digit = scale(&digit, scaled(width), scaled(height));

    let strongest = u32::from(*digit.iter().max()?);
    let mass: f64 = digit.iter().map(|&ink| f64::from(ink)).sum();
    if strongest == 0 {
        return None;
    }
    // The first row (or column) of the digit that puts its centre of mass at row (or column) 14, counted from 0.
    // MNIST's images all have it there, to half a pixel.
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
        // A thin stroke is faint after scaling down; MNIST's strokes are not.
        pixels[row * ImageSet::SIDE + column] = (u32::from(ink.0[0]) * 255 / strongest) as u8;
    }
    Some(pixels)
}
