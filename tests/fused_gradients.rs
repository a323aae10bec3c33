//! Compares the gradients of each backend's fused batch norm with an oracle in f64 and with automatic differentiation
//! of `op::reference`.

#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod oracle;

use burn::tensor::{Device, FloatDType, Tensor, s};
use burn_kindling::norm::op::{self, reference};
use oracle::{
    Array, EPSILON, assert_close, devices, devices_with, is_processor, parameters, sample, shapes,
    tensor1, tensor3, to_f64,
};
use proptest::prelude::*;

/// The gradients of `sum(output * gradient)`.
struct Found {
    input: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
}

/// Values for an input, gamma, beta and the gradient of the output.
struct Case {
    array: Array,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    gradient: Vec<f64>,
}

impl Case {
    fn new(batch: usize, channels: usize, inner: usize, seed: u64) -> Self {
        let (gamma, beta) = parameters(channels, seed);
        Self {
            array: sample(batch, channels, inner, seed),
            gamma,
            beta,
            gradient: sample(batch, channels, inner, !seed).values,
        }
    }

    fn run(
        &self,
        device: &Device,
        forward: impl FnOnce(Tensor<3>, Tensor<1>, Tensor<1>) -> Tensor<3>,
    ) -> Found {
        let device = device.clone().autodiff();
        let f32 = FloatDType::F32;
        let input = tensor3(&self.array, f32, &device).require_grad();
        let gamma = tensor1(&self.gamma, f32, &device).require_grad();
        let beta = tensor1(&self.beta, f32, &device).require_grad();
        let gradient = Array {
            values: self.gradient.clone(),
            ..self.array.clone()
        };
        let output = forward(input.clone(), gamma.clone(), beta.clone());
        let gradients = (output * tensor3(&gradient, f32, &device)).sum().backward();
        Found {
            input: to_f64(
                input
                    .grad(&gradients)
                    .expect("the input requires a gradient"),
            ),
            gamma: to_f64(gamma.grad(&gradients).expect("gamma requires a gradient")),
            beta: to_f64(beta.grad(&gradients).expect("beta requires a gradient")),
        }
    }

    /// An upper bound for gradients of this case. Errors are relative to it.
    fn scale(&self, variance: &[f64]) -> f64 {
        self.gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| gamma.abs() / (variance + EPSILON).sqrt())
            .fold(1.0, f64::max)
            * self.gradient.iter().fold(1.0, |max, g| g.abs().max(max))
    }

    /// The largest rounding errors of the gradients of gamma and of beta.
    ///
    /// The CPU kernels add up in f64: they round only the deviation in each term of gamma's sum, and each sum once.
    /// Others add up in f32: each term is off by at most 3 roundings, and goes through some 15 additions. The error is
    /// relative to the size of the terms, which is far larger than a sum in which they cancel.
    fn sums_can_be_off(&self, mean: &[f64], variance: &[f64], in_f64: bool) -> (f64, f64) {
        let rounding = f64::from(f32::EPSILON / 2.0);
        let (mut for_gamma, mut for_beta) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
        for (index, (x, g)) in self.array.values.iter().zip(&self.gradient).enumerate() {
            let c = index / self.array.inner % self.array.channels;
            for_gamma[c] += (g * (x - mean[c])).abs() / (variance[c] + EPSILON).sqrt();
            for_beta[c] += g.abs();
        }
        let largest = |sums: Vec<f64>| sums.into_iter().fold(1.0, f64::max);
        if in_f64 {
            return (2.0 * rounding * largest(for_gamma), 2.0 * rounding);
        }
        let run = 18.0 * rounding;
        (run * largest(for_gamma), run * largest(for_beta))
    }

    fn check_train(&self, device: &Device) {
        let found = self.run(device, |input, gamma, beta| {
            op::batch_norm_train(input, Some(gamma), Some(beta), EPSILON).output
        });
        let (mean, variance) = self.array.statistics();
        let expected = self.array.gradients(
            &self.gradient,
            &mean,
            &variance,
            &self.gamma,
            EPSILON,
            false,
        );
        let scale = self.scale(&variance);
        assert_close("input", &found.input, &expected.input_grad, 2e-6 * scale);
        let (for_gamma, for_beta) = self.sums_can_be_off(&mean, &variance, is_processor(device));
        assert_close("gamma", &found.gamma, &expected.gamma_grad, for_gamma);
        assert_close("beta", &found.beta, &expected.beta_grad, for_beta);
        if self.array.batch * self.array.inner > 1 && is_processor(device) {
            let by_reference = self.run(device, |input, gamma, beta| {
                reference::batch_norm_train(input, Some(gamma), Some(beta), EPSILON).output
            });
            let (for_gamma, for_beta) = self.sums_can_be_off(&mean, &variance, false);
            assert_close(
                "reference input",
                &found.input,
                &by_reference.input,
                1e-4 * scale,
            );
            assert_close(
                "reference gamma",
                &found.gamma,
                &by_reference.gamma,
                10.0 * for_gamma,
            );
            assert_close(
                "reference beta",
                &found.beta,
                &by_reference.beta,
                10.0 * for_beta,
            );
        }
    }

    fn check_inference(&self, device: &Device) {
        let channels = self.array.channels;
        let mean: Vec<f64> = (0..channels)
            .map(|c| f64::from(0.3 * c as f32 - 1.0))
            .collect();
        let variance: Vec<f64> = (0..channels)
            .map(|c| f64::from(0.5 + 0.1 * c as f32))
            .collect();
        let given = |device: &Device| {
            let device = device.clone().autodiff();
            (
                tensor1(&mean, FloatDType::F32, &device),
                tensor1(&variance, FloatDType::F32, &device),
            )
        };
        let found = self.run(device, |input, gamma, beta| {
            let (mean, variance) = given(device);
            op::batch_norm_inference(input, mean, variance, Some(gamma), Some(beta), EPSILON)
        });
        let expected =
            self.array
                .gradients(&self.gradient, &mean, &variance, &self.gamma, EPSILON, true);
        assert_close("input", &found.input, &expected.input_grad, 2e-6);
        let (for_gamma, for_beta) = self.sums_can_be_off(&mean, &variance, is_processor(device));
        assert_close("gamma", &found.gamma, &expected.gamma_grad, for_gamma);
        assert_close("beta", &found.beta, &expected.beta_grad, for_beta);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agree_with_the_oracle((batch, channels, inner) in shapes(), seed: u64) {
        let case = Case::new(batch, channels, inner, seed);
        for device in devices() {
            case.check_train(&device);
            case.check_inference(&device);
        }
    }
}

#[test]
fn agree_with_the_oracle_where_the_work_is_cut() {
    for (batch, channels, inner) in [
        (256, 1024, 1),
        (3001, 97, 1),
        (70_000, 5, 1),
        (64, 130, 49),
        (32, 33, 784),
        (3, 2, 100_003),
    ] {
        let case = Case::new(batch, channels, inner, 23);
        for device in devices() {
            case.check_train(&device);
            case.check_inference(&device);
        }
    }
}

#[test]
fn statistics_that_are_given_get_gradients_too() {
    for device in devices() {
        let device = device.autodiff();
        let case = Case::new(6, 5, 7, 31);
        let f32 = FloatDType::F32;
        let run = |fused: bool| {
            let input = tensor3(&case.array, f32, &device);
            let mean = tensor1(&[0.1, -0.2, 0.3, 0.0, 1.0], f32, &device).require_grad();
            let variance = tensor1(&[1.0, 2.0, 0.5, 0.1, 3.0], f32, &device).require_grad();
            let gamma = Some(tensor1(&case.gamma, f32, &device));
            let beta = Some(tensor1(&case.beta, f32, &device));
            let (m, v) = (mean.clone(), variance.clone());
            let output = if fused {
                op::batch_norm_inference(input, m, v, gamma, beta, EPSILON)
            } else {
                reference::batch_norm_inference(input, m, v, gamma, beta, EPSILON)
            };
            let gradient = Array {
                values: case.gradient.clone(),
                ..case.array.clone()
            };
            let gradients = (output * tensor3(&gradient, f32, &device)).sum().backward();
            [mean, variance].map(|leaf| {
                to_f64(
                    leaf.grad(&gradients)
                        .expect("a leaf that requires a gradient"),
                )
            })
        };
        let ([mean, variance], [mean_expected, variance_expected]) = (run(true), run(false));
        assert_close("mean", &mean, &mean_expected, 1e-5);
        assert_close("variance", &variance, &variance_expected, 1e-5);
    }
}

/// For values near 1e4, the mean in f32 is off by up to 5% of a deviation. The backward pass must not take it as exact.
#[test]
fn a_small_deviation_from_a_large_mean_is_not_lost() {
    for (batch, channels, inner) in [(5000, 3, 1), (5, 3, 1000)] {
        let mut case = Case::new(batch, channels, inner, 41);
        for value in &mut case.array.values {
            *value = f64::from((1e4 + 1e-2 * *value) as f32);
        }
        let (mean, variance) = case.array.statistics();
        let expected = case.array.gradients(
            &case.gradient,
            &mean,
            &variance,
            &case.gamma,
            EPSILON,
            false,
        );
        for device in devices() {
            let found = case.run(&device, |input, gamma, beta| {
                op::batch_norm_train(input, Some(gamma), Some(beta), EPSILON).output
            });
            let (for_gamma, _) = case.sums_can_be_off(&mean, &variance, is_processor(&device));
            assert_close("gamma", &found.gamma, &expected.gamma_grad, for_gamma);
            assert_close(
                "input",
                &found.input,
                &expected.input_grad,
                2e-6 * case.scale(&variance),
            );
        }
    }
}

/// The gradient has another layout than the input, is broadcast from one value, or is a view.
#[test]
fn gradients_of_views() {
    type View = fn(Tensor<4>) -> Tensor<4>;
    for device in devices() {
        let device = device.autodiff();
        let array = sample(4, 6 * 9, 69, 51);
        let run = |view: View, whole: bool, fused: bool| {
            let leaf = tensor3(&array, FloatDType::F32, &device).require_grad();
            let input = view(leaf.clone().reshape([4, 6, 9, 69]));
            let output = if fused {
                op::batch_norm_train(input, None, None, EPSILON).output
            } else {
                reference::batch_norm_train(input, None, None, EPSILON).output
            };
            let loss = if whole {
                output.sum()
            } else {
                (output.swap_dims(2, 3).slice(s![0..3]).powi_scalar(3)).sum()
            };
            to_f64(
                leaf.grad(&loss.backward())
                    .expect("the leaf requires a gradient"),
            )
        };
        let views: [(&str, View); 4] = [
            ("as it is", |input| input),
            ("channels last", |input| input.permute([0, 3, 1, 2])),
            ("rows with a pitch", |input| {
                input.slice(s![.., .., .., ..5])
            }),
            ("rows of channels with a pitch", |input| {
                input.reshape([4 * 6 * 9, 69, 1, 1]).slice(s![.., ..5])
            }),
        ];
        for (what, view) in views {
            for whole in [false, true] {
                assert_close(
                    what,
                    &run(view, whole, true),
                    &run(view, whole, false),
                    2e-5,
                );
            }
        }
    }
}

/// The backward pass may overwrite the incoming gradient, but no tensor that others hold.
#[test]
fn tensors_that_others_hold_are_left_alone() {
    for device in devices() {
        let device = device.autodiff();
        let array = sample(8, 40, 100, 61);
        let input = tensor3(&array, FloatDType::F32, &device).require_grad();
        let output = op::batch_norm_train(input.clone(), None, None, EPSILON).output;
        // The gradient of `a + b` is one tensor that both get.
        let twin = input.clone() * 1.0;
        let gradients = ((output + twin).powi_scalar(2) * 0.5).sum().backward();
        let found = to_f64(
            input
                .grad(&gradients)
                .expect("the input requires a gradient"),
        );
        assert_eq!(to_f64(input.clone()), array.values);

        let (mean, variance) = array.statistics();
        let ones = vec![1.0; 40];
        let sum: Vec<f64> = array
            .inference(&mean, &variance, &ones, &vec![0.0; 40], EPSILON)
            .iter()
            .zip(&array.values)
            .map(|(y, x)| x + y)
            .collect();
        let through = array.gradients(&sum, &mean, &variance, &ones, EPSILON, false);
        let expected: Vec<f64> = through
            .input_grad
            .iter()
            .zip(&sum)
            .map(|(a, b)| a + b)
            .collect();
        assert_close("input", &found, &expected, 1e-4);
    }
}

#[test]
fn only_what_requires_a_gradient_gets_one() {
    for device in devices() {
        let device = device.autodiff();
        let input = tensor3(&sample(8, 4, 10, 71), FloatDType::F32, &device);
        let gamma = Tensor::<1>::ones([4], &device).require_grad();
        let beta = Tensor::<1>::zeros([4], &device);
        let found = op::batch_norm_train(
            input.clone(),
            Some(gamma.clone()),
            Some(beta.clone()),
            EPSILON,
        );
        assert!(!found.mean.is_require_grad() && !found.variance.is_require_grad());
        let gradients = found.output.sum().backward();
        assert!(gamma.grad(&gradients).is_some());
        assert!(input.grad(&gradients).is_none());
        assert!(beta.grad(&gradients).is_none());
    }
}

#[test]
fn gradients_with_checkpointing() {
    for device in devices() {
        let case = Case::new(8, 4, 100, 81);
        let run = |device: Device| {
            let input = tensor3(&case.array, FloatDType::F32, &device).require_grad();
            // Cheap operations before and after, which the strategy computes again.
            let output = op::batch_norm_train(input.clone().exp(), None, None, EPSILON).output;
            let gradients = output.tanh().sum().backward();
            to_f64(
                input
                    .grad(&gradients)
                    .expect("the input requires a gradient"),
            )
        };
        let kept = run(device.clone().autodiff());
        let computed_again = run(device.autodiff().gradient_checkpointing());
        assert_eq!(kept, computed_again);
    }
}

/// Values are far from 0 and terms cancel, but the sums in f64 are rounded only once. (Runs of 16 in f32 were off by up
/// to 9 roundings.)
#[test]
fn sums_on_a_processor_are_rounded_once() {
    let rounding = f64::from(f32::EPSILON / 2.0);
    for device in devices().iter().filter(|device| is_processor(device)) {
        for (seed, (batch, channels, inner)) in (0..).zip([
            (33, 2, 10),
            (33, 2, 10),
            (400, 40, 1),
            (9, 5, 200),
            (7, 3, 65),
        ]) {
            let mut case = Case::new(batch, channels, inner, seed);
            for value in &mut case.array.values {
                *value = f64::from((*value + 1e3) as f32);
            }
            let found = case.run(device, |input, gamma, beta| {
                op::batch_norm_train(input, Some(gamma), Some(beta), EPSILON).output
            });
            let (mean, variance) = case.array.statistics();
            let (array, gamma) = (&case.array, &case.gamma);
            let gradients =
                array.gradients(&case.gradient, &mean, &variance, gamma, EPSILON, false);
            // Rounded are: beta's sum; gamma's sum, and the variance that divides it.
            for (found, expected, roundings) in [
                (found.beta, gradients.beta_grad, 1.0),
                (found.gamma, gradients.gamma_grad, 2.0),
            ] {
                for (found, expected) in found.iter().zip(&expected) {
                    let error = (found - expected).abs() / expected.abs();
                    assert!(
                        error <= 1.01 * roundings * rounding,
                        "{batch} x {channels} x {inner}: found {found}, expected {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    for device in devices() {
        for (batch, channels, inner) in [
            (256, 1024, 1),
            (70_000, 5, 1),
            (32, 33, 784),
            (3, 2, 100_003),
        ] {
            let case = Case::new(batch, channels, inner, 91);
            let with_threads = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .expect("a pool of so few threads")
                    .install(|| {
                        let found = case.run(&device, |input, gamma, beta| {
                            op::batch_norm_train(input, Some(gamma), Some(beta), EPSILON).output
                        });
                        [found.input, found.gamma, found.beta]
                    })
            };
            let one = with_threads(1);
            assert_eq!(one, with_threads(2));
            assert_eq!(one, with_threads(3));
        }
    }
}

#[test]
fn half_precision() {
    for (dtype, half_ulp) in [
        (FloatDType::F16, 1.0 / 2048.0),
        (FloatDType::BF16, 1.0 / 256.0),
    ] {
        for device in devices_with(dtype) {
            let device = device.autodiff();
            let case = Case::new(50, 7, 90, 101);
            let input = tensor3(&case.array, dtype, &device).require_grad();
            let gradient = tensor3(
                &Array {
                    values: case.gradient.clone(),
                    ..case.array.clone()
                },
                dtype,
                &device,
            );
            let gamma = tensor1(&case.gamma, FloatDType::F32, &device).require_grad();
            let output =
                op::batch_norm_train(input.clone(), Some(gamma.clone()), None, EPSILON).output;
            // The gradient of this sum with respect to `output` is `gradient` itself.
            let gradients = (output * gradient.clone()).sum().backward();

            let array = Array {
                values: to_f64(input.clone()),
                ..case.array.clone()
            };
            let (mean, variance) = array.statistics();
            let expected = array.gradients(
                &to_f64(gradient),
                &mean,
                &variance,
                &case.gamma,
                EPSILON,
                false,
            );
            let found = to_f64(
                input
                    .grad(&gradients)
                    .expect("the input requires a gradient"),
            );
            assert_close("input", &found, &expected.input_grad, 1.01 * half_ulp);
            let found = to_f64(gamma.grad(&gradients).expect("gamma requires a gradient"));
            assert_close("gamma", &found, &expected.gamma_grad, 1e-4);
        }
    }
}
