//! Damaged and malicious files: no reader panics or takes more memory than the file justifies.
//!
//! Valid files are mutated in their structure: sizes and counts change, text and lengths change, and pieces are moved,
//! repeated and taken from other files. Half of the mutations change only the description of the tensors; the rest of
//! the file is then rebuilt to match. `HOSTILE_EXECUTIONS` sets how many files of each kind are tried, `HOSTILE_SEED`
//! the random seed. A file that fails is kept in the folder `HOSTILE_FOUND`, if that is set. Move it to
//! `fixtures/hostile`: files there, named `KIND-anything`, are tried each time.
#![cfg(feature = "flex")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use burn_kindling::record::{Layout, Record};
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::model::{Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{RunFolder, TrainConfig};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The system's allocator, counting the bytes that the current thread holds, and their peak.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        count(memory.size() as isize);
        unsafe { System.alloc(memory) }
    }

    unsafe fn alloc_zeroed(&self, memory: Memory) -> *mut u8 {
        count(memory.size() as isize);
        unsafe { System.alloc_zeroed(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Memory) {
        count(-(memory.size() as isize));
        unsafe { System.dealloc(pointer, memory) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        count(size as isize - memory.size() as isize);
        unsafe { System.realloc(pointer, memory, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The peak of the bytes held on this thread while `work` runs, beyond those held before.
fn peak(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    work();
    (PEAK.get() - before) as usize
}

/// Takes a file apart and puts it together again.
#[derive(Clone, Copy)]
struct Description {
    of: fn(&[u8]) -> Vec<u8>,
    replaced: fn(&[u8], &[u8]) -> Vec<u8>,
}

type Reader = Box<dyn Fn(&[u8])>;

/// A kind of file.
struct Kind {
    name: &'static str,
    /// Valid files. They are small, so that a mutation often changes something that matters.
    seeds: Vec<Vec<u8>>,
    /// Extracts the description of the tensors from a valid file, and builds the file around a new one.
    description: Option<Description>,
    /// Bytes of memory that reading may take per byte of the file.
    warrants: usize,
    /// Reads the file.
    read: Reader,
}

impl Kind {
    /// Reads a file. Asserts that this neither panics nor takes too much memory.
    fn try_file(&self, file: &[u8]) {
        let mut used = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| used = peak(|| (self.read)(file))));
        // One megabyte is for memory that does not depend on the file.
        let problem = match outcome {
            Ok(()) if used <= (1 << 20) + self.warrants * file.len() => return,
            Ok(()) => format!("took {used} bytes"),
            Err(_) => "panicked".into(),
        };
        if let Some(folder) = std::env::var_os("HOSTILE_FOUND") {
            fs::write(
                Path::new(&folder).join(format!("{}-found", self.name)),
                file,
            )
            .unwrap();
        }
        panic!("a {} file of {} bytes {problem}", self.name, file.len());
    }

    /// Tries mutations of the seeds.
    fn try_mutations(&self) {
        for file in found(self.name) {
            self.try_file(&fs::read(file).unwrap());
        }
        let number = |name: &str, default| {
            std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
        };
        let executions = number("HOSTILE_EXECUTIONS", 3_000);
        let mut random = StdRng::seed_from_u64(number("HOSTILE_SEED", 1));
        for seed in &self.seeds {
            self.try_file(seed);
        }
        for _ in 0..executions {
            let mut pick = || &self.seeds[random.random_range(0..self.seeds.len())];
            let (seed, other) = (pick(), pick());
            let file = match self.description.filter(|_| random.random()) {
                None => mutated(seed.clone(), other, &mut random),
                Some(description) => {
                    let [inside, other] = [seed, other].map(|file| (description.of)(file));
                    (description.replaced)(seed, &mutated(inside, &other, &mut random))
                }
            };
            self.try_file(&file);
        }
    }
}

/// Files that a reader failed on before.
fn found(kind: &str) -> Vec<PathBuf> {
    let folder = fixtures().join("hostile");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let prefix = format!("{kind}-");
    files
        .filter(|file| {
            file.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with(&prefix)
        })
        .collect()
}

/// Sizes and counts at which arithmetic tends to go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    0x7F,
    0xFF,
    0x100,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

fn mutated(mut file: Vec<u8>, other: &[u8], random: &mut StdRng) -> Vec<u8> {
    let most = [1, 1, 2, 4][random.random_range(0..4)];
    for _ in 0..random.random_range(1..=most) {
        mutate(&mut file, other, random);
    }
    file
}

fn mutate(file: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    if file.is_empty() {
        file.extend(other);
        return;
    }
    // Most of the structure is in the headers.
    let end = match random.random_range(0..3) {
        0 => file.len(),
        1 => file.len().min(64),
        _ => file.len().min(1_024),
    };
    let at = random.random_range(0..end);
    let len = random.random_range(1..=16usize).min(file.len() - at);
    match random.random_range(0..12) {
        0 => file[at] ^= 1 << random.random_range(0..8),
        1 => file[at] = random.random(),
        2 => file.truncate(at),
        3 => drop(file.drain(at..at + len)),
        4 => {
            let piece = file[at..at + len].to_vec();
            let count = random.random_range(1..=64);
            file.splice(at..at, piece.repeat(count));
        }
        5 => {
            let from = random.random_range(0..other.len());
            let to = (from + random.random_range(1..=256)).min(other.len());
            file.splice(at..at + len, other[from..to].iter().copied());
        }
        6 => {
            let to = random.random_range(0..file.len());
            let piece: Vec<u8> = file.drain(at..at + len).collect();
            let to = to.min(file.len());
            file.splice(to..to, piece);
        }
        7 => {
            // A binary number, of any width and either order.
            let number = NUMBERS[random.random_range(0..NUMBERS.len())];
            let width = [1, 2, 4, 8][random.random_range(0..4)];
            let mut bytes = number.to_le_bytes()[..width].to_vec();
            if random.random() {
                bytes.reverse();
            }
            let len = width.min(file.len() - at);
            file[at..at + len].copy_from_slice(&bytes[..len]);
        }
        8 | 9 => {
            // A number in text, if there is one.
            let digits = |byte: &u8| byte.is_ascii_digit();
            let Some(start) = file[at..].iter().position(digits).map(|it| at + it) else {
                return;
            };
            let len = file[start..].iter().take_while(|byte| digits(byte)).count();
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_string();
            file.splice(start..start + len, number.into_bytes());
        }
        _ => {
            let nested = [&b"["[..], b"{", b"{\"a\":", b"(", b"\x85"][random.random_range(0..5)];
            file.splice(at..at, nested.repeat(random.random_range(1..=400)));
        }
    }
}

fn networks() -> Vec<(ModelConfig, Classifier)> {
    let device = Device::flex();
    let mlp = MlpConfig::new()
        .with_inputs(4)
        .with_hidden(vec![3, 2])
        .with_classes(2);
    let cnn = CnnConfig::new()
        .with_side(4)
        .with_channels([1, 2])
        .with_dense(2)
        .with_classes(2);
    [
        ModelConfig::Mlp(mlp.clone()),
        ModelConfig::Mlp(mlp.with_norm(Normalization::None)),
        ModelConfig::Cnn(cnn),
    ]
    .map(|config| (config.clone(), config.init(&device)))
    .into()
}

/// Reads a record. Loads it into the network of its configuration, and into another network that may fit.
fn read_record(file: &[u8]) {
    let device = Device::flex();
    let Ok(record) = Record::from_bytes(file.to_vec()) else {
        return;
    };
    if let Ok(config) = record.config::<ModelConfig>() {
        let _ = Classifier::from_record(&config, &record, &device);
    }
    let config = ModelConfig::Mlp(
        MlpConfig::new()
            .with_inputs(4)
            .with_hidden(vec![3, 2])
            .with_classes(2),
    );
    if let Err(error) = Classifier::from_record(&config, &record, &device) {
        assert!(error.to_string().len() < 10_000);
    }
}

/// The size of the metadata, from the end of the 10-byte header.
fn burnpack_metadata(file: &[u8]) -> usize {
    u32::from_le_bytes(file[6..10].try_into().unwrap()) as usize
}

fn burnpack() -> Kind {
    let mut seeds = Vec::new();
    for (config, model) in networks() {
        let record = model.record(&config, Layout::Burn);
        seeds.push(record.to_bytes().unwrap());
        seeds.push(record.cast(FloatDType::F16).unwrap().to_bytes().unwrap());
        // Burn's own file, without a checksum: a checksum would refuse most mutations.
        let record = match model {
            Classifier::Mlp(model) => model.into_record(),
            Classifier::Cnn(model) => model.into_record(),
            Classifier::Resnet(model) => model.into_record(),
        };
        seeds.push(record.into_bytes().unwrap().to_vec());
    }
    Kind {
        name: "burnpack",
        seeds,
        description: Some(Description {
            of: |file| file[10..10 + burnpack_metadata(file)].to_vec(),
            replaced: |file, metadata| {
                let values = (10 + burnpack_metadata(file)).next_multiple_of(256);
                let size = metadata.len() as u32;
                let mut new = [&file[..6], &size.to_le_bytes(), metadata].concat();
                new.resize(new.len().next_multiple_of(256), 0);
                [&new, &file[values..]].concat()
            },
        }),
        warrants: 64,
        read: Box::new(read_record),
    }
}

/// The size of the header, from the start of the file.
fn safetensors_header(file: &[u8]) -> usize {
    u64::from_le_bytes(file[..8].try_into().unwrap()) as usize
}

fn safetensors() -> Kind {
    let mut seeds = Vec::new();
    for (config, model) in networks() {
        let record = model.record(&config, Layout::PyTorch);
        for dtype in [FloatDType::F32, FloatDType::F64, FloatDType::BF16] {
            let record = record.clone().cast(dtype).unwrap();
            seeds.push(record.to_bytes().unwrap());
        }
    }
    Kind {
        name: "safetensors",
        seeds,
        description: Some(Description {
            of: |file| file[8..8 + safetensors_header(file)].to_vec(),
            replaced: |file, header| {
                let values = &file[8 + safetensors_header(file)..];
                [&(header.len() as u64).to_le_bytes(), header, values].concat()
            },
        }),
        warrants: 64,
        read: Box::new(read_record),
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("tests/fixtures")
}

/// The entries of a valid zip archive.
fn unzip(file: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([file[at], file[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let headers = (0..file.len() - 4).filter(|&at| file[at..].starts_with(b"PK\x01\x02"));
    let entry = |at: usize| {
        let name = file[at + 46..at + 46 + u16_at(at + 28)].to_vec();
        let local = u32_at(at + 42);
        let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        (name, file[start..start + u32_at(at + 24)].to_vec())
    };
    headers.map(entry).collect()
}

/// A zip archive, without checksums, as torch.save writes it with compute_crc32=False.
fn zip(entries: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let sizes = [0, bytes.len() as u32, bytes.len() as u32]
            .map(u32::to_le_bytes)
            .concat();
        let name_len = (name.len() as u16).to_le_bytes();
        let offset = (file.len() as u32).to_le_bytes();
        file.extend(
            [
                b"PK\x03\x04",
                &[0; 10][..],
                &sizes,
                &name_len,
                &[0; 2],
                name,
                bytes,
            ]
            .concat(),
        );
        let header = [
            b"PK\x01\x02",
            &[0; 12][..],
            &sizes,
            &name_len,
            &[0; 12],
            &offset,
            name,
        ];
        directory.extend(header.concat());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let [size, offset] = [directory.len(), file.len()].map(|number| (number as u32).to_le_bytes());
    let end = [
        b"PK\x05\x06",
        &[0; 4][..],
        &count,
        &count,
        &size,
        &offset,
        &[0; 2],
    ]
    .concat();
    [file, directory, end].concat()
}

fn pytorch() -> Kind {
    let names = [
        "pytorch_double",
        "pytorch_half",
        "pytorch_brain",
        "pytorch_checkpoint",
        "pytorch_network",
        "pytorch/key_state_dict",
        "pytorch/whole",
    ];
    let seeds = names.map(|name| fs::read(fixtures().join(format!("{name}.pt"))).unwrap());
    // A checksum would refuse most mutations.
    let unchecked = seeds.clone().map(|file| zip(&unzip(&file)));
    Kind {
        name: "pytorch",
        seeds: [seeds, unchecked].concat(),
        description: Some(Description {
            of: |file| {
                let mut entries = unzip(file).into_iter();
                entries
                    .find(|(name, _)| name.ends_with(b"data.pkl"))
                    .unwrap()
                    .1
            },
            replaced: |file, pickle| {
                let mut entries = unzip(file);
                for (name, bytes) in &mut entries {
                    if name.ends_with(b"data.pkl") {
                        *bytes = pickle.to_vec();
                    }
                }
                zip(&entries)
            },
        }),
        warrants: 256,
        read: Box::new(read_record),
    }
}

/// A file from PyTorch before 1.6: pickles, then the values.
fn legacy() -> Kind {
    let names = ["legacy", "legacy_key"];
    let seeds = names.map(|name| fs::read(fixtures().join(format!("pytorch/{name}.pt"))).unwrap());
    Kind {
        name: "legacy",
        seeds: seeds.into(),
        description: None,
        warrants: 256,
        read: Box::new(read_record),
    }
}

/// Replaces the old file by a new one instead of truncating it: on truncation, some file systems wait for the disk.
fn write(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The configuration in the folder of a run.
fn config() -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let mut seeds = Vec::new();
    for (model, _) in networks() {
        let config = TrainConfig {
            model,
            ..TrainConfig::default()
        };
        seeds.push(serde_json::to_vec_pretty(&config).unwrap());
    }
    let (model, network) = &networks()[0];
    fs::write(folder.path().join("config.json"), &seeds[0]).unwrap();
    network
        .record(model, Layout::Burn)
        .save(folder.path().join("model.bpk"))
        .unwrap();
    Kind {
        name: "config",
        seeds,
        description: None,
        warrants: 64,
        read: Box::new(move |file| {
            write(&folder.path().join("config.json"), file);
            let run = RunFolder::open(folder.path()).unwrap();
            let _ = run.load_model(&Device::flex());
        }),
    }
}

/// The first bytes of an IDX file.
fn header(sizes: &[u32]) -> Vec<u8> {
    let magic = [0, 0, 8, sizes.len() as u8];
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.into_iter().chain(sizes).collect()
}

/// One of the four files of a data set.
fn idx(name: &'static str, file: &'static str, gzip: bool) -> Kind {
    let folder = tempfile::tempdir().unwrap();
    let mut seed = Vec::new();
    for (part, count) in [("train", 12u32), ("t10k", 1)] {
        let mut images = header(&[count, 28, 28]);
        images.extend((0..count * 784).map(|pixel| (pixel % 251) as u8));
        let mut labels = header(&[count]);
        labels.extend((0..count).map(|label| (label % 10) as u8));
        for (kind, bytes) in [("images-idx3", images), ("labels-idx1", labels)] {
            let path = folder.path().join(format!("{part}-{kind}-ubyte"));
            if path.ends_with(file) {
                seed.clone_from(&bytes);
            }
            fs::write(path, bytes).unwrap();
        }
    }
    Mnist::load(folder.path()).expect("the seeds are valid");
    if gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&seed).unwrap();
        seed = encoder.finish().unwrap();
    }
    Kind {
        name,
        seeds: vec![seed],
        description: None,
        // Deflate expands one byte to at most 1032. A growing buffer is copied to one of twice the size.
        warrants: if gzip { 3 * 1_032 } else { 16 },
        read: Box::new(move |bytes| {
            write(&folder.path().join(file), bytes);
            if let Err(error) = Mnist::load(folder.path()) {
                assert!(error.to_string().contains("ubyte"), "{error}");
            }
        }),
    }
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

#[test]
fn files_made_to_do_harm_are_errors_that_say_why() {
    let device = Device::flex();
    let (config, _) = networks().remove(0);
    let files = ["burnpack", "safetensors", "pytorch"].map(found).concat();
    assert!(files.len() >= 25, "{}", files.len());
    for file in files {
        let outcome = Record::open(&file)
            .and_then(|record| Classifier::from_record(&config, &record, &device));
        let error = outcome.expect_err(&file.display().to_string()).to_string();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(name), "{error}");
        assert!((20..10_000).contains(&error.len()), "{error}");
        println!("{error}");
    }
}

#[test]
fn mutated_burnpack_files_are_survived() {
    burnpack().try_mutations();
}

#[test]
fn mutated_safetensors_files_are_survived() {
    safetensors().try_mutations();
}

#[test]
fn mutated_pytorch_files_are_survived() {
    pytorch().try_mutations();
}

#[test]
fn mutated_legacy_files_are_survived() {
    legacy().try_mutations();
}

/// Pickles that make as many values as they can: one per byte, from the memo, or from text.
#[test]
fn a_large_pickle_takes_little_more_than_its_size() {
    let programs = [
        b"N".repeat(4_200_000),
        b")".repeat(4_200_000),
        b"}".repeat(4_200_000),
        b"]\x94".repeat(2_100_000),
        b")\x94\x85\x94".repeat(1_000_000),
        [&b"(cabc\ndef\nq\x00"[..], &b"h\x00".repeat(2_000_000)].concat(),
        b"c\n\n".repeat(1_400_000),
        b"(".repeat(4_200_000),
        b"K\x01\x85\x85\x85".repeat(800_000),
    ];
    for program in programs {
        let pickle = [b"\x80\x02", &program[..], b"."].concat();
        let archive = zip(&[(b"a/data.pkl".to_vec(), pickle.clone())]);
        for file in [pickle, archive] {
            let mut outcome = Ok(());
            let used = peak(|| outcome = Record::from_bytes(file.clone()).map(drop));
            assert!(outcome.is_err());
            assert!(used <= 32 * file.len(), "{used} bytes for {}", file.len());
        }
    }
}

#[test]
fn mutated_configurations_are_survived() {
    config().try_mutations();
}

#[test]
fn mutated_image_files_are_survived() {
    idx("images", IMAGES, false).try_mutations();
}

#[test]
fn mutated_label_files_are_survived() {
    idx("labels", LABELS, false).try_mutations();
}

#[test]
fn mutated_gzip_files_are_survived() {
    idx("gzip", LABELS, true).try_mutations();
}
