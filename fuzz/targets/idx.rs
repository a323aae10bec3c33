//! IDX files, gzipped or not: the images or the labels of a data set whose other files are good.
#![no_main]

use std::cell::LazyCell;
use std::fs;
use std::path::Path;

use burn_kindling_lab::data::Mnist;
use libfuzzer_sys::fuzz_target;

/// A folder with 12 images to train on and one to test on.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    for (part, count) in [("train", 12u32), ("t10k", 1)] {
        let header = [
            &[0, 0, 8, 3][..],
            &count.to_be_bytes(),
            &28u32.to_be_bytes(),
            &28u32.to_be_bytes(),
        ];
        let images = [header.concat(), vec![1; 784 * count as usize]].concat();
        let labels = [
            &[0, 0, 8, 1][..],
            &count.to_be_bytes(),
            &vec![3; count as usize],
        ]
        .concat();
        for (name, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            fs::write(folder.path().join(format!("{part}-{name}-ubyte")), bytes)
                .expect("it is written");
        }
    }
    folder
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) {
    let gzipped = folder.join(format!("{name}.gz"));
    let plain = folder.join(name);
    let good = fs::read(&plain).expect("it was written");
    match bytes.starts_with(&[0x1f, 0x8b]) {
        true => {
            fs::remove_file(&plain).expect("it was written");
            fs::write(&gzipped, bytes).expect("it is written");
        }
        false => fs::write(&plain, bytes).expect("it is written"),
    }
    if let Ok(data) = Mnist::load(folder) {
        assert_eq!((data.train.len(), data.test.len()), (12, 1));
    }
    let _ = fs::remove_file(&gzipped);
    fs::write(&plain, good).expect("it is written");
}

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> = LazyCell::new(folder);
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        replace(folder.path(), "train-images-idx3-ubyte", bytes);
        replace(folder.path(), "train-labels-idx1-ubyte", bytes);
    });
});
