//! Measures the drawing of weights: ours, on the host and on all cores, beside Burn's own `Tensor::random`.
//!
//! - `normal`, `uniform`, `truncated normal`: 100 million weights of a linear layer;
//! - `orthogonal`: square matrices;
//! - `resnet-18`: all 11.7 million weights of its convolutions.
//!
//! ```text
//! cargo bench --bench init
//! ```

use std::time::Duration;

use burn::nn::LinearConfig;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::init::{Scheme, initialize};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIDE: usize = 10_000;

fn weights(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("100 million weights");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10))
        .throughput(Throughput::Elements((SIDE * SIDE) as u64));
    let ours = |scheme: Scheme| {
        let layer = LinearConfig::new(SIDE, SIDE).with_bias(false).init(&device);
        initialize(layer, scheme, 1).0.weight.val()
    };
    let burns = |distribution| Tensor::<2>::random([SIDE, SIDE], distribution, &device);
    group.bench_function("normal ours", |bencher| bencher.iter(|| ours(Scheme::he())));
    group.bench_function("normal Burn's", |bencher| {
        bencher.iter(|| burns(Distribution::Normal(0.0, 0.01)));
    });
    group.bench_function("uniform ours", |bencher| {
        bencher.iter(|| ours(Scheme::he().uniform()));
    });
    group.bench_function("uniform Burn's", |bencher| {
        bencher.iter(|| burns(Distribution::Uniform(-0.01, 0.01)));
    });
    group.bench_function("truncated normal ours", |bencher| {
        bencher.iter(|| ours(Scheme::he().truncated()));
    });
}

fn orthogonal(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("orthogonal");
    group.sample_size(10);
    for side in [128, 512, 1024, 2048] {
        group.bench_function(BenchmarkId::from_parameter(side), |bencher| {
            bencher.iter(|| {
                let layer = LinearConfig::new(side, side).with_bias(false).init(&device);
                initialize(layer, Scheme::orthogonal(), 1).0.weight.val()
            });
        });
    }
}

/// The convolutions of a ResNet-18: 3 to 64 channels, then two stages of each width.
fn convolutions(device: &Device) -> Vec<Conv2d> {
    let conv = |inputs, outputs, side| {
        Conv2dConfig::new([inputs, outputs], [side, side])
            .with_bias(false)
            .init(device)
    };
    let mut convolutions = vec![conv(3, 64, 7)];
    let mut inputs = 64;
    for outputs in [64, 128, 256, 512] {
        if outputs != inputs {
            convolutions.push(conv(inputs, outputs, 1));
        }
        convolutions.push(conv(inputs, outputs, 3));
        convolutions.extend((0..3).map(|_| conv(outputs, outputs, 3)));
        inputs = outputs;
    }
    convolutions
}

fn model(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("resnet-18");
    group.sample_size(10);
    let draw = |model: Vec<Conv2d>| -> Vec<Tensor<4>> {
        model.iter().map(|conv| conv.weight.val()).collect()
    };
    group.bench_function("ours", |bencher| {
        bencher.iter(|| draw(initialize(convolutions(&device), Scheme::he(), 1).0));
    });
    group.bench_function("Burn's", |bencher| {
        bencher.iter(|| draw(convolutions(&device)))
    });
}

criterion_group!(benches, weights, orthogonal, model);
criterion_main!(benches);
