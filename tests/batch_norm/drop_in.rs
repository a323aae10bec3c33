//! Code written for Burn's layer, with only its `use` line changed: fields, panics, Burn's variance.

use burn::module::{Module, Param, RunningState};
use burn::nn;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};

use crate::{any_device, assert_close, devices, devices_with, numbers, panic_of};

/// Some batches of different scales.
fn batches(device: &Device) -> [Tensor<2>; 3] {
    [
        Tensor::from_floats([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]], device),
        Tensor::from_floats([[-4.0, 0.5], [0.0, 0.25], [9.0, 0.125]], device),
        Tensor::from_floats([[2.0, -6.0], [2.5, -7.0]], device),
    ]
}

#[test]
fn fields_have_burns_names_and_types() {
    fn layer() -> BatchNorm {
        let device = any_device().autodiff();
        let norm = BatchNormConfig::new(2).init(&device);
        norm.forward(batches(&device)[0].clone());
        norm
    }
    let norm = layer();
    let gamma: &Param<Tensor<1>> = &norm.gamma;
    let beta: &Param<Tensor<1>> = &norm.beta;
    assert_eq!(gamma.dims(), beta.dims());
    let mean: &RunningState<Tensor<1>> = &norm.running_mean;
    assert_eq!(numbers(mean.value()), numbers(mean.value_sync()));
    assert!(norm.running_var.value().sqrt().is_autodiff());
    assert!(!norm.running_var.value().is_require_grad());

    // A field that is set counts, and stays with this layer.
    let (mut norm, other) = (layer(), layer());
    let device = norm.gamma.device();
    norm.running_mean = RunningState::new(Tensor::from_floats([3.0, 4.0], &device));
    norm.running_var = RunningState::new(Tensor::from_floats([4.0, 9.0], &device));
    norm.gamma = Param::from_data([2.0, 3.0], &device);
    norm.beta = Param::from_data([-1.0, 1.0], &device);
    let inner = device.clone().inner();
    let output = norm
        .valid()
        .forward(Tensor::<2>::from_floats([[5.0, 10.0]], &inner));
    assert_close("output", &numbers(output), &[1.0, 7.0], 1e-5);
    assert_close(
        "other",
        &numbers(other.running_mean.value()),
        &[0.3, 4.0],
        1e-6,
    );

    // So does an update of the state.
    norm.running_mean
        .update(Tensor::from_floats([-1.0, -2.0], &device));
    assert_eq!(numbers(norm.valid().running_mean.value()), [-1.0, -2.0]);
}

#[test]
fn half_precision_statistics_that_are_set_are_widened() {
    for device in devices_with(FloatDType::F16) {
        let mut norm = BatchNormConfig::new(2).init(&device);
        let half =
            |values: [f32; 2]| Tensor::<1>::from_floats(values, &device).cast(FloatDType::F16);
        norm.running_mean = RunningState::new(half([1.0, 2.0]));
        norm.running_var = RunningState::new(half([4.0, 4.0]));
        let output = norm.forward(Tensor::<2>::from_floats([[5.0, 4.0]], &device));
        assert_close("output", &numbers(output), &[2.0, 1.0], 1e-5);
    }
}

#[test]
fn with_the_biased_variance_the_statistics_are_burns() {
    for device in devices() {
        let device = device.autodiff();
        let ours = BatchNormConfig::new(2)
            .with_unbiased_variance(false)
            .init(&device);
        let burns = nn::BatchNormConfig::new(2).init(&device);
        for batch in batches(&device) {
            let [found, expected] = [ours.forward(batch.clone()), burns.forward(batch)];
            assert_close("output", &numbers(found), &numbers(expected), 1e-5);
        }
        for (found, expected) in [
            (&ours.running_mean, &burns.running_mean),
            (&ours.running_var, &burns.running_var),
        ] {
            let [found, expected] = [found, expected].map(|state| numbers(state.value_sync()));
            assert_close("running", &found, &expected, 1e-6);
        }
    }
}

#[test]
fn panics_begin_with_burns_sentence() {
    let device = any_device();
    let ours = BatchNormConfig::new(3).init(&device);
    let burns = nn::BatchNormConfig::new(3).init(&device);
    let (line, square) = (
        Tensor::<1>::zeros([4], &device),
        Tensor::<3>::zeros([1, 4, 2], &device),
    );
    let config = |epsilon, momentum| {
        let ours = BatchNormConfig::new(3)
            .with_epsilon(epsilon)
            .with_momentum(momentum);
        let burns = nn::BatchNormConfig::new(3)
            .with_epsilon(epsilon)
            .with_momentum(momentum);
        [
            panic_of(|| ours.init(&device)),
            panic_of(|| burns.init(&device)),
        ]
    };
    for [found, expected] in [
        [
            panic_of(|| ours.forward(line.clone())),
            panic_of(|| burns.forward(line)),
        ],
        [
            panic_of(|| ours.forward(square.clone())),
            panic_of(|| burns.forward(square)),
        ],
        [
            panic_of(|| BatchNormConfig::new(0).init(&device)),
            panic_of(|| nn::BatchNormConfig::new(0).init(&device)),
        ],
        config(0.0, 0.1),
        config(f64::NAN, 0.1),
        config(1e-5, 1.1),
        config(1e-5, f64::NAN),
    ] {
        assert!(found.starts_with(&expected), "{found}\n{expected}");
    }
}

#[test]
fn an_empty_batch_gives_gradients_of_zero() {
    for device in devices() {
        let device = device.autodiff();
        for norm in [
            BatchNormConfig::new(2).init(&device),
            BatchNormConfig::new(2).with_bias(false).init(&device),
            BatchNormConfig::new(2).with_affine(false).init(&device),
        ] {
            let input = Tensor::<3>::zeros([0, 2, 4], &device).require_grad();
            let output = norm.forward(input.clone());
            assert_eq!(output.dims(), [0, 2, 4]);
            let gradients = output.sum().backward();
            assert_eq!(input.grad(&gradients).expect("one").dims(), [0, 2, 4]);
            for (param, expected) in [
                (&norm.gamma, norm.num_params() > 4),
                (&norm.beta, norm.num_params() > 6),
            ] {
                let found = param.grad(&gradients).map(numbers);
                assert_eq!(found, expected.then(|| vec![0.0; 2]));
            }
            assert_eq!(numbers(norm.running_mean.value()), [0.0; 2]);
        }
    }
}
