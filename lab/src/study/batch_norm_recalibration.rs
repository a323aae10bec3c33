//! Out-of-date running statistics, and recalibrating them: four kinds of statistics over the first steps of a training,
//! and two kinds after an epoch in batches of all sizes (after Wu & Johnson 2021, arXiv:2105.07576).

use burn::module::Module;
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, RunningAverage};
use serde::Serialize;

use super::claim::{Bound, Claim, KINGMA, WU};
use super::error::ExperimentError;
use super::inference::{BATCH, recalibrated, sample, training, with_norms};
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, mlp};
use super::table::Table;
use crate::data::{DigitBatch, Loader};
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{Classifier, Mlp, MlpConfig, Norm, Normalization};
use crate::train::{TrainConfig, evaluate};

const AVERAGES: [RunningAverage; 3] = [
    RunningAverage::Exponential,
    RunningAverage::DebiasedExponential,
    RunningAverage::Cumulative,
];
/// The names of [`AVERAGES`], and of recalibrated statistics.
const KINDS: [&str; 4] = [
    "exponential",
    "debiased exponential",
    "cumulative",
    "recalibrated",
];
const EXPONENTIAL: usize = 0;
const DEBIASED: usize = 1;
const RECALIBRATED: usize = 3;

/// The first steps of a training.
#[derive(Clone, PartialEq, Serialize)]
struct FirstSteps;

impl Setting for FirstSteps {
    /// Validation accuracy at every step, with each of [`KINDS`].
    type Result = Vec<[f64; 4]>;
    const SEEDS: [usize; 2] = [5, 2];

    fn config(&self, _: &Setup) -> TrainConfig {
        training(1, BATCH)
    }

    /// Trains the network. Three copies of its norms see the same batches, each with its own kind of average.
    fn run(&self, run: &Run) -> Result<Vec<[f64; 4]>, ExperimentError> {
        let setup = run.setup;
        let images = setup.split(setup.pick(150, 60) * BATCH, 1000);
        let test = Loader::first_batch(&images[1], 1000, &setup.device);
        let sample = sample(setup);
        let aside: [Vec<BatchNorm>; 3] = AVERAGES.map(|average| {
            let norms = MlpConfig::new().hidden.into_iter().map(|units| {
                BatchNormConfig::new(units)
                    .with_average(average)
                    .init(&setup.device)
            });
            norms.collect()
        });
        let (_, scores) = run.train(&images, move |scores: &mut Vec<_>, it| {
            let network = mlp(it.network.valid());
            let batch = it.batch.images.clone().without_autodiff().flatten(1, 2);
            let [exponential, debiased, cumulative] = aside.each_ref().map(|norms| {
                let network = with_statistics_of(network.clone(), norms);
                Mode::Training.run(|| network.features(batch.clone()));
                accuracy(network, &test)
            });
            let recalibrated = accuracy(recalibrated(&network, &sample), &test);
            scores.push([exponential, debiased, cumulative, recalibrated]);
        })?;
        Ok(scores)
    }
}

/// One epoch of training in batches of this size.
#[derive(Clone, PartialEq, Serialize)]
struct BatchSize(usize);

const BATCHES: [usize; 7] = [2, 4, 8, 32, 128, 512, 2048];

impl Setting for BatchSize {
    /// Test accuracy with the exponential average, and with recalibrated statistics.
    type Result = [f64; 2];
    const SEEDS: [usize; 2] = [5, 2];

    fn config(&self, _: &Setup) -> TrainConfig {
        training(1, self.0)
    }

    fn run(&self, run: &Run) -> Result<[f64; 2], ExperimentError> {
        let setup = run.setup;
        let images = setup.split(setup.pick(11_000, 2000), 1000);
        let (trained, ()) = run.train(&images, |_, _| {})?;
        let network = mlp(trained.network);
        let recalibrated = recalibrated(&network, &sample(setup));
        Ok([network, recalibrated].map(|network| {
            evaluate(&Classifier::Mlp(network), &setup.data.test, &setup.device).accuracy
        }))
    }
}

/// Gives a network the statistics of other norms. It keeps its own gammas and betas.
fn with_statistics_of(network: Mlp, norms: &[BatchNorm]) -> Mlp {
    with_norms(network, norms, |norm, gamma, beta| {
        let mut norm = norm.clone();
        (norm.gamma, norm.beta) = (gamma, beta);
        Norm::Batch(norm)
    })
}

/// The share of the images that the network classifies correctly.
fn accuracy(network: Mlp, batch: &DigitBatch) -> f64 {
    let output = Classifier::Mlp(network).forward_step(batch.clone());
    output.right() as f64 / batch.targets.dims()[0] as f64
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let first_steps = setup.measure(name, [FirstSteps])?;
    let epochs = setup.measure(name, BATCHES.map(BatchSize))?;
    Ok(Results {
        figures: vec![first_steps_figure(&first_steps), batch_size_figure(&epochs)],
        claims: claims(&first_steps, &epochs),
        table: table(&first_steps, &epochs),
        ..Results::default()
    })
}

fn first_steps_figure(runs: &Runs<FirstSteps>) -> Figure {
    let steps = runs.0[0].result.len();
    let series = KINDS.into_iter().enumerate().flat_map(|(kind, name)| {
        let curve = runs.curve(FirstSteps, |scores| {
            from_1(scores.iter().map(|it| it[kind]))
        });
        let (color, stroke) = match kind {
            EXPONENTIAL => (Color::INK, Stroke::Solid),
            DEBIASED => (Color::INK, Stroke::Dashed),
            RECALIBRATED => (Normalization::Batch.into(), Stroke::Solid),
            _ => (Color::INK, Stroke::Dotted),
        };
        Series::spread(name, color, curve).map(|series| series.stroke(stroke))
    });
    let panel = Panel::new(
        Axis::log("training step", [1.0, steps as f64]),
        Axis::linear("accuracy (share)", [0.0, 1.0]),
    );
    Figure::new(
        "averages",
        "Validation accuracy in the first training steps",
        "Medians over seeds, with bands from the smallest to the largest value.",
    )
    .panel(panel.with(series))
}

/// Plots the accuracy over the batch size, after Wu & Johnson's figures of the validation error.
fn batch_size_figure(runs: &Runs<BatchSize>) -> Figure {
    let by_size =
        |i: usize| BATCHES.map(|size| (size as f64, runs.values(BatchSize(size), |it| it[i])));
    let panel = Panel::new(
        Axis::log("images in a training batch", [1.0, 3000.0]),
        Axis::linear("test accuracy (share)", [0.0, 1.0]),
    )
    .with(Series::spread(KINDS[EXPONENTIAL], Color::INK, by_size(0)))
    .with(Series::spread(
        KINDS[RECALIBRATED],
        Normalization::Batch,
        by_size(1),
    ));
    Figure::new(
        "batch-sizes",
        "Test accuracy after one epoch, by batch size",
        "The larger the batches, the fewer steps an epoch has, and the fewer batches the average has seen.",
    )
    .panel(panel)
}

/// Tests the claims. Leads are in percentage points.
fn claims(first_steps: &Runs<FirstSteps>, epochs: &Runs<BatchSize>) -> Vec<Claim> {
    let curve = |kind: usize| -> Vec<f64> {
        let steps = 0..first_steps.0[0].result.len();
        steps
            .map(|step| first_steps.median(FirstSteps, |it| it[step][kind]))
            .collect()
    };
    // The largest lead of one kind over another in the first steps.
    let lead = |kind, other, steps| {
        let (kind, other) = (curve(kind), curve(other));
        let leads = kind.iter().zip(&other).take(steps).map(|(a, b)| a - b);
        100.0 * leads.fold(f64::NEG_INFINITY, f64::max)
    };
    // The lead of recalibrated statistics after an epoch, by the batch size.
    let by_size = BATCHES.map(|size| 100.0 * epochs.median(BatchSize(size), |[a, b]| b - a));
    vec![
        WU.says("Recalibrated statistics are never worse than the exponential average")
            .measured(
                "largest lead of the exponential average in early steps, in percentage points",
                lead(EXPONENTIAL, RECALIBRATED, usize::MAX),
            )
            .holds_if(Bound::AtMost(1.0)),
        WU.says("They are far better while the average lags")
            .measured(
                "largest lead of recalibrated statistics in early steps, in percentage points",
                lead(RECALIBRATED, EXPONENTIAL, usize::MAX),
            )
            .holds_if(Bound::AtLeast(10.0)),
        KINGMA
            .says("Without the pull of its start, the exponential average is better early on")
            .measured(
                "largest lead of the debiased average in the first 20 steps, in percentage points",
                lead(DEBIASED, EXPONENTIAL, 20),
            )
            .holds_if(Bound::AtLeast(5.0)),
        WU.says("After training, too, recalibrated statistics are never worse, at any batch size")
            .measured(
                "their smallest lead over the exponential average, batches of 2 to 2048, in percentage points",
                by_size.into_iter().fold(f64::INFINITY, f64::min),
            )
            .holds_if(Bound::AtLeast(-1.0)),
        WU.says("With large batches, and thus few steps, they are far better")
            .measured(
                "their lead over the exponential average, batches of 2048, in percentage points",
                by_size[by_size.len() - 1],
            )
            .holds_if(Bound::AtLeast(10.0))
            .why("The lead depends much on the seed."),
    ]
}

/// Tabulates validation accuracy for the first steps, and test accuracy for the epochs in batches of other sizes.
fn table(first_steps: &Runs<FirstSteps>, epochs: &Runs<BatchSize>) -> Table {
    let mut table = Table::new(&["statistics", "seed", "batch_size", "step"]);
    for run in &first_steps.0 {
        for (i, scores) in run.result.iter().enumerate() {
            for (kind, &score) in KINDS.iter().zip(scores) {
                let key = (kind, run.seed, BATCH, Some(i + 1));
                table.add(key, [("validation_accuracy", score)]);
            }
        }
    }
    for run in &epochs.0 {
        let kinds = [KINDS[EXPONENTIAL], KINDS[RECALIBRATED]];
        for (kind, score) in kinds.into_iter().zip(run.result) {
            let key = (kind, run.seed, run.setting.0, None::<usize>);
            table.add(key, [("test_accuracy", score)]);
        }
    }
    table
}
