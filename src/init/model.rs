//! Initialises whole models: one call, and a plan for exceptions.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamGroup, ParamId};
use burn::tensor::{Device, Tensor, TensorCreationOptions};

use super::draw::{self, Arrangement, Key};
use super::fan::Fan;
use super::layer::{Layer, LayerKind, Role};
use super::param::{has_mapper, is_quantized, is_trained, shape_of};
use super::place::Place;
use super::scheme::{Distribution, Scheme};
use super::table::{InitAction, InitRow, InitTable, Kept};

/// Initialises every layer of a model: weights from `scheme`, biases 0. Returns the model, and a table of what was done
/// to each parameter.
///
/// `scheme` is an [`InitStrategy`](super::InitStrategy) or a [`Scheme`]. The same seed gives the same values, bit for
/// bit, on every backend. Frozen parameters, normalisations and parameters of unknown layers stay as they are.
///
/// This is [`InitPlan::new(scheme)`](InitPlan::new)`.apply(model, seed)`. Use an [`InitPlan`] to treat some parameters
/// in another way.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig, Relu};
/// use burn::tensor::Device;
/// use burn_kindling::init::{InitStrategy, initialize};
///
/// #[derive(Module, Debug)]
/// struct Net {
///     hidden: Vec<Linear>,
///     activation: Relu,
///     output: Linear,
/// }
///
/// let device = Device::flex();
/// let net = Net {
///     hidden: vec![LinearConfig::new(784, 100).init(&device), LinearConfig::new(100, 100).init(&device)],
///     activation: Relu::new(),
///     output: LinearConfig::new(100, 10).init(&device),
/// };
/// let (net, table) = initialize(net, InitStrategy::He, 42);
///
/// println!("{table}");
/// assert_eq!(table.rows[0].path, "hidden.0.weight");
/// # assert_eq!(table.rows.len(), 6);
/// # assert_eq!(net.output.bias.unwrap().val().abs().max().into_scalar::<f32>(), 0.0);
/// ```
pub fn initialize<M: Module>(model: M, scheme: impl Into<Scheme>, seed: u64) -> (M, InitTable) {
    InitPlan::new(scheme).apply(model, seed)
}

/// How to initialise a model: a scheme for its weights, and exceptions.
///
/// # What is known
///
/// The plan knows these layers of `burn::nn`: `Linear` (also inside recurrent layers, attention, transformers and
/// `SwiGlu`), `Conv1d` to `Conv3d`, `DeformConv2d`, `ConvTranspose1d` to `ConvTranspose3d`, and `Embedding`. It finds
/// them by the names of their structs and fields, inside any struct, enum, array, tuple, `Vec` or `Option`. It reads
/// strides and groups from the `Debug` text of the model, because a Burn module shows them nowhere else.
///
/// - Weights are drawn from the scheme, with the [fan](super::Fan) of the layer.
/// - Biases are set to 0.
/// - Normalisations stay as they are: gamma 1 and beta 0, if they are new.
/// - Frozen parameters stay as they are, because they are probably pretrained.
/// - Quantised parameters stay as they are.
/// - Everything else stays as it is, and the table lists it as unknown. A rule gives it values.
///
/// A struct of your own that has the name and the fields of one of Burn's layers is taken for that layer. Check the
/// table, and [keep](Self::keep) the struct if need be.
///
/// # Exceptions
///
/// The last rule that matches a parameter decides. A [`ParamGroup`] names parameters by their path, such as
/// `blocks.3.norm2.gamma`, and reaches frozen ones too; a [`LayerKind`] does not:
///
/// ```
/// use burn::module::ParamGroup;
/// use burn_kindling::init::{InitPlan, InitStrategy, LayerKind, Scheme};
///
/// let plan = InitPlan::new(InitStrategy::He)
///     // Another scheme for the last layer.
///     .draw(ParamGroup::from_path("output.weight"), Scheme::glorot())
///     // Every residual branch starts at 0 (Goyal et al. 2017, section 5.1).
///     .fill(ParamGroup::from_regex(r"blocks\.\d+\.norm2\.gamma$").unwrap(), 0.0)
///     // The LSTM starts by remembering (Jozefowicz et al. 2015).
///     .fill(ParamGroup::from_regex(r"forget_gate\.input_transform\.bias$").unwrap(), 1.0)
///     .draw_kind(LayerKind::Embedding, Scheme::normal(0.02))
///     // Pretrained.
///     .keep(ParamGroup::from_predicate("backbone"));
/// ```
///
/// # The same values everywhere
///
/// Values are drawn on the host, by a generator keyed by the seed and the path of the parameter (ChaCha with 8 rounds).
///
/// - They are the same on every backend, and for any number of threads.
/// - They do not depend on `Device::seed`.
/// - A new layer does not change the values of the others, as long as these keep their paths.
/// - In f16 and bf16, they are those of f32, rounded.
/// - A tensor that stands at several paths, with the same parameter id, gets the values of its first path, so it stays
///   tied.
///
/// A parameter keeps its id, device and float type. If Burn has not drawn its values yet, it stays lazy.
#[derive(Clone, Debug)]
pub struct InitPlan {
    scheme: Scheme,
    rules: Vec<(Target, Rule)>,
}

/// The parameters that a rule applies to.
#[derive(Clone, Debug)]
enum Target {
    Group(ParamGroup),
    Kind(LayerKind),
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    Draw(Scheme),
    Fill(Scheme),
    Keep,
}

impl InitPlan {
    /// Draws all weights from `scheme`, without exceptions.
    pub fn new(scheme: impl Into<Scheme>) -> Self {
        Self {
            scheme: scheme.into(),
            rules: Vec::new(),
        }
    }

    /// Draws the matching weights from another scheme. Matching biases and normalisations are not affected.
    ///
    /// Matching parameters of unknown layers are drawn too, of any rank. Their fan is unknown. So if the scheme depends
    /// on the fan, give it with [`Scheme::by`]`(FanMode::Of(..))`; otherwise [`apply`](Self::apply) panics.
    pub fn draw(self, group: ParamGroup, scheme: impl Into<Scheme>) -> Self {
        self.rule(Target::Group(group), Rule::Draw(scheme.into()))
    }

    /// Draws the weights of all layers of this kind from another scheme. [`LayerKind::Norm`] has no weights. For
    /// [`LayerKind::Other`], see [`draw`](Self::draw) about unknown layers.
    pub fn draw_kind(self, kind: LayerKind, scheme: impl Into<Scheme>) -> Self {
        self.rule(Target::Kind(kind), Rule::Draw(scheme.into()))
    }

    /// Sets every value of the matching parameters to `value`: weights, biases, gamma and beta alike. Running
    /// statistics are not affected.
    ///
    /// # Panics
    ///
    /// Panics if `value` is not finite.
    pub fn fill(self, group: ParamGroup, value: f64) -> Self {
        self.rule(Target::Group(group), Rule::Fill(Scheme::constant(value)))
    }

    /// Leaves the matching parameters as they are.
    pub fn keep(self, group: ParamGroup) -> Self {
        self.rule(Target::Group(group), Rule::Keep)
    }

    fn rule(mut self, target: Target, rule: Rule) -> Self {
        self.rules.push((target, rule));
        self
    }

    /// Initialises a model. Returns the model, and a table of what was done to each parameter.
    ///
    /// # Panics
    ///
    /// Panics if a rule draws a parameter of an unknown layer from a scheme that needs a fan.
    pub fn apply<M: Module>(&self, model: M, seed: u64) -> (M, InitTable) {
        let text = format!("{model:?}");
        let mut walk = Walk {
            plan: self,
            seed,
            text: &text,
            place: Place::default(),
            first: HashMap::new(),
            table: InitTable::default(),
        };
        let model = model.map(&mut walk);
        (model, walk.table)
    }

    /// The last rule that matches a parameter.
    fn rule_for(
        &self,
        id: &ParamId,
        path: &str,
        kind: LayerKind,
        role: Role,
    ) -> Option<&(Target, Rule)> {
        self.rules.iter().rev().find(|(target, rule)| {
            // A scheme is for weights. Nobody means a bias to be drawn from it.
            let concerned = match rule {
                Rule::Draw(_) => role == Role::Weight || kind == LayerKind::Other,
                Rule::Fill(_) | Rule::Keep => true,
            };
            concerned
                && match target {
                    Target::Group(group) => group.matches(id, Some(path)),
                    Target::Kind(wanted) => *wanted == kind,
                }
        })
    }
}

/// A walk over the parameters of a model.
struct Walk<'a> {
    plan: &'a InitPlan,
    seed: u64,
    /// The `Debug` text of the model.
    text: &'a str,
    place: Place,
    /// The first path of each parameter, and how it was drawn or why it was kept.
    first: HashMap<ParamId, (String, Result<Draw, Kept>)>,
    table: InitTable,
}

impl ModuleMapper for Walk<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.place.path();
        let id = param.id;
        let (layer, role) = self.place.layer(&param, self.text);
        let shape = shape_of(&param);
        let (draw, action) = match self.first.get(&id) {
            Some((first, draw)) if *first != path => match draw {
                Ok(draw) => (Ok(draw.clone()), InitAction::Tied(first.clone())),
                Err(why) => (Err(*why), InitAction::Kept(*why)),
            },
            _ => {
                let draw = self.draw(&param, &path, &layer, role, &shape);
                let action = draw
                    .as_ref()
                    .map_or_else(|why| InitAction::Kept(*why), Draw::action);
                self.first.insert(id, (path.clone(), draw.clone()));
                (draw, action)
            }
        };
        let param = match draw {
            Ok(draw) => draw.set(param),
            Err(_) => param,
        };
        self.table.rows.push(InitRow {
            path,
            layer: layer.kind,
            shape,
            assumed: layer.assumed && matches!(action, InitAction::Drawn { .. }),
            action,
        });
        param
    }
}

impl Walk<'_> {
    /// How to draw a parameter, or why to keep it.
    fn draw<const D: usize>(
        &self,
        param: &Param<Tensor<D>>,
        path: &str,
        layer: &Layer,
        role: Role,
        shape: &[usize],
    ) -> Result<Draw, Kept> {
        if shape.contains(&0) {
            return Err(Kept::Empty);
        }
        if is_quantized(param) {
            return Err(Kept::Quantized);
        }
        let rule = self.plan.rule_for(&param.id, path, layer.kind, role);
        let is_frozen = || !is_trained(param);
        let scheme = match (rule, role, layer.kind) {
            (Some((_, Rule::Keep)), ..) => return Err(Kept::Plan),
            (_, Role::Statistics, _) | (None, Role::Other, LayerKind::Norm) => {
                return Err(Kept::Norm);
            }
            (None, Role::Other, _) => return Err(Kept::Unknown),
            // Only a rule that names the parameter itself reaches a frozen one.
            (None | Some((Target::Kind(_), _)), ..) if is_frozen() => return Err(Kept::Frozen),
            (Some((_, Rule::Draw(scheme) | Rule::Fill(scheme))), ..) => *scheme,
            (None, Role::Weight, _) => self.plan.scheme,
            (None, Role::Bias, _) => Scheme::zeros(),
        };
        let fan = match role {
            Role::Weight => layer.fan(shape),
            _ => None,
        };
        let Some(factor) = scheme.factor(fan) else {
            panic!(
                "The scheme `{scheme}` needs a fan, and that of `{path}`, of shape {shape:?}, is not known; say it by \
                 `Scheme::by(FanMode::Of(..))`."
            );
        };
        Ok(Draw {
            scheme,
            fan,
            factor,
            arrangement: layer.arrangement(shape.to_vec()),
            key: Key::new(self.seed, path),
        })
    }
}

/// How to draw the values of a parameter.
#[derive(Clone, Debug)]
struct Draw {
    scheme: Scheme,
    fan: Option<Fan>,
    factor: f64,
    arrangement: Arrangement,
    key: Key,
}

impl Draw {
    /// What the table says.
    fn action(&self) -> InitAction {
        match self.scheme.shape {
            Distribution::Constant => InitAction::Filled(self.scheme.mean),
            _ => InitAction::Drawn {
                scheme: self.scheme,
                fan: self.fan,
                std: self.arrangement.std(&self.scheme, self.factor),
            },
        }
    }

    /// Replaces the values of a parameter, and nothing else. A lazy parameter stays lazy.
    fn set<const D: usize>(self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.is_initialized() || has_mapper(&param) {
            return param.init_mapper(move |old| {
                let trains = old.is_require_grad();
                let options = TensorCreationOptions::from((&old.device(), old.dtype()));
                self.tensor(options).set_require_grad(trains)
            });
        }
        // Do not draw the values of the layer's own config: nobody needs them.
        let trains = is_trained(&param);
        Param::uninitialized(
            param.id,
            move |device: &Device, trains| {
                self.tensor(TensorCreationOptions::from(device))
                    .set_require_grad(trains)
            },
            param.lazy_device(),
            trains,
            param.lazy_shape(),
        )
    }

    /// The values, in memory that the backend reserves for long-lived tensors.
    fn tensor<const D: usize>(&self, options: TensorCreationOptions) -> Tensor<D> {
        let dtype = options.dtype_or(options.device.settings().float_dtype.into());
        let data = draw::data(
            &self.scheme,
            self.factor,
            &self.arrangement,
            self.key,
            dtype,
        );
        let device = options.device.clone();
        device.memory_persistent_allocations((data, options), |(data, options)| {
            Tensor::from_data(data, options)
        })
    }
}
