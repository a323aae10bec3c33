//! Measures the time of an epoch on MNIST and of its parts.
//!
//!     cargo bench --bench epoch
//!     python benches/peers/epoch.py        # the same in PyTorch
//!
//! - `epoch`: 55,000 training images and a validation, with Burn's learner and in a bare loop that computes the same,
//!   including loss and accuracy of every step.
//! - `batch size`: a bare loop over 11,000 images.
//! - `threads`: a bare loop over some thousand images, on one thread and on all cores. With one thread, each sample of
//!   a profiler belongs to one part of a step: see docs/benchmarks.md.
//! - `cnn`: a training step of the convolutional network; its convolutions and linear layers alone; its max pooling
//!   alone. Batch norm, activations, data, loss and optimiser make up the rest of the step.

use std::time::Duration;

use burn::data::dataloader::DataLoader;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling_lab::cli;
use burn_kindling_lab::data::{Loader, Mnist};
use burn_kindling_lab::model::{Classifier, Cnn, CnnConfig, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{RunFolder, Schedule, TrainConfig, Trainer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

mod bare;

use bare::{bare_epoch, score};

const BATCH: usize = 128;

fn data() -> Mnist {
    let folder = Mnist::find(None).expect("the data is in the repository");
    Mnist::load(&folder).expect("the data is in the repository")
}

fn config(model: ModelConfig) -> TrainConfig {
    TrainConfig {
        model,
        schedule: Schedule::Constant,
        epochs: 1,
        batch_size: BATCH,
        ..TrainConfig::default()
    }
}

fn mlp(norm: Normalization) -> ModelConfig {
    ModelConfig::Mlp(MlpConfig::new().with_norm(norm))
}

fn learner_epoch(config: &TrainConfig, data: &Mnist) -> Duration {
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let folder = RunFolder::create(scratch.path().join("run"), config).expect("a new folder");
    let result = Trainer::new(Device::default())
        .run(&folder, data)
        .expect("the default job runs");
    Duration::from_secs_f64(result.timing.training_seconds)
}

fn epochs(criterion: &mut Criterion) {
    let device = Device::default();
    let data = data();
    let (train, valid) = data.train_and_validation();
    let mut group = criterion.benchmark_group("epoch");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(train.len() as u64));
    for norm in Normalization::ALL {
        let config = config(mlp(norm));
        group.bench_function(BenchmarkId::new("bare loop", norm), |bencher| {
            bencher.iter_custom(|times| {
                let epoch = |_| bare_epoch(&device, &config, &train, &valid);
                (0..times).map(epoch).sum()
            });
        });
        group.bench_function(BenchmarkId::new("learner", norm), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| learner_epoch(&config, &data)).sum());
        });
    }
}

fn batch_sizes(criterion: &mut Criterion) {
    let device = Device::default();
    let images = data().train.subset(0..12_000);
    let (train, valid) = images.split_at(11_000);
    let mut group = criterion.benchmark_group("batch size");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(train.len() as u64));
    for batch_size in [16, 32, 64, 128, 256, 512, 1024] {
        let config = TrainConfig {
            batch_size,
            ..config(mlp(Normalization::Batch))
        };
        group.bench_function(BenchmarkId::from_parameter(batch_size), |bencher| {
            bencher.iter_custom(|times| {
                let epoch = |_| bare_epoch(&device, &config, &train, &valid);
                (0..times).map(epoch).sum()
            });
        });
    }
}

fn threads(criterion: &mut Criterion) {
    let device = Device::default();
    let all = data().train;
    let cores = std::thread::available_parallelism().map_or(1, |it| it.get());
    let mut group = criterion.benchmark_group("threads");
    group.sample_size(10);
    let cnn = ModelConfig::Cnn(CnnConfig::new());
    for (name, model, images) in [
        ("mlp", mlp(Normalization::Batch), 11_000),
        ("cnn", cnn, 10 * BATCH),
    ] {
        let config = config(model);
        let (train, valid) = all.subset(0..images + BATCH).split_at(images);
        group.throughput(Throughput::Elements(images as u64));
        for threads in [1, cores] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().expect("a thread pool");
            group.bench_function(BenchmarkId::new(name, threads), |bencher| {
                bencher.iter_custom(|times| {
                    let epoch = || bare_epoch(&device, &config, &train, &valid);
                    (0..times).map(|_| pool.install(epoch)).sum()
                });
            });
        }
    }
}

/// Random inputs for the layers of the convolutional network.
struct Inputs {
    pixels: Tensor<4>,
    halved: Tensor<4>,
    features: Tensor<2>,
    unpooled: [Tensor<4>; 2],
    hidden: Tensor<2>,
}

impl Inputs {
    fn random(device: &Device) -> Self {
        fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
            Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
        }
        Self {
            // Pixels are data: they need no gradient.
            pixels: random([BATCH, 1, 28, 28], device),
            halved: random([BATCH, 32, 14, 14], device).require_grad(),
            features: random([BATCH, 64 * 7 * 7], device).require_grad(),
            unpooled: [[BATCH, 32, 28, 28], [BATCH, 64, 14, 14]]
                .map(|shape| random(shape, device).require_grad()),
            hidden: random([BATCH, 128], device).require_grad(),
        }
    }
}

/// Forward and backward pass of each convolution and linear layer, one at a time.
fn affine_layers(model: &Cnn, inputs: &Inputs) {
    let [first, second] = &model.convolutions[..] else {
        unreachable!("the network has two convolutions")
    };
    let pixels = inputs.pixels.clone();
    first.affine.forward(pixels).sum().backward();
    let halved = inputs.halved.clone();
    second.affine.forward(halved).sum().backward();
    let features = inputs.features.clone();
    model.dense.affine.forward(features).sum().backward();
    let hidden = inputs.hidden.clone();
    model.output.forward(hidden).sum().backward();
}

/// Forward and backward pass of each max pooling.
fn pooling(model: &Cnn, inputs: &Inputs) {
    for unpooled in inputs.unpooled.clone() {
        model.pool.forward(unpooled).sum().backward();
    }
}

fn cnn(criterion: &mut Criterion) {
    let config = config(ModelConfig::Cnn(CnnConfig::new()));
    let device = Device::default().autodiff();
    let images = data().train.subset(0..BATCH);
    let mut group = criterion.benchmark_group("cnn");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));

    let mut optimizer = AdamConfig::new().with_epsilon(1e-8).init();
    let mut model = Some(config.init_model(&device));
    let loader = Loader::new(images, BATCH, device.clone()).shuffled(1);
    group.bench_function("step", |bencher| {
        bencher.iter(|| {
            let before = model.take().expect("the model of the step before");
            let batch = loader
                .iter()
                .next()
                .expect("one batch")
                .expect("the data is in memory");
            let output = before.forward_step(batch);
            let grads = GradientsParams::from_grads(output.loss.backward(), &before);
            score(output);
            model = Some(optimizer.step(1e-3, before, grads));
        });
    });
    let Some(Classifier::Cnn(network)) = model else {
        unreachable!("the config describes a Cnn")
    };
    let inputs = Inputs::random(&device);
    group.bench_function("convolutions and linear layers", |bencher| {
        bencher.iter(|| affine_layers(&network, &inputs));
    });
    group.bench_function("max pooling", |bencher| {
        bencher.iter(|| pooling(&network, &inputs));
    });
}

/// Keeps freed memory, as the example `mnist` does.
fn memory(_: &mut Criterion) {
    cli::keep_freed_memory();
}

criterion_group!(benches, memory, epochs, batch_sizes, threads, cnn);
criterion_main!(benches);
