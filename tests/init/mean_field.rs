//! Two inputs, gradients, fixed points and depth scales, compared with closed forms, plain integration and networks.

use std::f64::consts::{PI, TAU};

use burn_kindling::init::{
    Activation, Advice, InitStrategy, MeanField, PairSignal, Residual, WeightEnsemble,
};

const SECOND_MOMENTS: [f64; 6] = [1e-6, 0.1, 1.0, 10.0, 784.0, 1e5];
const CORRELATIONS: [f64; 8] = [-1.0, -0.9, -0.2, 0.0, 0.3, 0.9, 0.999, 1.0];

#[track_caller]
fn assert_close(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs(),
        "found {found}, expected {expected}"
    );
}

fn pair(activation: Activation, q: f64, correlation: f64) -> PairSignal {
    MeanField::new(activation, 1.0).propagate_pair(1, q, correlation)[0]
}

/// `E[phi(u1) phi(u2)]`.
fn product(pair: PairSignal) -> f64 {
    pair.signal.mean.powi(2) + pair.signal.std.powi(2) - pair.spread.powi(2)
}

fn distribution(x: f64) -> f64 {
    // Simpson's rule from 0 to x.
    let step = x.clamp(-12.0, 12.0) / 400.0;
    let density = |x: f64| (-x * x / 2.0).exp() / TAU.sqrt();
    let inner: f64 = (1..400)
        .map(|k| (2 + 2 * (k % 2)) as f64 * density(f64::from(k) * step))
        .sum();
    0.5 + (density(0.0) + inner + density(400.0 * step)) * step / 3.0
}

fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu => x.max(0.01 * x),
        Activation::Gelu => x * distribution(x),
        Activation::Selu if x > 0.0 => 1.0507009873554805 * x,
        Activation::Selu => 1.0507009873554805 * 1.6732632423543772 * (x.exp() - 1.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

fn slope(activation: Activation, x: f64) -> f64 {
    // Does not step over the kink at 0.
    let step = 1e-4 * x.abs().min(1.0);
    let difference = |step| value(activation, x + step) - value(activation, x - step);
    (8.0 * difference(step) - difference(2.0 * step)) / (12.0 * step)
}

/// The expectation of f(z) by the midpoint rule, which has no node at 0, in steps of 1/500.
fn expectation(f: impl Fn(f64) -> f64) -> f64 {
    let step = 1.0 / 500.0;
    (-6000..6000)
        .map(|k| (f64::from(k) + 0.5) * step)
        .map(|z| f(z) * (-z * z / 2.0).exp() * step / TAU.sqrt())
        .sum()
}

#[test]
fn gains_keep_a_second_moment_of_1_or_are_those_of_pytorch() {
    for activation in Activation::ALL {
        let expected = match activation {
            Activation::Sigmoid => 1.0,
            Activation::Tanh => 5.0 / 3.0,
            _ => expectation(|z| value(activation, z).powi(2)).powf(-0.5),
        };
        // The midpoint rule errs by its step squared at a kink.
        assert_close(activation.gain(), expected, 1e-6);
        if activation != Activation::Sigmoid && activation != Activation::Tanh {
            let field = MeanField::new(activation, activation.gain().powi(2));
            assert_close(field.next_second_moment(1.0), 1.0, 1e-14);
        }
    }
    let gelu = (1.0 / 3.0 + 1.0 / (2.0 * 3f64.sqrt() * PI)).powf(-0.5);
    assert_close(Activation::Gelu.gain(), gelu, 1e-15);
}

#[test]
fn chi_is_the_mean_squared_slope() {
    for activation in Activation::ALL {
        for q in [0.1f64, 1.0, 10.0] {
            let expected = expectation(|z| slope(activation, q.sqrt() * z).powi(2));
            assert_close(MeanField::new(activation, 3.0).chi(q), 3.0 * expected, 2e-6);
        }
        let layer = InitStrategy::Xavier.propagate(activation, [100], 2.0)[0];
        let chi = InitStrategy::Xavier.mean_field(activation, 100).chi(2.0);
        assert_close(layer.chi, chi, 1e-14);
    }
    for q in SECOND_MOMENTS {
        assert_close(MeanField::new(Activation::Relu, 2.0).chi(q), 1.0, 1e-15);
        // By parts: E[(Phi + x density)²].
        let r = (1.0 + 2.0 * q).sqrt();
        let expected =
            0.25 + (q / (1.0 + q)).asin() / TAU + q / (PI * (1.0 + q) * r) + q / (TAU * r.powi(3));
        assert_close(
            MeanField::new(Activation::Gelu, 1.0).chi(q),
            expected,
            1e-10,
        );
    }
    assert_close(
        MeanField::new(Activation::Sigmoid, 1.0).chi(0.0),
        1.0 / 16.0,
        1e-14,
    );
    assert_close(MeanField::new(Activation::Tanh, 0.7).chi(0.0), 0.7, 1e-14);
    assert_close(
        MeanField::new(Activation::LeakyRelu, 2.0).chi(0.0),
        1.0001,
        1e-14,
    );
}

#[test]
fn relu_pairs_follow_the_arc_cosine_kernel() {
    for q in SECOND_MOMENTS {
        for c in CORRELATIONS {
            let angle = c.acos();
            let relu = q / TAU * (angle.sin() + (PI - angle) * c);
            let opposite = q / TAU * (angle.sin() - angle * c);
            assert!((product(pair(Activation::Relu, q, c)) - relu).abs() < 1e-14 * q);
            // Leaky ReLU is relu(u) - a relu(-u).
            let a = 0.01;
            let leaky = (1.0 + a * a) * relu - 2.0 * a * opposite;
            assert!((product(pair(Activation::LeakyRelu, q, c)) - leaky).abs() < 1e-14 * q);
        }
    }
    // Close to c = 1, `1 - c'` is `(1 - c) - (2 (1 - c))^(3/2) / (3 pi)`.
    for small in [2f64.powi(-20), 2f64.powi(-40), 2f64.powi(-50)] {
        let layer = pair(Activation::Relu, 1.0, 1.0 - small);
        let expected = small / 2.0 - (2.0 * small).powf(1.5) / (6.0 * PI);
        assert_close(layer.spread.powi(2), expected, small + 1e-14);
        assert_close(layer.pre_activation_spread, small.sqrt(), 1e-15);
    }
}

#[test]
fn gelu_pairs_have_a_closed_form() {
    for q in SECOND_MOMENTS {
        for c in CORRELATIONS {
            // By parts twice, with E[density density] = 1 / (2 pi sqrt(det)).
            let q12 = c * q;
            let det = (1.0 + q).powi(2) - q12 * q12;
            let expected = q12 * (0.25 + (q12 / (1.0 + q)).asin() / TAU)
                + (q * q + q12 * q12 * (2.0 / (1.0 + q) - 1.0)) / (TAU * det.sqrt());
            let found = product(pair(Activation::Gelu, q, c));
            assert!(
                (found - expected).abs() < 1e-11 * q,
                "q {q}, c {c}: found {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn smooth_pairs_agree_with_plain_integration() {
    for activation in [Activation::Sigmoid, Activation::Tanh, Activation::Silu] {
        for q in [0.01f64, 1.0, 4.0] {
            for c in [-0.7f64, 0.0, 0.4, 0.95] {
                let axis = || (-300..=300).map(|k| f64::from(k) / 30.0);
                let mut expected = 0.0;
                for x in axis() {
                    for y in axis() {
                        let u = [x, c * x + (1.0 - c * c).sqrt() * y];
                        let [f, g] = u.map(|u| value(activation, q.sqrt() * u));
                        expected += (f - g).powi(2) / 2.0 * (-(x * x + y * y) / 2.0).exp();
                    }
                }
                expected /= 900.0 * TAU;
                let found = pair(activation, q, c).spread.powi(2);
                assert_close(found, expected, 1e-11);
            }
        }
    }
}

#[test]
fn selu_pairs_agree_with_their_hermite_series() {
    // E[phi(u1) phi(u2)] = sum of a_k² c^k, with the Hermite coefficients a_k of phi (Daniely et al. 2016).
    for q in [0.1f64, 1.0, 20.0] {
        let mut coefficients = [0.0; 60];
        // Simpson's rule on each side of the kink.
        let step = 1.0 / 2000.0;
        for side in [-1.0, 1.0] {
            for k in 0..=24_000 {
                let z = side * f64::from(k) * step;
                let weight = match k {
                    0 | 24_000 => 1.0,
                    _ => f64::from(2 + 2 * (k % 2)),
                };
                let weight = weight * step / 3.0 * (-z * z / 2.0).exp() / TAU.sqrt();
                let f = value(Activation::Selu, q.sqrt() * z);
                let (mut before, mut hermite) = (0.0, 1.0);
                for (k, coefficient) in coefficients.iter_mut().enumerate() {
                    *coefficient += weight * f * hermite;
                    let k = k as f64;
                    let next = (z * hermite - k.sqrt() * before) / (k + 1.0).sqrt();
                    (before, hermite) = (hermite, next);
                }
            }
        }
        for c in [-0.5f64, -0.1, 0.0, 0.2, 0.5] {
            let terms = coefficients.iter().enumerate();
            let expected: f64 = terms.map(|(k, a)| a * a * c.powi(k as i32)).sum();
            let found = product(pair(Activation::Selu, q, c));
            assert!((found - expected).abs() < 1e-11 * q, "{found} {expected}");
        }
    }
}

#[test]
fn close_inputs_move_apart_by_chi() {
    for activation in Activation::ALL {
        for q in [0.01, 1.0, 100.0] {
            let slope = MeanField::new(activation, 1.0).chi(q);
            for small in [2f64.powi(-30), 2f64.powi(-45)] {
                let layer = pair(activation, q, 1.0 - small);
                let kink = (small * (1.0 + q)).sqrt();
                assert_close(layer.spread.powi(2), slope * q * small, kink);
            }
            // The path for small differences joins the direct one.
            let switch = 1e-6 / (1.0 + q);
            let [below, above, beyond] = [0.99, 1.01, 1.03].map(|share| {
                let c = 1.0 - share * switch;
                pair(activation, q, c).spread.powi(2) / (1.0 - c)
            });
            // A kink curves it: the slopes fall with sqrt(1 - c).
            let kinked = [Activation::Relu, Activation::LeakyRelu, Activation::Selu];
            let bend = if kinked.contains(&activation) {
                1e-7
            } else {
                1e-10
            };
            assert!((beyond - 2.0 * above + below).abs() < bend * above);
        }
    }
}

#[test]
fn opposite_inputs_stay_opposite_in_an_odd_network() {
    for layer in MeanField::new(Activation::Tanh, 3.0).propagate_pair(5, 2.0, -1.0) {
        assert_close(layer.correlation, -1.0, 1e-12);
        assert_close(layer.spread.powi(2), 2.0 * layer.signal.std.powi(2), 1e-10);
    }
}

#[test]
fn strategies_and_mean_field_agree() {
    let field = InitStrategy::He.mean_field(Activation::Selu, 50);
    let layers = InitStrategy::He.propagate_pair(Activation::Selu, [50; 4], 0.5, 0.2);
    assert_eq!(layers.len(), 4);
    for (a, b) in layers.iter().zip(field.propagate_pair(4, 1.0, 0.2)) {
        assert_close(a.correlation, b.correlation, 1e-12);
        assert_close(a.spread, b.spread, 1e-12);
        assert_close(a.signal.std, b.signal.std, 1e-12);
    }
    let single = InitStrategy::He.propagate(Activation::Selu, [50; 4], 0.5);
    assert!(layers.iter().map(|it| it.signal).eq(single));
}

#[test]
fn known_networks_are_critical() {
    let scale_free = [Activation::Relu, Activation::LeakyRelu];
    for activation in [
        scale_free[0],
        scale_free[1],
        Activation::Tanh,
        Activation::Sigmoid,
    ] {
        let fixed = MeanField::critical(activation).fixed_point(1.0);
        assert_close(fixed.chi, 1.0, 1e-13);
        assert_eq!(fixed.correlation, 1.0);
        assert_eq!(fixed.trainable_depth(), f64::INFINITY);
        assert_eq!(fixed.gradient_depth_scale(), f64::INFINITY);
        if scale_free.contains(&activation) {
            assert_eq!(fixed.second_moment, 1.0);
        }
    }
    assert_eq!(
        MeanField::critical(Activation::Tanh)
            .fixed_point(1.0)
            .second_moment,
        0.0
    );
    // The correlation of ReLU inputs approaches 1 as `1 - c = 9 pi² / (2 depth²)` (Hayou et al. 2019, proposition 1).
    let layers = InitStrategy::He.propagate_pair(Activation::Relu, [10; 3000], 1.0, 0.0);
    let distance = layers[2999].pre_activation_spread.powi(2) / 2.0;
    assert_close(distance, 4.5 * PI * PI / 3000f64.powi(2), 0.02);
}

#[test]
fn fixed_points_are_where_layers_lead() {
    let cases = [
        (Activation::Tanh, 0.8, 0.2),
        (Activation::Tanh, 2.0, 0.0),
        (Activation::Tanh, 4.0, 0.3),
        (Activation::Sigmoid, 1.0, 0.0),
        (Activation::Sigmoid, 400.0, 1.0),
        (Activation::Relu, 1.0, 0.1),
        (Activation::Gelu, 1.5, 0.1),
        (Activation::Silu, 1.5, 0.1),
        (Activation::Selu, 1.0, 0.0),
        (Activation::Selu, 1.3, 0.1),
    ];
    for (activation, weights, biases) in cases {
        let field = MeanField::new(activation, weights).with_bias_variance(biases);
        let fixed = field.fixed_point(1.0);
        let q = fixed.second_moment;
        assert_close(field.next_second_moment(q), q, 1e-12);
        assert_close(field.chi(q), fixed.chi, 1e-12);
        let h = 1e-4 * q;
        let slope = (field.next_second_moment(q + h) - field.next_second_moment(q - h)) / (2.0 * h);
        assert_close(fixed.second_moment_slope, slope, 1e-7);

        // From elsewhere, layers lead to the same.
        for start in [1e-3, 50.0] {
            assert_close(field.fixed_point(start).second_moment, q, 1e-12);
        }
        let last = field.propagate_pair(300, 50.0, 0.3)[299];
        assert_close(last.signal.pre_activation, q, 1e-9);
        assert!((last.correlation - fixed.correlation).abs() < 1e-4);
        // A deviation from c* shrinks by the slope per layer.
        if fixed.correlation < 1.0 {
            let off = |c: f64| field.propagate_pair(2, q, c)[1].correlation - fixed.correlation;
            let slope = (off(fixed.correlation + 1e-4) - off(fixed.correlation - 1e-4)) / 2e-4;
            assert_close(fixed.correlation_slope, slope, 1e-6);
            assert!(fixed.chi > 1.0);
        } else {
            let d = field.propagate_pair(2, q, 1.0 - 1e-8);
            let ratio = (d[1].pre_activation_spread / d[0].pre_activation_spread).powi(2);
            assert_close(fixed.correlation_slope, ratio, 1e-3);
        }
        assert_close(
            fixed.correlation_depth_scale(),
            -1.0 / fixed.correlation_slope.ln(),
            1e-12,
        );
    }
    let relu = MeanField::new(Activation::Relu, 1.0).with_bias_variance(0.1);
    assert_close(relu.fixed_point(7.0).second_moment, 0.2, 1e-14);
}

#[test]
fn signals_vanish_or_explode_beyond_every_fixed_point() {
    let end = |activation, weights| MeanField::new(activation, weights).fixed_point(1.0);
    assert_eq!(end(Activation::Tanh, 0.9).second_moment, 0.0);
    assert_close(
        end(Activation::Tanh, 0.9).trainable_depth(),
        -6.0 / 0.9f64.ln(),
        1e-12,
    );
    assert_eq!(end(Activation::Relu, 1.9).second_moment, 0.0);
    assert_close(end(Activation::Relu, 1.9).chi, 0.95, 1e-14);
    assert_eq!(end(Activation::Gelu, 2.0).second_moment, 0.0);
    assert_close(end(Activation::Gelu, 2.0).chi, 0.5, 1e-12);
    for activation in [Activation::Relu, Activation::Gelu, Activation::Silu] {
        let fixed = end(activation, 3.0);
        assert_eq!(
            (fixed.second_moment, fixed.correlation),
            (f64::INFINITY, 1.0)
        );
        assert_close(fixed.chi, 1.5, 1e-12);
        assert_close(fixed.second_moment_slope, 1.5, 1e-12);
    }
    // SELU is bounded up to s² = 2 / 1.0507².
    assert!(end(Activation::Selu, 1.81).second_moment.is_finite());
    assert!(end(Activation::Selu, 1.82).second_moment.is_infinite());
    // GELU at its gain: q = 1 stays, anything else leaves.
    let gelu = MeanField::critical(Activation::Gelu);
    assert_eq!(gelu.fixed_point(1.0).second_moment, 1.0);
    assert_eq!(gelu.fixed_point(0.99).second_moment, 0.0);
    assert!(gelu.fixed_point(1.01).second_moment.is_infinite());
    // Close to criticality, q* is (s² - 1) / 2 and 1 - c* has the same order as its square.
    let fixed = end(Activation::Tanh, 1.0 + 1e-6);
    assert_close(fixed.second_moment, 5e-7, 1e-5);
    assert_eq!(
        MeanField::new(Activation::Tanh, 0.0)
            .fixed_point(1.0)
            .second_moment,
        0.0
    );
}

#[test]
fn residual_blocks_add() {
    let relu = MeanField::new(Activation::Relu, 3.0);
    for (layers, scale, factor) in [(1, 1.0, 2.5), (2, 0.5, 1.0 + 0.25 * 2.25), (3, 0.0, 1.0)] {
        let blocks = Residual::new(relu, layers)
            .with_scale(scale)
            .propagate(5, 2.0, 1.0);
        assert_eq!(blocks.len(), 5);
        assert_close(blocks[4].second_moment, 2.0 * f64::powi(factor, 5), 1e-13);
        assert_eq!(blocks[4].correlation, 1.0);
        assert!(blocks.iter().all(|it| (it.gradient - factor).abs() < 1e-13));
    }
    let normed = Residual::new(relu, 1).with_scale(0.5).with_batch_norm(2.0);
    let blocks = normed.propagate(4, 1.0, 0.0);
    assert_close(blocks[3].second_moment, 5.0, 1e-14);
    // The variance of relu(x) for x from N(0, 1) is 1/2 - 1/(2 pi).
    assert_close(blocks[0].gradient, 1.0 + 0.5 / (0.5 - 1.0 / TAU), 1e-13);
    assert!(blocks[0].correlation.abs() < 1e-14);
}

#[test]
#[should_panic(expected = "batch norm needs inputs that differ")]
fn batch_norm_of_equal_inputs_is_refused() {
    let relu = MeanField::critical(Activation::Relu);
    Residual::new(relu, 1)
        .with_batch_norm(1.0)
        .propagate(1, 1.0, 1.0);
}

#[test]
#[should_panic(expected = "between -1 and 1, found 1.5")]
fn an_impossible_correlation_is_refused() {
    pair(Activation::Tanh, 1.0, 1.5);
}

#[test]
#[should_panic(expected = "variance of weights must be finite and not negative, found -1")]
fn a_negative_variance_is_refused() {
    MeanField::new(Activation::Tanh, -1.0);
}

/// Numbers from N(0, 1): SplitMix64 and the Box-Muller transform.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pair(&mut self) -> [f64; 2] {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = TAU * self.uniform();
        [radius * angle.cos(), radius * angle.sin()]
    }

    fn vector(&mut self, length: usize) -> Vec<f64> {
        (0..length.div_ceil(2))
            .flat_map(|_| self.pair())
            .take(length)
            .collect()
    }
}

/// A square matrix by rows.
type Matrix = Vec<Vec<f64>>;

fn matrix(normal: &mut Normal, n: usize) -> Matrix {
    (0..n).map(|_| normal.vector(n)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Pre-activations of second moment 1 and correlation 0.3: `[input][unit]`.
fn correlated(normal: &mut Normal, inputs: usize, width: usize) -> Matrix {
    let shared = normal.vector(width);
    let mix = |(a, b): (&f64, f64)| 0.3f64.sqrt() * a + 0.7f64.sqrt() * b;
    (0..inputs)
        .map(|_| shared.iter().zip(normal.vector(width)).map(mix).collect())
        .collect()
}

/// The variance over units and inputs together, and that over inputs, averaged over units.
fn variances(signal: &Matrix) -> [f64; 2] {
    let width = signal[0].len();
    let variance = |values: &[f64], freedom: usize| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / freedom as f64
    };
    let unit = |unit| {
        let values: Vec<f64> = signal.iter().map(|it| it[unit]).collect();
        variance(&values, values.len() - 1)
    };
    let over_inputs = (0..width).map(unit).sum::<f64>() / width as f64;
    let all = signal.concat();
    [variance(&all, all.len()), over_inputs]
}

#[test]
fn wide_networks_do_as_predicted() {
    const WIDTH: usize = 1000;
    const DEPTH: usize = 4;
    const NETWORKS: usize = 8;
    let critical = |activation| (activation, MeanField::critical(activation), 0.0);
    let tanh = MeanField::new(Activation::Tanh, 2.0).with_bias_variance(0.1);
    for (activation, field, bias_variance) in [
        (Activation::Tanh, tanh, 0.1f64),
        critical(Activation::Selu),
        critical(Activation::Gelu),
        critical(Activation::Relu),
    ] {
        // By layer: the variances of pre-activations and of activations, and chi.
        let mut found = [[0.0; 5]; DEPTH];
        for network in 0..NETWORKS {
            let mut normal = Normal(100 + network as u64);
            let mut pre = correlated(&mut normal, 6, WIDTH);
            for found in &mut found {
                let activate = |it: &Vec<f64>| it.iter().map(|&x| value(activation, x)).collect();
                let post: Matrix = pre.iter().map(activate).collect();

                // Gradients go back through this layer's activation and a square weight matrix.
                let scale = (field.weight_variance() / WIDTH as f64).sqrt();
                let weights = matrix(&mut normal, WIDTH);
                let (mut inside, mut outside) = (0.0, 0.0);
                for input in &pre {
                    let gradient = normal.vector(WIDTH);
                    outside += dot(&gradient, &gradient);
                    let inner = input.iter().zip(&gradient);
                    let inner: Vec<f64> = inner.map(|(&x, g)| slope(activation, x) * g).collect();
                    let back = weights.iter().map(|row| (scale * dot(row, &inner)).powi(2));
                    inside += back.sum::<f64>();
                }
                let chi = inside / outside;

                let ([a, b], [c, d]) = (variances(&pre), variances(&post));
                let seen = [a, b, c, d, chi];
                found
                    .iter_mut()
                    .zip(seen)
                    .for_each(|(sum, x)| *sum += x / NETWORKS as f64);

                let biases = normal.vector(WIDTH);
                let rows = || weights.iter().zip(&biases);
                let next = |x: &Vec<f64>| {
                    rows()
                        .map(|(row, bias)| scale * dot(row, x) + bias_variance.sqrt() * bias)
                        .collect()
                };
                pre = post.iter().map(next).collect();
            }
        }
        for (found, layer) in found.iter().zip(field.propagate_pair(DEPTH, 1.0, 0.3)) {
            // The pre-activations have mean 0.
            assert_close(found[0].sqrt(), layer.signal.pre_activation.sqrt(), 0.05);
            assert_close(found[1].sqrt(), layer.pre_activation_spread, 0.05);
            assert_close(found[2].sqrt(), layer.signal.std, 0.05);
            assert_close(found[3].sqrt(), layer.spread, 0.05);
            assert_close(found[4], layer.signal.chi, 0.05);
            let correlation = 1.0 - found[1] / found[0];
            assert!((correlation - layer.correlation).abs() < 0.02);
        }
    }
}

fn orthogonal(mut rows: Matrix) -> Matrix {
    // Gram-Schmidt, twice for rounding.
    for i in 0..rows.len() {
        for _ in 0..2 {
            for j in 0..i {
                let share = dot(&rows[i], &rows[j]);
                let (before, rest) = rows.split_at_mut(i);
                rest[0]
                    .iter_mut()
                    .zip(&before[j])
                    .for_each(|(x, y)| *x -= share * y);
            }
            let norm = dot(&rows[i], &rows[i]).sqrt();
            rows[i].iter_mut().for_each(|x| *x /= norm);
        }
    }
    rows
}

#[test]
fn singular_values_spread_as_predicted() {
    const N: usize = 300;
    const DEPTH: usize = 3;
    let q = 1.5f64;
    for activation in [Activation::Tanh, Activation::Relu, Activation::Silu] {
        for weights in [WeightEnsemble::Gaussian, WeightEnsemble::Orthogonal] {
            let mut normal = Normal(11);
            // The Jacobian by columns, times a diagonal and a matrix per layer.
            let mut columns: Matrix = (0..N)
                .map(|i| (0..N).map(|j| f64::from(u8::from(i == j))).collect())
                .collect();
            for _ in 0..DEPTH {
                let drawn = matrix(&mut normal, N);
                let rows = match weights {
                    WeightEnsemble::Gaussian => drawn,
                    WeightEnsemble::Orthogonal => orthogonal(drawn),
                };
                let slopes = normal
                    .vector(N)
                    .into_iter()
                    .map(|z| slope(activation, q.sqrt() * z));
                let slopes: Vec<f64> = slopes.collect();
                for column in &mut columns {
                    let rows = rows.iter().zip(&slopes);
                    *column = rows.map(|(row, slope)| slope * dot(row, column)).collect();
                }
            }
            // tr(J'J) and tr(J'J J'J).
            let gram = columns.iter().map(|a| columns.iter().map(|b| dot(a, b)));
            let gram: Matrix = gram.map(Iterator::collect).collect();
            let first: f64 = (0..N).map(|i| gram[i][i]).sum::<f64>() / N as f64;
            let second: f64 = gram.iter().map(|row| dot(row, row)).sum::<f64>() / N as f64;
            let found = second / (first * first) - 1.0;
            let expected = MeanField::new(activation, 1.0).jacobian_variance(q, DEPTH, weights);
            assert_close(found, expected, 0.1);
        }
    }
    let relu = MeanField::critical(Activation::Relu);
    assert_close(
        relu.jacobian_variance(1.0, 7, WeightEnsemble::Gaussian),
        14.0,
        1e-14,
    );
    assert_close(
        relu.jacobian_variance(1.0, 7, WeightEnsemble::Orthogonal),
        7.0,
        1e-14,
    );
    let tanh = MeanField::critical(Activation::Tanh);
    assert!(
        tanh.jacobian_variance(0.0, 7, WeightEnsemble::Orthogonal)
            .abs()
            < 1e-13
    );
}

#[test]
fn advice_names_what_depth_and_width_do() {
    for activation in Activation::ALL {
        let advice = Advice::new(activation, 30, 100);
        assert_eq!(advice.mean_field, MeanField::critical(activation));
        let layers = advice.mean_field.propagate_pair(30, 1.0, 1.0);
        assert_close(
            advice.second_moment,
            layers[29].signal.pre_activation,
            1e-12,
        );
        let gradient: f64 = layers.iter().map(|it| it.signal.chi).product();
        assert_close(advice.gradient, gradient, 1e-12);
    }
    // Networks of ReLU: five layers of 50 units.
    let mut normal = Normal(3);
    let networks = 10_000;
    let mut sums = [0.0; 2];
    for _ in 0..networks {
        let mut x = vec![1.0; 50];
        for _ in 0..5 {
            // A row of independent weights times x is from N(0, |x|²).
            let scale = (2.0 / 50.0 * dot(&x, &x)).sqrt();
            x = normal
                .vector(50)
                .into_iter()
                .map(|z| (scale * z).max(0.0))
                .collect();
        }
        let square = dot(&x, &x) / 50.0;
        sums = [sums[0] + square, sums[1] + square * square];
    }
    let [mean, square] = sums.map(|sum| sum / f64::from(networks));
    assert_close(mean, 1.0, 0.05);
    let advice = Advice::new(Activation::Relu, 5, 50);
    assert_close(advice.length_variance.unwrap(), 1.1f64.powi(5) - 1.0, 1e-12);
    assert_close(
        square / mean.powi(2) - 1.0,
        advice.length_variance.unwrap(),
        0.15,
    );
    assert_eq!(Advice::new(Activation::Tanh, 5, 50).length_variance, None);
}
