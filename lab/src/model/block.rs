use burn::module::{Module, ModuleDisplay, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{self, Linear};
use burn::tensor::{DType, Device, FloatDType, Tensor};

use burn_kindling::init::Activation;
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Fold};

/// What stands between the affine layer and the activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Normalization {
    /// Nothing.
    None,
    /// This crate's [`BatchNorm`].
    Batch,
    /// Burn's own [`burn::nn::BatchNorm`], to compare with.
    Burn,
}

burn_kindling::names!(Normalization, "normalisation":
    None = "none",
    Batch = "batch",
    Burn = "burn",
);

impl Normalization {
    /// A normalisation of `channels` channels, or none.
    pub fn init(self, channels: usize, device: &Device) -> Option<Norm> {
        match self {
            Self::None => None,
            Self::Batch => Some(Norm::Batch(BatchNormConfig::new(channels).init(device))),
            Self::Burn => Some(Norm::Burn(nn::BatchNormConfig::new(channels).init(device))),
        }
    }
}

/// A normalisation layer of a [`Block`].
// A network has a handful of them; Burn's modules know no `Box`.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub enum Norm {
    /// This crate's.
    Batch(BatchNorm),
    /// Burn's own.
    Burn(nn::BatchNorm),
}

impl Norm {
    /// Normalises `input`, of shape `[batch, channels, ...]`, and keeps its shape.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Batch(norm) => norm.forward(input),
            Self::Burn(norm) => norm.forward(input),
        }
    }

    /// This crate's layer that does in inference what this one does.
    fn into_batch_norm(self) -> BatchNorm {
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
    /// Applies the layer to `input`, in the input's float type: parameters of another are cast to it, and their
    /// gradients back to theirs.
    fn forward(&self, input: Tensor<D>) -> Tensor<D>;
}

/// The parameter in another float type, with gradients that flow to the one given.
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

/// Affine layer, normalisation, activation: what every hidden layer of the lab is made of.
///
/// The affine layer has no bias where a normalisation follows it: the mean is taken out again, and
/// beta takes the bias's place.
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
    /// Applies the three in turn; the shapes are the affine layer's.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D>
    where
        A: Affine<D>,
    {
        match self.batch_norm_relu() {
            Some(norm) => norm.forward_relu(self.affine.forward(input)),
            None => self.activation.forward(self.pre_activation(input)),
        }
    }

    /// The normalisation, where it and the activation are one operation.
    pub(super) fn batch_norm_relu(&self) -> Option<&BatchNorm> {
        match (&self.norm, self.activation) {
            (Some(Norm::Batch(norm)), Activation::Relu) => Some(norm),
            _ => None,
        }
    }

    /// What goes into the activation.
    pub(super) fn pre_activation<const D: usize>(&self, input: Tensor<D>) -> Tensor<D>
    where
        A: Affine<D>,
    {
        let output = self.affine.forward(input);
        match &self.norm {
            Some(norm) => norm.forward(output),
            None => output,
        }
    }

    /// The block that does in inference what this one does, its normalisation folded into the
    /// affine layer (see [`Fold`]), which then has a bias.
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
