//! Why batch norm stands at every layer.
//!
//! Three views: how far a small change of the first layer's weights moves the input of each later
//! layer; the percentiles of one unit's input over training (Ioffe & Szegedy 2015, figure 1); and
//! networks of 10, 20 and 30 layers with Xavier, He and batch norm (after He et al. 2015, figures 2
//! and 3).

use std::sync::{Arc, Mutex};

use burn::module::{Module, Param};
use burn::tensor::{Tensor, TensorData};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::claim::{HE, IOFFE};
use super::setup::{SMOOTH, loss, middle, mlp, normal, probe, smooth, steps_to_1};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::figure::{Axis, Color, Figure, Panel, Row, Series, Shape, median};
use crate::model::{Classifier, Mlp, MlpConfig, ModelConfig, Normalization};
use crate::train::{Job, OptimizerKind, Schedule, TrainConfig, TrainingStep, initial_model};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::norm::Mode;
use burn_kindling::observe::{self, Observer};

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let experiment = Experiment::BatchNormDepth;

    let mut changes = Vec::new();
    for norms in Norms::ALL {
        changes.extend(setup.seeds(10, 5).map(|seed| Change {
            norms,
            size: CHANGE,
            seed,
        }));
    }
    let shifts = setup.runs(
        experiment,
        [1, 3],
        &changes,
        Change::network,
        |change, network, _| Ok(shifts(setup, change, network)),
    )?;

    let (images, epochs) = setup.pick((55_000, 55), (11_000, 6));
    let mut watched = Vec::new();
    for norm in [Normalization::None, Normalization::Batch] {
        watched.extend(setup.seeds(3, 1).map(|seed| Watched {
            norm,
            seed,
            images,
            epochs,
        }));
    }
    let wanderings = setup.runs(
        experiment,
        [2, 3],
        &watched,
        Watched::training,
        |config, training, job| wander(setup, config, training, job),
    )?;

    let (images, epochs) = setup.pick((55_000, 3), (11_000, 2));
    let mut deep = Vec::new();
    for depth in setup.pick(&[10, 20, 30][..], &[10, 30][..]) {
        for kind in Kind::ALL {
            deep.extend(setup.seeds(3, 1).map(|seed| Deep {
                depth: *depth,
                kind,
                seed,
                images,
                epochs,
            }));
        }
    }
    let learned = setup.runs(
        experiment,
        [3, 3],
        &deep,
        Deep::training,
        |config, training, job| learn(setup, config, training, job),
    )?;

    let measured = Measured {
        shifts: changes.into_iter().zip(shifts).collect(),
        wanderings: watched.into_iter().zip(wanderings).collect(),
        deep: deep.into_iter().zip(learned).collect(),
    };
    Ok(Findings {
        experiment,
        size: setup.size,
        seeds: setup.seeds,
        device: setup.device_name.clone(),
        question: "Why does batch norm stand at every layer?".into(),
        story: story(),
        figures: vec![
            measured.shift_figure(),
            measured.percentile_figure(),
            measured.accuracy_figure(),
            measured.depth_figure(),
        ],
        claims: measured.claims(),
        table: measured.table(),
    })
}

/// Where batch norm stands in the network whose first layer is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Norms {
    Nowhere,
    First,
    Everywhere,
}

impl Norms {
    const ALL: [Self; 3] = [Self::Nowhere, Self::First, Self::Everywhere];

    fn label(self) -> &'static str {
        match self {
            Self::Nowhere => "without batch norm",
            Self::First => "after the first layer only",
            Self::Everywhere => "at every layer",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Nowhere => Normalization::None.into(),
            Self::First | Self::Everywhere => Normalization::Batch.into(),
        }
    }
}

/// Layers of the network whose first is changed.
const CHANGED_DEPTH: usize = 10;
/// Std of the change, as a share of the std of the weights.
const CHANGE: f64 = 0.1;

#[derive(Clone, Serialize, Deserialize)]
struct Change {
    norms: Norms,
    /// [`CHANGE`].
    size: f64,
    seed: u64,
}

impl Change {
    /// The network before the change; it is not trained.
    fn network(&self) -> TrainConfig {
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_hidden(vec![100; CHANGED_DEPTH])
                    .with_norm(match self.norms {
                        Norms::Nowhere => Normalization::None,
                        _ => Normalization::Batch,
                    }),
            ),
            seed: self.seed,
            ..TrainConfig::default()
        }
    }
}

/// How far the change moves what each layer puts out, which is the next one's input.
///
/// A unit's outputs over the images have a mean and a std. What is measured is how far both move,
/// root mean square over the units, in units of the std before: the distance of Wasserstein between
/// normal distributions of these means and stds, over the std.
fn shifts(setup: &Setup, change: &Change, network: &TrainConfig) -> Vec<f64> {
    let mut network = mlp(initial_model(network, &setup.device));
    if change.norms == Norms::First {
        for block in &mut network.hidden[1..] {
            block.norm = None;
        }
    }
    let (_, images) = setup.split(0, 1000);
    let images = probe(&images, 1000, &setup.device).images.flatten(1, 2);
    let before = outputs(&network, images.clone());

    let weight = network.hidden[0].affine.weight.val();
    let mut random = StdRng::seed_from_u64(change.seed);
    let shape = weight.shape();
    let noise = std::iter::repeat_with(|| normal(&mut random)).take(shape.num_elements());
    let noise = TensorData::new(noise.collect::<Vec<f32>>(), shape);
    let noise = Tensor::<2>::from_data(noise, &setup.device);
    let std = weight.clone().square().mean().sqrt().into_scalar::<f64>();
    network.hidden[0].affine.weight = Param::from_tensor(weight + noise * (change.size * std));
    let after = outputs(&network, images);

    let moments = |output: &Tensor<2>| {
        let mean = output.clone().mean_dim(0);
        let std = (output.clone() - mean.clone()).square().mean_dim(0).sqrt();
        (mean, std)
    };
    let shift = |(before, after)| {
        let ((mean, std), (mean_after, std_after)) = (moments(before), moments(after));
        let moved = (mean_after - mean).square() + (std_after - std.clone()).square();
        let squares = moved.mean() / std.square().mean();
        squares.sqrt().into_scalar::<f64>()
    };
    before.iter().zip(&after).map(shift).collect()
}

/// What every hidden layer puts out, with batch norm by the statistics of these very inputs, as in
/// training.
fn outputs(network: &Mlp, input: Tensor<2>) -> Vec<Tensor<2>> {
    Mode::TestTimeAdaptation.run(|| {
        let mut signal = input;
        let blocks = network.hidden.iter();
        blocks
            .map(|block| {
                signal = block.forward(signal.clone());
                signal.clone()
            })
            .collect()
    })
}

/// A sigmoid network as in the first figure of Ioffe & Szegedy.
#[derive(Clone, Serialize, Deserialize)]
struct Watched {
    norm: Normalization,
    seed: u64,
    images: usize,
    epochs: usize,
}

/// Units of the last hidden layer that are watched.
const UNITS: usize = 10;
/// How often they are looked at in a training run.
const LOOKS: usize = 100;
const RANKS: [f64; 3] = [15.0, 50.0, 85.0];
const SMALL_BATCH: usize = 60;

#[derive(Serialize, Deserialize)]
struct Wandering {
    /// The training step of every look.
    steps: Vec<usize>,
    /// At every look, for every unit: the 15th, 50th and 85th percentile of its input.
    percentiles: Vec<Vec<[f64; 3]>>,
    /// After every epoch.
    validation: Vec<f64>,
}

impl Watched {
    fn training(&self) -> TrainConfig {
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_hidden(vec![100; 3])
                    .with_activation(Activation::Sigmoid)
                    .with_init(InitStrategy::SmallNormal)
                    // N(0, 0.1²): small, and the same as Xavier's between the hidden layers.
                    .with_weight_scale(10.0)
                    .with_norm(self.norm),
            ),
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            epochs: self.epochs,
            batch_size: SMALL_BATCH,
            seed: self.seed,
            patience: None,
            ..TrainConfig::default()
        }
    }
}

fn wander(
    setup: &Setup,
    config: &Watched,
    training: &TrainConfig,
    job: &Job,
) -> Result<Wandering, ExperimentError> {
    let (train, valid) = setup.split(config.images, 5000);
    let steps = config.epochs * train.len().div_ceil(SMALL_BATCH);
    let every = steps.div_ceil(LOOKS);
    let images = probe(&valid, 1000, &setup.device).images.flatten(1, 2);
    let looks = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let writing = looks.clone();
    let trained = setup.train(job, training, &train, &valid, move |it: TrainingStep| {
        if (it.step - 1).is_multiple_of(every) {
            let mut looks = writing.lock().expect("one writer");
            looks.0.push(it.step);
            looks.1.push(inputs_of_last(it.network, &images));
        }
    })?;
    let (steps, percentiles) = std::mem::take(&mut *looks.lock().expect("one reader"));
    Ok(Wandering {
        steps,
        percentiles,
        validation: trained
            .epochs
            .iter()
            .map(|epoch| epoch.valid.accuracy)
            .collect(),
    })
}

/// Percentiles over the images of what goes into the activations of the last hidden layer.
fn inputs_of_last(network: &Classifier, images: &Tensor<2>) -> Vec<[f64; 3]> {
    let network = mlp(network.valid());
    let (last, before) = network
        .hidden
        .split_last()
        .expect("there are hidden layers");
    let sums = Mode::TestTimeAdaptation.run(|| {
        let signal = before
            .iter()
            .fold(images.clone(), |signal, block| block.forward(signal));
        let sums = last.affine.forward(signal);
        match &last.norm {
            Some(norm) => norm.forward(sums),
            None => sums,
        }
    });
    let (_, seen) = Observer::new().with_percentiles(RANKS).run(|| {
        for unit in 0..UNITS {
            observe::watch(unit, sums.clone().narrow(1, unit, 1));
        }
    });
    let units = seen.report().layers.into_iter();
    units
        .map(|unit| std::array::from_fn(|rank| unit.data.percentiles[rank].value))
        .collect()
}

/// A deep network of ReLU layers.
#[derive(Clone, Serialize, Deserialize)]
struct Deep {
    depth: usize,
    kind: Kind,
    seed: u64,
    images: usize,
    epochs: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Xavier,
    He,
    BatchNorm,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Xavier, Self::He, Self::BatchNorm];

    fn label(self) -> &'static str {
        match self {
            Self::Xavier => super::label(InitStrategy::Xavier),
            Self::He => super::label(InitStrategy::He),
            Self::BatchNorm => "Xavier and batch norm",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Xavier => InitStrategy::Xavier.into(),
            Self::He => InitStrategy::He.into(),
            Self::BatchNorm => Normalization::Batch.into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Learned {
    /// The training losses, [smoothed](smooth).
    losses: Vec<Option<f64>>,
    /// At the end.
    validation: f64,
}

impl Deep {
    fn training(&self) -> TrainConfig {
        let (init, norm) = match self.kind {
            Kind::Xavier => (InitStrategy::Xavier, Normalization::None),
            Kind::He => (InitStrategy::He, Normalization::None),
            Kind::BatchNorm => (InitStrategy::Xavier, Normalization::Batch),
        };
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_hidden(vec![100; self.depth])
                    .with_init(init)
                    .with_norm(norm),
            ),
            optimizer: OptimizerKind::Momentum,
            learning_rate: 0.01,
            schedule: Schedule::Constant,
            epochs: self.epochs,
            batch_size: 128,
            seed: self.seed,
            patience: None,
            ..TrainConfig::default()
        }
    }
}

fn learn(
    setup: &Setup,
    config: &Deep,
    training: &TrainConfig,
    job: &Job,
) -> Result<Learned, ExperimentError> {
    let (train, valid) = setup.split(config.images, 5000);
    let losses = Arc::new(Mutex::new(Vec::new()));
    let writing = losses.clone();
    let trained = setup.train(job, training, &train, &valid, move |it: TrainingStep| {
        writing.lock().expect("one writer").push(loss(&it));
    })?;
    let losses = losses.lock().expect("one reader");
    Ok(Learned {
        losses: smooth(&losses),
        validation: trained
            .epochs
            .last()
            .map_or(0.0, |epoch| epoch.valid.accuracy),
    })
}

fn story() -> Vec<String> {
    vec![
        "A layer learns from what the layers before it hand over. But they learn too, so what it gets \
         keeps moving, and the deeper it sits, the more changes add up before they reach it. Batch norm \
         at every layer puts each unit's input back to mean 0 and std 1 (then to the mean and std that it \
         has learned to want), so the input of a layer keeps its range whatever the layers before it do."
            .into(),
        "First: the first layer's weights are changed at random, by a tenth of their size, and nothing \
         else. How far do the outputs of the layers behind it move, compared with how much they vary \
         between images? Without batch norm the change goes through all layers nearly as it is. Batch norm \
         after the first layer takes away most of it, batch norm at every layer still more."
            .into(),
        "Second: the input of one sigmoid unit is followed through training, by the values that 15, 50 \
         and 85 of 100 images lie below. Third: ReLU networks of 10, 20 and 30 layers. Xavier loses half \
         of the signal at every layer, so the deeper the network, the longer it takes to get going: with \
         30 layers it guesses for most of the training. He and batch norm keep the signal, and start at \
         once."
            .into(),
    ]
}

struct Measured {
    shifts: Vec<(Change, Vec<f64>)>,
    wanderings: Vec<(Watched, Wandering)>,
    deep: Vec<(Deep, Learned)>,
}

impl Measured {
    /// How far the outputs of a layer move, repeated.
    fn shift(&self, norms: Norms, layer: usize) -> Vec<f64> {
        let runs = self
            .shifts
            .iter()
            .filter(|(change, _)| change.norms == norms);
        runs.map(|(_, shifts)| shifts[layer]).collect()
    }

    fn shift_figure(&self) -> Figure {
        let series = Norms::ALL.into_iter().flat_map(|norms| {
            let points =
                (0..CHANGED_DEPTH).map(|layer| ((layer + 1) as f64, self.shift(norms, layer)));
            let series = Series::spread(norms.label(), norms.color(), points);
            match norms {
                Norms::First => series.map(Series::dashed),
                _ => series,
            }
        });
        Figure::new(
            "shift",
            "How far the outputs of each layer move when the first layer's weights change by a tenth",
            "How far a layer's outputs move, in units of their std over the images: median over seeds, and the \
             band from least to largest.",
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::linear("layer", [0.8, CHANGED_DEPTH as f64 + 0.2]),
                    y: Axis::log("shift (in stds)", [0.001, 1.0]),
                    series: series.collect(),
                }],
            }],
        )
    }

    fn percentile_figure(&self) -> Figure {
        let first = |norm| {
            self.wanderings
                .iter()
                .find(|(config, _)| config.norm == norm)
        };
        let norms = [Normalization::None, Normalization::Batch];
        let panels = norms.into_iter().filter_map(first).map(|(config, run)| {
            let at =
                |look: usize, rank: usize| [run.steps[look] as f64, run.percentiles[look][0][rank]];
            let looks = 0..run.steps.len();
            let band = looks.clone().map(|look| {
                let [step, low] = at(look, 0);
                [step, low, at(look, 2)[1]]
            });
            let line = looks.map(|look| at(look, 1));
            let name = match config.norm {
                Normalization::None => "without batch norm",
                _ => "with batch norm",
            };
            Panel {
                title: name.into(),
                x: Axis::linear(
                    "training step",
                    [0.0, run.steps[run.steps.len() - 1] as f64],
                ),
                y: Axis::linear("input of the unit", [-3.0, 3.0]),
                series: vec![
                    Series::new("", config.norm, Shape::Band(band.collect())),
                    Series::new(
                        format!("median {name}"),
                        config.norm,
                        Shape::Line(line.collect()),
                    ),
                ],
            }
        });
        Figure::new(
            "percentiles",
            "Input of one sigmoid unit over training: median, and 15th to 85th percentile",
            "Of 1000 validation images, 15 in 100 lie below the band and 15 above it, and one half below the \
             line. One unit of one network.",
            vec![Row {
                label: String::new(),
                panels: panels.collect(),
            }],
        )
    }

    /// The validation accuracies of the watched networks after an epoch.
    fn validation(&self, norm: Normalization, epoch: usize) -> Vec<f64> {
        let runs = self
            .wanderings
            .iter()
            .filter(|(config, _)| config.norm == norm);
        runs.map(|(_, run)| run.validation[epoch]).collect()
    }

    fn epochs(&self) -> usize {
        self.wanderings[0].0.epochs
    }

    fn accuracy_figure(&self) -> Figure {
        let epochs = self.epochs();
        let norms = [
            (Normalization::None, "without batch norm"),
            (Normalization::Batch, "with batch norm"),
        ];
        let series = norms.into_iter().flat_map(|(norm, name)| {
            let points = (0..epochs).map(|it| ((it + 1) as f64, self.validation(norm, it)));
            Series::spread(name, norm, points)
        });
        Figure::new(
            "accuracy",
            "Validation accuracy of the same sigmoid networks over training",
            "Medians over seeds, and the band from least to largest.",
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::linear("epoch", [0.0, epochs as f64]),
                    y: Axis::linear("validation accuracy (share)", [0.8, 1.0]),
                    series: series.collect(),
                }],
            }],
        )
    }

    fn of(&self, depth: usize, kind: Kind) -> Vec<&Learned> {
        let wanted = |config: &Deep| config.depth == depth && config.kind == kind;
        let runs = self.deep.iter().filter(|(config, _)| wanted(config));
        runs.map(|(_, run)| run).collect()
    }

    fn depths(&self) -> Vec<usize> {
        let mut depths: Vec<usize> = self.deep.iter().map(|(config, _)| config.depth).collect();
        depths.dedup();
        depths
    }

    fn depth_figure(&self) -> Figure {
        let panels = self.depths().into_iter().map(|depth| {
            let mut last: f64 = 0.0;
            let series: Vec<Series> = Kind::ALL
                .into_iter()
                .flat_map(|kind| {
                    let runs = self.of(depth, kind);
                    let points: Vec<_> = (0..runs[0].losses.len())
                        .map(|i| {
                            let step = middle(i);
                            last = last.max(step);
                            let values = runs.iter().map(|run| run.losses[i]);
                            (step, values.map(|it| it.unwrap_or(f64::INFINITY)).collect())
                        })
                        .collect();
                    Series::spread(kind.label(), kind.color(), points)
                })
                .collect();
            Panel {
                title: format!("{depth} layers"),
                x: Axis::linear("training step", [0.0, last]),
                y: Axis::linear("loss (nats)", [0.0, 3.0]),
                series,
            }
        });
        Figure::new(
            "depth",
            "Training loss of deep ReLU networks: median over seeds, and the band from least to largest",
            "A guess has a loss of 2.30. Each point is the mean of 25 steps.",
            vec![Row {
                label: String::new(),
                panels: panels.collect(),
            }],
        )
    }

    fn claims(&self) -> Vec<Claim> {
        let last = CHANGED_DEPTH - 1;
        let shift = |norms, layer| median(&self.shift(norms, layer));
        let growth = |norms| shift(norms, last) / shift(norms, 0);
        let final_accuracy = |norm| median(&self.validation(norm, self.epochs() - 1));
        // The epoch after which the accuracy reaches what is reached without batch norm at the end.
        let reaches = |norm| {
            let target = final_accuracy(Normalization::None);
            let reached =
                (0..self.epochs()).find(|&it| median(&self.validation(norm, it)) >= target);
            reached.map_or(f64::INFINITY, |epoch| (epoch + 1) as f64)
        };
        let drift = |norm| {
            let runs = self
                .wanderings
                .iter()
                .filter(|(config, _)| config.norm == norm);
            let drifts: Vec<f64> = runs
                .flat_map(|(_, run)| (0..UNITS).map(|it| drift(run, it)))
                .collect();
            median(&drifts)
        };
        let accuracy = |depth, kind| {
            let runs = self.of(depth, kind).into_iter().map(|run| run.validation);
            median(&runs.collect::<Vec<_>>())
        };
        let to_1 = |depth, kind| {
            let runs = self.of(depth, kind).into_iter();
            let steps = runs.map(|run| steps_to_1(&run.losses));
            median(&steps.collect::<Vec<_>>())
        };
        let mut claims = vec![
            Claim::new(
                "Small changes of the weights amplify as the network becomes deeper",
                IOFFE,
                "shift of layer 10's outputs over that of layer 1's, without batch norm",
                growth(Norms::Nowhere),
                Bound::AtLeast(2.0),
            )
            .why(
                "From He initialisation a ReLU layer neither stretches nor shrinks small differences, by the \
                 theory of wide layers (Schoenholz et al. 2017, arXiv:1611.01232): a change goes through as it \
                 is.",
            ),
            Claim::new(
                "Batch norm at every layer keeps them from doing so",
                IOFFE,
                "shift of layer 10's outputs with batch norm at every layer, over that without",
                shift(Norms::Everywhere, last) / shift(Norms::Nowhere, last),
                Bound::AtMost(0.5),
            ),
            Claim::new(
                "Batch norm after the first layer only is not enough",
                IOFFE,
                "shift of layer 10's outputs with batch norm after the first layer, over that at every layer",
                shift(Norms::First, last) / shift(Norms::Everywhere, last),
                Bound::AtLeast(2.0),
            )
            .why(
                "The first batch norm takes away most of the change already, and the layers behind it do not \
                 amplify the rest.",
            ),
            Claim::new(
                "With batch norm the distribution of a unit's input is far more stable over training",
                IOFFE,
                "range of its median over training, over the mean distance of its 15th and 85th percentile: \
                 with batch norm over without, median of ten units",
                drift(Normalization::Batch) / drift(Normalization::None),
                Bound::AtMost(0.5),
            ),
            Claim::new(
                "With batch norm the network trains faster",
                IOFFE,
                "epochs to the accuracy that is reached without batch norm at the end, over all epochs",
                reaches(Normalization::Batch) / self.epochs() as f64,
                Bound::AtMost(0.5),
            ),
            Claim::new(
                "With batch norm the network ends at a higher accuracy",
                IOFFE,
                "validation accuracy with batch norm minus that without, in points of percent",
                100.0
                    * (final_accuracy(Normalization::Batch) - final_accuracy(Normalization::None)),
                Bound::Above(0.0),
            ),
        ];
        for depth in self.depths() {
            if depth == 20 {
                claims.push(Claim::new(
                    "At about 20 layers both learn, He sooner than Xavier",
                    HE,
                    "steps until the loss is below 1 with 20 layers, He over Xavier",
                    to_1(20, Kind::He) / to_1(20, Kind::Xavier),
                    Bound::Below(1.0),
                ));
            }
            if depth == 30 {
                claims.push(Claim::new(
                    "At 30 layers Xavier stalls",
                    HE,
                    "validation accuracy at the end (guessing: 0.1)",
                    accuracy(30, Kind::Xavier),
                    Bound::AtMost(0.2),
                ).why(
                    "It guesses for most of the training, then begins to learn. Width matters: the networks in \
                     which it was seen to stall for good are far wider than 100 units.",
                ));
                claims.push(Claim::new(
                    "At 30 layers He learns",
                    HE,
                    "validation accuracy at the end",
                    accuracy(30, Kind::He),
                    Bound::AtLeast(0.85),
                ));
                claims.push(Claim::new(
                    "With batch norm 30 layers learn from Xavier too",
                    IOFFE,
                    "validation accuracy at the end",
                    accuracy(30, Kind::BatchNorm),
                    Bound::AtLeast(0.85),
                ));
            }
        }
        claims
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["part", "setting", "seed", "at", "quantity", "value"]);
        for (change, shifts) in &self.shifts {
            for (layer, shift) in shifts.iter().enumerate() {
                let setting = change.norms.label();
                table.push(row![
                    "shift",
                    setting,
                    change.seed,
                    layer + 1,
                    "shift_in_stds",
                    shift
                ]);
            }
        }
        for (config, run) in &self.wanderings {
            for (step, units) in run.steps.iter().zip(&run.percentiles) {
                for (unit, percentiles) in units.iter().enumerate() {
                    for (rank, value) in RANKS.iter().zip(percentiles) {
                        let quantity = format!("percentile_{rank}_of_unit_{unit}");
                        table.push(row![
                            "percentiles",
                            config.norm,
                            config.seed,
                            step,
                            quantity,
                            value
                        ]);
                    }
                }
            }
            for (epoch, accuracy) in run.validation.iter().enumerate() {
                table.push(row![
                    "accuracy",
                    config.norm,
                    config.seed,
                    epoch + 1,
                    "validation_accuracy",
                    accuracy,
                ]);
            }
        }
        for (config, run) in &self.deep {
            let setting = format!("{} layers, {}", config.depth, config.kind.label());
            for (i, loss) in run.losses.iter().enumerate() {
                let step = (i + 1) * SMOOTH;
                table.push(row![
                    "depth",
                    setting,
                    config.seed,
                    step,
                    "mean_training_loss",
                    loss
                ]);
            }
            table.push(row![
                "depth",
                setting,
                config.seed,
                run.losses.len() * SMOOTH,
                "validation_accuracy",
                run.validation,
            ]);
        }
        table
    }
}

/// The range of a unit's median over training, over the mean distance of its outer percentiles.
fn drift(run: &Wandering, unit: usize) -> f64 {
    let looks = run.percentiles.iter().map(|units| units[unit]);
    let medians = looks.clone().map(|[_, middle, _]| middle);
    let range = medians.clone().fold(f64::MIN, f64::max) - medians.fold(f64::MAX, f64::min);
    let width: f64 = looks.map(|[low, _, high]| high - low).sum();
    range * run.percentiles.len() as f64 / width
}
