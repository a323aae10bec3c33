//! Measures the time of a batch norm layer: ours, the reference of its operation, and Burn's own layer.
//!
//! On every backend compiled in, at each shape:
//!
//! - `copy` and `copy to new memory`, the yardsticks: a parallel copy of the input into existing memory, and into newly
//!   allocated memory. If malloc has free memory, both take the same time; if not, the latter takes twenty times as
//!   long or more. On a GPU there is only `copy`: one operation of Burn's that reads the input and writes as much;
//! - `inference`;
//! - `forward`: the forward pass in training. An untimed backward pass follows each one, as in training. Otherwise Burn
//!   would keep the graphs of the dropped outputs, and the next backward pass would have to clear away thousands;
//! - `backward`: forward and backward, from a given gradient of the output. Burn's `backward()` first makes that
//!   gradient, a tensor of ones; PyTorch gets it as an argument. Making it can cost more than everything else,
//!   depending on the memory that malloc has just got back. So before each call, the backward pass of a graph of one
//!   leaf of the same shape is timed too. It does nothing but make the gradient, and its time is subtracted. Both
//!   layers, ours and Burn's, are timed in this way.
//!
//! `backward ours and ReLU` is `backward` with Burn's ReLU after the layer; `backward ours with ReLU` has both in one
//! operation.
//!
//! Then: a training step (forward, backward and Adam) of the lab's two networks, with each normalisation.
//!
//! ```text
//! cargo bench --bench batch_norm
//! cargo bench --bench batch_norm -- 'flex/128x32x28x28'
//! cargo bench --bench batch_norm --no-default-features --features cuda
//! python benches/peers/batch_norm.py
//! ```
//!
//! The last command runs this benchmark and PyTorch in turn, shape by shape, and prints one table of both.

#![cfg_attr(feature = "ndarray", allow(deprecated))]

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::op::reference;
use burn_kindling::norm::{BatchNormConfig, memory};
use burn_kindling_lab::device::is_cpu_backend;
use criterion::{
    Bencher, BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use rayon::prelude::*;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

const EPSILON: f64 = 1e-5;

fn all(criterion: &mut Criterion) {
    #[cfg(feature = "flex")]
    backend(criterion, "flex", &Device::flex());
    #[cfg(feature = "ndarray")]
    backend(criterion, "ndarray", &Device::ndarray());
    #[cfg(feature = "wgpu")]
    backend(criterion, "wgpu", &Device::wgpu(DeviceKind::DefaultDevice));
    #[cfg(feature = "vulkan")]
    backend(
        criterion,
        "vulkan",
        &Device::vulkan(DeviceKind::DefaultDevice),
    );
    #[cfg(feature = "metal")]
    backend(
        criterion,
        "metal",
        &Device::metal(DeviceKind::DefaultDevice),
    );
    #[cfg(feature = "cuda")]
    backend(criterion, "cuda", &Device::cuda(0usize));
    #[cfg(feature = "rocm")]
    backend(criterion, "rocm", &Device::rocm(0usize));
}

fn backend(criterion: &mut Criterion, name: &str, device: &Device) {
    shape(criterion, name, device, [256, 100]);
    shape(criterion, name, device, [256, 1024]);
    shape(criterion, name, device, [4096, 512]);
    shape(criterion, name, device, [32, 64, 1024]);
    shape(criterion, name, device, [128, 32, 28, 28]);
    shape(criterion, name, device, [64, 64, 56, 56]);
    shape(criterion, name, device, [8, 256, 14, 14]);
    shape(criterion, name, device, [1, 64, 112, 112]);
}

fn shape<const D: usize>(
    criterion: &mut Criterion,
    backend: &str,
    device: &Device,
    shape: [usize; D],
) {
    let autodiff = &device.clone().autodiff();
    let channels = shape[1];
    let len: usize = shape.iter().product();
    let x = Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), device);
    let leaf = || Tensor::<D>::from_inner(x.clone()).require_grad();

    let names = shape.map(|len| len.to_string());
    let mut group = criterion.benchmark_group(format!("{backend}/{}", names.join("x")));
    group.sample_size(if len > 1 << 20 { 10 } else { 20 });
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1500));

    // Operations are asynchronous: wait until the device has finished them.
    let settle = || device.sync().expect("the device computes");
    if is_cpu_backend(backend) {
        copy(&mut group, len);
    } else {
        group.bench_function("copy", |bencher| {
            bencher.iter(|| {
                drop(x.clone().neg());
                settle();
            });
        });
    }

    // The whole layer, as it is used: it updates running statistics, and so does Burn's.
    let trained = BatchNormConfig::new(channels).init(autodiff);
    let plain = BatchNormConfig::new(channels).init(device);
    group.bench_function("inference ours", |bencher| {
        bencher.iter(|| {
            let output = plain.forward(x.clone());
            settle();
            output
        });
    });
    let ours = || trained.forward(leaf());
    let forward = |bencher: &mut Bencher<'_>, pass: &dyn Fn() -> Tensor<D>| {
        forward(bencher, pass, settle);
    };
    let backward = |bencher: &mut Bencher<'_>, pass: &dyn Fn() -> Tensor<D>| {
        backward(bencher, || drop(leaf().backward()), pass, settle);
    };
    let gamma = Tensor::<1>::ones([channels], autodiff).require_grad();
    let beta = Tensor::<1>::zeros([channels], autodiff).require_grad();
    let reference = || {
        let (gamma, beta) = (Some(gamma.clone()), Some(beta.clone()));
        reference::batch_norm_train(leaf(), gamma, beta, EPSILON).output
    };
    group.bench_function("forward ours", |bencher| forward(bencher, &ours));
    if backend == "flex" {
        memory::limit(0);
        group.bench_function("forward ours, new memory", |bencher| {
            forward(bencher, &ours)
        });
        memory::limit(usize::MAX);
    }
    group.bench_function("backward ours", |bencher| backward(bencher, &ours));
    let rectified = || relu(trained.forward(leaf()));
    group.bench_function("backward ours and ReLU", |bencher| {
        backward(bencher, &rectified);
    });
    let at_once = || trained.forward_relu(leaf());
    group.bench_function("backward ours with ReLU", |bencher| {
        backward(bencher, &at_once);
    });
    group.bench_function("backward reference", |bencher| {
        backward(bencher, &reference);
    });

    let trained = burn::nn::BatchNormConfig::new(channels).init(autodiff);
    let plain = burn::nn::BatchNormConfig::new(channels).init(device);
    group.bench_function("inference burn", |bencher| {
        bencher.iter(|| {
            let output = plain.forward(x.clone());
            settle();
            output
        });
    });
    let burn = || trained.forward(leaf());
    group.bench_function("forward burn", |bencher| forward(bencher, &burn));
    group.bench_function("backward burn", |bencher| backward(bencher, &burn));
    group.finish();
}

/// Times `pass`, but not the backward pass that follows.
fn forward<const D: usize>(
    bencher: &mut Bencher<'_>,
    pass: impl Fn() -> Tensor<D>,
    settle: impl Fn(),
) {
    bencher.iter_custom(|times| {
        let timed = |_| {
            let (output, time) = time(&pass, &settle);
            output.backward();
            settle();
            time
        };
        (0..times).map(timed).sum()
    });
}

/// Times `pass` and the backward pass that follows, minus an `empty` backward pass.
fn backward<const D: usize>(
    bencher: &mut Bencher<'_>,
    empty: impl Fn(),
    pass: impl Fn() -> Tensor<D>,
    settle: impl Fn(),
) {
    bencher.iter_custom(|times| {
        let (mut full, mut none) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..times {
            none += time(&empty, &settle).1;
            full += time(|| drop(pass().backward()), &settle).1;
        }
        // Criterion does not accept a time of 0.
        full.saturating_sub(none).max(Duration::from_nanos(1))
    });
}

/// Calls `run`. Returns its result, and the time until the device has finished.
fn time<R>(run: impl Fn() -> R, settle: impl Fn()) -> (R, Duration) {
    let started = Instant::now();
    let result = run();
    settle();
    (result, started.elapsed())
}

/// Copies with all threads, into existing memory and into new memory.
fn copy(group: &mut BenchmarkGroup<'_, WallTime>, len: usize) {
    let source = vec![1.0f32; len];
    let part = len.div_ceil(rayon::current_num_threads()).max(1 << 15);
    let copy_to = |target: &mut [MaybeUninit<f32>]| {
        target
            .par_chunks_mut(part)
            .zip(source.par_chunks(part))
            .for_each(|(target, source)| {
                target.write_copy_of_slice(source);
            });
        black_box(target);
    };
    let mut at_hand = vec![MaybeUninit::new(0.0f32); len];
    group.bench_function("copy", |bencher| bencher.iter(|| copy_to(&mut at_hand)));
    group.bench_function("copy to new memory", |bencher| {
        bencher.iter(|| copy_to(Vec::with_capacity(len).spare_capacity_mut()));
    });
}

/// Times a training step of the lab's networks, with each normalisation.
fn training_steps(criterion: &mut Criterion) {
    use burn::optim::{AdamConfig, GradientsParams};
    use burn::tensor::Int;
    use burn_kindling_lab::data::DigitBatch;
    use burn_kindling_lab::model::{CnnConfig, MlpConfig, ModelConfig, Normalization};

    const BATCH: usize = 128;
    let device = Device::default().autodiff();
    let batch = DigitBatch {
        images: Tensor::random([BATCH, 28, 28], Distribution::Normal(0.0, 1.0), &device),
        targets: Tensor::<1, Int>::arange(0..BATCH as i64, &device).remainder_scalar(10),
    };
    type Config = fn(Normalization) -> ModelConfig;
    let models: [(_, Config); 2] = [
        ("mlp", |norm| {
            ModelConfig::Mlp(MlpConfig::new().with_norm(norm))
        }),
        ("cnn", |norm| {
            ModelConfig::Cnn(CnnConfig::new().with_norm(norm))
        }),
    ];
    for (name, config) in models {
        let mut group = criterion.benchmark_group(format!("training step/{name}"));
        group.sample_size(20);
        for norm in Normalization::ALL {
            let mut optimizer = AdamConfig::new().init();
            let mut model = Some(config(norm).init(&device));
            group.bench_function(norm.to_string(), |bencher| {
                bencher.iter(|| {
                    let before = model.take().expect("each step gives the next model");
                    let loss = before.forward_step(batch.clone()).loss;
                    let gradients = GradientsParams::from_grads(loss.backward(), &before);
                    model = Some(optimizer.step(1e-3, before, gradients));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, all, training_steps);
criterion_main!(benches);
