//! The five initialisation strategies.

use burn::{
    module::{Param, ParamId},
    nn::Initializer,
    tensor::{Device, Distribution, Shape, Tensor, TensorCreationOptions},
};

use super::activation::Activation;

/// The distribution of a layer's initial weights. Biases start at 0.
///
/// In the formulas, n is the fan-in ([`Fan`](super::Fan)): the number of inputs of one output unit.
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
    /// is Burn's `Initializer::XavierNormal`. The two agree if a layer has as many outputs as inputs.
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

    /// Creates a trainable parameter of this shape, in the device's default float type.
    ///
    /// It is lazy, like the parameters of Burn's `Initializer`: its values are drawn at the first access, and never if
    /// a record is loaded before. They depend on the last `Device::seed` before that access, and on the order in which
    /// the parameters are accessed.
    ///
    /// # Panics
    ///
    /// Panics if `fan_in` is 0.
    pub fn init<const D: usize>(
        &self,
        shape: impl Into<Shape>,
        fan_in: usize,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let strategy = *self;
        let shape = shape.into();
        // Panic here, not at the first access, where the mistake is hard to trace.
        strategy.std(fan_in);

        let drawn_shape = shape.clone();
        Param::uninitialized(
            ParamId::new(),
            move |device, require_grad| {
                strategy
                    .sample(drawn_shape, fan_in, device)
                    .set_require_grad(require_grad)
            },
            device.clone(),
            true,
            shape,
        )
    }

    /// The same distribution as a Burn `Initializer`, for layers that do not implement [`Reinit`](super::Reinit).
    ///
    /// If the layer has a bias, Burn draws that too from this distribution; it should start at 0. Use
    /// [`apply`](Self::apply) where it is available: it sets the bias to 0 and counts the fan-in itself.
    ///
    /// ```
    /// use burn::nn::{Embedding, EmbeddingConfig};
    /// use burn_kindling::init::InitStrategy;
    ///
    /// # let device = burn::tensor::Device::flex();
    /// let vectors = InitStrategy::SmallNormal.initializer(1);
    /// let embedding = EmbeddingConfig::new(1000, 64).with_initializer(vectors).init(&device);
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

    /// The strategy for layers before this activation: Xavier for sigmoid, tanh and SELU, He for ReLU, leaky ReLU, GELU
    /// and SiLU.
    ///
    /// For leaky ReLU of slope a, He et al. 2015 give a std of `sqrt(2 / ((1 + a²) n))`. At the slope of 0.01 used
    /// here, that is 0.005 % less. For GELU and SiLU, He is customary but does not keep the second moment:
    /// [`Activation::gain`] gives the factor that does. For SELU, Klambauer et al. 2017 use N(0, 1/n), which is Xavier
    /// here and "LeCun normal" elsewhere.
    pub fn recommended_for(activation: Activation) -> Self {
        match activation {
            Activation::Sigmoid | Activation::Tanh | Activation::Selu => Self::Xavier,
            Activation::Relu | Activation::LeakyRelu | Activation::Gelu | Activation::Silu => {
                Self::He
            }
        }
    }

    /// Draws the values, in memory that the backend reserves for long-lived tensors.
    pub(super) fn sample<const D: usize>(
        &self,
        shape: Shape,
        fan_in: usize,
        options: impl Into<TensorCreationOptions>,
    ) -> Tensor<D> {
        let std = self.std(fan_in);
        let options = options.into();
        let device = options.device.clone();
        device.memory_persistent_allocations((shape, options), |(shape, options)| match self {
            Self::Zeros => Tensor::zeros(shape, options),
            _ => Tensor::random(shape, Distribution::Normal(0.0, std), options),
        })
    }
}
