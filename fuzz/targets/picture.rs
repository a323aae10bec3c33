//! Pictures of digits: PNG and JPEG files.
#![no_main]

use std::cell::LazyCell;
use std::fs;

use burn_kindling_lab::data::Picture;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FOLDER: LazyCell<tempfile::TempDir> =
        LazyCell::new(|| tempfile::tempdir().expect("there is room for a folder"));
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let path = folder.path().join("digit");
        fs::write(&path, bytes).expect("it is written");
        if let Ok(picture) = Picture::open(&path) {
            assert_eq!(picture.pixels().len(), 784);
        }
    });
});
