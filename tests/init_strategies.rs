//! The five initialisations: distributions, fans, and initialising layers again.

#[path = "common/devices.rs"]
mod devices;

use std::{
    f64::consts::PI,
    sync::{Mutex, MutexGuard, PoisonError},
};

use burn::{
    module::{Module, Param},
    nn::{
        Initializer, Linear, LinearConfig, LinearLayout,
        conv::{
            Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
            ConvTranspose3dConfig,
        },
    },
    tensor::{DType, Device, Distribution, Tensor, s},
};
use burn_kindling::init::{Activation, Fan, InitStrategy, Reinit, UnknownName};
use devices::{any_device, devices, is_processor};

const NORMALS: [InitStrategy; 4] = [
    InitStrategy::StandardNormal,
    InitStrategy::SmallNormal,
    InitStrategy::Xavier,
    InitStrategy::He,
];

/// Seeds the device and locks it against other tests: a backend has one generator per process.
fn seed(device: &Device, seed: u64) -> Seeded {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let guard = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    device.seed(seed);
    Seeded {
        device: device.clone(),
        _guard: guard,
    }
}

struct Seeded {
    device: Device,
    _guard: MutexGuard<'static, ()>,
}

/// With operation fusion, a draw may run long after the call. It must not take numbers from the next test's generator.
impl Drop for Seeded {
    fn drop(&mut self) {
        let _ = self.device.sync();
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The distribution function of N(0, 1), by Marsaglia's series.
fn phi(x: f64) -> f64 {
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-18 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

/// Asserts that an estimate lies within 5 of its standard errors.
#[track_caller]
fn assert_within_5_sigma(what: &str, found: f64, expected: f64, standard_error: f64) {
    let sigmas = (found - expected) / standard_error;
    assert!(
        sigmas.abs() < 5.0,
        "{what}: found {found}, expected {expected}, {sigmas:.1} standard errors away"
    );
}

/// Asserts that these are weights of mean 0 and this standard deviation.
#[track_caller]
fn assert_mean_and_std(values: &[f64], std: f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    assert_within_5_sigma("mean", mean, 0.0, std / n.sqrt());
    assert_within_5_sigma("std", variance.sqrt(), std, std / (2.0 * n).sqrt());
}

#[test]
fn the_normal_distribution_function_is_right() {
    // Abramowitz & Stegun, table 26.1.
    for (x, p) in [
        (0.0, 0.5),
        (1.0, 0.841344746068543),
        (2.0, 0.977249868051821),
        (-3.0, 0.001349898031630),
        (5.0, 0.999999713348428),
    ] {
        assert!((phi(x) - p).abs() < 1e-14, "phi({x}) = {}", phi(x));
    }
}

#[test]
fn weights_are_normal() {
    const SIDE: usize = 1024;
    const FAN_IN: usize = 784;
    let n = (SIDE * SIDE) as f64;

    for device in devices() {
        for strategy in NORMALS {
            let _guard = seed(&device, 20_261_123);
            let weight = strategy.init::<2>([SIDE, SIDE], FAN_IN, &device);
            let std = match strategy {
                InitStrategy::Zeros => unreachable!(),
                InitStrategy::StandardNormal => 1.0,
                InitStrategy::SmallNormal => 0.01,
                InitStrategy::Xavier => 1.0 / 28.0,
                InitStrategy::He => 2f64.sqrt() / 28.0,
            };
            assert!((strategy.std(FAN_IN) - std).abs() < 1e-15);

            let mut z = values(weight.val());
            assert_mean_and_std(&z, std);
            z.iter_mut().for_each(|z| *z /= std);

            let moment = |k| z.iter().map(|z| z.powi(k)).sum::<f64>() / n;
            let (m1, m2, m3, m4) = (moment(1), moment(2), moment(3), moment(4));
            let variance = m2 - m1 * m1;
            let third = m3 - 3.0 * m1 * m2 + 2.0 * m1.powi(3);
            let fourth = m4 - 4.0 * m1 * m3 + 6.0 * m1 * m1 * m2 - 3.0 * m1.powi(4);
            let skewness = third / variance.powf(1.5);
            let kurtosis = fourth / variance.powi(2) - 3.0;
            assert_within_5_sigma("skewness", skewness, 0.0, (6.0 / n).sqrt());
            assert_within_5_sigma("excess kurtosis", kurtosis, 0.0, (24.0 / n).sqrt());

            // Neighbours in a row, and in a column.
            for lag in [1, 2, SIDE] {
                let pairs = z.len() - lag;
                let r = z.iter().zip(&z[lag..]).map(|(a, b)| a * b).sum::<f64>() / pairs as f64;
                assert_within_5_sigma("autocorrelation", r, 0.0, 1.0 / (pairs as f64).sqrt());
            }

            for threshold in [3.0, 4.0] {
                let p = 2.0 * phi(-threshold);
                let tail = z.iter().filter(|z| z.abs() > threshold).count() as f64;
                assert_within_5_sigma("tail", tail, n * p, (n * p * (1.0 - p)).sqrt());
            }
            // 7 are expected; more than 25 occur once in ten million times.
            let far = z.iter().filter(|z| z.abs() > 4.5).count();
            assert!((1..=25).contains(&far), "{far} draws beyond 4.5 sigma");

            z.sort_by(f64::total_cmp);
            let distance = z
                .iter()
                .enumerate()
                .map(|(i, z)| {
                    let p = phi(*z);
                    (p - i as f64 / n).max((i + 1) as f64 / n - p)
                })
                .fold(0.0, f64::max);
            // Kolmogorov's distribution: exceeded once in a million times.
            let critical = (-(1e-6 / 2f64).ln() / 2.0).sqrt() / n.sqrt();
            assert!(
                distance < critical,
                "{strategy}: Kolmogorov-Smirnov distance {distance}, critical {critical}"
            );

            // Among a million draws rounded to f32, about 1% are equal pairs by chance.
            z.dedup();
            assert!(z.len() as f64 > 0.98 * n, "{} distinct values", z.len());
        }
    }
}

#[test]
fn zeros_are_zero() {
    for device in devices() {
        let weight = InitStrategy::Zeros.init::<2>([1024, 1024], 1024, &device);
        assert!(values(weight.val()).iter().all(|w| *w == 0.0));
        assert_eq!(InitStrategy::Zeros.std(1024), 0.0);
    }
}

#[test]
fn the_seed_fixes_the_weights() {
    for device in devices() {
        for strategy in NORMALS {
            let draw = |with| {
                let _guard = seed(&device, with);
                let [a, b] = [(); 2].map(|()| strategy.init::<2>([32, 16], 32, &device));
                (values(a.val()), values(b.val()))
            };
            let (a, b) = draw(7);
            assert_ne!(a, b, "the second parameter repeats the first");
            assert_eq!(draw(7), (a.clone(), b));
            assert_ne!(draw(8).0, a);
        }
    }
}

#[test]
fn parameters_are_drawn_at_the_first_look() {
    for device in devices() {
        let device = device.autodiff();
        for strategy in InitStrategy::ALL {
            let _guard = seed(&device, 1);
            let weight = strategy.init::<3>([8, 4, 3], 12, &device);
            let other = strategy.init::<3>([8, 4, 3], 12, &device);
            assert!(!weight.is_initialized());
            assert_ne!(weight.id, other.id);

            assert_eq!(weight.val().dims(), [8, 4, 3]);
            assert!(weight.is_initialized());
            assert!(weight.val().is_require_grad());

            let frozen = other.set_require_grad(false);
            assert!(!frozen.is_initialized());
            assert!(!frozen.val().is_require_grad());
        }
    }
}

#[test]
fn a_burn_initializer_draws_the_same() {
    for device in devices() {
        for strategy in InitStrategy::ALL {
            let ours = {
                let _guard = seed(&device, 3);
                values(strategy.init::<2>([200, 300], 200, &device).val())
            };
            let layer = LinearConfig::new(200, 300)
                .with_initializer(strategy.initializer(200))
                .init(&device);
            let burns = {
                let _guard = seed(&device, 3);
                values(layer.weight.val())
            };
            assert!(ours == burns, "{strategy} on {device:?}");
        }
    }
    assert_eq!(InitStrategy::Zeros.initializer(9), Initializer::Zeros);
    assert_eq!(
        InitStrategy::Xavier.initializer(4),
        Initializer::Normal {
            mean: 0.0,
            std: 0.5
        }
    );
}

#[test]
fn fans_are_counted_from_shapes() {
    let fan = |fan_in, fan_out| Fan { fan_in, fan_out };
    assert_eq!(Fan::linear([784, 100]), fan(784, 100));

    assert_eq!(Fan::conv([16, 8, 5], 1), fan(40, 80));
    assert_eq!(Fan::conv([32, 1, 3, 3], 1), fan(9, 288));
    assert_eq!(Fan::conv([32, 4, 3, 5], 2), fan(60, 240));
    assert_eq!(Fan::conv([32, 1, 3, 3], 32), fan(9, 9));
    assert_eq!(Fan::conv([6, 4, 3, 2, 2], 3), fan(48, 24));

    assert_eq!(Fan::conv_transpose([16, 8, 5], 1), fan(80, 40));
    assert_eq!(Fan::conv_transpose([64, 3, 4, 4], 1), fan(1024, 48));
    assert_eq!(Fan::conv_transpose([32, 4, 3, 5], 2), fan(240, 60));
    assert_eq!(Fan::conv_transpose([6, 4, 3, 2, 2], 3), fan(24, 48));

    let upsampled =
        |shape, stride: [usize; 2]| Fan::conv_transpose::<4>(shape, 1).upsampled_by(&stride);
    assert_eq!(upsampled([64, 3, 4, 4], [1, 1]), fan(1024, 48));
    assert_eq!(upsampled([64, 3, 4, 4], [2, 2]), fan(256, 48));
    assert_eq!(upsampled([64, 3, 2, 2], [2, 2]), fan(64, 12));
    // 2.25 taps per output on average.
    assert_eq!(upsampled([64, 3, 3, 3], [2, 2]), fan(144, 27));
    assert_eq!(upsampled([1, 3, 3, 3], [2, 2]), fan(2, 27));
    assert_eq!(upsampled([1, 3, 1, 1], [3, 3]), fan(1, 3));
}

/// With weights and inputs of 1, the output of an interior unit is its number of inputs, and the gradient of an input is
/// the number of outputs that it feeds.
#[track_caller]
fn assert_fan_by_counting<const D: usize>(
    input: [usize; D],
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
    fan: Fan,
    device: &Device,
) {
    let input = Tensor::ones(input, device).require_grad();
    let output = forward(input.clone());
    let gradient = input.grad(&output.clone().sum().backward()).unwrap();
    let counted = Fan {
        fan_in: output.max().into_scalar::<f32>() as usize,
        fan_out: gradient.max().into_scalar::<f32>() as usize,
    };
    assert_eq!(fan, counted);
}

#[test]
fn fans_count_the_connections_of_real_layers() {
    let ones = Initializer::Ones;
    // CPU devices only: a software GPU would add minutes, but test nothing new.
    for device in devices().into_iter().filter(is_processor) {
        let device = device.autodiff();

        let layer = LinearConfig::new(6, 9)
            .with_bias(false)
            .with_initializer(ones.clone())
            .init(&device);
        let fan = Fan::linear(layer.weight.dims());
        assert_fan_by_counting([1, 6], |x| layer.forward(x), fan, &device);

        macro_rules! check {
            ($config:expr, $groups:literal, $input:expr, $fan:expr) => {
                let layer = $config
                    .with_groups($groups)
                    .with_bias(false)
                    .with_initializer(ones.clone())
                    .init(&device);
                let fan = $fan(layer.weight.dims(), $groups);
                assert_fan_by_counting($input, |x| layer.forward(x), fan, &device);
            };
        }
        let dilated = Conv2dConfig::new([4, 6], [3, 3]).with_dilation([2, 2]);
        check!(Conv1dConfig::new(4, 6, 3), 1, [1, 4, 12], Fan::conv);
        check!(Conv1dConfig::new(4, 6, 3), 2, [1, 4, 12], Fan::conv);
        check!(
            Conv2dConfig::new([4, 6], [3, 2]),
            1,
            [1, 4, 9, 9],
            Fan::conv
        );
        check!(
            Conv2dConfig::new([4, 6], [3, 2]),
            2,
            [1, 4, 9, 9],
            Fan::conv
        );
        check!(dilated, 2, [1, 4, 15, 15], Fan::conv);
        check!(
            Conv3dConfig::new([4, 6], [3, 2, 2]),
            1,
            [1, 4, 7, 7, 7],
            Fan::conv
        );
        check!(
            Conv3dConfig::new([4, 6], [3, 2, 2]),
            2,
            [1, 4, 7, 7, 7],
            Fan::conv
        );

        let transpose_2d = ConvTranspose2dConfig::new([4, 6], [3, 2]);
        let transpose_3d = ConvTranspose3dConfig::new([4, 6], [3, 2, 2]);
        let upsampling = ConvTranspose2dConfig::new([4, 6], [4, 6]).with_stride([2, 3]);
        let upsampling_fan = |w, groups| Fan::conv_transpose::<4>(w, groups).upsampled_by(&[2, 3]);
        check!(
            ConvTranspose1dConfig::new([4, 6], 3),
            1,
            [1, 4, 9],
            Fan::conv_transpose
        );
        check!(
            ConvTranspose1dConfig::new([4, 6], 3),
            2,
            [1, 4, 9],
            Fan::conv_transpose
        );
        check!(transpose_2d.clone(), 1, [1, 4, 9, 9], Fan::conv_transpose);
        check!(transpose_2d, 2, [1, 4, 9, 9], Fan::conv_transpose);
        check!(upsampling, 2, [1, 4, 9, 9], upsampling_fan);
        check!(
            transpose_3d.clone(),
            1,
            [1, 4, 7, 7, 7],
            Fan::conv_transpose
        );
        check!(transpose_3d, 2, [1, 4, 7, 7, 7], Fan::conv_transpose);
    }
}

/// Everything about a layer but its values.
fn identity<const D: usize>(weight: &Param<Tensor<D>>, bias: &Option<Param<Tensor<1>>>) -> String {
    format!(
        "{:?} {:?} {:?} {:?}",
        (weight.id, weight.lazy_shape(), weight.is_initialized()),
        weight.lazy_device(),
        weight,
        bias.as_ref()
            .map(|bias| (bias.id, bias.lazy_shape(), bias.is_initialized())),
    )
}

#[test]
fn every_layer_kind_starts_anew() {
    // CPU devices only: a software GPU would add minutes, but test nothing new.
    for device in devices().into_iter().filter(is_processor) {
        let device = device.autodiff();
        macro_rules! check {
            ($layer:expr, $fan_in:expr) => {
                for strategy in InitStrategy::ALL {
                    let _guard = seed(&device, 11);
                    for drawn in [false, true] {
                        for trained in [true, false] {
                            let mut layer = $layer.init(&device);
                            if drawn {
                                layer.weight.val();
                                layer.bias.as_ref().map(|bias| bias.val());
                            }
                            if !trained {
                                layer = layer.no_grad();
                            }
                            let before = identity(&layer.weight, &layer.bias);
                            let layer = strategy.apply(layer);
                            assert_eq!(identity(&layer.weight, &layer.bias), before);

                            let weight = layer.weight.val();
                            let bias = layer.bias.unwrap().val();
                            assert!(weight.device().is_autodiff());
                            assert_eq!(weight.is_require_grad(), trained);
                            assert_eq!(bias.is_require_grad(), trained);
                            assert!(values(bias).iter().all(|b| *b == 0.0));
                            let weight = values(weight);
                            match strategy {
                                InitStrategy::Zeros => assert!(weight.iter().all(|w| *w == 0.0)),
                                _ => assert_mean_and_std(&weight, strategy.std($fan_in)),
                            }
                        }
                    }
                    assert!(
                        $layer
                            .with_bias(false)
                            .init(&device)
                            .reinit(strategy)
                            .bias
                            .is_none()
                    );
                }
            };
        }
        check!(LinearConfig::new(300, 100), 300);
        check!(
            LinearConfig::new(300, 100).with_layout(LinearLayout::Col),
            300
        );
        check!(Conv1dConfig::new(32, 64, 5).with_groups(2), 80);
        check!(Conv2dConfig::new([32, 64], [3, 3]), 288);
        check!(
            Conv2dConfig::new([32, 64], [3, 3])
                .with_groups(4)
                .with_stride([2, 2]),
            72
        );
        check!(Conv3dConfig::new([16, 32], [3, 3, 3]).with_groups(2), 216);
        check!(
            ConvTranspose1dConfig::new([64, 32], 4)
                .with_groups(2)
                .with_stride(2),
            64
        );
        check!(
            ConvTranspose2dConfig::new([64, 16], [3, 3]).with_groups(2),
            288
        );
        check!(
            ConvTranspose2dConfig::new([64, 16], [4, 4]).with_stride([2, 2]),
            256
        );
        check!(
            ConvTranspose3dConfig::new([32, 8], [2, 2, 2]).with_stride([2, 2, 2]),
            32
        );
    }
}

#[test]
fn a_layer_without_inputs_or_outputs_stays_as_it_is() {
    for device in devices() {
        for strategy in InitStrategy::ALL {
            for (inputs, outputs) in [(0, 3), (3, 0), (0, 0)] {
                let layer = LinearConfig::new(inputs, outputs).with_bias(false);
                let layer = strategy.apply(layer.init(&device));
                assert_eq!(layer.weight.val().dims(), [inputs, outputs]);
            }
            let layer = LinearConfig::new(0, 3).with_initializer(Initializer::Ones);
            let layer = strategy.apply(layer.init(&device));
            assert!(values(layer.weight.val()).is_empty());
            assert_eq!(values(layer.bias.unwrap().val()), [0.0; 3]);
            let conv = Conv2dConfig::new([0, 4], [3, 3]).init(&device);
            let conv = strategy.apply(conv);
            assert_eq!(conv.weight.val().dims(), [4, 0, 3, 3]);
        }
    }
}

#[test]
fn a_column_layout_is_kept_in_records() {
    for device in devices() {
        for drawn in [false, true] {
            let _guard = seed(&device, 5);
            let layer = LinearConfig::new(30, 20)
                .with_layout(LinearLayout::Col)
                .init(&device);
            if drawn {
                layer.weight.val();
            }
            let layer: Linear = InitStrategy::He.apply(layer);
            assert_eq!(layer.weight.val().dims(), [30, 20]);

            let saved = layer.weight.transform_for_save().val();
            assert_eq!(
                values(saved.clone()),
                values(layer.weight.val().transpose())
            );

            let id = layer.weight.id;
            let before = values(layer.weight.val());
            let loaded = layer.weight.transform_for_load(saved, id);
            assert_eq!(values(loaded.val()), before);
        }
    }
}

#[test]
fn the_float_type_is_kept() {
    for device in devices() {
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            let _guard = seed(&device, 5);
            let mut layer = LinearConfig::new(128, 128).init(&device);
            layer.weight = layer.weight.map(|weight| weight.cast(dtype));
            layer.bias = layer.bias.map(|bias| bias.map(|bias| bias.cast(dtype)));
            let layer = InitStrategy::He.apply(layer);
            assert_eq!(layer.weight.val().dtype(), dtype);
            assert_eq!(layer.bias.unwrap().val().dtype(), dtype);
            assert_mean_and_std(&values(layer.weight.val()), InitStrategy::He.std(128));
        }
    }
}

/// The mean square of the pixels at least two away from the border.
fn second_moment(image: Tensor<4>) -> f64 {
    let interior = image.slice(s![.., .., 2..-2, 2..-2]);
    interior.square().mean().into_scalar::<f32>() as f64
}

#[test]
fn convolutions_keep_the_scale_of_the_signal() {
    for device in devices() {
        let _guard = seed(&device, 2);
        let input = Tensor::<4>::random([2, 64, 16, 16], Distribution::Normal(0.0, 1.0), &device);
        let before = second_moment(input.clone());

        let conv = InitStrategy::Xavier.apply(Conv2dConfig::new([64, 64], [3, 3]).init(&device));
        let grouped = Conv2dConfig::new([64, 64], [3, 3])
            .with_groups(4)
            .init(&device);
        let grouped = InitStrategy::Xavier.apply(grouped);
        let upsample = ConvTranspose2dConfig::new([64, 32], [4, 4])
            .with_stride([2, 2])
            .with_padding([1, 1])
            .init(&device);
        let upsample = InitStrategy::Xavier.apply(upsample);
        // The mean square of w has a relative standard error of sqrt(2 / weights), at most 1.5% here. The error of the
        // output, averaged over 2 x 144 pixels or more, is of the same order.
        for after in [
            conv.forward(input.clone()),
            grouped.forward(input.clone()),
            upsample.forward(input.clone()),
        ] {
            let ratio = second_moment(after) / before;
            assert!(
                (ratio - 1.0).abs() < 0.1,
                "the second moment changes by {ratio}"
            );
        }
    }
}

#[test]
fn the_recommended_strategy_carries_the_signal_through_depth() {
    const WIDTH: usize = 512;
    const DEPTH: usize = 10;
    let depth_ratio = |strategy: InitStrategy, activation: Activation, device: &Device| {
        let _guard = seed(device, 9);
        let mut x = Tensor::<2>::random([64, WIDTH], Distribution::Normal(0.0, 1.0), device);
        let mut moments = Vec::new();
        for _ in 0..DEPTH {
            let layer = strategy.apply(LinearConfig::new(WIDTH, WIDTH).init(device));
            let pre = layer.forward(x);
            moments.push(pre.clone().square().mean().into_scalar::<f32>() as f64);
            x = activation.forward(pre);
        }
        moments[DEPTH - 1] / moments[0]
    };
    for device in devices() {
        // q' = q for He and q' = q / 2 for Xavier; the mean of relu(z)^2 over a layer has a relative
        // variance of 5 / WIDTH.
        let layers = (DEPTH - 1) as f64;
        let standard_error = (5.0 * layers / WIDTH as f64).sqrt();
        let he = depth_ratio(InitStrategy::He, Activation::Relu, &device);
        assert_within_5_sigma("He", he.ln(), 0.0, standard_error);
        let xavier = depth_ratio(InitStrategy::Xavier, Activation::Relu, &device);
        let expected = -layers * 2f64.ln();
        assert_within_5_sigma("Xavier", xavier.ln(), expected, standard_error);
        let small = depth_ratio(InitStrategy::SmallNormal, Activation::Relu, &device);
        assert!(small < 1e-10, "small normal: {small}");
        let large = depth_ratio(InitStrategy::StandardNormal, Activation::Relu, &device);
        assert!(large > 1e10, "standard normal: {large}");
    }
}

#[test]
fn recommendations_are_the_textbook_pairs() {
    let pairs = Activation::ALL.map(|a| (a.to_string(), InitStrategy::recommended_for(a)));
    assert_eq!(
        pairs.map(|(name, strategy)| format!("{name}: {strategy}")),
        [
            "sigmoid: xavier",
            "tanh: xavier",
            "relu: he",
            "leaky-relu: he",
            "gelu: he",
            "selu: xavier",
            "silu: he"
        ]
    );
}

#[test]
fn activations_follow_their_formulas() {
    let points = [-6.0f64, -2.5, -1.0, -0.1, 0.0, 0.3, 1.0, 4.0];
    for device in devices() {
        for activation in Activation::ALL {
            let input = Tensor::<2>::from_data([points.map(|x| x as f32)], &device);
            let output = values(activation.forward(input));
            for (x, y) in points.into_iter().zip(output) {
                let expected = match activation {
                    Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
                    Activation::Tanh => x.tanh(),
                    Activation::Relu => x.max(0.0),
                    Activation::LeakyRelu => x.max(0.01 * x),
                    Activation::Gelu => x * phi(x),
                    Activation::Selu if x > 0.0 => 1.0507009873554805 * x,
                    Activation::Selu => 1.0507009873554805 * 1.6732632423543772 * x.exp_m1(),
                    Activation::Silu => x / (1.0 + (-x).exp()),
                };
                assert!(
                    (y - expected).abs() < 2e-6,
                    "{activation}({x}) = {y}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn names_round_trip() {
    fn check<T>(all: &[T], names: &[&str])
    where
        T: std::fmt::Display + std::fmt::Debug + PartialEq,
        T: std::str::FromStr<Err = UnknownName>,
        T: serde::Serialize + serde::de::DeserializeOwned,
    {
        assert_eq!(all.len(), names.len());
        for (value, name) in all.iter().zip(names) {
            assert_eq!(value.to_string(), *name);
            assert_eq!(name.parse::<T>().as_ref(), Ok(value));
            let json = serde_json::to_string(value).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
        }
        assert!(serde_json::from_str::<T>("0").is_err());
    }
    check(
        &InitStrategy::ALL,
        &["zeros", "standard-normal", "small-normal", "xavier", "he"],
    );
    check(
        &Activation::ALL,
        &[
            "sigmoid",
            "tanh",
            "relu",
            "leaky-relu",
            "gelu",
            "selu",
            "silu",
        ],
    );
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let error = "glorot".parse::<InitStrategy>().unwrap_err();
    let message = "unknown initialisation `glorot`; the names are: \
                   zeros, standard-normal, small-normal, xavier, he";
    assert_eq!(error.to_string(), message);
    let error = serde_json::from_str::<InitStrategy>("\"glorot\"").unwrap_err();
    assert!(error.to_string().starts_with(message));

    let error = "ReLU".parse::<Activation>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown activation `ReLU`; the names are: sigmoid, tanh, relu, leaky-relu, gelu, selu, silu"
    );
}

#[test]
#[should_panic(expected = "must be at least 1; got 0")]
fn a_fan_in_of_0_is_refused_when_the_parameter_is_made() {
    InitStrategy::Zeros.init::<2>([0, 4], 0, &any_device());
}

#[test]
#[should_panic(expected = "of rank 3 or more; got rank 2")]
fn a_matrix_is_not_a_convolution() {
    Fan::conv([10, 10], 1);
}

#[test]
#[should_panic(expected = "got weight [6, 2, 3] and 4 groups")]
fn groups_divide_the_channels() {
    Fan::conv([6, 2, 3], 4);
}

#[test]
#[should_panic(expected = "must be at least 1; got [2, 0]")]
fn a_stride_of_0_is_refused() {
    Fan::conv_transpose([6, 2, 3, 3], 1).upsampled_by(&[2, 0]);
}
