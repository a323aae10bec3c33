//! Separates ink from paper in uneven light: estimates the background at each pixel and measures how far the pixel
//! departs from it.
//!
//! The background is a morphological closing (Serra, "Image Analysis and Mathematical Morphology", 1982): the
//! brightness after every dark shape narrower than a square window has been filled in. It follows gradients and the
//! edges of shadows exactly; the mean of a neighbourhood does not. The outside of the picture counts as dark, so
//! whatever runs along the border (a table, a shaded corner) belongs to the background.

use image::imageops;
use image::{GrayImage, Luma};

use super::noise::noise;

/// The side of the window, as a share of the picture's longer side. Strokes must be narrower.
const WINDOW: f64 = 0.4;

/// Contrast is divided by the background, but at least by this share of the brightest background. Otherwise noise in
/// deep shade would count as ink.
const DEEPEST_SHADE: f64 = 0.35;

/// Ink and paper are at least this many standard deviations of the noise apart.
const APART: f64 = 4.0;

/// A picture's estimated background, from which contrast is measured.
pub(super) struct Flat {
    /// Whether the ink is lighter than the paper. If so, the other fields describe the negative.
    pub light_on_dark: bool,
    /// The brightness of the paper at each pixel.
    pub background: GrayImage,
    /// The brightest background.
    pub brightest: u8,
}

impl Flat {
    /// Estimates the background of a picture once for dark ink and once for light ink, the likelier first.
    ///
    /// The right choice removes the ink from the background; the wrong one leaves all of it there. So the smoother
    /// background is the likelier one.
    pub fn estimates(grey: &GrayImage) -> [Self; 2] {
        let negative = negative(grey);
        let (paper, board) = (close(grey), close(&negative));
        let board_is_smoother = variation(&board) < variation(&paper);
        let mut estimates = [
            Self::new(grey, paper, false),
            Self::new(&negative, board, true),
        ];
        if board_is_smoother {
            estimates.reverse();
        }
        estimates
    }

    fn new(grey: &GrayImage, mut background: GrayImage, light_on_dark: bool) -> Self {
        let lift = lift(grey, &background);
        for pixel in background.iter_mut() {
            *pixel = pixel.saturating_sub(lift);
        }
        Self {
            light_on_dark,
            brightest: background.iter().copied().max().unwrap_or(0),
            background,
        }
    }

    /// How far brightness `grey` departs from the background `background` towards ink: the share of light that the
    /// ink takes away, from 0 for the paper to 255.
    pub fn contrast(&self, grey: u8, background: u8) -> u8 {
        let grey = if self.light_on_dark { 255 - grey } else { grey };
        let light = f64::from(background).max(DEEPEST_SHADE * f64::from(self.brightest));
        let taken = f64::from(background.saturating_sub(grey));
        (255.0 * taken / light.max(1.0)).round() as u8
    }

    /// The [`contrast`](Self::contrast) at each pixel of `grey`, the picture that this background belongs to.
    pub fn contrasts(&self, grey: &GrayImage) -> GrayImage {
        let (width, height) = grey.dimensions();
        GrayImage::from_fn(width, height, |x, y| {
            let background = self.background.get_pixel(x, y).0[0];
            Luma([self.contrast(grey.get_pixel(x, y).0[0], background)])
        })
    }
}

fn negative(grey: &GrayImage) -> GrayImage {
    let mut negative = grey.clone();
    imageops::invert(&mut negative);
    negative
}

/// Fills in each dark shape that is too small to hold the whole window.
fn close(grey: &GrayImage) -> GrayImage {
    let (width, height) = grey.dimensions();
    let reach = (f64::from(width.max(height)) * WINDOW / 2.0).ceil() as u32;
    let window = 2 * reach + 1;
    // Room for windows that overhang the border, and for the windows that overlap them.
    let mut padded = GrayImage::new(width + 4 * reach, height + 4 * reach);
    imageops::replace(&mut padded, grey, (2 * reach).into(), (2 * reach).into());
    let spread = maximum(&padded, window);
    negative(&maximum(&negative(&spread), window))
}

/// The largest value in each square window that fits into the picture.
fn maximum(grey: &GrayImage, window: u32) -> GrayImage {
    maximum_of_rows(&maximum_of_rows(grey, window), window)
}

/// The largest value in each run of `window` pixels of a row, transposed. The cost does not depend on the window (van
/// Herk, Pattern Recognition Letters 13, 1992).
fn maximum_of_rows(grey: &GrayImage, window: u32) -> GrayImage {
    let (width, height) = grey.dimensions();
    let window = window as usize;
    let mut transposed = GrayImage::new(height, width - window as u32 + 1);
    let mut from_start = vec![0; width as usize];
    let mut to_end = vec![0; width as usize];
    for (y, row) in grey.chunks_exact(width as usize).enumerate() {
        // The largest value since the last multiple of the window, and the largest until the next.
        for (i, block) in row.chunks(window).enumerate() {
            let mut largest = 0;
            for (j, &value) in block.iter().enumerate() {
                largest = value.max(largest);
                from_start[i * window + j] = largest;
            }
            largest = 0;
            for (j, &value) in block.iter().enumerate().rev() {
                largest = value.max(largest);
                to_end[i * window + j] = largest;
            }
        }
        for x in 0..=row.len() - window {
            let largest = to_end[x].max(from_start[x + window - 1]);
            transposed.put_pixel(y as u32, x as u32, Luma([largest]));
        }
    }
    transposed
}

/// The sum of the differences between neighbouring pixels.
fn variation(grey: &GrayImage) -> u64 {
    let (width, height) = grey.dimensions();
    let at = |x, y| grey.get_pixel(x, y).0[0];
    grey.enumerate_pixels()
        .map(|(x, y, pixel)| {
            let right = if x + 1 < width {
                at(x + 1, y)
            } else {
                pixel.0[0]
            };
            let below = if y + 1 < height {
                at(x, y + 1)
            } else {
                pixel.0[0]
            };
            u64::from(pixel.0[0].abs_diff(right)) + u64::from(pixel.0[0].abs_diff(below))
        })
        .sum()
}

/// How far noise lifts a closing above the paper: a closing follows the brightest pixels.
fn lift(grey: &GrayImage, background: &GrayImage) -> u8 {
    let mut counts = [0u64; 256];
    for (grey, background) in grey.iter().zip(background.iter()) {
        counts[usize::from(background - grey)] += 1;
    }
    let paper = &counts[..split(&counts, APART * noise(grey))];
    let all: u64 = paper.iter().sum();
    let mut below = 0;
    let median = paper.iter().position(|count| {
        below += count;
        2 * below >= all
    });
    median.unwrap_or(0) as u8
}

/// Splits a histogram in two so that the variance between the parts is largest, and returns the first value of the
/// upper part (Otsu, IEEE Transactions on Systems, Man and Cybernetics 9, 1979). Returns 256 if the means of the parts
/// differ by less than `apart`.
fn split(counts: &[u64; 256], apart: f64) -> usize {
    let total: u64 = counts.iter().sum();
    let all: u64 = (0..).zip(counts).map(|(value, count)| value * count).sum();
    let (mut below, mut sum_below) = (0, 0);
    let mut best = (0.0, 256);
    for value in 1..256 {
        below += counts[value - 1];
        sum_below += (value as u64 - 1) * counts[value - 1];
        let above = total - below;
        if below == 0 || above == 0 {
            continue;
        }
        let mean = |sum: u64, count: u64| sum as f64 / count as f64;
        let distance = mean(all - sum_below, above) - mean(sum_below, below);
        let between = below as f64 * above as f64 * distance * distance;
        if distance >= apart && between > best.0 {
            best = (between, value);
        }
    }
    best.1
}
