//! Initialisation: schemes, fans, whole models.

mod calibration;
#[path = "../common/devices.rs"]
mod devices;
mod fans;
mod mean_field;
mod models;
mod pytorch;
#[path = "../common/resnets.rs"]
mod resnets;
mod schemes;
mod strategies;
mod theory;

use std::f64::consts::PI;

use burn::tensor::Tensor;

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The distribution function of N(0, 1), by Marsaglia's series.
fn phi(x: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

/// Asserts that an estimate lies within 5 of its standard errors.
#[track_caller]
fn assert_within_5_sigma(what: &str, found: f64, expected: f64, standard_error: f64) {
    let sigmas = (found - expected) / standard_error;
    assert!(
        sigmas.abs() < 5.0,
        "{what}: found {found}, expected {expected}, {sigmas:.1} standard errors away"
    );
}

/// Asserts that these are weights of mean 0 and this standard deviation.
#[track_caller]
fn assert_mean_and_std(values: &[f64], std: f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    assert_within_5_sigma("mean", mean, 0.0, std / n.sqrt());
    assert_within_5_sigma("std", variance.sqrt(), std, std / (2.0 * n).sqrt());
}

#[test]
fn the_normal_distribution_function_is_right() {
    // Abramowitz & Stegun, table 26.1.
    for (x, p) in [
        (0.0, 0.5),
        (1.0, 0.841344746068543),
        (2.0, 0.977249868051821),
        (-3.0, 0.001349898031630),
        (5.0, 0.999999713348428),
    ] {
        assert!((phi(x) - p).abs() < 1e-14, "phi({x}) = {}", phi(x));
    }
}
