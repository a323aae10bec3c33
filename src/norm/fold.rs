//! Folds a trained batch norm into the layer before it: one layer, or a whole model.

use burn::module::Param;
use burn::nn::Linear;
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
use burn::tensor::{FloatDType, Tensor};

use super::batch_norm::BatchNorm;
use super::statistics::on;

mod model;
mod search;

pub use model::{FoldRow, FoldTable, fold};

/// A layer into which the batch norm after it can be folded. [`fold`](fold()) folds a whole model.
///
/// In inference a batch norm scales and shifts each channel: `y = s * x + (beta - s * running_mean)` with
/// `s = gamma / sqrt(running_var + epsilon)`. The affine layer that computes `x` can absorb this:
///
/// `w' = s * w`, `b' = s * (b - running_mean) + beta`.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::{Device, Distribution, Tensor, Tolerance};
/// use burn_kindling::norm::{BatchNormConfig, Fold};
///
/// let device = Device::flex();
/// let conv = Conv2dConfig::new([3, 8], [3, 3]).with_bias(false).init(&device);
/// let norm = BatchNormConfig::new(8).init(&device);
/// let images = Tensor::<4>::random([2, 3, 9, 9], Distribution::Default, &device);
///
/// let separate = norm.forward(conv.forward(images.clone()));
/// let folded = conv.fold(&norm).forward(images);
///
/// separate.into_data().assert_approx_eq::<f32>(&folded.into_data(), Tolerance::default());
/// ```
pub trait Fold: Sized {
    /// Returns one layer that gives the same output as this layer followed by the batch norm in inference. It has a
    /// bias, even if this layer has none. It is on the same device, with the same autodiff settings, and trains if this
    /// layer does.
    ///
    /// The output of a [`Linear`] layer must be the norm's input `[batch, channels]`. With axes between the two, the
    /// norm would use another axis as channels.
    ///
    /// # Panics
    ///
    /// Panics if the norm's number of channels differs from this layer's number of outputs, or if the norm keeps no
    /// running statistics.
    fn fold(self, norm: &BatchNorm) -> Self;
}

impl Fold for Linear {
    fn fold(self, norm: &BatchNorm) -> Self {
        let channels = self.weight.dims()[1];
        let (weight, bias) = folded(self.weight, self.bias, norm, channels, |scale| {
            scale.unsqueeze_dim(0)
        });
        Self { weight, bias }
    }
}

/// Convolutions: weight `[channels_out, channels_in / groups, kernel...]`.
macro_rules! impl_convolution {
    ($($layer:ty, $rank:literal;)*) => {$(
        impl Fold for $layer {
            fn fold(self, norm: &BatchNorm) -> Self {
                let mut broadcast = [1; $rank];
                broadcast[0] = self.weight.dims()[0];
                let (weight, bias) =
                    folded(self.weight, self.bias, norm, broadcast[0], |scale| scale.reshape(broadcast));
                Self { weight, bias, ..self }
            }
        }
    )*};
}

impl_convolution! {
    Conv1d, 3;
    Conv2d, 4;
    Conv3d, 5;
}

/// Transposed convolutions: weight `[channels_in, channels_out / groups, kernel...]`. The rows of a group hold the
/// outputs of that group.
macro_rules! impl_transposed_convolution {
    ($($layer:ty, $rank:literal;)*) => {$(
        impl Fold for $layer {
            fn fold(self, norm: &BatchNorm) -> Self {
                let [channels_in, outputs_of_group, ..] = self.weight.dims();
                let inputs_of_group = channels_in / self.groups;
                let channels = outputs_of_group * self.groups;
                let mut broadcast = [1; $rank];
                broadcast[0] = channels_in;
                broadcast[1] = outputs_of_group;
                let (weight, bias) = folded(self.weight, self.bias, norm, channels, |scale| {
                    scale
                        .reshape([self.groups, 1, outputs_of_group])
                        .repeat_dim(1, inputs_of_group)
                        .reshape(broadcast)
                });
                Self { weight, bias, ..self }
            }
        }
    )*};
}

impl_transposed_convolution! {
    ConvTranspose1d, 3;
    ConvTranspose2d, 4;
    ConvTranspose3d, 5;
}

/// Computes the folded weight and bias. `broadcast` reshapes `[channels]` so that it multiplies the weight.
fn folded<const D: usize>(
    weight: Param<Tensor<D>>,
    bias: Option<Param<Tensor<1>>>,
    norm: &BatchNorm,
    channels: usize,
    broadcast: impl FnOnce(Tensor<1>) -> Tensor<D>,
) -> (Param<Tensor<D>>, Option<Param<Tensor<1>>>) {
    let (scale, mean, beta) = norm.inference_terms();
    assert!(
        scale.dims() == [channels],
        "a batch norm over {} channels cannot fold into a layer with {channels} output channels.",
        scale.dims()[0]
    );
    let dtype = FloatDType::from(weight.dtype());
    // The statistics are f32 or wider, and so is the arithmetic, whatever the weight's type.
    let precision = FloatDType::from(scale.dtype());

    let centred = match &bias {
        Some(bias) => bias.val().without_autodiff().cast(precision) - mean,
        None => mean.neg(),
    };
    let scaled = centred * scale.clone();
    let offset = match beta {
        Some(beta) => scaled + beta,
        None => scaled,
    };
    let offset = offset.cast(dtype);
    let offset = match bias {
        Some(bias) => replace(bias, offset),
        None => Param::from_tensor(on(offset, &weight.device())),
    };
    let scaled = weight.val().without_autodiff().cast(precision) * broadcast(scale);
    (replace(weight, scaled.cast(dtype)), Some(offset))
}

/// Replaces the value of a parameter. The new value is outside of any graph, and trains if the old one did.
fn replace<const D: usize>(param: Param<Tensor<D>>, value: Tensor<D>) -> Param<Tensor<D>> {
    param.map(|old| on(value, &old.device()).set_require_grad(old.is_require_grad()))
}
