//! Compares the kernels with an oracle in f64.

use std::collections::BTreeMap;
use std::fmt;

use burn::tensor::{DType, Device, Distribution, Tensor};
use burn_kindling::norm::Then;
use burn_kindling::norm::op;

use crate::case::{Float, Tail};
use crate::entry::Entry;
use oracle::{Layout, moments, pass};

#[path = "../../tests/batch_norm/oracle.rs"]
mod oracle;

pub const EPSILON: f64 = 1e-5;
/// Half of the distance between two neighbours in f32, relative to them.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.0;
/// Rounding errors of a term of a sum in f32, and of the additions that it goes through.
const RUN: f64 = 18.0 * ROUNDING;

/// One comparison: an input `[batch, channels, inner]`, with the channels in the middle or last in memory.
#[derive(Clone, Copy)]
pub struct Comparison {
    shape: [usize; 3],
    channels_last: bool,
    dtype: Float,
    tail: Tail,
}

/// Shapes that together take every path of the kernels, small ones first.
const SHAPES: [[usize; 3]; 18] = [
    [256, 100, 1],
    [7, 30, 13],
    [5, 3, 333],
    [33, 17, 7],
    [300, 70, 1],
    [64, 33, 100],
    [1, 64, 5000],
    [3001, 97, 1],
    [64, 1024, 1],
    [4, 256, 196],
    [2, 2048, 49],
    [1, 1, 65_536],
    [128, 32, 64],
    [64, 130, 49],
    [16, 64, 784],
    [70_000, 5, 1],
    [32, 33, 784],
    [3, 2, 100_003],
];
const QUICK: usize = 7;

pub fn comparisons(quick: bool, dtypes: &[Float]) -> Vec<Comparison> {
    let shapes = if quick { &SHAPES[..QUICK] } else { &SHAPES[..] };
    let mut comparisons = Vec::new();
    for &shape in shapes {
        for &dtype in dtypes {
            // Without an inner axis, the channels are last anyway.
            let layouts = if shape[2] > 1 {
                &[false, true][..]
            } else {
                &[false]
            };
            for &channels_last in layouts {
                let tails = match channels_last {
                    false => &[Tail::Nothing, Tail::Relu, Tail::AddRelu][..],
                    true => &[Tail::Nothing, Tail::AddRelu],
                };
                comparisons.extend(tails.iter().map(|&tail| Comparison {
                    shape,
                    channels_last,
                    dtype,
                    tail,
                }));
            }
        }
    }
    comparisons
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.dtype, self.shape, self.what())
    }
}

impl Comparison {
    /// Computes the forward and the backward pass in training, and inference.
    pub fn run(&self, name: &str, device: &Device) -> Entry {
        let channels = self.shape[1];
        let layout = &Layout::of(&self.shape);
        let input = self.random(device, 3.0);
        // As a gradient, it has no mean.
        let weights = self.random(device, 0.0);
        let [gamma, beta] = [1.0, 0.0]
            .map(|mean| Tensor::<1>::random([channels], Distribution::Normal(mean, 1.0), device));
        let skip = (self.tail == Tail::AddRelu).then(|| self.random(device, 0.0));
        let [x, g] = [&input, &weights].map(|it| numbers(it.clone()));
        let r = skip.clone().map_or_else(|| vec![0.0; x.len()], numbers);
        let affine = [&gamma, &beta].map(|it| numbers(it.clone()));
        let affine = (&affine[0][..], &affine[1][..]);

        let leaf = Tensor::<3>::from_inner(input.clone()).require_grad();
        let [leaf_gamma, leaf_beta] =
            [&gamma, &beta].map(|it| Tensor::<1>::from_inner(it.clone()).require_grad());
        let leaf_skip = skip
            .clone()
            .map(|skip| Tensor::<3>::from_inner(skip).require_grad());
        let found = op::batch_norm_then_train(
            leaf.clone(),
            Some(leaf_gamma.clone()),
            Some(leaf_beta.clone()),
            EPSILON,
            self.then(leaf_skip.clone()),
        );
        let weights = Tensor::from_inner(weights);
        let gradients = (found.output.clone() * weights).sum().backward();
        let gradient = |leaf: &Tensor<1>| numbers(leaf.grad(&gradients).expect("a gradient"));

        let output = numbers(found.output.inner());
        // A ReLU opens where its output is above 0. Near 0, rounding decides.
        let through = g.iter().zip(&output).map(|(g, y)| match self.tail {
            Tail::Nothing => *g,
            _ if *y > 0.0 => *g,
            _ => 0.0,
        });
        let g: Vec<f64> = through.collect();
        let (mean, variance, _) = moments(&x, layout);
        let expected = pass(&x, &g, layout, (&mean, &variance), affine, EPSILON, true);
        let allowed = Allowed::new(self.dtype, &x, &g, layout, (&mean, &variance), affine.0);
        let followed = |normalised: &[f64]| -> Vec<f64> {
            let sums = normalised.iter().zip(&r).map(|(y, r)| y + r);
            match self.tail {
                Tail::Nothing => sums.collect(),
                _ => sums.map(|z| z.max(0.0)).collect(),
            }
        };
        let expected_output = followed(&expected.output);

        let mut errors = BTreeMap::new();
        let mut compare = |what: &str, found: &[f64], expected: &[f64], allowed: &[f64]| {
            errors.insert(what.to_string(), worst(found, expected, allowed));
        };
        let input_gradient = numbers(leaf.grad(&gradients).expect("a gradient"));
        compare("mean", &numbers(found.mean.inner()), &mean, &allowed.mean);
        compare(
            "variance",
            &numbers(found.variance.inner()),
            &variance,
            &allowed.variance,
        );
        compare(
            "output",
            &output,
            &expected_output,
            &allowed.output(&[&expected.output, &expected_output]),
        );
        if let Some(skip) = leaf_skip {
            let found = numbers(skip.grad(&gradients).expect("a gradient"));
            compare("residual's gradient", &found, &g, &[allowed.relative]);
        }
        compare(
            "input's gradient",
            &input_gradient,
            &expected.input_grad,
            &[allowed.input],
        );
        compare(
            "gamma's gradient",
            &gradient(&leaf_gamma),
            &expected.gamma_grad,
            &[allowed.gamma],
        );
        compare(
            "beta's gradient",
            &gradient(&leaf_beta),
            &expected.beta_grad,
            &[allowed.beta],
        );

        // By the rounded statistics that the kernel is given.
        let given = [&mean, &variance].map(|it| {
            let data: Vec<f32> = it.iter().map(|&it| it as f32).collect();
            Tensor::<1>::from_data(&data[..], device)
        });
        let [mean, variance] = given.clone().map(numbers);
        let expected = pass(&x, &g, layout, (&mean, &variance), affine, EPSILON, false);
        let [given_mean, given_variance] = given;
        let output = op::batch_norm_then_inference(
            input,
            [given_mean, given_variance],
            [Some(gamma), Some(beta)],
            EPSILON,
            self.then(skip),
        );
        let expected_output = followed(&expected.output);
        compare(
            "inference",
            &numbers(output),
            &expected_output,
            &allowed.output(&[&expected.output, &expected_output]),
        );
        Entry::Check {
            device: name.to_string(),
            shape: self.shape.to_vec(),
            dtype: self.dtype,
            what: self.what(),
            errors,
        }
    }

    fn then(&self, skip: Option<Tensor<3>>) -> Then<3> {
        let then = match skip {
            Some(skip) => Then::new().add_residual(skip),
            None => Then::new(),
        };
        match self.tail {
            Tail::Nothing => then,
            _ => then.relu(),
        }
    }

    fn what(&self) -> String {
        let layout = self.channels_last.then_some("channels last");
        let tail = match self.tail {
            Tail::Nothing => None,
            Tail::Relu => Some("ReLU"),
            Tail::AddRelu => Some("residual, ReLU"),
            // `pools` compares these.
            Tail::ReluMaxPool => Some("ReLU, 2x2 maximum"),
        };
        let both: Vec<&str> = layout.into_iter().chain(tail).collect();
        both.join(", ")
    }

    fn random(&self, device: &Device, mean: f64) -> Tensor<3> {
        let [batch, channels, inner] = self.shape;
        let random = |shape: [usize; 3]| {
            let normal = Distribution::Normal(mean, 2.0);
            Tensor::<3>::random(shape, normal, device).cast(self.dtype.dtype())
        };
        match self.channels_last {
            true => random([batch, inner, channels]).swap_dims(1, 2),
            false => random([batch, channels, inner]),
        }
    }
}

pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor
        .into_data()
        .convert_dtype(DType::F64)
        .iter::<f64>()
        .collect()
}

/// The largest error in units of the allowed one, which is one for all values or one for each.
pub fn worst(found: &[f64], expected: &[f64], allowed: &[f64]) -> f64 {
    let values = found.iter().zip(expected).zip(allowed.iter().cycle());
    let errors = values.map(|((found, expected), allowed)| (found - expected).abs() / allowed);
    // A NaN is the largest error. JSON has none.
    let worst = errors.fold(0.0f64, |worst, error| {
        if worst.is_nan() || error <= worst {
            worst
        } else {
            error
        }
    });
    if worst.is_finite() { worst } else { f64::MAX }
}

/// The relative error of an output, which is computed in f32 and then rounded to its type.
pub fn relative(dtype: Float) -> f64 {
    match dtype {
        Float::F32 => 2e-6,
        Float::F16 => 1.01 / 2048.0,
        Float::Bf16 => 1.01 / 256.0,
    }
}

/// Errors that rounding explains, as in the tests of the kernels.
struct Allowed {
    relative: f64,
    mean: Vec<f64>,
    variance: Vec<f64>,
    input: f64,
    gamma: f64,
    beta: f64,
}

impl Allowed {
    fn new(
        dtype: Float,
        x: &[f64],
        g: &[f64],
        layout: &Layout,
        (mean, variance): (&[f64], &[f64]),
        gamma: &[f64],
    ) -> Self {
        let relative = relative(dtype);
        let (mut of_gamma, mut of_beta) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
        for (index, (x, g)) in x.iter().zip(g).enumerate() {
            let c = index / layout.trailing % layout.channels;
            of_gamma[c] += (g * (x - mean[c])).abs() / (variance[c] + EPSILON).sqrt();
            of_beta[c] += g.abs();
        }
        let largest = |values: &[f64]| values.iter().fold(1.0, |max: f64, it| max.max(it.abs()));
        let scales: Vec<f64> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| gamma / (variance + EPSILON).sqrt())
            .collect();
        let statistics = mean.iter().zip(variance);
        Self {
            relative,
            mean: statistics
                .map(|(mean, variance)| ROUNDING * (2.0 * mean.abs() + 24.0 * variance.sqrt()))
                .collect(),
            variance: variance.iter().map(|it| RUN * it.max(1.0)).collect(),
            input: relative * largest(&scales) * largest(g),
            gamma: RUN * largest(&of_gamma),
            beta: RUN * largest(&of_beta),
        }
    }

    /// For the normalised input and the output: each is rounded.
    fn output(&self, [normalised, output]: &[&[f64]; 2]) -> Vec<f64> {
        let pairs = normalised.iter().zip(*output);
        pairs
            .map(|(y, z)| self.relative * y.abs().max(z.abs()).max(1.0))
            .collect()
    }
}
