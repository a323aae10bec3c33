//! What batch norm does to the sums of one unit in one batch, and how its running statistics follow the batches.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use burn_kindling::init::InitStrategy;
use burn_kindling::norm::{BatchNorm, Mode};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, IOFFE};
use super::error::ExperimentError;
use super::inference::{BATCH, training};
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, mlp};
use super::table::Table;
use crate::figure::{Axis, Color, Figure, Panel, Series, Shape, Stroke};
use crate::model::{Classifier, ModelConfig, Norm, Normalization};
use crate::train::TrainConfig;

/// Bins of a histogram.
const BINS: usize = 40;

/// A network with batch norm in its first steps of training. Its weights come from N(0, 1), so that there is much to
/// normalise.
#[derive(Clone, PartialEq, Serialize)]
struct Network {
    /// The hidden layer that is watched, and its unit, both counted from 0.
    layer: usize,
    unit: usize,
}

/// Nothing distinguishes this unit.
const NETWORK: Network = Network { layer: 2, unit: 3 };

#[derive(Default, Serialize, Deserialize)]
struct Watched {
    /// The statistics of the unit's sums at every step.
    steps: Vec<Step>,
    /// The last batch.
    last: Last,
}

#[derive(Serialize, Deserialize)]
struct Step {
    /// Over the batch. The variance is unbiased, as in the running one.
    mean: f64,
    variance: f64,
    /// After the batch.
    running_mean: f64,
    running_variance: f64,
}

/// The unit's value for every image of the last batch, at three points.
#[derive(Default, Serialize, Deserialize)]
struct Last {
    sums: Vec<f64>,
    normalised: Vec<f64>,
    /// After gamma and beta.
    output: Vec<f64>,
    gamma: f64,
    beta: f64,
    /// Over the units of the layer, after normalisation: how far a mean is from 0 at most, and a std from 1.
    furthest: [f64; 2],
}

impl Setting for Network {
    type Result = Watched;
    const SEEDS: [usize; 2] = [1, 1];

    fn config(&self, _: &Setup) -> TrainConfig {
        let config = training(1, BATCH);
        match config.model {
            ModelConfig::Mlp(model) => TrainConfig {
                model: ModelConfig::Mlp(model.with_init(InitStrategy::StandardNormal)),
                ..config
            },
            _ => config,
        }
    }

    fn run(&self, run: &Run) -> Result<Watched, ExperimentError> {
        let steps = run.setup.pick(150, 60);
        let images = run.setup.split(steps * BATCH, 1000);
        let steps = images[0].len().div_ceil(BATCH);
        let (_, watched) = run.train(&images, move |watched: &mut Watched, it| {
            let batch = it.batch.images.clone().without_autodiff().flatten(1, 2);
            let (sums, norm) = sums(it.network, batch);
            let (mean, variance) = moments(&unit(&sums));
            let images = sums.dims()[0] as f64;
            watched.steps.push(Step {
                mean,
                variance: variance * images / (images - 1.0),
                running_mean: number(norm.running_mean.value_sync()),
                running_variance: number(norm.running_var.value_sync()),
            });
            if it.step == steps {
                watched.last = last(sums, norm);
            }
        })?;
        Ok(watched)
    }
}

/// What the norm of the layer gets for a batch of images, `[images, units]`, and the norm.
fn sums(network: &Classifier, images: Tensor<2>) -> (Tensor<2>, BatchNorm) {
    let mut network = mlp(network.valid());
    // The batch's own statistics, as in training.
    let sums = Mode::TestTimeAdaptation.run(|| {
        let before = network.hidden[..NETWORK.layer].iter();
        let signal = before.fold(images, |signal, block| block.forward(signal));
        network.hidden[NETWORK.layer].affine.forward(signal)
    });
    let Some(Norm::Batch(norm)) = network.hidden[NETWORK.layer].norm.take() else {
        unreachable!("the network has this crate's batch norm");
    };
    (sums, norm)
}

fn last(sums: Tensor<2>, norm: BatchNorm) -> Last {
    let normalise = |norm: &BatchNorm| Mode::TestTimeAdaptation.run(|| norm.forward(sums.clone()));
    // Without its learned part.
    let mut plain = norm.clone();
    plain.gamma = Param::from_tensor(norm.gamma.val().ones_like());
    plain.beta = Param::from_tensor(norm.beta.val().zeros_like());
    let normalised = normalise(&plain);
    let mean = normalised.clone().mean_dim(0);
    let std = (normalised.clone() - mean.clone())
        .square()
        .mean_dim(0)
        .sqrt();
    let furthest = |distance: Tensor<2>| distance.abs().max().into_scalar::<f64>();
    Last {
        furthest: [furthest(mean), furthest(std - 1.0)],
        output: unit(&normalise(&norm)),
        gamma: number(norm.gamma.val()),
        beta: number(norm.beta.val()),
        normalised: unit(&normalised),
        sums: unit(&sums),
    }
}

/// The values of the unit, one per image.
fn unit(values: &Tensor<2>) -> Vec<f64> {
    values
        .clone()
        .narrow(1, NETWORK.unit, 1)
        .into_data()
        .iter::<f64>()
        .collect()
}

/// The number of the unit.
fn number(numbers: Tensor<1>) -> f64 {
    numbers.narrow(0, NETWORK.unit, 1).into_scalar::<f64>()
}

/// The mean and the biased variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean).powi(2));
    (mean, squares.sum::<f64>() / count)
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let runs = setup.measure(name, [NETWORK])?;
    Ok(Results {
        figures: vec![batch_figure(&runs), running_figure(&runs)],
        claims: claims(&runs),
        table: table(&runs),
        facts: facts(&runs),
        ..Results::default()
    })
}

/// What the first seed measured.
fn first(runs: &Runs<Network>) -> &Watched {
    &runs.0[0].result
}

/// Plots the last batch of the first seed at the three points, on the same axes.
fn batch_figure(runs: &Runs<Network>) -> Figure {
    let last = &first(runs).last;
    let points = [&last.sums, &last.normalised, &last.output];
    let values = points.into_iter().flatten();
    let bound = values
        .fold(1.0, |bound: f64, value| bound.max(value.abs()))
        .ceil();
    let bars = points.map(|values| histogram(values, bound));
    let tallest = bars.iter().flatten().map(|bar| bar[2]).fold(0.1, f64::max);
    let panel = |title: &str, point: usize, color: Color| {
        let values = points[point];
        let (mean, variance) = moments(values);
        Panel::new(
            Axis::linear("value of the unit", [-bound, bound]),
            Axis::linear("share of the images", [0.0, (10.0 * tallest).ceil() / 10.0]),
        )
        .titled(title)
        .noted([
            format!("mean {}", in_cents(mean)),
            format!("std {}", in_cents(variance.sqrt())),
        ])
        .with([Series::new("", color, Shape::Bars(bars[point].clone()))])
    };
    let norm = Normalization::Batch.into();
    let panels = [
        panel("1 before", 0, Color::GREY),
        panel("2 normalised", 1, norm),
        panel("3 gamma, beta", 2, norm),
    ];
    Figure::new(
        "batch",
        "One unit in one batch: before, normalised, and after gamma and beta",
        format!(
            "The values of a unit for the {} images of the last batch.",
            last.sums.len()
        ),
    )
    .row("", panels)
}

/// Bins values over `-bound` to `bound`: `(from, to, share)` of each bin.
fn histogram(values: &[f64], bound: f64) -> Vec<[f64; 3]> {
    let width = 2.0 * bound / BINS as f64;
    let bin = |i: usize| {
        let (from, to) = (i as f64 * width - bound, (i + 1) as f64 * width - bound);
        let inside = values
            .iter()
            .filter(|value| (from..to).contains(value))
            .count();
        [from, to, inside as f64 / values.len() as f64]
    };
    (0..BINS).map(bin).collect()
}

/// Plots the statistics of the batches of the first seed, and the running ones.
fn running_figure(runs: &Runs<Network>) -> Figure {
    let steps = &first(runs).steps;
    let panel = |title: &str, batch: fn(&Step) -> f64, running: fn(&Step) -> f64| {
        let values = || steps.iter().flat_map(|step| [batch(step), running(step)]);
        let (low, high) = values().fold((0.0, 1.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        Panel::new(
            Axis::linear("training step", [0.0, steps.len() as f64]),
            Axis::linear(title, [low.floor(), high.ceil()]),
        )
        .titled(title)
        .with([
            Series::line("each batch", Color::INK, from_1(steps.iter().map(batch)))
                .stroke(Stroke::Dotted),
            Series::line(
                "running average",
                Normalization::Batch,
                from_1(steps.iter().map(running)),
            ),
        ])
    };
    Figure::new(
        "running",
        "The statistics of the batches, and the running averages that follow them",
        "The same unit in the first steps of a training. The running mean starts from 0 and the running variance from 1.",
    )
    .row(
        "",
        [
            panel("mean", |it| it.mean, |it| it.running_mean),
            panel("variance", |it| it.variance, |it| it.running_variance),
        ],
    )
}

/// A number with two decimals. A zero has no sign.
fn in_cents(number: f64) -> String {
    format!("{:.2}", (100.0 * number).round() / 100.0 + 0.0)
}

fn facts(runs: &Runs<Network>) -> Vec<(&'static str, String)> {
    let last = &first(runs).last;
    let (mean, variance) = moments(&last.sums);
    vec![
        ("images", last.sums.len().to_string()),
        ("mean", in_cents(mean)),
        ("std", in_cents(variance.sqrt())),
        ("gamma", in_cents(last.gamma)),
        ("beta", in_cents(last.beta)),
    ]
}

fn claims(runs: &Runs<Network>) -> Vec<Claim> {
    let [mean, std] = [0, 1].map(|i| runs.median(NETWORK, |run| run.last.furthest[i]));
    // The root mean square change from one step to the next, once the running average has left its start.
    let change = |run: &Watched, number: fn(&Step) -> f64| {
        let steps = &run.steps[run.steps.len() / 2..];
        let changes = steps
            .windows(2)
            .map(|pair| number(&pair[1]) - number(&pair[0]));
        changes.map(|change| change.powi(2)).sum::<f64>().sqrt()
    };
    let steadier = runs.median(NETWORK, |run| {
        change(run, |it| it.running_mean) / change(run, |it| it.mean)
    });
    vec![
        IOFFE
            .says("Normalised, every unit of the layer has mean 0 over the batch")
            .measured("largest distance of a unit's mean from 0", mean)
            .holds_if(Bound::AtMost(1e-3)),
        IOFFE
            .says("And it has std 1")
            .measured("largest distance of a unit's std from 1", std)
            .holds_if(Bound::AtMost(0.01)),
        IOFFE
            .says("A running average changes far less from step to step than the batches do")
            .measured(
                "change from one step to the next in the second half (root mean square), running mean divided by batch mean",
                steadier,
            )
            .holds_if(Bound::AtMost(0.2)),
    ]
}

/// Tabulates every step.
fn table(runs: &Runs<Network>) -> Table {
    let mut table = Table::new(&["seed", "step"]);
    for run in &runs.0 {
        for (i, step) in run.result.steps.iter().enumerate() {
            let values = [
                ("batch_mean", step.mean),
                ("batch_variance", step.variance),
                ("running_mean", step.running_mean),
                ("running_variance", step.running_variance),
            ];
            table.add((run.seed, i + 1), values);
        }
    }
    table
}
