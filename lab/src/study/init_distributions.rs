//! Five layers, five initialisations, three activations: what reaches every layer, forward and
//! backward.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): 1000 inputs of 100 numbers from
//! N(0, 1) through five layers of 100 units. What a wide layer does on average is known in closed
//! form (Poole et al. 2016, arXiv:1606.05340); it is drawn beside what was measured.

use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::claim::{GLOROT, HE, POOLE, SAITO};
use super::setup::{histogram_range, mlp, normal};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::figure::{Axis, Figure, Panel, Row, Series, Shape, median};
use crate::model::{MlpConfig, ModelConfig, Normalization};
use crate::train::{TrainConfig, initial_model};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Layer, Observer, Summary};

const SAMPLES: usize = 1000;
const WIDTH: usize = 100;
const DEPTH: usize = 5;
const BINS: usize = 30;
/// All but zeros: where all units are the same, there is no spread to draw.
const DRAWN: [InitStrategy; 4] = [
    InitStrategy::StandardNormal,
    InitStrategy::SmallNormal,
    InitStrategy::Xavier,
    InitStrategy::He,
];
const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

/// One network.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    activation: Activation,
    strategy: InitStrategy,
    seed: u64,
}

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let mut configs = Vec::new();
    for activation in ACTIVATIONS {
        for strategy in InitStrategy::ALL {
            configs.extend(setup.seeds(10, 3).map(|seed| Config {
                activation,
                strategy,
                seed,
            }));
        }
    }
    let layers = setup.runs(
        Experiment::InitDistributions,
        [1, 1],
        &configs,
        Config::network,
        |config, network, _| Ok(observe(setup, config, network)),
    )?;
    let measured = Measured(configs.into_iter().zip(layers).collect());
    Ok(Findings {
        experiment: Experiment::InitDistributions,
        size: setup.size,
        seeds: setup.seeds,
        device: setup.device_name.clone(),
        question: "What happens to a signal on its way through the layers?".into(),
        story: story(),
        figures: measured.figures(),
        claims: measured.claims(),
        table: measured.table(),
    })
}

impl Config {
    /// The network; it is not trained.
    fn network(&self) -> TrainConfig {
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_inputs(WIDTH)
                    .with_hidden(vec![WIDTH; DEPTH])
                    .with_activation(self.activation)
                    .with_init(self.strategy)
                    .with_norm(Normalization::None),
            ),
            seed: self.seed,
            ..TrainConfig::default()
        }
    }
}

/// The five layers of one network, with the gradient of a loss that pulls every output of the last
/// one at random.
fn observe(setup: &Setup, config: &Config, network: &TrainConfig) -> Vec<Layer> {
    let device = setup.device.clone().autodiff();
    let network = initial_model(network, &device);
    let network = mlp(network);
    let mut random = StdRng::seed_from_u64(config.seed);
    let mut numbers = || {
        let values = std::iter::repeat_with(|| normal(&mut random)).take(SAMPLES * WIDTH);
        let data = TensorData::new(values.collect::<Vec<f32>>(), [SAMPLES, WIDTH]);
        Tensor::<2>::from_data(data, &device)
    };
    let (input, pull) = (numbers(), numbers());
    let [low, high] = histogram_range(config.activation);
    let observer = Observer::new().with_bins(BINS).with_range(low, high);
    let (loss, mut seen) = observer.run(|| (network.features(input) * pull).sum());
    seen.backward(&network, &loss.backward());
    seen.report().layers
}

/// The standard deviation of what each layer puts out, by the theory of wide layers.
fn predict(activation: Activation, strategy: InitStrategy) -> Vec<f64> {
    let layers = strategy.propagate(activation, [WIDTH; DEPTH], 1.0);
    layers.into_iter().map(|layer| layer.std).collect()
}

fn story() -> Vec<String> {
    vec![
        "A network hands numbers from layer to layer. Every unit sums up all that the layer before \
         gives it, each times a weight, and bends the sum through an activation. Before anything is \
         learned, the weights are drawn at random, and how large they are decides whether a signal \
         arrives at the end at all. With too large weights the sums grow from layer to layer, with too \
         small ones they fade, and the more layers, the worse."
            .into(),
        "How large is right? A sum of n independent terms varies n times as much as one of them: its \
         variance is n times theirs. So weights of variance 1/n keep the variance as it is. That is Xavier. \
         ReLU throws away the negative half of every sum, and with it half of the mean square, so it needs \
         twice the variance, 2/n. That is He."
            .into(),
        "Here, 1000 random inputs go through five untrained layers of 100 units. The histograms show \
         what each layer puts out. A good start looks alike in every layer and is neither one spike \
         nor piled up at the ends."
            .into(),
        "Zeros: all units are the same, for ever. N(0, 1): sigmoid and tanh sit at their ends, where \
         a small change of the weights changes nothing; ReLU explodes. N(0, 0.01²): everything fades \
         to one point. Xavier keeps tanh in shape, He keeps ReLU."
            .into(),
        "To learn, a network sends a second signal the other way: the gradient, which tells every unit how \
         the error changes with what it puts out. It starts at the last layer, here with std 1, and is \
         multiplied by the same weights on its way back, so it grows and fades by the same rules."
            .into(),
    ]
}

struct Measured(Vec<(Config, Vec<Layer>)>);

impl Measured {
    /// The layers of the repeated networks of one kind.
    fn of(&self, activation: Activation, strategy: InitStrategy) -> impl Iterator<Item = &[Layer]> {
        let wanted =
            move |config: &Config| config.activation == activation && config.strategy == strategy;
        let runs = self.0.iter().filter(move |(config, _)| wanted(config));
        runs.map(|(_, layers)| layers.as_slice())
    }

    /// The median over the seeds of a number of each network.
    fn median(
        &self,
        activation: Activation,
        strategy: InitStrategy,
        number: impl Fn(&[Layer]) -> f64,
    ) -> f64 {
        let numbers: Vec<f64> = self.of(activation, strategy).map(number).collect();
        median(&numbers)
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures: Vec<Figure> = ACTIVATIONS.map(|it| self.outputs(it)).into();
        figures.push(self.forward());
        figures.extend(ACTIVATIONS.map(|it| self.gradients(it)));
        figures.push(self.backward());
        figures
    }

    fn outputs(&self, activation: Activation) -> Figure {
        let x = format!("{} output", super::name(activation));
        let range = histogram_range(activation);
        Figure::new(
            format!("histograms-{activation}"),
            format!(
                "What five layers of {} put out, by initialisation",
                super::name(activation)
            ),
            "A histogram of each layer's outputs, of one network. A good start looks alike in every layer.",
            self.histograms(activation, &x, range, |layer| Some(&layer.data)),
        )
        .stepped("initialisation")
    }

    fn gradients(&self, activation: Activation) -> Figure {
        Figure::new(
            format!("gradients-{activation}"),
            format!(
                "The gradients that reach five layers of {}, by initialisation",
                super::name(activation)
            ),
            "A histogram of the gradient at each layer's outputs, of one network. It starts from N(0, 1) at \
             layer 5 and goes back to layer 1.",
            self.histograms(activation, "gradient", [-3.0, 3.0], |layer| layer.gradient.as_ref()),
        )
        .stepped("initialisation")
    }

    /// Five layers a strategy, of the first seed.
    fn histograms(
        &self,
        activation: Activation,
        x: &str,
        range: [f64; 2],
        values: impl Fn(&Layer) -> Option<&Summary>,
    ) -> Vec<Row> {
        let rows = InitStrategy::ALL.map(|strategy| {
            let layers = self.of(activation, strategy).next().unwrap_or(&[]);
            let panels = layers.iter().enumerate().filter_map(|(depth, layer)| {
                let values = values(layer)?;
                Some(super::histogram(values, depth, strategy.into(), x, range))
            });
            Row {
                label: super::label(strategy).into(),
                panels: panels.collect(),
            }
        });
        rows.into()
    }

    /// Measured std a layer, beside what the theory says.
    fn forward(&self) -> Figure {
        let panels = ACTIVATIONS.map(|activation| {
            let mut series = Vec::new();
            for strategy in DRAWN {
                let depths = 0..DEPTH;
                let theory = predict(activation, strategy);
                let theory = depths.clone().map(|i| [(i + 1) as f64, theory[i]]);
                let points = depths.map(|i| {
                    let std = self.median(activation, strategy, |layers| layers[i].data.std);
                    [(i + 1) as f64, std]
                });
                series.push(Series::new(
                    super::label(strategy),
                    strategy,
                    Shape::Dots(points.collect()),
                ));
                series.push(Series::new("", strategy, Shape::Dashed(theory.collect())));
            }
            Panel {
                title: super::name(activation).into(),
                x: Axis::linear("layer", [0.8, 5.2]),
                y: Axis::log("std of the outputs", [1e-7, 1e5]),
                series,
            }
        });
        Figure::new(
            "forward",
            "Standard deviation of each layer's outputs: measured (dots), theory (dashes)",
            "Medians over seeds, from layer 1 to layer 5. Zeros are not there: their std is 0.",
            vec![Row {
                label: String::new(),
                panels: panels.into(),
            }],
        )
    }

    fn backward(&self) -> Figure {
        let panels = ACTIVATIONS.map(|activation| {
            let series = DRAWN.map(|strategy| {
                let points = (0..DEPTH).map(|i| {
                    let std = self.median(activation, strategy, |layers| gradient(&layers[i]));
                    [(i + 1) as f64, std]
                });
                Series::new(
                    super::label(strategy),
                    strategy,
                    Shape::Line(points.collect()),
                )
            });
            Panel {
                title: super::name(activation).into(),
                x: Axis::linear("layer", [0.8, 5.2]),
                y: Axis::log("std of the gradient", [1e-12, 1e6]),
                series: series.into(),
            }
        });
        Figure::new(
            "backward",
            "Standard deviation of the gradient that reaches each layer, from layer 5 back to 1",
            "Medians over seeds; the gradient starts at layer 5, with std 1. With zeros none reaches the \
             layers before, and 0 is not on the axis.",
            vec![Row {
                label: String::new(),
                panels: panels.into(),
            }],
        )
    }

    fn claims(&self) -> Vec<Claim> {
        use Activation::{Relu, Sigmoid, Tanh};
        use InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};

        let last = DEPTH - 1;
        let std = |layers: &[Layer], i: usize| layers[i].data.std;
        let least_saturated = |layers: &[Layer]| {
            let shares = layers.iter().map(|it| it.saturated.unwrap_or(f64::NAN));
            shares.fold(f64::INFINITY, f64::min)
        };
        let furthest = |value: fn(&Layer) -> f64| {
            move |layers: &[Layer]| {
                let ratios = layers
                    .iter()
                    .map(|it| factor(value(it) / value(&layers[0])));
                ratios.fold(1.0, f64::max)
            }
        };
        let mut theory: f64 = 0.0;
        for activation in ACTIVATIONS {
            for strategy in DRAWN {
                for (i, predicted) in predict(activation, strategy).into_iter().enumerate() {
                    let measured = self.median(activation, strategy, |it| std(it, i));
                    theory = theory.max(factor(measured / predicted));
                }
            }
        }
        vec![
            Claim::new(
                "With weights of 0, all units of a layer are the same",
                SAITO,
                "distinct units of 100 in the last tanh layer",
                self.median(Tanh, Zeros, |it| {
                    (it[last].units - it[last].duplicates) as f64
                }),
                Bound::AtMost(1.0),
            ),
            Claim::new(
                "With N(0, 1), sigmoid outputs pile up at 0 and 1 in every layer",
                SAITO,
                "share of outputs below 0.03 or above 0.97, in the layer where it is least",
                self.median(Sigmoid, StandardNormal, least_saturated),
                Bound::AtLeast(0.5),
            ),
            Claim::new(
                "With N(0, 1), tanh outputs pile up at -1 and 1 in every layer",
                GLOROT,
                "share of outputs beyond ±0.97, in the layer where it is least",
                self.median(Tanh, StandardNormal, least_saturated),
                Bound::AtLeast(0.5),
            ),
            Claim::new(
                "With N(0, 1), the gradients of sigmoid vanish on their way back",
                SAITO,
                "std of the gradient at layer 1 over that at layer 5",
                self.median(Sigmoid, StandardNormal, |it| {
                    gradient(&it[0]) / gradient(&it[last])
                }),
                Bound::AtMost(0.1),
            )
            .why(
                "Most units sit at their ends and let nothing through. What the others let through is \
                 multiplied by weights so large that it makes up for them.",
            ),
            Claim::new(
                "With N(0, 0.01²), sigmoid outputs gather at 0.5",
                SAITO,
                "std of the outputs of layer 5",
                self.median(Sigmoid, SmallNormal, |it| std(it, last)),
                Bound::AtMost(0.05),
            ),
            Claim::new(
                "With N(0, 0.01²), tanh outputs collapse to 0",
                SAITO,
                "std of the outputs of layer 5",
                self.median(Tanh, SmallNormal, |it| std(it, last)),
                Bound::AtMost(1e-3),
            ),
            Claim::new(
                "With N(0, 0.01²), ReLU outputs die",
                SAITO,
                "std of the outputs of layer 5",
                self.median(Relu, SmallNormal, |it| std(it, last)),
                Bound::AtMost(1e-3),
            ),
            Claim::new(
                "Xavier spreads sigmoid outputs: they neither gather at one point nor pile up at the ends",
                SAITO,
                "std of the outputs of layer 5 (evenly over 0 to 1: 0.289, all at the ends: 0.5)",
                self.median(Sigmoid, Xavier, |it| std(it, last)),
                Bound::Between(0.05, 0.289),
            ),
            Claim::new(
                "Xavier keeps the std of tanh outputs within a factor of 2 over five layers",
                GLOROT,
                "largest factor between layer 1 and a later one",
                self.median(Tanh, Xavier, furthest(|it| it.data.std)),
                Bound::AtMost(2.0),
            ),
            Claim::new(
                "With Xavier, ReLU outputs fade: their mean square halves at every layer",
                HE,
                "mean factor a layer on the mean square, layers 1 to 5",
                self.median(Relu, Xavier, |it| {
                    (mean_square(&it[last]) / mean_square(&it[0])).powf(1.0 / last as f64)
                }),
                Bound::Between(0.4, 0.6),
            ),
            Claim::new(
                "He keeps the mean square of ReLU outputs within a factor of 2 over five layers",
                HE,
                "largest factor between layer 1 and a later one",
                self.median(Relu, He, furthest(mean_square)),
                Bound::AtMost(2.0),
            ),
            Claim::new(
                "He keeps the gradient of ReLU on its way back",
                HE,
                "factor between the std of the gradient at layer 1 and at layer 5",
                self.median(Relu, He, |it| {
                    factor(gradient(&it[0]) / gradient(&it[last]))
                }),
                Bound::AtMost(2.0),
            ),
            Claim::new(
                "With N(0, 1), ReLU outputs explode with depth",
                POOLE,
                "std of layer 5 over that of layer 1",
                self.median(Relu, StandardNormal, |it| std(it, last) / std(it, 0)),
                Bound::AtLeast(1000.0),
            ),
            Claim::new(
                "The std of every layer is what the theory of wide layers says",
                POOLE,
                "largest factor between measured and predicted std, over all but zeros",
                theory,
                Bound::AtMost(1.2),
            ),
        ]
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "activation",
            "strategy",
            "seed",
            "layer",
            "mean",
            "std",
            "predicted_std",
            "min",
            "max",
            "zeros",
            "saturated",
            "distinct_units",
            "gradient_std",
        ]);
        for (config, layers) in &self.0 {
            let predicted = predict(config.activation, config.strategy);
            for (i, layer) in layers.iter().enumerate() {
                let data = &layer.data;
                table.push(row![
                    config.activation,
                    config.strategy,
                    config.seed,
                    i + 1,
                    data.mean,
                    data.std,
                    predicted[i],
                    data.min,
                    data.max,
                    data.zeros,
                    layer.saturated,
                    layer.units - layer.duplicates,
                    gradient(layer),
                ]);
            }
        }
        table
    }
}

fn mean_square(layer: &Layer) -> f64 {
    layer.data.std.powi(2) + layer.data.mean.powi(2)
}

fn gradient(layer: &Layer) -> f64 {
    layer.gradient.as_ref().map_or(0.0, |gradient| gradient.std)
}

/// How far a ratio is from 1, either way.
fn factor(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}
