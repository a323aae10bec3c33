//! A mask: only the values that it marks make the statistics.

use burn::module::Module;
use burn::tensor::{Bool, DType, Device, FloatDType, Tensor, TensorData};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, SyncGroup, Then};
use proptest::prelude::*;

use crate::devices::{any_device, devices, devices_with};
use crate::network::Cast;
use crate::{assert_close, noise, numbers, panic_of, tensor};

fn mask<const M: usize>(marks: &[bool], shape: [usize; M], device: &Device) -> Tensor<M, Bool> {
    Tensor::from_data(TensorData::new(marks.to_vec(), shape), device)
}

fn double(channels: usize, seed: u64, device: &Device) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).init(device);
    let values = |seed| tensor::<1>(&noise(seed, channels), [channels], DType::F64, device);
    norm.gamma = norm.gamma.map(|_| values(seed).require_grad());
    norm.beta = norm.beta.map(|_| values(seed + 1).require_grad());
    norm.map(&mut Cast(FloatDType::F64))
}

/// A case: shape, values, marks (at least two), and the weights of the outputs.
fn cases() -> impl Strategy<Value = ([usize; 3], u64, Vec<bool>, f64)> {
    (
        1usize..6,
        1usize..5,
        1usize..6,
        any::<u64>(),
        -300.0f64..300.0,
    )
        .prop_filter("two positions", |(batch, _, length, ..)| {
            batch * length >= 2
        })
        .prop_flat_map(|(batch, channels, length, seed, mean)| {
            let marks = prop::collection::vec(any::<bool>(), batch * length)
                .prop_filter("two marks", |marks| {
                    marks.iter().filter(|it| **it).count() >= 2
                });
            (
                Just([batch, channels, length]),
                Just(seed),
                marks,
                Just(mean),
            )
        })
}

/// `sum (output * weights)` by the definition, in f64.
fn by_definition(
    x: &[f64],
    [batch, channels, length]: [usize; 3],
    marks: &[bool],
    (gamma, beta): (&[f64], &[f64]),
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let at = |row: usize, channel: usize, position: usize| {
        (row * channels + channel) * length + position
    };
    let mut output = vec![0.0; x.len()];
    let (mut means, mut variances) = (Vec::new(), Vec::new());
    for channel in 0..channels {
        let positions =
            || (0..batch).flat_map(|row| (0..length).map(move |position| (row, position)));
        let valid: Vec<f64> = positions()
            .filter(|(row, position)| marks[row * length + position])
            .map(|(row, position)| x[at(row, channel, position)])
            .collect();
        let count = valid.len() as f64;
        let mean = valid.iter().sum::<f64>() / count;
        let variance = valid.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        for (row, position) in positions() {
            let i = at(row, channel, position);
            output[i] = gamma[channel] * (x[i] - mean) / (variance + 1e-5).sqrt() + beta[channel];
        }
        means.push(0.1 * mean);
        variances.push(0.9 + 0.1 * variance * count / (count - 1.0));
    }
    (output, means, variances)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn only_valid_positions_enter_the_statistics((shape, seed, marks, mean) in cases()) {
        let [batch, channels, length] = shape;
        let count = batch * channels * length;
        let x: Vec<_> = noise(seed, count).iter().map(|x| x + mean).collect();
        for device in devices_with(DType::F64) {
            let device = device.autodiff();
            let norm = double(channels, seed, &device);
            let (gamma, beta) = (numbers(norm.gamma.val()), numbers(norm.beta.val()));
            let input = tensor(&x, shape, DType::F64, &device).require_grad();
            let output = norm.forward_masked(input.clone(), mask(&marks, [batch, length], &device));
            let (expected, means, variances) = by_definition(&x, shape, &marks, (&gamma, &beta));
            assert_close("output", &numbers(output.clone()), &expected, 1e-9);
            assert_close("mean", &numbers(norm.running_mean.value()), &means, 1e-12);
            assert_close("variance", &numbers(norm.running_var.value()), &variances, 1e-11);

            // Central differences of sum (output * weights).
            let weights = noise(seed ^ 1, count);
            let loss = |x: &[f64], gamma: &[f64], beta: &[f64]| -> f64 {
                let (output, ..) = by_definition(x, shape, &marks, (gamma, beta));
                output.iter().zip(&weights).map(|(y, w)| y * w).sum()
            };
            let step = 1e-4;
            let slope = |values: &[f64], f: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
                let change = |at: usize, by: f64| {
                    let mut values = values.to_vec();
                    values[at] += by;
                    f(&values)
                };
                (0..values.len()).map(|at| (change(at, step) - change(at, -step)) / (2.0 * step)).collect()
            };
            let of_output = tensor(&weights, shape, DType::F64, &device);
            let gradients = (output * of_output).sum().backward();
            let found = numbers(input.grad(&gradients).unwrap());
            // A variance near 0 bends the output too much for differences. Two values always become -1 and 1, so their
            // gradient is nothing but the effect of epsilon.
            let some = marks.iter().filter(|mark| **mark).count() > 2;
            let smooth = some && variances.iter().all(|v| *v > 0.9 + 0.1 * 0.05);
            if smooth {
                assert_close("input", &found, &slope(&x, &|x| loss(x, &gamma, &beta)), 2e-4);
            }
            let found = numbers(norm.gamma.val().grad(&gradients).unwrap());
            assert_close("gamma", &found, &slope(&gamma, &|gamma| loss(&x, gamma, &beta)), 1e-6);
            let found = numbers(norm.beta.val().grad(&gradients).unwrap());
            assert_close("beta", &found, &slope(&beta, &|beta| loss(&x, &gamma, beta)), 1e-6);
        }
    }
}

/// Long and short runs, one and many pieces, channels first and last, padding at the end and holes everywhere.
#[test]
fn large_batches_of_any_layout_are_masked() {
    for device in devices_with(DType::F64) {
        let device = device.autodiff();
        for shape in [
            [64, 3, 300],
            [700, 40, 1],
            [90, 50, 20],
            [3, 200, 70],
            [40, 1, 100],
        ] {
            let [batch, channels, length] = shape;
            let x: Vec<_> = noise(5, batch * channels * length)
                .iter()
                .map(|x| 50.0 + x)
                .collect();
            let padded = |at: usize| at % length < 1 + (at / length * 7) % length;
            let holes = |at: usize| (at * 2_654_435_761) % 7 < 5;
            let rows = |at: usize| (at / length) % 3 != 1;
            for marked in [&padded as &dyn Fn(usize) -> bool, &holes, &rows] {
                let marks: Vec<_> = (0..batch * length).map(marked).collect();
                for axis in [1, -1] {
                    let first = double(channels, 3, &device);
                    let (gamma, beta) = (numbers(first.gamma.val()), numbers(first.beta.val()));
                    let config = BatchNormConfig::new(channels).with_channel_axis(axis);
                    let norm = config.init(&device).map(&mut Cast(FloatDType::F64));
                    let norm = norm.load_record(first.into_record());
                    let input = tensor::<3>(&x, shape, DType::F64, &device).require_grad();
                    let turned = |x: Tensor<3>| if axis == 1 { x } else { x.swap_dims(1, 2) };
                    let mask = mask(&marks, [batch, length], &device);
                    let output = turned(norm.forward_masked(turned(input.clone()), mask));
                    let (expected, means, variances) =
                        by_definition(&x, shape, &marks, (&gamma, &beta));
                    assert_close("output", &numbers(output.clone()), &expected, 1e-10);
                    assert_close("mean", &numbers(norm.running_mean.value()), &means, 1e-12);
                    let found = numbers(norm.running_var.value());
                    assert_close("variance", &found, &variances, 1e-11);

                    // By the formula: what does not count has no part in the statistics' gradients.
                    let weights = noise(6, x.len());
                    let of_output = tensor(&weights, shape, DType::F64, &device);
                    let gradients = (output * of_output).sum().backward();
                    let found = numbers(input.grad(&gradients).unwrap());
                    let expected = gradient(&x, &weights, shape, &marks, &gamma);
                    assert_close("gradient", &found, &expected, 1e-10);
                }
            }
        }
    }
}

fn gradient(
    x: &[f64],
    g: &[f64],
    [batch, channels, length]: [usize; 3],
    marks: &[bool],
    gamma: &[f64],
) -> Vec<f64> {
    let mut found = vec![0.0; x.len()];
    for (channel, gamma) in gamma.iter().enumerate() {
        let positions = || (0..batch).flat_map(|row| (0..length).map(move |at| (row, at)));
        let index = |(row, at): (usize, usize)| (row * channels + channel) * length + at;
        let counts = |(row, at): (usize, usize)| marks[row * length + at];
        let valid: Vec<f64> = positions()
            .filter(|&it| counts(it))
            .map(|it| x[index(it)])
            .collect();
        let count = valid.len() as f64;
        let mean = valid.iter().sum::<f64>() / count;
        let variance = valid.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let deviation = (variance + 1e-5).sqrt();
        let xhat = |it| (x[index(it)] - mean) / deviation;
        let sum: f64 = positions().map(|it| g[index(it)]).sum();
        let products: f64 = positions().map(|it| g[index(it)] * xhat(it)).sum();
        for it in positions() {
            let through = if counts(it) {
                (sum + xhat(it) * products) / count
            } else {
                0.0
            };
            found[index(it)] = gamma / deviation * (g[index(it)] - through);
        }
    }
    found
}

#[test]
fn a_mask_of_everything_changes_nothing() {
    for device in devices() {
        let device = device.autodiff();
        let x = tensor::<4>(&noise(1, 2 * 3 * 20), [2, 3, 4, 5], DType::F32, &device);
        let [masked, plain] = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
        let all = Tensor::<3, Bool>::full([2, 4, 5], true, &device);
        let found = masked.forward_masked(x.clone(), all);
        assert_close("output", &numbers(found), &numbers(plain.forward(x)), 1e-5);
        let [found, expected] = [masked, plain].map(|norm| numbers(norm.running_var.value()));
        assert_close("variance", &found, &expected, 1e-5);
    }
}

/// Keras gives 1.5 here, which the padding drags down.
#[test]
fn padding_does_not_drag_the_mean_down() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1).with_momentum(1.0).init(&device);
        let x = tensor::<3>(&[2.0, 4.0, 0.0, 0.0], [1, 1, 4], DType::F32, &device);
        norm.forward_masked(x, mask(&[true, true, false, false], [1, 4], &device));
        assert_eq!(numbers(norm.running_mean.value()), [3.0]);
        assert_eq!(numbers(norm.running_var.value()), [2.0]);
    }
}

#[test]
fn what_does_not_count_may_be_anything() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1).with_momentum(1.0).init(&device);
        let x = tensor::<3>(
            &[2.0, f64::NAN, 4.0, f64::INFINITY],
            [2, 1, 2],
            DType::F32,
            &device,
        );
        let marks = mask(&[true, false, true, false], [2, 2], &device);
        let output = numbers(norm.forward_masked(x, marks));
        assert_close("valid", &[output[0], output[2]], &[-1.0, 1.0], 1e-4);
        assert_eq!(numbers(norm.running_mean.value()), [3.0]);
        assert_eq!(numbers(norm.running_var.value()), [2.0]);
    }
}

#[test]
fn without_a_valid_position_the_running_statistics_normalise() {
    for device in devices() {
        let training = device.clone().autodiff();
        let statistics = |value: f64| Tensor::<1>::full([2], value, &training);
        let norm = BatchNormConfig::new(2).init(&training);
        let norm = norm.with_running(statistics(1.0), statistics(4.0));
        let x = tensor::<2>(&noise(1, 6), [3, 2], DType::F32, &training).require_grad();
        let nowhere = Tensor::<1, Bool>::full([3], false, &training);
        let output = norm.forward_masked(x.clone(), nowhere);
        let gradients = output.clone().square().sum().backward();
        let expected = Mode::Inference.run(|| norm.forward(x.clone()));
        assert_close("output", &numbers(output), &numbers(expected.clone()), 1e-6);
        let found = numbers(x.grad(&gradients).unwrap());
        let expected = expected.square().sum().backward();
        let expected = numbers(x.grad(&expected).unwrap());
        assert_close("gradient", &found, &expected, 1e-5);
        assert_eq!(numbers(norm.running_mean.value()), [1.0; 2]);
        assert_eq!(numbers(norm.running_var.value()), [4.0; 2]);
    }
}

#[test]
fn in_inference_a_mask_changes_nothing() {
    for device in devices() {
        let norm = BatchNormConfig::new(2).init(&device);
        let x = tensor::<2>(&noise(1, 6), [3, 2], DType::F32, &device);
        let some = mask(&[true, false, true], [3], &device);
        let found = norm.forward_masked(x.clone(), some);
        assert_eq!(numbers(found), numbers(norm.forward(x)));
    }
}

#[test]
fn the_rest_follows_as_usual() {
    for device in devices() {
        let device = device.autodiff();
        let [x, skip] =
            [1, 2].map(|seed| tensor::<3>(&noise(seed, 24), [2, 3, 4], DType::F32, &device));
        let marks = [true, true, false, true, true, true, true, false];
        let [a, b] = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
        let then = Then::new().add_residual(skip.clone()).relu();
        let found = a.forward_masked_then(x.clone(), mask(&marks, [2, 4], &device), then);
        let steps = b.forward_masked(x, mask(&marks, [2, 4], &device)) + skip;
        assert_close(
            "output",
            &numbers(found),
            &numbers(steps.clamp_min(0.0)),
            1e-5,
        );
    }
}

#[test]
fn workers_with_masks_are_one() {
    for device in devices_with(DType::F64) {
        let device = device.autodiff();
        let x = noise(1, 2 * 3 * 4);
        let marks = [true, true, true, false, true, false, false, false];
        let together = double(3, 7, &device);
        let alone = double(3, 7, &device);
        let half = |rows: std::ops::Range<usize>| {
            let count = rows.len();
            (
                tensor::<3>(
                    &x[rows.start * 12..rows.end * 12],
                    [count, 3, 4],
                    DType::F64,
                    &device,
                ),
                mask(&marks[rows.start * 4..rows.end * 4], [count, 4], &device),
            )
        };
        let group = SyncGroup::new(2);
        let found: Vec<_> = std::thread::scope(|threads| {
            let workers = [half(0..1), half(1..2)].map(|(x, mask)| {
                let (group, norm) = (&group, together.clone().fork(&device));
                threads.spawn(move || group.run(|| numbers(norm.forward_masked(x, mask))))
            });
            workers
                .into_iter()
                .flat_map(|it| it.join().unwrap())
                .collect()
        });
        let (x, mask) = half(0..2);
        assert_close(
            "output",
            &found,
            &numbers(alone.forward_masked(x, mask)),
            1e-12,
        );
        let [found, expected] = [together, alone].map(|norm| numbers(norm.running_var.value()));
        assert_close("variance", &found, &expected, 1e-12);
    }
}

#[test]
fn a_mask_of_another_shape_is_refused() {
    let device = any_device().autodiff();
    let norm = BatchNormConfig::new(3).init(&device);
    let x = Tensor::<3>::ones([2, 3, 4], &device);
    let misuse = |rows, columns| {
        let mask = Tensor::<2, Bool>::full([rows, columns], true, &device);
        panic_of(|| norm.forward_masked(x.clone(), mask))
    };
    assert_eq!(
        misuse(2, 3),
        "BatchNorm takes a mask of the input's shape without its channels: [2, 4], but got [2, 3]."
    );
    assert!(misuse(4, 2).contains("[2, 4], but got [4, 2]"));
    let one = mask(
        &[true, false, false, false, false, false, false, false],
        [2, 4],
        &device,
    );
    let failure = panic_of(|| norm.forward_masked(x.clone(), one));
    assert!(
        failure.contains("at least two values per channel"),
        "{failure}"
    );
}
