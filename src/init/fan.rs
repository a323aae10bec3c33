/// How many connections a unit of a layer has, counted from the shape of the layer's weight.
///
/// Units at the border of a padded image have fewer; the count is that of a unit in the interior.
/// Dilation spreads a kernel's taps and leaves their number alone, so it does not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fan {
    /// Inputs that feed one output unit. It sets the scale of the forward signal.
    pub fan_in: usize,
    /// Outputs that one input unit feeds. It sets the scale of the gradient on its way back.
    pub fan_out: usize,
}

impl Fan {
    /// The fan of a [`Linear`](burn::nn::Linear) layer, from its weight `[d_input, d_output]`.
    ///
    /// `Linear::weight.val()` has this shape whichever [`LinearLayout`](burn::nn::LinearLayout) it
    /// is stored in.
    pub fn linear([d_input, d_output]: [usize; 2]) -> Self {
        Self {
            fan_in: d_input,
            fan_out: d_output,
        }
    }

    /// The fan of a convolution, from its weight `[channels_out, channels_in / groups, kernel...]`:
    ///
    /// - `fan_in = channels_in / groups * kernel area`, at any stride;
    /// - `fan_out = channels_out / groups * kernel area`, at stride 1. A stride thins the outputs,
    ///   and one input then feeds this many divided by the product of the strides, on average.
    ///   Glorot & Bengio and He et al. count it at stride 1, as the libraries do; so it is here.
    ///
    /// # Panics
    ///
    /// If the weight has no kernel axis (`D < 3`), or `groups` is 0 or does not divide
    /// `channels_out`.
    pub fn conv<const D: usize>(weight: [usize; D], groups: usize) -> Self {
        assert!(
            D >= 3,
            "The weight of a convolution is [channels_out, channels_in / groups, kernel...], of rank 3 or more; \
             got rank {D}, {weight:?}."
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

    /// The fan of a transposed convolution of stride 1, from its weight
    /// `[channels_in, channels_out / groups, kernel...]`:
    ///
    /// - `fan_in = channels_in / groups * kernel area`;
    /// - `fan_out = channels_out / groups * kernel area`.
    ///
    /// It is the gradient of the convolution whose weight has the same shape, so the two counts of
    /// [`conv`](Self::conv) change places. For a stride, see [`upsampled_by`](Self::upsampled_by).
    ///
    /// PyTorch's `_calculate_fan_in_and_fan_out` and Burn's `ConvTranspose*Config` take
    /// `channels_out / groups * kernel area` for the fan-in here too, though they mean the same
    /// thing by the word. That is what one *input* feeds: a layer from 64 channels to 3 would start
    /// with weights sqrt(64 / 3) times too large.
    ///
    /// # Panics
    ///
    /// As [`conv`](Self::conv) does.
    pub fn conv_transpose<const D: usize>(weight: [usize; D], groups: usize) -> Self {
        let Self { fan_in, fan_out } = Self::conv(weight, groups);
        Self {
            fan_in: fan_out,
            fan_out: fan_in,
        }
    }

    /// The fan of a transposed convolution of this stride, from that at stride 1.
    ///
    /// Every input still feeds `fan_out` outputs, but there are as many more outputs as the product
    /// of the strides, and they share those connections: one output is fed by
    /// `fan_in / product of the strides` inputs on average, exactly so where the stride divides the
    /// kernel size. Left out, a kernel of 4 x 4 with stride 2 would shrink the variance of the
    /// signal fourfold at every layer. The quotient is rounded to the nearest integer, and is at
    /// least 1.
    ///
    /// ```
    /// use burn_kindling::init::Fan;
    ///
    /// // 64 to 32 channels, kernel 2 x 2, stride 2: every output pixel is fed by one pixel of 64 channels.
    /// let fan = Fan::conv_transpose([64, 32, 2, 2], 1).upsampled_by(&[2, 2]);
    /// assert_eq!(fan, Fan { fan_in: 64, fan_out: 128 });
    /// ```
    ///
    /// # Panics
    ///
    /// If a stride is 0.
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
