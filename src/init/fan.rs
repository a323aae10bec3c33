//! Fan-in and fan-out.

/// The fan-in and fan-out of a layer, counted from the shape of its weight.
///
/// The numbers are those of units in the interior. At the border of a padded image, units have fewer connections.
/// Dilation does not matter: it spreads the taps of a kernel without changing their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fan {
    /// Number of inputs of one output unit. It determines the scale of the signal in the forward pass.
    pub fan_in: usize,
    /// Number of output units that one input feeds. It determines the scale of the gradient in the backward pass.
    pub fan_out: usize,
}

impl Fan {
    /// The fan of a linear layer, from the shape of its weight, `[d_input, d_output]`.
    ///
    /// In memory, the weight of `burn::nn::Linear` has this shape in either `LinearLayout`.
    pub fn linear([d_input, d_output]: [usize; 2]) -> Self {
        Self {
            fan_in: d_input,
            fan_out: d_output,
        }
    }

    /// The fan of a convolution, from the shape of its weight, `[channels_out, channels_in / groups, kernel...]`:
    ///
    /// - `fan_in = channels_in / groups * kernel area`, for any stride;
    /// - `fan_out = channels_out / groups * kernel area`, for stride 1.
    ///
    /// With a stride, one input feeds `fan_out` divided by the product of the strides, on average. This function
    /// ignores the stride, as do Glorot & Bengio 2010, He et al. 2015 and PyTorch. PyTorch also ignores the groups:
    /// its `fan_out` is `groups` times as large.
    ///
    /// # Panics
    ///
    /// Panics if the weight has no kernel axis (`D < 3`), or if `groups` is 0 or does not divide `channels_out`.
    pub fn conv<const D: usize>(weight: [usize; D], groups: usize) -> Self {
        Self::conv_of(&weight, groups)
    }

    /// [`conv`](Self::conv) of a shape whose rank is only known at run time.
    pub(crate) fn conv_of(weight: &[usize], groups: usize) -> Self {
        assert!(
            weight.len() >= 3,
            "The weight of a convolution is [channels_out, channels_in / groups, kernel...], of rank 3 or more; \
             got rank {}, {weight:?}.",
            weight.len()
        );
        assert!(
            groups > 0 && weight[0].is_multiple_of(groups),
            "The first axis of a convolution's weight must divide into its groups; got weight {weight:?} and \
             {groups} groups."
        );
        let area: usize = weight[2..].iter().product();
        Self {
            fan_in: weight[1] * area,
            fan_out: weight[0] / groups * area,
        }
    }

    /// The fan of a transposed convolution of stride 1, from the shape of its weight,
    /// `[channels_in, channels_out / groups, kernel...]`:
    ///
    /// - `fan_in = channels_in / groups * kernel area`;
    /// - `fan_out = channels_out / groups * kernel area`.
    ///
    /// A transposed convolution is the gradient of the convolution whose weight has the same shape. So its fans are
    /// those of [`conv`](Self::conv), exchanged. For other strides, see [`upsampled_by`](Self::upsampled_by).
    ///
    /// PyTorch's `_calculate_fan_in_and_fan_out` and Burn's `ConvTranspose*Config` take
    /// `channels_out / groups * kernel area` as the fan-in. But that is the number of outputs that one *input* feeds.
    /// For a layer from 64 channels to 3, it makes the weights sqrt(64 / 3) times too large.
    ///
    /// # Panics
    ///
    /// Panics as [`conv`](Self::conv) does.
    pub fn conv_transpose<const D: usize>(weight: [usize; D], groups: usize) -> Self {
        Self::conv_transpose_of(&weight, groups)
    }

    /// [`conv_transpose`](Self::conv_transpose) of a shape whose rank is only known at run time.
    pub(super) fn conv_transpose_of(weight: &[usize], groups: usize) -> Self {
        let Self { fan_in, fan_out } = Self::conv_of(weight, groups);
        Self {
            fan_in: fan_out,
            fan_out: fan_in,
        }
    }

    /// The fan of a transposed convolution with these strides, one per axis, from its fan at stride 1.
    ///
    /// Every input still feeds `fan_out` outputs, but there are more outputs by the product of the strides. So one
    /// output has `fan_in / product of the strides` inputs: on average, and exactly if each stride divides the kernel
    /// size on its axis. The quotient is rounded to the nearest integer and is at least 1.
    ///
    /// Without this correction, a kernel of 4 x 4 with stride 2 divides the variance of the signal by 4 at every layer.
    ///
    /// ```
    /// use burn_kindling::init::Fan;
    ///
    /// // 64 to 32 channels, kernel 2 x 2, stride 2: an output pixel sees one input pixel of 64 channels.
    /// let fan = Fan::conv_transpose([64, 32, 2, 2], 1).upsampled_by(&[2, 2]);
    /// assert_eq!(fan, Fan { fan_in: 64, fan_out: 128 });
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if a stride is 0.
    pub fn upsampled_by(self, stride: &[usize]) -> Self {
        let outputs: usize = stride.iter().product();
        assert!(
            outputs > 0,
            "The strides of a transposed convolution must be at least 1; got {stride:?}."
        );
        Self {
            fan_in: ((self.fan_in + outputs / 2) / outputs).max(1),
            ..self
        }
    }
}
