//! Residual branches that start at 0, by a last gamma of 0 (Goyal et al. 2017, arXiv:1706.02677, section 5.1).

use burn::data::dataloader::DataLoader;
use burn::module::{Module, ParamGroup};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use burn_kindling::init::{Activation, InitPlan, InitStrategy, MeanField, Residual};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Observer, watch};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, GOYAL};
use super::error::ExperimentError;
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::MlpConfig;
use crate::train::TrainConfig;

const WIDTH: usize = 100;
const BATCH: usize = 128;

/// A residual network of perceptron blocks.
#[derive(Module, Debug)]
struct Network {
    input: Linear,
    blocks: Vec<Block>,
    output: Linear,
}

/// `x + norm2(second(relu(norm1(first(x)))))`.
#[derive(Module, Debug)]
struct Block {
    first: Linear,
    norm1: BatchNorm,
    second: Linear,
    norm2: BatchNorm,
}

impl Block {
    fn new(device: &Device) -> Self {
        let linear = || {
            LinearConfig::new(WIDTH, WIDTH)
                .with_bias(false)
                .init(device)
        };
        let norm = || BatchNormConfig::new(WIDTH).init(device);
        Self {
            first: linear(),
            norm1: norm(),
            second: linear(),
            norm2: norm(),
        }
    }

    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let branch = self.norm1.forward_relu(self.first.forward(input.clone()));
        input + self.norm2.forward(self.second.forward(branch))
    }
}

impl Network {
    fn new(depth: usize, device: &Device) -> Self {
        Self {
            input: LinearConfig::new(784, WIDTH).init(device),
            blocks: (0..depth).map(|_| Block::new(device)).collect(),
            output: LinearConfig::new(WIDTH, 10).init(device),
        }
    }

    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        let mut signal = self.input.forward(images);
        for (i, block) in self.blocks.iter().enumerate() {
            signal = watch(format_args!("blocks.{i}"), block.forward(signal));
        }
        self.output.forward(relu(signal))
    }
}

/// A network whose branches end in this gamma, trained at this learning rate.
#[derive(Clone, PartialEq, Serialize)]
struct Start(f64, f64);

#[derive(Serialize, Deserialize)]
struct Trained {
    /// The second moment of the input of the first block and of the output of each block, before training.
    second_moments: Vec<f64>,
    /// The training loss of every step; `None` if it is not finite.
    losses: Vec<Option<f64>>,
}

const GAMMAS: [f64; 2] = [1.0, 0.0];

fn label(gamma: f64) -> String {
    format!("last gamma {gamma}")
}

fn color(gamma: f64) -> Color {
    match gamma {
        0.0 => Color::PINK,
        _ => InitStrategy::He.into(),
    }
}

fn depth(setup: &Setup) -> usize {
    setup.pick(20, 10)
}

impl Setting for Start {
    type Result = Trained;
    const SEEDS: [usize; 2] = [5, 1];

    /// The training. Its network is not a residual one, and is not used.
    fn config(&self, _setup: &Setup) -> TrainConfig {
        TrainConfig {
            epochs: 1,
            batch_size: BATCH,
            ..sgd(MlpConfig::new(), self.1)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let setup = run.setup;
        let device = setup.device.clone().autodiff();
        let last_norms = ParamGroup::from_regex(r"norm2\.gamma$").expect("the pattern is valid");
        let plan = InitPlan::new(InitStrategy::He).fill(last_norms, self.0);
        let (mut network, _) = plan.apply(Network::new(depth(setup), &device), run.config.seed);

        let steps = setup.pick(100, 50);
        let [images, _] = setup.split(steps * BATCH, 1);
        let probed = Loader::first_batch(&images, 500, &device)
            .images
            .flatten(1, 2);
        let mut second_moments = Vec::new();
        let (_, seen) = Observer::new().run(|| {
            // Not trained: only the statistics of the batch are of interest.
            let network = network.clone();
            watch("input", network.input.forward(probed.clone()));
            network.forward(probed)
        });
        for layer in seen.report().layers {
            second_moments.push(layer.data.rms().powi(2));
        }

        let loss = CrossEntropyLossConfig::new().init(&device);
        let mut optimizer = SgdConfig::new().init();
        let mut losses = Vec::new();
        let loader = Loader::new(images, BATCH, device.clone()).shuffled(run.config.seed);
        for batch in loader.iter() {
            if setup.interrupter.should_stop() {
                return Err(ExperimentError::Interrupted);
            }
            let batch = batch.expect("a set in memory gives every batch");
            let logits = network.forward(batch.images.flatten(1, 2));
            let loss = loss.forward(logits, batch.targets);
            let gradients = GradientsParams::from_grads(loss.backward(), &network);
            network = optimizer.step(self.1, network, gradients);
            let loss = loss.into_scalar::<f64>();
            losses.push(loss.is_finite().then_some(loss));
        }
        Ok(Trained {
            second_moments,
            losses,
        })
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let rates = setup.pick(&[0.03, 0.1, 0.3, 1.0][..], &[0.1][..]);
    let settings = rates
        .iter()
        .flat_map(|&rate| GAMMAS.map(|gamma| Start(gamma, rate)));
    let runs = setup.measure(name, settings)?;
    Ok(Results {
        figures: vec![signals(&runs, rates[0]), losses(&runs, rates)],
        claims: claims(&runs, rates),
        table: table(&runs),
        facts: vec![("blocks", depth(setup).to_string())],
        ..Results::default()
    })
}

/// The second moments after each block that theory predicts.
fn predict(gamma: f64, first: f64, depth: usize) -> Vec<f64> {
    let branch = MeanField::new(Activation::Relu, 2.0);
    let blocks = Residual::new(branch, 2)
        .with_batch_norm(gamma)
        .propagate(depth, first, 0.0);
    let after = blocks.iter().map(|block| block.second_moment);
    std::iter::once(first).chain(after).collect()
}

/// Plots the second moments before training. They do not depend on the learning rate.
fn signals(runs: &Runs<Start>, rate: f64) -> Figure {
    let depth = runs.0[0].result.second_moments.len() - 1;
    let series = GAMMAS.into_iter().flat_map(|gamma| {
        let measured = runs.curve(Start(gamma, rate), |run| from_1(run.second_moments.clone()));
        let first = runs.median(Start(gamma, rate), |run| run.second_moments[0]);
        let theory = from_1(predict(gamma, first, depth));
        let [band, line] = Series::spread(label(gamma), color(gamma), measured);
        let theory = Series::line("", color(gamma), theory).stroke(Stroke::Dashed);
        [band, line, theory]
    });
    let panel = Panel::new(
        Axis::linear(
            "blocks, from the input of the first",
            [1.0, 1.0 + depth as f64],
        ),
        Axis::linear("mean square", [0.0, 5.0 + depth as f64]),
    )
    .with(series);
    Figure::new(
        "signal",
        "The signal along the blocks before training: measured (lines), theory (dashes)",
        "The mean square over units and 500 images.",
    )
    .panel(panel)
}

fn losses(runs: &Runs<Start>, rates: &[f64]) -> Figure {
    let panels = rates.iter().map(|&rate| {
        let curves = GAMMAS.map(|gamma| {
            let points = runs.curve(Start(gamma, rate), |run| {
                from_1(run.losses.iter().map(|loss| loss.unwrap_or(f64::INFINITY)))
            });
            (gamma, points)
        });
        let last = curves[0].1.last().map_or(0.0, |(step, _)| *step);
        let series =
            curves.map(|(gamma, points)| Series::spread(label(gamma), color(gamma), points));
        Panel::new(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 4.0]),
        )
        .titled(format!("learning rate {rate}"))
        .with(series.into_iter().flatten())
    });
    Figure::new(
        "loss",
        "Training loss of a residual network",
        "Guessing gives a loss of 2.30.",
    )
    .row("", panels)
}

fn claims(runs: &Runs<Start>, rates: &[f64]) -> Vec<Claim> {
    let depth = runs.0[0].result.second_moments.len() - 1;
    let last = |gamma| {
        runs.median(Start(gamma, rates[0]), |run| {
            run.second_moments[depth] - run.second_moments[0]
        })
    };
    // The mean over all steps; infinite if a loss is not finite.
    let mean = |run: &Trained| {
        let sum = run
            .losses
            .iter()
            .map(|loss| loss.unwrap_or(f64::INFINITY))
            .sum::<f64>();
        sum / run.losses.len() as f64
    };
    let best = |gamma| {
        let means = rates
            .iter()
            .map(|&rate| runs.median(Start(gamma, rate), mean));
        means.fold(f64::INFINITY, f64::min)
    };
    let largest = rates[rates.len() - 1];
    let at_largest = |gamma| runs.median(Start(gamma, largest), mean);
    vec![
        GOYAL
            .says("With a last gamma of 0, every residual block starts as the identity")
            .measured("growth of the mean square over all blocks", last(0.0))
            .holds_if(Bound::AtMost(1e-6)),
        GOYAL
            .says("With a last gamma of 1, every block adds as much as a normalised signal has")
            .measured("growth of the mean square per block", last(1.0) / depth as f64)
            .holds_if(Bound::Between(0.8, 1.2)),
        GOYAL
            .says("A last gamma of 0 helps at the start of training, if the learning rate is high")
            .measured(
                format!("mean loss of the first steps at a learning rate of {largest}, gamma 0 divided by gamma 1"),
                at_largest(0.0) / at_largest(1.0),
            )
            .holds_if(Bound::Below(1.0)),
        GOYAL
            .says("It also helps if each network has its best learning rate")
            .measured(
                "lowest mean loss of the first steps, gamma 0 divided by gamma 1",
                best(0.0) / best(1.0),
            )
            .holds_if(Bound::Below(1.0)),
    ]
}

/// Tabulates the runs. Before training, `step` is 0.
fn table(runs: &Runs<Start>) -> Table {
    let mut table = Table::new(&["last_gamma", "learning_rate", "seed", "step", "block"]);
    for run in &runs.0 {
        let Start(gamma, rate) = run.setting;
        let key = |step: usize, block: Option<usize>| (gamma, rate, run.seed, step, block);
        for (i, &moment) in run.result.second_moments.iter().enumerate() {
            table.add(key(0, Some(i)), [("second_moment", moment)]);
        }
        for (i, loss) in run.result.losses.iter().enumerate() {
            let values = [("training_loss", loss.unwrap_or(f64::NAN))];
            table.add(key(i + 1, None), values);
        }
    }
    table
}
