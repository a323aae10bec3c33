//! Properties of batch normalisation, on generated inputs.

use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::{BatchNormConfig, Mode, op};
use proptest::prelude::*;

use crate::{assert_close, devices_with, distance, numbers, oracle, tensor};

/// A shape `[batch, channels, length]` and an input with values well apart in every channel.
fn inputs() -> impl Strategy<Value = ([usize; 3], Vec<f64>)> {
    (2usize..9, 1usize..5, 1usize..7).prop_flat_map(|(batch, channels, length)| {
        prop::collection::vec(-4.0f64..4.0, batch * channels * length).prop_map(move |mut x| {
            for (i, x) in x.iter_mut().enumerate() {
                *x += (i / (channels * length)) as f64;
            }
            ([batch, channels, length], x)
        })
    })
}

fn normalise(x: Tensor<3>, epsilon: f64) -> Tensor<3> {
    op::batch_norm_train(x, None, None, epsilon).output
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_output_has_mean_0_and_variance_near_1((shape, x) in inputs(), epsilon in 1e-6f64..1.0) {
        let layout = oracle::Layout::of(&shape);
        let (_, variance, _) = oracle::moments(&x, &layout);
        for device in devices_with(DType::F64) {
            let y = numbers(normalise(tensor(&x, shape, DType::F64, &device), epsilon));
            let (mean, found, _) = oracle::moments(&y, &layout);
            prop_assert!(mean.iter().all(|mean| mean.abs() < 1e-12), "{:?}", mean);
            let expected: Vec<_> = variance.iter().map(|v| v / (v + epsilon)).collect();
            assert_close("variance", &found, &expected, 1e-12);
        }
    }

    #[test]
    fn shifting_and_scaling_the_input_of_the_affine_layer_before_changes_nothing(
        (_, x) in inputs(),
        weights in prop::collection::vec(-2.0f64..2.0, 12),
        shift in -100.0f64..100.0,
        scale in 0.5f64..20.0,
    ) {
        // The variance grows by scale^2, so epsilon does too: the two layers are then the same function.
        let epsilon = 1e-3;
        let moved: Vec<_> = x.iter().map(|x| x * scale + shift).collect();
        for device in devices_with(DType::F64) {
            let run = |x: &[f64], epsilon| {
                let rows = tensor(x, [x.len(), 1], DType::F64, &device);
                let [weight, bias] = [0, 6].map(|at| tensor(&weights[at..at + 6], [1, 6], DType::F64, &device));
                op::batch_norm_train(rows.matmul(weight) + bias, None, None, epsilon).output
            };
            let (plain, moved) = (run(&x, epsilon), run(&moved, epsilon * scale * scale));
            assert_close("output", &numbers(moved), &numbers(plain), 1e-10);
        }
    }

    #[test]
    fn permuting_the_batch_permutes_the_output((shape, x) in inputs(), turn in 1usize..8) {
        let row = shape[1] * shape[2];
        let turned = |x: &[f64]| {
            let mut turned = x.to_vec();
            turned.rotate_left(row * (turn % shape[0]));
            turned
        };
        for device in devices_with(DType::F64) {
            let straight = numbers(normalise(tensor(&x, shape, DType::F64, &device), 1e-5));
            let permuted = numbers(normalise(tensor(&turned(&x), shape, DType::F64, &device), 1e-5));
            assert_close("output", &permuted, &turned(&straight), 1e-12);
        }
    }

    #[test]
    fn memory_layout_makes_no_difference((shape, x) in inputs(), dtype in prop::sample::select(vec![DType::F32, DType::F64])) {
        let [batch, channels, length] = shape;
        for device in devices_with(dtype) {
            for device in [device.clone(), device.autodiff()] {
                let contiguous = tensor(&x, shape, dtype, &device);
                // The same numbers in different memory layouts.
                let copy = |x: Tensor<3>| Tensor::<3>::from_data(x.into_data(), (&device, dtype));
                let transposed = copy(contiguous.clone().swap_dims(0, 2)).swap_dims(0, 2);
                let channels_last = copy(contiguous.clone().swap_dims(1, 2)).swap_dims(1, 2);
                let padded = Tensor::cat(vec![contiguous.clone(), contiguous.clone() * 2.0], 2);
                let sliced = copy(padded).slice([0..batch, 0..channels, 0..length]);
                let flipped = contiguous.clone().flip([0]).flip([0]);
                for other in [transposed, channels_last, sliced, flipped] {
                    same_everywhere(contiguous.clone(), other, &device)?;
                }
                // One row for the whole batch: an axis of stride 0.
                let row = contiguous.clone().slice([0..1, 0..channels, 0..length]);
                let expanded = row.clone().expand([batch, channels, length]);
                same_everywhere(copy(expanded.clone()), expanded, &device)?;
            }
        }
    }
}

/// Two inputs of the same numbers give the same results and gradients.
fn same_everywhere(one: Tensor<3>, other: Tensor<3>, device: &Device) -> Result<(), TestCaseError> {
    let run = |x: Tensor<3>| {
        let norm = BatchNormConfig::new(x.dims()[1]).init(device);
        let trains = device.is_autodiff();
        let x = if trains { x.detach().require_grad() } else { x };
        let trained = Mode::Training.run(|| norm.forward(x.clone()));
        let inferred = Mode::Inference.run(|| norm.forward(x.clone()));
        let mut results = vec![
            numbers(trained.clone()),
            numbers(inferred.clone()),
            numbers(norm.running_mean.value_sync()),
            numbers(norm.running_var.value_sync()),
        ];
        if trains {
            let grads = (trained.powi_scalar(3) + inferred.powi_scalar(2))
                .sum()
                .backward();
            results.push(numbers(x.grad(&grads).unwrap()));
            results.push(numbers(norm.gamma.grad(&grads).unwrap()));
            results.push(numbers(norm.beta.grad(&grads).unwrap()));
        }
        results
    };
    for (index, (one, other)) in run(one).iter().zip(run(other)).enumerate() {
        let (error, scale) = distance(&other, one);
        prop_assert!(
            error <= 2e-5 * scale.max(1.0),
            "result {index} differs by {error}"
        );
    }
    Ok(())
}
