use burn::config::Config;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::block::{Affine, Block, Normalization};
use burn_kindling::init::{Activation, InitStrategy, Scheme, initialize};
use burn_kindling::norm::Then;
use burn_kindling::observe::{Point, watch};

/// Configuration of an [`Mlp`].
#[derive(Config, Debug, PartialEq)]
pub struct MlpConfig {
    /// Number of inputs. Default: 784, the pixels of a 28x28 image.
    #[config(default = 784)]
    pub inputs: usize,
    /// Units of each hidden layer. Default: five layers of 100, as in the literature.
    #[config(default = "vec![100; 5]")]
    pub hidden: Vec<usize>,
    /// Number of classes. Default: 10.
    #[config(default = 10)]
    pub classes: usize,
    /// Activation of the hidden layers. Default: ReLU.
    #[config(default = "Activation::Relu")]
    pub activation: Activation,
    /// Initialisation of the weights of every layer. Default: He, which suits ReLU.
    #[config(default = "InitStrategy::He")]
    pub init: InitStrategy,
    /// Factor on every drawn weight; with N(0, 1), this is the standard deviation. Default: 1.
    #[config(default = 1.0)]
    pub weight_scale: f64,
    /// Normalisation before each activation. Default: this crate's batch norm.
    #[config(default = "Normalization::Batch")]
    pub norm: Normalization,
}

impl MlpConfig {
    /// Makes the network on `device`, with the weights of seed 0.
    ///
    /// # Panics
    ///
    /// If a layer has no units.
    pub fn init(&self, device: &Device) -> Mlp {
        self.init_with_seed(device, 0)
    }

    /// Makes the network on `device`, with weights that depend on `seed` alone: they are the same on every backend.
    ///
    /// # Panics
    ///
    /// If a layer has no units.
    pub fn init_with_seed(&self, device: &Device, seed: u64) -> Mlp {
        let mut inputs = self.inputs;
        let mut linear = |outputs: usize, bias: bool| {
            assert!(
                inputs > 0 && outputs > 0,
                "every layer of an Mlp needs at least one unit, found {inputs} -> {outputs}"
            );
            let layer = LinearConfig::new(inputs, outputs).with_bias(bias);
            inputs = outputs;
            layer.init(device)
        };
        let hidden = self
            .hidden
            .iter()
            .map(|&units| Block {
                affine: linear(units, self.norm == Normalization::None),
                norm: self.norm.init(units, device),
                activation: self.activation,
            })
            .collect();
        let network = Mlp {
            hidden,
            output: linear(self.classes, true),
        };
        let scheme = Scheme::from(self.init).scaled(self.weight_scale);
        initialize(network, scheme, seed).0
    }
}

/// A multi-layer perceptron: hidden [`Block`]s of linear layers, then a linear layer to the logits.
#[derive(Module, Debug)]
pub struct Mlp {
    /// The hidden layers.
    pub hidden: Vec<Block<Linear>>,
    /// The layer that gives the logits.
    pub output: Linear,
}

impl Mlp {
    /// Computes the logits of a batch. The outputs of the hidden layers and the logits can be
    /// [observed](burn_kindling::observe) at the points `hidden.0`, `hidden.1`, ..., and `output`.
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, inputs]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.classify(self.features(input))
    }

    /// Computes the logits from the output of the last hidden layer. They can be observed at the point `output`.
    ///
    /// # Shapes
    ///
    /// - `features`: `[batch, units of the last hidden layer]`
    /// - output: `[batch, classes]`
    pub fn classify(&self, features: Tensor<2>) -> Tensor<2> {
        watch("output", Affine::forward(&self.output, features))
    }

    /// Computes the output of the last hidden layer. The hidden layers can be observed as in
    /// [`forward`](Self::forward).
    ///
    /// # Shapes
    ///
    /// - `input`: `[batch, inputs]`
    /// - output: `[batch, units of the last hidden layer]`
    pub fn features(&self, input: Tensor<2>) -> Tensor<2> {
        self.features_through(
            input,
            |_| (),
            |layer, activation, output| {
                Point::new(format_args!("hidden.{layer}"))
                    .after(activation)
                    .watch(output)
            },
        )
    }

    /// Computes [`features`](Self::features), and shows each hidden layer to two functions: to `before`, what its
    /// linear layer gives; to `after`, its number, its activation and its output. What `after` returns goes on to the
    /// next layer.
    pub(crate) fn features_through(
        &self,
        input: Tensor<2>,
        mut before: impl FnMut(&Tensor<2>),
        mut after: impl FnMut(usize, Activation, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let blocks = self.hidden.iter().enumerate();
        blocks.fold(input, |signal, (layer, block)| {
            let affine = Affine::forward(&block.affine, signal);
            before(&affine);
            after(layer, block.activation, block.finish(affine, Then::new()))
        })
    }

    /// Folds every normalisation into the linear layer before it. The result in inference stays the same. The
    /// configuration of the new network is an [`MlpConfig`] with [`Normalization::None`].
    pub fn fold(self) -> Self {
        Self {
            hidden: self.hidden.into_iter().map(Block::fold).collect(),
            output: self.output,
        }
    }
}
