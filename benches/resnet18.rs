//! Measures a training step (forward, backward, Adam) of a whole ResNet-18 on images of 64x64 pixels: with Burn's
//! layer, with this crate's in its place, and with what follows each normalisation in the same operation. Then
//! recalibrates its 20 layers over 4 batches of 32 images, in passes and at once, beside one inference over them.
//!
//! ```text
//! cargo bench --bench resnet18
//! ```

use burn::module::Module;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{recalibrate, recalibrate_at_once};
use burn_kindling_lab::cli;
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

#[path = "../tests/common/resnets.rs"]
mod resnets;

use resnets::{burns, fused, ours};

const CLASSES: usize = 10;

fn steps<M: Module>(
    criterion: &mut Criterion,
    batch: usize,
    name: &str,
    model: M,
    forward: fn(&M, Tensor<4>) -> Tensor<2>,
) {
    let device = Device::default().autodiff();
    let images = Tensor::random([batch, 3, 64, 64], Distribution::Normal(0.0, 1.0), &device);
    let mut optimizer = AdamConfig::new().init();
    let mut model = Some(model);
    let mut group = criterion.benchmark_group(format!("resnet18/{batch}"));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8));
    let mut step = || {
        let before = model.take().expect("each step gives the next model");
        let loss = forward(&before, images.clone()).powi_scalar(2).mean();
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        model = Some(optimizer.step(1e-3, before, gradients));
    };
    group.bench_function(name, |bencher| bencher.iter(&mut step));
    group.finish();
}

fn all(criterion: &mut Criterion) {
    cli::keep_freed_memory();
    let device = Device::default().autodiff();
    for batch in [8, 32] {
        let model = burns::ResNet::new(CLASSES, &device);
        steps(criterion, batch, "burn", model, burns::ResNet::forward);
        let model = ours::ResNet::new(CLASSES, &device);
        steps(criterion, batch, "ours", model, ours::ResNet::forward);
        let model = fused::ResNet::new(CLASSES, &device);
        steps(
            criterion,
            batch,
            "ours in one",
            model,
            fused::ResNet::forward,
        );
    }
}

fn recalibration(criterion: &mut Criterion) {
    cli::keep_freed_memory();
    let device = Device::default();
    let model = ours::ResNet::new(CLASSES, &device);
    let images = |_| Tensor::random([32, 3, 64, 64], Distribution::Normal(0.0, 1.0), &device);
    let batches: Vec<Tensor<4>> = (0..4).map(images).collect();
    let forward = ours::ResNet::forward;
    let mut group = criterion.benchmark_group("resnet18/recalibration");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8));
    group.bench_function("inference", |bencher| {
        bencher.iter(|| {
            for batch in &batches {
                drop(forward(&model, batch.clone()));
            }
        });
    });
    group.bench_function("at once", |bencher| {
        bencher
            .iter(|| recalibrate_at_once(&model, batches.clone(), forward).expect("it is exact"));
    });
    group.bench_function("in passes", |bencher| {
        bencher.iter(|| {
            recalibrate(&model, || batches.clone(), forward, |_| ()).expect("it is exact")
        });
    });
    group.finish();
}

criterion_group!(benches, all, recalibration);
criterion_main!(benches);
