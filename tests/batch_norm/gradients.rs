//! Compares gradients in f64 with central differences, over generated shapes and options.

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, op};
use proptest::prelude::*;

use crate::{assert_close, devices_with, init, numbers, processors, tensor};

/// A problem: the input, gamma, beta and the weights of the output in the loss, from one seed.
#[derive(Clone, Debug)]
struct Problem {
    shape: [usize; 3],
    affine: bool,
    running: bool,
    epsilon: f64,
    values: Vec<f64>,
}

fn problems() -> impl Strategy<Value = Problem> {
    (
        2usize..5,
        1usize..4,
        1usize..4,
        any::<bool>(),
        any::<bool>(),
        prop::sample::select(vec![1e-5, 1e-2]),
    )
        .prop_flat_map(|(batch, channels, length, affine, running, epsilon)| {
            let count = batch * channels * length * 2 + channels * 4;
            prop::collection::vec(-2.0f64..2.0, count).prop_map(move |values| Problem {
                shape: [batch, channels, length],
                affine,
                running,
                epsilon,
                values,
            })
        })
}

impl Problem {
    /// The input, its weights in the loss, and gamma, beta, mean and variance.
    fn parts(&self) -> [Vec<f64>; 6] {
        let ([batch, channels, length], mut rest) = (self.shape, self.values.as_slice());
        let mut take = |count: usize| {
            let (taken, left) = rest.split_at(count);
            rest = left;
            taken.to_vec()
        };
        let count = batch * channels * length;
        let x: Vec<f64> = take(count)
            .iter()
            .enumerate()
            .map(|(i, x)| x + (i * i % 7) as f64)
            .collect();
        let (g, gamma, beta, mean) = (take(count), take(channels), take(channels), take(channels));
        let variance = take(channels).iter().map(|v| 0.1 + v * v).collect();
        [x, g, gamma, beta, mean, variance]
    }

    fn layer(&self, device: &Device) -> BatchNorm {
        let [_, channels, _] = self.shape;
        let config = BatchNormConfig::new(channels)
            .with_affine(self.affine)
            .with_running_statistics(self.running)
            .with_epsilon(self.epsilon);
        init(&config, DType::F64, device)
    }
}

/// The derivative of the loss with respect to each number, by central differences.
fn differences(at: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    const STEP: f64 = 1e-5;
    let mut moved = at.to_vec();
    (0..at.len())
        .map(|index| {
            moved[index] = at[index] + STEP;
            let above = loss(&moved);
            moved[index] = at[index] - STEP;
            let below = loss(&moved);
            moved[index] = at[index];
            (above - below) / (2.0 * STEP)
        })
        .collect()
}

/// Panics unless the gradients agree to a relative 1e-6, plus the rounding error of the differences.
#[track_caller]
fn assert_gradient(what: &str, found: &[f64], expected: &[f64]) {
    let scale = expected.iter().fold(1.0f64, |scale, x| scale.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-6 * scale,
            "{what}: {found} against {expected}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn of_the_module_in_every_mode(problem in problems(), by_running in any::<bool>()) {
        let [x, g, gamma, beta, ..] = problem.parts();
        let [_, channels, _] = problem.shape;
        let mode = if by_running { Mode::Inference } else { Mode::Training };
        for device in devices_with(DType::F64) {
            let training = device.clone().autodiff();
            let run = |x: &[f64], gamma: &[f64], beta: &[f64], device: &Device| {
                let mut norm = problem.layer(device);
                if problem.affine {
                    let param = |values: &[f64]| Param::from_tensor(tensor(values, [channels], DType::F64, device));
                    norm.gamma = param(gamma);
                    norm.beta = param(beta);
                }
                let x = tensor(x, problem.shape, DType::F64, device);
                let x = if device.is_autodiff() { x.require_grad() } else { x };
                let loss = mode.run(|| norm.forward(x.clone())) * tensor(&g, problem.shape, DType::F64, device);
                (norm, x, loss.sum())
            };
            let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| numbers(run(x, gamma, beta, &device).2)[0];

            let (norm, input, total) = run(&x, &gamma, &beta, &training);
            let grads = total.backward();

            let found = numbers(input.grad(&grads).unwrap());
            assert_gradient("input", &found, &differences(&x, |x| loss(x, &gamma, &beta)));
            if problem.affine {
                let found = numbers(norm.gamma.grad(&grads).unwrap());
                assert_gradient("gamma", &found, &differences(&gamma, |gamma| loss(&x, gamma, &beta)));
                let found = numbers(norm.beta.grad(&grads).unwrap());
                assert_gradient("beta", &found, &differences(&beta, |beta| loss(&x, &gamma, beta)));
            }
        }
    }

    #[test]
    fn of_inference_in_the_statistics_too(problem in problems()) {
        let [x, g, gamma, beta, mean, variance] = problem.parts();
        let [_, channels, _] = problem.shape;
        for device in devices_with(DType::F64) {
            let training = device.clone().autodiff();
            let run = |mean: &[f64], variance: &[f64], device: &Device| {
                let leaf = |values: &[f64]| {
                    let leaf = tensor(values, [channels], DType::F64, device);
                    if device.is_autodiff() { leaf.require_grad() } else { leaf }
                };
                let (mean, variance) = (leaf(mean), leaf(variance));
                let output = op::batch_norm_inference(
                    tensor(&x, problem.shape, DType::F64, device),
                    mean.clone(),
                    variance.clone(),
                    problem.affine.then(|| leaf(&gamma)),
                    problem.affine.then(|| leaf(&beta)),
                    problem.epsilon,
                );
                (mean, variance, (output * tensor(&g, problem.shape, DType::F64, device)).sum())
            };
            let loss = |mean: &[f64], variance: &[f64]| numbers(run(mean, variance, &device).2)[0];

            let (mean_leaf, variance_leaf, total) = run(&mean, &variance, &training);
            let grads = total.backward();

            let found = numbers(mean_leaf.grad(&grads).unwrap());
            assert_gradient("mean", &found, &differences(&mean, |mean| loss(mean, &variance)));
            let found = numbers(variance_leaf.grad(&grads).unwrap());
            assert_gradient("variance", &found, &differences(&variance, |variance| loss(&mean, variance)));
        }
    }
}

#[test]
fn through_two_layers() {
    for device in processors() {
        let training = device.clone().autodiff();
        let x: Vec<f64> = (0..24)
            .map(|i| f64::from(i * i % 11) - 3.0 + f64::from(i) * 0.1)
            .collect();
        let norms = |device: &Device| {
            (0..2)
                .map(|_| init(&BatchNormConfig::new(3), DType::F64, device))
                .collect::<Vec<_>>()
        };
        let run = |x: Tensor<2>, norms: &[BatchNorm]| {
            Mode::Training.run(|| {
                let middle = norms[0].forward(x).tanh();
                norms[1].forward(middle).powi_scalar(3).sum()
            })
        };
        let leaf = tensor(&x, [8, 3], DType::F64, &training).require_grad();
        let grads = run(leaf.clone(), &norms(&training)).backward();
        let expected = differences(&x, |x| {
            numbers(run(tensor(x, [8, 3], DType::F64, &device), &norms(&device)))[0]
        });
        assert_close(
            "input",
            &numbers(leaf.grad(&grads).unwrap()),
            &expected,
            1e-6,
        );
    }
}
