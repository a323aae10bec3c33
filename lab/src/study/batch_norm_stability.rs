//! The input of a unit over training: its percentiles, with and without batch norm (Ioffe & Szegedy 2015, figure 1).

use burn::module::Module;
use burn::tensor::Tensor;
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::norm::{Mode, Then};
use burn_kindling::observe::{self, Observer};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, IOFFE};
use super::error::ExperimentError;
use super::results::Results;
use super::runs::{Run, Runs, Setting, accuracies, from_1};
use super::setup::{Setup, mlp, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Figure, Panel, Series, Shape, median};
use crate::model::{Classifier, MlpConfig, Normalization};
use crate::train::TrainConfig;

/// Units of the last hidden layer that are observed.
const UNITS: usize = 10;
/// How often they are observed in a training run.
const LOOKS: usize = 100;
const RANKS: [f64; 3] = [15.0, 50.0, 85.0];
const BATCH: usize = 60;
const NORMS: [Normalization; 2] = [Normalization::None, Normalization::Batch];

/// A sigmoid network as in the first figure of Ioffe & Szegedy.
#[derive(Clone, PartialEq, Serialize)]
struct Network(Normalization);

#[derive(Serialize, Deserialize)]
struct Trained {
    looks: Vec<Look>,
    /// Validation accuracy after every epoch: 0 to 1.
    accuracies: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
struct Look {
    /// The training step, from 1.
    step: usize,
    /// The 15th, 50th and 85th percentile of each unit's input.
    percentiles: Vec<[f64; 3]>,
}

/// The numbers of training images and epochs.
fn extent(setup: &Setup) -> (usize, usize) {
    setup.pick((55_000, 55), (11_000, 6))
}

impl Setting for Network {
    type Result = Trained;
    const SEEDS: [usize; 2] = [3, 1];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let model = MlpConfig::new()
            .with_hidden(vec![100; 3])
            .with_activation(Activation::Sigmoid)
            .with_init(InitStrategy::SmallNormal)
            // N(0, 0.1²): small, and the same as Xavier's between the hidden layers.
            .with_weight_scale(10.0)
            .with_norm(self.0);
        TrainConfig {
            epochs: extent(setup).1,
            batch_size: BATCH,
            ..sgd(model, 0.1)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let (images, epochs) = extent(run.setup);
        let images = run.setup.split(images, 5000);
        let steps = epochs * images[0].len().div_ceil(BATCH);
        let every = steps.div_ceil(LOOKS);
        let probed = Loader::first_batch(&images[1], 1000, &run.setup.device);
        let probed = probed.images.flatten(1, 2);
        let (trained, looks) = run.train(&images, move |looks: &mut Vec<Look>, it| {
            if (it.step - 1).is_multiple_of(every) {
                looks.push(Look {
                    step: it.step,
                    percentiles: inputs_of_last(it.network, &probed),
                });
            }
        })?;
        Ok(Trained {
            looks,
            accuracies: accuracies(&trained),
        })
    }
}

/// The percentiles, over the images, of each activation's input in the last hidden layer.
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
            Some(norm) => norm.forward(sums, Then::new()),
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

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let runs = setup.measure(name, NORMS.map(Network))?;
    let (images, epochs) = extent(setup);
    let steps = setup.split(images, 0)[0].len().div_ceil(BATCH);
    Ok(Results {
        figures: vec![percentile_figure(&runs), accuracy_figure(&runs, epochs)],
        claims: claims(&runs, epochs),
        table: table(&runs, steps),
        ..Results::default()
    })
}

fn label(norm: Normalization) -> &'static str {
    match norm {
        Normalization::None => "without batch norm",
        _ => "with batch norm",
    }
}

/// Plots the first unit of the first seed.
fn percentile_figure(runs: &Runs<Network>) -> Figure {
    let figure = Figure::new(
        "percentiles",
        "Input of one sigmoid unit over training: median, and 15th to 85th percentile",
        "For 15 % of 1000 validation images the input lies below the band, for 15 % above it, and for half of them \
         below the line. One unit of one network.",
    );
    let panels = NORMS.into_iter().filter_map(|norm| {
        let network = Network(norm);
        let looks = &runs.of(&network).next()?.looks;
        let points = looks.iter().map(|it| (it.step as f64, it.percentiles[0]));
        let band = points
            .clone()
            .map(|(step, [low, _, high])| [step, low, high]);
        let line = points.map(|(step, [_, median, _])| [step, median]);
        let last = looks.last()?.step as f64;
        let panel = Panel::new(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("input of the unit", [-3.0, 3.0]),
        );
        Some(panel.titled(label(norm)).with([
            Series::new("", norm, Shape::Band(band.collect())),
            Series::line(format!("median {}", label(norm)), norm, line),
        ]))
    });
    figure.row("", panels)
}

fn accuracy_figure(runs: &Runs<Network>, epochs: usize) -> Figure {
    let series = NORMS.into_iter().flat_map(|norm| {
        let curve = runs.curve(Network(norm), |run| from_1(run.accuracies.iter().copied()));
        Series::spread(label(norm), norm, curve)
    });
    let panel = Panel::new(
        Axis::linear("epoch", [0.0, epochs as f64]),
        Axis::linear("accuracy (share)", [0.8, 1.0]),
    );
    Figure::new(
        "accuracy",
        "Validation accuracy of the same sigmoid networks over training",
        "Medians over seeds, with bands from the smallest to the largest value.",
    )
    .panel(panel.with(series))
    .fold()
}

fn claims(runs: &Runs<Network>, epochs: usize) -> Vec<Claim> {
    let accuracy = |norm, epoch: usize| runs.median(Network(norm), |run| run.accuracies[epoch]);
    let final_accuracy = |norm| accuracy(norm, epochs - 1);
    // The first epoch whose accuracy reaches the final accuracy without batch norm.
    let reaches = |norm| {
        let target = final_accuracy(Normalization::None);
        let reached = (0..epochs).find(|&epoch| accuracy(norm, epoch) >= target);
        reached.map_or(f64::INFINITY, |epoch| (epoch + 1) as f64)
    };
    let drift = |norm| {
        let network = Network(norm);
        let drifts = runs
            .of(&network)
            .flat_map(|run| (0..UNITS).map(|it| drift(run, it)));
        median(&drifts.collect::<Vec<_>>())
    };
    vec![
        IOFFE
            .says("With batch norm, the distribution of a unit's input is far more stable over training")
            .measured(
                "range of its median over training, divided by the mean distance between its 15th and 85th \
                 percentile: with batch norm divided by without, median of ten units",
                drift(Normalization::Batch) / drift(Normalization::None),
            )
            .holds_if(Bound::AtMost(0.5)),
        IOFFE
            .says("With batch norm, the network trains faster")
            .measured(
                "epochs to the final accuracy without batch norm, with batch norm divided by without",
                reaches(Normalization::Batch) / reaches(Normalization::None),
            )
            .holds_if(Bound::Below(1.0))
            .why(
                "Batch norm is ahead in the first epochs and at the end, but not in between.",
            ),
        IOFFE
            .says("With batch norm, the network ends at a higher accuracy")
            .measured(
                "validation accuracy with batch norm minus that without, in percentage points",
                100.0 * (final_accuracy(Normalization::Batch) - final_accuracy(Normalization::None)),
            )
            .holds_if(Bound::Above(0.0)),
    ]
}

/// The range of a unit's median over training, divided by the mean distance between its outer percentiles.
fn drift(run: &Trained, unit: usize) -> f64 {
    let looks = run.looks.iter().map(|look| look.percentiles[unit]);
    let medians = looks.clone().map(|[_, middle, _]| middle);
    let range = medians.clone().fold(f64::MIN, f64::max) - medians.fold(f64::MAX, f64::min);
    let width: f64 = looks.map(|[low, _, high]| high - low).sum();
    range * run.looks.len() as f64 / width
}

/// Tabulates the runs. Numbers of the whole network have no unit.
fn table(runs: &Runs<Network>, steps: usize) -> Table {
    let mut table = Table::new(&["norm", "seed", "step", "unit"]);
    for run in &runs.0 {
        let key = |step: usize, unit: Option<usize>| (run.setting.0, run.seed, step, unit);
        for look in &run.result.looks {
            for (unit, &[low, median, high]) in look.percentiles.iter().enumerate() {
                let values = [
                    ("percentile_15", low),
                    ("percentile_50", median),
                    ("percentile_85", high),
                ];
                table.add(key(look.step, Some(unit)), values);
            }
        }
        for (i, &accuracy) in run.result.accuracies.iter().enumerate() {
            table.add(
                key((i + 1) * steps, None),
                [("validation_accuracy", accuracy)],
            );
        }
    }
    table
}
