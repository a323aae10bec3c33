//! The five strategies and the activations: names, formulas, recommendations.

use burn::tensor::Tensor;
use burn_kindling::init::{Activation, InitStrategy, UnknownName};

use crate::{devices::devices, phi, pytorch, values};

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

#[test]
fn activations_follow_their_formulas() {
    let points = [-6.0f64, -2.5, -1.0, -0.1, 0.0, 0.3, 1.0, 4.0];
    for device in devices() {
        for activation in Activation::ALL {
            let input = Tensor::<2>::from_data([points.map(|x| x as f32)], &device);
            let output = values(activation.forward(input));
            for (x, y) in points.into_iter().zip(output) {
                let expected = match activation {
                    Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                    Activation::Tanh => x.tanh(),
                    Activation::Relu => x.max(0.0),
                    Activation::LeakyRelu => x.max(0.01 * x),
                    Activation::Gelu => x * phi(x),
                    Activation::Selu if x > 0.0 => 1.0507009873554805 * x,
                    Activation::Selu => 1.0507009873554805 * 1.6732632423543772 * x.exp_m1(),
                    Activation::Silu => x / (1.0 + (-x).exp()),
                };
                assert!(
                    (y - expected).abs() < 2e-6,
                    "{activation}({x}) = {y}, expected {expected}"
                );
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
