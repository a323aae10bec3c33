//! The five initialisations, trained on MNIST.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): 784-100-100-100-100-10, plain
//! SGD at 0.01, batches of 128, about 2000 steps. The layers are looked at with Karpathy's set of
//! diagnostics (*Building makemore*, part 3), before every epoch and after the last.

use std::sync::{Arc, Mutex};

use burn::module::Module;
use serde::{Deserialize, Serialize};

use super::setup::{histogram_range, loss, middle, probe, smooth};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::init::{Activation, InitStrategy};
use crate::lab::model::{Classifier, MlpConfig, ModelConfig, Normalization};
use crate::lab::report::{Axis, Color, Figure, Panel, Row, Series, Shape, median};
use crate::lab::train::{Job, OptimizerKind, Schedule, TrainConfig};
use crate::observe::{Observer, Report};

const SAITO: &str = "Saito, Deep Learning from Scratch, ch. 6";
const KARPATHY: &str = "Karpathy, Building makemore, part 3";
const SYMMETRY: &str = "Goodfellow et al., Deep Learning, sec. 8.4";

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
    /// Of the same validation images before every epoch, and after the last.
    stages: Vec<Report>,
}

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let activations: &[Activation] = setup.pick(
        &[Activation::Relu, Activation::Tanh, Activation::Sigmoid],
        &[Activation::Relu],
    );
    let (images, epochs) = setup.pick((55_000, 5), (11_000, 4));
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
    let name = Experiment::InitTraining.to_string();
    let runs = setup.runs(&name, &configs, |config, job| train(setup, config, job))?;
    let trained = Runs {
        runs: configs.into_iter().zip(runs).collect(),
        activations: activations.to_vec(),
        epochs,
        steps: images.div_ceil(BATCH),
    };
    Ok(Findings {
        experiment: Experiment::InitTraining,
        size: setup.size,
        question: "Which first weights let a network learn?".into(),
        story: story(),
        figures: trained.figures(),
        claims: trained.claims(),
        table: trained.table(),
    })
}

fn train(setup: &Setup, config: &Config, job: &Job) -> Result<Run, ExperimentError> {
    let (train, valid) = setup.split(config.images, 5000);
    let steps = train.len().div_ceil(BATCH);
    let training = TrainConfig {
        model: ModelConfig::Mlp(
            MlpConfig::new()
                .with_hidden(vec![100; HIDDEN])
                .with_activation(config.activation)
                .with_init(config.strategy)
                .with_norm(Normalization::None),
        ),
        optimizer: OptimizerKind::Sgd,
        learning_rate: LEARNING_RATE,
        schedule: Schedule::Constant,
        epochs: config.epochs,
        batch_size: BATCH,
        seed: config.seed,
        patience: None,
        ..TrainConfig::default()
    };
    let device = setup.device.clone().autodiff();
    let seen_by = probe(&valid, 1000, &device);
    let [low, high] = histogram_range(config.activation);
    let observer = Observer::new().with_range(low, high);
    let look = move |network: &Classifier| {
        let (output, mut seen) = observer.run(|| network.forward_step(seen_by.clone()));
        seen.backward(network, &output.loss.backward());
        seen.report()
    };

    let notes = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let (writing, looking) = (notes.clone(), look.clone());
    let trained = setup.train(job, &training, &train, &valid, move |it| {
        let (losses, stages): &mut (Vec<_>, Vec<_>) = &mut writing.lock().expect("one writer");
        losses.push(loss(&it));
        if (it.step - 1).is_multiple_of(steps) {
            stages.push(looking(it.network));
        }
    })?;
    let (losses, mut stages) = std::mem::take(&mut *notes.lock().expect("one reader"));
    let test = crate::lab::train::evaluate(&trained.network, &setup.data.test, &setup.device);
    stages.push(look(&trained.network.train()));
    Ok(Run {
        losses,
        accuracies: trained
            .epochs
            .iter()
            .map(|epoch| epoch.valid.accuracy)
            .collect(),
        test: test.accuracy,
        stages,
    })
}

fn story() -> Vec<String> {
    vec![
        "The same five starts, now trained: a network of four hidden layers of 100 units learns to read \
         handwritten digits, 128 at a time. The loss says how surprised it is by the right answer: 2.30 \
         means that it gives each of the ten digits the same chance, 0 that it is sure and right."
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
        "Step through the epochs to see the outputs of every ReLU layer change while the network learns."
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
        for strategy in InitStrategy::ALL {
            figures.push(self.layers(Activation::Relu, strategy));
        }
        figures.push(self.updates());
        figures
    }

    /// A panel an activation, a median line and the spread over seeds for each initialisation.
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
            "Training loss over steps. With ReLU, He falls first and Xavier soon after; zeros and \
             N(0, 0.01²) stay at 2.30, the loss of a guess; N(0, 1) is off the scale. With tanh, He and \
             Xavier fall side by side. With sigmoid, N(0, 1) starts high and falls slowly, and all others \
             stay at 2.30.",
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
            "Validation accuracy over epochs. With ReLU and tanh, Xavier and He climb above 0.9; zeros and \
             N(0, 0.01²) stay at about 0.1, which is guessing. N(0, 1) stays there with ReLU, and reaches \
             about one half with tanh and sigmoid. With sigmoid, Xavier and He stay near guessing too.",
            vec![row],
        )
    }

    /// Histograms of the layers' outputs before, during and after training, of the first seed.
    fn layers(&self, activation: Activation, strategy: InitStrategy) -> Figure {
        let stages = &self.of(activation, strategy)[0].stages;
        let rows = stages.iter().enumerate().map(|(epoch, report)| {
            let panels =
                report.layers.iter().enumerate().map(|(depth, layer)| {
                    super::histogram(layer, activation, strategy.into(), depth)
                });
            Row {
                label: match epoch {
                    0 => "before training".into(),
                    1 => "after 1 epoch".into(),
                    _ => format!("after {epoch} epochs"),
                },
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
            match strategy {
                InitStrategy::Zeros => "All outputs are 0 in every layer, before and after training.",
                InitStrategy::StandardNormal => {
                    "Before training, nearly all outputs that are not 0 lie beyond the axis. After one \
                     epoch no layer but the first puts out numbers any more."
                }
                InitStrategy::SmallNormal => {
                    "A spike at 0 in every layer, hardly wider after training than before."
                }
                InitStrategy::Xavier => {
                    "Outputs fade with depth before training; training spreads the later layers out."
                }
                InitStrategy::He => {
                    "Outputs are spread alike in all layers before training, and a little wider after."
                }
            },
            rows.collect(),
        )
        .stepped("epochs of training")
    }

    /// The logarithm of update over weight, layer by layer, over training.
    fn updates(&self) -> Figure {
        // Zeros have no size to compare with; N(0, 1) has no numbers left after a few steps.
        let compared = [
            InitStrategy::SmallNormal,
            InitStrategy::Xavier,
            InitStrategy::He,
        ];
        let panels = compared.map(|strategy| {
            let run = self.of(Activation::Relu, strategy)[0];
            let shades = [
                Color::SKY,
                Color::BLUE,
                Color::GREEN,
                Color::ORANGE,
                Color::VERMILLION,
            ];
            let layers = (0..=HIDDEN).zip(shades).map(|(layer, color)| {
                let points = run.stages.iter().enumerate();
                let points = points.map(|(epoch, report)| [epoch as f64, update(report, layer)]);
                let name = format!("weights of layer {}", layer + 1);
                Series::new(name, color, Shape::Line(points.collect()))
            });
            Panel {
                title: super::label(strategy).into(),
                x: Axis::linear("epoch", [0.0, self.epochs as f64 + 0.2]),
                y: Axis::linear("log10(update / weight)", [-8.0, 0.0]),
                series: layers.collect(),
            }
        });
        Figure::new(
            "updates",
            "How far a step moves the weights, relative to their size (healthy: about -3)",
            "Logarithm of the std of a step's update over the std of the weights, layer by layer. With \
             Xavier and He all layers lie between -2 and -4, close together; with N(0, 0.01²) at -5 to -7.",
            vec![Row {
                label: String::new(),
                panels: panels.into(),
            }],
        )
    }

    fn claims(&self) -> Vec<Claim> {
        use InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};
        let relu = |strategy, number: &dyn Fn(&Run) -> f64| {
            self.median(Activation::Relu, strategy, number)
        };
        let accuracy = |run: &Run| run.accuracies.last().copied().unwrap_or(0.0);
        let final_loss = |run: &Run| curve(run).last().map_or(f64::NAN, |it| it[1]);
        // The first point of the smoothed curve below a loss of 1.
        let steps_to_1 = |run: &Run| {
            let curve = curve(run);
            let below = curve.iter().find(|[_, loss]| *loss < 1.0);
            below.map_or(f64::INFINITY, |&[step, _]| step)
        };
        let mut claims = vec![
            Claim::new(
                "With weights of 0 a ReLU network learns nothing but how frequent the classes are",
                SYMMETRY,
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
                Bound::AtMost(1.0),
            ),
            Claim::new(
                "Too large weights start from a loss far above that of a guess, which is log(10) = 2.303",
                KARPATHY,
                "first loss with N(0, 1), over log(10)",
                relu(StandardNormal, &|run| {
                    run.losses[0].unwrap_or(f64::INFINITY)
                }) / CHANCE,
                Bound::AtLeast(10.0),
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
                "Glorot & Bengio 2010",
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
        ]);
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
                ]);
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

/// The logarithm to base 10 of the std of plain SGD's update over that of the weights of a layer.
fn update(report: &Report, layer: usize) -> f64 {
    let weights: Vec<_> = report
        .parameters
        .iter()
        .filter(|parameter| parameter.name.ends_with("weight"))
        .collect();
    let ratio = weights[layer].gradient_to_data().unwrap_or(f64::NAN);
    (LEARNING_RATE * ratio).log10()
}
