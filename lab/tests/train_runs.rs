//! Training runs through Burn's learner, on real data.
#![cfg(feature = "flex")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use burn::data::dataloader::DataLoader;
use burn::module::Module;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Device;
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling_lab::data::{Loader, Mnist};
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};
use burn_kindling_lab::train::{
    Interrupter, OptimizerKind, Outcome, RunFolder, RunResult, Schedule, TrainConfig, TrainError,
    Trainer,
};

static MNIST: LazyLock<Mnist> = LazyLock::new(|| Mnist::load(&Mnist::find(None).unwrap()).unwrap());

/// The first `images` of the training file, and all test images.
fn part(images: usize) -> Mnist {
    Mnist {
        train: MNIST.train.subset(0..images),
        test: MNIST.test.clone(),
    }
}

fn config(activation: Activation, init: InitStrategy, norm: Normalization) -> TrainConfig {
    TrainConfig {
        model: ModelConfig::Mlp(
            MlpConfig::new()
                .with_activation(activation)
                .with_init(init)
                .with_norm(norm),
        ),
        epochs: 1,
        ..TrainConfig::default()
    }
}

fn train_in(folder: &Path, config: &TrainConfig, data: &Mnist) -> (RunFolder, RunResult) {
    let folder = RunFolder::create(folder, config).unwrap();
    let result = Trainer::new(Device::flex()).run(&folder, data).unwrap();
    (folder, result)
}

fn train(config: &TrainConfig, data: &Mnist) -> (Classifier, RunResult) {
    let scratch = tempfile::tempdir().unwrap();
    let (folder, result) = train_in(&scratch.path().join("run"), config, data);
    (folder.load_model(&Device::flex()).unwrap(), result)
}

/// Every parameter and running statistic of a network.
fn weights(model: Classifier) -> Vec<(String, Vec<f32>)> {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Tensor;
    #[derive(Default)]
    struct Visitor {
        path: Vec<String>,
        found: Vec<(String, Vec<f32>)>,
    }
    impl ModuleVisitor for Visitor {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_string());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().try_to_vec::<f32>().unwrap();
            self.found.push((self.path.join("."), values));
        }
    }
    let mut visitor = Visitor::default();
    model.visit(&mut visitor);
    visitor.found
}

#[test]
fn the_default_network_learns_to_read() {
    let config = TrainConfig {
        epochs: 2,
        ..TrainConfig::default()
    };
    let (_, result) = train(&config, &MNIST);
    assert_eq!(result.outcome, Outcome::Completed);
    assert!(result.test.accuracy > 0.965, "{:?}", result.test);
    let [first, second] = &result.epochs[..] else {
        panic!("two epochs, found {}", result.epochs.len())
    };
    assert!(second.train.loss < first.train.loss);
    assert!(second.learning_rate < first.learning_rate);
    assert_eq!(result.timing.epoch_seconds.len(), 2);
}

#[test]
fn the_residual_network_learns_to_read() {
    let config = TrainConfig {
        model: ModelConfig::Resnet(ResnetConfig::new().with_channels(8)),
        epochs: 1,
        batch_size: 16,
        learning_rate: 1e-2,
        ..TrainConfig::default()
    };
    let (_, result) = train(&config, &part(6_000));
    assert!(result.test.accuracy > 0.85, "{:?}", result.test);
}

#[test]
fn the_convolutional_network_learns_to_read() {
    let config = TrainConfig {
        model: ModelConfig::Cnn(CnnConfig::new().with_channels([8, 16]).with_dense(32)),
        epochs: 1,
        batch_size: 64,
        learning_rate: 3e-3,
        ..TrainConfig::default()
    };
    let (_, result) = train(&config, &part(12_000));
    assert!(result.test.accuracy > 0.95, "{:?}", result.test);
}

#[test]
fn every_initialisation_runs_to_the_end_with_every_norm_and_activation() {
    let data = part(6_000);
    for init in InitStrategy::ALL {
        for norm in Normalization::ALL {
            for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Relu] {
                let (_, result) = train(&config(activation, init, norm), &data);
                let name = format!("{activation} {init} {norm}: {:?}", result.test);
                assert_eq!(result.outcome, Outcome::Completed, "{name}");
                let accuracy = result.test.accuracy;
                match (init, activation) {
                    (InitStrategy::Zeros, Activation::Relu | Activation::Tanh) => {
                        // Only the last bias learns: the loss stays at the entropy of the labels.
                        assert!((0.09..=0.12).contains(&accuracy), "{name}");
                        assert!((2.25..2.40).contains(&result.test.loss), "{name}");
                    }
                    (InitStrategy::He, Activation::Relu)
                    | (InitStrategy::Xavier, Activation::Tanh) => {
                        assert!(accuracy > 0.5, "{name}");
                    }
                    _ => assert!((0.05..=1.0).contains(&accuracy), "{name}"),
                }
            }
        }
    }
}

#[test]
fn zero_weights_with_sigmoid_keep_the_units_of_a_layer_copies_of_each_other() {
    for norm in Normalization::ALL {
        let config = config(Activation::Sigmoid, InitStrategy::Zeros, norm);
        let (model, _) = train(&config, &part(12_000));
        let Classifier::Mlp(mlp) = model else {
            panic!("an mlp was trained")
        };
        let mut moved = false;
        for layer in &mlp.hidden {
            // Rows are inputs, columns are units.
            let weight = layer.affine.weight.val();
            let first = weight.clone().narrow(1, 0, 1);
            let apart = (weight.clone() - first).abs().max().into_scalar::<f32>();
            let size = weight.abs().max().into_scalar::<f32>();
            assert!(apart <= 1e-4 * size, "{norm}: {apart} of {size}");
            moved |= size > 1e-3;
        }
        assert!(moved, "{norm}: the weights move, all together");
    }
}

/// The losses of the first steps, in a bare loop.
fn losses(norm: Normalization, model: ModelConfig, steps: usize) -> Vec<f64> {
    let model = match model {
        ModelConfig::Mlp(mlp) => ModelConfig::Mlp(mlp.with_norm(norm)),
        ModelConfig::Cnn(cnn) => ModelConfig::Cnn(cnn.with_norm(norm)),
        ModelConfig::Resnet(resnet) => ModelConfig::Resnet(resnet.with_norm(norm)),
    };
    let config = TrainConfig {
        model,
        ..TrainConfig::default()
    };
    let device = Device::flex().autodiff();
    let mut model = config.init_model(&device);
    let mut optimizer = SgdConfig::new().init();
    let loader = Loader::new(part(6_000).train, 64, device).shuffled(7);
    let mut losses = Vec::new();
    for batch in loader.iter().take(steps) {
        let loss = model.forward_step(batch.unwrap()).loss;
        losses.push(loss.clone().into_scalar::<f64>());
        let grads = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.05, model, grads);
    }
    losses
}

#[test]
fn our_batch_norm_and_burns_give_the_same_training_curve() {
    for model in [
        ModelConfig::Mlp(MlpConfig::new()),
        ModelConfig::Mlp(MlpConfig::new().with_activation(Activation::Sigmoid)),
        ModelConfig::Cnn(CnnConfig::new().with_channels([4, 8]).with_dense(32)),
        ModelConfig::Resnet(ResnetConfig::new().with_channels(4)),
    ] {
        let ours = losses(Normalization::Batch, model.clone(), 20);
        let burns = losses(Normalization::Burn, model, 20);
        assert_eq!(ours.len(), 20);
        assert!(ours[19] < ours[0], "it learns: {ours:?}");
        for (step, (a, b)) in ours.iter().zip(&burns).enumerate() {
            assert!(
                (a - b).abs() <= 1e-3 * b.abs(),
                "step {step}: {a} against {b}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_result_and_another_seed_another() {
    let data = part(6_000);
    let mut config = config(Activation::Relu, InitStrategy::He, Normalization::Batch);
    config.epochs = 2;
    let (first_model, first) = train(&config, &data);
    let (second_model, second) = train(&config, &data);
    assert_eq!(first.epochs, second.epochs);
    assert_eq!(first.test, second.test);
    assert_eq!(weights(first_model), weights(second_model));
    config.seed += 1;
    let (_, other) = train(&config, &data);
    assert_ne!(first.epochs, other.epochs);
}

#[test]
fn a_training_starts_from_the_network_that_it_is_given() {
    let config = config(Activation::Relu, InitStrategy::He, Normalization::Batch);
    let (train, valid) = part(3000).train_and_validation();
    let (trainer, device) = (Trainer::new(Device::flex()), Device::flex().autodiff());
    let other = TrainConfig {
        seed: config.seed + 1,
        ..config.clone()
    };
    let drawn = trainer.train(&config, &train, &valid, |_| {}).unwrap();
    let from = |start: &TrainConfig| {
        let network = start.init_model(&device);
        let trained = trainer.train_from(network, &config, &train, &valid, |_| {});
        trained.unwrap().network
    };
    assert!(weights(from(&config)) == weights(drawn.network));
    assert!(weights(from(&other)) != weights(from(&config)));
}

/// Runs the folder's training, and stops it after its first finished epoch.
fn stopped_after_an_epoch(folder: &RunFolder, data: &Mnist) -> RunResult {
    let interrupter = Interrupter::new();
    let metrics = folder.path().join("metrics.json");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !metrics.exists() {
                std::thread::yield_now();
            }
            interrupter.stop(Some("a test"));
        });
        Trainer::new(Device::flex())
            .with_interrupter(interrupter.clone())
            .run(folder, data)
            .unwrap()
    })
}

#[test]
fn a_schedule_continues_by_the_share_of_the_run_that_is_done() {
    let config = TrainConfig {
        epochs: 8,
        learning_rate: 1e-3,
        ..config(Activation::Relu, InitStrategy::He, Normalization::Batch)
    };
    // Half a cosine, in the middle of each epoch.
    let expected = |epoch: usize| {
        let done = (epoch as f64 + 0.5) / config.epochs as f64;
        0.5 * config.learning_rate * (1.0 + (std::f64::consts::PI * done).cos())
    };
    let two = Trainer::parallel(vec![Device::flex(), Device::flex()]);
    let one = Trainer::new(Device::flex());
    for (trainer, images) in [(two, 6_000), (one, 2_400)] {
        let scratch = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(scratch.path().join("run"), &config).unwrap();
        stopped_after_an_epoch(&folder, &part(6_000));
        let result = trainer.run(&folder, &part(images)).unwrap();
        assert_eq!(result.epochs.len(), config.epochs);
        for (epoch, scores) in result.epochs.iter().enumerate() {
            let difference = scores.learning_rate - expected(epoch);
            assert!(
                difference.abs() < 0.05 * config.learning_rate,
                "epoch {}: {} instead of {}",
                epoch + 1,
                scores.learning_rate,
                expected(epoch)
            );
        }
    }
}

#[test]
fn a_resumed_run_ends_as_one_that_was_never_stopped() {
    let data = part(6_000);
    for optimizer in OptimizerKind::ALL {
        let config = TrainConfig {
            epochs: 6,
            optimizer,
            learning_rate: 1e-2,
            ..config(Activation::Tanh, InitStrategy::Xavier, Normalization::Batch)
        };
        let scratch = tempfile::tempdir().unwrap();
        let (whole, expected) = train_in(&scratch.path().join("whole"), &config, &data);

        let folder = RunFolder::create(scratch.path().join("stopped"), &config).unwrap();
        let stopped = stopped_after_an_epoch(&folder, &data);
        assert_eq!(stopped.outcome, Outcome::Interrupted);
        assert!((1..6).contains(&stopped.epochs.len()));
        assert!(folder.record().exists(), "what was trained is kept");

        let resumed = Trainer::new(Device::flex()).run(&folder, &data).unwrap();
        assert_eq!(resumed.outcome, Outcome::Completed);
        assert_eq!(resumed.epochs, expected.epochs, "{optimizer}");
        assert_eq!(resumed.test, expected.test, "{optimizer}");
        assert_eq!(
            weights(folder.load_model(&Device::flex()).unwrap()),
            weights(whole.load_model(&Device::flex()).unwrap()),
            "{optimizer}"
        );
    }
}

#[test]
fn a_checkpoint_that_was_cut_short_is_passed_over() {
    let data = part(6_000);
    let config = TrainConfig {
        epochs: 3,
        ..config(Activation::Relu, InitStrategy::He, Normalization::Batch)
    };
    let scratch = tempfile::tempdir().unwrap();
    let (whole, expected) = train_in(&scratch.path().join("run"), &config, &data);
    let model = weights(whole.load_model(&Device::flex()).unwrap());

    fs::remove_file(whole.path().join("result.json")).unwrap();
    let cut = whole.path().join("checkpoint/optimizer-3.bpk");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let resumed = Trainer::new(Device::flex()).run(&whole, &data).unwrap();
    assert_eq!(resumed.epochs, expected.epochs);
    assert_eq!(weights(whole.load_model(&Device::flex()).unwrap()), model);
}

#[test]
fn patience_ends_a_run_that_does_not_get_better() {
    let config = TrainConfig {
        epochs: 50,
        patience: Some(2),
        schedule: Schedule::Constant,
        learning_rate: 1e-12,
        optimizer: OptimizerKind::Sgd,
        ..config(Activation::Relu, InitStrategy::Zeros, Normalization::None)
    };
    let (_, result) = train(&config, &part(1_200));
    assert_eq!(result.outcome, Outcome::StoppedEarly);
    assert!(result.epochs.len() < 50);
}

#[test]
fn with_a_patience_the_record_holds_the_best_epoch() {
    let data = part(2_400);
    let patient = TrainConfig {
        epochs: 40,
        patience: Some(3),
        schedule: Schedule::Constant,
        learning_rate: 1e-2,
        ..config(Activation::Relu, InitStrategy::He, Normalization::Batch)
    };
    let (model, result) = train(&patient, &data);
    assert_eq!(result.outcome, Outcome::StoppedEarly);
    let losses = result.epochs.iter().map(|epoch| epoch.valid.loss);
    let best = losses.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    let best = best.unwrap().0 + 1;
    assert_eq!(result.epochs.len(), best + 3);
    assert_eq!(result.record_epoch, Some(best));

    // The same weights as in a run of that many epochs that keeps its last weights.
    let short = TrainConfig {
        epochs: best,
        patience: None,
        ..patient.clone()
    };
    let (expected, result) = train(&short, &data);
    assert_eq!(result.record_epoch, Some(best));
    assert!(weights(model) == weights(expected));

    // Without a folder, the best epoch is kept in memory.
    let (images, validation) = data.train_and_validation();
    let trained = Trainer::new(Device::flex())
        .train(&patient, &images, &validation, |_| {})
        .unwrap();
    assert_eq!(trained.network_epoch, Some(best));
    assert_eq!(trained.epochs.len(), best + 3);
    assert!(weights(trained.network) == weights(train(&short, &data).0));

    // A run that is stopped and resumed finds the best epoch on disk.
    let scratch = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(scratch.path().join("run"), &patient).unwrap();
    stopped_after_an_epoch(&folder, &data);
    let resumed = Trainer::new(Device::flex()).run(&folder, &data).unwrap();
    assert_eq!(resumed.record_epoch, Some(best));
    let model = folder.load_model(&Device::flex()).unwrap();
    assert!(weights(model) == weights(train(&short, &data).0));
}

#[test]
fn what_cannot_train_is_refused() {
    let of_one = |norm| TrainConfig {
        batch_size: 1,
        ..config(Activation::Relu, InitStrategy::He, norm)
    };
    for norm in [Normalization::Batch, Normalization::Burn] {
        let error = of_one(norm).validate().unwrap_err();
        assert!(matches!(error, TrainError::Config(_)), "{error}");
    }
    of_one(Normalization::None).validate().unwrap();
    let small = TrainConfig {
        model: ModelConfig::Cnn(CnnConfig::new().with_side(3)),
        ..TrainConfig::default()
    };
    assert!(matches!(small.validate(), Err(TrainError::Config(_))));
    let other = TrainConfig {
        model: ModelConfig::Mlp(MlpConfig::new().with_inputs(100)),
        ..TrainConfig::default()
    };
    assert!(matches!(other.validate(), Err(TrainError::Config(_))));
}

#[test]
fn a_loss_that_is_not_finite_is_written_down_and_read_back() {
    let config = TrainConfig {
        epochs: 5,
        learning_rate: 1e6,
        schedule: Schedule::Constant,
        optimizer: OptimizerKind::Sgd,
        ..config(
            Activation::Relu,
            InitStrategy::StandardNormal,
            Normalization::None,
        )
    };
    let scratch = tempfile::tempdir().unwrap();
    let (folder, result) = train_in(&scratch.path().join("run"), &config, &part(1_200));
    assert!(!result.test.loss.is_finite());
    let text = fs::read_to_string(folder.path().join("result.json")).unwrap();
    assert!(text.contains("\"loss\": null"), "{text}");
    assert!(folder.result().unwrap().unwrap().test.loss.is_nan());
    // Training stops, and leaves no unreadable record.
    assert_eq!(result.outcome, Outcome::Diverged);
    assert_eq!((result.epochs.len(), result.record_epoch), (1, None));
    assert!(!folder.record().exists());
    let error = Trainer::new(Device::flex()).run(&folder, &part(1_200));
    assert!(matches!(error, Err(TrainError::Complete(_))));
}

#[test]
fn a_folder_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let config = TrainConfig::default();
    let path = scratch.path().join("run");
    let folder = RunFolder::create(&path, &config).unwrap();
    assert!(matches!(
        RunFolder::create(&path, &config),
        Err(TrainError::Occupied(_))
    ));
    assert_eq!(folder.config().unwrap(), config);

    let other = scratch.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "years of work").unwrap();
    assert!(matches!(
        RunFolder::create(&other, &config),
        Err(TrainError::NotEmpty(_))
    ));
    assert!(matches!(
        RunFolder::open(&other),
        Err(TrainError::NotARun { .. })
    ));

    let first = RunFolder::create_numbered(scratch.path(), "x", &config).unwrap();
    let second = RunFolder::create_numbered(scratch.path(), "x", &config).unwrap();
    assert!(first.path().ends_with("x-1") && second.path().ends_with("x-2"));

    fs::write(path.join("config.json"), "{\"model\": 3").unwrap();
    assert!(matches!(folder.config(), Err(TrainError::Damaged { .. })));
}

#[test]
fn a_complete_run_is_not_run_again() {
    let scratch = tempfile::tempdir().unwrap();
    let data = part(1_200);
    let config = config(Activation::Relu, InitStrategy::He, Normalization::Batch);
    let (folder, _) = train_in(&scratch.path().join("run"), &config, &data);
    let again = Trainer::new(Device::flex()).run(&folder, &data);
    assert!(matches!(again, Err(TrainError::Complete(_))));
}

#[test]
fn a_record_that_is_damaged_or_of_another_network_is_an_error_that_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let data = part(1_200);
    let plain = config(Activation::Relu, InitStrategy::He, Normalization::None);
    let normed = config(Activation::Relu, InitStrategy::He, Normalization::Batch);
    let (plain, _) = train_in(&scratch.path().join("plain"), &plain, &data);
    let (normed, _) = train_in(&scratch.path().join("normed"), &normed, &data);

    let good = fs::read(plain.record()).unwrap();
    let message = |bytes: &[u8]| {
        fs::write(plain.record(), bytes).unwrap();
        match plain.load_model(&Device::flex()) {
            Ok(_) => panic!("a wrong record was loaded"),
            Err(error) => error.to_string(),
        }
    };
    for cut in [0, 1, 7, 100, good.len() / 2, good.len() - 1] {
        let text = message(&good[..cut]);
        assert!(text.contains("model.bpk"), "{text}");
    }
    let text = message(&fs::read(normed.record()).unwrap());
    assert!(text.contains("model.bpk holds another network"), "{text}");
    assert!(text.contains("hidden.0.affine.bias"), "{text}");

    fs::write(plain.record(), &good).unwrap();
    assert!(plain.load_model(&Device::flex()).is_ok());
}

#[test]
fn a_checkpoint_folder_that_goes_away_stops_the_run_with_its_name() {
    let scratch = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        epochs: 40,
        ..config(Activation::Relu, InitStrategy::He, Normalization::Batch)
    };
    let folder = RunFolder::create(scratch.path().join("run"), &config).unwrap();
    let metrics = folder.path().join("metrics.json");
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !metrics.exists() {
                std::thread::yield_now();
            }
            let checkpoints = folder.path().join("checkpoint");
            // The learner may write a file between the listing and the removal.
            while fs::remove_dir_all(&checkpoints).is_err() {}
        });
        Trainer::new(Device::flex()).run(&folder, &part(6_000))
    });
    let error = outcome
        .expect_err("the run cannot be checkpointed")
        .to_string();
    assert!(
        error.contains("cannot write") && error.contains("checkpoint"),
        "{error}"
    );
    assert!(!folder.path().join("result.json").exists());
}
