//! Workers in a group compute what one worker would on all their batches.

use std::sync::{Arc, Mutex};
use std::thread;

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_kindling::norm::op::Exchange;
use burn_kindling::norm::{BatchNormConfig, SyncGroup};
use serde_json::Value;

use crate::network::{Cast, INPUTS, Network, Outcome, running, step};
use crate::{
    assert_close,
    devices::{any_device, devices_with, is_processor},
    noise, numbers, tensor,
};

/// The rows of each worker.
const SHARES: [&[usize]; 7] = [
    &[8],
    &[4, 4],
    &[7, 2],
    &[1, 6],
    &[5, 0],
    &[3, 1, 4],
    &[2, 0, 3, 1, 1, 5, 0, 4],
];

/// Runs a step on each worker's share, and returns the outcomes in the order of workers.
fn workers(
    group: &SyncGroup,
    network: &Network,
    batch: &[f64],
    weights: &[f64],
    shares: &[usize],
    (dtype, device): (DType, &Device),
) -> Vec<Outcome> {
    thread::scope(|threads| {
        let mut start = 0;
        let workers: Vec<_> = shares
            .iter()
            .map(|&rows| {
                let range = start..start + rows;
                start += rows;
                let fork = network.clone().fork(device);
                threads.spawn(move || {
                    let rows = range.start * INPUTS..range.end * INPUTS;
                    let input = tensor(&batch[rows], [range.len(), INPUTS], dtype, device);
                    let weights = tensor(&weights[range.clone()], [range.len()], dtype, device);
                    group.run(|| step(&fork, input, weights))
                })
            })
            .collect();
        let outcomes = workers.into_iter().map(|worker| worker.join().unwrap());
        outcomes.collect()
    })
}

fn sums(outcomes: &[Outcome]) -> Vec<Vec<f64>> {
    let mut sums = outcomes[0].gradients.clone();
    for outcome in &outcomes[1..] {
        for (sum, gradient) in sums.iter_mut().zip(&outcome.gradients) {
            for (sum, gradient) in sum.iter_mut().zip(gradient) {
                *sum += gradient;
            }
        }
    }
    sums
}

#[test]
fn several_workers_compute_what_one_would() {
    for dtype in [DType::F64, DType::F32] {
        for device in devices_with(dtype) {
            let tolerance = match (dtype, is_processor(&device)) {
                (DType::F64, _) => 1e-12,
                (_, true) => 1e-6,
                // Not measured yet: Burn's own kernels round in an order of their own.
                (_, false) => 2e-5,
            };
            let device = device.autodiff();
            for shares in SHARES {
                // Burn's NdArray cannot multiply empty matrices.
                #[cfg(feature = "ndarray")]
                if shares.contains(&0) && device.clone().inner() == Device::ndarray() {
                    continue;
                }
                let rows: usize = shares.iter().sum();
                let batch = noise(1, rows * INPUTS);
                let weights = noise(2, rows);
                let together = Network::new(5, dtype, &device);
                let alone = together.clone().fork(&device).valid().train();

                let group = SyncGroup::new(shares.len());
                let found = workers(
                    &group,
                    &together,
                    &batch,
                    &weights,
                    shares,
                    (dtype, &device),
                );
                let expected = step(
                    &alone,
                    tensor(&batch, [rows, INPUTS], dtype, &device),
                    tensor(&weights, [rows], dtype, &device),
                );

                let joined = |of: fn(&Outcome) -> &Vec<f64>| -> Vec<f64> {
                    found.iter().flat_map(of).copied().collect()
                };
                let compare = |what: &str, found: &[f64], expected: &[f64]| {
                    let what = format!("{what}, {shares:?}, {dtype:?}");
                    assert_close(&what, found, expected, tolerance);
                };
                compare("output", &joined(|it| &it.output), &expected.output);
                compare(
                    "input",
                    &joined(|it| &it.input_gradient),
                    &expected.input_gradient,
                );
                // On a GPU, Burn 0.22.1 leaves the product of empty matrices unwritten: a gradient of the linear
                // layers.
                let outcomes = found.into_iter().zip(shares);
                let counting: Vec<_> = outcomes
                    .filter(|&(_, &rows)| rows > 0 || is_processor(&device))
                    .map(|(outcome, _)| outcome)
                    .collect();
                for (found, expected) in sums(&counting).iter().zip(&expected.gradients) {
                    compare("gradient", found, expected);
                }
                compare("running", &running(&together), &running(&alone));
            }
        }
    }
}

#[test]
fn the_bits_are_the_same_from_run_to_run() {
    for device in devices_with(DType::F32) {
        let device = device.autodiff();
        let shares = &[3, 1, 4, 2];
        let (batch, weights) = (noise(1, 10 * INPUTS), noise(2, 10));
        let run = |_| {
            let network = Network::new(3, DType::F32, &device);
            let group = SyncGroup::new(shares.len());
            let mut bits = Vec::new();
            for _ in 0..3 {
                let found = workers(
                    &group,
                    &network,
                    &batch,
                    &weights,
                    shares,
                    (DType::F32, &device),
                );
                for outcome in found {
                    bits.extend(outcome.output);
                    bits.extend(outcome.gradients.concat());
                }
            }
            bits.extend(running(&network));
            bits
        };
        if is_processor(&device) {
            let first = run(0);
            assert!((1..10).map(run).all(|again| again == first));
        }
    }
}

#[test]
fn workers_with_statistics_of_their_own_keep_the_same() {
    for device in devices_with(DType::F32) {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(4).init(&device);
        let group = SyncGroup::new(3);
        let found: Vec<_> = thread::scope(|threads| {
            let workers: Vec<_> = (0..3)
                .map(|worker| {
                    // `valid` copies the statistics.
                    let (group, norm) = (&group, norm.clone().valid().train());
                    let x = tensor(&noise(worker, 12), [3, 4], DType::F32, &device);
                    threads.spawn(move || {
                        group.run(|| norm.forward(x));
                        numbers(norm.running_var.value())
                    })
                })
                .collect();
            workers.into_iter().map(|it| it.join().unwrap()).collect()
        });
        assert!(found[0] != vec![1.0; 4]);
        assert!(found.iter().all(|it| *it == found[0]), "{found:?}");
    }
}

#[test]
fn two_groups_at_once_do_not_mix() {
    let device = any_device().autodiff();
    let run = |seed: u64| {
        let batch = noise(seed, 6 * INPUTS);
        let weights = noise(seed + 1, 6);
        let network = Network::new(4, DType::F32, &device);
        let options = (DType::F32, &device);
        let group = SyncGroup::new(2);
        let mut found = Vec::new();
        for _ in 0..20 {
            let outcomes = workers(&group, &network, &batch, &weights, &[2, 4], options);
            found.extend(outcomes.into_iter().flat_map(|outcome| outcome.output));
        }
        found
    };
    let alone = [run(1), run(5)];
    let both = thread::scope(|threads| {
        let others = threads.spawn(|| run(5));
        [run(1), others.join().unwrap()]
    });
    assert_eq!(alone, both);
}

#[test]
fn without_a_step_around_it_a_group_changes_nothing() {
    let device = any_device().autodiff();
    let _group = SyncGroup::new(2);
    let x = tensor(&noise(1, 12), [3, 4], DType::F32, &device);
    let norm = BatchNormConfig::new(4).init(&device);
    let mean = norm.forward(x).mean().into_scalar::<f32>();
    assert!(mean.abs() < 1e-6);
}

/// All workers are this one, twice.
#[derive(Debug)]
struct Echo(Mutex<usize>);

impl Exchange for Echo {
    fn gather(&self, numbers: Vec<f64>) -> Vec<Vec<f64>> {
        *self.0.lock().unwrap() += 1;
        vec![numbers.clone(), numbers]
    }
}

#[test]
fn numbers_can_go_another_way() {
    for device in devices_with(DType::F64) {
        let device = device.autodiff();
        let network = Network::new(2, DType::F64, &device);
        let doubled = network.clone().fork(&device).valid().train();
        let (batch, weights) = (noise(1, 5 * INPUTS), noise(2, 5));
        let rows = |count: usize| {
            let batch = batch.repeat(count);
            let weights = weights.repeat(count);
            (
                tensor(&batch, [5 * count, INPUTS], DType::F64, &device),
                tensor(&weights, [5 * count], DType::F64, &device),
            )
        };
        let echo = Arc::new(Echo(Mutex::new(0)));
        let (input, of_output) = rows(1);
        let found = SyncGroup::over(echo.clone()).run(|| step(&network, input, of_output));
        let (input, of_output) = rows(2);
        let expected = step(&doubled, input, of_output);
        assert_eq!(*echo.0.lock().unwrap(), 4, "two layers, two passes");
        assert_close("output", &found.output, &expected.output[..5], 1e-12);
        for (found, expected) in found.gradients.iter().zip(&expected.gradients) {
            let doubled: Vec<_> = found.iter().map(|x| 2.0 * x).collect();
            assert_close("gradient", &doubled, expected, 1e-12);
        }
        assert_close("running", &running(&network), &running(&doubled), 1e-12);
    }
}

/// Several processes of PyTorch, see `fixtures/sync.py`.
#[test]
fn several_workers_compute_what_processes_of_pytorch_do() {
    let fixture: Value = serde_json::from_str(include_str!("../fixtures/sync.json")).unwrap();
    for device in devices_with(DType::F64) {
        let device = device.autodiff();
        for case in fixture["cases"].as_array().unwrap() {
            let workers = case.as_array().unwrap();
            let values = |worker: &Value, name: &str| -> Vec<f64> {
                serde_json::from_value(worker[name].clone()).unwrap()
            };
            let mut norm = BatchNormConfig::new(3)
                .init(&device)
                .map(&mut Cast(FloatDType::F64));
            let given = |name| {
                let values = values(&workers[0], name);
                tensor::<1>(&values, [3], DType::F64, &device).require_grad()
            };
            norm.gamma = norm.gamma.map(|_| given("gamma"));
            norm.beta = norm.beta.map(|_| given("beta"));
            let group = SyncGroup::new(workers.len());
            thread::scope(|threads| {
                for worker in workers {
                    let (group, norm, device) = (&group, norm.clone().fork(&device), &device);
                    threads.spawn(move || {
                        let shape = [worker["rows"].as_u64().unwrap() as usize, 3, 2];
                        let [input, weights] = ["input", "weights"]
                            .map(|name| tensor(&values(worker, name), shape, DType::F64, device));
                        let input: Tensor<3> = input.require_grad();
                        let (output, gradients) = group.run(|| {
                            let output = norm.forward(input.clone());
                            let gradients = (output.clone() * weights).sum().backward();
                            (output, gradients)
                        });
                        let of = |param: &Param<Tensor<1>>| {
                            numbers(param.val().grad(&gradients).unwrap())
                        };
                        let input = numbers(input.grad(&gradients).unwrap());
                        for (name, found) in [
                            ("output", numbers(output)),
                            ("input_gradient", input),
                            ("gamma_gradient", of(&norm.gamma)),
                            ("beta_gradient", of(&norm.beta)),
                        ] {
                            assert_close(name, &found, &values(worker, name), 1e-12);
                        }
                    });
                }
            });
            for (name, state) in [
                ("running_mean", &norm.running_mean),
                ("running_var", &norm.running_var),
            ] {
                let found = numbers(state.value());
                assert_close(name, &found, &values(&workers[0], name), 1e-12);
            }
        }
    }
}
