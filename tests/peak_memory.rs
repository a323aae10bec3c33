//! Compares the peak memory of a forward and backward pass with that of Burn's own layer. This test has its own
//! program, because it counts all memory of the process.

#![cfg(feature = "flex")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::BatchNormConfig;

/// The system's allocator, counting the bytes that are in use.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: by the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The peak of the bytes held while `pass` runs, beyond those held before.
fn peak(pass: impl FnOnce()) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    pass();
    PEAK.load(Ordering::Relaxed) - before
}

#[test]
fn forward_and_backward_take_less_than_burns() {
    let device = Device::flex().autodiff();
    let shape = [32, 16, 56, 56];
    let tensor = shape.iter().product::<usize>() * size_of::<f32>();
    let x = Tensor::<4>::random(shape, Distribution::Normal(0.5, 2.0), &device);
    let leaf = || x.clone().detach().require_grad();
    let ours = BatchNormConfig::new(16).init(&device);
    let burn = burn::nn::BatchNormConfig::new(16).init(&device);
    // The first step, and a later one.
    for step in ["first", "second"] {
        let ours = peak(|| drop(ours.forward(leaf()).backward()));
        let burn = peak(|| drop(burn.forward(leaf()).backward()));
        println!("{step} step: {ours} bytes, Burn's layer {burn}, a tensor {tensor}");
        assert!(ours < burn);
        // The output, and its gradient, which the gradient of the input overwrites.
        assert!(ours < 2 * tensor + tensor / 4);
    }
}
