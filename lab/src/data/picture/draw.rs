use crate::data::ImageSet;

/// Draws an image of 784 bytes as text, 28 columns wide and 14 lines high. Each character stands for two pixels, one
/// above the other, each inked or not.
///
/// # Panics
///
/// If `image` does not have 784 bytes.
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
