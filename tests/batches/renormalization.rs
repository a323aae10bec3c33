//! Batch renormalisation, against the paper's formulas in f64.

use burn::module::Module;
use burn::tensor::{DType, FloatDType, Tensor};
use burn_kindling::norm::{BatchNormConfig, Mode, Renormalization};

use crate::devices::{any_device, devices_with};
use crate::network::Cast;
use crate::{assert_close, noise, numbers, panic_of, tensor};

#[test]
fn it_computes_the_formulas_of_the_paper() {
    for device in devices_with(DType::F64) {
        let device = device.autodiff();
        let values = |values: &[f64]| tensor::<1>(values, [values.len()], DType::F64, &device);
        let (gamma, beta) = ([1.5, -0.5, 2.0], [0.1, 0.2, -0.3]);
        let (mean, variance) = ([0.4, -0.2, 30.0], [0.5, 2.0, 0.01]);
        let x = noise(3, 12);
        let weights = noise(4, 12);
        for (max_scale, max_shift) in [(1.0, 0.0), (1.2, 0.1), (3.0, 5.0), (1e9, 1e9)] {
            let mut norm = BatchNormConfig::new(3).init(&device);
            norm.gamma = norm.gamma.map(|_| values(&gamma).require_grad());
            norm.beta = norm.beta.map(|_| values(&beta).require_grad());
            let norm = norm.map(&mut Cast(FloatDType::F64));
            norm.set_running(values(&mean), values(&variance));
            let input = tensor::<2>(&x, [4, 3], DType::F64, &device).require_grad();
            let limits = Renormalization::new(max_scale, max_shift);
            let output = limits.run(|| norm.forward(input.clone()));

            let column = |values: &[f64], channel: usize| -> Vec<f64> {
                values.iter().skip(channel).step_by(3).copied().collect()
            };
            let of = tensor::<2>(&weights, [4, 3], DType::F64, &device);
            let gradients = (output.clone() * of).sum().backward();
            let found = numbers(output);
            let gradient = numbers(input.grad(&gradients).unwrap());
            for channel in 0..3 {
                let x = column(&x, channel);
                let g = column(&weights, channel);
                let average = |values: &[f64]| values.iter().sum::<f64>() / 4.0;
                let batch_mean = average(&x);
                let squares: Vec<_> = x.iter().map(|x| (x - batch_mean).powi(2)).collect();
                let deviation = (average(&squares) + 1e-5).sqrt();
                let running = (variance[channel] + 1e-5).sqrt();
                let r = (deviation / running).clamp(1.0 / max_scale, max_scale);
                let d = ((batch_mean - mean[channel]) / running).clamp(-max_shift, max_shift);
                let xhat: Vec<_> = x.iter().map(|x| (x - batch_mean) / deviation).collect();
                let expected: Vec<_> = xhat
                    .iter()
                    .map(|xhat| gamma[channel] * (xhat * r + d) + beta[channel])
                    .collect();
                assert_close("output", &column(&found, channel), &expected, 1e-12);
                let products: Vec<_> = g.iter().zip(&xhat).map(|(g, xhat)| g * xhat).collect();
                let expected: Vec<_> = g
                    .iter()
                    .zip(&xhat)
                    .map(|(g, xhat)| {
                        gamma[channel] * r / deviation
                            * (g - average(&g_of(&weights, channel)) - xhat * average(&products))
                    })
                    .collect();
                assert_close("gradient", &column(&gradient, channel), &expected, 1e-11);
            }
        }
    }
}

fn g_of(weights: &[f64], channel: usize) -> Vec<f64> {
    weights.iter().skip(channel).step_by(3).copied().collect()
}

#[test]
fn within_wide_limits_the_output_is_that_of_inference() {
    let device = any_device().autodiff();
    let statistics = |value: f64| Tensor::<1>::full([2], value, &device);
    let norm = BatchNormConfig::new(2).init(&device);
    let norm = norm.with_running(statistics(0.5), statistics(3.0));
    let x = tensor::<2>(&noise(1, 10), [5, 2], DType::F32, &device);
    let expected = Mode::Inference.run(|| norm.forward(x.clone()));
    let found = Renormalization::new(1e6, 1e6).run(|| norm.forward(x));
    assert_close("output", &numbers(found), &numbers(expected), 1e-5);
}

#[test]
fn the_limits_rise_as_in_the_paper() {
    let limits = |step| {
        let limits = Renormalization::at(step);
        (limits.max_scale, limits.max_shift)
    };
    assert_eq!(limits(0), (1.0, 0.0));
    assert_eq!(limits(5_000), (1.0, 0.0));
    assert_eq!(limits(15_000).1, 2.5);
    assert_eq!(limits(22_500).0, 2.0);
    assert_eq!(limits(40_000), (3.0, 5.0));
    assert_eq!(limits(1_000_000), (3.0, 5.0));
}

#[test]
fn limits_that_are_none_are_refused() {
    for (scale, shift) in [(0.9, 0.0), (1.0, -0.1), (f64::NAN, 0.0), (1.0, f64::NAN)] {
        assert!(
            panic_of(|| Renormalization::new(scale, shift)).contains("max_scale of at least 1")
        );
    }
    let device = any_device().autodiff();
    let norm = BatchNormConfig::new(2)
        .with_running_statistics(false)
        .init(&device);
    let x = Tensor::<2>::ones([3, 2], &device);
    let failure = panic_of(|| Renormalization::new(2.0, 1.0).run(|| norm.forward(x)));
    assert!(failure.contains("keeps no running statistics"), "{failure}");
}
