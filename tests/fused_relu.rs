//! Compares batch norm and ReLU in one operation with the two one after the other.

#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod oracle;

use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_kindling::norm::op::{self, BatchNormOutput};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, Then};
use oracle::{
    Array, EPSILON, assert_close, devices, is_processor, parameters, sample, tensor1, tensor3,
    to_f64,
};

/// Long runs and rows, one channel, one row, lengths that are no multiple of a vector, tensors that are divided by
/// channels and by pieces.
const SHAPES: [(usize, usize, usize); 11] = [
    (2, 1, 1),
    (7, 1, 30),
    (1, 3, 65),
    (31, 33, 1),
    (300, 70, 1),
    (5, 3, 333),
    (9, 20, 12),
    (256, 1024, 1),
    (64, 130, 49),
    (32, 33, 784),
    (3, 2, 100_003),
];

/// The output, and the gradients of input, gamma and beta, of one operation or of two; with given statistics or the
/// batch's.
fn run(array: &Array, device: &Device, given: bool, fused: bool) -> [Vec<f64>; 4] {
    let f32 = FloatDType::F32;
    let device = &device.clone().autodiff();
    let (gamma, beta) = parameters(array.channels, 3);
    let leaves = (
        tensor3(array, f32, device).require_grad(),
        tensor1(&gamma, f32, device).require_grad(),
        tensor1(&beta, f32, device).require_grad(),
    );
    let (input, gamma, beta) = leaves.clone();
    let (gamma, beta) = (Some(gamma), Some(beta));
    let output = if given {
        let statistics = || {
            let ramp: Vec<f64> = (0..array.channels)
                .map(|it| it as f64 % 7.0 / 7.0)
                .collect();
            (
                tensor1(&ramp, f32, device),
                tensor1(&ramp, f32, device).add_scalar(0.5),
            )
        };
        let (mean, variance) = statistics();
        match fused {
            true => op::batch_norm_then_inference(
                input,
                [mean, variance],
                [gamma, beta],
                EPSILON,
                Then::new().relu(),
            ),
            false => relu(op::batch_norm_inference(
                input, mean, variance, gamma, beta, EPSILON,
            )),
        }
    } else {
        match fused {
            true => {
                op::batch_norm_then_train(input, gamma, beta, EPSILON, Then::new().relu()).output
            }
            false => relu(op::batch_norm_train(input, gamma, beta, EPSILON).output),
        }
    };
    let weights = Array {
        values: array
            .values
            .iter()
            .map(|value| (7.0 * value).sin())
            .collect(),
        ..*array
    };
    let loss = (output.clone() * tensor3(&weights, f32, device)).sum();
    let gradients = loss.backward();
    let (input, gamma, beta) = leaves;
    [
        to_f64(output),
        to_f64(input.grad(&gradients).expect("it requires a gradient")),
        to_f64(gamma.grad(&gradients).expect("it requires a gradient")),
        to_f64(beta.grad(&gradients).expect("it requires a gradient")),
    ]
}

/// A CPU is compared with itself. GPUs are compared with a CPU too: on the software Vulkan driver, Burn 0.22.1 fuses
/// its ReLU of `[7, 1, 30]` and a sum into a kernel that writes wrong values.
#[test]
fn is_what_the_two_are_one_after_the_other() {
    let processor = devices().into_iter().find(is_processor);
    for (batch, channels, inner) in SHAPES {
        let array = sample(batch, channels, inner, 11);
        for device in devices() {
            let apart = processor.clone().filter(|_| !is_processor(&device));
            let apart = apart.unwrap_or(device.clone());
            for given in [false, true] {
                let [output, input, gamma, beta] = run(&array, &device, given, true);
                let expected = run(&array, &apart, given, false);
                let rest = output.iter().filter(|&&y| y > 0.0).count();
                assert!(output.len() < 30 || (1..output.len()).contains(&rest));
                // With the batch's statistics, the kernel with the ReLU uses rounded statistics, as its backward pass
                // does.
                if is_processor(&device) && given {
                    assert_eq!(output, expected[0], "{batch} x {channels} x {inner}");
                } else {
                    assert_close("output", &output, &expected[0], 2e-6);
                }
                let count = (batch * inner) as f64;
                assert_close("input", &input, &expected[1], 1e-5);
                assert_close("gamma", &gamma, &expected[2], 1e-6 * count.max(10.0));
                assert_close("beta", &beta, &expected[3], 1e-6 * count.max(10.0));
            }
        }
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    for device in devices().into_iter().filter(is_processor) {
        for (batch, channels, inner) in SHAPES {
            let array = sample(batch, channels, inner, 5);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().expect("there can be threads");
                pool.install(|| run(&array, &device, false, true))
            };
            let one = on(1);
            assert_eq!(one, on(2));
            assert_eq!(one, on(3));
        }
    }
}

/// Each channel has an output that is 0 up to rounding; in half precision, also one that is too small for the type. The
/// weights of the first values are powers of 2, so the gradient of beta shows exactly which of them passed.
#[test]
fn the_gradient_passes_exactly_where_the_output_is_above_zero() {
    const TOLD: usize = 15;
    for (batch, channels, inner) in [(20, 64, 1), (3, 50, 7), (40_000, 20, 1), (3, 7, 50_001)] {
        let array = sample(batch, channels, inner, 21);
        let place = |told: usize, channel: usize| {
            (told / inner * channels + channel) * inner + told % inner
        };
        let mut weights = Array {
            values: vec![0.0; array.values.len()],
            ..array
        };
        for (told, channel) in (0..TOLD).flat_map(|told| (0..channels).map(move |it| (told, it))) {
            weights.values[place(told, channel)] = f64::from(1 << told);
        }
        for dtype in [FloatDType::F32, FloatDType::F16] {
            let all = oracle::devices_with(dtype);
            for device in &all {
                for given in [false, true] {
                    let none = Tensor::zeros([channels], device);
                    let products = to_f64(affine(&array, none, dtype, given, false));
                    let beta: Vec<f64> = (0..channels)
                        .map(|channel| {
                            let above = if channel % 3 == 0 { 2e-8 } else { 0.0 };
                            above - products[place(channel % TOLD, channel)]
                        })
                        .collect();
                    let device = device.clone().autodiff();
                    let beta = tensor1(&beta, FloatDType::F32, &device).require_grad();
                    let output = affine(&array, beta.clone(), dtype, given, true);
                    let weighted = output.clone() * tensor3(&weights, dtype, &device);
                    let gradients = weighted.sum().backward();
                    let found = to_f64(beta.grad(&gradients).expect("it requires a gradient"));
                    let output = to_f64(output);
                    let expected: Vec<f64> = (0..channels)
                        .map(|channel| {
                            let above =
                                (0..TOLD).filter(|&told| output[place(told, channel)] > 0.0);
                            above.map(|told| f64::from(1 << told)).sum()
                        })
                        .collect();
                    assert_eq!(found, expected, "{batch} x {channels} x {inner}, {dtype:?}");
                }
            }
        }
    }
}

/// The output with this beta, with the batch's statistics or given ones, with or without a ReLU.
fn affine(array: &Array, beta: Tensor<1>, dtype: FloatDType, given: bool, relu: bool) -> Tensor<3> {
    let device = &beta.device();
    let input = tensor3(array, dtype, device);
    let (gamma, ramp) = parameters(array.channels, 4);
    let [gamma, mean] = [gamma, ramp].map(|it| tensor1(&it, FloatDType::F32, device));
    let variance = mean.clone().square() + 0.5;
    let (gamma, beta) = (Some(gamma), Some(beta));
    match (given, relu) {
        (false, false) => op::batch_norm_train(input, gamma, beta, EPSILON).output,
        (false, true) => {
            op::batch_norm_then_train(input, gamma, beta, EPSILON, Then::new().relu()).output
        }
        (true, false) => op::batch_norm_inference(input, mean, variance, gamma, beta, EPSILON),
        (true, true) => op::batch_norm_then_inference(
            input,
            [mean, variance],
            [gamma, beta],
            EPSILON,
            Then::new().relu(),
        ),
    }
}

/// NaN is handled as in Burn's ReLU.
#[test]
fn what_is_not_a_number_goes_through() {
    let mut array = sample(40, 6, 70, 2);
    array.values[70 + 3] = f64::NAN;
    for device in devices() {
        let input = tensor3(&array, FloatDType::F32, &device);
        let BatchNormOutput { output, .. } =
            op::batch_norm_then_train(input, None, None, EPSILON, Then::new().relu());
        for (index, y) in to_f64(output).into_iter().enumerate() {
            assert_eq!(y.is_nan(), index / 70 % 6 == 1, "at {index}");
        }
    }
}

#[test]
fn the_layer_with_a_relu_is_the_layer_and_a_relu() {
    for device in devices() {
        let training = device.clone().autodiff();
        let layers = [(); 2].map(|()| BatchNormConfig::new(6).init(&training));
        let input = |device| tensor3(&sample(20, 6, 9, 8), FloatDType::F32, device);
        let [ours, apart] = &layers;
        let same = |fused: Tensor<3>, apart: Tensor<3>| {
            assert_close("output", &to_f64(fused), &to_f64(relu(apart)), 2e-6);
        };
        same(
            ours.forward_relu(input(&training)),
            apart.forward(input(&training)),
        );
        for running in [
            |it: &BatchNorm| it.running_mean.value_sync(),
            |it: &BatchNorm| it.running_var.value_sync(),
        ] {
            let [ours, apart] = [ours, apart].map(|layer| to_f64(running(layer)));
            assert_close("running", &ours, &apart, 1e-6);
        }
        Mode::Inference.run(|| {
            same(
                ours.forward_relu(input(&training)),
                apart.forward(input(&training)),
            );
        });
        let [ours, apart] = layers.map(|layer| layer.valid());
        same(
            ours.forward_relu(input(&device)),
            apart.forward(input(&device)),
        );
        let none = Tensor::<3>::zeros([0, 6, 9], &device);
        assert_eq!(ours.forward_relu(none).dims(), [0, 6, 9]);
    }
}
