//! Compares the fused batch norm of each backend with an oracle in f64 and with `op::reference`.
//!
//! The shapes cover every path of the kernels: long runs and rows, one channel, one row, lengths that are no multiple
//! of a vector, tensors large enough to be divided among threads by channels and by pieces.

#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod oracle;

use burn::tensor::{DType, Device, FloatDType, Tensor, s};
use burn_kindling::norm::op::{self, reference};
use oracle::{
    Array, EPSILON, any_device, assert_close, assert_means_close, devices, devices_with,
    is_processor, noise, parameters, sample, shapes, tensor1, tensor3, to_f64,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// The largest relative rounding error of a sum of squares in f32 runs of 16 that are added up in f64: each square is
/// off by at most 3 roundings and goes through at most 15 additions, with one more rounding each.
const RUN: f64 = 18.0 * (f32::EPSILON / 2.0) as f64;

/// Checks training and inference mode against the oracle and the reference.
fn check(array: &Array, seed: u64, device: &Device, variance_tolerance: f64) {
    let f32 = FloatDType::F32;
    let (gamma, beta) = parameters(array.channels, seed);
    let input = tensor3(array, f32, device);
    let (gamma_tensor, beta_tensor) = (tensor1(&gamma, f32, device), tensor1(&beta, f32, device));

    let found = op::batch_norm_train(
        input.clone(),
        Some(gamma_tensor.clone()),
        Some(beta_tensor.clone()),
        EPSILON,
    );
    let expected = array.train(&gamma, &beta, EPSILON);
    assert_means_close(&to_f64(found.mean), &expected, device);
    assert_close(
        "variance",
        &to_f64(found.variance),
        &expected.variance,
        variance_tolerance,
    );
    let output = to_f64(found.output);
    // A channel of one value, or of equal values, has no variance. Dividing by its deviation, the root of epsilon,
    // magnifies rounding errors.
    let tolerance = if array.batch * array.inner == 1 {
        1e-4
    } else {
        2e-6
    };
    assert_close("output", &output, &expected.output, tolerance);

    if is_processor(device) {
        let by_reference = reference::batch_norm_train(
            input.clone(),
            Some(gamma_tensor.clone()),
            Some(beta_tensor.clone()),
            EPSILON,
        );
        assert_close("reference", &output, &to_f64(by_reference.output), 2e-4);
    }

    let mean: Vec<f64> = expected
        .mean
        .iter()
        .map(|&mean| f64::from(mean as f32))
        .collect();
    let variance: Vec<f64> = expected
        .variance
        .iter()
        .map(|&var| f64::from(var as f32))
        .collect();
    let found = op::batch_norm_inference(
        input,
        tensor1(&mean, f32, device),
        tensor1(&variance, f32, device),
        Some(gamma_tensor),
        Some(beta_tensor),
        EPSILON,
    );
    let expected = array.inference(&mean, &variance, &gamma, &beta, EPSILON);
    assert_close("inference", &to_f64(found), &expected, tolerance);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_oracle((batch, channels, inner) in shapes(), seed: u64) {
        let array = sample(batch, channels, inner, seed);
        for device in devices() {
            check(&array, seed, &device, RUN);
        }
    }
}

#[test]
fn agrees_with_the_oracle_where_the_work_is_cut() {
    for (batch, channels, inner) in [
        (256, 1024, 1),
        (3001, 97, 1),
        (70_000, 5, 1),
        (64, 130, 49),
        (32, 33, 784),
        (3, 2, 100_003),
        (1, 64, 5000),
    ] {
        let array = sample(batch, channels, inner, 7);
        for device in devices() {
            check(&array, 7, &device, RUN);
        }
    }
}

/// The mean in f32 is off by up to 5e-4 here, which is 5% of a deviation. `x * scale + shift` in f32 is off by more.
#[test]
fn a_small_deviation_from_a_large_mean_is_not_lost() {
    let mut rng = StdRng::seed_from_u64(3);
    let (channels, inner) = (2, 1_000_000);
    let values = (0..channels * inner)
        .map(|_| f64::from((1e4 + 1e-2 * noise(&mut rng)) as f32))
        .collect();
    for array in [Array {
        batch: 1,
        channels,
        inner,
        values,
    }]
    .into_iter()
    .flat_map(|array: Array| {
        let rows = Array {
            batch: array.inner,
            inner: 1,
            ..array.clone()
        };
        [array, rows]
    }) {
        let (gamma, beta) = (vec![1.0; channels], vec![0.0; channels]);
        let expected = array.train(&gamma, &beta, EPSILON);
        for device in devices() {
            let found = op::batch_norm_train(
                tensor3(&array, FloatDType::F32, &device),
                None,
                None,
                EPSILON,
            );
            for (found, expected) in to_f64(found.mean).iter().zip(&expected.mean) {
                assert_eq!(*found, f64::from(*expected as f32));
            }
            for (found, expected) in to_f64(found.variance).iter().zip(&expected.variance) {
                assert!((found / expected - 1.0).abs() < 1e-6, "{found} {expected}");
            }
            assert_close("output", &to_f64(found.output), &expected.output, 1e-6);
        }
    }
}

/// The kernel guesses the mean from the first values.
#[test]
fn an_outlier_in_front_costs_no_precision() {
    for (batch, channels, inner) in [(5000, 70, 1), (50, 3, 3000), (2, 1, 400)] {
        let mut array = sample(batch, channels, inner, 11);
        for channel in 0..channels {
            for value in
                &mut array.values[channel * inner..(channel * inner + 3).min((channel + 1) * inner)]
            {
                *value = 1e5;
            }
        }
        for device in devices() {
            // Added to the square of 1e5, other squares are rounded to multiples of 1024 in f32.
            check(&array, 11, &device, 1e-6);
        }
    }
}

#[test]
fn equal_values_have_no_variance() {
    for (batch, channels, inner) in [(7, 70, 1), (5, 3, 333)] {
        let values = vec![f64::from(0.1f32); batch * channels * inner];
        let array = Array {
            batch,
            channels,
            inner,
            values,
        };
        for device in devices() {
            let beta = vec![0.5; channels];
            let found = op::batch_norm_train(
                tensor3(&array, FloatDType::F32, &device),
                None,
                Some(tensor1(&beta, FloatDType::F32, &device)),
                EPSILON,
            );
            assert!(
                to_f64(found.variance)
                    .iter()
                    .all(|&variance| variance == 0.0)
            );
            assert!(
                to_f64(found.mean)
                    .iter()
                    .all(|&mean| mean == f64::from(0.1f32))
            );
            assert!(to_f64(found.output).iter().all(|&y| y == 0.5));
        }
    }
}

#[test]
fn f64_is_computed_in_f64() {
    for (batch, channels, inner) in [(300, 70, 1), (5, 3, 333)] {
        let mut array = sample(batch, channels, inner, 5);
        for value in &mut array.values {
            *value += 1e3;
        }
        let (gamma, beta) = parameters(channels, 5);
        let expected = array.train(&gamma, &beta, EPSILON);
        for device in devices_with(DType::F64) {
            let f64 = FloatDType::F64;
            let found = op::batch_norm_train(
                tensor3(&array, f64, &device),
                Some(tensor1(&gamma, f64, &device)),
                Some(tensor1(&beta, f64, &device)),
                EPSILON,
            );
            assert_eq!(found.mean.dtype(), DType::F64);
            assert_close("mean", &to_f64(found.mean), &expected.mean, 1e-15);
            assert_close(
                "variance",
                &to_f64(found.variance),
                &expected.variance,
                1e-12,
            );
            assert_close("output", &to_f64(found.output), &expected.output, 1e-11);
        }
    }
}

#[test]
fn half_precision_is_computed_in_f32() {
    for (dtype, half_ulp) in [
        (FloatDType::F16, 1.0 / 2048.0),
        (FloatDType::BF16, 1.0 / 256.0),
    ] {
        for device in devices_with(dtype) {
            for (batch, channels, inner) in [(300, 70, 1), (5, 3, 333), (64, 33, 100)] {
                let input = tensor3(&sample(batch, channels, inner, 5), dtype, &device);
                let array = Array {
                    batch,
                    channels,
                    inner,
                    values: to_f64(input.clone()),
                };
                let (gamma, beta) = parameters(channels, 5);
                let expected = array.train(&gamma, &beta, EPSILON);
                let found = op::batch_norm_train(
                    input,
                    Some(tensor1(&gamma, FloatDType::F32, &device)),
                    Some(tensor1(&beta, FloatDType::F32, &device)),
                    EPSILON,
                );
                assert_eq!(found.output.dtype(), DType::from(dtype));
                assert_eq!(found.mean.dtype(), DType::F32);
                assert_eq!(found.variance.dtype(), DType::F32);
                assert_means_close(&to_f64(found.mean), &expected, &device);
                assert_close(
                    "variance",
                    &to_f64(found.variance),
                    &expected.variance,
                    3e-7,
                );
                assert_close(
                    "output",
                    &to_f64(found.output),
                    &expected.output,
                    1.01 * half_ulp,
                );
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_channel() {
    for (batch, channels, inner) in [(300, 70, 1), (5, 3, 333)] {
        for poison in [f64::NAN, f64::INFINITY] {
            for place in [0, batch / 2] {
                let mut array = sample(batch, channels, inner, 9);
                array.values[(place * channels + 1) * inner] = poison;
                for device in devices() {
                    let found = op::batch_norm_train(
                        tensor3(&array, FloatDType::F32, &device),
                        None,
                        None,
                        EPSILON,
                    );
                    let mean = to_f64(found.mean);
                    assert!(mean[1].is_nan() || mean[1] == poison);
                    assert!(to_f64(found.variance)[1].is_nan());
                    for (index, y) in to_f64(found.output).into_iter().enumerate() {
                        assert_eq!(y.is_nan(), index / inner % channels == 1, "at {index}");
                    }
                    assert!(
                        mean.iter()
                            .enumerate()
                            .all(|(c, mean)| c == 1 || mean.is_finite())
                    );
                }
            }
        }
    }
}

#[test]
fn one_value_a_channel_and_none() {
    for device in devices() {
        let one = Tensor::<2>::from_data([[3.0f32, -4.0]], &device);
        let found = op::batch_norm_train(one, None, None, EPSILON);
        assert_eq!(to_f64(found.output), [0.0, 0.0]);
        assert_eq!(to_f64(found.mean), [3.0, -4.0]);
        assert_eq!(to_f64(found.variance), [0.0, 0.0]);

        for shape @ [_, channels, _] in [[0, 2, 5], [3, 2, 0], [3, 0, 70]] {
            let none = Tensor::<3>::zeros(shape, &device);
            let found = op::batch_norm_train(none.clone(), None, None, EPSILON);
            assert_eq!(found.output.dims(), shape);
            assert_eq!(found.mean.dims(), [channels]);
            let found = op::batch_norm_inference(
                none,
                Tensor::zeros([channels], &device),
                Tensor::ones([channels], &device),
                None,
                None,
                EPSILON,
            );
            assert_eq!(found.dims(), shape);
        }
    }
}

/// Views of every kind give the same results as their contiguous copies, bit-identical if the traversal is the same.
/// Burn's fusion adds up two tensors by their strides. That of an axis of length 1 may be anything, and must be usual.
#[test]
fn what_is_added_to_the_output_lies_as_it_does() {
    for device in devices() {
        for shape in [
            [6, 1, 4, 4],
            [6, 1, 1, 4],
            [1, 3, 4, 4],
            [6, 3, 1, 4],
            [6, 3, 4, 1],
        ] {
            let [batch, channels, height, width] = shape;
            let values = |seed| {
                let sample = sample(2 * batch, channels, height * width, seed);
                let whole = tensor3(&sample, FloatDType::F32, &device);
                whole.reshape([2 * batch, channels, height, width])
            };
            let (input, added) = (values(31), values(32));
            let half = |whole: &Tensor<4>| whole.clone().narrow(0, 0, batch);
            let normalise = |x| op::batch_norm_train(x, None, None, EPSILON).output;
            let alone = to_f64(normalise(half(&input)));
            let expected = alone.iter().zip(to_f64(half(&added)));
            let expected: Vec<_> = expected.map(|(y, added)| y + added).collect();
            let added = half(&added) * 1.0;
            let sum = normalise(half(&input)) + added;
            assert_close(&format!("{shape:?}"), &to_f64(sum), &expected, 1e-6);
        }
    }
}

#[test]
fn views_that_are_not_contiguous() {
    for device in devices() {
        let flat = |shape: [usize; 4]| {
            let [batch, channels, height, width] = shape;
            tensor3(
                &sample(batch, channels, height * width, 21),
                FloatDType::F32,
                &device,
            )
            .reshape(shape)
        };
        let views: Vec<(&str, Tensor<4>)> = vec![
            ("channels last", flat([6, 20, 9, 15]).permute([0, 3, 1, 2])),
            ("channels first", flat([5, 7, 11, 13]).swap_dims(0, 1)),
            ("image turned", flat([5, 7, 11, 13]).swap_dims(2, 3)),
            ("all reversed", flat([5, 7, 11, 13]).permute([3, 2, 1, 0])),
            ("some of the batch", flat([9, 4, 8, 10]).slice(s![2..7])),
            ("some channels", flat([9, 8, 8, 10]).slice([0..9, 3..6])),
            (
                "some columns",
                flat([9, 4, 8, 10]).slice([0..9, 0..4, 0..8, 2..9]),
            ),
            // Rows with gaps of 256 bytes between them, like CUDA's and ROCm's tensors.
            (
                "pitched rows",
                flat([9, 4, 8, 74]).slice(s![.., .., .., ..10]),
            ),
            (
                "pitched single rows",
                flat([9, 4, 1, 80]).slice(s![.., .., .., ..16]),
            ),
            (
                "pitched rows of channels",
                flat([40, 84, 1, 1]).slice(s![.., ..20]),
            ),
            (
                "pitched rows of one channel",
                flat([9, 1, 8, 72]).slice(s![.., .., .., ..8]),
            ),
            (
                "pitched channels last",
                flat([6, 9, 15, 70])
                    .slice(s![.., .., .., ..6])
                    .permute([0, 3, 1, 2]),
            ),
            ("repeated", flat([9, 4, 1, 10]).expand([9, 4, 8, 10])),
            ("flipped", flat([9, 4, 8, 10]).flip([0, 3])),
        ];
        for (what, view) in views {
            let [batch, channels, height, width] = view.dims();
            let array = Array {
                batch,
                channels,
                inner: height * width,
                values: to_f64(view.clone()),
            };
            let (gamma, beta) = parameters(channels, 1);
            let expected = array.train(&gamma, &beta, EPSILON);
            let found = op::batch_norm_train(
                view.clone(),
                Some(tensor1(&gamma, FloatDType::F32, &device)),
                Some(tensor1(&beta, FloatDType::F32, &device)),
                EPSILON,
            );
            assert_eq!(found.output.dims(), view.dims(), "{what}");
            assert_means_close(&to_f64(found.mean), &expected, &device);
            assert_close(what, &to_f64(found.output), &expected.output, 2e-6);
        }
    }
}

/// The output is the same whether it overwrites the input (nobody else holds it) or goes to new memory. A tensor that
/// somebody holds stays unchanged.
#[test]
fn in_place_or_not() {
    for device in devices() {
        for (batch, channels, inner) in [(30, 70, 1), (5, 3, 333), (64, 40, 100)] {
            let array = sample(batch, channels, inner, 13);
            let held = tensor3(&array, FloatDType::F32, &device);
            let to_new = op::batch_norm_train(held.clone(), None, None, EPSILON).output;
            assert_eq!(to_f64(held), array.values);
            let given = tensor3(&array, FloatDType::F32, &device);
            let in_place = op::batch_norm_train(given, None, None, EPSILON).output;
            assert_eq!(to_f64(in_place), to_f64(to_new));
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    for device in devices() {
        for (batch, channels, inner) in [
            (256, 1024, 1),
            (70_000, 5, 1),
            (64, 130, 49),
            (32, 33, 784),
            (3, 2, 100_003),
        ] {
            let array = sample(batch, channels, inner, 17);
            let with_threads = |threads| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .expect("a pool of so few threads")
                    .install(|| {
                        let input = tensor3(&array, FloatDType::F32, &device);
                        let found = op::batch_norm_train(input, None, None, EPSILON);
                        [
                            to_f64(found.output),
                            to_f64(found.mean),
                            to_f64(found.variance),
                        ]
                    })
            };
            let one = with_threads(1);
            assert_eq!(one, with_threads(2));
            assert_eq!(one, with_threads(3));
        }
    }
}

#[test]
#[should_panic(expected = "takes a gamma with one value per channel: 3 for this input, found 2")]
fn a_gamma_of_another_length_is_refused() {
    let device = any_device();
    let gamma = Tensor::ones([2], &device);
    op::batch_norm_train(
        Tensor::<2>::zeros([4, 3], &device),
        Some(gamma),
        None,
        EPSILON,
    );
}

#[test]
#[should_panic(expected = "[batch, channels, ...], found rank 1")]
fn an_input_without_channels_is_refused() {
    op::batch_norm_train(Tensor::<1>::zeros([4], &any_device()), None, None, EPSILON);
}
