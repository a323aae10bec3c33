//! Distributions of weights: a shape, a scale, and the fan that the scale depends on.

use super::{activation::Activation, fan::Fan, strategy::InitStrategy};

/// How the weights of a layer are drawn: a distribution, and its scale.
///
/// Start with a constructor and refine it with [`uniform`](Self::uniform), [`truncated`](Self::truncated),
/// [`scaled`](Self::scaled) and [`by`](Self::by):
///
/// ```
/// use burn_kindling::init::{Activation, FanMode, InitStrategy, Scheme};
///
/// let he = Scheme::from(InitStrategy::He); // N(0, 2/fan_in)
/// let he_uniform = Scheme::he().uniform(); // U(-sqrt(6/fan_in), sqrt(6/fan_in))
/// let glorot = Scheme::glorot(); // N(0, 2/(fan_in + fan_out))
/// let small_output = Scheme::glorot().scaled(0.1);
/// let backward_he = Scheme::he().by(FanMode::Out);
/// let gelu = Scheme::for_activation(Activation::Gelu).truncated();
/// let orthogonal = Scheme::orthogonal().scaled(2f64.sqrt());
/// ```
///
/// | scheme | values | source |
/// | --- | --- | --- |
/// | [`constant`](Self::constant), [`zeros`](Self::zeros), [`ones`](Self::ones) | all equal | |
/// | [`normal`](Self::normal) | N(0, std²) | |
/// | [`uniform_between`](Self::uniform_between) | U(low, high) | |
/// | [`fan_in`](Self::fan_in), [`fan_out`](Self::fan_out), [`fan_average`](Self::fan_average) | N(0, gain²/fan) | |
/// | [`he`](Self::he) | N(0, 2/fan_in) | He et al. 2015, eq. 10 |
/// | [`lecun`](Self::lecun) | N(0, 1/fan_in) | LeCun et al. 1998, eq. 16 |
/// | [`glorot`](Self::glorot) | N(0, 2/(fan_in + fan_out)) | Glorot & Bengio 2010, eq. 12 |
/// | [`orthogonal`](Self::orthogonal) | orthonormal rows or columns | Saxe et al. 2013 |
/// | [`delta_orthogonal`](Self::delta_orthogonal) | an orthogonal matrix at the centre of the kernel | Xiao et al. 2018 |
/// | [`identity`](Self::identity) | the identity at the centre of the kernel (Dirac) | |
/// | [`sparse`](Self::sparse) | N(0, std²), a share of each unit's inputs 0 | Martens 2010 |
///
/// Drawn values have mean 0, except those of `uniform_between`. `std` always means the standard deviation of the values
/// themselves, also after [`uniform`](Self::uniform) and [`truncated`](Self::truncated).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheme {
    pub(super) shape: Distribution,
    pub(super) mean: f64,
    pub(super) scale: Scale,
}

/// The distribution that a [`Scheme`] scales.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Distribution {
    /// The mean alone.
    Constant,
    /// N(0, 1).
    Normal,
    /// N(0, 1) cut off at two standard deviations, then scaled to a variance of 1.
    TruncatedNormal,
    /// Uniform, of variance 1.
    Uniform,
    /// Orthonormal rows or columns.
    Orthogonal { at_centre: bool },
    /// The identity matrix, at the centre of the kernel.
    Identity,
    /// N(0, 1), with this share of each unit's inputs set to 0.
    Sparse { sparsity: f64 },
}

/// The factor on the distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scale {
    /// A fixed factor.
    Fixed(f64),
    /// `gain / sqrt(fan)`.
    Fan { gain: f64, by: FanMode },
}

/// The fan that the variance of the weights is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FanMode {
    /// The fan-in: keeps the scale of the signal in the forward pass.
    In,
    /// The fan-out: keeps the scale of the gradient in the backward pass.
    Out,
    /// The mean of fan-in and fan-out (Glorot & Bengio 2010, eq. 12).
    Average,
    /// This number, whatever the layer. For a parameter whose fan cannot be counted, such as one of a layer of your
    /// own.
    Of(usize),
}

impl FanMode {
    /// The number by which the variance is divided.
    pub(super) fn of(self, fan: Fan) -> f64 {
        match self {
            Self::In => fan.fan_in as f64,
            Self::Out => fan.fan_out as f64,
            Self::Average => (fan.fan_in as f64 + fan.fan_out as f64) / 2.0,
            Self::Of(fan) => fan as f64,
        }
    }
}

impl Scheme {
    /// Every value is 0.
    pub const fn zeros() -> Self {
        Self::constant(0.0)
    }

    /// Every value is 1.
    pub const fn ones() -> Self {
        Self::constant(1.0)
    }

    /// Every value is `value`.
    ///
    /// # Panics
    ///
    /// Panics if `value` is not finite.
    pub const fn constant(value: f64) -> Self {
        assert!(value.is_finite(), "A constant weight must be finite.");
        Self {
            shape: Distribution::Constant,
            mean: value,
            scale: Scale::Fixed(0.0),
        }
    }

    /// N(0, std²), whatever the fan.
    ///
    /// # Panics
    ///
    /// Panics if `std` is negative or not finite.
    pub const fn normal(std: f64) -> Self {
        Self::with(Distribution::Normal, Scale::Fixed(std))
    }

    /// U(low, high).
    ///
    /// # Panics
    ///
    /// Panics if `low` is above `high`, or a bound is not finite.
    pub fn uniform_between(low: f64, high: f64) -> Self {
        assert!(
            low.is_finite() && high.is_finite() && low <= high,
            "The bounds of a uniform distribution must be finite, the lower one first; got {low} and {high}."
        );
        Self {
            mean: low.midpoint(high),
            ..Self::with(
                Distribution::Uniform,
                Scale::Fixed((high / 2.0 - low / 2.0) / 3f64.sqrt()),
            )
        }
    }

    /// N(0, gain²/fan_in). It keeps the second moment of the signal if the activation before the layer divides that by
    /// gain²; see [`Activation::gain`].
    ///
    /// # Panics
    ///
    /// Panics if `gain` is negative or not finite.
    pub const fn fan_in(gain: f64) -> Self {
        Self::by_fan(gain, FanMode::In)
    }

    /// N(0, gain²/fan_out). It keeps the second moment of the gradient in the backward pass (He et al. 2015, eq. 14).
    ///
    /// # Panics
    ///
    /// Panics if `gain` is negative or not finite.
    pub const fn fan_out(gain: f64) -> Self {
        Self::by_fan(gain, FanMode::Out)
    }

    /// N(0, 2 gain²/(fan_in + fan_out)): a compromise between [`fan_in`](Self::fan_in) and [`fan_out`](Self::fan_out).
    ///
    /// # Panics
    ///
    /// Panics if `gain` is negative or not finite.
    pub const fn fan_average(gain: f64) -> Self {
        Self::by_fan(gain, FanMode::Average)
    }

    /// N(0, 2/fan_in), for layers with ReLU (He et al. 2015, [arXiv:1502.01852](https://arxiv.org/abs/1502.01852),
    /// eq. 10). The same as [`InitStrategy::He`] and as PyTorch's `kaiming_normal_(nonlinearity='relu')`.
    pub const fn he() -> Self {
        Self::fan_in(std::f64::consts::SQRT_2)
    }

    /// N(0, 1/fan_in), for layers whose activation is close to a line of slope 1 (LeCun et al. 1998, *Efficient
    /// BackProp*, eq. 16), and for SELU. The same as [`InitStrategy::Xavier`].
    pub const fn lecun() -> Self {
        Self::fan_in(1.0)
    }

    /// N(0, 2/(fan_in + fan_out)) (Glorot & Bengio 2010, *Understanding the difficulty of training deep feedforward
    /// neural networks*, eq. 12; there uniform). The same as PyTorch's `xavier_normal_`. [`InitStrategy::Xavier`] uses
    /// the fan-in only.
    pub const fn glorot() -> Self {
        Self::fan_average(1.0)
    }

    /// N(0, gain²/fan_in) with the [gain](Activation::gain) of the activation.
    pub fn for_activation(activation: Activation) -> Self {
        Self::fan_in(activation.gain())
    }

    /// A matrix with orthonormal rows, or columns if those are fewer, drawn uniformly (Saxe et al. 2013,
    /// [arXiv:1312.6120](https://arxiv.org/abs/1312.6120)). A linear layer with at least as many outputs as inputs then
    /// keeps the norm of the signal. [`scaled`](Self::scaled) sets the gain.
    ///
    /// A weight of more than two axes counts as a matrix: its first axis by all others. In a convolution with groups,
    /// each group has its own matrix, because the groups see different inputs. PyTorch makes one matrix of all groups;
    /// if that has more rows than columns, the norms of its filters are below 1.
    ///
    /// The matrix is orthogonalised on the host, in f64. The time grows with the cube of its side.
    pub const fn orthogonal() -> Self {
        Self::with(
            Distribution::Orthogonal { at_centre: false },
            Scale::Fixed(1.0),
        )
    }

    /// A random orthogonal matrix at the centre of a convolution's kernel, 0 elsewhere (Xiao et al. 2018,
    /// [arXiv:1806.05393](https://arxiv.org/abs/1806.05393), algorithm 1). A layer with at least as many output
    /// channels as input channels then keeps the norm of the signal, except at the border. In a linear layer, this is
    /// the same as [`orthogonal`](Self::orthogonal).
    pub const fn delta_orthogonal() -> Self {
        Self::with(
            Distribution::Orthogonal { at_centre: true },
            Scale::Fixed(1.0),
        )
    }

    /// The identity: output i is input i. In a convolution, it stands at the centre of the kernel, separately in each
    /// group (PyTorch's `eye_` and `dirac_`). Outputs without a matching input are 0.
    pub const fn identity() -> Self {
        Self::with(Distribution::Identity, Scale::Fixed(1.0))
    }

    /// N(0, std²), with `ceil(sparsity * fan_in)` randomly chosen weights of every unit set to 0 (Martens 2010, *Deep
    /// learning via Hessian-free optimization*, section 5).
    ///
    /// PyTorch's `sparse_` zeroes weights *from* each input instead, so a unit may end up without inputs.
    ///
    /// # Panics
    ///
    /// Panics if `sparsity` is not between 0 and 1, or `std` is negative or not finite.
    pub const fn sparse(sparsity: f64, std: f64) -> Self {
        assert!(
            sparsity >= 0.0 && sparsity <= 1.0,
            "The share of weights that are 0 is between 0 and 1."
        );
        Self::with(Distribution::Sparse { sparsity }, Scale::Fixed(std))
    }

    /// The same mean and std with a uniform distribution: U(mean ± sqrt(3) std). A constant, orthogonal, identity or
    /// sparse scheme stays as it is.
    pub const fn uniform(self) -> Self {
        self.reshaped(Distribution::Uniform)
    }

    /// The same mean and std with a normal distribution cut off at two of its standard deviations. A constant,
    /// orthogonal, identity or sparse scheme stays as it is.
    ///
    /// `std` is that of the values that are left, as in the variance scaling of Keras and JAX. The std before the cut
    /// is 1 / 0.8796 times as large, so the values end at 2.27 `std`. PyTorch's `trunc_normal_` takes the std before
    /// the cut, and cuts at fixed values, by default -2 and 2, whatever the std.
    pub const fn truncated(self) -> Self {
        self.reshaped(Distribution::TruncatedNormal)
    }

    /// Multiplies all values by `factor`, for example by a gain.
    ///
    /// # Panics
    ///
    /// Panics if `factor` is negative or not finite.
    pub const fn scaled(self, factor: f64) -> Self {
        check_scale(factor);
        let scale = match self.scale {
            Scale::Fixed(scale) => Scale::Fixed(scale * factor),
            Scale::Fan { gain, by } => Scale::Fan {
                gain: gain * factor,
                by,
            },
        };
        Self {
            mean: self.mean * factor,
            scale,
            ..self
        }
    }

    /// Divides the variance by another fan. A scheme with a fixed scale stays as it is.
    ///
    /// # Panics
    ///
    /// Panics if the fan is `FanMode::Of(0)`.
    pub const fn by(self, fan: FanMode) -> Self {
        assert!(
            !matches!(fan, FanMode::Of(0)),
            "A fan must be at least 1; got 0."
        );
        match self.scale {
            Scale::Fixed(_) => self,
            Scale::Fan { gain, .. } => Self {
                scale: Scale::Fan { gain, by: fan },
                ..self
            },
        }
    }

    /// The standard deviation of the weights of a layer with this fan; 0 for a constant.
    ///
    /// For an orthogonal, identity or sparse scheme, this is the root mean square of the values of a linear layer with
    /// this fan. In a convolution it also depends on the shape; an [`InitTable`](super::InitTable) has it.
    ///
    /// # Panics
    ///
    /// Panics if the scheme depends on a fan that is 0.
    pub fn std(&self, fan: Fan) -> f64 {
        let factor = (self.factor(Some(fan))).expect("the fan is known");
        let [inputs, outputs] = [fan.fan_in as f64, fan.fan_out as f64];
        match self.shape {
            Distribution::Orthogonal { .. } | Distribution::Identity => {
                factor / inputs.max(outputs).sqrt()
            }
            Distribution::Sparse { sparsity } => {
                factor * ((inputs - zeros_of(sparsity, fan.fan_in) as f64) / inputs).sqrt()
            }
            _ => factor,
        }
    }

    /// The factor on the distribution. `None` if it depends on a fan and there is none.
    pub(super) fn factor(&self, fan: Option<Fan>) -> Option<f64> {
        match (self.scale, fan) {
            (Scale::Fixed(scale), _) => Some(scale),
            (
                Scale::Fan {
                    gain,
                    by: FanMode::Of(fan),
                },
                _,
            ) => Some(gain / (fan as f64).sqrt()),
            (Scale::Fan { gain, by }, Some(fan)) => {
                let fan = by.of(fan);
                assert!(
                    fan > 0.0,
                    "The fan, the number of inputs or outputs of a unit, must be at least 1; got 0."
                );
                Some(gain / fan.sqrt())
            }
            (Scale::Fan { .. }, None) => None,
        }
    }

    const fn with(shape: Distribution, scale: Scale) -> Self {
        match scale {
            Scale::Fixed(scale) => check_scale(scale),
            Scale::Fan { gain, .. } => check_scale(gain),
        }
        Self {
            shape,
            mean: 0.0,
            scale,
        }
    }

    const fn by_fan(gain: f64, by: FanMode) -> Self {
        Self::with(Distribution::Normal, Scale::Fan { gain, by })
    }

    const fn reshaped(self, shape: Distribution) -> Self {
        match self.shape {
            Distribution::Normal | Distribution::TruncatedNormal | Distribution::Uniform => {
                Self { shape, ..self }
            }
            _ => self,
        }
    }
}

/// How many of a unit's `inputs` have weight 0.
pub(super) fn zeros_of(sparsity: f64, inputs: usize) -> usize {
    (sparsity * inputs as f64).ceil() as usize
}

const fn check_scale(scale: f64) {
    assert!(
        scale.is_finite() && scale >= 0.0,
        "The scale of the weights must be finite and not negative."
    );
}

impl From<InitStrategy> for Scheme {
    fn from(strategy: InitStrategy) -> Self {
        match strategy {
            InitStrategy::Zeros => Self::zeros(),
            InitStrategy::StandardNormal => Self::normal(1.0),
            InitStrategy::SmallNormal => Self::normal(0.01),
            InitStrategy::Xavier => Self::lecun(),
            InitStrategy::He => Self::he(),
        }
    }
}

/// Says what is drawn, such as `normal, std sqrt(2/fan_in)`.
impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scale = match self.scale {
            Scale::Fixed(scale) => scale.to_string(),
            Scale::Fan { gain, by } => {
                // The usual gains are square roots of simple numbers.
                let square = (gain * gain * 1e6).round() / 1e6;
                match by {
                    FanMode::In => format!("sqrt({square}/fan_in)"),
                    FanMode::Out => format!("sqrt({square}/fan_out)"),
                    FanMode::Average => format!("sqrt({}/(fan_in + fan_out))", 2.0 * square),
                    FanMode::Of(fan) => format!("sqrt({square}/{fan})"),
                }
            }
        };
        let mean = match self.mean {
            0.0 => String::new(),
            mean => format!("mean {mean}, "),
        };
        f.pad(&match self.shape {
            Distribution::Constant => format!("constant {}", self.mean),
            Distribution::Normal => format!("normal, {mean}std {scale}"),
            Distribution::TruncatedNormal => format!("truncated normal, {mean}std {scale}"),
            Distribution::Uniform => format!("uniform, {mean}std {scale}"),
            Distribution::Orthogonal { at_centre: false } => format!("orthogonal, gain {scale}"),
            Distribution::Orthogonal { at_centre: true } => {
                format!("delta-orthogonal, gain {scale}")
            }
            Distribution::Identity => format!("identity, gain {scale}"),
            Distribution::Sparse { sparsity } => format!("sparse, {sparsity} of it 0, std {scale}"),
        })
    }
}
