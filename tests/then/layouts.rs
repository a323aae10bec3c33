//! Views, half precision, and tensors that share memory.

use burn::tensor::{DType, Device, Tensor, s};

use crate::devices::{devices, devices_with, is_processor};
use crate::oracle::{Activation, Problem, Window};
use crate::properties::{problem, weights};
use crate::{Lay, as_it_is, tensor};

/// A window of each kind, and none.
fn windows() -> [Option<Window>; 4] {
    let max = Window {
        max: true,
        count_padding: true,
        size: [2, 2],
        strides: [2, 2],
        padding: [0, 0],
    };
    [
        None,
        Some(max),
        Some(Window {
            size: [3, 3],
            padding: [1, 1],
            ..max
        }),
        Some(Window {
            max: false,
            size: [2, 3],
            strides: [1, 3],
            ..max
        }),
    ]
}

fn problems() -> impl Iterator<Item = Problem> {
    let choices = windows().into_iter().flat_map(|window| {
        let modes = [(false, false), (false, true), (true, false), (true, true)];
        modes.map(|modes| (window, modes))
    });
    choices.flat_map(|(window, modes)| {
        [
            Activation::None,
            Activation::Relu(0.0),
            Activation::Relu(0.2),
            Activation::Silu,
        ]
        .map(|activation| problem([4, 6, 7, 9], activation, window, modes, 3))
    })
}

/// Drivers that compute on the CPU take a second to compile the kernels of a pooling. There, half of the modes must do.
fn problems_for(device: &Device) -> impl Iterator<Item = Problem> {
    let all = is_processor(device);
    problems().filter(move |it| {
        let by_kernels = !matches!(it.activation, Activation::Silu);
        let one_mode = it.given.is_some() != it.residual.is_some();
        all || it.window.is_none() || by_kernels && one_mode
    })
}

fn channels_last(x: Tensor<4>) -> Tensor<4> {
    let last = x.permute([0, 2, 3, 1]);
    // A copy in the new order: adding a tensor makes the memory contiguous.
    (last.clone() + last.zeros_like()).permute([0, 3, 1, 2])
}

#[test]
fn the_layout_does_not_change_a_result() {
    let layouts: [Lay; 4] = [
        channels_last,
        // Height and width exchanged in memory.
        |x| {
            let swapped = x.swap_dims(2, 3);
            (swapped.clone() + swapped.zeros_like()).swap_dims(2, 3)
        },
        // With gaps.
        |x| Tensor::cat(vec![x.clone(), x], 3).slice(s![.., .., .., 0..9]),
        // Reversed twice.
        |x| x.flip([3]).flip([3]),
    ];
    for device in devices() {
        for problem in problems_for(&device) {
            for lay in layouts {
                problem.check(&device, [lay; 2]);
                if problem.residual.is_some() {
                    problem.check(&device, [lay, as_it_is]);
                    problem.check(&device, [as_it_is, lay]);
                }
            }
        }
    }
}

/// Where the memory order of an axis means nothing. Padding makes the output larger than the input.
#[test]
fn images_of_one_pixel_row_or_column_are_pooled() {
    let shapes = [
        [40, 6, 1, 1],
        [5, 6, 1, 9],
        [5, 6, 9, 1],
        [1, 6, 7, 9],
        [3, 1, 7, 9],
    ];
    for device in devices() {
        for shape in shapes {
            for max in [true, false] {
                let window = Window {
                    max,
                    count_padding: false,
                    size: [2, 2],
                    strides: [1, 1],
                    padding: [1, 1],
                };
                let modes = (false, true);
                let problem = problem(shape, Activation::Relu(0.0), Some(window), modes, 5);
                problem.check(&device, [as_it_is; 2]);
                problem.check(&device, [channels_last; 2]);
            }
        }
    }
}

#[test]
fn half_precision_is_rounded_once() {
    for (dtype, rounding) in [(DType::F16, 2f64.powi(-10)), (DType::BF16, 2f64.powi(-7))] {
        for device in devices_with(dtype) {
            for mut problem in problems_for(&device) {
                // Values that the type has.
                if let Some(residual) = &mut problem.residual {
                    residual
                        .iter_mut()
                        .for_each(|r| *r = (8.0 * *r).round() / 8.0);
                }
                let weights: Vec<f64> = weights(&problem)
                    .iter()
                    .map(|w| (8.0 * w).round() / 8.0)
                    .collect();
                let expected = problem.solve(&weights);
                let found = problem.ask(&weights, dtype, &device);
                let error = crate::error(&found.output, &expected.output);
                assert!(error < rounding, "off by {error:e}: {problem:?}");
            }
        }
    }
}

#[test]
fn the_residual_may_be_the_input() {
    use burn::tensor::activation::relu;
    use burn_kindling::norm::{BatchNormConfig, Then};

    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(3).init(&device);
        let values: Vec<f64> = (0..2 * 3 * 20).map(|it| (it as f64).sin()).collect();
        let leaf = || tensor(&values, [2, 3, 20], DType::F32, &device).require_grad();
        let run = |output: Tensor<3>, leaf: Tensor<3>| {
            let weights = tensor(&values, [2, 3, 20], DType::F32, &device).cos();
            let gradients = (output.clone() * weights).sum().backward();
            [output, leaf.grad(&gradients).unwrap()].map(crate::numbers)
        };
        let x = leaf();
        let found = run(
            norm.forward_then(x.clone(), Then::new().add_residual(x.clone()).relu()),
            x,
        );
        let x = leaf();
        let expected = run(relu(norm.forward(x.clone()) + x.clone()), x);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(crate::error(found, expected) < 1e-5);
        }
    }
}
