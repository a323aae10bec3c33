//! Measures batch norm whose statistics are not simply those of the batch, beside the layer as it is.
//!
//! Each case is the forward and the backward pass of the sum of the output, in f32 on every CPU backend
//! compiled in. `channels last` has the same values as `alone`, `permuted` brings them to the front by hand.
//!
//! ```text
//! cargo bench --bench batches
//! ```

#![cfg_attr(feature = "ndarray", allow(deprecated))]

use burn::tensor::{Bool, Device, Distribution, Tensor, TensorData};
use burn_kindling::norm::{BatchNormConfig, GhostBatches, Renormalization, SyncGroup};
use criterion::{Criterion, criterion_group, criterion_main};
use std::time::{Duration, Instant};

/// `[batch, channels, positions]`
const SHAPES: [[usize; 3]; 3] = [[128, 32, 784], [64, 256, 128], [256, 1024, 1]];

/// A forward and backward pass.
type Step<'a> = dyn Fn(Tensor<3>) + 'a;

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
        let mut group = criterion.benchmark_group(format!("batches/{backend}/{name}"));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(1500));

        let [batch, channels, positions] = shape;
        let config = BatchNormConfig::new(channels);
        let norm = config.init(device);
        let last = config.with_channel_axis(-1).init(device);
        let worker = SyncGroup::new(1);
        // Rows of all lengths, padded at the end, as a sequence is; or every third row.
        let counts = |at: usize| match positions {
            1 => !at.is_multiple_of(3),
            _ => at % positions <= at / positions * 97 % positions,
        };
        let marks: Vec<_> = (0..batch * positions).map(counts).collect();
        let marks = TensorData::new(marks, [batch, positions]);
        let mask = Tensor::<2, Bool>::from_data(marks, device);
        let x = Tensor::<3>::random(shape, Distribution::Normal(0.5, 2.0), device).inner();
        let x_last = x.clone().swap_dims(1, 2) * 1.0;
        let cases: [(&str, &Tensor<3>, &Step); 7] = [
            ("alone", &x, &|x| drop(norm.forward(x).backward())),
            ("channels last", &x_last, &|x| {
                drop(last.forward(x).backward())
            }),
            ("permuted", &x_last, &|x| {
                let output = norm.forward(x.swap_dims(1, 2)).swap_dims(1, 2);
                drop(output.backward());
            }),
            ("in a group", &x, &|x| {
                worker.run(|| drop(norm.forward(x).backward()));
            }),
            ("masked", &x, &|x| {
                drop(norm.forward_masked(x, mask.clone()).backward());
            }),
            ("renormalised", &x, &|x| {
                let output = Renormalization::new(3.0, 5.0).run(|| norm.forward(x));
                drop(output.backward());
            }),
            ("8 ghost batches", &x, &|x| {
                let output = GhostBatches::of(batch / 8).run(|| norm.forward(x));
                drop(output.backward());
            }),
        ];
        for (case, x, step) in cases {
            group.bench_function(case, |bencher| {
                bencher.iter_custom(|times| {
                    let timed = |_| {
                        let x = Tensor::from_inner(x.clone()).require_grad();
                        let started = Instant::now();
                        step(x);
                        started.elapsed()
                    };
                    (0..times).map(timed).sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
