//! Measures what follows a normalisation: in the same operation, and as operations of their own after this crate's
//! layer and after Burn's.
//!
//! Each case is the forward and the backward pass, from a given gradient of the output, in f32 on every CPU backend
//! compiled in. `alone` is the layer without anything, and `relu` the layer with a ReLU, to compare with.
//!
//! ```text
//! cargo bench --bench then
//! ```

#![cfg_attr(feature = "ndarray", allow(deprecated))]

use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{self, PaddingConfig2d};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Then};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};

const SHAPES: [[usize; 4]; 4] = [
    [128, 32, 28, 28],
    [32, 64, 16, 16],
    [8, 256, 14, 14],
    [32, 64, 56, 56],
];

/// What follows, given the residual.
type Case = (&'static str, fn(Tensor<4>, &Pools) -> Then<4>);

const CASES: [Case; 9] = [
    ("alone", |_, _| Then::new()),
    ("relu", |_, _| Then::new().relu()),
    ("leaky relu", |_, _| Then::new().leaky_relu(0.01)),
    ("silu", |_, _| Then::new().silu()),
    ("gelu", |_, _| Then::new().gelu()),
    ("add, relu", |residual, _| {
        Then::new().add_residual(residual).relu()
    }),
    ("relu, max 2x2", |_, pools| {
        Then::new().relu().max_pool(&pools.halving)
    }),
    ("relu, max 3x3 by 2", |_, pools| {
        Then::new().relu().max_pool(&pools.overlapping)
    }),
    ("add, relu, average", |residual, pools| {
        let then = Then::new().add_residual(residual).relu();
        then.avg_pool(&pools.average)
    }),
];

/// How the layer and what follows are done.
type Way<'a> = dyn Fn(Tensor<4>, Then<4>) -> Tensor<4> + 'a;

struct Pools {
    halving: MaxPool2d,
    overlapping: MaxPool2d,
    average: AvgPool2d,
}

fn all(criterion: &mut Criterion) {
    #[cfg(feature = "flex")]
    backend(criterion, "flex", &Device::flex());
    #[cfg(feature = "ndarray")]
    backend(criterion, "ndarray", &Device::ndarray());
}

fn backend(criterion: &mut Criterion, backend: &str, device: &Device) {
    let device = &device.clone().autodiff();
    for shape in SHAPES {
        let name = shape.map(|len| len.to_string()).join("x");
        let mut group = criterion.benchmark_group(format!("then/{backend}/{name}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(1500));

        let [_, channels, height, width] = shape;
        let pools = Pools {
            halving: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            overlapping: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            average: AvgPool2dConfig::new([height, width]).init(),
        };
        let ours: BatchNorm = BatchNormConfig::new(channels).init(device);
        let burns = nn::BatchNormConfig::new(channels).init(device);
        let random = || Tensor::<4>::random(shape, Distribution::Normal(0.5, 2.0), device);
        let (x, skip) = (random().inner(), random().inner());
        let leaf = |tensor: &Tensor<4>| Tensor::from_inner(tensor.clone()).require_grad();
        for (case, then) in CASES {
            let ways: [(&str, &Way); 3] = [
                ("ours in one", &|x, then| ours.forward_then(x, then)),
                ("ours in steps", &|x, then| then.apply(ours.forward(x))),
                ("burn", &|x, then| then.apply(burns.forward(x))),
            ];
            for (way, run) in ways {
                group.bench_function(format!("{case}/{way}"), |bencher| {
                    bencher.iter_custom(|times| {
                        let timed = |_| {
                            let (x, skip) = (leaf(&x), leaf(&skip));
                            let started = Instant::now();
                            let output = run(x, then(skip, &pools));
                            let forward = started.elapsed();
                            // `backward` first makes a gradient of ones, which is not what is measured.
                            let ones = leaf(&output.clone().inner());
                            let started = Instant::now();
                            drop(ones.backward());
                            let empty = started.elapsed();
                            let started = Instant::now();
                            drop(output.backward());
                            (forward + started.elapsed()).saturating_sub(empty)
                        };
                        (0..times)
                            .map(timed)
                            .sum::<Duration>()
                            .max(Duration::from_nanos(1))
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
