//! Runs the lab on every device that is compiled in and present: same weights, same numbers, records that move from one
//! device to another, half precision, and several devices at once.
#![cfg(feature = "flex")]

#[path = "common/devices.rs"]
mod devices;

use std::sync::LazyLock;

use burn::data::dataloader::DataLoader;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_kindling::init::InitStrategy;
use burn_kindling::record::{Layout, Record};
use burn_kindling_lab::data::{DigitBatch, ImageSet, Loader, Mnist};
use burn_kindling_lab::device::{self, DeviceError, Found};
use burn_kindling_lab::model::{Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{
    OptimizerKind, Precision, Schedule, TrainConfig, TrainError, Trained, Trainer, evaluate,
};

static MNIST: LazyLock<Mnist> = LazyLock::new(|| Mnist::load(&Mnist::find(None).unwrap()).unwrap());

/// The devices that are compiled in and present, without Flex, which they are compared with.
static OTHERS: LazyLock<Vec<Found>> = LazyLock::new(|| {
    let mut others = Vec::new();
    for survey in device::survey() {
        match survey.devices {
            Ok(devices) => others.extend(devices.into_iter().map(Result::unwrap)),
            Err(DeviceError::NotCompiledIn { .. }) => {}
            Err(error) => devices::say_skipped(&error),
        }
    }
    others.retain(|found| found.name != "flex");
    others.extend(devices::lent());
    others
});

fn mlp() -> ModelConfig {
    ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![32, 16]))
}

fn cnn() -> ModelConfig {
    ModelConfig::Cnn(CnnConfig::new().with_channels([4, 8]).with_dense(16))
}

fn config(model: ModelConfig) -> TrainConfig {
    TrainConfig {
        model,
        epochs: 1,
        batch_size: 32,
        ..TrainConfig::default()
    }
}

fn batch(images: std::ops::Range<usize>, device: &Device) -> DigitBatch {
    let set = MNIST.train.subset(images);
    let loader = Loader::new(set.clone(), set.len(), device.clone());
    loader.iter().next().unwrap().unwrap()
}

/// A tensor of a module, by name.
type Named = (String, Vec<usize>, Vec<f32>);

/// All parameters and running statistics, or, if `gradients` are given, the gradients of those that have one.
fn tensors(model: &Classifier, gradients: Option<&GradientsParams>) -> Vec<Named> {
    struct Visitor<'a> {
        path: Vec<String>,
        gradients: Option<&'a GradientsParams>,
        found: Vec<Named>,
    }
    impl ModuleVisitor for Visitor<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let tensor = match self.gradients {
                None => Some(param.val()),
                Some(gradients) => gradients.get::<D>(param.id),
            };
            if let Some(tensor) = tensor {
                let shape = tensor.dims().to_vec();
                let values = tensor.into_data().try_to_vec().unwrap();
                self.found.push((self.path.join("."), shape, values));
            }
        }
    }
    let mut visitor = Visitor {
        path: Vec::new(),
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut visitor);
    visitor.found
}

/// The largest difference, as a share of the largest value.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0f32, |size, x| size.max(x.abs()));
    let off = a
        .iter()
        .zip(b)
        .fold(0f32, |off, (x, y)| off.max((x - y).abs()));
    match off == 0.0 {
        true => 0.0,
        false => off / size,
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_on_every_device() {
    for model in [
        mlp(),
        cnn(),
        ModelConfig::Mlp(
            MlpConfig::new()
                .with_init(InitStrategy::StandardNormal)
                .with_weight_scale(0.3),
        ),
    ] {
        let config = config(model);
        let drawn = |device: &Device| {
            let weights = tensors(&config.init_model(device), None);
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let weights = weights.into_iter();
            weights
                .map(|(name, _, values)| (name, bits(values)))
                .collect::<Vec<_>>()
        };
        let flex = drawn(&Device::flex());
        assert_eq!(flex, drawn(&Device::flex().autodiff()));
        for other in OTHERS.iter() {
            assert!(flex == drawn(&other.device), "{}", other.name);
        }
    }
}

#[test]
fn initial_weights_follow_the_strategy_and_the_seed() {
    for (model, factor) in [
        (ModelConfig::Mlp(MlpConfig::new()), 1.0),
        (
            ModelConfig::Mlp(MlpConfig::new().with_weight_scale(0.5)),
            0.5,
        ),
        (
            ModelConfig::Cnn(CnnConfig::new().with_init(InitStrategy::Xavier)),
            1.0,
        ),
    ] {
        let strategy = model.strategy();
        let mut config = config(model);
        let weights = |config: &TrainConfig| {
            let mut drawn = tensors(&config.init_model(&Device::flex()), None);
            drawn.retain(|(name, shape, _)| name.ends_with("weight") && shape.len() > 1);
            drawn
        };
        let drawn = weights(&config);
        assert!(drawn.len() >= 4);
        for (name, shape, values) in &drawn {
            let fan_in = match shape[..] {
                [inputs, _] => inputs,
                [_, inputs, height, width] => inputs * height * width,
                _ => panic!("{name} has shape {shape:?}"),
            };
            let expected = factor * strategy.std(fan_in);
            let count = values.len() as f64;
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / count;
            // Five standard errors of each estimate.
            assert!(
                mean.abs() < 5.0 * expected / count.sqrt(),
                "{name}: mean {mean}"
            );
            assert!(
                (square.sqrt() / expected - 1.0).abs() < 5.0 / (2.0 * count).sqrt(),
                "{name}: standard deviation {} for {expected}",
                square.sqrt()
            );
        }
        config.seed += 1;
        assert!(drawn[0].2 != weights(&config)[0].2);
    }

    let zeros = config(ModelConfig::Mlp(
        MlpConfig::new().with_init(InitStrategy::Zeros),
    ));
    for (name, shape, values) in tensors(&zeros.init_model(&Device::flex()), None) {
        let all_zero = values.iter().all(|x| x.to_bits() == 0);
        assert_eq!(all_zero, !name.ends_with("gamma") && !name.ends_with("var"));
        assert!(all_zero || shape.len() == 1);
    }
}

/// An initial model that was made without autodiff can train later.
#[test]
fn an_initial_model_made_without_autodiff_trains_later() {
    let model = config(mlp()).init_model(&Device::flex()).train();
    let device = Device::flex().autodiff();
    let output = model.forward_step(batch(0..32, &device));
    let gradients = GradientsParams::from_grads(output.loss.backward(), &model);
    // Weight, gamma and beta of each hidden layer; weight and bias of the last layer.
    assert_eq!(gradients.len(), 3 * 2 + 2);
}

/// Loss, gradients and running statistics of the initial model's first step, in this float type.
fn first_step(
    config: &TrainConfig,
    device: &Device,
    dtype: FloatDType,
) -> (f32, Vec<Named>, Vec<Named>) {
    let device = device.clone().autodiff();
    let model = config.init_model(&device);
    let mut batch = batch(0..64, &device);
    batch.images = batch.images.cast(dtype);
    let output = model.forward_step(batch);
    assert_eq!(output.logits.dtype(), DType::F32);
    let gradients = GradientsParams::from_grads(output.loss.backward(), &model);
    let gradients = tensors(&model, Some(&gradients));
    let loss = output.loss.into_scalar();
    (loss, gradients, tensors(&model, None))
}

/// The distance between two lists of tensors, as a share of the first one's length.
fn distance(exact: &[Named], found: &[Named]) -> f64 {
    assert_eq!(exact.len(), found.len());
    let (mut off, mut size) = (0.0, 0.0);
    for ((name, shape, exact), (found_name, found_shape, found)) in exact.iter().zip(found) {
        assert_eq!((name, shape), (found_name, found_shape));
        for (&exact, &found) in exact.iter().zip(found) {
            off += f64::from(exact - found).powi(2);
            size += f64::from(exact).powi(2);
        }
    }
    (off / size).sqrt()
}

/// Compares every device in f32 with Flex in f64.
#[test]
fn loss_and_gradients_agree_between_devices() {
    let plain = CnnConfig::new()
        .with_channels([4, 8])
        .with_dense(16)
        .with_norm(Normalization::None);
    for (model, bound) in [
        (mlp(), 1e-5),
        (ModelConfig::Cnn(plain), 1e-5),
        // Its first batch norm sums up 64 x 28 x 28 numbers per channel. In f32, one after the other, the sum is off by
        // up to 2^-24 per number. Gradients behind a batch norm cancel over the batch, so these errors are not small
        // compared with the rest.
        (cnn(), 64.0 * 28.0 * 28.0 * 0.5f64.powi(24)),
    ] {
        let config = config(model);
        let (loss, gradients, state) = first_step(&config, &Device::flex(), FloatDType::F64);
        assert!(loss > 1.0);
        let flex = device::open("flex").unwrap();
        for found in std::iter::once(&flex).chain(OTHERS.iter()) {
            let name = &found.name;
            let (found_loss, found_gradients, found_state) =
                first_step(&config, &found.device, FloatDType::F32);
            let off = (loss - found_loss).abs() / loss;
            assert!(off < 1e-6, "{name}: loss {found_loss}, in f64 {loss}");
            let off = distance(&gradients, &found_gradients);
            assert!(off < bound, "{name}: gradients off by {off:.1e}");
            // The running statistics too.
            let off = distance(&state, &found_state);
            assert!(off < 1e-5, "{name}: state off by {off:.1e}");
        }
    }
}

#[test]
fn a_record_trained_on_one_device_runs_on_all_others() {
    for model in [mlp(), cnn()] {
        let config = config(model);
        let images = MNIST.train.subset(0..320);
        let logits = |record: &Record, device: &Device| {
            let model = Classifier::from_record(&config.model, record, device).unwrap();
            let logits = model.forward(batch(1000..1100, device).images);
            logits.into_data().try_to_vec::<f32>().unwrap()
        };
        let flex = Device::flex();
        let devices = std::iter::once(&flex).chain(OTHERS.iter().map(|found| &found.device));
        for home in devices.clone() {
            let trained = Trainer::new(home.clone())
                .train(&config, &images, &images, |_| ())
                .unwrap();
            let record = trained.network.record(&config.model, Layout::Burn);
            let at_home = logits(&record, home);
            for away in devices.clone() {
                let off = difference(&at_home, &logits(&record, away));
                assert!(off < 1e-5, "from {home:?} to {away:?}: off by {off}");
            }
        }
    }
}

fn train(config: &TrainConfig, devices: Vec<Device>, images: &ImageSet) -> Trained {
    let trainer = Trainer::parallel(devices);
    trainer.train(config, images, images, |_| ()).unwrap()
}

#[test]
fn half_precision_trains_where_the_device_has_it() {
    let images = MNIST.train.subset(0..1600);
    let flex = Device::flex();
    for model in [mlp(), cnn()] {
        let mut config = config(model);
        config.epochs = 2;
        let full = train(&config, vec![flex.clone()], &images);
        let before = evaluate(&config.init_model(&flex), &images, &flex).loss;
        let after = full.epochs[1].valid.loss;
        assert!(after < 0.5 * before);

        let devices = std::iter::once(&flex).chain(OTHERS.iter().map(|found| &found.device));
        for device in devices {
            for dtype in [Precision::F16, Precision::Bf16] {
                let config = TrainConfig {
                    dtype,
                    ..config.clone()
                };
                let trainer = Trainer::new(device.clone());
                let result = trainer.train(&config, &images, &images, |_| ());
                if !device.supports_dtype(dtype.dtype()) {
                    let Err(TrainError::Device(error)) = result else {
                        panic!("{device:?} trained in {dtype}")
                    };
                    assert!(error.to_string().contains(&format!("compute in {dtype}")));
                    continue;
                }
                let half = result.unwrap();
                assert_eq!(half.skipped_steps, 0);
                // Rounding changes the end of such a short training by a few percent. It only has to learn.
                let (off, loss) = (half.epochs[1].valid.loss - after, half.epochs[1].valid.loss);
                assert!(
                    off.abs() < 0.2 * after,
                    "{device:?} in {dtype}: {loss}, in f32 {after}"
                );
                // The training really ran in half precision, not in f32.
                assert!(off != 0.0);
                let network = &half.network;
                for (name, _, values) in tensors(network, None) {
                    assert!(values.iter().all(|x| x.is_finite()), "{name} in {dtype}");
                }
                assert_eq!(first_weight_dtype(network), DType::F32);
            }
        }
    }
}

fn first_weight_dtype(network: &Classifier) -> DType {
    match network {
        Classifier::Mlp(mlp) => mlp.output.weight.val().dtype(),
        Classifier::Cnn(cnn) => cnn.output.weight.val().dtype(),
        Classifier::Resnet(resnet) => resnet.output.weight.val().dtype(),
    }
}

/// A signal that grows from layer to layer soon exceeds the range of f16.
#[test]
fn steps_that_overflow_in_f16_move_nothing_and_are_counted() {
    let images = MNIST.train.subset(0..64);
    let mut config = TrainConfig {
        dtype: Precision::F16,
        ..config(ModelConfig::Mlp(
            MlpConfig::new()
                .with_init(InitStrategy::StandardNormal)
                .with_norm(Normalization::None),
        ))
    };
    let flex = Device::flex();
    let overflown = train(&config, vec![flex.clone()], &images);
    assert_eq!(overflown.skipped_steps, 2);
    let before = tensors(&config.init_model(&flex), None);
    assert!(tensors(&overflown.network, None) == before);

    config.dtype = Precision::F32;
    let trained = train(&config, vec![flex], &images);
    assert_eq!(trained.skipped_steps, 0);
    assert!(tensors(&trained.network, None) != before);
}

/// Gradients keep their direction: the error from rounding to 11 bits is small compared with them; to 8 bits, it is
/// eight times as large.
#[test]
fn gradients_in_half_precision_differ_by_rounding_alone() {
    let flex = Device::flex();
    for model in [mlp(), cnn()] {
        let config = config(model);
        let (_, exact, _) = first_step(&config, &flex, FloatDType::F64);
        for (dtype, bound) in [(FloatDType::F16, 1.0 / 32.0), (FloatDType::BF16, 0.25)] {
            let (_, rounded, _) = first_step(&config, &flex, dtype);
            let off = distance(&exact, &rounded);
            assert!((1e-4..bound).contains(&off), "{dtype:?}: off by {off:.1e}");
        }
    }
}

#[test]
fn burns_batch_norm_says_that_it_has_no_half_precision() {
    let config = TrainConfig {
        dtype: Precision::F16,
        ..config(ModelConfig::Mlp(
            MlpConfig::new().with_norm(Normalization::Burn),
        ))
    };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("f16") && error.contains("batch"), "{error}");
}

#[test]
fn two_devices_take_the_step_of_the_mean_gradient() {
    const BATCH: usize = 40;
    let config = TrainConfig {
        optimizer: OptimizerKind::Sgd,
        schedule: Schedule::Constant,
        learning_rate: 0.5,
        batch_size: BATCH,
        ..config(mlp())
    };
    let images = MNIST.train.subset(0..2 * BATCH);
    let device = Device::flex().autodiff();
    let model = config.init_model(&device);
    let halves = [0..BATCH, BATCH..2 * BATCH].map(|half| {
        // Each half starts from the running statistics of the initial model.
        let model = config.init_model(&device);
        let loss = model.forward_step(batch(half, &device)).loss;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        (tensors(&model, Some(&gradients)), tensors(&model, None))
    });
    let before = tensors(&model, None);

    let others = OTHERS.iter().map(|found| found.device.clone());
    // Each device twice (two threads on one device), and two different devices.
    let twice = std::iter::once(Device::flex()).chain(others.clone());
    let mut all: Vec<_> = twice.map(|device| vec![device; 2]).collect();
    all.push(others.take(2).collect());
    all.retain(|devices| devices.len() == 2);
    for devices in all {
        let after = tensors(&train(&config, devices.clone(), &images).network, None);
        for ((name, _, before), (_, _, after)) in before.iter().zip(&after) {
            let of = |tensors: &[Named]| {
                let found = tensors.iter().find(|(other, ..)| other == name);
                found.map(|(_, _, values)| values.clone())
            };
            let [a, b] = halves.each_ref().map(|(gradients, _)| of(gradients));
            if let (Some(a), Some(b)) = (a, b) {
                let stepped = before.iter().zip(a.iter().zip(&b));
                let stepped = stepped.map(|(w, (a, b))| w - 0.5 * (a + b) / 2.0);
                let off = difference(&stepped.collect::<Vec<_>>(), after);
                assert!(off < 1e-5, "{devices:?}: {name} off by {off}");
                assert!(difference(before, after) > 1e-4);
            } else {
                // Running statistics: the two batches came one after the other, in either order.
                let [a, b] = halves.each_ref().map(|(_, state)| of(state).unwrap());
                let either = [(&a, &b), (&b, &a)].map(|(first, second)| {
                    // One batch gives r = 0.9 r0 + 0.1 x, so its x adds 0.1 x = r - 0.9 r0 to the other's r.
                    let both = before.iter().zip(first.iter().zip(second));
                    let both = both.map(|(r0, (r1, r2))| 0.9 * r1 + (r2 - 0.9 * r0));
                    difference(&both.collect::<Vec<_>>(), after)
                });
                let off = either[0].min(either[1]);
                assert!(off < 1e-5, "{devices:?}: {name} off by {off}");
            }
        }
    }
}

#[test]
fn two_devices_learn_and_resume_as_one_does() {
    use burn_kindling_lab::train::{Outcome, RunFolder};
    let data = Mnist {
        train: MNIST.train.subset(0..7_000),
        test: MNIST.test.clone(),
    };
    let config = TrainConfig {
        epochs: 2,
        ..config(ModelConfig::Mlp(MlpConfig::new()))
    };
    let scratch = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(scratch.path().join("run"), &config).unwrap();
    let trainer = Trainer::parallel(vec![Device::flex(), Device::flex()]);
    let result = trainer.run(&folder, &data).unwrap();
    assert_eq!(result.outcome, Outcome::Completed);
    assert_eq!(result.epochs.len(), 2);
    assert!(result.test.accuracy > 0.8, "{}", result.test.accuracy);
    assert!(result.epochs[1].train.loss < result.epochs[0].train.loss);
    assert_eq!(result.timing.device.matches("Flex").count(), 2);

    // Validation used the weights that were kept.
    let (_, valid) = data.train_and_validation();
    let score = evaluate(
        &folder.load_model(&Device::flex()).unwrap(),
        &valid,
        &Device::flex(),
    );
    let off = (score.loss - result.epochs[1].valid.loss).abs();
    assert!(
        off < 1e-6,
        "{} and {}",
        score.loss,
        result.epochs[1].valid.loss
    );

    let few = MNIST.train.subset(0..3);
    let error = trainer.train(&config, &few, &few, |_| ()).err().unwrap();
    assert!(matches!(error, TrainError::Config(_)), "{error}");
}

/// The messages are CubeCL's for a step that was too large for llvmpipe, and for a GPU whose memory is full.
#[test]
fn a_step_too_large_for_the_device_is_told_with_a_batch_size_to_try() {
    for words in [
        "can't allocate buffer of size: 344960000",
        "out of device memory allocating 1073741824 bytes",
        "An out-of-memory error happened during launch",
    ] {
        let message = format!(
            "An error happened during execution\nCaused by:\n  Several failures at once\nCaused by:\n  {words}\n"
        );
        let error = TrainError::out_of_memory(&message, 128).unwrap();
        assert_eq!(
            error.to_string(),
            format!(
                "the device has no memory for steps of 128 images ({words}); try `--batch-size 64`"
            )
        );
    }
    assert!(TrainError::out_of_memory("the shader does not compile", 128).is_none());
}

#[test]
fn every_device_has_a_name_that_opens_it() {
    for found in OTHERS.iter() {
        let again = device::open(&found.name).unwrap();
        assert_eq!(again.device, found.device);
        assert_eq!(again.description, found.description);
        assert!(!found.description.is_empty());
    }
    // Flex is preferred to a GPU driver that computes on the CPU.
    assert!(!device::pick(None).unwrap().software);

    for (name, words) in [
        ("wgpu:99", "wgpu"),
        ("cuda:99", "cuda"),
        ("metal", "metal"),
        ("webgpu", "webgpu"),
        ("rocm:7", "rocm"),
    ] {
        let error = device::open(name).map(|found| found.name).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(words), "{text}");
        match error {
            DeviceError::NotCompiledIn { feature, .. } => {
                assert!(text.contains(&format!("--features {feature}")), "{text}");
            }
            DeviceError::NotPresent { advice, .. } => assert!(text.contains(advice), "{text}"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_device_can_be_measured() {
    let speed = device::measure(&device::open("flex").unwrap()).unwrap();
    assert!(speed.matrix_product > 1e6 && speed.batch_norm > 1e6);
}
