//! Ties, infinities, NaN, empty batches, misuse, and the layer.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::tensor::activation::{leaky_relu, relu, sigmoid, silu, tanh};
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::init::Activation;
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, Then, freeze};
use burn_kindling::observe::Tap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::devices::{any_device, devices, is_processor, processors};
use crate::{numbers, tensor};

/// A frozen layer that passes its input on: the running mean is 0, the variance 1, and epsilon too small to matter.
fn unchanged(channels: usize, device: &Device) -> BatchNorm {
    let config = BatchNormConfig::new(channels).with_epsilon(1e-30);
    freeze(config.init(device))
}

/// The output and the input's gradient, as bits, with NaN as one number.
fn run(
    values: &[f64],
    shape: [usize; 4],
    dtype: DType,
    device: &Device,
    of: impl Fn(Tensor<4>) -> Tensor<4>,
) -> [Vec<f64>; 2] {
    let input = tensor(values, shape, dtype, &device.clone().autodiff()).require_grad();
    let output = of(input.clone());
    let weights: Vec<f64> = (0..output.shape().num_elements())
        .map(|it| 1.0 + it as f64)
        .collect();
    let weights = tensor(&weights, output.dims(), dtype, &output.device());
    // Not multiplied: NaN times a weight would hide where the gradient goes.
    let gradients = (output.clone() * weights.clone()).sum().backward();
    let gradient = input.grad(&gradients).unwrap();
    [output, gradient].map(numbers)
}

fn assert_same(found: [Vec<f64>; 2], expected: [Vec<f64>; 2], what: &str) {
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                found == expected || found.is_nan() && expected.is_nan(),
                "{what}: found {found}, expected {expected}"
            );
        }
    }
}

type Step<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<4>;

/// In single precision, two ways give about the same output and gradient.
fn assert_alike(values: &[f64], shape: [usize; 4], device: &Device, fused: Step, apart: Step) {
    let [found, expected] = [fused, apart].map(|of| run(values, shape, DType::F32, device, of));
    for (found, expected) in found.iter().zip(&expected) {
        assert!(crate::error(found, expected) < 1e-5, "{device:?}");
    }
}

/// On the CPU, Burn's pooling decides ties, NaN and infinities as PyTorch's does.
#[test]
fn ties_and_what_is_not_finite_go_where_burn_sends_them_on_the_cpu() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let images: [[f64; 16]; 6] = [
        [1.0; 16],
        [0.0; 16],
        [-inf; 16],
        [
            nan, 1.0, 2.0, nan, nan, nan, 3.0, inf, -inf, -inf, 0.0, -0.0, -inf, -inf, -1.0, nan,
        ],
        [
            -1.0, -1.0, -2.0, -2.0, -1.0, -1.0, -2.0, 0.0, inf, inf, inf, 5.0, inf, inf, 5.0, 5.0,
        ],
        [
            2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0, 5.0, 5.0, 4.0, 4.0, 5.0, 5.0,
        ],
    ];
    for device in devices() {
        let on_cpu = match is_processor(&device) {
            true => Some(device.clone()),
            false => processors().into_iter().next(),
        };
        let Some(on_cpu) = on_cpu else { continue };
        let [norm, plain] = [&device, &on_cpu].map(|it| unchanged(1, &it.clone().autodiff()));
        for image in images {
            for (size, stride, padding) in [(2, 2, 0), (3, 2, 1), (2, 1, 1), (3, 1, 1), (4, 3, 2)] {
                let pool = MaxPool2dConfig::new([size, size])
                    .with_strides([stride, stride])
                    .with_padding(PaddingConfig2d::Explicit(
                        padding, padding, padding, padding,
                    ))
                    .init();
                for dtype in [DType::F32, DType::F64] {
                    if dtype == DType::F64 && !is_processor(&device) {
                        continue;
                    }
                    // A layer in f64 would need parameters in f64: the operation casts them.
                    let what =
                        format!("{image:?}, window {size}, stride {stride}, padding {padding}");
                    let of = |then: fn() -> Then<4>| {
                        let (norm, pool) = (&norm, &pool);
                        move |x| norm.forward_then(x, then().max_pool(pool))
                    };
                    let plain = |x| plain.forward(x);
                    let shape = [1, 1, 4, 4];
                    let fused = |of: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                        run(&image, shape, dtype, &device, of)
                    };
                    let apart = |of: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                        run(&image, shape, dtype, &on_cpu, of)
                    };
                    assert_same(
                        fused(&of(Then::new)),
                        apart(&|x| pool.forward(plain(x))),
                        &what,
                    );
                    assert_same(
                        fused(&of(|| Then::new().relu())),
                        apart(&|x| pool.forward(relu(plain(x)))),
                        &format!("{what}, ReLU"),
                    );
                    // At 0, Burn takes the slope above it, and PyTorch that below it, as the kernels do.
                    if !image.contains(&0.0) {
                        assert_same(
                            fused(&of(|| Then::new().leaky_relu(0.5))),
                            apart(&|x| pool.forward(leaky_relu(plain(x), 0.5))),
                            &format!("{what}, leaky ReLU"),
                        );
                    }
                }
            }
        }
    }
}

/// What the kernels do not take, Burn does.
#[test]
fn poolings_and_slopes_that_are_not_fused_are_done_by_burn() {
    let values: Vec<f64> = (0..2 * 3 * 7 * 8)
        .map(|it| (1.3 * it as f64).sin())
        .collect();
    let maxima = [
        MaxPool2dConfig::new([2, 2]).with_dilation([2, 1]),
        MaxPool2dConfig::new([3, 3])
            .with_strides([2, 2])
            .with_ceil_mode(true),
        MaxPool2dConfig::new([2, 2])
            .with_strides([1, 1])
            .with_padding(PaddingConfig2d::Same),
        MaxPool2dConfig::new([3, 3])
            .with_strides([1, 1])
            .with_padding(PaddingConfig2d::Same),
        MaxPool2dConfig::new([3, 3]).with_padding(PaddingConfig2d::Explicit(1, 0, 0, 1)),
    ];
    let averages = [
        AvgPool2dConfig::new([3, 3])
            .with_strides([2, 2])
            .with_ceil_mode(true),
        AvgPool2dConfig::new([2, 2])
            .with_strides([1, 1])
            .with_padding(PaddingConfig2d::Same),
        AvgPool2dConfig::new([3, 3])
            .with_strides([1, 1])
            .with_padding(PaddingConfig2d::Same),
    ];
    for device in processors() {
        let norm = unchanged(3, &device);
        let input = || tensor(&values, [2, 3, 7, 8], DType::F32, &device);
        let same = |found: Tensor<4>, expected: Tensor<4>| {
            assert_eq!(found.dims(), expected.dims());
            assert!(crate::error(&numbers(found), &numbers(expected)) < 1e-5);
        };
        for pool in &maxima {
            let pool = pool.init();
            let then = Then::new().relu().max_pool(&pool);
            same(
                norm.forward_then(input(), then),
                pool.forward(relu(norm.forward(input()))),
            );
        }
        for pool in &averages {
            let pool = pool.init();
            let then = Then::new().add_residual(input()).avg_pool(&pool);
            let expected = pool.forward(norm.forward(input()) + input());
            same(norm.forward_then(input(), then), expected);
        }
        for slope in [-0.5, 0.0] {
            let then = Then::new().leaky_relu(slope);
            same(
                norm.forward_then(input(), then),
                leaky_relu(norm.forward(input()), slope),
            );
        }
    }
}

/// A pooling comes last: SiLU and GELU fall before they rise. On NdArray, the gradient of Burn's GELU is approximate.
#[test]
fn smooth_activations_are_burns() {
    type Pair = (fn(Then<4>) -> Then<4>, fn(Tensor<4>) -> Tensor<4>);
    let activations: [Pair; 4] = [
        (Then::sigmoid, sigmoid),
        (Then::tanh, tanh),
        (Then::silu, silu),
        (Then::gelu, |z| Activation::Gelu.forward(z)),
    ];
    let shape = [2, 3, 6, 8];
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|it| (1.3 * it as f64).sin())
        .collect();
    let skip: Vec<f64> = values.iter().map(|it| 2.0 * it * it - 1.0).collect();
    let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    for device in processors() {
        let norm: BatchNorm = BatchNormConfig::new(3).init(&device.clone().autodiff());
        let skip = || tensor(&skip, shape, DType::F32, &device.clone().autodiff());
        for (then, activation) in activations {
            let same =
                |fused: Step, apart: Step| assert_alike(&values, shape, &device, fused, apart);
            let after = |x| norm.forward_then(x, then(Then::new()));
            same(&after, &|x| activation(norm.forward(x)));
            let added = |x| norm.forward_then(x, then(Then::new().add_residual(skip())));
            same(&added, &|x| activation(norm.forward(x) + skip()));
            let pooled =
                |x| norm.forward_then(x, then(Then::new().add_residual(skip())).max_pool(&pool));
            same(&pooled, &|x| {
                pool.forward(activation(norm.forward(x) + skip()))
            });
        }
    }
}

#[test]
fn the_activation_can_be_chosen_at_run_time() {
    let shape = [2, 3, 6, 8];
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|it| (1.3 * it as f64).sin())
        .collect();
    let pool = MaxPool2dConfig::new([3, 2]).with_strides([2, 2]).init();
    for device in processors() {
        let norm: BatchNorm = BatchNormConfig::new(3).init(&device.clone().autodiff());
        for activation in Activation::ALL {
            let then = || Then::new().activate(activation);
            let apart = |x| activation.forward(norm.forward(x));
            let same =
                |fused: Step, apart: Step| assert_alike(&values, shape, &device, fused, apart);
            same(&|x| norm.forward_then(x, then()), &apart);
            same(&|x| norm.forward_then(x, then().max_pool(&pool)), &|x| {
                pool.forward(apart(x))
            });
            same(&|x| then().max_pool(&pool).apply(norm.forward(x)), &|x| {
                pool.forward(apart(x))
            });
        }
    }
}

/// In single precision, up to a few units in the last place, from where they are 0 to where they no longer change.
#[test]
fn smooth_activations_are_accurate_at_both_ends() {
    let mut values: Vec<f64> = (-2200..=2200)
        .map(|it| f64::from(it as f32 * 0.05))
        .collect();
    values.extend([
        1e-3, -1e-3, 1e-10, -1e-10, 1e-38, -1e-38, 0.0, 0.624_999, 0.625, -86.9, -103.5,
    ]);
    let shape = [1, 1, 1, values.len()];
    type Case = (fn(Then<4>) -> Then<4>, fn(f64) -> [f64; 2]);
    let cases: [Case; 3] = [
        (Then::sigmoid, |z| {
            [sigmoid_of(z), sigmoid_of(z) * sigmoid_of(-z)]
        }),
        (Then::tanh, |z| {
            [z.tanh(), 4.0 * sigmoid_of(2.0 * z) * sigmoid_of(-2.0 * z)]
        }),
        (Then::silu, |z| {
            let s = sigmoid_of(z);
            [z * s, s + z * s * sigmoid_of(-z)]
        }),
    ];
    for device in processors() {
        let norm = unchanged(1, &device.clone().autodiff());
        for (then, exact) in cases {
            let [output, gradient] = run(&values, shape, DType::F32, &device, |x| {
                norm.forward_then(x, then(Then::new()))
            });
            for (at, &value) in values.iter().enumerate() {
                let z = f64::from(value as f32);
                let [y, slope] = exact(z);
                // `run` weighs the outputs by 1, 2, 3, ... The slope of a SiLU is a sum, which is 0 at -1.28.
                let terms = (1.0 + z.abs()) * (-z.abs()).exp();
                let weight = 1.0 + at as f64;
                for (found, exact, scale) in [
                    (output[at], y, y.abs()),
                    (gradient[at] / weight, slope, slope.abs().max(terms)),
                ] {
                    let allowed = 4.0 * f64::from(f32::EPSILON) * scale + 2e-45 * (1.0 + z.abs());
                    assert!(
                        (found - exact).abs() <= allowed,
                        "{found:e} is not {exact:e} at {z} on {device:?}"
                    );
                }
            }
            let (nan, infinity) = (f64::NAN, f64::INFINITY);
            let [output, _] = run(&[nan, infinity], [1, 1, 1, 2], DType::F32, &device, |x| {
                norm.forward_then(x, then(Then::new()))
            });
            assert!(output[0].is_nan(), "{output:?}");
            assert_eq!(output[1], exact(infinity)[0]);
        }
    }
}

fn sigmoid_of(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[test]
fn a_leaky_relu_has_the_slope_below_0_at_0_as_in_pytorch() {
    for device in devices() {
        let norm = unchanged(1, &device.clone().autodiff());
        let [output, gradient] = run(&[0.0; 4], [1, 1, 2, 2], DType::F32, &device, |x| {
            norm.forward_then(x, Then::new().leaky_relu(0.25))
        });
        assert_eq!(output, [0.0; 4]);
        assert_eq!(gradient, [0.25, 0.5, 0.75, 1.0]);
    }
}

/// Nothing stands between them, so the kernels have no gradient to compute, and must not take memory for one.
#[test]
fn a_residual_alone_gets_the_gradient_of_the_output_though_others_hold_it() {
    for device in devices() {
        let device = device.autodiff();
        let values: Vec<f64> = (0..2 * 3 * 40).map(|it| (it as f64).sin()).collect();
        let leaf = || tensor(&values, [2, 3, 8, 5], DType::F32, &device).require_grad();
        let (input, skip) = (leaf(), leaf());
        let norm: BatchNorm = BatchNormConfig::new(3).init(&device);
        let output = norm.forward_then(input, Then::new().add_residual(skip.clone()));
        let (output, tap) = Tap::of(output);
        let gradients = output.sin().sum().backward();
        let of_output = tap.unwrap().gradient(&gradients).unwrap();
        assert_eq!(numbers(skip.grad(&gradients).unwrap()), numbers(of_output));
    }
}

/// On a GPU, more channels than a grid has cubes: Burn's operations do it.
#[test]
fn many_channels_are_pooled_too() {
    let shape = [1, 70_000, 2, 3];
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|it| (1.3 * it as f64).sin())
        .collect();
    let max = MaxPool2dConfig::new([2, 2]).with_strides([1, 1]).init();
    let average = AvgPool2dConfig::new([2, 2]).with_strides([1, 1]).init();
    for device in devices() {
        let norm: BatchNorm = BatchNormConfig::new(shape[1]).init(&device.clone().autodiff());
        let skip = || tensor(&values, shape, DType::F32, &device.clone().autodiff());
        let same = |fused: Step, apart: Step| assert_alike(&values, shape, &device, fused, apart);
        let then = || Then::new().add_residual(skip()).relu();
        let apart = |x| relu(norm.forward(x) + skip());
        same(&|x| norm.forward_then(x, then().max_pool(&max)), &|x| {
            max.forward(apart(x))
        });
        same(&|x| norm.forward_then(x, then().avg_pool(&average)), &|x| {
            average.forward(apart(x))
        });
    }
}

#[test]
fn an_empty_batch_stays_empty() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(3).init(&device);
        let none = || Tensor::<4>::zeros([0, 3, 4, 4], &device);
        let then = Then::new().add_residual(none()).relu();
        assert_eq!(norm.forward_then(none(), then).dims(), [0, 3, 4, 4]);
    }
}

/// The message of a panic.
fn panic_of<R>(run: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).err().expect("a panic");
    match payload.downcast_ref::<String>() {
        Some(message) => message.clone(),
        None => payload.downcast_ref::<&str>().unwrap().to_string(),
    }
}

#[test]
fn misuse_is_refused_with_what_was_wrong() {
    let device = any_device();
    let norm = BatchNormConfig::new(3).init(&device);
    let zeros = |shape: [usize; 4]| Tensor::<4>::zeros(shape, &device);
    let message = panic_of(|| {
        norm.forward_then(
            zeros([2, 3, 4, 4]),
            Then::new().add_residual(zeros([2, 3, 4, 1])),
        )
    });
    assert_eq!(
        message,
        "batch norm adds a residual of its input's shape and type: [2, 3, 4, 4] of F32, found [2, 3, 4, 1] of F32"
    );
    let half = zeros([2, 3, 4, 4]).cast(burn::tensor::FloatDType::F64);
    let message =
        panic_of(|| norm.forward_then(zeros([2, 3, 4, 4]), Then::new().add_residual(half)));
    assert!(message.contains("F64"), "{message}");
    let message = panic_of(|| Then::new().relu().add_residual(zeros([1, 3, 2, 2])));
    assert!(message.contains("before the activation"), "{message}");
    let message = panic_of(|| Then::<4>::new().relu().leaky_relu(0.1));
    assert!(message.contains("one activation"), "{message}");
    let pool = MaxPool2dConfig::new([2, 2]).init();
    let message = panic_of(|| Then::new().max_pool(&pool).relu());
    assert!(message.contains("before the pooling"), "{message}");
    let message = panic_of(|| Then::new().max_pool(&pool).max_pool(&pool));
    assert!(message.contains("once"), "{message}");
}

/// The layer's modes, its running statistics, freezing and gradient checkpointing.
#[test]
fn the_layer_does_what_its_parts_do() {
    let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let values: Vec<f64> = (0..4 * 3 * 6 * 6)
        .map(|it| (0.37 * it as f64).sin())
        .collect();
    for device in devices() {
        let plain = device.clone();
        let autodiff = device.autodiff();
        for device in [autodiff.clone(), autodiff.gradient_checkpointing()] {
            let input =
                |shift: f64| tensor(&values, [4, 3, 6, 6], DType::F32, &device).add_scalar(shift);
            let [ours, apart] = [(); 2].map(|()| BatchNormConfig::new(3).init(&device));
            let fused = |norm: &BatchNorm, x: Tensor<4>, r: Tensor<4>| {
                norm.forward_then(x, Then::new().add_residual(r).relu().max_pool(&pool))
            };
            let steps = |norm: &BatchNorm, x: Tensor<4>, r: Tensor<4>| {
                pool.forward(relu(norm.forward(x) + r))
            };
            let gradients = |of: &dyn Fn(Tensor<4>, Tensor<4>) -> Tensor<4>| {
                let [x, r] = [input(0.3).require_grad(), input(-0.2).require_grad()];
                let output = of(x.clone(), r.clone());
                let found = output.clone().powi_scalar(2).sum().backward();
                let [x, r] = [x, r].map(|leaf| leaf.grad(&found).unwrap());
                [output, x, r].map(numbers)
            };
            let same = |a: [Vec<f64>; 3], b: [Vec<f64>; 3]| {
                for (a, b) in a.iter().zip(&b) {
                    assert!(crate::error(a, b) < 1e-5, "{}", crate::error(a, b));
                }
            };
            same(
                gradients(&|x, r| fused(&ours, x, r)),
                gradients(&|x, r| steps(&apart, x, r)),
            );
            for running in [
                |it: &BatchNorm| it.running_mean.value_sync(),
                |it: &BatchNorm| it.running_var.value_sync(),
            ] {
                let [ours, apart] = [&ours, &apart].map(|layer| numbers(running(layer)));
                assert!(crate::error(&ours, &apart) < 1e-6);
            }
            for mode in [Mode::Inference, Mode::TestTimeAdaptation] {
                same(
                    gradients(&|x, r| mode.run(|| fused(&ours, x, r))),
                    gradients(&|x, r| mode.run(|| steps(&apart, x, r))),
                );
            }
            let [ours, apart] = [freeze(ours), freeze(apart)];
            same(
                gradients(&|x, r| fused(&ours, x, r)),
                gradients(&|x, r| steps(&apart, x, r)),
            );
            let [ours, apart] = [ours.valid(), apart.valid()];
            let x = || tensor(&values, [4, 3, 6, 6], DType::F32, &plain);
            let [found, expected] = [fused(&ours, x(), x()), steps(&apart, x(), x())].map(numbers);
            assert!(crate::error(&found, &expected) < 1e-5);
        }
    }
}
