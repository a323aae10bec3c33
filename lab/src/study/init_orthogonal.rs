//! Gaussian and orthogonal weights in a tanh network of 100 layers at criticality (after Pennington et al. 2017,
//! arXiv:1711.04735).

use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use burn_kindling::init::{
    Activation, InitStrategy, MeanField, Scheme, WeightEnsemble, initialize,
};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, PENNINGTON};
use super::error::ExperimentError;
use super::losses::{SMOOTH, curve, loss, smooth, steps_to};
use super::results::Results;
use super::runs::{Run, Runs, Setting};
use super::setup::{Setup, mlp, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{Block, Mlp, MlpConfig, Normalization};
use crate::train::TrainConfig;

const WIDTH: usize = 100;
const BATCH: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
enum Weights {
    Gaussian,
    Orthogonal,
}

impl Weights {
    const ALL: [Self; 2] = [Self::Gaussian, Self::Orthogonal];

    fn label(self) -> &'static str {
        match self {
            Self::Gaussian => "Gaussian",
            Self::Orthogonal => "orthogonal",
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Gaussian => InitStrategy::Xavier.into(),
            Self::Orthogonal => Color::PINK,
        }
    }

    fn scheme(self) -> Scheme {
        match self {
            Self::Gaussian => Scheme::lecun(),
            Self::Orthogonal => Scheme::orthogonal(),
        }
    }

    fn ensemble(self) -> WeightEnsemble {
        match self {
            Self::Gaussian => WeightEnsemble::Gaussian,
            Self::Orthogonal => WeightEnsemble::Orthogonal,
        }
    }
}

/// A network with these weights, trained at this learning rate.
#[derive(Clone, PartialEq, Serialize)]
struct Start(Weights, f64);

#[derive(Serialize, Deserialize)]
struct Trained {
    /// The spread of the Jacobian up to each layer from the second on, before training; see [`spreads`].
    spreads: Vec<f64>,
    /// The training losses, [smoothed](smooth).
    losses: Vec<Option<f64>>,
}

fn depth(setup: &Setup) -> usize {
    setup.pick(100, 30)
}

impl Setting for Start {
    type Result = Trained;
    const SEEDS: [usize; 2] = [2, 1];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let model = MlpConfig::new()
            .with_hidden(vec![WIDTH; depth(setup)])
            .with_activation(Activation::Tanh)
            .with_norm(Normalization::None);
        TrainConfig {
            epochs: 1,
            batch_size: BATCH,
            ..sgd(model, self.1)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let setup = run.setup;
        let steps = setup.pick(400, 100);
        let images = setup.split(steps * BATCH, 1000);
        let start = |device: &Device| {
            let network = run.config.init_model(device);
            initialize(network, self.0.scheme(), run.config.seed).0
        };
        let probed = Loader::first_batch(&images[0], 10, &setup.device)
            .images
            .flatten(1, 2);
        let spreads = spreads(&mlp(start(&setup.device)), probed);
        let network = start(&setup.device.clone().autodiff());
        let (_, losses) = run.train_from(network, &images, |losses: &mut Vec<_>, step| {
            losses.push(loss(&step));
        })?;
        Ok(Trained {
            spreads,
            losses: smooth(&losses),
        })
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let rates = setup.pick(&[0.003, 0.01, 0.03][..], &[0.01][..]);
    let settings = rates
        .iter()
        .flat_map(|&rate| Weights::ALL.map(|weights| Start(weights, rate)));
    let runs = setup.measure(name, settings)?;
    Ok(Results {
        figures: vec![jacobians(&runs, rates[0]), losses(&runs, rates)],
        claims: claims(&runs, rates),
        table: table(&runs),
        facts: vec![("layers", depth(setup).to_string())],
        ..Results::default()
    })
}

/// How far the Jacobian from the outputs of the first layer to those of each later one is from a rotation: the variance
/// of its squared singular values, divided by the square of their mean. The mean over the inputs, `[inputs, pixels]`.
///
/// With `J` of n rows, the sum of the squared singular values is `sum J²`, and that of their squares is `sum (JᵀJ)²`.
fn spreads(network: &Mlp, inputs: Tensor<2>) -> Vec<f64> {
    let (first, later) = network.hidden.split_first().expect("there are layers");
    let mut output = first.forward(inputs);
    let [inputs, n] = output.dims();
    let mut jacobian = Tensor::<2>::eye(n, &output.device())
        .unsqueeze::<3>()
        .expand([inputs, n, n]);
    let sum = |matrix: Tensor<3>| matrix.square().sum_dim(1).sum_dim(2);
    let layer = |block: &Block<Linear>| {
        output = block.forward(output.clone());
        // The slope of tanh, `1 - tanh²`.
        let slope = output.clone().square().neg() + 1.0;
        let weight = block.affine.weight.val().unsqueeze::<3>();
        jacobian = jacobian.clone().matmul(weight) * slope.unsqueeze_dim::<3>(1);
        let squares = jacobian.clone().transpose().matmul(jacobian.clone());
        let spread = sum(squares) * n as f64 / sum(jacobian.clone()).square() - 1.0;
        spread.mean().into_scalar::<f64>()
    };
    later.iter().map(layer).collect()
}

/// The [`spreads`] that theory predicts.
fn predict(weights: Weights, depth: usize) -> Vec<f64> {
    let theory = MeanField::new(Activation::Tanh, 1.0);
    let layers = InitStrategy::Xavier.propagate(Activation::Tanh, vec![WIDTH; depth], 1.0);
    let sums = layers.iter().skip(1).scan(0.0, |sum, layer| {
        *sum += theory.jacobian_variance(layer.pre_activation, 1, weights.ensemble());
        Some(*sum)
    });
    sums.collect()
}

/// The points `(2, first), (3, second), ...`: spreads start at the second layer.
fn from_2(spreads: Vec<f64>) -> Vec<[f64; 2]> {
    let spreads = spreads.into_iter().enumerate();
    spreads
        .map(|(i, spread)| [(i + 2) as f64, spread])
        .collect()
}

/// Plots the spreads, measured and predicted. They do not depend on the learning rate.
fn jacobians(runs: &Runs<Start>, rate: f64) -> Figure {
    let depth = 1 + runs.0[0].result.spreads.len();
    let series = Weights::ALL.into_iter().flat_map(|weights| {
        let measured = runs.curve(Start(weights, rate), |run| from_2(run.spreads.clone()));
        let theory = from_2(predict(weights, depth));
        let [band, line] = Series::spread(weights.label(), weights.color(), measured);
        let theory = Series::line("", weights.color(), theory).stroke(Stroke::Dashed);
        [band, line, theory]
    });
    let panel = Panel::new(
        Axis::linear("layer", [0.0, depth as f64]),
        Axis::log("variance / mean²", [0.1, 1000.0]),
    )
    .with(series);
    Figure::new(
        "jacobian",
        "Spread of the Jacobian up to each layer: measured (lines), theory (dashes)",
        "The variance of its squared singular values divided by the square of their mean, before training. The Jacobian starts from the outputs of layer 1. At \
         0, the layers turn their inputs without stretching any of them.",
    )
    .panel(panel)
}

fn losses(runs: &Runs<Start>, rates: &[f64]) -> Figure {
    let panels = rates.iter().map(|&rate| {
        let curves = Weights::ALL.map(|weights| {
            let points = runs.curve(Start(weights, rate), |run| curve(&run.losses));
            (weights, points)
        });
        let last = curves[0].1.last().map_or(0.0, |(step, _)| *step);
        let series = curves
            .map(|(weights, points)| Series::spread(weights.label(), weights.color(), points));
        Panel::new(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 3.0]),
        )
        .titled(format!("learning rate {rate}"))
        .with(series.into_iter().flatten())
    });
    Figure::new(
        "loss",
        "Training loss of deep tanh networks",
        "Guessing gives a loss of 2.30. Each point is the mean of 25 steps.",
    )
    .row("", panels)
}

fn claims(runs: &Runs<Start>, rates: &[f64]) -> Vec<Claim> {
    use Weights::{Gaussian, Orthogonal};
    let depth = 1 + runs.0[0].result.spreads.len();
    let spread =
        |weights, layer: usize| runs.median(Start(weights, rates[0]), |run| run.spreads[layer - 2]);
    let predicted = predict(Orthogonal, depth);
    let theory = (2..=depth).zip(&predicted).map(|(layer, predicted)| {
        let ratio = spread(Orthogonal, layer) / predicted;
        ratio.max(1.0 / ratio)
    });
    // The smallest number over the learning rates.
    let best = |weights, number: &dyn Fn(&Trained) -> f64| {
        let rates = rates.iter();
        let numbers = rates.map(|&rate| runs.median(Start(weights, rate), number));
        numbers.fold(f64::INFINITY, f64::min)
    };
    let last = |run: &Trained| curve(&run.losses).last().map_or(f64::NAN, |it| it[1]);
    let level = best(Gaussian, &last);
    let all = (runs.0[0].result.losses.len() * SMOOTH) as f64;
    let steps = best(Orthogonal, &|run| steps_to(level, &run.losses)) / all;
    let quantity = "steps until the loss is below the last one with Gaussian weights, divided by all steps; each at its \
                    best learning rate";
    vec![
        PENNINGTON
            .says("With Gaussian weights, the squared singular values of the Jacobian spread in proportion to depth")
            .measured(
                format!("their variance / mean² after {depth} layers, divided by the number of layers"),
                spread(Gaussian, depth) / (depth - 1) as f64,
            )
            .holds_if(Bound::Between(0.5, 2.0))
            .why(
                "The theory is about layers much wider than the network is deep. For n positive numbers, variance / mean² \
                 cannot exceed n - 1, here 99.",
            ),
        PENNINGTON
            .says("With orthogonal weights at criticality, a tanh network keeps them together")
            .measured(
                format!("their variance / mean² after {depth} layers, orthogonal divided by Gaussian"),
                spread(Orthogonal, depth) / spread(Gaussian, depth),
            )
            .holds_if(Bound::AtMost(0.1)),
        PENNINGTON
            .says("With orthogonal weights, their spread is as the theory of wide layers predicts")
            .measured(
                "largest factor between measured and predicted variance / mean²",
                theory.fold(1.0, f64::max),
            )
            .holds_if(Bound::AtMost(1.5)),
        PENNINGTON
            .says("With orthogonal weights, a deep tanh network learns faster")
            .measured(quantity, steps)
            .holds_if(Bound::Below(1.0)),
        PENNINGTON
            .says("It learns faster by orders of magnitude")
            .measured(quantity, steps)
            .holds_if(Bound::AtMost(0.1)),
    ]
}

/// Tabulates the runs. A loss is the mean over the steps up to `step`; before training, `step` is 0.
fn table(runs: &Runs<Start>) -> Table {
    let mut table = Table::new(&["weights", "learning_rate", "seed", "step", "layer"]);
    for run in &runs.0 {
        let Start(weights, rate) = run.setting;
        let key =
            |step: usize, layer: Option<usize>| (weights.label(), rate, run.seed, step, layer);
        let spreads = &run.result.spreads;
        let predicted = predict(weights, spreads.len() + 1);
        for (i, (&spread, predicted)) in spreads.iter().zip(predicted).enumerate() {
            let values = [
                ("jacobian_variance", spread),
                ("predicted_jacobian_variance", predicted),
            ];
            table.add(key(0, Some(i + 2)), values);
        }
        for (i, loss) in run.result.losses.iter().enumerate() {
            let values = [("mean_training_loss", loss.unwrap_or(f64::NAN))];
            table.add(key((i + 1) * SMOOTH, None), values);
        }
    }
    table
}
