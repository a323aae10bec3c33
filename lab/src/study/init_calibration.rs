//! Calibration of a network whose layers have different activations, beside a formula and batch norm (after Mishkin &
//! Matas 2016, arXiv:1511.06422).

use burn::tensor::{Device, Tensor};
use burn_kindling::calibration::Calibrator;
use burn_kindling::init::{Activation, InitStrategy, Scheme, initialize};
use burn_kindling::norm::{Mode, Then};
use burn_kindling::observe::{Observer, Summary, watch};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, KRAHENBUHL, MISHKIN};
use super::error::ExperimentError;
use super::losses::{SMOOTH, curve, loss, smooth};
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, mlp, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Color, Figure, Panel, Series};
use crate::model::{Affine, Classifier, Mlp, MlpConfig, Normalization};
use crate::train::TrainConfig;

const WIDTH: usize = 100;
const BATCH: usize = 64;
/// The activations of the layers, in turn.
const ACTIVATIONS: [Activation; 4] = [
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Gelu,
    Activation::Relu,
];

/// What the network starts from.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
enum From {
    He,
    Xavier,
    /// Orthogonal weights, scaled by what a batch measures.
    Calibrated,
    /// The same, each unit by itself, with biases that take its mean off (Krähenbühl et al. 2016).
    ByUnit,
    /// He with batch norm before every activation.
    BatchNorm,
}

impl From {
    const ALL: [Self; 5] = [
        Self::He,
        Self::Xavier,
        Self::Calibrated,
        Self::ByUnit,
        Self::BatchNorm,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::He => "He",
            Self::Xavier => "Xavier",
            Self::Calibrated => "calibrated",
            Self::ByUnit => "calibrated by unit",
            Self::BatchNorm => "batch norm",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::He => InitStrategy::He.into(),
            Self::Xavier => InitStrategy::Xavier.into(),
            Self::Calibrated => Color::PINK,
            Self::ByUnit => Color::VERMILLION,
            Self::BatchNorm => Normalization::Batch.into(),
        }
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::He | Self::BatchNorm => Scheme::he(),
            Self::Xavier => Scheme::lecun(),
            Self::Calibrated | Self::ByUnit => Scheme::orthogonal(),
        }
    }
}

/// A network from this start, trained at this learning rate.
#[derive(Clone, PartialEq, Serialize)]
struct Start(From, f64);

#[derive(Serialize, Deserialize)]
struct Trained {
    /// The std of the output of each hidden layer, before norm and activation, before training.
    stds: Vec<f64>,
    /// The spread of the same outputs: their std over the images alone, root mean square over the units.
    spreads: Vec<f64>,
    /// How often the calibration ran the network; 0 without one.
    passes: usize,
    /// The training losses, [smoothed](smooth).
    losses: Vec<Option<f64>>,
}

fn depth(setup: &Setup) -> usize {
    setup.pick(24, 12)
}

/// Computes the logits, and names the output of every affine layer.
fn forward(network: &Mlp, mut signal: Tensor<2>) -> Tensor<2> {
    for (i, block) in network.hidden.iter().enumerate() {
        let output = Affine::forward(&block.affine, signal);
        let output = watch(format_args!("hidden.{i}.affine"), output);
        let output = match &block.norm {
            Some(norm) => norm.forward(output, Then::new()),
            None => output,
        };
        signal = block.activation.forward(output);
    }
    Affine::forward(&network.output, signal)
}

impl Start {
    /// The network before training, and the number of passes of its calibration.
    fn network(
        &self,
        run: &Run,
        device: &Device,
        batch: &Tensor<2>,
    ) -> Result<(Mlp, usize), ExperimentError> {
        let mut network = mlp(run.config.init_model(device));
        for (block, activation) in network
            .hidden
            .iter_mut()
            .zip(ACTIVATIONS.into_iter().cycle())
        {
            block.activation = activation;
        }
        let (network, _) = initialize(network, self.0.scheme(), run.config.seed);
        let calibrator = match self.0 {
            From::Calibrated => Calibrator::new(),
            From::ByUnit => Calibrator::new().per_unit(),
            _ => return Ok((network, 0)),
        };
        let forward = |network: &Mlp| forward(network, batch.clone());
        let (network, report) = calibrator.calibrate(&network, forward)?;
        Ok((network, report.passes))
    }
}

impl Setting for Start {
    type Result = Trained;
    const SEEDS: [usize; 2] = [3, 1];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let norm = match self.0 {
            From::BatchNorm => Normalization::Batch,
            _ => Normalization::None,
        };
        let model = MlpConfig::new()
            .with_hidden(vec![WIDTH; depth(setup)])
            .with_norm(norm);
        TrainConfig {
            epochs: 1,
            batch_size: BATCH,
            ..sgd(model, self.1)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let setup = run.setup;
        let steps = setup.pick(800, 100);
        let images = setup.split(steps * BATCH, 1000);
        let batch = Loader::first_batch(&images[0], 500, &setup.device)
            .images
            .flatten(1, 2);
        let (network, passes) = self.network(run, &setup.device, &batch)?;
        // Batch norm uses the statistics of the batch, as in training: its running ones have seen none yet.
        let forward = || Mode::TestTimeAdaptation.run(|| forward(&network, batch.clone()));
        let (_, seen) = Observer::new().run(forward);
        let layers = seen.report().layers;
        let each = |number: fn(&Summary) -> f64| layers.iter().map(|it| number(&it.data)).collect();
        let stds = each(|data| data.std);
        let spreads = each(|data| data.spread);

        let (network, _) = self.network(run, &setup.device.clone().autodiff(), &batch)?;
        let (_, losses) = run.train_from(
            Classifier::Mlp(network),
            &images,
            |losses: &mut Vec<_>, step| {
                losses.push(loss(&step));
            },
        )?;
        Ok(Trained {
            stds,
            spreads,
            passes,
            losses: smooth(&losses),
        })
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let rates = setup.pick(&[0.01, 0.03, 0.1, 0.3][..], &[0.1][..]);
    let settings = rates
        .iter()
        .flat_map(|&rate| From::ALL.map(|from| Start(from, rate)));
    let runs = setup.measure(name, settings)?;
    Ok(Results {
        figures: vec![signals(&runs, rates[0]), losses(&runs, rates)],
        claims: claims(&runs, rates),
        table: table(&runs),
        facts: vec![("layers", depth(setup).to_string())],
        ..Results::default()
    })
}

/// Plots the stds and spreads before training. They do not depend on the learning rate.
fn signals(runs: &Runs<Start>, rate: f64) -> Figure {
    let depth = runs.0[0].result.stds.len();
    let panel = |title: &str, numbers: fn(&Trained) -> &Vec<f64>| {
        let series = From::ALL.into_iter().flat_map(|from| {
            let measured = runs.curve(Start(from, rate), |run| from_1(numbers(run).clone()));
            Series::spread(from.label(), from.color(), measured)
        });
        Panel::new(
            Axis::linear("layer", [0.0, depth as f64]),
            Axis::log("std", [1e-4, 10.0]),
        )
        .titled(title)
        .with(series)
    };
    let panels = [
        panel("over units and images", |run| &run.stds),
        panel("over images alone", |run| &run.spreads),
    ];
    Figure::new(
        "std",
        "Output of each layer before its normalisation and activation, before training",
        "The standard deviation over units and 500 images together, and over the images for each unit. The activations take turns: sigmoid, tanh, GELU, ReLU.",
    )
    .row("", panels)
}

fn losses(runs: &Runs<Start>, rates: &[f64]) -> Figure {
    let panels = rates.iter().map(|&rate| {
        let curves = From::ALL.map(|from| {
            let points = runs.curve(Start(from, rate), |run| curve(&run.losses));
            (from, points)
        });
        let last = curves[0].1.last().map_or(0.0, |(step, _)| *step);
        let series =
            curves.map(|(from, points)| Series::spread(from.label(), from.color(), points));
        Panel::new(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 3.0]),
        )
        .titled(format!("learning rate {rate}"))
        .with(series.into_iter().flatten())
    });
    Figure::new(
        "loss",
        "Training loss of a network with four activations",
        "Guessing gives a loss of 2.30. Each point is the mean of 25 steps.",
    )
    .row("", panels)
    .fold()
}

fn claims(runs: &Runs<Start>, rates: &[f64]) -> Vec<Claim> {
    let off = |run: &Trained| {
        let off = run.stds.iter().map(|std| (std - 1.0).abs());
        off.fold(0.0, f64::max)
    };
    let passes = runs.median(Start(From::Calibrated, rates[0]), |run| run.passes as f64);
    // The loss of the last 25 steps, at the best rate.
    let last = |from| {
        let last = |run: &Trained| {
            run.losses
                .last()
                .copied()
                .flatten()
                .unwrap_or(f64::INFINITY)
        };
        let losses = rates
            .iter()
            .map(|&rate| runs.median(Start(from, rate), last));
        losses.fold(f64::INFINITY, f64::min)
    };
    let beside = |one: From, other: From| {
        let quantity = format!(
            "training loss at the end, {} divided by {}, each at its best learning rate",
            one.label(),
            other.label()
        );
        (quantity, last(one) / last(other))
    };
    let (beside_he, than_he) = beside(From::Calibrated, From::He);
    let (beside_norm, than_norm) = beside(From::Calibrated, From::BatchNorm);
    let (by_unit, than_by_unit) = beside(From::ByUnit, From::Calibrated);
    vec![
        MISHKIN
            .says("Scaling the weights by the measured std gives every layer a std of 1, whatever the activations")
            .measured(
                "largest distance of a layer's std from 1",
                runs.median(Start(From::Calibrated, rates[0]), off),
            )
            .holds_if(Bound::AtMost(0.1)),
        MISHKIN
            .says("It takes a few passes over one batch")
            .measured("passes", passes)
            .holds_if(Bound::AtMost(10.0)),
        MISHKIN
            .says("A network that starts so learns better than from He")
            .measured(beside_he, than_he)
            .holds_if(Bound::Below(1.0)),
        MISHKIN
            .says("It learns as well as with batch norm")
            .measured(beside_norm, than_norm)
            .holds_if(Bound::AtMost(1.25))
            .why(
                "A sigmoid unit's output is mostly its mean, so images look more alike from layer to layer.",
            ),
        KRAHENBUHL
            .says("It learns better still if every unit is scaled by itself and its mean is taken off")
            .measured(by_unit, than_by_unit)
            .holds_if(Bound::Below(1.0)),
    ]
}

/// Tabulates the runs. A loss is the mean over the steps up to `step`; before training, `step` is 0.
fn table(runs: &Runs<Start>) -> Table {
    let mut table = Table::new(&["start", "learning_rate", "seed", "step", "layer"]);
    for run in &runs.0 {
        let Start(from, rate) = run.setting;
        let key = |step: usize, layer: Option<usize>| (from.label(), rate, run.seed, step, layer);
        for (i, &std) in run.result.stds.iter().enumerate() {
            let spread = run.result.spreads[i];
            table.add(key(0, Some(i + 1)), [("std", std), ("spread", spread)]);
        }
        table.add(
            key(0, None),
            [("calibration_passes", run.result.passes as f64)],
        );
        for (i, loss) in run.result.losses.iter().enumerate() {
            let values = [("mean_training_loss", loss.unwrap_or(f64::NAN))];
            table.add(key((i + 1) * SMOOTH, None), values);
        }
    }
    table
}
