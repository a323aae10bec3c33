use burn::module::{Module, ModuleDisplay, Param};
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{self, Linear};
use burn::tensor::{DType, Device, FloatDType, Tensor};

use burn_kindling::init::Activation;
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Fold, Then};

/// The normalisation between the affine layer and the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Nothing.
    None,
    /// This crate's [`BatchNorm`].
    Batch,
    /// Burn's own [`burn::nn::BatchNorm`], for comparison.
    Burn,
}

burn_kindling::names!(Normalization, "normalisation":
    None = "none",
    Batch = "batch",
    Burn = "burn",
);

impl Normalization {
    /// Makes a normalisation of `channels` channels, or `None`.
    pub fn init(self, channels: usize, device: &Device) -> Option<Norm> {
        match self {
            Self::None => None,
            Self::Batch => Some(Norm::Batch(BatchNormConfig::new(channels).init(device))),
            Self::Burn => Some(Norm::Burn(nn::BatchNormConfig::new(channels).init(device))),
        }
    }
}

/// A normalisation layer of a [`Block`].
// A network has only a handful of them, and a Burn module cannot be a `Box`.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Norm {
    /// This crate's.
    Batch(BatchNorm),
    /// Burn's own.
    Burn(nn::BatchNorm),
}

impl Norm {
    /// Normalises `input`, of shape `[batch, channels, ...]`, and does what follows: in one operation, if the layer is
    /// this crate's.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, then: Then<D>) -> Tensor<D> {
        match self {
            Self::Batch(norm) => norm.forward_then(input, then),
            Self::Burn(norm) => then.apply(norm.forward(input)),
        }
    }

    /// Converts to this crate's layer, with the same result in inference.
    pub(crate) fn into_batch_norm(self) -> BatchNorm {
        match self {
            Self::Batch(norm) => norm,
            Self::Burn(norm) => BatchNormConfig::new(norm.gamma.dims()[0])
                .with_epsilon(norm.epsilon)
                .with_momentum(norm.momentum)
                .init(&norm.gamma.device())
                .load_record(norm.into_record()),
        }
    }
}

/// A layer that computes `W x + b`, on tensors of rank `D`.
pub trait Affine<const D: usize>: Module {
    /// Applies the layer to `input`, in the input's float type. Parameters of another type are cast to it, and
    /// their gradients are cast back.
    fn forward(&self, input: Tensor<D>) -> Tensor<D>;
}

/// Casts a parameter to another float type. Gradients flow back to the original.
fn cast<const P: usize>(param: &Param<Tensor<P>>, dtype: DType) -> Param<Tensor<P>> {
    Param::initialized(param.id, param.val().cast(FloatDType::from(dtype)))
}

/// Shapes: `[batch, inputs]` to `[batch, outputs]`.
impl Affine<2> for Linear {
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let dtype = input.dtype();
        let layer = Linear {
            weight: cast(&self.weight, dtype),
            bias: self.bias.as_ref().map(|bias| cast(bias, dtype)),
        };
        layer.forward(input)
    }
}

/// Shapes: `[batch, channels in, height, width]` to `[batch, channels out, height, width]`.
impl Affine<4> for Conv2d {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let dtype = input.dtype();
        let layer = Conv2d {
            weight: cast(&self.weight, dtype),
            bias: self.bias.as_ref().map(|bias| cast(bias, dtype)),
            ..self.clone()
        };
        layer.forward(input)
    }
}

/// Normalises, if there is a normalisation, and does what follows.
pub(super) fn normalize<const D: usize>(
    norm: Option<&Norm>,
    input: Tensor<D>,
    then: Then<D>,
) -> Tensor<D> {
    match norm {
        Some(norm) => norm.forward(input, then),
        None => then.apply(input),
    }
}

/// Affine layer, normalisation, activation: every hidden layer of the lab is one of these.
///
/// If a normalisation follows, the affine layer has no bias: subtracting the mean would cancel it, and beta does its
/// job.
#[derive(Module, Debug)]
pub struct Block<A: Module> {
    /// The linear layer or convolution.
    pub affine: A,
    /// The normalisation, if any.
    pub norm: Option<Norm>,
    /// The activation.
    #[module(skip)]
    pub activation: Activation,
}

impl<A: Module + ModuleDisplay> Block<A> {
    /// Applies the affine layer, the normalisation and the activation. The shapes are the affine layer's.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D>
    where
        A: Affine<D>,
    {
        self.finish(self.affine.forward(input), Then::new())
    }

    /// Applies the affine layer and the normalisation, adds `residual`, then applies the activation.
    ///
    /// # Shapes
    ///
    /// The affine layer's; `residual` has the shape of its output.
    pub fn forward_adding<const D: usize>(&self, input: Tensor<D>, residual: Tensor<D>) -> Tensor<D>
    where
        A: Affine<D>,
    {
        let then = Then::new().add_residual(residual);
        self.finish(self.affine.forward(input), then)
    }

    /// Normalises, does what follows, and applies the activation.
    pub(super) fn finish<const D: usize>(&self, output: Tensor<D>, then: Then<D>) -> Tensor<D> {
        normalize(self.norm.as_ref(), output, then.activate(self.activation))
    }

    /// Folds the normalisation into the affine layer (see [`Fold`]), which then has a bias. The result in inference
    /// stays the same.
    pub fn fold(self) -> Self
    where
        A: Fold,
    {
        match self.norm {
            None => self,
            Some(norm) => Self {
                affine: self.affine.fold(&norm.into_batch_norm()),
                norm: None,
                activation: self.activation,
            },
        }
    }
}

impl Block<Conv2d> {
    /// Applies the block and a max pooling.
    ///
    /// An activation that never falls comes after the pooling, or in one operation with it: the result is the same, for
    /// less work.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, channels in, height, width]`
    /// - output: `[batch, channels out, height out, width out]`
    pub fn forward_pooled(&self, input: Tensor<4>, pool: &MaxPool2d) -> Tensor<4> {
        let output = Affine::forward(&self.affine, input);
        let then = Then::new().activate(self.activation).max_pool(pool);
        normalize(self.norm.as_ref(), output, then)
    }
}
