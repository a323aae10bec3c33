//! Pictures of digits: they are prepared like MNIST's images, whatever their size and colours, and drawn as text.

#[path = "../../tests/common/devices.rs"]
mod devices;

use std::fs;
use std::path::PathBuf;

use burn_kindling_lab::data::{ImageSet, Mnist, Picture, PictureError, draw, normalise};
use devices::any_device;
use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;
use tempfile::TempDir;

/// A file written by `write`, in a temporary folder.
fn file(write: impl FnOnce(&PathBuf)) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digit.png");
    write(&path);
    (folder, path)
}

fn open_grey(picture: &GrayImage) -> Result<Picture, PictureError> {
    let (_folder, path) = file(|path| picture.save(path).unwrap());
    Picture::open(&path)
}

/// An MNIST image, enlarged to 140x140 in the middle of 200x140.
fn blown_up(image: &[u8], filter: FilterType) -> GrayImage {
    let image = GrayImage::from_raw(28, 28, image.to_vec()).unwrap();
    let large = imageops::resize(&image, 140, 140, filter);
    let mut canvas = GrayImage::new(200, 140);
    imageops::replace(&mut canvas, &large, 30, 0);
    canvas
}

fn inverted(picture: &GrayImage) -> GrayImage {
    let mut picture = picture.clone();
    imageops::invert(&mut picture);
    picture
}

fn mean_difference(one: &[u8], other: &[u8]) -> f64 {
    let sum: u64 = one
        .iter()
        .zip(other)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / ImageSet::PIXELS as f64
}

fn shipped_test_set() -> ImageSet {
    Mnist::load(&Mnist::find(None).unwrap()).unwrap().test
}

fn assert_says(error: &PictureError, facts: &[&str]) {
    let message = error.to_string();
    for fact in facts {
        assert!(message.contains(fact), "{fact:?} is not in: {message}");
    }
}

/// The expected result for an MNIST image that was enlarged without smoothing: its strongest pixel becomes 255, and
/// pixels that are faint compared with it become 0.
fn cleaned(image: &[u8]) -> Vec<u8> {
    let strongest = f64::from(*image.iter().max().unwrap());
    let ink = image
        .iter()
        .map(|&pixel| f64::from(pixel) * 255.0 / strongest);
    ink.map(|ink| {
        if ink.round() < 26.0 {
            0
        } else {
            ink.round() as u8
        }
    })
    .collect()
}

/// An image moved by whole pixels. Pixels that leave the image must be background.
fn moved(image: &[u8], right: i32, down: i32) -> Vec<u8> {
    (0..784)
        .map(|i| match (i / 28 - down, i % 28 - right) {
            (row @ 0..28, column @ 0..28) => image[(row * 28 + column) as usize],
            _ => 0,
        })
        .collect()
}

#[test]
fn blown_up_digits_come_back() {
    let test = shipped_test_set();
    let mut in_place = 0;
    for i in 0..200 {
        let picture = blown_up(test.image(i), FilterType::Nearest);
        let ink = open_grey(&picture).unwrap();
        // The polarity makes no difference at all.
        assert_eq!(open_grey(&inverted(&picture)).unwrap(), ink);

        // Each pixel is the mean of its own 5x5 block: exact, except for one rounding. If the centre of mass is between
        // two pixels, the removed faint pixels can decide between them.
        let expected = cleaned(test.image(i));
        let close = |right, down| {
            let expected = moved(&expected, right, down);
            let mut pairs = expected.iter().zip(ink.pixels());
            pairs.all(|(a, b)| a.abs_diff(*b) <= 1)
        };
        in_place += usize::from(close(0, 0));
        let shifts = || (-1..=1).flat_map(|right| (-1..=1).map(move |down| (right, down)));
        assert!(
            shifts().any(|(right, down)| close(right, down)),
            "image {i}"
        );
    }
    assert!(in_place >= 190, "{in_place} of 200 are in place");
}

#[test]
fn smoothly_blown_up_digits_come_back() {
    let test = shipped_test_set();
    let (mut found, mut one_pixel_off) = (0.0, 0.0);
    for i in 0..200 {
        let image = test.image(i);
        let picture = open_grey(&blown_up(image, FilterType::CatmullRom)).unwrap();
        found += mean_difference(picture.pixels(), image) / 200.0;
        one_pixel_off += mean_difference(&moved(image, 1, 0), image) / 200.0;
    }
    // Smoothing moves the edge of the ink by a fraction of a pixel: less than half of one.
    assert!(found < one_pixel_off / 2.0, "{found} and {one_pixel_off}");
}

#[test]
fn grey_paper_and_colours_are_told_from_ink() {
    let image = shipped_test_set();
    let large = blown_up(image.image(0), FilterType::Nearest);
    let expected = open_grey(&large).unwrap();
    let (width, height) = large.dimensions();

    // Blue on yellowish grey paper: half the contrast, so half the levels.
    let (_folder, path) = file(|path| {
        let picture = RgbImage::from_fn(width, height, |x, y| {
            let ink = u32::from(large.get_pixel(x, y).0[0]);
            let mix = |paper: u32, pen: u32| ((paper * (255 - ink) + pen * ink) / 255) as u8;
            Rgb([mix(190, 20), mix(180, 40), mix(150, 160)])
        });
        picture.save(path).unwrap();
    });
    let found = Picture::open(&path).unwrap();
    let difference = mean_difference(found.pixels(), expected.pixels());
    assert!(difference < 1.0, "{difference}");

    // Black ink on a transparent background, whose hidden colour is black too.
    let (_folder, path) = file(|path| {
        let picture = RgbaImage::from_fn(width, height, |x, y| {
            Rgba([0, 0, 0, large.get_pixel(x, y).0[0]])
        });
        picture.save(path).unwrap();
    });
    assert_eq!(Picture::open(&path).unwrap(), expected);
}

#[test]
fn ink_is_scaled_to_twenty_pixels_with_its_aspect() {
    // A bar of 30x90 in a corner, an upright line of a single pixel, a dot.
    for ((width, height), (left, top, right, bottom), (columns, rows)) in [
        ((300, 200), (10, 20, 40, 110), (7, 20)),
        ((64, 64), (50, 3, 51, 60), (1, 20)),
        ((9, 9), (4, 4, 5, 5), (20, 20)),
        ((2000, 30), (100, 5, 1900, 25), (20, 1)),
    ] {
        let picture = GrayImage::from_fn(width, height, |x, y| {
            let inked = (left..right).contains(&x) && (top..bottom).contains(&y);
            Luma([if inked { 30 } else { 220 }])
        });
        let picture = open_grey(&picture).unwrap();
        let inked: Vec<usize> = (0..784).filter(|&i| picture.pixels()[i] > 0).collect();
        assert!(inked.iter().all(|&i| picture.pixels()[i] == 255));
        assert_eq!(inked.len(), columns * rows);
        // Row and column 14 are the middle. A bar with an even number of pixels has no middle pixel.
        let mean = |position: fn(usize) -> usize| {
            inked.iter().map(|&i| position(i) as f64).sum::<f64>() / inked.len() as f64
        };
        assert!((mean(|i| i / 28) - 14.0).abs() <= 0.5);
        assert!((mean(|i| i % 28) - 14.0).abs() <= 0.5);
    }
}

#[test]
fn lopsided_ink_stays_in_the_image() {
    // A heavy block at one end of a faint line.
    let picture = GrayImage::from_fn(220, 60, |x, y| match (x, y) {
        (10..30, 10..50) => Luma([0]),
        (30..210, 29..31) => Luma([128]),
        _ => Luma([255]),
    });
    let picture = open_grey(&picture).unwrap();
    let inked = |x: usize| (0..28).any(|row| picture.pixels()[row * 28 + x] > 0);
    assert_eq!(
        (0..28).filter(|&x| inked(x)).collect::<Vec<_>>(),
        (8..28).collect::<Vec<_>>()
    );
}

#[test]
fn what_shows_nothing_is_refused() {
    for level in [0, 128, 255] {
        for noise in [0, 15] {
            let picture = GrayImage::from_fn(50, 40, |x, y| {
                Luma([(level as u8).saturating_sub(((x * y) % (noise + 1)) as u8)])
            });
            let error = open_grey(&picture).unwrap_err();
            assert!(matches!(error, PictureError::NoInk { .. }));
            assert_says(&error, &["digit.png", "no ink", "dark on light"]);
        }
    }
    // Two specks so far apart that nothing of them remains after scaling.
    let mut picture = GrayImage::new(3000, 3000);
    picture.put_pixel(1, 1, Luma([255]));
    picture.put_pixel(2998, 2998, Luma([255]));
    assert!(matches!(
        open_grey(&picture).unwrap_err(),
        PictureError::NoInk { .. }
    ));
    // A single pixel is its own background.
    assert!(matches!(
        open_grey(&GrayImage::new(1, 1)).unwrap_err(),
        PictureError::NoInk { .. }
    ));
}

#[test]
fn files_that_are_no_picture_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.png");
    let error = Picture::open(&absent).unwrap_err();
    assert!(matches!(error, PictureError::Read { .. }));
    assert_says(&error, &["absent.png", "check the path"]);

    let error = Picture::open(folder.path()).unwrap_err();
    assert_says(&error, &[folder.path().to_str().unwrap()]);

    let (_folder, path) = file(|path| blown_up(&[9; 784], FilterType::Nearest).save(path).unwrap());
    let whole = fs::read(&path).unwrap();
    for content in [&b""[..], b"GIF89a", &whole[..40], &whole[..whole.len() / 2]] {
        fs::write(&path, content).unwrap();
        let error = Picture::open(&path).unwrap_err();
        assert!(matches!(error, PictureError::Decode { .. }), "{error}");
        assert_says(&error, &["digit.png", "PNG"]);
    }
}

#[test]
fn a_picture_of_too_many_pixels_is_refused() {
    let (_folder, path) = file(|path| GrayImage::new(10_001, 1).save(path).unwrap());
    let error = Picture::open(&path).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { .. }));
    assert_says(&error, &["digit.png", "10000 x 10000", "scale it down"]);
}

#[test]
fn a_picture_is_a_networks_input() {
    let test = shipped_test_set();
    let picture = open_grey(&blown_up(test.image(0), FilterType::Nearest)).unwrap();
    let device = any_device();
    let tensor = picture.tensor(&device);
    assert_eq!(tensor.dims(), [1, 28, 28]);
    let expected = normalise([picture.pixels()].into_iter(), &device);
    tensor.into_data().assert_eq(&expected.into_data(), true);
}

#[test]
fn drawings_show_two_rows_a_line() {
    let mut image = [0; 784];
    image[0] = 255;
    image[28 + 1] = 255;
    (image[2], image[28 + 2]) = (255, 255);
    image[27 * 28 + 27] = 255;
    let text = draw(&image);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[0], "▀▄█");
    assert_eq!(lines[13], format!("{:27}▄", ""));
    assert!(lines[1..13].iter().all(|line| line.is_empty()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_picture_becomes_an_image_or_an_error(
        width in 1u32..50,
        pixels in prop::collection::vec(any::<u8>(), 1..600),
    ) {
        let width = width.min(pixels.len() as u32);
        let height = pixels.len() as u32 / width;
        let picture = GrayImage::from_fn(width, height, |x, y| {
            Luma([pixels[(y * width + x) as usize]])
        });
        match open_grey(&picture) {
            Ok(picture) => prop_assert_eq!(picture.pixels().iter().max(), Some(&255)),
            Err(PictureError::NoInk { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn a_damaged_file_does_not_panic(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let (_folder, path) = file(|path| GrayImage::from_fn(20, 20, |x, y| Luma([(x * y) as u8])).save(path).unwrap());
        let mut content = fs::read(&path).unwrap();
        for (at, byte) in mutations {
            let at = at.index(content.len());
            content[at] = byte;
        }
        fs::write(&path, content).unwrap();
        if let Err(error) = Picture::open(&path) {
            prop_assert!(error.to_string().contains("digit.png"));
        }
    }
}
