//! Reads MNIST's files: checks the contents of the shipped files, and that bad files are refused with a reason.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;
use burn_kindling_lab::data::{DataError, Digit, ImageSet, Mnist, VALIDATION};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

fn shipped() -> Mnist {
    Mnist::load(&Mnist::find(None).unwrap()).unwrap()
}

/// An IDX file of unsigned bytes.
fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    file.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    file.extend(elements);
    file
}

/// `count` images whose pixels all differ from one image to the next.
fn images(count: u32) -> Vec<u8> {
    let pixels: Vec<u8> = (0..count * 784).map(|i| (i * 31 + i / 784) as u8).collect();
    idx(&[count, 28, 28], &pixels)
}

fn labels(count: u32) -> Vec<u8> {
    let labels: Vec<u8> = (0..count).map(|i| (i % 10) as u8).collect();
    idx(&[count], &labels)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder of 24 images to train on and 3 to test with.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        (TRAIN_IMAGES, images(24)),
        (TRAIN_LABELS, labels(24)),
        (TEST_IMAGES, images(3)),
        (TEST_LABELS, labels(3)),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// The error when one file of a good folder is replaced. Its message must name the file and contain all of `facts`.
fn refusal(name: &str, content: &[u8], facts: &[&str]) -> DataError {
    let folder = folder();
    if let Some(plain) = name.strip_suffix(".gz") {
        fs::remove_file(folder.path().join(plain)).unwrap();
    }
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let error = Mnist::load(folder.path()).unwrap_err();
    assert_says(&error, &[path.to_str().unwrap()]);
    assert_says(&error, facts);
    error
}

fn assert_says(error: &DataError, facts: &[&str]) {
    let message = error.to_string();
    for fact in facts {
        assert!(message.contains(fact), "{fact:?} is not in: {message}");
    }
    assert!(!message.contains('\n'), "more than a line: {message}");
}

#[test]
fn shipped_files_hold_what_the_authors_published() {
    let mnist = shipped();
    assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 10_000));

    let mut histogram = [0; ImageSet::CLASSES];
    let mut counts = [0u64; 256];
    for i in 0..mnist.train.len() {
        histogram[usize::from(mnist.train.label(i))] += 1;
        for &pixel in mnist.train.image(i) {
            counts[usize::from(pixel)] += 1;
        }
    }
    assert_eq!(
        histogram,
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    );

    let moment = |power: i32| -> f64 {
        let weighted = (0..256).map(|p| counts[p] as f64 * (p as f64 / 255.0).powi(power));
        weighted.sum::<f64>() / (60_000.0 * 784.0)
    };
    let mean = moment(1);
    let std = (moment(2) - mean * mean).sqrt();
    assert_eq!(format!("{mean:.4} {std:.4}"), "0.1307 0.3081");

    let first: Vec<u8> = (0..10).map(|i| mnist.test.label(i)).collect();
    assert_eq!(first, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
}

#[test]
fn the_last_five_thousand_validate() {
    let mnist = shipped();
    let (train, validation) = mnist.train_and_validation();
    assert_eq!((train.len(), validation.len()), (55_000, VALIDATION));
    for i in [0, 1, 4_999] {
        assert_eq!(validation.digit(i), mnist.train.digit(55_000 + i));
    }
    // The same memory, not a copy.
    assert_eq!(
        validation.image(7).as_ptr(),
        mnist.train.image(55_007).as_ptr()
    );
}

#[test]
fn a_small_set_gives_a_twelfth_to_validate() {
    let mnist = Mnist::load(folder().path()).unwrap();
    let (train, validation) = mnist.train_and_validation();
    assert_eq!((train.len(), validation.len()), (22, 2));
}

#[test]
fn a_set_is_a_dataset_of_digits() {
    let set = Mnist::load(folder().path()).unwrap().train;
    let part = set.subset(5..9).subset(1..3);
    assert_eq!(Dataset::<Digit>::len(&part), 2);
    let digit: Digit = part.get(1).unwrap();
    assert_eq!(digit, set.digit(7));
    assert_eq!((digit.label, &digit.pixels[..]), (7, set.image(7)));
    assert_eq!(part.iter().count(), 2);
}

#[test]
fn gzip_plain_and_dotted_names_are_the_same_data() {
    let plain = folder();
    let expected = Mnist::load(plain.path()).unwrap();
    for (dotted, suffix, compressed) in [
        (false, ".gz", true),
        (true, "", false),
        (true, ".gz", true),
        // As browsers save decompressed files, and the reverse.
        (false, ".gz", false),
        (false, "", true),
    ] {
        let other = tempfile::tempdir().unwrap();
        for name in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
            let content = fs::read(plain.path().join(name)).unwrap();
            let content = if compressed { gzip(&content) } else { content };
            let hyphen = if dotted { ".idx" } else { "-idx" };
            let name = name.replace("-idx", hyphen) + suffix;
            fs::write(other.path().join(name), content).unwrap();
        }
        let found = Mnist::load(other.path()).unwrap();
        for (found, expected) in [
            (&found.train, &expected.train),
            (&found.test, &expected.test),
        ] {
            assert_eq!(found.len(), expected.len());
            assert!((0..found.len()).all(|i| found.digit(i) == expected.digit(i)));
        }
    }
}

/// The pixels of an IDX file of 28x28 images, each with rows and columns swapped.
fn transposed(images: &[u8]) -> Vec<u8> {
    let (header, pixels) = images.split_at(16);
    let mut swapped = header.to_vec();
    for image in pixels.chunks_exact(784) {
        swapped.extend((0..784).map(|i| image[i % 28 * 28 + i / 28]));
    }
    swapped
}

/// A folder with the given files.
fn folder_of(files: &[(String, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// EMNIST's files for one of its parts: images stored column by column.
fn emnist(part: &str, train: u32, test: u32) -> Vec<(String, Vec<u8>)> {
    let name = |set, content| format!("emnist-{part}-{set}-{content}-ubyte.gz");
    vec![
        (
            name("train", "images-idx3"),
            gzip(&transposed(&images(train))),
        ),
        (name("train", "labels-idx1"), gzip(&labels(train))),
        (
            name("test", "images-idx3"),
            gzip(&transposed(&images(test))),
        ),
        (name("test", "labels-idx1"), gzip(&labels(test))),
    ]
}

fn assert_same(found: &Mnist, expected: &Mnist) {
    for (found, expected) in [
        (&found.train, &expected.train),
        (&found.test, &expected.test),
    ] {
        assert_eq!(found.len(), expected.len());
        assert!((0..found.len()).all(|i| found.digit(i) == expected.digit(i)));
    }
}

#[test]
fn emnist_stands_upright() {
    let expected = Mnist::load(folder().path()).unwrap();
    for part in ["digits", "mnist"] {
        let found = Mnist::load(folder_of(&emnist(part, 24, 3)).path()).unwrap();
        assert_same(&found, &expected);
    }
    // The whole archive in one folder: the digits are read.
    let mut all = emnist("digits", 24, 3);
    for part in ["balanced", "byclass", "bymerge", "letters", "mnist"] {
        all.extend(emnist(part, 13, 2));
    }
    assert_same(&Mnist::load(folder_of(&all).path()).unwrap(), &expected);
}

#[test]
fn emnist_parts_of_more_than_ten_classes_are_refused() {
    for (part, classes) in [
        ("balanced", "47"),
        ("byclass", "62"),
        ("bymerge", "47"),
        ("letters", "26"),
    ] {
        let folder = folder_of(&emnist(part, 24, 3));
        let error = Mnist::load(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Classes { .. }));
        let name = format!("emnist-{part}-train-images");
        assert_says(&error, &[&name, classes, "emnist-digits"]);
    }
}

/// QMNIST's labels: eight 32-bit integers per image; the first is the class.
fn qmnist_labels(count: u32) -> Vec<u8> {
    let mut file = vec![0, 0, 0x0c, 2];
    file.extend([count, 8].iter().flat_map(|size| size.to_be_bytes()));
    for i in 0..count {
        let row = [i % 10, 4, 300 + i, 7, 0, 48, i, 0];
        file.extend(row.iter().flat_map(|value| value.to_be_bytes()));
    }
    file
}

#[test]
fn qmnist_is_read() {
    let files = |labels_of: fn(u32) -> Vec<u8>| {
        [("train", 24), ("test", 3)].map(|(set, count)| {
            [
                (
                    format!("qmnist-{set}-images-idx3-ubyte.gz"),
                    gzip(&images(count)),
                ),
                (
                    format!("qmnist-{set}-labels-idx2-int.gz"),
                    gzip(&labels_of(count)),
                ),
            ]
        })
    };
    let found = Mnist::load(folder_of(&files(qmnist_labels).concat()).path()).unwrap();
    assert_same(&found, &Mnist::load(folder().path()).unwrap());

    let negative = |count| {
        let mut file = qmnist_labels(count);
        file[12 + 32..][..4].copy_from_slice(&(-1i32).to_be_bytes());
        file
    };
    let error = Mnist::load(folder_of(&files(negative).concat()).path()).unwrap_err();
    assert!(matches!(
        error,
        DataError::Label {
            index: 1,
            label: -1,
            ..
        }
    ));
    let error = Mnist::load(folder_of(&files(labels).concat()).path()).unwrap_err();
    assert_says(
        &error,
        &["qmnist-train-labels", "0x00000c02", "32-bit integers in 2"],
    );
    let no_columns = |count: u32| {
        let mut file = vec![0, 0, 0x0c, 2];
        file.extend([count, 0].iter().flat_map(|size| size.to_be_bytes()));
        file
    };
    let error = Mnist::load(folder_of(&files(no_columns).concat()).path()).unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { labels: 0, .. }));
}

#[test]
fn zeros_after_gzip_are_padding() {
    let plain = images(24);
    let (first, second) = plain.split_at(5_000);
    let name = format!("{TRAIN_IMAGES}.gz");
    for members in [gzip(&plain), [gzip(first), gzip(second)].concat()] {
        for padding in [0, 1, 511, 100_000] {
            let folder = folder();
            fs::remove_file(folder.path().join(TRAIN_IMAGES)).unwrap();
            let padded = [members.clone(), vec![0; padding]].concat();
            fs::write(folder.path().join(&name), padded).unwrap();
            assert_eq!(Mnist::load(folder.path()).unwrap().train.len(), 24);
        }
        // `gzip -t` calls this trailing garbage.
        let followed = [members, vec![0; 20_000], b"more".to_vec()].concat();
        let error = refusal(&name, &followed, &["cannot be decompressed", "padding"]);
        assert!(matches!(error, DataError::Gzip { .. }));
    }
}

#[test]
fn the_checkout_is_found_without_a_flag() {
    assert!(Mnist::find(None).unwrap().ends_with("data/mnist"));
    let folder = folder();
    assert_eq!(Mnist::find(Some(folder.path())).unwrap(), folder.path());
}

#[test]
fn a_missing_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [&absent, &file] {
        for error in [
            Mnist::find(Some(path)).unwrap_err(),
            Mnist::load(path).unwrap_err(),
        ] {
            assert!(matches!(error, DataError::FolderMissing { .. }));
            assert_says(&error, &[path.to_str().unwrap(), "not a folder", "--data"]);
        }
    }
    let error = DataError::NotFound {
        current: PathBuf::from("/here/data/mnist"),
        checkout: PathBuf::from("/there/data/mnist"),
    };
    assert_says(&error, &["/here/data/mnist", "/there/data/mnist", "--data"]);
}

#[test]
fn a_missing_file_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let error = Mnist::load(empty.path()).unwrap_err();
    assert!(matches!(error, DataError::FileMissing { .. }));
    assert_says(&error, &[empty.path().to_str().unwrap(), TRAIN_IMAGES]);

    for name in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let folder = folder();
        fs::remove_file(folder.path().join(name)).unwrap();
        // Some archives unpack to a folder with the file's name.
        fs::create_dir(folder.path().join(name)).unwrap();
        let error = Mnist::load(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::FileMissing { .. }));
        assert_says(&error, &[name, "--data"]);
    }
}

#[test]
fn what_is_not_idx_is_refused() {
    let error = refusal(TRAIN_LABELS, b"<html>404</html>", &["3c, 68", "08, 01"]);
    assert!(matches!(error, DataError::NotIdx { .. }));
    let error = refusal(TEST_IMAGES, b"x\n", &["not an IDX file", "[78, 0a]"]);
    assert!(matches!(error, DataError::NotIdx { .. }));
}

#[test]
fn a_wrong_magic_number_is_refused() {
    let facts = ["0x00000803", "0x00000801", "1 dimension"];
    let error = refusal(TRAIN_LABELS, &images(24), &facts);
    assert!(matches!(error, DataError::Magic { .. }));
    let facts = ["0x00000801", "0x00000803", "3 dimension"];
    let error = refusal(TEST_IMAGES, &labels(3), &facts);
    assert!(matches!(error, DataError::Magic { .. }));
    // Floats instead of bytes.
    let mut floats = images(24);
    floats[2] = 0x0d;
    let error = refusal(TRAIN_IMAGES, &floats, &["0x00000d03", "0x00000803"]);
    assert!(matches!(error, DataError::Magic { .. }));
}

#[test]
fn a_truncated_file_is_refused() {
    let whole = images(24);
    for (len, expected) in [
        (0, "16"),
        (3, "16"),
        (4, "16"),
        (15, "16"),
        (16, "18832"),
        (18_831, "18832"),
    ] {
        let found = format!("cut short: {len} bytes");
        let facts = [found.as_str(), expected];
        let error = refusal(TRAIN_IMAGES, &whole[..len], &facts);
        assert!(matches!(error, DataError::Truncated { .. }), "{error}");
        let error = refusal(&format!("{TRAIN_IMAGES}.gz"), &gzip(&whole[..len]), &facts);
        assert!(matches!(error, DataError::Truncated { .. }), "{error}");
    }
}

#[test]
fn trailing_bytes_are_refused() {
    let mut longer = labels(3);
    longer.push(0);
    let error = refusal(TEST_LABELS, &longer, &["more than the 11 bytes"]);
    assert!(matches!(error, DataError::TrailingBytes { .. }));
    let error = refusal(
        &format!("{TEST_LABELS}.gz"),
        &gzip(&longer),
        &["more than the 11 bytes"],
    );
    assert!(matches!(error, DataError::TrailingBytes { .. }));
}

#[test]
fn a_bad_gzip_file_is_refused() {
    let name = format!("{TRAIN_IMAGES}.gz");
    let error = refusal(&name, b"PK\x03\x04", &["not a gzip file", "[50, 4b]"]);
    assert!(matches!(error, DataError::NotGzip { .. }));

    let good = gzip(&images(24));
    for len in [2, 9, good.len() / 2, good.len() - 1] {
        let error = refusal(&name, &good[..len], &["cannot be decompressed"]);
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
    }
    // The checksum of the content, in the last eight bytes.
    let mut damaged = good.clone();
    let checksum = damaged.len() - 8;
    damaged[checksum] ^= 1;
    let error = refusal(&name, &damaged, &["cannot be decompressed"]);
    assert!(matches!(error, DataError::Gzip { .. }));
    let mut followed = good;
    followed.extend(b"more");
    let error = refusal(&name, &followed, &["cannot be decompressed"]);
    assert!(matches!(error, DataError::Gzip { .. }));
}

#[test]
fn a_huge_declared_size_is_refused_without_being_allocated() {
    for sizes in [[u32::MAX; 3], [1 << 31, 28, 28], [1 << 21, 28, 28]] {
        let first = sizes[0].to_string();
        let error = refusal(TRAIN_IMAGES, &idx(&sizes, &[0; 64]), &[&first]);
        assert!(matches!(error, DataError::TooLarge { .. }));
    }
    // A size within the limit, but larger than the file.
    let file = idx(&[1_000_000, 28, 28], &[0; 64]);
    let error = refusal(TRAIN_IMAGES, &file, &["80 bytes", "784000016"]);
    assert!(matches!(error, DataError::Truncated { .. }));
}

#[test]
fn a_gzip_bomb_is_not_unpacked() {
    let mut bomb = images(24);
    bomb.resize(64 << 20, 0);
    let name = format!("{TRAIN_IMAGES}.gz");
    let error = refusal(&name, &gzip(&bomb), &["more than the 18832 bytes"]);
    assert!(matches!(error, DataError::TrailingBytes { .. }));
}

#[test]
fn counts_that_differ_are_refused() {
    let folder = folder();
    fs::write(folder.path().join(TEST_LABELS), labels(4)).unwrap();
    let error = Mnist::load(folder.path()).unwrap_err();
    assert!(matches!(error, DataError::CountMismatch { .. }));
    assert_says(&error, &[TEST_IMAGES, "3 images", TEST_LABELS, "4 labels"]);
}

#[test]
fn images_of_another_size_are_refused() {
    for (height, width) in [(32, 32), (28, 27), (0, 0)] {
        let file = idx(
            &[24, height, width],
            &vec![0; (24 * height * width) as usize],
        );
        let found = format!("{height}x{width}");
        let error = refusal(TRAIN_IMAGES, &file, &[&found, "28x28"]);
        assert!(matches!(error, DataError::ImageSize { .. }));
    }
}

#[test]
fn a_label_above_nine_is_refused() {
    let mut file = labels(24);
    file[8 + 17] = 10;
    file[8 + 20] = 255;
    let error = refusal(TRAIN_LABELS, &file, &["image 17 ", "label 10", "0 to 9"]);
    assert!(matches!(error, DataError::Label { .. }));
}

#[test]
fn too_few_images_are_refused() {
    for (images_name, labels_name, count, least) in [
        (TRAIN_IMAGES, TRAIN_LABELS, 0, "12"),
        (TRAIN_IMAGES, TRAIN_LABELS, 11, "12"),
        (TEST_IMAGES, TEST_LABELS, 0, "1"),
    ] {
        let folder = folder();
        fs::write(folder.path().join(images_name), images(count)).unwrap();
        fs::write(folder.path().join(labels_name), labels(count)).unwrap();
        let error = Mnist::load(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::TooFew { .. }));
        let found = format!("holds {count} images");
        assert_says(
            &error,
            &[images_name, &found, &format!("at least {least};")],
        );
    }
}

#[cfg(unix)]
#[test]
fn an_unreadable_file_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join(TEST_LABELS);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser can read it anyway.
    if fs::File::open(&path).is_err() {
        let error = Mnist::load(folder.path()).unwrap_err();
        assert!(matches!(error, DataError::Read { .. }));
        assert_says(&error, &[path.to_str().unwrap(), "permissions"]);
    }
}

/// Loads a good folder in which one file has `content`. Loading returns the set that the content describes, or an error
/// that names the file; it does not panic.
fn load_hostile(folder: &Path, name: &str, content: &[u8]) -> Result<(), TestCaseError> {
    fs::write(folder.join(name), content).unwrap();
    match Mnist::load(folder) {
        Ok(mnist) => prop_assert_eq!(mnist.test.len(), 3),
        Err(error) => prop_assert!(error.to_string().contains(name), "{}", error),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutation_panics(
        compressed in any::<bool>(),
        of_images in any::<bool>(),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        early in any::<bool>(),
        keep in prop::option::of(any::<prop::sample::Index>()),
        tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let folder = folder();
        let (name, content) = if of_images {
            (TEST_IMAGES, images(3))
        } else {
            (TEST_LABELS, labels(3))
        };
        let mut content = if compressed { gzip(&content) } else { content };
        // Half of the mutations change only the header, which decides how the file is read.
        let reach = if early { content.len().min(20) } else { content.len() };
        for (at, byte) in mutations {
            content[at.index(reach)] = byte;
        }
        if let Some(keep) = keep {
            content.truncate(keep.index(content.len()));
        }
        content.extend(tail);
        load_hostile(folder.path(), name, &content)?;
    }

    #[test]
    fn no_bytes_panic(
        magic in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut content = if magic { vec![0, 0, 8, 1] } else { Vec::new() };
        content.extend(bytes);
        load_hostile(folder().path(), TEST_LABELS, &content)?;
    }
}
