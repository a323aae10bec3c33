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

use super::setup::{histogram_range, mlp, normal};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::init::{Activation, InitStrategy};
use crate::lab::model::{MlpConfig, ModelConfig, Normalization};
use crate::lab::report::{Axis, Figure, Panel, Row, Series, Shape, median};
use crate::lab::train::{TrainConfig, initial_model};
use crate::observe::{Layer, Observer};

const SAITO: &str = "Saito, Deep Learning from Scratch, ch. 6";
const POOLE: &str = "Poole et al. 2016, arXiv:1606.05340";
const HE: &str = "He et al. 2015, arXiv:1502.01852";
const GLOROT: &str = "Glorot & Bengio 2010";

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
    let name = Experiment::InitDistributions.to_string();
    let layers = setup.runs(&name, &configs, |config, _| Ok(observe(setup, config)))?;
    let measured = Measured(configs.into_iter().zip(layers).collect());
    Ok(Findings {
        experiment: Experiment::InitDistributions,
        size: setup.size,
        question: "What happens to a signal on its way through the layers?".into(),
        story: story(),
        figures: measured.figures(),
        claims: measured.claims(),
        table: measured.table(),
    })
}

/// The five layers of one network, with the gradient of a loss that pulls every output of the last
/// one at random.
fn observe(setup: &Setup, config: &Config) -> Vec<Layer> {
    let device = setup.device.clone().autodiff();
    let network = initial_model(
        &TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_inputs(WIDTH)
                    .with_hidden(vec![WIDTH; DEPTH])
                    .with_activation(config.activation)
                    .with_init(config.strategy)
                    .with_norm(Normalization::None),
            ),
            seed: config.seed,
            ..TrainConfig::default()
        },
        &device,
    );
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
         arrives at the end at all: sums of too large weights grow, sums of too small ones fade, and \
         depth compounds either."
            .into(),
        "Here, 1000 random inputs go through five untrained layers of 100 units. The histograms show \
         what each layer puts out. A good start looks alike in every layer and is neither one spike \
         nor piled up at the ends."
            .into(),
        "Zeros: all units are the same, for ever. N(0, 1): sigmoid and tanh sit at their ends, where \
         a small change of the weights changes nothing; ReLU explodes. N(0, 0.01²): everything fades \
         to one point. Xavier, with variance 1/n for n inputs, keeps tanh in shape. ReLU throws away \
         the negative half, so it needs twice the variance: that is He, with variance 2/n."
            .into(),
        "One sentence of the textbooks fails here: the gradients of sigmoid with N(0, 1) do not vanish on \
         their way back. Most units sit at their ends and let nothing through, but what the others let \
         through is multiplied by weights so large that it makes up for them."
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
        let mut figures: Vec<Figure> = ACTIVATIONS.map(|it| self.histograms(it)).into();
        figures.push(self.forward());
        figures.push(self.backward());
        figures
    }

    /// Five layers a strategy, of the first seed.
    fn histograms(&self, activation: Activation) -> Figure {
        let rows = InitStrategy::ALL.map(|strategy| {
            let layers = self.of(activation, strategy).next().unwrap_or(&[]);
            let panels = layers
                .iter()
                .enumerate()
                .map(|(depth, layer)| super::histogram(layer, activation, strategy.into(), depth));
            Row {
                label: super::label(strategy).into(),
                panels: panels.collect(),
            }
        });
        Figure::new(
            format!("histograms-{activation}"),
            format!(
                "What five layers of {} put out, by initialisation",
                super::name(activation)
            ),
            match activation {
                Activation::Sigmoid => {
                    "Histograms of five sigmoid layers. Zeros: one spike at 0.5. N(0, 1): piled up \
                     at 0 and 1. N(0, 0.01²): a spike at 0.5 from the second layer on. Xavier and \
                     He: spread around 0.5, and narrower from layer to layer."
                }
                Activation::Tanh => {
                    "Histograms of five tanh layers. Zeros: one spike at 0. N(0, 1): piled up at -1 \
                     and 1. N(0, 0.01²): a spike at 0. Xavier: spread out in all five layers. He: \
                     the same, a little wider."
                }
                _ => {
                    "Histograms of five ReLU layers. Zeros: one spike at 0. N(0, 1): nearly all \
                     beyond the axis. N(0, 0.01²): a spike at 0. Xavier: fading from layer to layer. \
                     He: the same spread in all five layers."
                }
            },
            rows.into(),
        )
        .stepped("initialisation")
    }

    /// Measured spread a layer, beside what the theory says.
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
            "Standard deviation of the outputs over five layers. The measured dots lie on the dashed \
             lines of the theory. Only Xavier with tanh and He with ReLU stay level; N(0, 1) grows \
             with ReLU, N(0, 0.01²) falls with tanh and ReLU. Zeros are not there: their spread is 0.",
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
            "Standard deviation of the gradient at each of five layers, 1 at the last. It is kept by \
             He with ReLU and by Xavier with tanh, fades with N(0, 0.01²), and grows with N(0, 1), but \
             for sigmoid, where N(0, 1) keeps it and all others let it fade. With zeros none reaches the \
             layers before the last.",
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
                "The spread of every layer is what the theory of wide layers says",
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
