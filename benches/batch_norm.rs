//! The time of a batch norm layer: the fused operation, its reference, and Burn's own layer.
//!
//! On every processor backend compiled in, at each shape: inference, training forward, training forward and backward
//! (`y.backward()`), and two yardsticks. `copy` is a parallel copy of the input into newly allocated memory. `empty` is
//! the backward pass of a graph of one leaf of the same shape: what Burn itself takes to begin one, most of it for the
//! gradient of ones. It is a part of every `train backward` here, and of none in PyTorch.
//!
//! ```text
//! cargo bench --bench batch_norm
//! cargo bench --bench batch_norm -- 'flex/128x32x28x28'
//! python benches/peers/batch_norm.py target/criterion
//! ```
//!
//! The last measures PyTorch at the same shapes and prints one table of both; run the two one after the other, on a
//! machine that does nothing else.

#![cfg_attr(feature = "ndarray", allow(deprecated))]

use burn::nn::BatchNormConfig;
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::op::{self, reference};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use rayon::prelude::*;
use std::hint::black_box;
use std::time::Duration;

const EPSILON: f64 = 1e-5;

fn all(criterion: &mut Criterion) {
    #[cfg(feature = "flex")]
    backend(criterion, "flex", &Device::flex());
    #[cfg(feature = "ndarray")]
    backend(criterion, "ndarray", &Device::ndarray());
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

    copy(&mut group, len);
    group.bench_function("empty", |bencher| bencher.iter(|| leaf().backward()));

    let gamma = Tensor::<1>::ones([channels], autodiff).require_grad();
    let beta = Tensor::<1>::zeros([channels], autodiff).require_grad();
    let parameters = || (Some(gamma.clone()), Some(beta.clone()));
    let inner = || (Some(gamma.clone().inner()), Some(beta.clone().inner()));
    let mean = Tensor::<1>::zeros([channels], device);
    let variance = Tensor::<1>::ones([channels], device);

    group.bench_function("inference fused", |bencher| {
        bencher.iter(|| {
            let (gamma, beta) = inner();
            op::batch_norm_inference(
                x.clone(),
                mean.clone(),
                variance.clone(),
                gamma,
                beta,
                EPSILON,
            )
        });
    });
    group.bench_function("forward fused", |bencher| {
        bencher.iter(|| {
            let (gamma, beta) = parameters();
            op::batch_norm_train(leaf(), gamma, beta, EPSILON)
        });
    });
    group.bench_function("backward fused", |bencher| {
        bencher.iter(|| {
            let (gamma, beta) = parameters();
            op::batch_norm_train(leaf(), gamma, beta, EPSILON)
                .output
                .backward()
        });
    });
    group.bench_function("backward reference", |bencher| {
        bencher.iter(|| {
            let (gamma, beta) = parameters();
            reference::batch_norm_train(leaf(), gamma, beta, EPSILON)
                .output
                .backward()
        });
    });

    let trained = BatchNormConfig::new(channels).init(autodiff);
    let plain = BatchNormConfig::new(channels).init(device);
    group.bench_function("inference burn", |bencher| {
        bencher.iter(|| plain.forward(x.clone()))
    });
    group.bench_function("forward burn", |bencher| {
        bencher.iter(|| trained.forward(leaf()))
    });
    group.bench_function("backward burn", |bencher| {
        bencher.iter(|| trained.forward(leaf()).backward())
    });
    group.finish();
}

/// A copy by all threads into memory that is allocated for it.
fn copy(group: &mut BenchmarkGroup<'_, WallTime>, len: usize) {
    let source = vec![1.0f32; len];
    let part = len.div_ceil(rayon::current_num_threads()).max(1 << 15);
    group.bench_function("copy", |bencher| {
        bencher.iter(|| {
            let mut target = Vec::<f32>::with_capacity(len);
            target
                .spare_capacity_mut()
                .par_chunks_mut(part)
                .zip(source.par_chunks(part))
                .for_each(|(target, source)| {
                    for (target, value) in target.iter_mut().zip(source) {
                        target.write(*value);
                    }
                });
            black_box(target.spare_capacity_mut());
            target
        });
    });
}

criterion_group!(benches, all);
criterion_main!(benches);
