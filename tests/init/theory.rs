//! Signal propagation, compared with closed forms, plain integration and networks.

use std::f64::consts::{PI, TAU};

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Distribution, Tensor};
use burn_kindling::init::{Activation, InitStrategy, LayerSignal, Scheme, initialize};

use crate::devices::any_device;

/// From an almost vanished signal to one deep in saturation.
const SECOND_MOMENTS: [f64; 8] = [1e-12, 1e-4, 0.1, 1.0, 4.0, 100.0, 784.0, 1e6];

/// A layer whose pre-activations have the second moment q: one input of that second moment, weights from N(0, 1).
fn layer(activation: Activation, q: f64) -> LayerSignal {
    InitStrategy::StandardNormal.propagate(activation, [1], q)[0]
}

fn second_moment(layer: LayerSignal) -> f64 {
    layer.mean.powi(2) + layer.std.powi(2)
}

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs(),
        "found {found}, expected {expected}"
    );
}

#[test]
fn relu_and_its_leaky_kin_have_closed_forms() {
    for q in SECOND_MOMENTS {
        for (activation, slope) in [(Activation::Relu, 0.0), (Activation::LeakyRelu, 0.01)] {
            let found = layer(activation, q);
            let mean = (1.0 - slope) * (q / TAU).sqrt();
            let square = (1.0 + slope * slope) * q / 2.0;
            assert_eq!(found.pre_activation, q);
            assert_close(found.mean, mean, 1e-13);
            assert_close(second_moment(found), square, 1e-13);
            assert_close(found.std, (square - mean * mean).sqrt(), 1e-13);
        }
    }
}

#[test]
fn gelu_has_closed_forms() {
    for q in SECOND_MOMENTS {
        let found = layer(Activation::Gelu, q);
        // Integration by parts: E[x Phi(x)] = q E[density(x)]; for the square, by parts twice.
        let mean = q / (TAU * (1.0 + q)).sqrt();
        let r = (1.0 + 2.0 * q).sqrt();
        let square = q / 4.0 + q / TAU * (q / (1.0 + q)).asin() + q * q / (PI * (1.0 + q) * r);
        assert_close(found.mean, mean, 1e-11);
        assert_close(second_moment(found), square, 1e-11);
    }
}

/// The mean and the variance of `f(sqrt(q) z)` by the trapezoidal rule in steps of 1/20,000.
fn integrate(f: fn(f64) -> f64, q: f64) -> (f64, f64) {
    let expectation = |g: &dyn Fn(f64) -> f64| {
        let step = 1.0 / 20_000.0;
        (-800_000..=800_000)
            .map(|k| f64::from(k) * step)
            .map(|z| g(z) * (-z * z / 2.0).exp() * step / TAU.sqrt())
            .sum::<f64>()
    };
    let mean = expectation(&|z| f(q.sqrt() * z));
    (mean, expectation(&|z| (f(q.sqrt() * z) - mean).powi(2)))
}

#[test]
fn sigmoid_and_tanh_agree_with_plain_integration() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for q in SECOND_MOMENTS {
        let found = layer(Activation::Sigmoid, q);
        let (_, variance) = integrate(sigmoid, q);
        assert_close(found.mean, 0.5, 1e-13);
        assert_close(found.std, variance.sqrt(), 1e-10);

        let found = layer(Activation::Tanh, q);
        let (_, variance) = integrate(f64::tanh, q);
        assert!(found.mean.abs() < 1e-15);
        assert_close(found.std, variance.sqrt(), 1e-10);
    }
}

#[test]
fn nothing_in_is_nothing_but_the_offset_out() {
    for activation in Activation::ALL {
        let found = layer(activation, 0.0);
        let offset = if activation == Activation::Sigmoid {
            0.5
        } else {
            0.0
        };
        assert!((found.mean - offset).abs() < 1e-14 && found.std < 1e-14);
    }
}

#[test]
fn strategies_keep_or_lose_the_signal_as_their_names_promise() {
    let last = |strategy: InitStrategy, activation| {
        let layers = strategy.propagate(activation, [100; 10], 1.0);
        assert_eq!(layers.len(), 10);
        layers[9].pre_activation
    };
    assert_close(last(InitStrategy::He, Activation::Relu), 2.0, 1e-12);
    assert_close(
        last(InitStrategy::Xavier, Activation::Relu),
        0.5f64.powi(9),
        1e-12,
    );
    assert_close(
        last(InitStrategy::StandardNormal, Activation::Relu),
        100.0 * 50f64.powi(9),
        1e-12,
    );
    assert_close(
        last(InitStrategy::SmallNormal, Activation::Relu),
        0.01 * 0.005f64.powi(9),
        1e-12,
    );
    assert_eq!(last(InitStrategy::Zeros, Activation::Tanh), 0.0);
    // The first layer has another fan-in.
    let layers = InitStrategy::SmallNormal.propagate(Activation::Relu, [784, 100], 3.0);
    assert_close(layers[0].pre_activation, 3.0 * 784e-4, 1e-12);
    assert_close(layers[1].pre_activation, 3.0 * 784e-4 / 2.0 * 100e-4, 1e-12);
    assert!(
        InitStrategy::He
            .propagate(Activation::Relu, [], 1.0)
            .is_empty()
    );
}

#[test]
fn wide_networks_do_as_predicted() {
    const WIDTH: usize = 1000;
    let device = any_device();
    device.seed(21);
    let strategies = [
        InitStrategy::StandardNormal,
        InitStrategy::SmallNormal,
        InitStrategy::Xavier,
        InitStrategy::He,
    ];
    for activation in Activation::ALL {
        for strategy in strategies {
            let predicted = strategy.propagate(activation, [WIDTH; 4], 1.0);
            let normal = Distribution::Normal(0.0, 1.0);
            let mut x = Tensor::<2>::random([100, WIDTH], normal, &device);
            let layer = || {
                LinearConfig::new(WIDTH, WIDTH)
                    .with_bias(false)
                    .init(&device)
            };
            let layers: Vec<Linear> = predicted.iter().map(|_| layer()).collect();
            for (layer, predicted) in initialize(layers, strategy, 21).0.iter().zip(predicted) {
                x = activation.forward(layer.forward(x));
                let values: Vec<f64> = x.to_data().iter::<f64>().collect();
                let count = values.len() as f64;
                let mean = values.iter().sum::<f64>() / count;
                let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                // Inputs are not independent after the first layer, so the mean is over a thousand units, not over
                // 100,000 values. Allow five sigma of that, over four layers.
                let sampling = 5.0 * (2.0 / WIDTH as f64).sqrt();
                assert_close(variance.sqrt(), predicted.std, sampling);
                assert!(
                    (mean - predicted.mean).abs() <= sampling * second_moment(predicted).sqrt(),
                    "{strategy} {activation}: mean {mean}, predicted {}",
                    predicted.mean
                );
            }
        }
    }
}

#[test]
#[should_panic(expected = "must be finite and not negative, found -1")]
fn a_negative_second_moment_is_refused() {
    layer(Activation::Tanh, -1.0);
}

/// The distribution of the weights does not matter, only their variance.
#[test]
fn other_distributions_of_the_same_variance_do_as_predicted() {
    const WIDTH: usize = 1000;
    let device = any_device();
    device.seed(5);
    let gain = 2f64.sqrt();
    let schemes = [
        Scheme::he().uniform(),
        Scheme::he().truncated(),
        Scheme::fan_out(gain),
        Scheme::fan_average(gain).uniform(),
        Scheme::orthogonal().scaled(gain),
        Scheme::sparse(0.5, gain / (WIDTH as f64 / 2.0).sqrt()),
    ];
    // The mean square of 1000 units that see the same inputs is a sample: five sigma of it for one network, and less
    // for the mean of all.
    let sampling = 5.0 * (2.0 / WIDTH as f64).sqrt();
    for activation in Activation::ALL {
        let predicted = InitStrategy::He.propagate(activation, [WIDTH; 3], 1.0);
        let mut mean_ratio = 0.0;
        for scheme in schemes {
            let layer = || {
                LinearConfig::new(WIDTH, WIDTH)
                    .with_bias(false)
                    .init(&device)
            };
            let layers: Vec<Linear> = predicted.iter().map(|_| layer()).collect();
            let normal = Distribution::Normal(0.0, 1.0);
            let mut x = Tensor::<2>::random([100, WIDTH], normal, &device);
            for (layer, predicted) in initialize(layers, scheme, 21).0.iter().zip(&predicted) {
                x = activation.forward(layer.forward(x));
                let std = x
                    .clone()
                    .flatten::<1>(0, 1)
                    .var(0)
                    .sqrt()
                    .into_scalar::<f32>();
                let ratio = f64::from(std) / predicted.std;
                assert!(
                    (ratio - 1.0).abs() < sampling,
                    "{scheme}, {activation}: {std}, predicted {}",
                    predicted.std
                );
                mean_ratio += ratio / (schemes.len() * 3) as f64;
            }
        }
        assert!(
            (mean_ratio - 1.0).abs() < 0.05,
            "{activation}: {mean_ratio}"
        );
    }
}
