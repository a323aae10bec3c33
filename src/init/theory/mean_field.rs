//! The maps from layer to layer of a wide network.

use super::super::activation::Activation;
use super::super::strategy::InitStrategy;
use super::expectation::{pair, second_moment, slope_moment};
use super::signal::{PairSignal, decorrelation};

/// A deep network of equal, wide layers at initialisation. Each has weights of mean 0 and variance `s² / n` for a
/// fan-in of n, biases of mean 0 and variance `sigma_b²`, then the activation phi.
///
/// In wide layers, independent Gaussian weights and orthogonal matrices (times s) give the same signal (Pennington et
/// al. 2017, [arXiv:1711.04735](https://arxiv.org/abs/1711.04735)). They differ in the singular values of the Jacobian:
/// [`jacobian_variance`](Self::jacobian_variance).
///
/// ```
/// use burn_kindling::init::{Activation, MeanField};
///
/// // Weights too small: the gradient shrinks by the factor chi per layer, and all inputs end up alike.
/// let ordered = MeanField::new(Activation::Tanh, 0.9).fixed_point(1.0);
/// assert!((ordered.chi - 0.9).abs() < 1e-9 && ordered.correlation == 1.0);
/// // Weights too large: the gradient explodes, and all inputs end up unrelated.
/// let chaotic = MeanField::new(Activation::Tanh, 2.0).fixed_point(1.0);
/// assert!(chaotic.chi > 1.0 && chaotic.correlation.abs() < 1e-9);
/// // In between, at the edge of chaos, signals travel far.
/// assert_eq!(MeanField::critical(Activation::Tanh).fixed_point(1.0).trainable_depth(), f64::INFINITY);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeanField {
    pub(super) activation: Activation,
    pub(super) weight_variance: f64,
    pub(super) bias_variance: f64,
}

/// The distribution of a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightEnsemble {
    /// Independent weights from N(0, s²/n).
    Gaussian,
    /// s times a random orthogonal matrix.
    Orthogonal,
}

impl MeanField {
    /// A network without biases.
    ///
    /// # Panics
    ///
    /// Panics if `weight_variance`, which is s², is negative or not finite.
    pub fn new(activation: Activation, weight_variance: f64) -> Self {
        assert_variance("weights", weight_variance);
        Self {
            activation,
            weight_variance,
            bias_variance: 0.0,
        }
    }

    /// Sets `sigma_b²`, the variance of the biases.
    ///
    /// # Panics
    ///
    /// Panics if it is negative or not finite.
    pub fn with_bias_variance(self, bias_variance: f64) -> Self {
        assert_variance("biases", bias_variance);
        Self {
            bias_variance,
            ..self
        }
    }

    /// The network without biases at criticality, or as close to it as the activation allows.
    ///
    /// | activation | s² | q* | chi at q* | d q' / d q |
    /// | --- | --- | --- | --- | --- |
    /// | sigmoid | 103.008 | 45.62 | 1 | 0.060 |
    /// | tanh | 1 | 0 | 1 | 1 |
    /// | ReLU | 2 | any | 1 | 1 |
    /// | leaky ReLU | `2 / (1 + 0.01²)` | any | 1 | 1 |
    /// | GELU | 2.3517 | 1 | 1.072 | 1.144 |
    /// | SELU | 1 | 1 | 1.072 | 0.783 |
    /// | SiLU | 2.8108 | 1 | 1.067 | 1.173 |
    ///
    /// - Sigmoid reaches a chi of 1 only with huge weights, when most units are saturated.
    /// - With tanh, q approaches `q* = 0` slowly, as `1 / (2 depth)`.
    /// - For GELU, SELU and SiLU, s² is the square of [`Activation::gain`]: it keeps q = 1, but not the gradient. The
    ///   inputs of the first layer are not activations: for inputs of second moment 1, draw its weights from N(0, 1/n).
    /// - For GELU and SiLU, q = 1 is an unstable fixed point: every layer multiplies deviations by the last column.
    pub fn critical(activation: Activation) -> Self {
        let weight_variance = match activation {
            Activation::Sigmoid => 103.007_553_855_519_32,
            Activation::Tanh => 1.0,
            _ => activation.gain().powi(2),
        };
        Self::new(activation, weight_variance)
    }

    /// s², the variance of the weights times the fan-in.
    pub fn weight_variance(&self) -> f64 {
        self.weight_variance
    }

    /// The second moment of the next layer's pre-activations, `s² E[phi(sqrt(q) z)²] + sigma_b²` (Poole et al. 2016,
    /// eq. 3).
    ///
    /// # Panics
    ///
    /// Panics if q is negative or not finite.
    pub fn next_second_moment(&self, q: f64) -> f64 {
        assert_second_moment(q);
        self.weight_variance * second_moment(self.activation, q) + self.bias_variance
    }

    /// `chi = s² E[phi'(sqrt(q) z)²]`, the factor per layer on the second moment of the gradient; see
    /// [`LayerSignal::chi`](super::LayerSignal::chi). At q = 0, this is the limit from above.
    ///
    /// # Panics
    ///
    /// Panics if q is negative or not finite.
    pub fn chi(&self, q: f64) -> f64 {
        assert_second_moment(q);
        self.weight_variance * slope_moment(self.activation, q, 2)
    }

    /// Predicts the signal of two inputs at each of `depth` layers. The pre-activations of the first layer have the
    /// second moment q and this correlation. For accuracy and time, see [`InitStrategy::propagate_pair`].
    ///
    /// # Panics
    ///
    /// Panics if q, here or in a later layer, is negative or not finite, or if the correlation is not between -1 and 1.
    pub fn propagate_pair(&self, depth: usize, q: f64, correlation: f64) -> Vec<PairSignal> {
        let (mut q, mut d) = (q, q * decorrelation(correlation));
        let layer = |_| {
            let layer = PairSignal::of(self.activation, q, d, self.weight_variance);
            // The two inputs share the biases.
            d = self.weight_variance * layer.spread.powi(2);
            q = self.next_second_moment(q);
            layer
        };
        (0..depth).map(layer).collect()
    }

    /// q and `d = q (1 - c)` in the next layer.
    pub(super) fn next_pair(&self, q: f64, d: f64) -> (f64, f64) {
        let difference = pair(self.activation, q, d).difference;
        (
            self.next_second_moment(q),
            self.weight_variance * difference,
        )
    }

    /// The relative variance of the squared singular values of the Jacobian from the inputs to the outputs of `depth`
    /// layers: their variance, divided by the square of their mean `chi^depth`. At 0, the Jacobian is a rotation, up to
    /// a factor: dynamical isometry.
    ///
    /// It is `depth (mu_2 / mu_1² - 1 - s_1)` with `mu_k = E[phi'(sqrt(q) z)^(2k)]`, and `s_1` of -1 for Gaussian and 0
    /// for orthogonal weights (Pennington, Schoenholz & Ganguli 2017,
    /// [arXiv:1711.04735](https://arxiv.org/abs/1711.04735), section 2). All layers have as many outputs as inputs, and
    /// pre-activations of second moment q.
    ///
    /// # Panics
    ///
    /// Panics if q is negative or not finite.
    pub fn jacobian_variance(&self, q: f64, depth: usize, weights: WeightEnsemble) -> f64 {
        assert_second_moment(q);
        let mu = |k| slope_moment(self.activation, q, 2 * k);
        let of_weights = match weights {
            WeightEnsemble::Gaussian => 1.0,
            WeightEnsemble::Orthogonal => 0.0,
        };
        depth as f64 * (mu(2) / mu(1).powi(2) - 1.0 + of_weights)
    }
}

impl InitStrategy {
    /// The mean-field theory of layers with this strategy and this fan-in.
    ///
    /// # Panics
    ///
    /// Panics if `fan_in` is 0.
    pub fn mean_field(&self, activation: Activation, fan_in: usize) -> MeanField {
        MeanField::new(activation, fan_in as f64 * self.std(fan_in).powi(2))
    }
}

fn assert_variance(of: &str, variance: f64) {
    assert!(
        variance.is_finite() && variance >= 0.0,
        "the variance of {of} must be finite and not negative, found {variance}"
    );
}

fn assert_second_moment(q: f64) {
    assert!(
        q.is_finite() && q >= 0.0,
        "the second moment of a signal must be finite and not negative, found {q}"
    );
}
