//! Initialises the layers of a model again.

use burn::{
    module::Param,
    nn::{
        Linear,
        conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d},
    },
    tensor::Tensor,
};

use super::{fan::Fan, strategy::InitStrategy};

/// A layer that can be initialised again; see [`InitStrategy::apply`].
///
/// Implemented for `Linear`, `Conv1d` to `Conv3d` and `ConvTranspose1d` to `ConvTranspose3d` of `burn::nn`. Implement
/// it for your own network by passing the strategy on to its layers:
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
    /// Draws new weights from `strategy` and sets the biases to 0. Everything else stays.
    fn reinit(self, strategy: InitStrategy) -> Self;
}

impl InitStrategy {
    /// Initialises a layer again: draws its weights from this strategy, with the layer's own fan-in, and sets its bias
    /// to 0, if it has one.
    ///
    /// The parameters keep their id, shape, device and float type. Frozen parameters stay frozen, and lazy ones stay
    /// lazy. Their layout in records stays too: a `Linear` in `Col` layout keeps it there, although its new weight is
    /// stored by rows in memory. A LoRA adapter is dropped. A weight without values, such as that of a layer without
    /// inputs, stays as it is.
    ///
    /// A lazy layer first draws the values of its own config. Those draws advance the device's seeded random sequence.
    pub fn apply<L: Reinit>(&self, layer: L) -> L {
        layer.reinit(*self)
    }
}

/// Replaces the value of a parameter. Everything else stays; a lazy parameter stays lazy.
///
/// The fan is counted from the value's shape. The lazy shape would be wrong for a `Linear` in `Col` layout: it is the
/// record's shape, with the axes exchanged.
fn redraw<const D: usize>(
    param: Param<Tensor<D>>,
    strategy: InitStrategy,
    fan: impl Fn([usize; D]) -> Fan + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    param.init_mapper(move |old| {
        if old.shape().num_elements() == 0 {
            return old;
        }
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
