//! Distributions: their moments and shape, what PyTorch does, and the matrices.

use burn::module::Module;
use burn::nn::conv::{Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use burn_kindling::init::{Activation, Fan, FanMode, InitStrategy, Scheme, initialize};

use crate::devices::{any_device, devices};
use crate::{assert_mean_and_std, assert_within_5_sigma, phi, pytorch, values};

const SIDE: usize = 1000;

/// The weight of a linear layer with this scheme.
fn linear(scheme: impl Into<Scheme>, inputs: usize, outputs: usize, seed: u64) -> Tensor<2> {
    let layer = LinearConfig::new(inputs, outputs).init(&any_device());
    initialize(layer, scheme, seed).0.weight.val()
}

/// The largest distance between the distribution of `values` and a distribution function, times the square root of
/// their number (Kolmogorov-Smirnov). Above 2.5 for one sample in 130,000.
fn kolmogorov_smirnov(mut values: Vec<f64>, distribution: impl Fn(f64) -> f64) -> f64 {
    let n = values.len() as f64;
    values.sort_by(f64::total_cmp);
    let distances = values.iter().enumerate().map(|(i, &x)| {
        let p = distribution(x);
        (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
    });
    distances.fold(0.0, f64::max) * n.sqrt()
}

#[test]
fn a_million_draws_follow_their_distribution() {
    let unit_uniform = |x: f64| (x / 12f64.sqrt() + 0.5).clamp(0.0, 1.0);
    let kept = 2.0 * phi(2.0) - 1.0;
    let truncated_std = {
        let density = (-2f64).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (1.0 - 4.0 * density / kept).sqrt()
    };
    let truncated = |x: f64| {
        let x = (x * truncated_std).clamp(-2.0, 2.0);
        (phi(x) - phi(-2.0)) / kept
    };
    type Function<'a> = &'a dyn Fn(f64) -> f64;
    let schemes: [(Scheme, f64, f64, Function); 9] = [
        (InitStrategy::StandardNormal.into(), 0.0, 1.0, &phi),
        (InitStrategy::SmallNormal.into(), 0.0, 0.01, &phi),
        (InitStrategy::Xavier.into(), 0.0, 1e-3f64.sqrt(), &phi),
        (InitStrategy::He.into(), 0.0, 2e-3f64.sqrt(), &phi),
        (Scheme::he().uniform(), 0.0, 2e-3f64.sqrt(), &unit_uniform),
        (
            Scheme::uniform_between(-1.0, 5.0),
            2.0,
            3f64.sqrt(),
            &unit_uniform,
        ),
        (Scheme::normal(3.0).truncated(), 0.0, 3.0, &truncated),
        (
            Scheme::glorot().truncated(),
            0.0,
            1e-3f64.sqrt(),
            &truncated,
        ),
        (Scheme::sparse(0.0, 2.0), 0.0, 2.0, &phi),
    ];
    for (number, (scheme, mean, std, distribution)) in schemes.into_iter().enumerate() {
        let fan = Fan::linear([SIDE, SIDE]);
        assert!((scheme.std(fan) / std - 1.0).abs() < 1e-12, "{scheme}");
        let drawn = values(linear(scheme, SIDE, SIDE, number as u64));
        let unit: Vec<f64> = drawn.iter().map(|x| (x - mean) / std).collect();
        assert_mean_and_std(&unit, 1.0);
        let distance = kolmogorov_smirnov(unit.clone(), distribution);
        assert!(distance < 2.0, "{scheme}: {distance}");

        // Neighbours in a row, in a column, and across the runs that are drawn together.
        for lag in [1, 2, SIDE, 4096, 4097] {
            let pairs = unit.len() - lag;
            let r = (unit.iter().zip(&unit[lag..]))
                .map(|(a, b)| a * b)
                .sum::<f64>()
                / pairs as f64;
            assert_within_5_sigma("autocorrelation", r, 0.0, 1.0 / (pairs as f64).sqrt());
        }
    }
}

#[test]
fn bounded_distributions_keep_their_bounds() {
    let bound = (6.0 / SIDE as f64).sqrt();
    for x in values(linear(Scheme::he().uniform(), SIDE, SIDE, 1)) {
        assert!(x.abs() <= bound * (1.0 + 1e-7), "{x}");
    }
    for x in values(linear(Scheme::normal(1.0).truncated(), SIDE, SIDE, 1)) {
        assert!(x.abs() <= 2.0 / 0.8796, "{x}");
    }
}

#[test]
fn scales_are_pytorchs() {
    for case in pytorch::cases("scales") {
        let fan = Fan {
            fan_in: pytorch::count(&case["fan_in"]),
            fan_out: pytorch::count(&case["fan_out"]),
        };
        let function = pytorch::text(&case["function"]);
        let scheme = if function.starts_with("xavier") {
            Scheme::fan_average(pytorch::number(&case["gain"]))
        } else {
            let slope = pytorch::number(&case["a"]);
            let gain = match pytorch::text(&case["nonlinearity"]) {
                "linear" => 1.0,
                "tanh" => Activation::Tanh.gain(),
                "relu" => Activation::Relu.gain(),
                "leaky_relu" if slope == 0.01 => Activation::LeakyRelu.gain(),
                "leaky_relu" => (2.0 / (1.0 + slope * slope)).sqrt(),
                other => panic!("{other}"),
            };
            let by = match pytorch::text(&case["mode"]) {
                "fan_in" => FanMode::In,
                "fan_out" => FanMode::Out,
                other => panic!("{other}"),
            };
            Scheme::fan_in(gain).by(by)
        };
        let (found, expected) = if function.contains("uniform") {
            let bound = scheme.uniform().std(fan) * 3f64.sqrt();
            (bound, pytorch::number(&case["bound"]))
        } else {
            (scheme.std(fan), pytorch::number(&case["std"]))
        };
        assert!((found / expected - 1.0).abs() < 1e-14, "{case}: {found}");
    }
}

#[test]
fn quantiles_are_pytorchs() {
    // PyTorch's std of a truncated normal distribution is that before the cut.
    let truncated_std = 0.879_625_661_034_239_8;
    for case in pytorch::cases("quantiles") {
        let scheme = match pytorch::text(&case["function"]) {
            "normal_" => Scheme::normal(1.0),
            "uniform_" => Scheme::uniform_between(0.0, 1.0),
            "trunc_normal_" => Scheme::normal(truncated_std).truncated(),
            other => panic!("{other}"),
        };
        let mut drawn = values(linear(scheme, SIDE, SIDE, 77));
        drawn.sort_by(f64::total_cmp);
        let theirs = case["quantiles"].as_array().unwrap();
        assert_eq!(theirs.len(), 99);
        for (percent, theirs) in (1..).zip(theirs) {
            // Both are samples of a million: five standard errors of the difference at the far ends.
            let ours = drawn[drawn.len() * percent / 100];
            let theirs = pytorch::number(theirs);
            assert!(
                (ours - theirs).abs() < 0.027,
                "{scheme}, {percent} %: {ours} and {theirs}"
            );
        }
    }
    let case = &pytorch::cases("trunc_normal")[0];
    let std = pytorch::number(&case["moments"]["std"]);
    assert!((std - truncated_std).abs() < 0.003, "{std}");
}

/// PyTorch drops outputs of each input; we drop inputs of each unit. The number is the same.
#[test]
fn as_many_weights_are_0_as_in_pytorch() {
    for case in pytorch::cases("sparse") {
        let [outputs, inputs] = pytorch::shape(&case["torch_shape"])[..] else {
            panic!("{case}")
        };
        let zeros = pytorch::shape(&case["zeros_per_column"]);
        // What PyTorch calls an output takes the place of our input.
        let weight = values(linear(
            Scheme::sparse(pytorch::number(&case["sparsity"]), 0.01),
            outputs,
            inputs,
            1,
        ));
        for unit in 0..inputs {
            let column = (0..outputs).filter(|input| weight[input * inputs + unit] == 0.0);
            assert_eq!(column.count(), zeros[unit], "{case}");
        }
    }
}

#[test]
fn the_identity_is_pytorchs() {
    for case in pytorch::cases("eye") {
        let shape = pytorch::shape(&case["torch_shape"]);
        let expected: Vec<f64> = (case["values"].as_array().unwrap().iter())
            .map(pytorch::number)
            .collect();
        // The weight of a linear layer is PyTorch's, transposed.
        let weight = linear(Scheme::identity(), shape[1], shape[0], 1);
        assert_eq!(values(weight.transpose()), expected, "{shape:?}");
    }
    let device = any_device();
    for case in pytorch::cases("dirac") {
        let shape = pytorch::shape(&case["torch_shape"]);
        let groups = pytorch::count(&case["groups"]);
        let expected: Vec<f64> = (case["values"].as_array().unwrap().iter())
            .map(pytorch::number)
            .collect();
        let inputs = shape[1] * groups;
        let scheme = Scheme::identity();
        let found = match shape[..] {
            [outputs, _, a] => {
                let conv = Conv1dConfig::new(inputs, outputs, a).with_groups(groups);
                values(initialize(conv.init(&device), scheme, 1).0.weight.val())
            }
            [outputs, _, a, b] => {
                let conv = Conv2dConfig::new([inputs, outputs], [a, b]).with_groups(groups);
                values(initialize(conv.init(&device), scheme, 1).0.weight.val())
            }
            [outputs, _, a, b, c] => {
                let conv = Conv3dConfig::new([inputs, outputs], [a, b, c]).with_groups(groups);
                values(initialize(conv.init(&device), scheme, 1).0.weight.val())
            }
            _ => panic!("{case}"),
        };
        assert_eq!(found, expected, "{shape:?}, {groups} groups");
    }
}

/// Asserts that a row-major matrix times its transpose, the smaller way, is `gain²` times the identity.
#[track_caller]
fn assert_orthogonal(matrix: &[f64], rows: usize, columns: usize, gain: f64) {
    assert_eq!(matrix.len(), rows * columns);
    let entry = |i: usize, j: usize| matrix[i * columns + j];
    let (side, other) = (rows.min(columns), rows.max(columns));
    let at = |i: usize, k: usize| {
        if rows <= columns {
            entry(i, k)
        } else {
            entry(k, i)
        }
    };
    for i in 0..side {
        for j in 0..=i {
            let product: f64 = (0..other).map(|k| at(i, k) * at(j, k)).sum();
            let expected = if i == j { gain * gain } else { 0.0 };
            assert!(
                (product - expected).abs() < 1e-6 * gain * gain,
                "[{rows}, {columns}]: {i}, {j}: {product}"
            );
        }
    }
}

#[test]
fn orthogonal_weights_are_orthogonal() {
    let device = any_device();
    let gain = 2f64.sqrt();
    let scheme = Scheme::orthogonal().scaled(gain);
    for (inputs, outputs) in [
        (1, 1),
        (7, 1),
        (1, 7),
        (64, 64),
        (33, 200),
        (200, 33),
        (300, 300),
    ] {
        let weight = values(linear(scheme, inputs, outputs, 1));
        assert_orthogonal(&weight, inputs, outputs, gain);
        let std = scheme.std(Fan::linear([inputs, outputs]));
        let square = weight.iter().map(|w| w * w).sum::<f64>() / weight.len() as f64;
        assert!((square.sqrt() / std - 1.0).abs() < 1e-6);
    }
    for case in pytorch::cases("orthogonal") {
        let [rows, columns] = ["rows", "columns"].map(|name| pytorch::count(&case[name]));
        // PyTorch's are orthogonal in the same sense.
        assert!(
            (pytorch::number(&case["singular_min"]) / pytorch::number(&case["gain"]) - 1.0).abs()
                < 1e-6
        );
        assert_orthogonal(
            &values(linear(Scheme::orthogonal(), rows, columns, 2)),
            rows,
            columns,
            1.0,
        );
    }
    // Each group by itself, and so a depthwise convolution by channels.
    for (channels, groups, kernel) in [
        ([8, 16], 1, 3),
        ([16, 8], 1, 3),
        ([8, 16], 4, 3),
        ([32, 32], 32, 3),
    ] {
        let conv = Conv2dConfig::new(channels, [kernel, kernel]).with_groups(groups);
        let weight = values(
            initialize(conv.init(&device), Scheme::orthogonal(), 3)
                .0
                .weight
                .val(),
        );
        let (rows, columns) = (channels[1] / groups, channels[0] / groups * kernel * kernel);
        for group in weight.chunks(rows * columns) {
            assert_orthogonal(group, rows, columns, 1.0);
        }
    }
    let up = ConvTranspose2dConfig::new([8, 6], [2, 2])
        .with_groups(2)
        .with_stride([2, 2]);
    let weight = values(
        initialize(up.init(&device), Scheme::orthogonal(), 3)
            .0
            .weight
            .val(),
    );
    for group in weight.chunks(4 * 12) {
        assert_orthogonal(group, 4, 12, 1.0);
    }
}

/// A Haar matrix has no preferred direction: its first entry squared is Beta(1/2, (n - 1)/2), with mean 1/n and
/// variance 2 (n - 1) / (n² (n + 2)), and its sign is even.
#[test]
fn orthogonal_weights_have_no_preferred_direction() {
    const N: usize = 6;
    const DRAWS: usize = 4000;
    let drawn: Vec<f64> = (0..DRAWS)
        .map(|seed| values(linear(Scheme::orthogonal(), N, N, seed as u64))[N * N - 1])
        .collect();
    let (n, draws) = (N as f64, DRAWS as f64);
    let mean = drawn.iter().sum::<f64>() / draws;
    assert_within_5_sigma("mean", mean, 0.0, (1.0 / n / draws).sqrt());
    let square = drawn.iter().map(|x| x * x).sum::<f64>() / draws;
    let variance = 2.0 * (n - 1.0) / (n * n * (n + 2.0));
    assert_within_5_sigma("mean square", square, 1.0 / n, (variance / draws).sqrt());
}

#[test]
fn a_delta_orthogonal_convolution_keeps_the_norm_of_every_pixel() {
    let device = any_device();
    for (groups, kernel) in [(1, [3, 3]), (2, [5, 1]), (1, [2, 4])] {
        let conv = Conv2dConfig::new([8, 16], kernel)
            .with_groups(groups)
            .with_bias(false);
        let conv = initialize(conv.init(&device), Scheme::delta_orthogonal(), 1).0;
        let weight = values(conv.weight.val());
        let taps = kernel[0] * kernel[1];
        let centre = kernel[0] / 2 * kernel[1] + kernel[1] / 2;
        assert!(
            weight
                .iter()
                .enumerate()
                .all(|(i, w)| i % taps == centre || *w == 0.0)
        );

        let image = Tensor::<4>::random([2, 8, 9, 9], burn::tensor::Distribution::Default, &device);
        let norm = |image: Tensor<4>| values(image.square().sum_dim(1).sqrt());
        let [top, left] = [kernel[0] / 2, kernel[1] / 2];
        let output = norm(conv.forward(image.clone()));
        let [_, _, height, width] = conv.forward(image.clone()).dims();
        let seen = image.slice([0..2, 0..8, top..top + height, left..left + width]);
        for (found, expected) in output.iter().zip(norm(seen)) {
            assert!((found - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn each_unit_of_a_sparse_layer_lacks_the_same_number_of_inputs() {
    let device = any_device();
    for sparsity in [0.1, 0.5, 0.9, 1.0] {
        let weight = values(linear(Scheme::sparse(sparsity, 0.5), 100, 30, 1));
        let zeros = (sparsity * 100.0f64).ceil() as usize;
        let mut patterns = Vec::new();
        for unit in 0..30 {
            let pattern: Vec<bool> = (0..100)
                .map(|input| weight[input * 30 + unit] == 0.0)
                .collect();
            assert_eq!(pattern.iter().filter(|zero| **zero).count(), zeros);
            patterns.push(pattern);
        }
        let different = patterns.windows(2).all(|pair| pair[0] != pair[1]);
        assert_eq!(different, sparsity < 1.0);

        let conv = Conv2dConfig::new([4, 10], [5, 5]).init(&device);
        let weight = values(
            initialize(conv, Scheme::sparse(sparsity, 0.5), 1)
                .0
                .weight
                .val(),
        );
        for unit in weight.chunks(100) {
            assert_eq!(unit.iter().filter(|w| **w == 0.0).count(), zeros);
        }
    }
    let kept: Vec<f64> = values(linear(Scheme::sparse(0.5, 0.5), 1000, 1000, 1));
    let kept: Vec<f64> = kept.into_iter().filter(|w| *w != 0.0).collect();
    assert_eq!(kept.len(), 500_000);
    assert_mean_and_std(&kept, 0.5);
}

#[test]
fn values_are_the_same_on_every_backend_and_in_every_float_type() {
    let schemes = [
        Scheme::he(),
        Scheme::glorot().uniform(),
        Scheme::lecun().truncated(),
        Scheme::orthogonal(),
        Scheme::sparse(0.3, 1.0),
        Scheme::constant(0.3),
    ];
    let expected = schemes.map(|scheme| linear(scheme, 100, 70, 9).into_data());
    for device in devices() {
        for device in [device.clone(), device.clone().autodiff()] {
            for (scheme, expected) in schemes.iter().zip(&expected) {
                let layer = LinearConfig::new(100, 70).init(&device);
                let weight = initialize(layer, *scheme, 9).0.weight.val();
                assert_eq!(weight.device(), device);
                assert_eq!(&weight.into_data(), expected, "{scheme} on {device:?}");
            }
        }
        for dtype in [DType::F64, DType::F16, DType::BF16] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            // On a software GPU, every cast of another type takes seconds to compile.
            for (scheme, expected) in schemes.iter().zip(&expected).take(2) {
                let mut layer = LinearConfig::new(100, 70).init(&device);
                layer = cast(layer, dtype.into());
                let weight = initialize(layer, *scheme, 9).0.weight.val();
                assert_eq!(weight.dtype(), dtype);
                // F64 holds more digits of the same values; the others are rounded from f32.
                let (found, expected) = match dtype {
                    DType::F64 => (weight.into_data().convert::<f32>(), expected.clone()),
                    _ => (weight.into_data(), expected.clone().convert_dtype(dtype)),
                };
                assert_eq!(found, expected, "{scheme}, {dtype:?} on {device:?}");
            }
        }
    }
}

fn cast(mut layer: Linear, dtype: FloatDType) -> Linear {
    layer.weight = layer.weight.map(|weight| weight.cast(dtype));
    layer.bias = layer.bias.map(|bias| bias.map(|bias| bias.cast(dtype)));
    layer
}

#[test]
fn f64_weights_have_all_their_digits() {
    let layer = cast(
        LinearConfig::new(64, 64).init(&any_device()),
        FloatDType::F64,
    );
    let weight = initialize(layer, Scheme::he(), 9).0.weight.val();
    let rounded = weight.clone().cast(DType::F32).cast(DType::F64);
    let same = values(weight)
        .into_iter()
        .zip(values(rounded))
        .filter(|(a, b)| a == b);
    assert!(same.count() < 5);
}

#[test]
fn threads_do_not_matter() {
    let draw = || {
        [Scheme::he(), Scheme::orthogonal(), Scheme::sparse(0.5, 1.0)]
            .map(|scheme| linear(scheme, 300, 200, 5).into_data())
    };
    let expected = draw();
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        assert_eq!(pool.install(draw), expected, "{threads} threads");
    }
}

/// Pinned: a new version of a dependency must not change anybody's weights in silence.
#[test]
fn values_stay_the_same_from_release_to_release() {
    let first = |scheme| values(linear(scheme, 3, 2, 42));
    let schemes = [
        Scheme::normal(1.0),
        Scheme::normal(1.0).uniform(),
        Scheme::normal(1.0).truncated(),
        Scheme::orthogonal(),
        Scheme::sparse(0.5, 1.0),
    ];
    let found = schemes.map(first);
    let close = |(a, b): (&Vec<f64>, &[f64; 6])| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-7);
    assert!(found.iter().zip(&PINNED).all(close), "{found:?}");
}

const PINNED: [[f64; 6]; 5] = [
    [
        0.164451465,
        0.678245246,
        -1.238421679,
        -0.493293405,
        0.975321472,
        -0.724534750,
    ],
    [
        0.369126737,
        0.416155249,
        -1.243871927,
        -0.624728620,
        0.641561568,
        -0.579191267,
    ],
    [
        0.186956182,
        0.771061242,
        -1.407896280,
        -0.560799241,
        1.108791471,
        -0.823685288,
    ],
    [
        0.103759833,
        0.611066818,
        -0.781376004,
        -0.438088387,
        0.615374207,
        -0.659299552,
    ],
    [
        0.164451465,
        0.000000000,
        0.000000000,
        -0.493293405,
        0.000000000,
        0.000000000,
    ],
];

#[test]
fn a_scheme_says_what_it_draws() {
    let shown = [
        Scheme::zeros(),
        InitStrategy::StandardNormal.into(),
        InitStrategy::He.into(),
        Scheme::glorot().uniform(),
        Scheme::fan_out(1.0).truncated(),
        Scheme::lecun().by(FanMode::Of(64)),
        Scheme::uniform_between(0.0, 2.0),
        Scheme::orthogonal().scaled(1.5),
        Scheme::delta_orthogonal(),
        Scheme::identity(),
        Scheme::sparse(0.9, 0.01),
    ];
    let shown = shown.map(|scheme| scheme.to_string());
    assert_eq!(
        shown,
        [
            "constant 0",
            "normal, std 1",
            "normal, std sqrt(2/fan_in)",
            "uniform, std sqrt(2/(fan_in + fan_out))",
            "truncated normal, std sqrt(1/fan_out)",
            "normal, std sqrt(1/64)",
            "uniform, mean 1, std 0.5773502691896258",
            "orthogonal, gain 1.5",
            "delta-orthogonal, gain 1",
            "identity, gain 1",
            "sparse, 0.9 of it 0, std 0.01",
        ]
    );
}

#[test]
fn scaling_multiplies_every_value() {
    for scheme in [
        Scheme::constant(2.0),
        Scheme::uniform_between(1.0, 4.0),
        Scheme::normal(0.5),
        Scheme::he().truncated(),
        Scheme::orthogonal(),
        Scheme::identity(),
        Scheme::sparse(0.25, 0.1),
    ] {
        let plain = values(linear(scheme, 12, 8, 3));
        let scaled = values(linear(scheme.scaled(3.0), 12, 8, 3));
        for (plain, scaled) in plain.iter().zip(&scaled) {
            let error = (scaled - 3.0 * plain).abs();
            assert!(
                error <= 1e-6 * plain.abs(),
                "{scheme}: {plain} and {scaled}"
            );
        }
    }
}

#[test]
fn the_five_strategies_keep_their_standard_deviations() {
    for (strategy, std) in
        InitStrategy::ALL
            .into_iter()
            .zip([0.0, 1.0, 0.01, 1.0 / 28.0, 2f64.sqrt() / 28.0])
    {
        let fan = Fan {
            fan_in: 784,
            fan_out: 100,
        };
        assert!((strategy.std(784) - std).abs() < 1e-15);
        assert!((Scheme::from(strategy).std(fan) - std).abs() < 1e-15);
    }
}

#[test]
#[should_panic(expected = "must be finite and not negative")]
fn a_negative_std_is_refused() {
    Scheme::normal(-1.0);
}

#[test]
#[should_panic(expected = "must be finite and not negative")]
fn an_infinite_gain_is_refused() {
    Scheme::he().scaled(f64::INFINITY);
}

#[test]
#[should_panic(expected = "the lower one first; got 2 and 1")]
fn bounds_in_the_wrong_order_are_refused() {
    Scheme::uniform_between(2.0, 1.0);
}

#[test]
#[should_panic(expected = "A fan must be at least 1; got 0.")]
fn a_fan_of_0_is_refused() {
    Scheme::he().by(FanMode::Of(0));
}

/// Any device gives a model that trains.
#[test]
fn an_initialised_layer_trains() {
    for device in devices() {
        let device: Device = device.autodiff();
        let layer = initialize(LinearConfig::new(4, 3).init(&device), Scheme::he(), 1).0;
        let output = layer.forward(Tensor::<2>::ones([2, 4], &device));
        let gradients = output.sum().backward();
        assert!(layer.weight.val().grad(&gradients).is_some());
        assert!(layer.valid().weight.val().grad(&gradients).is_none());
    }
}
