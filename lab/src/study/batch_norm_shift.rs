//! Batch norm at every layer: how far a small change in the first layer's weights moves the outputs of each later
//! layer.

use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use burn_kindling::norm::Mode;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;

use super::claim::{Bound, Claim, IOFFE};
use super::error::ExperimentError;
use super::results::Results;
use super::runs::{Run, Runs, Setting, from_1};
use super::setup::{Setup, mlp, sgd};
use super::table::Table;
use crate::data::Loader;
use crate::figure::{Axis, Figure, Panel, Series, Stroke};
use crate::model::{Mlp, MlpConfig, Normalization};
use crate::train::TrainConfig;

const DEPTH: usize = 10;
/// Std of the change, as a share of the std of the weights.
const CHANGE: f64 = 0.1;

/// Which layers have batch norm.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
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

    fn normalization(self) -> Normalization {
        match self {
            Self::Nowhere => Normalization::None,
            Self::First | Self::Everywhere => Normalization::Batch,
        }
    }
}

impl Setting for Norms {
    /// How far the outputs of each layer move.
    type Result = Vec<f64>;
    const SEEDS: [usize; 2] = [10, 5];

    fn config(&self, _: &Setup) -> TrainConfig {
        let model = MlpConfig::new()
            .with_hidden(vec![100; DEPTH])
            .with_norm(self.normalization());
        // The network is not trained.
        sgd(model, 1.0)
    }

    /// Changes the first layer's weights at random and measures the shift of every layer.
    ///
    /// A unit's outputs over the images have a mean and a std. The shift of a layer is how far both move (root mean
    /// square over the units), divided by the std before the change. The distance moved is the Wasserstein distance
    /// between normal distributions with these means and stds.
    fn run(&self, run: &Run) -> Result<Vec<f64>, ExperimentError> {
        let setup = run.setup;
        let mut network = mlp(run.config.init_model(&setup.device));
        if *self == Self::First {
            for block in &mut network.hidden[1..] {
                block.norm = None;
            }
        }
        let [_, images] = setup.split(0, 1000);
        let images = Loader::first_batch(&images, 1000, &setup.device)
            .images
            .flatten(1, 2);
        let before = outputs(&network, images.clone());

        let weight = network.hidden[0].affine.weight.val();
        let mut random = StdRng::seed_from_u64(run.config.seed);
        let shape = weight.shape();
        let noise = std::iter::repeat_with(|| StandardNormal.sample(&mut random));
        let noise: Vec<f32> = noise.take(shape.num_elements()).collect();
        let noise = Tensor::<2>::from_data(TensorData::new(noise, shape), &setup.device);
        let std = weight.clone().square().mean().sqrt().into_scalar::<f64>();
        network.hidden[0].affine.weight = Param::from_tensor(weight + noise * (CHANGE * std));
        let after = outputs(&network, images);
        Ok(before.iter().zip(&after).map(shift).collect())
    }
}

/// Computes the outputs of every hidden layer. As in training, batch norm uses the statistics of these inputs.
fn outputs(network: &Mlp, mut signal: Tensor<2>) -> Vec<Tensor<2>> {
    Mode::TestTimeAdaptation.run(|| {
        let blocks = network.hidden.iter();
        blocks
            .map(|block| {
                signal = block.forward(signal.clone());
                signal.clone()
            })
            .collect()
    })
}

/// How far outputs `[images, units]` move, in stds.
fn shift((before, after): (&Tensor<2>, &Tensor<2>)) -> f64 {
    let moments = |output: &Tensor<2>| {
        let mean = output.clone().mean_dim(0);
        let std = (output.clone() - mean.clone()).square().mean_dim(0).sqrt();
        (mean, std)
    };
    let ((mean, std), (mean_after, std_after)) = (moments(before), moments(after));
    let moved = (mean_after - mean).square() + (std_after - std.clone()).square();
    let squares = moved.mean() / std.square().mean();
    squares.sqrt().into_scalar::<f64>()
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let runs = setup.measure(name, Norms::ALL)?;
    Ok(Results {
        figures: vec![figure(&runs)],
        claims: claims(&runs),
        table: table(&runs),
        ..Results::default()
    })
}

fn figure(runs: &Runs<Norms>) -> Figure {
    let series = Norms::ALL.into_iter().flat_map(|norms| {
        let curve = runs.curve(norms, |shifts| from_1(shifts.iter().copied()));
        let stroke = match norms {
            Norms::First => Stroke::Dashed,
            _ => Stroke::Solid,
        };
        Series::spread(norms.label(), norms.normalization(), curve).map(|it| it.stroke(stroke))
    });
    let panel = Panel::new(
        Axis::linear("layer", [0.8, DEPTH as f64 + 0.2]),
        Axis::log("shift (in stds)", [0.001, 1.0]),
    );
    Figure::new(
        "shift",
        "How far each layer's outputs move when the first layer's weights change by a tenth",
        "In units of their std over the images.",
    )
    .panel(panel.with(series))
}

fn claims(runs: &Runs<Norms>) -> Vec<Claim> {
    let last = DEPTH - 1;
    let shift = |norms, layer: usize| runs.median(norms, |shifts| shifts[layer]);
    let growth = |norms| shift(norms, last) / shift(norms, 0);
    vec![
        IOFFE
            .says("Small changes to the weights amplify as the network becomes deeper")
            .measured(
                "shift of layer 10's outputs divided by that of layer 1's, without batch norm",
                growth(Norms::Nowhere),
            )
            .holds_if(Bound::AtLeast(2.0))
            .why(
                "By the theory of wide layers (Schoenholz et al. 2017, arXiv:1611.01232), a ReLU layer with He \
                 initialisation neither stretches nor shrinks small differences: nothing amplifies the change.",
            ),
        IOFFE
            .says("Batch norm at every layer prevents this")
            .measured(
                "shift of layer 10's outputs: batch norm at every layer divided by no batch norm",
                shift(Norms::Everywhere, last) / shift(Norms::Nowhere, last),
            )
            .holds_if(Bound::AtMost(0.5)),
        IOFFE
            .says("Batch norm after the first layer only is not enough")
            .measured(
                "shift of layer 10's outputs: batch norm after the first layer divided by batch norm at every layer",
                shift(Norms::First, last) / shift(Norms::Everywhere, last),
            )
            .holds_if(Bound::AtLeast(2.0))
            .why(
                "The first batch norm already removes most of the change. The rest doubles in the next layer, but no \
                 later layer amplifies it.",
            ),
    ]
}

fn table(runs: &Runs<Norms>) -> Table {
    let mut table = Table::new(&["norms", "seed", "layer"]);
    for run in &runs.0 {
        for (i, &shift) in run.result.iter().enumerate() {
            table.add(
                (run.setting.label(), run.seed, i + 1),
                [("shift_in_stds", shift)],
            );
        }
    }
    table
}
