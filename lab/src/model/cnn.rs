use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::block::{Affine, Block, Normalization};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::observe::{Point, watch};

/// Configuration of a [`Cnn`].
#[derive(Config, Debug, PartialEq)]
pub struct CnnConfig {
    /// Height and width of the images, in pixels. Default: 28.
    #[config(default = 28)]
    pub side: usize,
    /// Channels of the two convolutions. Default: 32 and 64.
    #[config(default = "[32, 64]")]
    pub channels: [usize; 2],
    /// Units of the hidden dense layer. Default: 128.
    #[config(default = 128)]
    pub dense: usize,
    /// Number of classes. Default: 10.
    #[config(default = 10)]
    pub classes: usize,
    /// Activation of the hidden layers. Default: ReLU.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Initialisation of the weights of every layer. Default: He, which suits ReLU.
    #[config(default = "InitStrategy::He")]
    pub init: InitStrategy,
    /// Normalisation before each activation. Default: this crate's batch norm.
    #[config(default = "Normalization::Batch")]
    pub norm: Normalization,
}

impl CnnConfig {
    /// Makes the network on `device`, with the weights of seed 0.
    ///
    /// # Panics
    ///
    /// If a layer has no channels or units, or the images are smaller than 4x4 pixels.
    pub fn init(&self, device: &Device) -> Cnn {
        self.init_with_seed(device, 0)
    }

    /// Makes the network on `device`, with weights that depend on `seed` alone: they are the same on every backend.
    ///
    /// # Panics
    ///
    /// If a layer has no channels or units, or the images are smaller than 4x4 pixels.
    pub fn init_with_seed(&self, device: &Device, seed: u64) -> Cnn {
        let [first, second] = self.channels;
        assert!(
            self.side >= 4 && first > 0 && second > 0 && self.dense > 0 && self.classes > 0,
            "a Cnn needs images of at least 4x4 pixels and at least one unit a layer, found {self}"
        );
        let bias = self.norm == Normalization::None;
        let convolution = |inputs, outputs| {
            let layer = Conv2dConfig::new([inputs, outputs], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(bias);
            Block {
                affine: layer.init(device),
                norm: self.norm.init(outputs, device),
                activation: self.activation,
            }
        };
        let linear = |inputs, outputs, bias| {
            LinearConfig::new(inputs, outputs)
                .with_bias(bias)
                .init(device)
        };
        let pooled = self.side / 4;
        let network = Cnn {
            convolutions: vec![convolution(1, first), convolution(first, second)],
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            dense: Block {
                affine: linear(second * pooled * pooled, self.dense, bias),
                norm: self.norm.init(self.dense, device),
                activation: self.activation,
            },
            output: linear(self.dense, self.classes, true),
        };
        initialize(network, self.init, seed).0
    }
}

/// A small convolutional network: two [`Block`]s of 3x3 convolutions, each followed by max pooling that halves height
/// and width, one dense block, then a linear layer to the logits.
#[derive(Module, Debug)]
pub struct Cnn {
    /// The convolutions.
    pub convolutions: Vec<Block<Conv2d>>,
    /// Halves height and width after each convolution.
    pub pool: MaxPool2d,
    /// The hidden dense layer.
    pub dense: Block<Linear>,
    /// The layer that gives the logits.
    pub output: Linear,
}

impl Cnn {
    /// Computes the logits of a batch. The outputs of the convolutions after pooling, of the dense layer, and the
    /// logits can be [observed](burn_kindling::observe) at the points `convolutions.0`, `convolutions.1`, `dense` and
    /// `output`.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, 1, side, side]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let features = (self.convolutions.iter().enumerate()).fold(input, |signal, (i, block)| {
            Point::new(format_args!("convolutions.{i}"))
                .after(block.activation)
                .watch(block.forward_pooled(signal, &self.pool))
        });
        let features = Point::new("dense")
            .after(self.dense.activation)
            .watch(self.dense.forward(features.flatten(1, 3)));
        watch("output", Affine::forward(&self.output, features))
    }

    /// Folds every normalisation into the layer before it. The result in inference stays the same. The configuration
    /// of the new network is a [`CnnConfig`] with [`Normalization::None`].
    pub fn fold(self) -> Self {
        Self {
            convolutions: self.convolutions.into_iter().map(Block::fold).collect(),
            dense: self.dense.fold(),
            ..self
        }
    }
}
