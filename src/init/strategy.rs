use burn::{
    module::{Param, ParamId},
    nn::Initializer,
    tensor::{Device, Distribution, Shape, Tensor, TensorCreationOptions},
};

use super::{Activation, Reinit};

/// The distribution that a layer's weights are first drawn from; biases start at 0.
///
/// n is the fan-in ([`Fan`](super::Fan)): the number of inputs that feed one output unit.
/// Prints as, parses from and serialises to `zeros`, `standard-normal`, `small-normal`, `xavier`, `he`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InitStrategy {
    /// All weights 0: the units of a layer start equal and stay equal.
    Zeros,
    /// N(0, 1): too large for any wide layer.
    StandardNormal,
    /// N(0, 0.01^2): the signal shrinks at every layer, to nothing in a deep network.
    SmallNormal,
    /// N(0, 1/n): keeps the scale of the signal where the activation is close to a straight line of
    /// slope 1, as tanh is around 0; the custom for sigmoid too. It goes by the fan-in alone.
    ///
    /// Glorot & Bengio 2010 also count the fan-out, `std = sqrt(2 / (fan_in + fan_out))`; that is
    /// Burn's [`Initializer::XavierNormal`]. Where a layer is as wide as the one before, the two are
    /// the same.
    Xavier,
    /// N(0, 2/n): keeps the signal of a ReLU network, whose zeroed half halves the second moment
    /// (He et al. 2015, [arXiv:1502.01852](https://arxiv.org/abs/1502.01852), eq. 10).
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
    /// The standard deviation of the weights of a layer with this fan-in: 0, 1, 0.01,
    /// `sqrt(1 / fan_in)` or `sqrt(2 / fan_in)`.
    ///
    /// # Panics
    ///
    /// If `fan_in` is 0.
    pub fn std(&self, fan_in: usize) -> f64 {
        assert!(
            fan_in > 0,
            "The fan-in must be at least 1, the number of inputs that feed one output unit; got 0."
        );
        match self {
            Self::Zeros => 0.0,
            Self::StandardNormal => 1.0,
            Self::SmallNormal => 0.01,
            Self::Xavier => (1.0 / fan_in as f64).sqrt(),
            Self::He => (2.0 / fan_in as f64).sqrt(),
        }
    }

    /// A trainable parameter of this shape, in the device's default float type.
    ///
    /// It is lazy, as those of Burn's [`Initializer`] are: the values are drawn when they are first
    /// looked at, and never if a record is loaded before. So two things fix them: the last
    /// [`Device::seed`] before that first look, and the order in which the parameters are looked at.
    ///
    /// # Panics
    ///
    /// If `fan_in` is 0.
    pub fn init<const D: usize>(
        &self,
        shape: impl Into<Shape>,
        fan_in: usize,
        device: &Device,
    ) -> Param<Tensor<D>> {
        let strategy = *self;
        let shape = shape.into();
        // Here rather than at the first look, where the mistake is hard to trace.
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

    /// The same distribution as a Burn [`Initializer`], for the config of any Burn layer.
    ///
    /// Burn draws the *bias* from it too, where it should start at 0. [`apply`](Self::apply) on the
    /// layer built is the way to have both right, and it counts the fan-in itself.
    ///
    /// # Panics
    ///
    /// If `fan_in` is 0.
    pub fn initializer(&self, fan_in: usize) -> Initializer {
        match self.std(fan_in) {
            0.0 => Initializer::Zeros,
            std => Initializer::Normal { mean: 0.0, std },
        }
    }

    /// Starts an existing layer anew: the weights by this strategy, with the layer's own fan-in, the
    /// bias, if it has one, at 0.
    ///
    /// What the parameters are stays: id, shape, device, float type, whether they are trained and
    /// whether they are drawn yet, and how they go in and out of records (a `Linear` in `Col` layout
    /// keeps its layout there; in memory its new weight lies row by row). A LoRA adapter is dropped.
    ///
    /// A layer not drawn yet first draws the values it was configured with, and those draws count in
    /// the sequence that the seed fixes.
    pub fn apply<L: Reinit>(&self, layer: L) -> L {
        layer.reinit(*self)
    }

    /// The strategy that goes with this activation: Xavier for sigmoid and tanh, He for ReLU and its
    /// relatives.
    ///
    /// For leaky ReLU of slope a He et al. give `sqrt(2 / ((1 + a^2) n))`, 0.005% less at the slope
    /// of 0.01 used here. For GELU He is the custom, not an exact fixed point.
    pub fn recommended_for(activation: Activation) -> Self {
        match activation {
            Activation::Sigmoid | Activation::Tanh => Self::Xavier,
            Activation::Relu | Activation::LeakyRelu | Activation::Gelu => Self::He,
        }
    }

    /// Draws the values, in memory the backend keeps for what lives long.
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
