//! The signal from layer to layer, of one input and of two.

use super::super::activation::Activation;
use super::super::strategy::InitStrategy;
use super::expectation::{self, normal_expectation, value};

/// The predicted signal at one layer of a wide, fully connected network.
///
/// A pre-activation is a sum of many independent products. Over the units of a layer it is distributed as N(0, q),
/// where `q = n v E[x²]` for n inputs x and weights of mean 0 and variance v. For weights of variance `s² / n` and z
/// from N(0, 1), it follows that `q' = s² E[phi(sqrt(q) z)²]` from layer to layer (Poole et al. 2016,
/// [arXiv:1606.05340](https://arxiv.org/abs/1606.05340), eq. 3; Schoenholz et al. 2017,
/// [arXiv:1611.01232](https://arxiv.org/abs/1611.01232), eq. 1). Biases, if there are any, add their variance to q'.
///
/// This describes a network at initialisation. The wider the layers, the smaller the error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerSignal {
    /// q, the second moment of the pre-activations. Their mean is 0.
    pub pre_activation: f64,
    /// The mean of the activations.
    pub mean: f64,
    /// The standard deviation of the activations, over units and inputs together.
    pub std: f64,
    /// `chi = s² E[phi'(sqrt(q) z)²]`, for the weights of this layer: the factor on the second moment of the gradient
    /// on its way back, from the activations of this layer to its inputs (Schoenholz et al. 2017, section 4). It holds
    /// for as many outputs as inputs; otherwise multiply by `outputs / inputs`.
    ///
    /// chi is also the factor on the squared distance of two close inputs on their way forward (Poole et al. 2016,
    /// `chi_1`). If chi is 1 in every layer, gradients neither explode nor vanish.
    pub chi: f64,
}

impl LayerSignal {
    /// The signal of pre-activations from N(0, q), for weights of variance `weight_variance / n`.
    pub(super) fn of(activation: Activation, q: f64, weight_variance: f64) -> Self {
        assert!(
            q.is_finite() && q >= 0.0,
            "the second moment of a signal must be finite and not negative, found {q}"
        );
        let output = |z: f64| value(activation, q.sqrt() * z);
        let mean = normal_expectation(output);
        let variance = normal_expectation(|z| (output(z) - mean).powi(2));
        Self {
            pre_activation: q,
            mean,
            std: variance.sqrt(),
            chi: weight_variance * expectation::slope_moment(activation, q, 2),
        }
    }

    /// The second moment of the activations, the input of the next layer.
    fn second_moment(&self) -> f64 {
        self.mean.powi(2) + self.std.powi(2)
    }
}

/// The predicted signal of two inputs at one layer.
///
/// Both inputs have the same second moment. Over the units of the layer, their pre-activations u1 and u2 are then
/// jointly Gaussian, with second moments q and correlation c. From layer to layer, `c' q' = s² E[phi(u1) phi(u2)]`
/// (Poole et al. 2016, [arXiv:1606.05340](https://arxiv.org/abs/1606.05340), eq. 5).
///
/// A spread says how much a unit still tells about the input. Take many inputs, any two of them with the same
/// correlation. The spread is the std over the inputs at one unit (root mean square over the units). The pooled std,
/// [`LayerSignal::std`], also counts the differences between units for one input. So it does not show that all inputs
/// have become alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairSignal {
    /// The signal of either input.
    pub signal: LayerSignal,
    /// c, the correlation of the pre-activations: `E[u1 u2] / q`, not centred. It is 1 if they are all 0.
    pub correlation: f64,
    /// The spread of the pre-activations, `sqrt(q (1 - c))`. Accurate even where c rounds to 1.
    pub pre_activation_spread: f64,
    /// The spread of the activations, `sqrt(E[phi(u1)²] - E[phi(u1) phi(u2)])`.
    pub spread: f64,
}

impl PairSignal {
    /// The signal for `d = q (1 - c)`.
    pub(super) fn of(activation: Activation, q: f64, d: f64, weight_variance: f64) -> Self {
        let signal = LayerSignal::of(activation, q, weight_variance);
        let pair = expectation::pair(activation, q, d);
        Self {
            signal,
            correlation: if q > 0.0 { 1.0 - d / q } else { 1.0 },
            pre_activation_spread: d.sqrt(),
            spread: pair.difference.max(0.0).sqrt(),
        }
    }
}

/// `1 - c`.
pub(super) fn decorrelation(correlation: f64) -> f64 {
    assert!(
        (-1.0..=1.0).contains(&correlation),
        "a correlation is between -1 and 1, found {correlation}"
    );
    1.0 - correlation
}

impl InitStrategy {
    /// Predicts the signal at every layer of a deep network without biases: one layer per fan-in, weights by this
    /// strategy, and the same activation after each.
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
                let weight_variance = fan_in as f64 * self.std(fan_in).powi(2);
                let q = weight_variance * *second_moment;
                let layer = LayerSignal::of(activation, q, weight_variance);
                *second_moment = layer.second_moment();
                Some(layer)
            })
            .collect()
    }

    /// Predicts the signal of two inputs at every layer, as [`propagate`](Self::propagate) does for one.
    ///
    /// `input_second_moment` is the mean square of each of the inputs x1 and x2. `input_correlation` is
    /// `E[x1 x2] / E[x²]`: the cosine of the angle between them, not centred.
    ///
    /// The relative error is below 1e-10 for q up to 1e6. ReLU and leaky ReLU have closed forms (Cho & Saul 2009) and
    /// take some 30 µs per layer. Others take 0.5 ms (GELU 1 ms), and up to 4 times that if c is within 1e-6 of 1.
    ///
    /// ```
    /// use burn_kindling::init::{Activation, InitStrategy};
    ///
    /// // Deep in a ReLU network, all inputs look alike: the pooled std stays, the spread shrinks.
    /// let layers = InitStrategy::He.propagate_pair(Activation::Relu, [100; 50], 1.0, 0.0);
    /// assert!((layers[49].signal.std / layers[0].signal.std - 1.0).abs() < 1e-9);
    /// assert!(layers[49].spread < 0.2 * layers[0].spread);
    /// ```
    ///
    /// # Panics
    ///
    /// Panics as [`propagate`](Self::propagate) does, and if the correlation is not between -1 and 1.
    pub fn propagate_pair(
        &self,
        activation: Activation,
        fan_ins: impl IntoIterator<Item = usize>,
        input_second_moment: f64,
        input_correlation: f64,
    ) -> Vec<PairSignal> {
        let difference = input_second_moment * decorrelation(input_correlation);
        fan_ins
            .into_iter()
            .scan((input_second_moment, difference), |input, fan_in| {
                let weight_variance = fan_in as f64 * self.std(fan_in).powi(2);
                let (q, d) = (weight_variance * input.0, weight_variance * input.1);
                let layer = PairSignal::of(activation, q, d, weight_variance);
                *input = (layer.signal.second_moment(), layer.spread.powi(2));
                Some(layer)
            })
            .collect()
    }
}
