//! Compares the peak memory of forward and backward passes with those of Burn's own layers. These tests have their own
//! program, because they count all memory of the process.

#![cfg(feature = "flex")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{BatchNormConfig, memory};
use burn_kindling_lab::model::{Affine, Cnn, CnnConfig, Norm};

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

/// Held by the test that measures.
static MEASURED: Mutex<()> = Mutex::new(());

/// The peak of the bytes held while `pass` runs, beyond those held before. Memory that is kept for later outputs counts.
fn peak(pass: impl FnOnce()) -> usize {
    memory::release();
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    pass();
    PEAK.load(Ordering::Relaxed) - before
}

#[test]
fn forward_and_backward_take_less_than_burns() {
    let _measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
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

/// The network with Burn's pooling behind each batch norm and its ReLU.
fn pooled_by_burn(cnn: &Cnn, input: Tensor<4>) -> Tensor<2> {
    let features = cnn.convolutions.iter().fold(input, |signal, block| {
        let output = Affine::forward(&block.affine, signal);
        let Some(Norm::Batch(norm)) = &block.norm else {
            panic!("batch norm is the default")
        };
        cnn.pool.forward(norm.forward_relu(output))
    });
    Affine::forward(&cnn.output, cnn.dense.forward::<2>(features.flatten(1, 3)))
}

#[test]
fn a_convolutional_network_takes_a_quarter_less_than_with_burns_pooling() {
    let _measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    let device = Device::flex().autodiff();
    let cnn = CnnConfig::new().init(&device);
    let images = || Tensor::<4>::random([64, 1, 28, 28], Distribution::Default, &device);
    // The peak of a step, and what the graph holds between its passes: the least of some steps. The first one draws the
    // weights, and the threads that multiply matrices keep some memory each, once they have done so.
    let step = |forward: &dyn Fn(Tensor<4>) -> Tensor<2>| {
        let steps = (0..5).map(|_| {
            let mut kept = 0;
            let peak = peak(|| {
                let before = HELD.load(Ordering::Relaxed);
                let output = forward(images());
                kept = HELD.load(Ordering::Relaxed) - before;
                drop(output.sum().backward());
            });
            [peak, kept]
        });
        steps.fold([usize::MAX; 2], |least, found| {
            [0, 1].map(|it| least[it].min(found[it]))
        })
    };
    let fused = step(&|images| cnn.forward(images));
    let apart = step(&|images| pooled_by_burn(&cnn, images));
    println!("peak and kept: {fused:?} bytes, with Burn's pooling {apart:?}");
    for (fused, apart) in fused.into_iter().zip(apart) {
        assert!(4 * fused < 3 * apart);
    }
}
