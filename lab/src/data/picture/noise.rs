use image::GrayImage;

/// Estimates the standard deviation of the noise from the differences between pixels and the mean of their neighbours.
///
/// The estimate is a median, so the edges of strokes do not count. In a picture of fewer than 48x48 pixels they would,
/// so the result there is 0.
pub(super) fn noise(grey: &GrayImage) -> f64 {
    if grey.width().min(grey.height()) < 48 {
        return 0.0;
    }
    let mut counts = [0u64; 511];
    for row in grey.chunks_exact(grey.width() as usize) {
        for pixels in row.windows(3) {
            let [before, middle, after] = [pixels[0], pixels[1], pixels[2]].map(i32::from);
            counts[(2 * middle - before - after).unsigned_abs() as usize] += 1;
        }
    }
    let all: u64 = counts.iter().sum();
    let mut below = 0;
    let median = counts.iter().position(|count| {
        below += count;
        2 * below >= all
    });
    // The second difference of independent values has 6 times their variance; 0.6745 is the normal distribution's
    // third quartile.
    median.unwrap_or(0) as f64 / (0.6745 * 6f64.sqrt())
}
