//! Measures the cost of watching a training step of the lab's default network, and of a point without an observer.
//!
//!     cargo bench --bench observe                         # add --features ndarray for that backend

// Burn 0.22 deprecates NdArray; it is measured as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

use std::hint::black_box;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_kindling::observe::{Observer, Point, watch};
use burn_kindling_lab::model::{Mlp, MlpConfig};
use criterion::{Criterion, criterion_group, criterion_main};

const BATCH: usize = 128;

fn devices() -> Vec<(&'static str, Device)> {
    vec![
        #[cfg(feature = "flex")]
        ("flex", Device::flex()),
        #[cfg(feature = "ndarray")]
        ("ndarray", Device::ndarray()),
    ]
}

/// The network's forward pass with a point after every layer.
fn forward(model: &Mlp, mut x: Tensor<2>) -> Tensor<2> {
    for (i, block) in model.hidden.iter().enumerate() {
        let activated = block.forward(x);
        x = Point::new(format_args!("hidden.{i}"))
            .after(block.activation)
            .watch(activated);
    }
    watch("output", model.output.forward(x))
}

fn steps(criterion: &mut Criterion) {
    for (name, device) in devices() {
        let device = device.autodiff();
        let config = MlpConfig::new();
        let images = Tensor::random(
            [BATCH, config.inputs],
            Distribution::Normal(0.0, 1.0),
            &device,
        );
        let labels = Tensor::<1, Int>::arange(0..BATCH as i64, &device).remainder_scalar(10);
        let loss = CrossEntropyLossConfig::new().init(&device);
        let observer = Observer::new();
        let mut group = criterion.benchmark_group(format!("step/{name}"));

        group.bench_function("no points", |bencher| {
            let mut optimizer = AdamConfig::new().init();
            let mut trained = Some(config.init(&device));
            bencher.iter(|| {
                let model = trained.take().expect("the model of the step before");
                let logits = model.forward(images.clone());
                let gradients = loss.forward(logits, labels.clone()).backward();
                let gradients = GradientsParams::from_grads(gradients, &model);
                trained = Some(optimizer.step(1e-3, model, gradients));
            });
        });
        for (case, watching) in [("nobody watches", false), ("watched", true)] {
            group.bench_function(case, |bencher| {
                let mut optimizer = AdamConfig::new().init();
                let mut trained = Some(config.init(&device));
                bencher.iter(|| {
                    let model = trained.take().expect("the model of the step before");
                    let (logits, mut seen) =
                        observer.run_if(watching, || forward(&model, images.clone()));
                    let gradients = loss.forward(logits, labels.clone()).backward();
                    seen.backward(&model, &gradients);
                    let gradients = GradientsParams::from_grads(gradients, &model);
                    let model = optimizer.step(1e-3, model, gradients);
                    seen.step(&model);
                    trained = Some(model);
                    seen.report()
                });
            });
        }
        group.finish();
    }
}

fn points(criterion: &mut Criterion) {
    let tensor = Tensor::<2>::ones([BATCH, 100], &Device::default());
    let mut group = criterion.benchmark_group("point");
    group.bench_function("clone", |bencher| {
        bencher.iter(|| black_box(&tensor).clone())
    });
    group.bench_function("clone, then a point that nobody watches", |bencher| {
        bencher.iter(|| watch("point", black_box(&tensor).clone()));
    });
    group.finish();
}

criterion_group!(benches, steps, points);
criterion_main!(benches);
