//! The outputs and gradients of every layer before training: five layers, five initialisations, three activations.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): 1000 inputs of 100 numbers from N(0, 1) go through
//! five layers of 100 units. The figures also show the closed-form theory of wide layers (Poole et al. 2016,
//! arXiv:1606.05340). The std of a layer counts all differences; its spread counts those between inputs alone.

use burn::tensor::{Tensor, TensorData};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Layer, Observer};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::claim::{Bound, Claim, GLOROT, HE, POOLE, SAITO};
use super::error::ExperimentError;
use super::guess::Guess;
use super::layers::{gradient, histogram, output_histogram, output_range, short};
use super::names::{activation_name, strategy_name};
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, mlp, sgd};
use super::table::Table;
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{MlpConfig, Normalization};
use crate::train::TrainConfig;

const SAMPLES: usize = 1000;
const WIDTH: usize = 100;
const DEPTH: usize = 5;
const BINS: usize = 30;
/// All strategies but zeros, whose units are all equal: there is no spread to draw.
const DRAWN: [InitStrategy; 4] = [
    InitStrategy::StandardNormal,
    InitStrategy::SmallNormal,
    InitStrategy::Xavier,
    InitStrategy::He,
];
const ACTIVATIONS: [Activation; 3] = [Activation::Sigmoid, Activation::Tanh, Activation::Relu];

#[derive(Clone, PartialEq, Serialize)]
struct Start(Activation, InitStrategy);

impl Setting for Start {
    type Result = Vec<Layer>;
    const SEEDS: [usize; 2] = [10, 3];

    fn config(&self, _: &Setup) -> TrainConfig {
        let Self(activation, strategy) = *self;
        let model = MlpConfig::new()
            .with_inputs(WIDTH)
            .with_hidden(vec![WIDTH; DEPTH])
            .with_activation(activation)
            .with_init(strategy)
            .with_norm(Normalization::None);
        // The network is not trained.
        sgd(model, 1.0)
    }

    /// Observes the layers, and the gradients of a loss with random weights for the outputs of the last layer.
    fn run(&self, run: &Run) -> Result<Vec<Layer>, ExperimentError> {
        let device = run.setup.device.clone().autodiff();
        let network = mlp(run.config.init_model(&device));
        let mut random = StdRng::seed_from_u64(run.config.seed);
        let mut numbers = || {
            let values = std::iter::repeat_with(|| StandardNormal.sample(&mut random));
            let values: Vec<f32> = values.take(SAMPLES * WIDTH).collect();
            Tensor::<2>::from_data(TensorData::new(values, [SAMPLES, WIDTH]), &device)
        };
        let (input, pull) = (numbers(), numbers());
        let [low, high] = output_range(self.0);
        let observer = Observer::new().with_bins(BINS).with_range(low, high);
        let (loss, mut seen) = observer.run(|| (network.features(input) * pull).sum());
        seen.backward(&network, &loss.backward());
        Ok(seen.report().layers)
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let settings = ACTIVATIONS
        .into_iter()
        .flat_map(|activation| InitStrategy::ALL.map(|strategy| Start(activation, strategy)));
    let runs = setup.measure(name, settings)?;
    let mut figures: Vec<Figure> = ACTIVATIONS.map(|it| outputs(&runs, it)).into();
    figures.push(forward(&runs));
    figures.extend(ACTIVATIONS.map(|it| gradients(&runs, it)));
    figures.push(backward(&runs));
    Ok(Results {
        figures,
        claims: claims(&runs),
        table: table(&runs),
        facts: facts(&runs),
        guess: Some(guess(&runs)),
    })
}

/// Predicts each layer by the theory of wide layers: the std of its outputs, and their spread between inputs. The
/// inputs of the network are independent.
fn predict(activation: Activation, strategy: InitStrategy) -> impl Iterator<Item = [f64; 2]> {
    let layers = strategy.propagate_pair(activation, [WIDTH; DEPTH], 1.0, 0.0);
    layers
        .into_iter()
        .map(|layer| [layer.signal.std, layer.spread])
}

fn outputs(runs: &Runs<Start>, activation: Activation) -> Figure {
    let name = activation_name(activation);
    let figure = Figure::new(
        format!("histograms-{activation}"),
        format!("Outputs of five {name} layers"),
        "One untrained network; bars are cut at a share of 0.5. std: over units and inputs together. inputs: the std over \
         the inputs alone, for each unit.",
    );
    let x = Axis::linear(format!("{name} output"), output_range(activation));
    histograms(figure, runs, activation, |layer, depth, color| {
        Some(output_histogram(&layer.data, depth, color, x.clone()))
    })
}

fn gradients(runs: &Runs<Start>, activation: Activation) -> Figure {
    let name = activation_name(activation);
    let figure = Figure::new(
        format!("gradients-{activation}"),
        format!("Gradients at five {name} layers"),
        "Histograms of the gradient at each layer's outputs, for one network; the bars are cut at a share of 0.5. The \
         gradient starts from N(0, 1) at layer 5 and goes back to layer 1.",
    );
    let x = Axis::linear("gradient", [-3.0, 3.0]);
    histograms(figure, runs, activation, |layer, depth, color| {
        Some(histogram(layer.gradient.as_ref()?, depth, color, x.clone()))
    })
    .fold()
}

/// Adds the five layers of each strategy's first seed.
fn histograms(
    figure: Figure,
    runs: &Runs<Start>,
    activation: Activation,
    histogram: impl Fn(&Layer, usize, Color) -> Option<Panel>,
) -> Figure {
    // Zeros come last: they show least, and the same for every activation.
    let zeros = (activation == Activation::Tanh).then_some(InitStrategy::Zeros);
    let rows = DRAWN.into_iter().chain(zeros);
    let figure = rows.fold(figure, |figure, strategy| {
        let setting = Start(activation, strategy);
        let layers = runs.of(&setting).next().into_iter().flatten().enumerate();
        let panels = layers.filter_map(|(depth, layer)| histogram(layer, depth, strategy.into()));
        figure.row(strategy_name(strategy), panels)
    });
    figure.as_grid()
}

/// The median over the seeds of one number of each layer.
fn by_layer(runs: &Runs<Start>, setting: &Start, number: fn(&Layer) -> f64) -> Vec<f64> {
    let layers = 0..DEPTH;
    layers
        .map(|i| runs.median(setting.clone(), |it| number(&it[i])))
        .collect()
}

/// The numbers divided by one of them.
fn relative(numbers: &[f64], to: usize) -> Vec<[f64; 2]> {
    from_1(numbers.iter().map(|number| number / numbers[to]))
}

/// Plots the measured and the predicted std of each layer, and its spread between inputs.
fn forward(runs: &Runs<Start>) -> Figure {
    let figure = Figure::new(
        "forward",
        "Each layer's outputs compared with layer 1: measured (marks), theory (dashes)",
        "Medians over seeds. Zeros are not shown: their outputs do not differ at all.",
    );
    let row = |quantity: usize, measured: fn(&Layer) -> f64| {
        ACTIVATIONS.map(|activation| {
            let y = Axis::log("divided by layer 1", [1e-3, 10.0]);
            panel(activation, y).with(DRAWN.into_iter().flat_map(|strategy| {
                let points = by_layer(runs, &Start(activation, strategy), measured);
                let theory: Vec<f64> = predict(activation, strategy)
                    .map(|it| it[quantity])
                    .collect();
                [
                    Series::line(strategy_name(strategy), strategy, relative(&points, 0))
                        .stroke(Stroke::Dotted),
                    Series::line("", strategy, relative(&theory, 0)).stroke(Stroke::Dashed),
                ]
            }))
        })
    };
    figure
        .row(
            "std over units and inputs together",
            row(0, |it| it.data.std),
        )
        .row(
            "std over the inputs alone, for each unit",
            row(1, |it| it.data.spread),
        )
}

fn backward(runs: &Runs<Start>) -> Figure {
    let figure = Figure::new(
        "backward",
        "The gradient on its way back, compared with layer 5",
        "The std of the gradient at each layer's outputs: medians over seeds. Zeros are not shown: with them, no \
         gradient reaches the earlier layers.",
    );
    let panels = ACTIVATIONS.map(|activation| {
        let y = Axis::log("divided by layer 5", [1e-3, 10.0]);
        panel(activation, y).with(DRAWN.map(|strategy| {
            let points = by_layer(runs, &Start(activation, strategy), gradient);
            Series::line(
                strategy_name(strategy),
                strategy,
                relative(&points, DEPTH - 1),
            )
        }))
    });
    figure.row("", panels).fold()
}

/// The numbers that the story names: those of the network in the histograms.
fn facts(runs: &Runs<Start>) -> Vec<(&'static str, String)> {
    use Activation::Sigmoid;
    use InitStrategy::{StandardNormal, Xavier};
    let of = |strategy, number: fn(&Layer) -> f64| -> Vec<String> {
        let first = runs.of(&Start(Sigmoid, strategy)).next();
        let layers = first.into_iter().flatten();
        layers.map(|layer| short(number(layer))).collect()
    };
    let (std, spread) = (
        of(Xavier, |it| it.data.std),
        of(Xavier, |it| it.data.spread),
    );
    let [wide_std, wide_spread] = [
        of(StandardNormal, |it| it.data.std),
        of(StandardNormal, |it| it.data.spread),
    ];
    vec![
        ("xavier-first", std[0].clone()),
        ("xavier-last", std[DEPTH - 1].clone()),
        ("xavier-inputs", spread.join(", ")),
        ("normal-last", wide_std[DEPTH - 1].clone()),
        ("normal-inputs", wide_spread[DEPTH - 1].clone()),
    ]
}

fn guess(runs: &Runs<Start>) -> Guess {
    let choices = InitStrategy::ALL.map(|strategy| {
        let spread = by_layer(runs, &Start(Activation::Sigmoid, strategy), |it| {
            it.data.spread
        });
        (strategy_name(strategy).to_string(), spread[DEPTH - 1])
    });
    Guess::most(
        "After five sigmoid layers, with which start do the outputs still differ most from input to input?",
        "std over the inputs alone in layer 5",
        choices,
    )
}

fn panel(activation: Activation, y: Axis) -> Panel {
    Panel::new(Axis::linear("layer", [0.8, 5.2]), y).titled(activation_name(activation))
}

fn claims(runs: &Runs<Start>) -> Vec<Claim> {
    use Activation::{Relu, Sigmoid, Tanh};
    use InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};

    let last = DEPTH - 1;
    let median = |activation, strategy, number: &dyn Fn(&Vec<Layer>) -> f64| {
        runs.median(Start(activation, strategy), number)
    };
    let last_std = |activation, strategy| median(activation, strategy, &|it| it[last].data.std);
    // The share of saturated outputs in the layer with the fewest.
    let saturated = |activation, strategy| {
        median(activation, strategy, &|it| {
            let shares = it.iter().map(|it| it.saturated.unwrap_or(f64::NAN));
            shares.fold(f64::INFINITY, f64::min)
        })
    };
    // The largest factor between a number of the first layer and of a later one.
    let furthest = |activation, strategy, number: fn(&Layer) -> f64| {
        median(activation, strategy, &|it| {
            let ratios = it
                .iter()
                .map(|layer| factor(number(layer) / number(&it[0])));
            ratios.fold(1.0, f64::max)
        })
    };
    let mut theory: f64 = 0.0;
    for activation in ACTIVATIONS {
        for strategy in DRAWN {
            for (i, [predicted, _]) in predict(activation, strategy).enumerate() {
                let measured = median(activation, strategy, &|it| it[i].data.std);
                theory = theory.max(factor(measured / predicted));
            }
        }
    }
    vec![
        SAITO
            .says("With weights of 0, all units of a layer are the same")
            .measured(
                "distinct units of 100 in the last tanh layer",
                median(Tanh, Zeros, &|it| (it[last].units - it[last].duplicates) as f64),
            )
            .holds_if(Bound::AtMost(1.0)),
        SAITO
            .says("With N(0, 1), sigmoid outputs pile up at 0 and 1 in every layer")
            .measured(
                "share of outputs below 0.03 or above 0.97, in the layer where it is smallest",
                saturated(Sigmoid, StandardNormal),
            )
            .holds_if(Bound::AtLeast(0.5)),
        GLOROT
            .says("With N(0, 1), tanh outputs pile up at -1 and 1 in every layer")
            .measured(
                "share of outputs beyond ±0.97, in the layer where it is smallest",
                saturated(Tanh, StandardNormal),
            )
            .holds_if(Bound::AtLeast(0.5)),
        SAITO
            .says("With N(0, 1), the gradients of sigmoid vanish on their way back")
            .measured(
                "std of the gradient at layer 1 divided by that at layer 5",
                median(Sigmoid, StandardNormal, &|it| gradient(&it[0]) / gradient(&it[last])),
            )
            .holds_if(Bound::AtMost(0.1))
            .why(
                "Most units are saturated and pass almost no gradient. The gradient that the others pass is \
             multiplied by weights large enough to make up for this.",
            ),
        SAITO
            .says("With N(0, 0.01²), sigmoid outputs gather at 0.5")
            .measured("std of the outputs of layer 5", last_std(Sigmoid, SmallNormal))
            .holds_if(Bound::AtMost(0.05)),
        SAITO
            .says("With N(0, 0.01²), tanh outputs collapse to 0")
            .measured("std of the outputs of layer 5", last_std(Tanh, SmallNormal))
            .holds_if(Bound::AtMost(1e-3)),
        SAITO
            .says("With N(0, 0.01²), ReLU outputs die")
            .measured("std of the outputs of layer 5", last_std(Relu, SmallNormal))
            .holds_if(Bound::AtMost(1e-3)),
        SAITO
            .says("Xavier spreads sigmoid outputs: they neither gather at one point nor pile up at the ends")
            .measured(
                "std of the outputs of layer 5 (evenly over 0 to 1: 0.289, all at the ends: 0.5)",
                last_std(Sigmoid, Xavier),
            )
            .holds_if(Bound::Between(0.05, 0.289)),
        GLOROT
            .says("Xavier keeps the std of tanh outputs within a factor of 2 over five layers")
            .measured(
                "largest factor between layer 1 and a later one",
                furthest(Tanh, Xavier, |it| it.data.std),
            )
            .holds_if(Bound::AtMost(2.0)),
        HE.says("With Xavier, ReLU outputs fade: their mean square halves at every layer")
            .measured(
                "mean factor per layer on the mean square, layers 1 to 5",
                median(Relu, Xavier, &|it| {
                    (mean_square(&it[last]) / mean_square(&it[0])).powf(1.0 / last as f64)
                }),
            )
            .holds_if(Bound::Between(0.4, 0.6)),
        HE.says("He keeps the mean square of ReLU outputs within a factor of 2 over five layers")
            .measured(
                "largest factor between layer 1 and a later one",
                furthest(Relu, He, mean_square),
            )
            .holds_if(Bound::AtMost(2.0)),
        HE.says("He keeps the std of ReLU gradients on their way back")
            .measured(
                "factor between the std of the gradient at layer 1 and at layer 5",
                median(Relu, He, &|it| factor(gradient(&it[0]) / gradient(&it[last]))),
            )
            .holds_if(Bound::AtMost(2.0)),
        POOLE
            .says("With N(0, 1), ReLU outputs explode with depth")
            .measured(
                "std of layer 5 divided by that of layer 1",
                median(Relu, StandardNormal, &|it| it[last].data.std / it[0].data.std),
            )
            .holds_if(Bound::AtLeast(1000.0)),
        POOLE
            .says("The std of every layer is as the theory of wide layers predicts")
            .measured(
                "largest factor between measured and predicted std, all strategies but zeros",
                theory,
            )
            .holds_if(Bound::AtMost(1.2)),
    ]
}

fn table(runs: &Runs<Start>) -> Table {
    let mut table = Table::new(&["activation", "strategy", "seed", "layer"]);
    for run in &runs.0 {
        let Start(activation, strategy) = run.setting;
        let predicted = predict(activation, strategy);
        for (i, (layer, [predicted_std, predicted_spread])) in
            run.result.iter().zip(predicted).enumerate()
        {
            let data = &layer.data;
            let values = [
                ("mean", data.mean),
                ("std", data.std),
                ("predicted_std", predicted_std),
                ("spread", data.spread),
                ("predicted_spread", predicted_spread),
                ("min", data.min),
                ("max", data.max),
                ("zeros", data.zeros),
                ("saturated", layer.saturated.unwrap_or(f64::NAN)),
                ("distinct_units", (layer.units - layer.duplicates) as f64),
                ("gradient_std", gradient(layer)),
            ];
            table.add((activation, strategy, run.seed, i + 1), values);
        }
    }
    table
}

fn mean_square(layer: &Layer) -> f64 {
    layer.data.std.powi(2) + layer.data.mean.powi(2)
}

/// The ratio or its inverse, whichever is larger.
fn factor(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}
