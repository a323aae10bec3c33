//! The five strategies and the activations: names, formulas, recommendations.

use burn::tensor::Tensor;
use burn_kindling::init::{Activation, InitStrategy, UnknownName};

use crate::{devices::devices, phi, values};

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
            "gelu: he"
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
        &["sigmoid", "tanh", "relu", "leaky-relu", "gelu"],
    );
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let error = "glorot".parse::<InitStrategy>().unwrap_err();
    let message = "unknown initialisation `glorot`; the names are: \
                   zeros, standard-normal, small-normal, xavier, he";
    assert_eq!(error.to_string(), message);
    let error = serde_json::from_str::<InitStrategy>("\"glorot\"").unwrap_err();
    assert!(error.to_string().starts_with(message));

    let error = "ReLU".parse::<Activation>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown activation `ReLU`; the names are: sigmoid, tanh, relu, leaky-relu, gelu"
    );
}
