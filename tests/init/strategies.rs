//! The five strategies and the activations: names, formulas, recommendations.

use std::f64::consts::PI;

use burn::tensor::{DType, Tensor, TensorData};
use burn_kindling::init::{Activation, InitStrategy, UnknownName};

use crate::devices::{devices, processors};
use crate::{phi, pytorch, values};

#[test]
fn recommendations_are_the_textbook_pairs() {
    let pairs = Activation::ALL.map(|a| (a.to_string(), InitStrategy::recommended_for(a)));
    assert_eq!(
        pairs.map(|(name, strategy)| format!("{name}: {strategy}")),
        [
            "sigmoid: xavier",
            "tanh: xavier",
            "relu: he",
            "leaky-relu: he",
            "gelu: he",
            "selu: xavier",
            "silu: he"
        ]
    );
}

/// The activation and its derivative.
fn formula(activation: Activation, x: f64) -> [f64; 2] {
    const ALPHA: f64 = 1.6732632423543772;
    const SCALE: f64 = 1.0507009873554805;
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    let of_sigmoid = sigmoid / (1.0 + x.exp());
    match activation {
        Activation::Sigmoid => [sigmoid, of_sigmoid],
        Activation::Tanh => [x.tanh(), x.cosh().powi(-2)],
        Activation::Relu if x > 0.0 => [x, 1.0],
        Activation::Relu => [0.0, 0.0],
        Activation::LeakyRelu if x > 0.0 => [x, 1.0],
        Activation::LeakyRelu => [0.01 * x, 0.01],
        Activation::Gelu => {
            let density = (-x * x / 2.0).exp() / (2.0 * PI).sqrt();
            [x * phi(x), phi(x) + x * density]
        }
        Activation::Selu if x > 0.0 => [SCALE * x, SCALE],
        Activation::Selu => [SCALE * ALPHA * x.exp_m1(), SCALE * ALPHA * x.exp()],
        Activation::Silu => [x * sigmoid, sigmoid + x * of_sigmoid],
    }
}

#[test]
fn activations_and_their_gradients_follow_their_formulas() {
    let points = [-6.0f64, -2.5, -1.0, -0.1, 0.3, 1.0, 4.0];
    for (device, dtype, tolerance) in devices()
        .into_iter()
        .map(|device| (device, DType::F32, 2e-6))
        .chain(processors().into_iter().map(|it| (it, DType::F64, 1e-14)))
    {
        for activation in Activation::ALL {
            // The error function of Burn's NdArray is off by up to 1e-8.
            let is_coarse = activation == Activation::Gelu && dtype == DType::F64;
            let tolerance = if is_coarse { 1e-8 } else { tolerance };
            let data = TensorData::from([points]);
            let input = Tensor::<2>::from_data(data, (&device.clone().autodiff(), dtype));
            let input = input.require_grad();
            let output = activation.forward(input.clone());
            let gradient = input.grad(&output.clone().sum().backward()).unwrap();
            for ((x, y), slope) in points.into_iter().zip(values(output)).zip(values(gradient)) {
                // The device computes at the rounded point.
                let x = if dtype == DType::F32 {
                    f64::from(x as f32)
                } else {
                    x
                };
                for (found, expected) in [y, slope].into_iter().zip(formula(activation, x)) {
                    assert!(
                        (found - expected).abs() < tolerance,
                        "{activation} at {x}: {found}, expected {expected}, {dtype:?} on {device:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn activations_are_finite_far_from_0_and_pass_nan_on() {
    for device in processors() {
        for dtype in [DType::F32, DType::F64] {
            for activation in Activation::ALL {
                let data = TensorData::from([[-1e30f64, -800.0, 0.0, 800.0, 1e30]]);
                let input = Tensor::<2>::from_data(data, (&device.clone().autodiff(), dtype));
                let input = input.require_grad();
                let output = activation.forward(input.clone());
                let gradient = input.grad(&output.clone().sum().backward()).unwrap();
                for value in values(output).into_iter().chain(values(gradient)) {
                    assert!(value.is_finite(), "{activation}, {dtype:?} on {device:?}");
                }
                let nan = Tensor::<1>::from_data([f64::NAN], (&device, dtype));
                let output = values(activation.forward(nan));
                assert!(output[0].is_nan(), "{activation} of NaN: {output:?}");
            }
        }
    }
}

#[test]
fn names_round_trip() {
    fn check<T>(all: &[T], names: &[&str])
    where
        T: std::fmt::Display + std::fmt::Debug + PartialEq,
        T: std::str::FromStr<Err = UnknownName>,
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        assert_eq!(all.len(), names.len());
        for (value, name) in all.iter().zip(names) {
            assert_eq!(value.to_string(), *name);
            assert_eq!(name.parse::<T>().as_ref(), Ok(value));
            let json = serde_json::to_string(value).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
        }
        assert!(serde_json::from_str::<T>("0").is_err());
    }
    check(
        &InitStrategy::ALL,
        &["zeros", "standard-normal", "small-normal", "xavier", "he"],
    );
    check(
        &Activation::ALL,
        &[
            "sigmoid",
            "tanh",
            "relu",
            "leaky-relu",
            "gelu",
            "selu",
            "silu",
        ],
    );
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let error = "glorot".parse::<InitStrategy>().unwrap_err();
    let message = "unknown initialisation `glorot`; valid names are: \
                   zeros, standard-normal, small-normal, xavier, he";
    assert_eq!(error.to_string(), message);
    let error = serde_json::from_str::<InitStrategy>("\"glorot\"").unwrap_err();
    assert!(error.to_string().starts_with(message));

    let error = "ReLU".parse::<Activation>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown activation `ReLU`; valid names are: sigmoid, tanh, relu, leaky-relu, gelu, selu, silu"
    );
}

#[test]
fn gains_are_pytorchs_but_selus() {
    for case in pytorch::cases("gains") {
        let ours = match (pytorch::text(&case["nonlinearity"]), case["param"].as_f64()) {
            ("sigmoid", _) => Activation::Sigmoid.gain(),
            ("tanh", _) => Activation::Tanh.gain(),
            ("relu", _) => Activation::Relu.gain(),
            ("leaky_relu", Some(0.01)) => Activation::LeakyRelu.gain(),
            // PyTorch takes 3/4 "for self-normalisation", which shrinks the signal; the paper's weights have 1.
            ("selu", _) => 0.75 * Activation::Selu.gain(),
            _ => continue,
        };
        let gain = pytorch::number(&case["gain"]);
        assert!((ours / gain - 1.0).abs() < 1e-14, "{case}: {ours}");
    }
}

#[test]
fn gradients_of_far_inputs_are_finite() {
    for device in devices() {
        for activation in Activation::ALL {
            let input = Tensor::<1>::from_data(
                [-1e4_f32, -200.0, 0.0, 200.0, 1e4],
                &device.clone().autodiff(),
            );
            let input = input.require_grad();
            let gradients = activation.forward(input.clone()).sum().backward();
            let gradient = values(input.grad(&gradients).unwrap());
            assert!(
                gradient.iter().all(|x| x.is_finite()),
                "{activation}: {gradient:?}"
            );
        }
    }
}
