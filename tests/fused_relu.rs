//! Compares batch norm, a residual and a ReLU in one operation with the same one after the other.

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

/// What is computed.
#[derive(Clone, Copy, Debug)]
struct Task {
    /// By given statistics, or the batch's.
    given: bool,
    /// With a residual.
    residual: bool,
}

const TASKS: [Task; 4] = [
    Task::new(false, false),
    Task::new(true, false),
    Task::new(false, true),
    Task::new(true, true),
];

impl Task {
    const fn new(given: bool, residual: bool) -> Self {
        Self { given, residual }
    }

    /// The output, and the gradients of input, gamma, beta and residual, of one operation.
    fn fused(self, array: &Array, device: &Device) -> [Vec<f64>; 5] {
        self.run(array, device, |leaves, then| {
            let (input, affine) = leaves;
            match self.statistics(&input) {
                Some(given) => {
                    op::batch_norm_then_inference(input, given, affine, EPSILON, then.relu())
                }
                None => {
                    let [gamma, beta] = affine;
                    op::batch_norm_then_train(input, gamma, beta, EPSILON, then.relu()).output
                }
            }
        })
    }

    /// The same, of one operation after the other.
    fn apart(self, array: &Array, device: &Device) -> [Vec<f64>; 5] {
        self.run(array, device, |leaves, then| {
            let (input, [gamma, beta]) = leaves;
            let output = match self.statistics(&input) {
                Some([mean, variance]) => {
                    op::batch_norm_inference(input, mean, variance, gamma, beta, EPSILON)
                }
                None => op::batch_norm_train(input, gamma, beta, EPSILON).output,
            };
            relu(then.apply(output))
        })
    }

    fn statistics(self, input: &Tensor<3>) -> Option<[Tensor<1>; 2]> {
        let ramp: Vec<f64> = (0..input.dims()[1])
            .map(|it| it as f64 % 7.0 / 7.0)
            .collect();
        let ramp = || tensor1(&ramp, FloatDType::F32, &input.device());
        self.given.then(|| [ramp(), ramp().add_scalar(0.5)])
    }

    fn run(
        self,
        array: &Array,
        device: &Device,
        forward: impl FnOnce((Tensor<3>, [Option<Tensor<1>>; 2]), Then<3>) -> Tensor<3>,
    ) -> [Vec<f64>; 5] {
        let f32 = FloatDType::F32;
        let device = &device.clone().autodiff();
        let (gamma, beta) = parameters(array.channels, 3);
        let input = tensor3(array, f32, device).require_grad();
        let [gamma, beta] = [gamma, beta].map(|it| tensor1(&it, f32, device).require_grad());
        let skip = tensor3(&residual(array), f32, device).require_grad();
        let then = match self.residual {
            true => Then::new().add_residual(skip.clone()),
            false => Then::new(),
        };
        let affine = [&gamma, &beta].map(|it| Some(it.clone()));
        let output = forward((input.clone(), affine), then);
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
        let of_image = |leaf: Tensor<3>| leaf.grad(&gradients).map(to_f64);
        let of_channels = |leaf: Tensor<1>| leaf.grad(&gradients).map(to_f64);
        [
            to_f64(output),
            of_image(input).expect("it requires a gradient"),
            of_channels(gamma).expect("it requires a gradient"),
            of_channels(beta).expect("it requires a gradient"),
            of_image(skip).unwrap_or_default(),
        ]
    }
}

/// A residual for an input: about as large, and unlike it.
fn residual(array: &Array) -> Array {
    let values = array.values.iter().enumerate();
    Array {
        values: values
            .map(|(index, x)| f64::from((x + index as f64).cos() as f32))
            .collect(),
        ..*array
    }
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
            for task in TASKS {
                let [output, input, gamma, beta, residual] = task.fused(&array, &device);
                let expected = task.apart(&array, &apart);
                let rest = output.iter().filter(|&&y| y > 0.0).count();
                assert!(output.len() < 30 || (1..output.len()).contains(&rest));
                // With the batch's statistics, the kernel with the ReLU uses rounded statistics, as its backward pass
                // does.
                if is_processor(&device) && task.given {
                    assert_eq!(output, expected[0], "{batch} x {channels} x {inner}");
                } else {
                    assert_close("output", &output, &expected[0], 2e-6);
                }
                let count = (batch * inner) as f64;
                assert_close("input", &input, &expected[1], 1e-5);
                assert_close("gamma", &gamma, &expected[2], 1e-6 * count.max(10.0));
                assert_close("beta", &beta, &expected[3], 1e-6 * count.max(10.0));
                assert_close("residual", &residual, &expected[4], 0.0);
            }
        }
    }
}

/// Burn's kernels may differ from one call to the next: with these weights, they have no part in the gradients.
#[test]
fn every_run_gives_the_same_bits() {
    for device in devices() {
        for (batch, channels, inner) in SHAPES {
            let array = sample(batch, channels, inner, 7);
            for task in TASKS {
                let [first, second] = [(); 2].map(|()| task.fused(&array, &device));
                assert_eq!(first, second, "{batch} x {channels} x {inner}, {task:?}");
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
                pool.install(|| TASKS.map(|task| task.fused(&array, &device)))
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
                for task in TASKS {
                    let none = Tensor::zeros([channels], device);
                    let products = to_f64(affine(&array, none, dtype, task, false));
                    let beta: Vec<f64> = (0..channels)
                        .map(|channel| {
                            let above = if channel % 3 == 0 { 2e-8 } else { 0.0 };
                            above - products[place(channel % TOLD, channel)]
                        })
                        .collect();
                    let device = device.clone().autodiff();
                    let beta = tensor1(&beta, FloatDType::F32, &device).require_grad();
                    let output = affine(&array, beta.clone(), dtype, task, true);
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
                    assert_eq!(
                        found, expected,
                        "{batch} x {channels} x {inner}, {dtype:?}, {task:?}"
                    );
                }
            }
        }
    }
}

/// The output with this beta, with or without a ReLU.
fn affine(array: &Array, beta: Tensor<1>, dtype: FloatDType, task: Task, relu: bool) -> Tensor<3> {
    let device = &beta.device();
    let input = tensor3(array, dtype, device);
    let (gamma, ramp) = parameters(array.channels, 4);
    let [gamma, mean] = [gamma, ramp].map(|it| tensor1(&it, FloatDType::F32, device));
    let variance = mean.clone().square() + 0.5;
    let mut then = Then::new();
    if task.residual {
        then = then.add_residual(tensor3(&residual(array), dtype, device));
    }
    if relu {
        then = then.relu();
    }
    let (gamma, beta) = (Some(gamma), Some(beta));
    match task.given {
        true => {
            let statistics = [mean, variance];
            op::batch_norm_then_inference(input, statistics, [gamma, beta], EPSILON, then)
        }
        false => op::batch_norm_then_train(input, gamma, beta, EPSILON, then).output,
    }
}

/// NaN is handled as in Burn's ReLU. One in the residual stays where it is.
#[test]
fn what_is_not_a_number_goes_through() {
    let mut array = sample(40, 6, 70, 2);
    let mut skip = residual(&array);
    array.values[70 + 3] = f64::NAN;
    skip.values[5 * 70] = f64::NAN;
    for device in devices() {
        let tensor = |array| tensor3(array, FloatDType::F32, &device);
        let added = || Then::new().add_residual(tensor(&skip));
        for (then, with_residual) in [
            (Then::new().relu(), false),
            (added(), true),
            (added().relu(), true),
            (added().leaky_relu(0.1), true),
        ] {
            let BatchNormOutput { output, .. } =
                op::batch_norm_then_train(tensor(&array), None, None, EPSILON, then);
            for (index, y) in to_f64(output).into_iter().enumerate() {
                let expected = index / 70 % 6 == 1 || with_residual && index == 5 * 70;
                assert_eq!(y.is_nan(), expected, "at {index}");
            }
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
