//! The five initialisations, trained on MNIST.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): 784-100-100-100-100-10, plain SGD at 0.01, batches
//! of 128, about 2000 steps. The layers are observed with Karpathy's diagnostics (*Building makemore*, part 3) at the
//! first step of every epoch and at the last step of the run.

use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Layer, Observation, Observer, Report};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, GLOROT, GOODFELLOW, KARPATHY, SAITO};
use super::error::ExperimentError;
use super::guess::Guess;
use super::layers::{gradient, output_histogram, output_range};
use super::losses::{curve, loss, smooth, steps_to_1};
use super::names::{activation_name, strategy_name};
use super::results::Results;
use super::runs::{Run, Runs, Setting, accuracies, from_1};
use super::setup::{Setup, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Figure, Panel, Series, Stroke};
use crate::model::{Classifier, MlpConfig, Normalization};
use crate::train::{TrainConfig, evaluate};

const HIDDEN: usize = 4;
const BATCH: usize = 128;
const LEARNING_RATE: f64 = 0.01;
/// Loss of a network that gives each of ten classes the same probability, in nats.
const CHANCE: f64 = std::f64::consts::LN_10;

#[derive(Clone, PartialEq, Serialize)]
struct Start(Activation, InitStrategy);

#[derive(Serialize, Deserialize)]
struct Trained {
    /// Training loss of every step; `None` if it is not finite.
    losses: Vec<Option<f64>>,
    /// Validation accuracy after every epoch: 0 to 1.
    accuracies: Vec<f64>,
    /// Test accuracy at the end: 0 to 1.
    test: f64,
    /// Reports at the first step of every epoch and at the last step of the run: the layers and gradients on the same
    /// validation images, and how far the step moved the weights.
    stages: Vec<Report>,
}

/// Notes taken while a network trains.
#[derive(Default)]
struct Notes {
    losses: Vec<Option<f64>>,
    stages: Vec<Report>,
    /// The observation of the current step, before its update.
    seen: Option<Observation>,
}

impl Notes {
    /// Ends the current step. `network` has its updated weights.
    fn step(&mut self, network: &Classifier) {
        if let Some(mut seen) = self.seen.take() {
            seen.step(network);
            let mut report = seen.report();
            // The hidden layers alone: the logits follow no activation.
            report.layers.retain(|it| it.activation.is_some());
            self.stages.push(report);
        }
    }
}

/// The numbers of training images and epochs.
fn extent(setup: &Setup) -> (usize, usize) {
    let (images, epochs) = setup.pick((55_000, 5), (11_000, 4));
    (setup.split(images, 0)[0].len(), epochs)
}

impl Setting for Start {
    type Result = Trained;
    const SEEDS: [usize; 2] = [5, 2];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let Self(activation, strategy) = *self;
        let model = MlpConfig::new()
            .with_hidden(vec![100; HIDDEN])
            .with_activation(activation)
            .with_init(strategy)
            .with_norm(Normalization::None);
        TrainConfig {
            epochs: extent(setup).1,
            batch_size: BATCH,
            ..sgd(model, LEARNING_RATE)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let setup = run.setup;
        let (images, epochs) = extent(setup);
        let images = setup.split(images, 5000);
        let steps = images[0].len().div_ceil(BATCH);
        let probed = Loader::first_batch(&images[1], 1000, &setup.device.clone().autodiff());
        let [low, high] = output_range(self.0);
        let observer = Observer::new().with_range(low, high);
        let (trained, mut notes) = run.train(&images, move |notes: &mut Notes, it| {
            notes.losses.push(loss(&it));
            notes.step(it.network);
            if (it.step - 1).is_multiple_of(steps) || it.step == epochs * steps {
                let (output, mut seen) = observer.run(|| it.network.forward_step(probed.clone()));
                seen.backward(it.network, &output.loss.backward());
                notes.seen = Some(seen);
            }
        })?;
        notes.step(&trained.network);
        Ok(Trained {
            losses: notes.losses,
            accuracies: accuracies(&trained),
            test: evaluate(&trained.network, &setup.data.test, &setup.device).accuracy,
            stages: notes.stages,
        })
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let activations = setup.pick(
        vec![Activation::Relu, Activation::Tanh, Activation::Sigmoid],
        vec![Activation::Relu],
    );
    let settings = activations
        .iter()
        .flat_map(|&activation| InitStrategy::ALL.map(|strategy| Start(activation, strategy)));
    let (images, epochs) = extent(setup);
    let trained = Trainings {
        runs: setup.measure(name, settings)?,
        activations,
        epochs,
        steps: images.div_ceil(BATCH),
    };
    let mut figures = vec![trained.loss(), trained.accuracy()];
    // Zeros come last: they show least.
    let mut strategies = InitStrategy::ALL;
    strategies.rotate_left(1);
    figures.extend(strategies.map(|it| trained.outputs(Activation::Relu, it)));
    figures.extend(trained.activations.iter().map(|&it| trained.numbers(it)));
    Ok(Results {
        figures,
        claims: trained.claims(),
        table: trained.table(),
        facts: trained.facts(),
        guess: Some(trained.guess()),
    })
}

struct Trainings {
    runs: Runs<Start>,
    activations: Vec<Activation>,
    epochs: usize,
    /// Steps per epoch.
    steps: usize,
}

impl Trainings {
    /// One panel per activation, with one curve over the seeds per initialisation.
    fn curves(&self, x: Axis, y: Axis, points: fn(&Trained) -> Vec<[f64; 2]>) -> Vec<Panel> {
        let panel = |&activation: &Activation| {
            let series = InitStrategy::ALL.into_iter().flat_map(|strategy| {
                let curve = self.runs.curve(Start(activation, strategy), points);
                let stroke = match strategy {
                    // Dashed, because it lies on the curve of zeros and would hide it.
                    InitStrategy::SmallNormal => Stroke::Dashed,
                    _ => Stroke::Solid,
                };
                Series::spread(strategy_name(strategy), strategy, curve)
                    .map(|series| series.stroke(stroke))
            });
            Panel::new(x.clone(), y.clone())
                .titled(activation_name(activation))
                .with(series)
        };
        self.activations.iter().map(panel).collect()
    }

    fn loss(&self) -> Figure {
        let last = (self.epochs * self.steps) as f64;
        let panels = self.curves(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 4.0]),
            |run| curve(&smooth(&run.losses)),
        );
        Figure::new(
            "loss",
            "Training loss by step",
            "Guessing gives a loss of 2.30. Each point is \
             the mean of 25 steps.",
        )
        .row("", panels)
    }

    fn accuracy(&self) -> Figure {
        let panels = self.curves(
            Axis::linear("epoch", [0.0, self.epochs as f64 + 0.2]),
            Axis::linear("accuracy (share)", [0.0, 1.0]),
            |run| from_1(run.accuracies.iter().copied()),
        );
        Figure::new(
            "accuracy",
            "Validation accuracy after each epoch",
            "Guessing is right 1 time in 10.",
        )
        .row("", panels)
        .fold()
    }

    /// Plots the outputs of every layer before, during and after training, for the first seed.
    fn outputs(&self, activation: Activation, strategy: InitStrategy) -> Figure {
        let name = activation_name(activation);
        let figure = Figure::new(
            format!("layers-{strategy}"),
            format!(
                "Outputs of four {name} layers during training, from {}",
                strategy_name(strategy)
            ),
            "Histograms of each layer's outputs for the same 1000 validation images, for one network; the bars are cut at \
             a share of 0.5. std: over units and inputs together. inputs: the std over the inputs alone, for each unit.",
        )
        .as_grid()
        .fold();
        let x = Axis::linear(format!("{name} output"), output_range(activation));
        let setting = Start(activation, strategy);
        let stages = self.runs.of(&setting).next().map(|run| &run.stages);
        let stages = stages.into_iter().flatten().enumerate();
        stages.fold(figure, |figure, (stage, report)| {
            let layers = report.layers.iter().enumerate();
            let panels = layers.map(|(depth, layer)| {
                output_histogram(&layer.data, depth, strategy.into(), x.clone())
            });
            figure.row(stage_name(stage), panels)
        })
    }

    /// Plots every layer at every stage: the std of its outputs and of its gradient, and how far a step moves its
    /// weights.
    fn numbers(&self, activation: Activation) -> Figure {
        let figure = Figure::new(
            format!("numbers-{activation}"),
            format!(
                "Four {} layers in numbers, during training",
                activation_name(activation)
            ),
            "A logarithmic axis cannot show 0, \
             so most of the network that starts from zeros is missing. An update is the change that one training step \
             makes to a layer's weights. Layer 5 is the output layer.",
        )
        .stepped("stage of training")
        .fold();
        let panel = |title: &str, y: Axis, number: &dyn Fn(&Trained) -> Vec<f64>| {
            let series = InitStrategy::ALL.into_iter().flat_map(|strategy| {
                let setting = Start(activation, strategy);
                let curve = self.runs.curve(setting, |run| from_1(number(run)));
                Series::spread(strategy_name(strategy), strategy, curve)
            });
            let x = Axis::linear("layer", [0.8, (HIDDEN + 1) as f64 + 0.2]);
            Panel::new(x, y).titled(title).with(series)
        };
        (0..self.runs.0[0].result.stages.len()).fold(figure, |figure, stage| {
            let layers = |run: &Trained, number: fn(&Layer) -> f64| -> Vec<f64> {
                run.stages[stage].layers.iter().map(number).collect()
            };
            let outputs = Axis::log("std of the outputs", [1e-3, 100.0]);
            let gradients = Axis::log("divided by layer 4", [1e-3, 10.0]);
            let updates = Axis::linear("log10(update / weight)", [-8.0, 0.0]);
            figure.row(
                stage_name(stage),
                [
                    panel("outputs", outputs, &|run| layers(run, |it| it.data.std)),
                    panel("std of the gradient", gradients, &|run| {
                        let stds = layers(run, gradient);
                        stds.iter().map(|std| std / stds[HIDDEN - 1]).collect()
                    }),
                    panel("updates (healthy: about -3)", updates, &|run| {
                        self::updates(&run.stages[stage])
                    }),
                ],
            )
        })
    }

    /// The median of the step at which the loss falls below 1; infinite if it never does.
    fn steps_to_1(&self, activation: Activation, strategy: InitStrategy) -> f64 {
        let steps = |run: &Trained| steps_to_1(&smooth(&run.losses));
        self.runs.median(Start(activation, strategy), steps)
    }

    /// The numbers that the story names.
    fn facts(&self) -> Vec<(&'static str, String)> {
        use InitStrategy::{He, Xavier};
        if !self.activations.contains(&Activation::Tanh) {
            return Vec::new();
        }
        let tanh = |strategy, number: fn(&Trained) -> f64| {
            self.runs.median(Start(Activation::Tanh, strategy), number)
        };
        let first = |strategy| tanh(strategy, |run| gradient(&run.stages[0].layers[0]));
        let accuracy = |strategy| {
            tanh(strategy, |run| {
                run.accuracies.last().copied().unwrap_or(0.0)
            })
        };
        vec![
            (
                "tanh-he",
                format!("{:.0}", self.steps_to_1(Activation::Tanh, He)),
            ),
            (
                "tanh-xavier",
                format!("{:.0}", self.steps_to_1(Activation::Tanh, Xavier)),
            ),
            ("tanh-gradient", format!("{:.1}", first(He) / first(Xavier))),
            ("tanh-he-accuracy", format!("{:.3}", accuracy(He))),
            ("tanh-xavier-accuracy", format!("{:.3}", accuracy(Xavier))),
        ]
    }

    fn guess(&self) -> Guess {
        let choices = InitStrategy::ALL.map(|strategy| {
            let steps = self.steps_to_1(Activation::Relu, strategy);
            (strategy_name(strategy).to_string(), steps)
        });
        Guess::least(
            "Which start first brings the loss of a ReLU network below 1?",
            "training steps until then",
            choices,
        )
    }

    fn claims(&self) -> Vec<Claim> {
        use InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};
        let relu = |strategy, number: &dyn Fn(&Trained) -> f64| {
            self.runs.median(Start(Activation::Relu, strategy), number)
        };
        let accuracy = |run: &Trained| run.accuracies.last().copied().unwrap_or(0.0);
        let final_loss = |run: &Trained| {
            curve(&smooth(&run.losses))
                .last()
                .map_or(f64::NAN, |it| it[1])
        };
        let steps_to_1 = |strategy| self.steps_to_1(Activation::Relu, strategy);
        let first_loss = |run: &Trained| run.losses[0].unwrap_or(f64::INFINITY);
        let mut claims = vec![
            GOODFELLOW
                .says("With weights of 0, a ReLU network learns only how frequent the classes are")
                .measured(
                    "distance of the last training loss from log(10) = 2.303, in nats",
                    (relu(Zeros, &final_loss) - CHANCE).abs(),
                )
                .holds_if(Bound::AtMost(0.02)),
            SAITO
                .says("With N(0, 0.01²), it does not learn at all in these steps")
                .measured(
                    "validation accuracy at the end (guessing: 0.1)",
                    relu(SmallNormal, &accuracy),
                )
                .holds_if(Bound::AtMost(0.2)),
            SAITO
                .says("With Xavier, it learns")
                .measured("validation accuracy at the end", relu(Xavier, &accuracy))
                .holds_if(Bound::AtLeast(0.85)),
            SAITO
                .says("With He, it learns")
                .measured("validation accuracy at the end", relu(He, &accuracy))
                .holds_if(Bound::AtLeast(0.85)),
            SAITO
                .says("With He, it learns faster than with Xavier")
                .measured(
                    "steps until the loss is below 1, He divided by Xavier",
                    steps_to_1(He) / steps_to_1(Xavier),
                )
                .holds_if(Bound::Below(1.0)),
            KARPATHY
                .says("Weights that are too large start from a loss far above that of guessing, log(10) = 2.303")
                .measured(
                    "first loss with N(0, 1), divided by log(10)",
                    relu(StandardNormal, &first_loss) / CHANCE,
                )
                .holds_if(Bound::AtLeast(10.0)),
            KARPATHY
                .says("A healthy start has the loss of guessing, log(10) = 2.303")
                .measured("first loss with He, divided by log(10)", relu(He, &first_loss) / CHANCE)
                .holds_if(Bound::Between(0.9, 1.1))
                .why(
                    "He keeps the scale of the signal up to the output layer, so the first answers are guesses, but \
                 confident ones. Karpathy makes the weights of the last layer smaller to avoid this.",
                ),
            KARPATHY
                .says("In healthy training, an update is about a thousandth of the weights")
                .measured(
                    "log10(update / weight) with He after one epoch, mean over the layers",
                    relu(He, &|run| {
                        let updates = updates(&run.stages[1]);
                        updates.iter().sum::<f64>() / updates.len() as f64
                    }),
                )
                .holds_if(Bound::Between(-4.0, -2.0)),
        ];
        if self.activations.contains(&Activation::Tanh) {
            claims.push(
                GLOROT
                    .says("With Xavier, a tanh network learns")
                    .measured(
                        "validation accuracy at the end",
                        self.runs.median(Start(Activation::Tanh, Xavier), accuracy),
                    )
                    .holds_if(Bound::AtLeast(0.85)),
            );
        }
        claims
    }

    /// Tabulates the runs. Numbers of the whole network have layer 0.
    fn table(&self) -> Table {
        let mut table = Table::new(&["activation", "strategy", "seed", "step", "layer"]);
        for run in &self.runs.0 {
            let Start(activation, strategy) = run.setting;
            let result = &run.result;
            let key = |step: usize, layer: usize| (activation, strategy, run.seed, step, layer);
            for (i, loss) in result.losses.iter().enumerate() {
                table.add(key(i + 1, 0), [("training_loss", loss.unwrap_or(f64::NAN))]);
            }
            for (i, &accuracy) in result.accuracies.iter().enumerate() {
                let values = [("validation_accuracy", accuracy)];
                table.add(key((i + 1) * self.steps, 0), values);
            }
            table.add(
                key(result.losses.len(), 0),
                [("test_accuracy", result.test)],
            );
            for (stage, report) in result.stages.iter().enumerate() {
                let step = (stage * self.steps + 1).min(result.losses.len());
                for (i, layer) in report.layers.iter().enumerate() {
                    let values = [
                        ("output_mean", layer.data.mean),
                        ("output_std", layer.data.std),
                        ("zeros", layer.data.zeros),
                        ("saturated", layer.saturated.unwrap_or(f64::NAN)),
                        ("dead_units", layer.dead as f64),
                        ("distinct_units", (layer.units - layer.duplicates) as f64),
                        ("gradient_std", gradient(layer)),
                    ];
                    table.add(key(step, i + 1), values);
                }
                for (i, update) in updates(report).into_iter().enumerate() {
                    table.add(key(step, i + 1), [("log10_update_to_weight", update)]);
                }
            }
        }
        table
    }
}

fn stage_name(stage: usize) -> String {
    match stage {
        0 => "before training".into(),
        1 => "after 1 epoch".into(),
        _ => format!("after {stage} epochs"),
    }
}

/// The logarithm to base 10 of rms(update) / rms(weights) of each layer; minus infinity for weights of 0.
fn updates(report: &Report) -> Vec<f64> {
    let parameters = report.parameters.iter();
    let weights = parameters.filter(|it| it.name.ends_with("weight"));
    let updates = weights.map(|weight| match weight.rms {
        0.0 => f64::NEG_INFINITY,
        _ => weight.update_to_data().unwrap_or(f64::NAN),
    });
    updates.collect()
}
