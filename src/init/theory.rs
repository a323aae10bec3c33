//! Mean-field theory of the signal in wide layers at initialisation.

use std::f64::consts::TAU;

use super::activation::{Activation, LEAKY_SLOPE};
use super::strategy::InitStrategy;

/// The predicted signal at one layer of a wide, fully connected network without biases.
///
/// A pre-activation is a sum of many independent products. Over the units of a layer it is distributed as N(0, q),
/// where `q = n v E[x²]` for n inputs x and weights of mean 0 and variance v. For weights of variance `s² / n` and z
/// from N(0, 1), it follows that `q' = s² E[phi(sqrt(q) z)²]` from layer to layer (Poole et al. 2016,
/// [arXiv:1606.05340](https://arxiv.org/abs/1606.05340), eq. 3; Schoenholz et al. 2017,
/// [arXiv:1611.01232](https://arxiv.org/abs/1611.01232), eq. 1). This describes a network at initialisation; the error
/// falls as the layers become wider.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSignal {
    /// q, the second moment of the pre-activations. Their mean is 0.
    pub pre_activation: f64,
    /// The mean of the activations.
    pub mean: f64,
    /// The standard deviation of the activations, over units and inputs together.
    pub std: f64,
}

impl LayerSignal {
    /// The signal of pre-activations from N(0, q).
    fn of(activation: Activation, q: f64) -> Self {
        assert!(
            q.is_finite() && q >= 0.0,
            "the second moment of a signal is finite and not negative, found {q}"
        );
        let output = |z: f64| value(activation, q.sqrt() * z);
        let mean = normal_expectation(output);
        let variance = normal_expectation(|z| (output(z) - mean).powi(2));
        Self {
            pre_activation: q,
            mean,
            std: variance.sqrt(),
        }
    }

    /// The second moment of the activations, the input of the next layer.
    fn second_moment(&self) -> f64 {
        self.mean.powi(2) + self.std.powi(2)
    }
}

impl InitStrategy {
    /// Predicts the signal at every layer of a deep network with this strategy, one layer per fan-in, and the same
    /// activation after each.
    ///
    /// `input_second_moment` is the mean square of the network's inputs: 1 for inputs from N(0, 1).
    ///
    /// ```
    /// use burn_kindling::init::{Activation, InitStrategy};
    ///
    /// // Ten layers of 100 ReLU units: He keeps the second moment, Xavier halves it at every layer.
    /// let he = InitStrategy::He.propagate(Activation::Relu, [100; 10], 1.0);
    /// let xavier = InitStrategy::Xavier.propagate(Activation::Relu, [100; 10], 1.0);
    /// assert!((he[9].pre_activation / he[0].pre_activation - 1.0).abs() < 1e-9);
    /// assert!((xavier[9].pre_activation / xavier[0].pre_activation - 0.5f64.powi(9)).abs() < 1e-9);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a fan-in is 0, or if the second moment of the inputs or of a layer is negative or not finite.
    pub fn propagate(
        &self,
        activation: Activation,
        fan_ins: impl IntoIterator<Item = usize>,
        input_second_moment: f64,
    ) -> Vec<LayerSignal> {
        fan_ins
            .into_iter()
            .scan(input_second_moment, |second_moment, fan_in| {
                let gain = fan_in as f64 * self.std(fan_in).powi(2);
                let layer = LayerSignal::of(activation, gain * *second_moment);
                *second_moment = layer.second_moment();
                Some(layer)
            })
            .collect()
    }
}

/// The expectation of `f(z)` for z from N(0, 1).
///
/// Integrates each half-line with the double exponential formula (Takahasi & Mori 1974): `z = exp(t - exp(-t))` in
/// equal steps of t. Its nodes become dense towards 0 at every scale. That resolves a kink there, such as that of ReLU,
/// and a step, such as that of tanh at large q. Gauss-Hermite quadrature loses digits to both.
fn normal_expectation(f: impl Fn(f64) -> f64) -> f64 {
    const STEP: f64 = 1.0 / 64.0;
    // From z = 1e-22 to z = 39, where the density is below the smallest f64.
    (-240..=235)
        .map(|k| {
            let t = f64::from(k) * STEP;
            let z = (t - (-t).exp()).exp();
            let density = (-z * z / 2.0).exp() / TAU.sqrt();
            let width = STEP * z * (1.0 + (-t).exp());
            (f(z) + f(-z)) * density * width
        })
        .sum()
}

/// [`Activation::forward`] of a single number.
fn value(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu => x.max(LEAKY_SLOPE * x),
        Activation::Gelu => x * normal_distribution(x),
    }
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
    0.5 + sum * (-x * x / 2.0).exp() / TAU.sqrt()
}
