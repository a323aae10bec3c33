//! A network of the bench: how it is made, trained and looked at.

use std::fmt::{Display, Formatter};
use std::sync::LazyLock;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{DropoutConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Observer, Report};
use burn_kindling_lab::data::{Batches, ImageSet, MEAN, Mnist, STD};
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};
use burn_kindling_lab::train::OptimizerKind;

static IMAGES: LazyLock<ImageSet> = LazyLock::new(|| {
    let folder = Mnist::find(None).expect("the data is in the checkout");
    Mnist::load(&folder).expect("it is MNIST").train
});

/// A network and what a right diagnosis says about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// `None`: it is healthy.
    pub sickness: Option<&'static str>,
    /// The kinds of finding that tell the sickness: a right diagnosis has at least one.
    pub told_by: &'static [&'static str],
    /// The kinds that name its consequences: a right diagnosis may have them.
    pub consequences: &'static [&'static str],
    /// A point or parameter that a finding must name.
    pub at: Option<&'static str>,
    model: ModelConfig,
    seed: u64,
    edits: Vec<(&'static str, Edit)>,
    input: Input,
    joint: Joint,
    spare: bool,
    optimizer: OptimizerKind,
    learning_rate: f64,
    batch: usize,
    before: usize,
    look: Look,
}

/// A change of all parameters whose path contains each word of a pattern.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// Multiplies the values.
    Times(f64),
    /// Replaces all values.
    Fill(f64),
    /// Replaces the first value.
    First(f64),
    /// Stops the gradient.
    Freeze,
}

/// What the network is shown.
#[derive(Clone, Copy, Debug)]
pub enum Input {
    /// Pixels of mean 0 and std 1.
    Standardised,
    /// Pixels from 0 to this.
    Pixels(f64),
    /// Standardised pixels, of which the first is this.
    First(f64),
}

/// What a perceptron does between its last hidden layer and its output.
#[derive(Clone, Copy, Debug)]
pub enum Joint {
    /// Nothing.
    Plain,
    /// It cuts the graph.
    Detach,
    /// It drops half of the values.
    Dropout,
}

/// When the network is looked at.
#[derive(Clone, Copy, Debug)]
pub enum Look {
    /// In this training step, counted from 1.
    Step(usize),
    /// In inference: the forward pass alone.
    Inference,
}

impl Case {
    /// A network in which nothing is wrong. As long as nothing else is said: SGD at 0.1, batches of 64, the first step.
    pub fn healthy(model: ModelConfig) -> Self {
        Self {
            sickness: None,
            told_by: &[],
            consequences: &[],
            at: None,
            model,
            seed: 0,
            edits: Vec::new(),
            input: Input::Standardised,
            joint: Joint::Plain,
            spare: false,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.1,
            batch: 64,
            before: 0,
            look: Look::Step(1),
        }
    }

    /// A network with a sickness, and the kinds of finding that tell it.
    pub fn sick(
        sickness: &'static str,
        told_by: &'static [&'static str],
        model: ModelConfig,
    ) -> Self {
        Self {
            sickness: Some(sickness),
            told_by,
            ..Self::healthy(model)
        }
    }

    pub fn with(self, consequences: &'static [&'static str]) -> Self {
        Self {
            consequences,
            ..self
        }
    }

    pub fn at(self, place: &'static str) -> Self {
        Self {
            at: Some(place),
            ..self
        }
    }

    pub fn edit(mut self, parameters: &'static str, edit: Edit) -> Self {
        self.edits.push((parameters, edit));
        self
    }

    pub fn input(self, input: Input) -> Self {
        Self { input, ..self }
    }

    pub fn joint(self, joint: Joint) -> Self {
        Self { joint, ..self }
    }

    /// Gives it a layer that the forward pass does not use.
    pub fn spare(self) -> Self {
        Self {
            spare: true,
            ..self
        }
    }

    pub fn optimizer(self, optimizer: OptimizerKind, learning_rate: f64) -> Self {
        Self {
            optimizer,
            learning_rate,
            ..self
        }
    }

    pub fn batch(self, batch: usize) -> Self {
        Self { batch, ..self }
    }

    /// Trains it for some steps before the edits are made.
    pub fn trained(self, before: usize) -> Self {
        Self { before, ..self }
    }

    pub fn look(self, look: Look) -> Self {
        Self { look, ..self }
    }

    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// What an observer sees, and the loss of the step that it sees: NaN in inference.
    pub fn run(&self) -> (Report, f32) {
        let device = Device::default().autodiff();
        device.seed(self.seed);
        let mut batches = Batches::new(IMAGES.clone(), self.batch, self.seed, device.clone());
        let mut net = Net {
            network: self.model.init_with_seed(&device, self.seed),
            spare: (self.spare).then(|| LinearConfig::new(100, 100).init(&device)),
        };
        let mut optimizer = self.optimizer.init();
        let last = match self.look {
            Look::Step(step) => self.before + step,
            Look::Inference => self.before + 1,
        };
        for step in 1..=last {
            if step == self.before + 1 {
                for &(words, edit) in &self.edits {
                    net = net.map(&mut Editor::new(words, edit));
                }
            }
            let batch = batches.at(step - 1);
            let images = self.input.of(batch.images);
            if step == last && matches!(self.look, Look::Inference) {
                let net = net.valid();
                let (_, seen) = Observer::new().run(|| net.forward(images.inner(), self.joint));
                return (seen.report(), f32::NAN);
            }
            let (logits, mut seen) =
                Observer::new().run_if(step == last, || net.forward(images, self.joint));
            let loss = CrossEntropyLossConfig::new()
                .init(&device)
                .forward(logits, batch.targets);
            let gradients = loss.clone().backward();
            seen.backward(&net, &gradients);
            let gradients = GradientsParams::from_grads(gradients, &net);
            net = optimizer.step(self.learning_rate, net, gradients);
            seen.step(&net);
            if step == last {
                return (seen.report(), loss.into_scalar());
            }
        }
        unreachable!("the last step is looked at")
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.sickness.unwrap_or("healthy"))?;
        match &self.model {
            ModelConfig::Mlp(it) => write!(f, "mlp {:?}", it.hidden)?,
            ModelConfig::Cnn(it) => write!(f, "cnn {:?}", it.channels)?,
            ModelConfig::Resnet(it) => write!(f, "resnet {} of {}", it.depth, it.channels)?,
        }
        let model = &self.model;
        write!(f, " {} {}", model.activation(), model.strategy())?;
        write!(f, " norm {}, {}", model.norm(), self.optimizer)?;
        write!(f, " {}, batches of {}", self.learning_rate, self.batch)?;
        write!(f, ", {:?}, {:?}", self.edits, self.input)?;
        write!(f, ", after {}, {:?}", self.before, self.look)
    }
}

impl Input {
    fn of(self, images: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Standardised => images,
            Self::Pixels(most) => (images * STD + MEAN) * most,
            Self::First(value) => {
                let first = Tensor::full([1, 1, 1], value, &images.device());
                images.slice_assign([0..1, 0..1, 0..1], first)
            }
        }
    }
}

/// A network, and a layer that no input passes.
#[derive(Module, Debug)]
struct Net {
    network: Classifier,
    spare: Option<Linear>,
}

impl Net {
    /// `[batch, height, width]` to `[batch, classes]`.
    fn forward(&self, images: Tensor<3>, joint: Joint) -> Tensor<2> {
        let between = |features: Tensor<2>| match joint {
            Joint::Plain => features,
            Joint::Detach => features.detach(),
            Joint::Dropout => DropoutConfig::new(0.5).init().forward(features),
        };
        match &self.network {
            Classifier::Mlp(mlp) => mlp.classify(between(mlp.features(images.flatten(1, 2)))),
            other => other.forward(images),
        }
    }
}

/// Makes an [`Edit`].
struct Editor {
    words: &'static str,
    edit: Edit,
    path: Vec<String>,
}

impl Editor {
    fn new(words: &'static str, edit: Edit) -> Self {
        Self {
            words,
            edit,
            path: Vec::new(),
        }
    }
}

impl ModuleMapper for Editor {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        if !self.words.split(' ').all(|word| path.contains(word)) {
            return param;
        }
        let learns = param.val().is_require_grad();
        let param = param.map(|values| {
            let values = values.detach();
            let values = match self.edit {
                Edit::Times(factor) => values * factor,
                Edit::Fill(value) => values.full_like(value),
                Edit::First(value) => {
                    let first = Tensor::full([1; D], value, &values.device());
                    values.slice_assign([const { 0..1 }; D], first)
                }
                Edit::Freeze => values,
            };
            values.detach()
        });
        let learns = learns && !matches!(self.edit, Edit::Freeze);
        param.set_require_grad(learns)
    }
}

/// A perceptron with these hidden layers.
pub fn mlp(
    hidden: &[usize],
    activation: Activation,
    init: InitStrategy,
    norm: Normalization,
) -> ModelConfig {
    ModelConfig::Mlp(
        MlpConfig::new()
            .with_hidden(hidden.to_vec())
            .with_activation(activation)
            .with_init(init)
            .with_norm(norm),
    )
}

/// A perceptron whose weights are all multiplied by a factor.
pub fn scaled_mlp(
    factor: f64,
    hidden: &[usize],
    activation: Activation,
    init: InitStrategy,
) -> ModelConfig {
    match mlp(hidden, activation, init, Normalization::None) {
        ModelConfig::Mlp(config) => ModelConfig::Mlp(config.with_weight_scale(factor)),
        other => other,
    }
}

/// A small convolutional network, a quarter as wide as the lab's.
pub fn cnn(activation: Activation, init: InitStrategy, norm: Normalization) -> ModelConfig {
    ModelConfig::Cnn(
        CnnConfig::new()
            .with_channels([8, 16])
            .with_dense(64)
            .with_activation(activation)
            .with_init(init)
            .with_norm(norm),
    )
}

/// A residual network of this many layers and channels.
pub fn resnet(
    depth: usize,
    channels: usize,
    init: InitStrategy,
    norm: Normalization,
) -> ModelConfig {
    ModelConfig::Resnet(
        ResnetConfig::new()
            .with_depth(depth)
            .with_channels(channels)
            .with_init(init)
            .with_norm(norm),
    )
}
