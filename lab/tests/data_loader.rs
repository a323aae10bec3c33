//! Batches of MNIST: the images of an epoch, their order, and their normalised values.

#[path = "../../tests/common/devices.rs"]
mod devices;

use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::split::split_dataloader;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder};
use burn::tensor::Tensor;
use burn_kindling_lab::data::{DigitBatch, DigitBatcher, ImageSet, Loader, MEAN, STD};
use devices::any_device;
use proptest::prelude::*;

/// A set of images whose first two pixels encode the index.
fn set(len: usize) -> ImageSet {
    let mut pixels = vec![0; len * ImageSet::PIXELS];
    for (i, image) in pixels.chunks_exact_mut(ImageSet::PIXELS).enumerate() {
        image[0] = (i / 256) as u8;
        image[1] = (i % 256) as u8;
        image[783] = (i * 7) as u8;
    }
    let labels: Vec<u8> = (0..len).map(|i| (i * 3 % 10) as u8).collect();
    ImageSet::new(pixels, labels)
}

fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn labels(batch: &DigitBatch) -> Vec<i64> {
    batch.targets.clone().into_data().iter::<i64>().collect()
}

/// The index that each image of a batch encodes. Checks its label against the index.
fn indices(batch: &DigitBatch) -> Vec<usize> {
    let [len, height, width] = batch.images.dims();
    assert_eq!([height, width], [28, 28]);
    let pixel = |value: f32| ((value * STD + MEAN) * 255.0).round() as usize;
    let images = floats(batch.images.clone());
    let indices: Vec<usize> = images
        .chunks_exact(ImageSet::PIXELS)
        .map(|image| pixel(image[0]) * 256 + pixel(image[1]))
        .collect();
    assert_eq!(indices.len(), len);
    let expected: Vec<i64> = indices.iter().map(|i| (i * 3 % 10) as i64).collect();
    assert_eq!(labels(batch), expected);
    indices
}

/// The next epoch of a loader, batch by batch. Also checks the reported progress.
fn epoch(loader: &dyn DataLoader<DigitBatch>) -> Vec<Vec<usize>> {
    let mut iter = loader.iter();
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut done = 0;
    assert_eq!(iter.progress().items_processed, 0);
    while let Some(batch) = iter.next() {
        batches.push(indices(&batch.unwrap()));
        done += batches.last().unwrap().len();
        let progress = iter.progress();
        assert_eq!(progress.items_processed, done);
        assert_eq!(progress.items_total, loader.num_items());
    }
    assert!(iter.progress().is_completed());
    assert!(iter.next().is_none());
    batches
}

fn sizes(batches: &[Vec<usize>]) -> Vec<usize> {
    batches.iter().map(Vec::len).collect()
}

fn sorted(batches: &[Vec<usize>]) -> Vec<usize> {
    let mut all = batches.concat();
    all.sort_unstable();
    all
}

fn shuffled(len: usize, batch_size: usize, seed: u64) -> Loader {
    Loader::new(set(len), batch_size, any_device()).shuffled(seed)
}

#[test]
fn pixels_are_normalised() {
    let mut pixels = vec![0; ImageSet::PIXELS];
    for (value, pixel) in pixels.iter_mut().take(256).enumerate() {
        *pixel = value as u8;
    }
    for device in devices::devices() {
        let loader = Loader::new(ImageSet::new(pixels.clone(), [4]), 1, device);
        let batch = loader.iter().next().unwrap().unwrap();
        for (found, pixel) in floats(batch.images).iter().zip(&pixels) {
            let expected = (f64::from(*pixel) / 255.0 - 0.1307) / 0.3081;
            // f32 rounds the result, up to 2.83, and each step before it.
            assert!((f64::from(*found) - expected).abs() < 1e-6);
        }
    }
}

#[test]
fn an_unshuffled_epoch_is_in_order_and_keeps_its_last_batch() {
    let loader = Loader::new(set(301), 100, any_device());
    assert_eq!(loader.num_items(), 301);
    for _ in 0..2 {
        let batches = epoch(&loader);
        assert_eq!(sizes(&batches), [100, 100, 100, 1]);
        assert_eq!(batches.concat(), (0..301).collect::<Vec<_>>());
    }
}

#[test]
fn a_shuffled_epoch_leaves_out_a_lone_last_image() {
    let loader = shuffled(301, 100, 1);
    assert_eq!(loader.num_items(), 300);
    let left_out: Vec<usize> = (0..4)
        .map(|_| {
            let batches = epoch(&loader);
            assert_eq!(sizes(&batches), [100, 100, 100]);
            let all = sorted(&batches);
            (0..301).find(|i| all.binary_search(i).is_err()).unwrap()
        })
        .collect();
    assert!(left_out.iter().any(|&i| i != left_out[0]), "{left_out:?}");

    // A single image is kept if the set or the batch size is 1.
    assert_eq!(sizes(&epoch(&shuffled(1, 100, 1))), [1]);
    assert_eq!(sizes(&epoch(&shuffled(3, 1, 1))), [1, 1, 1]);
    assert_eq!(sizes(&epoch(&shuffled(302, 100, 1))), [100, 100, 100, 2]);
}

#[test]
fn the_order_depends_on_seed_and_epoch_alone() {
    let (one, same, other) = (
        shuffled(500, 64, 7),
        shuffled(500, 64, 7),
        shuffled(500, 64, 8),
    );
    let mut seen = Vec::new();
    for _ in 0..3 {
        let batches = epoch(&one);
        assert_eq!(sorted(&batches), (0..500).collect::<Vec<_>>());
        assert_eq!(batches, epoch(&same));
        seen.push(batches);
        seen.push(epoch(&other));
    }
    for (i, batches) in seen.iter().enumerate() {
        assert_ne!(batches.concat(), (0..500).collect::<Vec<_>>());
        assert!(!seen[..i].contains(batches), "epoch {i} repeats another");
    }
}

#[test]
fn a_resumed_run_sees_what_an_uninterrupted_one_does() {
    let uninterrupted = shuffled(500, 64, 7);
    let epochs: Vec<_> = (1..=5).map(|_| epoch(&uninterrupted)).collect();
    for start in 1..=5 {
        let resumed = shuffled(500, 64, 7).starting_at_epoch(start);
        for expected in &epochs[start - 1..] {
            assert_eq!(&epoch(&resumed), expected);
        }
    }
}

#[test]
fn an_epoch_that_was_left_early_counts() {
    let (left, whole) = (shuffled(500, 64, 7), shuffled(500, 64, 7));
    left.iter().next().unwrap().unwrap();
    epoch(&whole);
    assert_eq!(epoch(&left), epoch(&whole));
}

#[test]
fn to_device_carries_on_at_the_same_epoch() {
    let loader = shuffled(500, 64, 7).starting_at_epoch(3);
    let device = any_device().autodiff();
    let moved = loader.to_device(&device);
    assert_eq!(moved.num_items(), 500);
    let batch = moved.iter().next().unwrap().unwrap();
    assert_eq!(batch.images.device(), device);
    assert_eq!(batch.targets.device(), device);
    // The moved loader counts its own epochs.
    assert_eq!(
        epoch(&loader),
        epoch(&*shuffled(500, 64, 7).starting_at_epoch(3).to_device(&device))
    );
    assert_eq!(epoch(&loader), epoch(&*moved));
}

#[test]
fn slices_share_out_the_set() {
    let device = any_device();
    let plain: Arc<dyn DataLoader<DigitBatch>> =
        Arc::new(Loader::new(set(103), 10, device.clone()));
    let parts = split_dataloader(plain.clone(), &[device.clone(), device.clone(), device]);
    let batches: Vec<_> = parts.iter().flat_map(|part| epoch(&**part)).collect();
    assert_eq!(batches.concat(), (0..103).collect::<Vec<_>>());
    let part = plain.slice(20, 60).slice(5, 15);
    assert_eq!(epoch(&*part).concat(), (25..35).collect::<Vec<_>>());

    let part = shuffled(103, 10, 7).starting_at_epoch(2).slice(20, 60);
    assert_eq!(part.num_items(), 40);
    let (second, third) = (epoch(&*part), epoch(&*part));
    assert_eq!(sorted(&second), (20..60).collect::<Vec<_>>());
    assert_eq!(sorted(&third), (20..60).collect::<Vec<_>>());
    assert_ne!(second, third);
    let again = shuffled(103, 10, 7).starting_at_epoch(2).slice(20, 60);
    assert_eq!(epoch(&*again), second);
}

#[test]
fn dropping_an_epoch_early_ends_its_thread() {
    let pixels: Arc<[u8]> = vec![0; 5_000 * ImageSet::PIXELS].into();
    let images = ImageSet::new(pixels.clone(), vec![0; 5_000]);
    let loader = Loader::new(images, 10, any_device());
    let held = Arc::strong_count(&pixels);
    for batches in [0, 1, 7] {
        let mut iter = loader.iter();
        for _ in 0..batches {
            iter.next().unwrap().unwrap();
        }
        assert_eq!(iter.progress().items_processed, batches * 10);
        drop(iter);
        // A thread that was still running would hold the pixels.
        assert_eq!(Arc::strong_count(&pixels), held);
    }
    // Two iterators at the same time do not disturb each other.
    let (mut one, mut two) = (loader.iter(), loader.iter());
    assert!(one.next().is_some() && two.next().is_some());
    drop(one);
    assert_eq!(two.count(), 499);
}

#[test]
fn an_empty_set_has_no_batches() {
    assert!(epoch(&shuffled(0, 10, 1)).is_empty());
    assert!(epoch(&Loader::new(set(0), 10, any_device())).is_empty());
}

#[test]
#[should_panic(expected = "a batch needs at least one image")]
fn a_batch_size_of_zero_is_a_mistake() {
    Loader::new(set(1), 0, any_device());
}

#[test]
fn burns_own_loader_makes_the_same_batches() {
    let images = set(130);
    let device = any_device();
    let theirs = DataLoaderBuilder::new(DigitBatcher)
        .batch_size(50)
        .set_device(device.clone())
        .build(images.clone());
    let ours = Loader::new(images.clone(), 50, device.clone());
    let pairs: Vec<_> = theirs.iter().zip(ours.iter()).collect();
    assert_eq!(pairs.len(), 3);
    for (theirs, ours) in pairs {
        let (theirs, ours) = (theirs.unwrap(), ours.unwrap());
        assert_eq!(labels(&theirs), labels(&ours));
        assert_eq!(floats(theirs.images), floats(ours.images));
    }
    let single = DigitBatcher.batch(vec![images.digit(9)], &device);
    assert_eq!(indices(&single), [9]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_epoch_is_a_permutation(
        len in 0usize..70,
        batch_size in 1usize..20,
        seed in any::<u64>(),
        start in 1usize..1000,
    ) {
        let loader = shuffled(len, batch_size, seed).starting_at_epoch(start);
        let batches = epoch(&loader);
        let all = sorted(&batches);
        let lone = len > batch_size && len % batch_size == 1;
        prop_assert_eq!(all.len(), len - usize::from(lone));
        prop_assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(all.last().is_none_or(|&last| last < len));
        if let Some((last, full)) = batches.split_last() {
            prop_assert!(full.iter().all(|batch| batch.len() == batch_size));
            prop_assert!((1..=batch_size).contains(&last.len()));
        }
    }
}
