//! Expectations of activations of Gaussian pre-activations.

use std::f64::consts::TAU;

use super::super::activation::{Activation, SELU_ALPHA, SELU_SCALE};

/// The expectation of `f(z)` for z from N(0, 1).
///
/// Integrates each half-line with the double exponential formula (Takahasi & Mori 1974): `z = exp(t - exp(-t))` in
/// equal steps of t. Its nodes become dense towards 0 at every scale. So it resolves a kink at 0, as in ReLU, and a
/// step, as in tanh at large q. Gauss-Hermite quadrature loses digits to both.
pub(super) fn normal_expectation(f: impl Fn(f64) -> f64) -> f64 {
    // From z = 1e-22 to z = 39, where the density is below the smallest f64.
    half_line(64, -240..=235)
        .map(|[z, width]| (f(z) + f(-z)) * density(z) * width)
        .sum()
}

/// The nodes of the double exponential formula on the half-line, and the width of each.
fn half_line(
    steps: i32,
    range: std::ops::RangeInclusive<i32>,
) -> impl Iterator<Item = [f64; 2]> + Clone {
    range.map(move |k| {
        let t = f64::from(k) / f64::from(steps);
        let z = (t - (-t).exp()).exp();
        [z, z * (1.0 + (-t).exp()) / f64::from(steps)]
    })
}

/// `E[phi(sqrt(q) z)²]`.
pub(super) fn second_moment(activation: Activation, q: f64) -> f64 {
    match negative_slope(activation) {
        Some(a) => (1.0 + a * a) * q / 2.0,
        None => normal_expectation(|z| value(activation, q.sqrt() * z).powi(2)),
    }
}

/// The derivative of [`second_moment`] by q: `E[phi(sqrt(q) z) phi'(sqrt(q) z) z] / sqrt(q)`. Integration by parts
/// turns `E[phi'² + phi phi'']` into this, which needs no second derivative.
pub(super) fn second_moment_slope(activation: Activation, q: f64) -> f64 {
    let scale = scale(q);
    match negative_slope(activation) {
        Some(a) => (1.0 + a * a) / 2.0,
        None => normal_expectation(|z| {
            let x = scale * z;
            value(activation, x) / scale * slope(activation, x) * z
        }),
    }
}

/// `E[phi'(sqrt(q) z)^power]`. At q = 0, this is the limit from above.
pub(super) fn slope_moment(activation: Activation, q: f64, power: i32) -> f64 {
    let scale = scale(q);
    match negative_slope(activation) {
        Some(a) => (1.0 + a.powi(power)) / 2.0,
        None => normal_expectation(|z| slope(activation, scale * z).powi(power)),
    }
}

/// `sqrt(q)`, but not 0: a kink has different slopes on its two sides.
fn scale(q: f64) -> f64 {
    q.sqrt().max(1e-150)
}

/// Expectations over u1 and u2, jointly Gaussian with mean 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// `E[(phi(u1) - phi(u2))²] / 2`.
    pub difference: f64,
    /// `E[phi'(u1) phi'(u2)]`.
    pub slopes: f64,
}

/// The expectations for `E[u1²] = E[u2²] = q` and `E[(u1 - u2)²] / 2 = d`, which is `q (1 - c)` at correlation c.
///
/// All terms are sums of squares, so nothing cancels: the relative error is below 1e-10 for q up to 1e6, even for c
/// close to 1.
pub(super) fn pair(activation: Activation, q: f64, d: f64) -> Pair {
    if let Some(a) = negative_slope(activation) {
        return arc_cosine(a, q, d);
    }
    if d <= 0.0 {
        let slopes = slope_moment(activation, q, 2);
        return Pair {
            difference: 0.0,
            slopes,
        };
    }
    let pair = nested(activation, q, d);
    if d > 1e-6 * q / (1.0 + q) {
        return pair;
    }
    // Rounding spoils the small difference. Integrate its derivative by d, which is `E[phi'(u1) phi'(u2)]` (Price
    // 1958), over sqrt(d), in which it is smooth despite a kink.
    let thirds = [(-0.6f64.sqrt(), 5.0), (0.0, 8.0), (0.6f64.sqrt(), 5.0)];
    let integrand = |(node, weight): (f64, f64)| {
        let r = (1.0 + node) / 2.0;
        weight / 18.0 * 2.0 * r * nested(activation, q, d * r * r).slopes
    };
    Pair {
        difference: d * thirds.into_iter().map(integrand).sum::<f64>(),
        ..pair
    }
}

/// ReLU with slope a below 0 (Cho & Saul 2009, *Kernel Methods for Deep Learning*, eq. 6): with the angle
/// `theta = acos(c)`, `E[relu(u1) relu(u2)] = q (sin(theta) + (pi - theta) c) / (2 pi)`.
fn arc_cosine(a: f64, q: f64, d: f64) -> Pair {
    let share = if q > 0.0 { (d / q / 2.0).min(1.0) } else { 0.0 };
    let theta = 2.0 * share.sqrt().asin();
    let curve = if theta < 0.1 {
        let square = theta * theta;
        theta.powi(3) / 3.0 * (1.0 - square / 10.0 * (1.0 - square / 28.0 * (1.0 - square / 54.0)))
    } else {
        theta.sin() - theta * theta.cos()
    };
    let kink = (1.0 - a).powi(2);
    Pair {
        difference: (1.0 + a * a) / 2.0 * d - kink * q * curve / TAU,
        slopes: (1.0 + a * a) / 2.0 - kink * theta / TAU,
    }
}

/// Given x, `u1 = a x + b y1` and `u2 = ±a x + b y2` are independent. Integrates over y inside, then over x.
fn nested(activation: Activation, q: f64, d: f64) -> Pair {
    let opposite = d > q;
    // q - (q - d) would lose the digits of a small d.
    let rest = if opposite { 2.0 * q - d } else { d };
    let (a, b) = ((q - d).abs().sqrt(), rest.max(0.0).sqrt());
    let inner = Inner::new(activation, b);
    let mut scratch = Vec::with_capacity(inner.nodes.len());
    let mut sum = Pair {
        difference: 0.0,
        slopes: 0.0,
    };
    // Up to z = 10, where the density is 1e-22.
    for [x, width] in half_line(32, -116..=77) {
        let [right, left] = inner.at(a * x, &mut scratch);
        let weight = width * density(x);
        let across = (right.mean - left.mean).powi(2);
        sum.difference += weight * (right.variance + left.variance);
        if opposite {
            sum.difference += weight * across;
            sum.slopes += weight * 2.0 * right.slope * left.slope;
        } else {
            sum.slopes += weight * (right.slope.powi(2) + left.slope.powi(2));
        }
    }
    sum
}

/// Expectations over y from N(0, 1), at given m.
#[derive(Clone, Copy, Default)]
struct Given {
    /// Of `phi(m + b y)`.
    mean: f64,
    variance: f64,
    /// Of `phi'(m + b y)`.
    slope: f64,
}

struct Inner {
    activation: Activation,
    b: f64,
    nodes: Vec<Node>,
}

/// A node v of the half-line.
struct Node {
    v: f64,
    width: f64,
    /// phi at `b v` and at `-b v`.
    values: [f64; 2],
    slopes: [f64; 2],
}

impl Inner {
    fn new(activation: Activation, b: f64) -> Self {
        let node = |[v, width]: [f64; 2]| Node {
            v,
            width,
            values: [b * v, -b * v].map(|x| value(activation, x)),
            slopes: [b * v, -b * v].map(|x| slope(activation, x)),
        };
        // Up to v = 20: the density ends 10 beyond the largest shift.
        let nodes = half_line(16, -58..=49).map(node).collect();
        Self {
            activation,
            b,
            nodes,
        }
    }

    /// The expectations at m and at -m.
    ///
    /// `v = y + m / b` puts the kink or step of phi at v = 0, where nodes are dense. The values of phi at the nodes
    /// then do not depend on m; only the density does. A kink far out in the density does not matter; equal steps of y
    /// are better then.
    fn at(&self, m: f64, scratch: &mut Vec<[f64; 2]>) -> [Given; 2] {
        let shift = m / self.b;
        if shift > 10.0 {
            return [self.far(m), self.far(-m)];
        }
        scratch.clear();
        scratch.extend(
            self.nodes
                .iter()
                .map(|it| [it.v - shift, it.v + shift].map(|y| it.width * density(y))),
        );
        let nodes = || self.nodes.iter().zip(scratch.iter());
        let mut given = [Given::default(); 2];
        for (node, [near, away]) in nodes() {
            let ([f, g], [df, dg]) = (node.values, node.slopes);
            given[0].mean += near * f + away * g;
            given[1].mean += away * f + near * g;
            given[0].slope += near * df + away * dg;
            given[1].slope += away * df + near * dg;
        }
        let [right, left] = [given[0].mean, given[1].mean];
        for (node, [near, away]) in nodes() {
            let [f, g] = node.values;
            given[0].variance += near * (f - right).powi(2) + away * (g - right).powi(2);
            given[1].variance += away * (f - left).powi(2) + near * (g - left).powi(2);
        }
        given
    }

    fn far(&self, m: f64) -> Given {
        const STEP: f64 = 0.5;
        let expectation = |f: &dyn Fn(f64) -> f64| {
            let nodes = (-19..=19).map(|k| f64::from(k) * STEP);
            nodes
                .map(|y| f(m + self.b * y) * density(y) * STEP)
                .sum::<f64>()
        };
        let mean = expectation(&|x| value(self.activation, x));
        Given {
            mean,
            variance: expectation(&|x| (value(self.activation, x) - mean).powi(2)),
            slope: expectation(&|x| slope(self.activation, x)),
        }
    }
}

/// The slope below 0 of an activation that is linear on both sides of 0, with slope 1 above. `None` for others.
pub(super) fn negative_slope(activation: Activation) -> Option<f64> {
    match activation {
        Activation::Relu => Some(0.0),
        Activation::LeakyRelu => Some(Activation::LEAKY_SLOPE),
        _ => None,
    }
}

/// [`Activation::forward`] of a single number.
pub(super) fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Sigmoid => sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu => x.max(Activation::LEAKY_SLOPE * x),
        Activation::Gelu => x * normal_distribution(x),
        Activation::Selu if x > 0.0 => SELU_SCALE * x,
        Activation::Selu => SELU_SCALE * SELU_ALPHA * x.exp_m1(),
        Activation::Silu => x * sigmoid(x),
    }
}

/// The derivative of [`value`].
fn slope(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
        Activation::Tanh => x.cosh().powi(-2),
        Activation::Relu | Activation::LeakyRelu if x > 0.0 => 1.0,
        Activation::Relu => 0.0,
        Activation::LeakyRelu => Activation::LEAKY_SLOPE,
        Activation::Gelu => normal_distribution(x) + x * density(x),
        Activation::Selu if x > 0.0 => SELU_SCALE,
        Activation::Selu => SELU_SCALE * SELU_ALPHA * x.exp(),
        Activation::Silu => sigmoid(x) * (1.0 + x * sigmoid(-x)),
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The density of N(0, 1).
fn density(x: f64) -> f64 {
    (-x * x / 2.0).exp() / TAU.sqrt()
}

/// The distribution function of N(0, 1), with an absolute error of 1e-15 (Marsaglia 2004, *Evaluating the Normal
/// Distribution*).
fn normal_distribution(x: f64) -> f64 {
    if x.abs() > 9.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut odd) = (x, x, 1.0);
    while sum + term != sum {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * density(x)
}
