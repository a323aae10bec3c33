//! Turns a grey picture of a digit into an image like MNIST's.

use std::borrow::Cow;

use image::{GrayImage, Luma};

use super::background::Flat;
use super::doubt::Doubt;
use super::fit::fit;
use super::noise::noise;
use super::scale::{blur, scale};
use super::shape::{self, Bounds, Found};
use crate::data::ImageSet;

/// The digit is searched for in a copy of the picture with this longer side.
const SEARCHED: u32 = 512;

/// The least contrast, of 255, between ink and paper.
const MIN_CONTRAST: u8 = 16;

/// The least contrast between ink and paper, in standard deviations of the noise.
const CLEAR: f64 = 12.0;

/// Ink below this, of 255, is the texture of the paper.
const MIN_INK: f64 = 25.5;

/// A digit in MNIST's form, and the doubts about it.
pub(super) struct Prepared {
    pub pixels: [u8; ImageSet::PIXELS],
    pub doubts: Vec<Doubt>,
}

/// Finds the digit and prepares it. `None` if nothing stands out from the background.
pub(super) fn prepare(grey: &GrayImage) -> Option<Prepared> {
    let (width, height) = grey.dimensions();
    let darkest = *grey.iter().min()?;
    let lightest = *grey.iter().max()?;
    if lightest - darkest < MIN_CONTRAST {
        return None;
    }
    let longer = width.max(height);
    let small = match longer <= SEARCHED {
        true => Cow::Borrowed(grey),
        false => {
            let reduced = |side: u32| (side * SEARCHED).div_ceil(longer);
            Cow::Owned(scale(grey, reduced(width), reduced(height)))
        }
    };
    let [first, second] = Flat::estimates(&small).map(|flat| Candidate::new(&small, flat));
    let Candidate { flat, found, noise } = match (first, second) {
        // A sheet of paper on a table, or a pool of light: the digit is in it.
        (Some(sheet), Some(digit)) if digit.lies_on(&sheet, &small) => digit,
        (first, second) => first.or(second)?,
    };
    let ink = extract(grey, &small, &flat, &found);
    let side = ink.width().max(ink.height());
    let doubts = Doubt::all(&found, side, noise);
    Some(Prepared {
        pixels: fit(&ink)?,
        doubts,
    })
}

/// One reading of a picture: with dark ink or with light ink.
struct Candidate {
    flat: Flat,
    found: Found,
    /// The standard deviation of the noise in the picture that was searched.
    noise: f64,
}

impl Candidate {
    /// Searches for a digit. `None` if nothing stands out from the background.
    fn new(grey: &GrayImage, flat: Flat) -> Option<Self> {
        let strongest = f64::from(*flat.contrasts(grey).iter().max()?);
        let noise = noise(grey) * 255.0 / f64::from(flat.brightest).max(1.0);
        // Strokes are rarely thinner than 1/60 of the picture.
        let most = grey.width().max(grey.height()) / 60;
        let reach = ((16.0 * noise / strongest.max(1.0)).round() as u32).min(most);
        let noise = noise / f64::from(2 * reach + 1);
        let found = shape::find(&flat.contrasts(&blur(grey, reach)), noise)?;
        let clear = found.strongest >= MIN_CONTRAST && f64::from(found.strongest) >= CLEAR * noise;
        clear.then_some(Self { flat, found, noise })
    }

    /// Whether this ink lies on `sheet`: a sheet of paper or a pool of light that the other candidate took for ink.
    fn lies_on(&self, sheet: &Self, grey: &GrayImage) -> bool {
        let (digit, patch) = (&self.found, &sheet.found);
        let solid = patch.solidity > 0.7 && !patch.bounds.is_slender();
        let large = 5 * digit.bounds.size() >= patch.bounds.size();
        if !(solid && large && patch.bounds.encloses(&digit.bounds)) {
            return false;
        }
        // A hole of a digit shows the same surface as the surroundings of the digit.
        let mut differences: Vec<u8> = (digit
            .mask
            .iter()
            .zip(grey.iter())
            .zip(sheet.flat.background.iter()))
        .filter(|((mask, _), _)| **mask > 0)
        .map(|((_, &grey), background)| {
            let grey = if sheet.flat.light_on_dark {
                255 - grey
            } else {
                grey
            };
            grey.abs_diff(*background)
        })
        .collect();
        // The lower fifth: the blurred edges of a hole differ.
        let fifth = differences.len() / 5;
        let least = *differences.select_nth_unstable(fifth).1;
        patch.fill > 0.8 || 8 * u32::from(least) > u32::from(patch.strongest)
    }
}

/// The ink of the digit, from 0 to 255 for the strongest, at the full resolution of the picture.
fn extract(grey: &GrayImage, small: &GrayImage, flat: &Flat, found: &Found) -> GrayImage {
    let (width, height) = grey.dimensions();
    // Pixels of the small picture per pixel of the large one: at most 1.
    let [across, down] = [(small.width(), width), (small.height(), height)]
        .map(|(s, l)| f64::from(s) / f64::from(l));
    let reach = 1.max(found.bounds.size() / 40);
    let mask = grow(&found.mask, reach);
    let bounds = Bounds {
        left: found.bounds.left.saturating_sub(reach),
        top: found.bounds.top.saturating_sub(reach),
        right: (found.bounds.right + reach).min(small.width() - 1),
        bottom: (found.bounds.bottom + reach).min(small.height() - 1),
    };
    let start = |i: u32, share: f64| (f64::from(i) / share).floor() as u32;
    let end = |i: u32, share: f64, side: u32| ((f64::from(i + 1) / share).ceil() as u32).min(side);
    let (left, top) = (start(bounds.left, across), start(bounds.top, down));
    let (right, bottom) = (
        end(bounds.right, across, width),
        end(bounds.bottom, down, height),
    );

    let clear_of = f64::from(found.clear_of);
    let range = f64::from(found.strongest) - clear_of;
    let floor = MIN_INK.max(3.0 * noise(grey) * 255.0 / range);
    GrayImage::from_fn(right - left, bottom - top, |x, y| {
        let at = |i: u32, share: f64| (f64::from(i) + 0.5) * share;
        let (small_x, small_y) = (at(x + left, across), at(y + top, down));
        if mask.get_pixel(small_x as u32, small_y as u32).0[0] == 0 {
            return Luma([0]);
        }
        let background = match across == 1.0 && down == 1.0 {
            true => flat.background.get_pixel(x + left, y + top).0[0],
            false => between(&flat.background, small_x - 0.5, small_y - 0.5),
        };
        let contrast = flat.contrast(grey.get_pixel(x + left, y + top).0[0], background);
        let ink = ((f64::from(contrast) - clear_of) * 255.0 / range)
            .clamp(0.0, 255.0)
            .round();
        Luma([if ink < floor { 0 } else { ink as u8 }])
    })
}

/// Interpolates between the pixels around a position. Coordinate 0 is the middle of the first pixel.
fn between(picture: &GrayImage, x: f64, y: f64) -> u8 {
    let (x, y) = (
        x.clamp(0.0, f64::from(picture.width() - 1)),
        y.clamp(0.0, f64::from(picture.height() - 1)),
    );
    let at = |x: u32, y: u32| {
        f64::from(
            picture
                .get_pixel(x.min(picture.width() - 1), y.min(picture.height() - 1))
                .0[0],
        )
    };
    let (column, row) = (x as u32, y as u32);
    let row_at = |row: u32| at(column, row) + x.fract() * (at(column + 1, row) - at(column, row));
    (row_at(row) + y.fract() * (row_at(row + 1) - row_at(row))).round() as u8
}

/// Makes a mask wider by `reach` on each side.
fn grow(mask: &GrayImage, reach: u32) -> GrayImage {
    let (width, height) = mask.dimensions();
    let mut grown = GrayImage::new(width, height);
    for (x, y, pixel) in mask.enumerate_pixels() {
        if pixel.0[0] == 0 {
            continue;
        }
        for y in y.saturating_sub(reach)..=(y + reach).min(height - 1) {
            for x in x.saturating_sub(reach)..=(x + reach).min(width - 1) {
                grown.put_pixel(x, y, Luma([255]));
            }
        }
    }
    grown
}
