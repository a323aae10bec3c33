//! Scales and blurs pictures.

use image::{GrayImage, Luma};

/// Scales a picture to `width` x `height`. Each pixel is the mean of the area that it covers.
pub(super) fn scale(picture: &GrayImage, width: u32, height: u32) -> GrayImage {
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

/// When a row of `from` pixels is scaled to `to` pixels: the old pixels that the new pixel `i` covers, with their
/// shares in it. The shares add up to `from`.
fn covered(i: u32, to: u32, from: u32) -> impl Iterator<Item = (u32, u64)> {
    // In this unit, a new pixel is `from` long and an old one `to`.
    let [i, to, from] = [i, to, from].map(u64::from);
    let (start, end) = (i * from, (i + 1) * from);
    (start / to..end.div_ceil(to)).map(move |j| {
        let share = end.min((j + 1) * to) - start.max(j * to);
        (j as u32, share)
    })
}

/// The mean of each pixel and its neighbours up to `reach` away; neighbours outside the picture are left out.
pub(super) fn blur(picture: &GrayImage, reach: u32) -> GrayImage {
    match reach {
        0 => picture.clone(),
        _ => blur_rows(&blur_rows(picture, reach), reach),
    }
}

/// The mean along each row, transposed.
fn blur_rows(picture: &GrayImage, reach: u32) -> GrayImage {
    let (width, height) = picture.dimensions();
    let reach = reach as usize;
    let mut transposed = GrayImage::new(height, width);
    let mut sums = vec![0; width as usize + 1];
    for (y, row) in picture.chunks_exact(width as usize).enumerate() {
        for (x, &value) in row.iter().enumerate() {
            sums[x + 1] = sums[x] + u32::from(value);
        }
        for x in 0..row.len() {
            let (start, end) = (x.saturating_sub(reach), (x + reach + 1).min(row.len()));
            let count = (end - start) as u32;
            let mean = (sums[end] - sums[start] + count / 2) / count;
            transposed.put_pixel(y as u32, x as u32, Luma([mean as u8]));
        }
    }
    transposed
}
