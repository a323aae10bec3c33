//! Compares the module with Burn's own: options, states, display, records, misuse.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, ParamGroup};
use burn::nn;
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor, TensorData, Tolerance};
use burn_kindling::norm::{
    BatchNorm, BatchNormConfig, Mode, RunningAverage, freeze, freeze_statistics, unfreeze,
};

use crate::{any_device, assert_close, devices, devices_with, init, numbers, panic_of, tensor};

fn running(norm: &BatchNorm) -> (Vec<f64>, Vec<f64>) {
    (
        numbers(norm.running_mean.value_sync()),
        numbers(norm.running_var.value_sync()),
    )
}

fn batch(device: &Device) -> Tensor<2> {
    Tensor::from_floats([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]], device)
}

#[test]
fn training_normalises_by_the_batch_and_updates_the_running_statistics() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(2).with_epsilon(1e-9).init(&device);

        let output = norm.forward(batch(&device));

        let deviation = [(8.0f64 / 3.0).sqrt(), (2600.0f64 / 3.0).sqrt()];
        let expected = [-2.0, -30.0, 0.0, -10.0, 2.0, 40.0];
        let expected: Vec<_> = expected
            .iter()
            .enumerate()
            .map(|(i, x)| x / deviation[i % 2])
            .collect();
        assert_close("output", &numbers(output), &expected, 1e-6);
        // Means 3 and 40; unbiased variances 4 and 1300.
        let (mean, variance) = running(&norm);
        assert_close("mean", &mean, &[0.3, 4.0], 1e-7);
        assert_close("variance", &variance, &[1.3, 130.9], 1e-7);
    }
}

#[test]
fn inference_normalises_by_the_running_statistics() {
    for device in devices() {
        let norm = BatchNormConfig::new(2)
            .with_momentum(1.0)
            .init(&device.clone().autodiff());
        norm.forward(batch(&device.clone().autodiff()));
        let norm = norm.valid();
        for parameter in [&norm.gamma, &norm.beta] {
            assert!(!parameter.val().device().is_autodiff());
        }

        let output = norm.forward(Tensor::<2>::from_floats(
            [[3.0, 40.0], [5.0, 40.0]],
            &device,
        ));

        assert_close("output", &numbers(output), &[0.0, 0.0, 1.0, 0.0], 1e-5);
        assert_eq!(running(&norm), (vec![3.0, 40.0], vec![4.0, 1300.0]));
    }
}

#[test]
fn without_running_statistics_every_batch_normalises_by_its_own() {
    for device in devices() {
        let config = BatchNormConfig::new(2)
            .with_running_statistics(false)
            .with_affine(false);
        let norm = config.init(&device.clone().autodiff());
        assert_eq!(norm.num_params(), 0);
        let before = running(&norm);

        let trained = norm.forward(batch(&device.clone().autodiff()));
        let inferred = norm.valid().forward(batch(&device));

        assert_eq!(numbers(trained), numbers(inferred));
        assert_eq!(running(&norm), before);
    }
}

#[test]
fn a_frozen_layer_on_a_training_device_is_an_inference_layer() {
    for device in devices() {
        let device = device.autodiff();
        let fresh = || BatchNormConfig::new(2).init(&device);
        let group = |norm: &BatchNorm| ParamGroup::ids_from_module(norm.clone());
        let norm = fresh();
        let by_group = norm.clone().freeze_group(group(&norm));
        for frozen in [
            fresh().freeze(),
            by_group,
            freeze(fresh()),
            freeze_statistics(fresh()),
        ] {
            let before = running(&frozen);
            let output = frozen.forward(batch(&device));
            // The running mean is 0 and the variance 1, so the output equals the input.
            assert_close("output", &numbers(output), &numbers(batch(&device)), 1e-5);
            assert_eq!(running(&frozen), before);
        }
        assert!(!freeze(fresh()).gamma.is_require_grad());
        assert!(freeze_statistics(fresh()).gamma.is_require_grad());

        let thawed = [
            unfreeze(freeze(fresh())),
            freeze(fresh()).unfreeze(),
            fresh().freeze().valid().unfreeze().train(),
        ];
        for norm in thawed {
            let before = running(&norm);
            norm.forward(batch(&device));
            assert_ne!(running(&norm), before);
            assert!(norm.gamma.is_require_grad() && norm.beta.is_require_grad());
        }
        // Frozen stays frozen through validation.
        let norm = fresh().freeze().valid().train();
        norm.forward(batch(&device));
        assert_eq!(running(&norm), (vec![0.0; 2], vec![1.0; 2]));
    }
}

#[test]
fn freezing_gamma_alone_leaves_the_statistics_in_training() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(2)
            .init(&device)
            .freeze_group(ParamGroup::from_path("gamma"));
        assert!(!norm.gamma.is_require_grad());
        norm.forward(batch(&device));
        assert_ne!(running(&norm).0, [0.0; 2]);
    }
}

#[test]
fn freezing_reaches_the_batch_norms_of_a_model_and_nothing_else() {
    #[derive(Module, Debug)]
    struct Model {
        linear: nn::Linear,
        norms: Vec<BatchNorm>,
        dropout: nn::Dropout,
    }
    let device = any_device().autodiff();
    let model = Model {
        linear: nn::LinearConfig::new(2, 2).init(&device),
        norms: vec![
            BatchNormConfig::new(2).init(&device),
            BatchNormConfig::new(2).init(&device),
        ],
        dropout: nn::DropoutConfig::new(0.5).init(),
    };
    let frozen = freeze(model);
    assert!(frozen.linear.weight.is_require_grad());
    assert!(frozen.dropout.training.is_enabled());
    for norm in &frozen.norms {
        assert!(!norm.training.is_enabled() && !norm.gamma.is_require_grad());
    }
    assert!(
        unfreeze(frozen)
            .norms
            .iter()
            .all(|norm| norm.training.is_enabled())
    );
}

#[test]
fn a_mode_overrides_device_and_freezing_and_is_over_when_the_closure_is() {
    for device in devices() {
        let frozen = BatchNormConfig::new(2)
            .with_epsilon(1e-9)
            .with_momentum(1.0)
            .init(&device)
            .freeze();
        let by_batch = numbers(Mode::TestTimeAdaptation.run(|| frozen.forward(batch(&device))));
        let untouched = (vec![0.0; 2], vec![1.0; 2]);
        assert_close("standardised", &by_batch[..1], &[-1.5f64.sqrt()], 1e-6);
        assert_eq!(running(&frozen), untouched);

        let adapted = Mode::TestTimeAdaptation.run(|| {
            Mode::Inference.run(|| {
                assert_close(
                    "inner",
                    &numbers(frozen.forward(batch(&device))),
                    &numbers(batch(&device)),
                    1e-6,
                )
            });
            frozen.forward(batch(&device))
        });
        assert_eq!(numbers(adapted), by_batch);
        assert_eq!(running(&frozen), untouched);

        let panicked = catch_unwind(AssertUnwindSafe(|| {
            Mode::Training.run(|| panic!("in the forward pass"))
        }));
        assert!(panicked.is_err());
        frozen.forward(batch(&device));
        assert_eq!(running(&frozen), untouched);

        Mode::Training.run(|| frozen.forward(batch(&device)));
        assert_eq!(running(&frozen), (vec![3.0, 40.0], vec![4.0, 1300.0]));
    }
}

#[test]
fn freezing_a_clone_leaves_the_original_when_neither_is_initialised() {
    for device in devices() {
        let device = device.autodiff();
        let trains =
            |norm: &BatchNorm| [&norm.gamma, &norm.beta].map(|param| param.is_require_grad());
        let original = BatchNormConfig::new(2).init(&device);
        let frozen = freeze(original.clone());
        assert_eq!(
            (trains(&original), trains(&frozen)),
            ([true; 2], [false; 2])
        );

        let original = BatchNormConfig::new(2).init(&device);
        let statistics_frozen = freeze_statistics(original.clone());
        assert!(original.training.is_enabled() && !statistics_frozen.training.is_enabled());
        assert_eq!(
            (trains(&original), trains(&statistics_frozen)),
            ([true; 2], [true; 2])
        );

        let mut original = BatchNormConfig::new(2).init(&device);
        original.gamma = original.gamma.map(|gamma| gamma.set_require_grad(false));
        original.beta = original.beta.map(|beta| beta.set_require_grad(false));
        let unfrozen = unfreeze(original.clone());
        assert_eq!(
            (trains(&original), trains(&unfrozen)),
            ([false; 2], [true; 2])
        );
    }
}

#[test]
fn it_shows_like_burns() {
    let device = any_device();
    let norm = BatchNormConfig::new(3).init(&device);
    let burns = nn::BatchNormConfig::new(3).init(&device);
    assert_eq!(norm.to_string(), burns.to_string());
    assert_eq!(norm.num_params(), burns.num_params());
    assert_eq!(norm.freeze().to_string(), burns.freeze().to_string());
    let other = BatchNormConfig::new(3)
        .with_affine(false)
        .with_average(RunningAverage::Cumulative)
        .init(&device);
    assert_eq!(
        other.to_string(),
        "BatchNorm {num_features: 3, momentum: 0.1, epsilon: 0.00001, average: Cumulative, affine: false, params: 9}"
    );
}

#[test]
fn records_go_to_burns_layer_and_back() {
    for device in devices() {
        let training = device.clone().autodiff();
        let ours = BatchNormConfig::new(2).with_momentum(0.5).init(&training);
        ours.forward(batch(&training));
        ours.forward(batch(&training) * 2.0);
        // The variance in a record is the unbiased one, whichever layer loads it.
        let theirs = nn::BatchNormConfig::new(2)
            .init(&device)
            .load_record(ours.clone().into_record());
        assert_eq!(
            (
                numbers(theirs.running_mean.value_sync()),
                numbers(theirs.running_var.value_sync())
            ),
            running(&ours)
        );
        let back = BatchNormConfig::new(2)
            .init(&device)
            .load_record(theirs.clone().into_record());
        assert_eq!(running(&back), running(&ours));
        let input = Tensor::<2>::random([4, 2], Distribution::Normal(3.0, 4.0), &device);
        assert_close(
            "output",
            &numbers(back.forward(input.clone())),
            &numbers(theirs.forward(input)),
            1e-6,
        );
    }
}

#[test]
fn records_carry_what_an_average_needs_to_go_on() {
    for device in devices() {
        let device = device.autodiff();
        for average in [
            RunningAverage::DebiasedExponential,
            RunningAverage::Cumulative,
        ] {
            let config = BatchNormConfig::new(2).with_average(average);
            let straight = config.init(&device);
            straight.forward(batch(&device));
            let resumed = config
                .init(&device)
                .load_record(straight.clone().into_record());
            for norm in [&straight, &resumed] {
                norm.forward(batch(&device) * 2.0);
            }
            assert_eq!(running(&resumed), running(&straight));
        }
    }
}

#[test]
fn half_precision_keeps_its_statistics_in_f32() {
    for dtype in [DType::F16, DType::BF16] {
        for device in devices_with(dtype) {
            let training = device.clone().autodiff();
            let wide = init(&BatchNormConfig::new(2), DType::F32, &training);
            let half = init(&BatchNormConfig::new(2), dtype, &training);
            assert_eq!(half.gamma.dtype(), dtype);
            assert_eq!(half.running_mean.value_sync().dtype(), DType::F32);
            // 256 values per channel around 8: a sum in half precision would lose the last ones.
            let x: Vec<f64> = (0..512)
                .map(|i| 8.0 + f64::from(i % 7) * 0.25 - 0.75)
                .collect();
            for _ in 0..3 {
                let output = half.forward(tensor(&x, [256, 2], dtype, &training));
                assert_eq!(output.dtype(), dtype);
                let expected = wide.forward(tensor(&x, [256, 2], DType::F32, &training));
                let rounding = if dtype == DType::F16 { 1e-3 } else { 8e-3 };
                assert_close("output", &numbers(output), &numbers(expected), rounding);
            }
            let (found, expected) = (running(&half), running(&wide));
            assert_close("running mean", &found.0, &expected.0, 1e-6);
            assert_close("running variance", &found.1, &expected.1, 1e-6);
            let inferred = half.valid().forward(tensor(&x, [256, 2], dtype, &device));
            assert_eq!(inferred.dtype(), dtype);
        }
    }
}

#[test]
fn half_precision_gradients_flow() {
    for device in devices_with(DType::F16) {
        let device = device.autodiff();
        let norm = init(&BatchNormConfig::new(2), DType::F16, &device);
        let x = tensor(
            &[1.0, 10.0, 3.0, 30.0, 5.0, 80.0],
            [3, 2],
            DType::F16,
            &device,
        )
        .require_grad();
        let grads = norm.forward(x.clone()).powi_scalar(3).sum().backward();
        let wide = init(&BatchNormConfig::new(2), DType::F32, &device);
        let y = x
            .clone()
            .detach()
            .cast(FloatDType::F32)
            .detach()
            .require_grad();
        let expected = wide.forward(y.clone()).powi_scalar(3).sum().backward();
        let found = numbers(x.grad(&grads).unwrap());
        assert_close("input", &found, &numbers(y.grad(&expected).unwrap()), 0.03);
        let found = numbers(norm.gamma.grad(&grads).unwrap());
        assert_close(
            "gamma",
            &found,
            &numbers(wide.gamma.grad(&expected).unwrap()),
            0.01,
        );
    }
}

#[test]
fn it_trains_under_gradient_checkpointing() {
    for device in devices() {
        let device = device.autodiff().gradient_checkpointing();
        let norm = BatchNormConfig::new(2).init(&device);
        let frozen = BatchNormConfig::new(2).init(&device).freeze();
        let x = batch(&device).require_grad();
        let grads = frozen
            .forward(norm.forward(x.clone()))
            .powi_scalar(2)
            .sum()
            .backward();
        assert!(x.grad(&grads).is_some());
        assert_ne!(running(&norm).0, [0.0; 2]);
    }
}

#[test]
fn an_empty_batch_gives_an_empty_output_and_changes_nothing() {
    for device in devices() {
        for device in [device.clone(), device.autodiff()] {
            let norm = BatchNormConfig::new(2).init(&device);
            assert_eq!(
                norm.forward(Tensor::<2>::empty([0, 2], &device)).dims(),
                [0, 2]
            );
            assert_eq!(
                norm.forward(Tensor::<3>::empty([4, 2, 0], &device)).dims(),
                [4, 2, 0]
            );
            assert_eq!(running(&norm), (vec![0.0; 2], vec![1.0; 2]));
        }
    }
}

#[test]
fn a_burn_layer_and_ours_agree_but_for_the_variance_that_is_remembered() {
    for device in devices() {
        let training = device.clone().autodiff();
        let ours = BatchNormConfig::new(2).init(&training);
        let theirs = nn::BatchNormConfig::new(2).init(&training);
        let x = Tensor::<3>::random([4, 2, 5], Distribution::Normal(1.0, 2.0), &training);
        let (mine, their) = (ours.forward(x.clone()), theirs.forward(x));
        mine.into_data()
            .assert_approx_eq::<f32>(&their.into_data(), Tolerance::default());
        let biased = numbers(theirs.running_var.value_sync())
            .iter()
            .map(|v| v - 0.9)
            .collect::<Vec<_>>();
        let unbiased = running(&ours).1.iter().map(|v| v - 0.9).collect::<Vec<_>>();
        let expected: Vec<_> = biased.iter().map(|v| v * 20.0 / 19.0).collect();
        assert_close("variance", &unbiased, &expected, 1e-5);
    }
}

/// Uses a model's batch norm in every way. Only one line differs between the two crates: the `use`.
macro_rules! a_model_with {
    (use $($norm:ident)::+, on $device:ident) => {{
        use $($norm)::+::{BatchNorm, BatchNormConfig};

        #[derive(Module, Debug)]
        struct Model {
            linear: nn::Linear,
            norm: BatchNorm,
        }

        let device = &$device;
        let weights = nn::Initializer::Constant { value: 0.5 };
        let model = Model {
            linear: nn::LinearConfig::new(2, 3).with_initializer(weights).init(device),
            norm: BatchNormConfig::new(3).with_epsilon(1e-3).with_momentum(0.0).init(device),
        };
        let forward = |model: &Model, x: Tensor<2>| numbers(model.norm.forward(model.linear.forward(x)));
        let x = batch(device);
        let mut results = vec![forward(&model, x.clone())];
        results.push(forward(&model.clone().to_device(device), x.clone()));
        let model = model.fork(device);
        let valid = model.valid();
        results.push(forward(&valid, x.clone().without_autodiff()));
        results.push(forward(&valid.train(), x.clone()));
        let frozen = model.freeze_group(ParamGroup::from_path("norm"));
        results.push(forward(&frozen, x.clone()));
        let thawed = frozen.clone().unfreeze().load_record(frozen.into_record());
        results.push(forward(&thawed, x));
        (results, format!("{thawed}"), thawed.num_params(), thawed.devices())
    }};
}

#[test]
fn one_use_line_swaps_burns_layer_for_ours() {
    for device in devices() {
        let device = device.autodiff();
        let (ours, shown, params, devices) = a_model_with!(use burn_kindling::norm, on device);
        let (burns, burns_shown, burns_params, burns_devices) =
            a_model_with!(use burn::nn, on device);
        for (ours, burns) in ours.iter().zip(&burns) {
            assert_close("output", ours, burns, 1e-5);
        }
        assert_eq!(
            (shown, params, devices),
            (burns_shown, burns_params, burns_devices)
        );
    }
}

#[test]
fn misuse_panics_with_a_sentence() {
    let device = any_device().autodiff();
    let config = BatchNormConfig::new(3);
    let norm = config.init(&device);
    let says =
        |message: String, part: &str| assert!(message.contains(part), "{message:?} lacks {part:?}");

    says(
        panic_of(|| norm.forward(Tensor::<1>::zeros([3], &device))),
        "rank at least 2, got 1 (dims [3]). BatchNorm takes [batch, channels, ...]",
    );
    says(
        panic_of(|| norm.forward(Tensor::<2>::zeros([5, 4], &device))),
        "[5, 4]",
    );
    says(
        panic_of(|| norm.forward(Tensor::<2>::zeros([0, 4], &device))),
        "[0, 4]",
    );
    says(
        panic_of(|| norm.forward(Tensor::<3>::zeros([1, 3, 1], &device))),
        "at least two values per channel",
    );
    // One value per channel is fine with running statistics.
    norm.valid()
        .forward(Tensor::<2>::zeros([1, 3], &any_device()));

    says(
        panic_of(|| BatchNormConfig::new(0).init(&device)),
        "num_features must be greater than zero",
    );
    for epsilon in [0.0, -1e-5, f64::NAN, f64::INFINITY] {
        let config = config.clone().with_epsilon(epsilon);
        says(
            panic_of(|| config.init(&device)),
            "epsilon must be finite and positive",
        );
    }
    for momentum in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let config = config.clone().with_momentum(momentum);
        says(
            panic_of(|| config.init(&device)),
            "momentum must be finite and within [0, 1]",
        );
    }
    // A refused batch leaves the layer unchanged.
    let data = TensorData::from([[1.0f32, 2.0, 3.0], [2.0, 4.0, 6.0]]);
    norm.forward(Tensor::<2>::from_data(data, &device));
    assert_close("mean", &running(&norm).0, &[0.15, 0.3, 0.45], 1e-6);
}

/// A user's struct with the same name as the layer.
mod own {
    use super::*;
    use burn::module::{Flag, Param};

    #[derive(Module, Debug)]
    pub struct BatchNorm {
        pub gamma: Param<Tensor<1>>,
        pub beta: Param<Tensor<1>>,
        pub weight: Param<Tensor<1>>,
        pub training: Param<Flag>,
        pub inner: nn::BatchNorm,
    }
}

#[test]
fn freezing_leaves_structs_alone_that_are_only_called_like_the_layer() {
    for device in devices() {
        let device = device.autodiff();
        let parameter = || nn::Initializer::Ones.init([2], &device);
        let model = own::BatchNorm {
            gamma: parameter(),
            beta: parameter(),
            weight: parameter(),
            training: BatchNormConfig::new(2).init(&device).training,
            inner: nn::BatchNormConfig::new(2).init(&device),
        };
        let frozen = freeze(model);
        for parameter in [&frozen.gamma, &frozen.beta, &frozen.weight] {
            assert!(parameter.val().is_require_grad());
        }
        for parameter in [&frozen.inner.gamma, &frozen.inner.beta] {
            assert!(!parameter.val().is_require_grad());
        }
        let before = numbers(frozen.inner.running_mean.value());
        frozen.inner.forward(batch(&device));
        assert_eq!(numbers(frozen.inner.running_mean.value()), before);
    }
}

#[test]
fn a_configuration_of_burns_layer_loads() {
    let burn = nn::BatchNormConfig::new(7)
        .with_epsilon(1e-3)
        .with_momentum(0.3);
    let ours: BatchNormConfig =
        serde_json::from_str(&serde_json::to_string(&burn).unwrap()).unwrap();
    let expected = BatchNormConfig::new(7)
        .with_epsilon(1e-3)
        .with_momentum(0.3);
    assert_eq!(ours, expected);
    // So does one that was saved before it had all its options.
    let before = r#"{"num_features":7,"epsilon":0.001,"momentum":0.3,"average":"Exponential","affine":true,"running_statistics":true}"#;
    assert_eq!(
        serde_json::from_str::<BatchNormConfig>(before).unwrap(),
        expected
    );
    let again: BatchNormConfig = serde_json::from_str(&expected.to_string()).unwrap();
    assert_eq!(again, expected);
}

#[test]
fn a_layer_may_have_gamma_alone() {
    for device in devices() {
        let norm = BatchNormConfig::new(2).with_bias(false).init(&device);
        assert_eq!(norm.num_params(), 6);
        let whole = BatchNormConfig::new(2).init(&device);
        let [found, expected] = [norm, whole].map(|norm| numbers(norm.forward(batch(&device))));
        assert_eq!(found, expected);
    }
}

#[test]
fn running_statistics_can_be_set_and_reset() {
    for device in devices() {
        let device = device.autodiff();
        for average in [
            RunningAverage::Exponential,
            RunningAverage::DebiasedExponential,
            RunningAverage::Cumulative,
        ] {
            let config = BatchNormConfig::new(2).with_average(average);
            let norm = config.init(&device);
            let shared = norm.clone();
            norm.set_running(
                Tensor::from_floats([1.0, 2.0], &device),
                Tensor::from_floats([3.0, 4.0], &device),
            );
            assert_eq!(running(&shared), (vec![1.0, 2.0], vec![3.0, 4.0]));
            // As after one batch of these statistics; the next one's are means 3 and 40.
            norm.forward(batch(&device));
            let gain = match average {
                RunningAverage::Exponential => 0.1,
                RunningAverage::DebiasedExponential => 0.1 / (0.9 * 0.1 + 0.1),
                RunningAverage::Cumulative => 0.5,
            };
            let expected = [1.0 + gain * 2.0, 2.0 + gain * 38.0];
            assert_close("mean", &running(&norm).0, &expected, 1e-6);

            norm.reset_running_statistics();
            assert_eq!(running(&shared), (vec![0.0, 0.0], vec![1.0, 1.0]));
            let fresh = config.init(&device);
            for layer in [&norm, &fresh] {
                layer.forward(batch(&device));
            }
            assert_eq!(running(&norm), running(&fresh));

            // By `with_running`, only this layer gets the values.
            let before = running(&norm);
            let own = norm.clone().with_running(
                Tensor::from_floats([5.0, 6.0], &device),
                Tensor::from_floats([7.0, 8.0], &device),
            );
            assert_eq!(running(&own), (vec![5.0, 6.0], vec![7.0, 8.0]));
            assert_eq!(running(&norm), before);
        }
    }
}

#[test]
fn running_statistics_of_another_shape_are_refused() {
    let device = any_device();
    let set = |norm: &BatchNorm, channels: usize| {
        let values = || Tensor::ones([channels], &device);
        let set = AssertUnwindSafe(|| norm.set_running(values(), values()));
        let panic = catch_unwind(set).unwrap_err();
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let message = set(&BatchNormConfig::new(2).init(&device), 3);
    assert!(message.contains("[2], but got [3]"), "{message}");
    let without = BatchNormConfig::new(2).with_running_statistics(false);
    let message = set(&without.init(&device), 2);
    assert!(message.contains("keeps no running statistics"), "{message}");
}
