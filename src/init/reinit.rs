use burn::{
    module::Param,
    nn::{
        Linear,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::Tensor,
};

use super::{Fan, InitStrategy};

/// A layer whose weights can start anew; see [`InitStrategy::apply`].
///
/// Implement it for a network of your own by passing the strategy on to its layers:
///
/// ```
/// use burn::nn::{Linear, conv::Conv2d};
/// use burn_kindling::init::{InitStrategy, Reinit};
///
/// struct Net {
///     conv: Conv2d,
///     output: Linear,
/// }
///
/// impl Reinit for Net {
///     fn reinit(self, strategy: InitStrategy) -> Self {
///         Self {
///             conv: strategy.apply(self.conv),
///             output: strategy.apply(self.output),
///         }
///     }
/// }
/// ```
pub trait Reinit: Sized {
    /// Draws new weights by `strategy` and sets the biases to 0; all else stays.
    fn reinit(self, strategy: InitStrategy) -> Self;
}

/// Replaces a parameter's value and keeps the rest of it, its laziness included.
///
/// The fan is counted on the value: the shape that a lazy `Linear` in `Col` layout announces is
/// that of its record, with the axes swapped.
fn redraw<const D: usize>(
    param: Param<Tensor<D>>,
    strategy: InitStrategy,
    fan: impl Fn([usize; D]) -> Fan + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    param.init_mapper(move |old| {
        let fan_in = fan(old.dims()).fan_in;
        let new = strategy.sample(old.shape(), fan_in, (&old.device(), old.dtype()));
        new.set_require_grad(old.is_require_grad())
    })
}

macro_rules! reinit {
    ($layer:ty, |$this:ident| $fan:expr) => {
        impl Reinit for $layer {
            fn reinit(mut self, strategy: InitStrategy) -> Self {
                let $this = &self;
                let fan = $fan;
                self.weight = redraw(self.weight, strategy, fan);
                self.bias = self.bias.map(|bias| {
                    redraw(bias, InitStrategy::Zeros, |_| Fan {
                        fan_in: 1,
                        fan_out: 1,
                    })
                });
                self
            }
        }
    };
}

reinit!(Linear, |_linear| Fan::linear);
reinit!(Conv1d, |conv| conv_fan(conv.groups));
reinit!(Conv2d, |conv| conv_fan(conv.groups));
reinit!(Conv3d, |conv| conv_fan(conv.groups));
reinit!(ConvTranspose1d, |conv| conv_transpose_fan(
    conv.groups,
    [conv.stride]
));
reinit!(ConvTranspose2d, |conv| conv_transpose_fan(
    conv.groups,
    conv.stride
));
reinit!(ConvTranspose3d, |conv| conv_transpose_fan(
    conv.groups,
    conv.stride
));

fn conv_fan<const D: usize>(groups: usize) -> impl Fn([usize; D]) -> Fan {
    move |weight| Fan::conv(weight, groups)
}

fn conv_transpose_fan<const D: usize, const S: usize>(
    groups: usize,
    stride: [usize; S],
) -> impl Fn([usize; D]) -> Fan {
    move |weight| Fan::conv_transpose(weight, groups).upsampled_by(&stride)
}
