//! The five initialisation strategies.

use burn::nn::Initializer;

use super::activation::Activation;

/// The distribution of a layer's initial weights. Biases start at 0.
///
/// In the formulas, n is the fan-in ([`Fan`](super::Fan)): the number of inputs of one output unit. Pass a strategy
/// wherever a [`Scheme`](super::Scheme) is expected; a scheme can also be another distribution.
///
/// Displayed, parsed and serialised as `zeros`, `standard-normal`, `small-normal`, `xavier`, `he`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitStrategy {
    /// All weights are 0. The units of a layer start equal and stay equal.
    Zeros,
    /// N(0, 1). Too large for wide layers.
    StandardNormal,
    /// N(0, 0.01²). The signal shrinks at every layer and vanishes in a deep network.
    SmallNormal,
    /// N(0, 1/n). Keeps the scale of the signal if the activation is close to a line of slope 1, as tanh is around 0.
    /// Customary for sigmoid too.
    ///
    /// It uses the fan-in only. Glorot & Bengio 2010 also use the fan-out: `std = sqrt(2 / (fan_in + fan_out))`, which
    /// is [`Scheme::glorot`](super::Scheme::glorot) and Burn's `Initializer::XavierNormal`. The two agree if a layer
    /// has as many outputs as inputs.
    Xavier,
    /// N(0, 2/n). Keeps the scale of the signal in a ReLU network: ReLU halves the second moment (He et al. 2015,
    /// [arXiv:1502.01852](https://arxiv.org/abs/1502.01852), eq. 10).
    He,
}

crate::names!(InitStrategy, "initialisation":
    Zeros = "zeros",
    StandardNormal = "standard-normal",
    SmallNormal = "small-normal",
    Xavier = "xavier",
    He = "he",
);

impl InitStrategy {
    /// The standard deviation of the weights of a layer with this fan-in: 0, 1, 0.01, `sqrt(1 / fan_in)` or
    /// `sqrt(2 / fan_in)`.
    ///
    /// # Panics
    ///
    /// Panics if `fan_in` is 0.
    pub fn std(&self, fan_in: usize) -> f64 {
        assert!(
            fan_in > 0,
            "The fan-in, the number of inputs of one output unit, must be at least 1; got 0."
        );
        match self {
            Self::Zeros => 0.0,
            Self::StandardNormal => 1.0,
            Self::SmallNormal => 0.01,
            Self::Xavier => (1.0 / fan_in as f64).sqrt(),
            Self::He => (2.0 / fan_in as f64).sqrt(),
        }
    }

    /// The same distribution as a Burn `Initializer`, to create the parameters of your own layer.
    ///
    /// Burn draws from the device's random generator, so the values differ between backends. A Burn layer draws its
    /// bias from the same `Initializer`. [`initialize`](super::initialize) does neither.
    ///
    /// ```
    /// use burn::module::Param;
    /// use burn::tensor::{Device, Tensor};
    /// use burn_kindling::init::InitStrategy;
    ///
    /// let weight: Param<Tensor<2>> = InitStrategy::He.initializer(784).init([784, 100], &Device::flex());
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `fan_in` is 0.
    pub fn initializer(&self, fan_in: usize) -> Initializer {
        match self.std(fan_in) {
            0.0 => Initializer::Zeros,
            std => Initializer::Normal { mean: 0.0, std },
        }
    }

    /// The strategy for the layers of a network with this activation: Xavier for sigmoid, tanh and SELU, He for ReLU,
    /// leaky ReLU, GELU and SiLU.
    ///
    /// - **Leaky ReLU** of slope a: He et al. 2015 give a std of `sqrt(2 / ((1 + a²) n))` (eq. 15). At the slope of
    ///   0.01 used here, that is 0.005 % less.
    /// - **GELU, SiLU**: He is customary, but does not keep the second moment. [`Activation::gain`] gives the factor
    ///   that does; [`Scheme::for_activation`](super::Scheme::for_activation) uses it.
    /// - **SELU**: Klambauer et al. 2017 use N(0, 1/n). That is Xavier here and "LeCun normal" elsewhere.
    pub fn recommended_for(activation: Activation) -> Self {
        match activation {
            Activation::Sigmoid | Activation::Tanh | Activation::Selu => Self::Xavier,
            Activation::Relu | Activation::LeakyRelu | Activation::Gelu | Activation::Silu => {
                Self::He
            }
        }
    }
}
