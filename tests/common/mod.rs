//! Shared by the tests of the examples.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use burn_kindling_lab::data::Mnist;

/// An example that `cargo test` has built beside this test.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo test` builds the examples unless it is told which targets to build",
        program.display()
    );
    Command::new(program)
}

/// Writes a small data set of MNIST's own images, with 200 test images, as plain IDX files.
pub fn small_data(folder: &Path, train: usize) -> PathBuf {
    let mnist = Mnist::load(&Mnist::find(None).unwrap()).unwrap();
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    for (part, set) in [
        ("train", mnist.train.subset(0..train)),
        ("t10k", mnist.test.subset(0..200)),
    ] {
        let count = (set.len() as u32).to_be_bytes();
        let side = 28u32.to_be_bytes();
        let pixels = (0..set.len()).flat_map(|i| set.image(i).to_vec());
        let header = [&[0, 0, 8, 3], &count[..], &side, &side].concat();
        fs::write(
            data.join(format!("{part}-images-idx3-ubyte")),
            header.into_iter().chain(pixels).collect::<Vec<u8>>(),
        )
        .unwrap();
        let labels = (0..set.len()).map(|i| set.label(i));
        let header = [&[0, 0, 8, 1], &count[..]].concat();
        fs::write(
            data.join(format!("{part}-labels-idx1-ubyte")),
            header.into_iter().chain(labels).collect::<Vec<u8>>(),
        )
        .unwrap();
    }
    data
}
