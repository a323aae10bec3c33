//! The five initialisations, trained on MNIST.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): 784-100-100-100-100-10, plain
//! SGD at 0.01, batches of 128, about 2000 steps. The layers are looked at with Karpathy's set of
//! diagnostics (*Building makemore*, part 3), at the first step of every epoch and at the last of all.

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::claim::{GLOROT, GOODFELLOW, KARPATHY, SAITO};
use super::setup::{histogram_range, loss, middle, probe, smooth, steps_to_1};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::figure::{Axis, Figure, Panel, Row, Series, median};
use crate::model::{Classifier, MlpConfig, ModelConfig, Normalization};
use crate::train::{Job, OptimizerKind, Schedule, TrainConfig, evaluate};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Layer, Observation, Observer, Report};

const HIDDEN: usize = 4;
const BATCH: usize = 128;
const LEARNING_RATE: f64 = 0.01;
/// Loss of a network that gives each of ten classes the same chance, in nats.
const CHANCE: f64 = std::f64::consts::LN_10;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    activation: Activation,
    strategy: InitStrategy,
    seed: u64,
    images: usize,
    epochs: usize,
}

#[derive(Serialize, Deserialize)]
struct Run {
    /// Of every step; none where it is no number.
    losses: Vec<Option<f64>>,
    /// On the validation images, after every epoch: 0 to 1.
    accuracies: Vec<f64>,
    /// On the test images, at the end: 0 to 1.
    test: f64,
    /// At the first step of every epoch and the last of all: the layers and gradients of the same
    /// validation images, and how far the step moved the weights.
    stages: Vec<Report>,
}

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let activations: &[Activation] = setup.pick(
        &[Activation::Relu, Activation::Tanh, Activation::Sigmoid],
        &[Activation::Relu],
    );
    let (images, epochs) = setup.pick((55_000, 5), (11_000, 4));
    let images = images.min(setup.data.train_and_validation().0.len());
    let mut configs = Vec::new();
    for &activation in activations {
        for strategy in InitStrategy::ALL {
            configs.extend(setup.seeds(5, 2).map(|seed| Config {
                activation,
                strategy,
                seed,
                images,
                epochs,
            }));
        }
    }
    let runs = setup.runs(
        Experiment::InitTraining,
        [1, 1],
        &configs,
        Config::training,
        |config, training, job| train(setup, config, training, job),
    )?;
    let trained = Runs {
        runs: configs.into_iter().zip(runs).collect(),
        activations: activations.to_vec(),
        epochs,
        steps: images.div_ceil(BATCH),
    };
    Ok(Findings {
        experiment: Experiment::InitTraining,
        size: setup.size,
        seeds: setup.seeds,
        device: setup.device_name.clone(),
        question: "Which first weights let a network learn?".into(),
        story: story(),
        figures: trained.figures(),
        claims: trained.claims(),
        table: trained.table(),
    })
}

impl Config {
    fn training(&self) -> TrainConfig {
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_hidden(vec![100; HIDDEN])
                    .with_activation(self.activation)
                    .with_init(self.strategy)
                    .with_norm(Normalization::None),
            ),
            optimizer: OptimizerKind::Sgd,
            learning_rate: LEARNING_RATE,
            schedule: Schedule::Constant,
            epochs: self.epochs,
            batch_size: BATCH,
            seed: self.seed,
            patience: None,
            ..TrainConfig::default()
        }
    }
}

/// What is written down while a network trains.
#[derive(Default)]
struct Notes {
    losses: Vec<Option<f64>>,
    stages: Vec<Report>,
    /// Of the step under way, whose update is yet to be seen.
    seen: Option<Observation>,
}

impl Notes {
    /// Ends the step under way, which led to this network.
    fn step(&mut self, network: &Classifier) {
        if let Some(mut seen) = self.seen.take() {
            seen.step(network);
            self.stages.push(seen.report());
        }
    }
}

fn train(
    setup: &Setup,
    config: &Config,
    training: &TrainConfig,
    job: &Job,
) -> Result<Run, ExperimentError> {
    let (train, valid) = setup.split(config.images, 5000);
    let steps = train.len().div_ceil(BATCH);
    let last = config.epochs * steps;
    let images = probe(&valid, 1000, &setup.device.clone().autodiff());
    let [low, high] = histogram_range(config.activation);
    let observer = Observer::new().with_range(low, high);

    let notes = Arc::new(Mutex::new(Notes::default()));
    let writing = notes.clone();
    let trained = setup.train(job, training, &train, &valid, move |it| {
        let mut notes = writing.lock().expect("one writer");
        notes.losses.push(loss(&it));
        notes.step(it.network);
        if (it.step - 1).is_multiple_of(steps) || it.step == last {
            let (output, mut seen) = observer.run(|| it.network.forward_step(images.clone()));
            seen.backward(it.network, &output.loss.backward());
            notes.seen = Some(seen);
        }
    })?;
    let mut notes = std::mem::take(&mut *notes.lock().expect("one reader"));
    let test = evaluate(&trained.network, &setup.data.test, &setup.device);
    notes.step(&trained.network);
    Ok(Run {
        losses: notes.losses,
        accuracies: trained
            .epochs
            .iter()
            .map(|epoch| epoch.valid.accuracy)
            .collect(),
        test: test.accuracy,
        stages: notes.stages,
    })
}

fn story() -> Vec<String> {
    vec![
        "The same five starts, now trained: a network of four hidden layers of 100 units learns to read \
         handwritten digits, 128 at a time. The loss says how surprised it is by the right answer: 2.30 \
         means that it gives each of the ten digits the same chance, 0 that it is sure and right. The \
         accuracy says how often its first choice is right."
            .into(),
        "Weights of zero stay where they are: every unit of a layer gets the same gradient, so they can \
         never come to do different things. N(0, 0.01²) lets so little signal through that nothing is \
         learned in this time either. N(0, 1) explodes with ReLU: after a few steps no number is left. \
         Xavier and He learn, and with ReLU, He is the first to get going."
            .into(),
        "Sigmoid is the hard one. Its slope is a quarter at most, so gradients fade through four layers of \
         it, and in this time neither Xavier nor He gets far; N(0, 1) learns slowly. Good weights do not \
         make up for an activation that lets little through."
            .into(),
        "The buttons step through the training: first the outputs of every ReLU layer, then every layer in \
         numbers. In a healthy network each step moves the weights by about a thousandth of their size, in \
         all layers alike."
            .into(),
    ]
}

struct Runs {
    runs: Vec<(Config, Run)>,
    activations: Vec<Activation>,
    epochs: usize,
    /// Steps an epoch.
    steps: usize,
}

impl Runs {
    fn of(&self, activation: Activation, strategy: InitStrategy) -> Vec<&Run> {
        let wanted =
            |config: &Config| config.activation == activation && config.strategy == strategy;
        let runs = self.runs.iter().filter(|(config, _)| wanted(config));
        runs.map(|(_, run)| run).collect()
    }

    fn median(
        &self,
        activation: Activation,
        strategy: InitStrategy,
        number: impl Fn(&Run) -> f64,
    ) -> f64 {
        let numbers: Vec<f64> = self
            .of(activation, strategy)
            .into_iter()
            .map(number)
            .collect();
        median(&numbers)
    }

    fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![self.loss(), self.accuracy()];
        figures.extend(InitStrategy::ALL.map(|it| self.layers(Activation::Relu, it)));
        figures.extend(self.activations.iter().map(|&it| self.numbers(it)));
        figures
    }

    /// A panel an activation, a median line and the range over seeds for each initialisation.
    fn curves(&self, x: Axis, y: Axis, points: impl Fn(&Run) -> Vec<[f64; 2]>) -> Row {
        let panels = self.activations.iter().map(|&activation| {
            let series = InitStrategy::ALL.into_iter().flat_map(|strategy| {
                let runs: Vec<_> = self
                    .of(activation, strategy)
                    .into_iter()
                    .map(&points)
                    .collect();
                let at = (0..runs[0].len()).map(|i| {
                    let values = runs.iter().map(|run| run[i][1]).collect();
                    (runs[0][i][0], values)
                });
                let series = Series::spread(super::label(strategy), strategy, at);
                match strategy {
                    // Lies on zeros, and is to let them be seen.
                    InitStrategy::SmallNormal => series.map(Series::dashed),
                    _ => series,
                }
            });
            Panel {
                title: super::name(activation).into(),
                x: x.clone(),
                y: y.clone(),
                series: series.collect(),
            }
        });
        Row {
            label: String::new(),
            panels: panels.collect(),
        }
    }

    fn loss(&self) -> Figure {
        let last = (self.epochs * self.steps) as f64;
        let row = self.curves(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 4.0]),
            curve,
        );
        Figure::new(
            "loss",
            "Training loss by step: median over seeds, and the band from least to largest",
            "A guess has a loss of 2.30. Each point is the mean of 25 steps.",
            vec![row],
        )
    }

    fn accuracy(&self) -> Figure {
        let row = self.curves(
            Axis::linear("epoch", [0.0, self.epochs as f64 + 0.2]),
            Axis::linear("validation accuracy (share)", [0.0, 1.0]),
            |run| {
                let points = run.accuracies.iter().enumerate();
                points.map(|(i, &share)| [(i + 1) as f64, share]).collect()
            },
        );
        Figure::new(
            "accuracy",
            "Validation accuracy after each epoch: median over seeds, and the band from least to largest",
            "Guessing is right 1 time in 10.",
            vec![row],
        )
    }

    /// Histograms of the layers' outputs before, during and after training, of the first seed.
    fn layers(&self, activation: Activation, strategy: InitStrategy) -> Figure {
        let stages = &self.of(activation, strategy)[0].stages;
        let x = format!("{} output", super::name(activation));
        let rows = stages.iter().enumerate().map(|(stage, report)| {
            let panels = report.layers.iter().enumerate().map(|(depth, layer)| {
                let range = histogram_range(activation);
                super::histogram(&layer.data, depth, strategy.into(), &x, range)
            });
            Row {
                label: name_of(stage),
                panels: panels.collect(),
            }
        });
        Figure::new(
            format!("layers-{strategy}"),
            format!(
                "What four layers of {} put out while they learn, started from {}",
                super::name(activation),
                super::label(strategy)
            ),
            "A histogram of each layer's outputs for the same 1000 validation images, of one network.",
            rows.collect(),
        )
        .stepped("stage of training")
    }

    /// Layer by layer, at every stage: the std of outputs and gradients, and how far a step moves the
    /// weights.
    fn numbers(&self, activation: Activation) -> Figure {
        let panel = |stage, depth, title: &str, y: Axis, number: &dyn Fn(&Report, usize) -> f64| {
            let series = InitStrategy::ALL.into_iter().flat_map(|strategy| {
                let runs = self.of(activation, strategy);
                let points = (0..depth).map(move |layer| {
                    let values = runs.iter().map(|run| number(&run.stages[stage], layer));
                    ((layer + 1) as f64, values.collect())
                });
                Series::spread(super::label(strategy), strategy, points)
            });
            Panel {
                title: title.into(),
                x: Axis::linear("layer", [0.8, (HIDDEN + 1) as f64 + 0.2]),
                y,
                series: series.collect(),
            }
        };
        let stages = self.runs[0].1.stages.len();
        let rows = (0..stages).map(|stage| Row {
            label: name_of(stage),
            panels: vec![
                panel(
                    stage,
                    HIDDEN,
                    "outputs",
                    Axis::log("std of the outputs", [1e-6, 1e5]),
                    &|report, layer| report.layers[layer].data.std,
                ),
                panel(
                    stage,
                    HIDDEN,
                    "gradients",
                    Axis::log("std of the gradient", [1e-12, 1e2]),
                    &|report, layer| gradient(&report.layers[layer]),
                ),
                panel(
                    stage,
                    HIDDEN + 1,
                    "updates (healthy: about -3)",
                    Axis::linear("log10(update / weight)", [-8.0, 0.0]),
                    &update,
                ),
            ],
        });
        Figure::new(
            format!("numbers-{activation}"),
            format!("Four layers of {} in numbers, while they learn", super::name(activation)),
            "Medians over seeds, and the band from least to largest. What is 0 has no place on a logarithmic \
             axis: most of what starts from zeros. An update is what one training step does to a layer's \
             weights; the fifth layer is the one that gives the answers.",
            rows.collect(),
        )
        .stepped("stage of training")
    }

    fn claims(&self) -> Vec<Claim> {
        use InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};
        let relu = |strategy, number: &dyn Fn(&Run) -> f64| {
            self.median(Activation::Relu, strategy, number)
        };
        let accuracy = |run: &Run| run.accuracies.last().copied().unwrap_or(0.0);
        let final_loss = |run: &Run| curve(run).last().map_or(f64::NAN, |it| it[1]);
        let steps_to_1 = |run: &Run| steps_to_1(&smooth(&run.losses));
        let first_loss = |run: &Run| run.losses[0].unwrap_or(f64::INFINITY);
        let mut claims = vec![
            Claim::new(
                "With weights of 0 a ReLU network learns nothing but how frequent the classes are",
                GOODFELLOW,
                "distance of the last training loss from log(10) = 2.303, in nats",
                (relu(Zeros, &final_loss) - CHANCE).abs(),
                Bound::AtMost(0.02),
            ),
            Claim::new(
                "With N(0, 0.01²) it does not learn at all in these steps",
                SAITO,
                "validation accuracy at the end (guessing: 0.1)",
                relu(SmallNormal, &accuracy),
                Bound::AtMost(0.2),
            ),
            Claim::new(
                "With Xavier it learns",
                SAITO,
                "validation accuracy at the end",
                relu(Xavier, &accuracy),
                Bound::AtLeast(0.85),
            ),
            Claim::new(
                "With He it learns",
                SAITO,
                "validation accuracy at the end",
                relu(He, &accuracy),
                Bound::AtLeast(0.85),
            ),
            Claim::new(
                "He learns faster than Xavier",
                SAITO,
                "steps until the loss is below 1, He over Xavier",
                relu(He, &steps_to_1) / relu(Xavier, &steps_to_1),
                Bound::Below(1.0),
            ),
            Claim::new(
                "Too large weights start from a loss far above that of a guess, which is log(10) = 2.303",
                KARPATHY,
                "first loss with N(0, 1), over log(10)",
                relu(StandardNormal, &first_loss) / CHANCE,
                Bound::AtLeast(10.0),
            ),
            Claim::new(
                "A healthy start has the loss of a guess, log(10) = 2.303",
                KARPATHY,
                "first loss with He, over log(10)",
                relu(He, &first_loss) / CHANCE,
                Bound::Between(0.9, 1.1),
            )
            .why(
                "He keeps the scale of the signal up to the answers, so the first ones are guesses, but \
                 confident ones. Karpathy makes the weights of the last layer smaller for that.",
            ),
            Claim::new(
                "In healthy training an update is about a thousandth of the weights",
                KARPATHY,
                "log10 of update over weight with He after one epoch, mean over the layers",
                relu(He, &|run| {
                    let layers = (0..=HIDDEN).map(|layer| update(&run.stages[1], layer));
                    layers.sum::<f64>() / (HIDDEN + 1) as f64
                }),
                Bound::Between(-4.0, -2.0),
            ),
        ];
        if self.activations.contains(&Activation::Tanh) {
            claims.push(Claim::new(
                "With Xavier a tanh network learns",
                GLOROT,
                "validation accuracy at the end",
                self.median(Activation::Tanh, Xavier, accuracy),
                Bound::AtLeast(0.85),
            ));
        }
        claims
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "activation",
            "strategy",
            "seed",
            "step",
            "training_loss",
            "validation_accuracy",
            "test_accuracy",
            "layer",
            "output_mean",
            "output_std",
            "zeros",
            "saturated",
            "dead_units",
            "distinct_units",
            "gradient_std",
            "log10_update_to_weight",
        ]);
        let none = || serde_json::Value::Null;
        for (config, run) in &self.runs {
            for (i, loss) in run.losses.iter().enumerate() {
                let step = i + 1;
                let epoch = step / self.steps;
                let accuracy = (step % self.steps == 0).then(|| run.accuracies[epoch - 1]);
                let test = (step == run.losses.len()).then_some(run.test);
                table.push(row![
                    config.activation,
                    config.strategy,
                    config.seed,
                    step,
                    loss,
                    accuracy,
                    test,
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                    none(),
                ]);
            }
            for (stage, report) in run.stages.iter().enumerate() {
                let step = (stage * self.steps + 1).min(run.losses.len());
                for (i, layer) in report.layers.iter().enumerate() {
                    table.push(row![
                        config.activation,
                        config.strategy,
                        config.seed,
                        step,
                        none(),
                        none(),
                        none(),
                        i + 1,
                        layer.data.mean,
                        layer.data.std,
                        layer.data.zeros,
                        layer.saturated,
                        layer.dead,
                        layer.units - layer.duplicates,
                        gradient(layer),
                        update(report, i),
                    ]);
                }
            }
        }
        table
    }
}

/// The smoothed training loss by step; infinite where it is no number.
fn curve(run: &Run) -> Vec<[f64; 2]> {
    let points = smooth(&run.losses).into_iter().enumerate();
    points
        .map(|(i, loss)| [middle(i), loss.unwrap_or(f64::INFINITY)])
        .collect()
}

/// What a stage is called.
fn name_of(stage: usize) -> String {
    match stage {
        0 => "before training".into(),
        1 => "after 1 epoch".into(),
        _ => format!("after {stage} epochs"),
    }
}

fn gradient(layer: &Layer) -> f64 {
    layer.gradient.as_ref().map_or(0.0, |gradient| gradient.std)
}

/// The logarithm to base 10 of the std of a step's update over that of the weights of a layer; minus
/// infinity where there is nothing to compare.
fn update(report: &Report, layer: usize) -> f64 {
    let parameters = report.parameters.iter();
    let mut weights = parameters.filter(|it| it.name.ends_with("weight"));
    let weight = weights.nth(layer).expect("a layer has weights");
    match weight.std {
        0.0 => f64::NEG_INFINITY,
        _ => weight.update_to_data().unwrap_or(f64::NAN),
    }
}
