use burn::config::Config;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::block::{Affine, Block, Norm, Normalization, normalize};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::norm::{Fold, Then};
use burn_kindling::observe::{Point, watch};

/// Configuration of a [`Resnet`].
#[derive(Config, Debug, PartialEq)]
pub struct ResnetConfig {
    /// Height and width of the images, in pixels. Default: 28.
    #[config(default = 28)]
    pub side: usize,
    /// Layers with weights on the way from the image to the logits: 6n + 2, with n blocks in each of the three stages.
    /// Default: 8.
    #[config(default = 8)]
    pub depth: usize,
    /// Channels of the first stage. Each stage has twice as many as the one before. Default: 16.
    #[config(default = 16)]
    pub channels: usize,
    /// Number of classes. Default: 10.
    #[config(default = 10)]
    pub classes: usize,
    /// Activation of the hidden layers. Default: ReLU.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Initialisation of the weights of every layer. Default: He, which suits ReLU.
    #[config(default = "InitStrategy::He")]
    pub init: InitStrategy,
    /// Normalisation after each convolution. Default: this crate's batch norm.
    #[config(default = "Normalization::Batch")]
    pub norm: Normalization,
}

impl ResnetConfig {
    /// Blocks of each stage, or `None` if no network has this depth.
    pub fn blocks(&self) -> Option<usize> {
        let rest = self.depth.checked_sub(2)?;
        (rest > 0 && rest.is_multiple_of(6)).then_some(rest / 6)
    }

    /// Channels of the three stages, or `None` if a number overflows.
    pub(super) fn stages(&self) -> Option<[usize; 3]> {
        let [second, third] = [2, 4].map(|times| self.channels.checked_mul(times));
        Some([self.channels, second?, third?])
    }

    /// Makes the network on `device`, with the weights of seed 0.
    ///
    /// # Panics
    ///
    /// If the depth is not 8, 14, 20, ..., there are no channels or classes, or the images are smaller than 4x4 pixels.
    pub fn init(&self, device: &Device) -> Resnet {
        self.init_with_seed(device, 0)
    }

    /// Makes the network on `device`, with weights that depend on `seed` alone: they are the same on every backend.
    ///
    /// Every gamma starts at 1. If the last gamma of each branch starts at 0 (Goyal et al. 2017,
    /// [arXiv:1706.02677](https://arxiv.org/abs/1706.02677), section 5.1), Adam takes many steps until the branches
    /// take part: it moves a gamma by about the learning rate a step.
    ///
    /// # Panics
    ///
    /// As [`init`](Self::init).
    pub fn init_with_seed(&self, device: &Device, seed: u64) -> Resnet {
        let (Some(blocks), Some(stages)) = (self.blocks(), self.stages()) else {
            panic!("a Resnet has a depth of 8, 14, 20 or another 6n + 2, found {self}")
        };
        assert!(
            self.side >= 4 && self.channels > 0 && self.classes > 0,
            "a Resnet needs images of at least 4x4 pixels, a channel and a class, found {self}"
        );
        let convolution = |[inputs, outputs]: [usize; 2], window: usize, stride| {
            Conv2dConfig::new([inputs, outputs], [window, window])
                .with_stride([stride, stride])
                .with_padding(match window {
                    1 => PaddingConfig2d::Valid,
                    _ => PaddingConfig2d::Explicit(1, 1, 1, 1),
                })
                .with_bias(self.norm == Normalization::None)
                .init(device)
        };
        let block = |channels, stride| Block {
            affine: convolution(channels, 3, stride),
            norm: self.norm.init(channels[1], device),
            activation: self.activation,
        };
        let mut inputs = self.channels;
        let mut residual = Vec::new();
        for outputs in stages {
            for _ in 0..blocks {
                let stride = if inputs == outputs { 1 } else { 2 };
                residual.push(ResidualBlock {
                    first: block([inputs, outputs], stride),
                    second: block([outputs, outputs], 1),
                    shortcut: (inputs != outputs).then(|| Shortcut {
                        affine: convolution([inputs, outputs], 1, stride),
                        norm: self.norm.init(outputs, device),
                    }),
                });
                inputs = outputs;
            }
        }
        let network = Resnet {
            stem: block([1, self.channels], 1),
            blocks: residual,
            output: LinearConfig::new(inputs, self.classes).init(device),
        };
        initialize(network, self.init, seed).0
    }
}

/// A residual network for small images (He et al. 2016, [arXiv:1512.03385](https://arxiv.org/abs/1512.03385), section
/// 4.2): a convolution, three stages of residual blocks of which the second and the third halve height and width, the
/// average of each channel, and a linear layer to the logits.
///
/// Where a stage changes the shape, the shortcut is a 1x1 convolution: option B of the paper, which used A for small
/// images.
#[derive(Module, Debug)]
pub struct Resnet {
    /// The first convolution.
    pub stem: Block<Conv2d>,
    /// The residual blocks of all stages.
    pub blocks: Vec<ResidualBlock>,
    /// The layer that gives the logits.
    pub output: Linear,
}

/// Two 3x3 convolutions, and the shortcut past them. Its output is `activation(norm(second(first(x))) + shortcut(x))`.
#[derive(Module, Debug)]
pub struct ResidualBlock {
    /// The first convolution, which may halve height and width.
    pub first: Block<Conv2d>,
    /// The second convolution. The shortcut is added before its activation.
    pub second: Block<Conv2d>,
    /// The way past the convolutions, if they change the shape; else the input itself is added.
    pub shortcut: Option<Shortcut>,
}

/// A 1x1 convolution and its normalisation.
#[derive(Module, Debug)]
pub struct Shortcut {
    /// The convolution.
    pub affine: Conv2d,
    /// The normalisation, if any.
    pub norm: Option<Norm>,
}

impl Resnet {
    /// Computes the logits of a batch. The outputs of the first convolution, of each block, and the logits can be
    /// [observed](burn_kindling::observe) at the points `stem`, `blocks.0`, `blocks.1`, ..., and `output`.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, 1, side, side]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<2> {
        let stem = Point::new("stem")
            .after(self.stem.activation)
            .watch(self.stem.forward(input));
        let blocks = self.blocks.iter().enumerate();
        let features = blocks.fold(stem, |signal, (i, block)| {
            Point::new(format_args!("blocks.{i}"))
                .after(block.second.activation)
                .watch(block.forward(signal))
        });
        let average = features.flatten::<3>(2, 3).mean_dim(2).flatten(1, 2);
        watch("output", Affine::forward(&self.output, average))
    }

    /// Folds every normalisation into the convolution before it. The result in inference stays the same. The
    /// configuration of the new network is a [`ResnetConfig`] with [`Normalization::None`].
    pub fn fold(self) -> Self {
        Self {
            stem: self.stem.fold(),
            blocks: self.blocks.into_iter().map(ResidualBlock::fold).collect(),
            output: self.output,
        }
    }
}

impl ResidualBlock {
    /// # Shapes
    ///
    /// - `input`: `[batch, channels in, height, width]`
    /// - output: `[batch, channels out, height out, width out]`
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let residual = match &self.shortcut {
            None => input.clone(),
            Some(shortcut) => shortcut.forward(input.clone()),
        };
        self.second
            .forward_adding(self.first.forward(input), residual)
    }

    fn fold(self) -> Self {
        Self {
            first: self.first.fold(),
            second: self.second.fold(),
            shortcut: self.shortcut.map(Shortcut::fold),
        }
    }
}

impl Shortcut {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let output = Affine::forward(&self.affine, input);
        normalize(self.norm.as_ref(), output, Then::new())
    }

    fn fold(self) -> Self {
        match self.norm {
            None => self,
            Some(norm) => Self {
                affine: self.affine.fold(&norm.into_batch_norm()),
                norm: None,
            },
        }
    }
}
