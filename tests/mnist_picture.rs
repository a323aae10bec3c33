//! Pictures of digits: brought into MNIST's form whatever their size and colours, and drawn.
#![cfg(feature = "lab")]

use std::fs;
use std::path::PathBuf;

use burn::tensor::Device;
use burn_kindling::lab::mnist::{ImageSet, Mnist, Picture, PictureError, draw, normalise};
use image::imageops::{self, FilterType};
use image::{GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;
use tempfile::TempDir;

/// A file of the given content in a folder that goes when it does.
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

/// An MNIST image, blown up to 140x140 in the middle of 200x140.
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

#[test]
fn measure() {
    let test = Mnist::load(&Mnist::find(None).unwrap()).unwrap().test;
    for filter in [
        FilterType::Nearest,
        FilterType::CatmullRom,
        FilterType::Triangle,
    ] {
        let mut all: Vec<f64> = (0..300)
            .map(|i| {
                let p = open_grey(&blown_up(test.image(i), filter)).unwrap();
                mean_difference(p.pixels(), test.image(i))
            })
            .collect();
        all.sort_by(f64::total_cmp);
        println!(
            "{filter:?} mean {:.2} median {:.2} p90 {:.2} max {:.2}",
            all.iter().sum::<f64>() / 300.0,
            all[150],
            all[270],
            all[299]
        );
    }
    for i in 0..3 {
        println!("{}", draw(test.image(i)));
        println!(
            "{}",
            draw(
                open_grey(&blown_up(test.image(i), FilterType::Triangle))
                    .unwrap()
                    .pixels()
            )
        );
    }
}
