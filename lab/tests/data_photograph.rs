//! Photographs of digits: uneven light, noise, dirt and borders must not change the result.
//!
//! Each test photographs the same digits under clean and under difficult conditions. The prepared images must agree.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use burn_kindling_lab::data::{Doubt, ImageSet, Mnist, Picture, PictureError};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::{self, FilterType};
use image::{ExtendedColorType, GrayImage, ImageEncoder, Luma, Rgba, RgbaImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;

/// Enlargement of an MNIST image.
const SCALE: u32 = 8;

/// Side of an enlarged image.
const SIDE: u32 = 28 * SCALE;

const INK: f64 = 60.0;
const PAPER: f64 = 230.0;

fn digits(count: usize) -> Vec<GrayImage> {
    let test = Mnist::load(&Mnist::find(None).unwrap()).unwrap().test;
    let digit = |i| GrayImage::from_raw(28, 28, test.image(i).to_vec()).unwrap();
    (0..count).map(digit).collect()
}

/// An enlarged digit: the share of ink at each pixel, from 0 to 255.
fn enlarge(digit: &GrayImage) -> GrayImage {
    imageops::resize(digit, SIDE, SIDE, FilterType::CatmullRom)
}

/// A photograph under `light`, which maps coordinates from 0 to 1 to brightness; 1 is full light.
fn photograph(
    digit: &GrayImage,
    paper: f64,
    ink: f64,
    light: impl Fn(f64, f64) -> f64,
) -> GrayImage {
    let digit = enlarge(digit);
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let share = f64::from(digit.get_pixel(x, y).0[0]) / 255.0;
        let at = |i| (f64::from(i) + 0.5) / f64::from(SIDE);
        let grey = (paper * (1.0 - share) + ink * share) * light(at(x), at(y));
        Luma([grey.round() as u8])
    })
}

fn even(_: f64, _: f64) -> f64 {
    1.0
}

fn flat(digit: &GrayImage) -> GrayImage {
    photograph(digit, PAPER, INK, even)
}

fn add_noise(picture: &mut GrayImage, deviation: f64, random: &mut StdRng) {
    for pixel in picture.iter_mut() {
        // The sum of twelve uniform numbers has a variance of 1 and is nearly normal.
        let normal: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
        *pixel = (f64::from(*pixel) + deviation * normal)
            .round()
            .clamp(0.0, 255.0) as u8;
    }
}

fn fill(picture: &mut GrayImage, grey: u8, inside: impl Fn(u32, u32) -> bool) {
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        if inside(x, y) {
            pixel.0[0] = grey;
        }
    }
}

fn open(name: &str, write: impl FnOnce(&Path)) -> Result<Picture, PictureError> {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    write(&path);
    Picture::open(&path)
}

fn open_grey(picture: &GrayImage) -> Result<Picture, PictureError> {
    open("digit.png", |path| picture.save(path).unwrap())
}

/// Pearson's correlation of the pixels of two images, after moving the second by up to a pixel to fit best: if the
/// centre of mass is between two pixels, a small change moves it from one to the other.
fn correlation(one: &[u8], other: &[u8]) -> f64 {
    let centred = |image: Vec<u8>| -> Vec<f64> {
        let mean = image.iter().map(|&it| f64::from(it)).sum::<f64>() / ImageSet::PIXELS as f64;
        image.iter().map(|&it| f64::from(it) - mean).collect()
    };
    let moved = |right: i32, down: i32| {
        let pixel = |i: i32| match (i / 28 - down, i % 28 - right) {
            (row @ 0..28, column @ 0..28) => other[(row * 28 + column) as usize],
            _ => 0,
        };
        (0..784).map(pixel).collect()
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let one = centred(one.to_vec());
    let moves = (-1..=1).flat_map(|right| (-1..=1).map(move |down| (right, down)));
    moves
        .map(|(right, down)| {
            let other = centred(moved(right, down));
            dot(&one, &other) / (dot(&one, &one) * dot(&other, &other)).sqrt()
        })
        .fold(-1.0, f64::max)
}

/// Digits, and the prepared images of clean photographs of them.
fn clean() -> &'static [(GrayImage, Picture)] {
    static CLEAN: OnceLock<Vec<(GrayImage, Picture)>> = OnceLock::new();
    CLEAN.get_or_init(|| {
        let prepared = |digit| {
            let picture = open_grey(&flat(&digit)).unwrap();
            (digit, picture)
        };
        digits(40).into_iter().map(prepared).collect()
    })
}

/// Asserts that at least 38 of 40 digits look the same after a difficult photograph as after a clean one.
fn assert_reads(condition: &str, mut difficult: impl FnMut(&GrayImage, &mut StdRng) -> GrayImage) {
    let mut random = StdRng::seed_from_u64(4);
    let alike = clean()
        .iter()
        .filter(|(digit, expected)| {
            let found = open_grey(&difficult(digit, &mut random));
            found.is_ok_and(|found| correlation(found.pixels(), expected.pixels()) > 0.9)
        })
        .count();
    assert!(alike >= 38, "{condition}: {alike} of 40");
}

/// A network reads all of 100 digits from clean photographs, and at least 97 from difficult ones.
#[cfg(feature = "flex")]
#[test]
fn a_network_reads_photographs() {
    use burn::tensor::{Device, Tensor};
    use burn_kindling_lab::data::normalise;
    use burn_kindling_lab::train::{TrainConfig, Trainer};

    let device = Device::flex();
    let data = Mnist::load(&Mnist::find(None).unwrap()).unwrap();
    let config = TrainConfig {
        epochs: 3,
        ..TrainConfig::default()
    };
    let (train, valid) = data.train_and_validation();
    let trained = Trainer::new(device.clone())
        .train(&config, &train, &valid, |_| {})
        .unwrap();
    let answer = |pixels: &[u8]| {
        let logits: Tensor<2> = trained
            .network
            .forward(normalise(std::iter::once(pixels), &device));
        logits.argmax(1).into_scalar::<i64>() as u8
    };

    // The first that it reads from MNIST's own pixels: what is tested is the photograph.
    let readable =
        (0..data.test.len()).filter(|&i| answer(data.test.image(i)) == data.test.label(i));
    let digits: Vec<(GrayImage, u8)> = readable
        .take(100)
        .map(|i| {
            let digit = GrayImage::from_raw(28, 28, data.test.image(i).to_vec()).unwrap();
            (digit, data.test.label(i))
        })
        .collect();
    let mut random = StdRng::seed_from_u64(9);
    type Photograph<'a> = &'a dyn Fn(&GrayImage, &mut StdRng) -> GrayImage;
    let mut right = |photograph: Photograph| {
        let read = digits.iter().filter(|(digit, label)| {
            let found = open_grey(&photograph(digit, &mut random));
            found.is_ok_and(|found| answer(found.pixels()) == *label)
        });
        read.count()
    };
    assert_eq!(right(&|digit, _| flat(digit)), 100);
    let speck = |digit: &GrayImage, random: &mut StdRng| {
        let [left, top] = [0; 2].map(|_| random.random_range(0..SIDE - 2));
        let mut picture = flat(digit);
        fill(&mut picture, 60, |x, y| {
            (left..left + 2).contains(&x) && (top..top + 2).contains(&y)
        });
        picture
    };
    let noise = |digit: &GrayImage, random: &mut StdRng| {
        let mut picture = flat(digit);
        add_noise(&mut picture, 6.0, random);
        picture
    };
    let dark = |inside: fn(u32, u32) -> bool| {
        move |digit: &GrayImage, _: &mut StdRng| {
            let mut picture = flat(digit);
            fill(&mut picture, 60, inside);
            picture
        }
    };
    let difficult: [(&str, Photograph); 5] = [
        ("paper from 230 to 190", &|digit, _| {
            photograph(digit, PAPER, INK, |x, _| 1.0 - 40.0 / 230.0 * x)
        }),
        ("noise of 6 levels", &noise),
        ("a speck of two pixels", &speck),
        ("a dark corner", &dark(|x, y| x < 30 && y < 30)),
        ("a dark edge", &dark(|x, _| x < 12)),
    ];
    for (condition, photograph) in difficult {
        let right = right(photograph);
        assert!(right >= 97, "{condition}: {right} of 100");
    }
}

#[test]
fn shading_does_not_count_as_ink() {
    assert_reads("a diagonal gradient to less than half", |digit, _| {
        photograph(digit, PAPER, INK, |x, y| 1.0 - 0.6 * (0.3 * x + 0.7 * y))
    });
    assert_reads("a dark corner", |digit, _| {
        photograph(digit, PAPER, INK, |x, y| (0.3 + 1.75 * x.hypot(y)).min(1.0))
    });
    assert_reads("the edge of a shadow", |digit, _| {
        photograph(digit, PAPER, INK, |x, y| {
            if x + 0.4 * y > 0.7 { 0.55 } else { 1.0 }
        })
    });
}

#[test]
fn noise_does_not_count_as_ink() {
    assert_reads("noise", |digit, random| {
        let mut picture = flat(digit);
        add_noise(&mut picture, 15.0, random);
        picture
    });
}

#[test]
fn specks_do_not_count_as_ink() {
    assert_reads("crumbs", |digit, random| {
        let mut picture = flat(digit);
        for _ in 0..6 {
            let [left, top] = [0; 2].map(|_| random.random_range(0..SIDE - 5));
            let side = random.random_range(1..5);
            fill(&mut picture, 30, |x, y| {
                (left..left + side).contains(&x) && (top..top + side).contains(&y)
            });
        }
        picture
    });
}

#[test]
fn what_lies_at_the_border_does_not_count_as_ink() {
    assert_reads("a dark triangle", |digit, _| {
        let mut picture = flat(digit);
        fill(&mut picture, 40, |x, y| x + y > 2 * SIDE - 60);
        picture
    });
    assert_reads("a slanted edge", |digit, _| {
        let mut picture = flat(digit);
        fill(&mut picture, 20, |x, y| y < x / 14);
        picture
    });
}

#[test]
fn faint_ruled_lines_do_not_count_as_ink() {
    assert_reads("ruled paper", |digit, _| {
        let mut picture = flat(digit);
        for (_, y, pixel) in picture.enumerate_pixels_mut() {
            if y % 28 == 9 {
                pixel.0[0] = pixel.0[0].min(180);
            }
        }
        picture
    });
}

#[test]
fn all_of_it_at_once_does_not_count_as_ink() {
    assert_reads(
        "pencil in bad light, with a dark edge, a speck and noise",
        |digit, random| {
            let mut picture = photograph(digit, 215.0, 90.0, |x, y| 1.0 - 0.15 * (x + y));
            fill(&mut picture, 35, |x, y| x >= SIDE - 9 || (x < 25 && y < 25));
            fill(&mut picture, 40, |x, y| {
                (40..43).contains(&x) && (4..7).contains(&y)
            });
            add_noise(&mut picture, 5.0, random);
            picture
        },
    );
    assert_reads("chalk on an uneven board", |digit, random| {
        let mut picture = photograph(digit, 60.0, 210.0, |x, y| 1.0 - 0.25 * x * y);
        add_noise(&mut picture, 5.0, random);
        picture
    });
}

#[test]
fn a_small_digit_in_a_large_photograph_is_found() {
    let mut random = StdRng::seed_from_u64(4);
    for digit in digits(10) {
        let mut picture = GrayImage::from_fn(1500, 1100, |x, _| Luma([230 - (x / 50) as u8]));
        imageops::replace(
            &mut picture,
            &photograph(&digit, 206.0, 60.0, even),
            1100,
            300,
        );
        add_noise(&mut picture, 8.0, &mut random);
        let found = open_grey(&picture).unwrap();
        let expected = open_grey(&flat(&digit)).unwrap();
        assert!(correlation(found.pixels(), expected.pixels()) > 0.9);
        assert!(found.doubts().is_empty(), "{:?}", found.doubts());
    }
}

#[test]
fn white_strokes_on_a_transparent_canvas_are_ink() {
    for digit in digits(10) {
        let expected = open_grey(&flat(&digit)).unwrap();
        let ink = enlarge(&digit);
        for stroke in [255, 190, 0] {
            let canvas = RgbaImage::from_fn(SIDE, SIDE, |x, y| {
                Rgba([stroke, stroke, stroke, ink.get_pixel(x, y).0[0]])
            });
            let found = open("digit.png", |path| canvas.save(path).unwrap()).unwrap();
            assert!(correlation(found.pixels(), expected.pixels()) > 0.98);
        }
    }
}

/// EXIF data that holds nothing but an orientation, from 1 to 8.
fn exif(orientation: u8) -> Vec<u8> {
    let mut exif = b"MM\0\x2a\0\0\0\x08\0\x01".to_vec();
    // Tag 0x0112, type 3 (16-bit integer), one value; then no further directory.
    exif.extend([
        0x01,
        0x12,
        0,
        3,
        0,
        0,
        0,
        1,
        0,
        orientation,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    exif
}

#[test]
fn exif_orientation_is_honoured_in_jpeg_and_png() {
    for digit in digits(3) {
        let upright = flat(&digit);
        let expected = open_grey(&upright).unwrap();
        // The picture as the camera stores it for each orientation; the viewer turns it back.
        let turned = |orientation| match orientation {
            1 => upright.clone(),
            3 => imageops::rotate180(&upright),
            6 => imageops::rotate270(&upright),
            8 => imageops::rotate90(&upright),
            _ => unreachable!(),
        };
        for orientation in [1, 3, 6, 8] {
            let stored = turned(orientation);
            let mut files = [Vec::new(), Vec::new()];
            let [png, jpeg] = &mut files;
            let mut encoder = PngEncoder::new(png);
            encoder.set_exif_metadata(exif(orientation)).unwrap();
            encoder
                .write_image(&stored, SIDE, SIDE, ExtendedColorType::L8)
                .unwrap();
            let mut encoder = JpegEncoder::new_with_quality(jpeg, 90);
            encoder.set_exif_metadata(exif(orientation)).unwrap();
            encoder
                .write_image(&stored, SIDE, SIDE, ExtendedColorType::L8)
                .unwrap();
            for content in files {
                // The content decides, not the name.
                let found = open("digit.png", |path| fs::write(path, &content).unwrap()).unwrap();
                let correlation = correlation(found.pixels(), expected.pixels());
                assert!(
                    correlation > 0.98,
                    "orientation {orientation}: {correlation}"
                );
            }
        }
    }
}

#[test]
fn other_formats_are_refused_with_advice() {
    for content in [
        &b"GIF89a\x01\0\x01\0"[..],
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"\0\0\0\x18ftypheic",
    ] {
        let error = open("digit.heic", |path| fs::write(path, content).unwrap()).unwrap_err();
        assert!(matches!(error, PictureError::Decode { .. }));
        assert!(
            error.to_string().contains("save it as PNG or JPEG"),
            "{error}"
        );
    }
}

#[test]
fn paper_without_a_digit_is_refused() {
    let mut random = StdRng::seed_from_u64(4);
    for deviation in [1.0, 6.0, 40.0] {
        for shading in [0.0, 0.3] {
            let blank = GrayImage::new(28, 28);
            let mut picture = photograph(&blank, 200.0, INK, |x, _| 1.0 - shading * x);
            add_noise(&mut picture, deviation, &mut random);
            let found = open_grey(&picture);
            assert!(
                matches!(found, Err(PictureError::NoInk { .. })),
                "noise {deviation}, shading {shading}: {:?}",
                found.map(|it| it.doubts().to_vec())
            );
        }
    }
}

#[test]
fn doubtful_pictures_are_told() {
    let digit = &digits(1)[0];
    let doubts = |picture: &GrayImage| open_grey(picture).unwrap().doubts().to_vec();
    assert_eq!(doubts(&flat(digit)), []);

    let mut several = GrayImage::from_pixel(3 * SIDE, SIDE, Luma([230]));
    for i in 0..3 {
        imageops::replace(&mut several, &flat(digit), (i * SIDE).into(), 0);
    }
    assert_eq!(doubts(&several), [Doubt::Several { shapes: 3 }]);

    let cut = imageops::crop_imm(&flat(digit), 0, 0, SIDE, SIDE / 2).to_image();
    assert!(doubts(&cut).contains(&Doubt::AtBorder));

    let mut faint = photograph(digit, 200.0, 170.0, even);
    add_noise(&mut faint, 8.0, &mut StdRng::seed_from_u64(4));
    assert!(doubts(&faint).contains(&Doubt::Faint));

    let mut scribbles = flat(digit);
    fill(&mut scribbles, 60, |x, y| {
        (x + 2 * y) % 60 < 6 && !(40..190).contains(&x)
    });
    assert!(!doubts(&scribbles).is_empty());

    let patch = GrayImage::from_fn(90, 90, |x, y| {
        Luma([if (30..60).contains(&x) && (30..58).contains(&y) {
            40
        } else {
            220
        }])
    });
    assert_eq!(doubts(&patch), [Doubt::Solid]);
    let small = imageops::resize(&flat(digit), 11, 11, FilterType::Triangle);
    let is_small = |doubt: &Doubt| matches!(doubt, Doubt::Small { .. });
    assert!(doubts(&small).iter().any(is_small));
    for doubt in doubts(&several) {
        assert!(doubt.to_string().contains("3 shapes"));
    }
}
