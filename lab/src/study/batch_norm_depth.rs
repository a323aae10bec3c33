//! How deep a network can be and still learn: 10, 20 and 30 layers with Xavier, with He, and with batch norm (after He
//! et al. 2015, figures 2 and 3).

use burn_kindling::init::InitStrategy;
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, HE, IOFFE};
use super::error::ExperimentError;
use super::layers::short;
use super::losses::{SMOOTH, curve, loss, smooth, steps_to_1};
use super::names::strategy_name;
use super::results::Results;
use super::runs::{Run, Runs, Setting, accuracies};
use super::setup::{Setup, sgd};
use super::table::Table;
use crate::figure::{Axis, Color, Figure, Panel, Series};
use crate::model::{MlpConfig, Normalization};
use crate::train::{OptimizerKind, TrainConfig};

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
enum Kind {
    Xavier,
    He,
    BatchNorm,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Xavier, Self::He, Self::BatchNorm];

    fn label(self) -> &'static str {
        match self {
            Self::Xavier => strategy_name(InitStrategy::Xavier),
            Self::He => strategy_name(InitStrategy::He),
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

/// A network of this many ReLU layers.
#[derive(Clone, PartialEq, Serialize)]
struct Deep(usize, Kind);

#[derive(Serialize, Deserialize)]
struct Trained {
    /// The training losses, [smoothed](smooth).
    losses: Vec<Option<f64>>,
    /// Validation accuracy at the end: 0 to 1.
    accuracy: f64,
}

/// The numbers of training images and epochs.
fn extent(setup: &Setup) -> (usize, usize) {
    setup.pick((55_000, 3), (11_000, 2))
}

impl Setting for Deep {
    type Result = Trained;
    const SEEDS: [usize; 2] = [3, 1];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let (init, norm) = match self.1 {
            Kind::Xavier => (InitStrategy::Xavier, Normalization::None),
            Kind::He => (InitStrategy::He, Normalization::None),
            Kind::BatchNorm => (InitStrategy::Xavier, Normalization::Batch),
        };
        let model = MlpConfig::new()
            .with_hidden(vec![100; self.0])
            .with_init(init)
            .with_norm(norm);
        TrainConfig {
            optimizer: OptimizerKind::Momentum,
            epochs: extent(setup).1,
            batch_size: 128,
            ..sgd(model, 0.01)
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let images = run.setup.split(extent(run.setup).0, 5000);
        let (trained, losses) = run.train(&images, |losses: &mut Vec<_>, step| {
            losses.push(loss(&step))
        })?;
        Ok(Trained {
            losses: smooth(&losses),
            accuracy: accuracies(&trained).last().copied().unwrap_or(0.0),
        })
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let depths = setup.pick(&[10, 20, 30][..], &[10, 30][..]);
    let settings = depths
        .iter()
        .flat_map(|&depth| Kind::ALL.map(|kind| Deep(depth, kind)));
    let runs = setup.measure(name, settings)?;
    Ok(Results {
        figures: vec![figure(&runs, depths)],
        claims: claims(&runs, depths),
        table: table(&runs),
        facts: facts(&runs, depths),
        ..Results::default()
    })
}

fn figure(runs: &Runs<Deep>, depths: &[usize]) -> Figure {
    let panels = depths.iter().map(|&depth| {
        let curves = Kind::ALL.map(|kind| {
            let points = runs.curve(Deep(depth, kind), |run| curve(&run.losses));
            (kind, points)
        });
        let last = curves[0].1.last().map_or(0.0, |(step, _)| *step);
        let series =
            curves.map(|(kind, points)| Series::spread(kind.label(), kind.color(), points));
        Panel::new(
            Axis::linear("training step", [0.0, last]),
            Axis::linear("loss (nats)", [0.0, 3.0]),
        )
        .titled(format!("{depth} layers"))
        .with(series.into_iter().flatten())
    });
    Figure::new(
        "depth",
        "Training loss of deep ReLU networks",
        "Guessing gives a loss of 2.30. Each point is the mean of 25 steps.",
    )
    .row("", panels)
}

/// The numbers that the story names.
fn facts(runs: &Runs<Deep>, depths: &[usize]) -> Vec<(&'static str, String)> {
    let deepest = depths[depths.len() - 1];
    let accuracy = |kind| runs.median(Deep(deepest, kind), |run| run.accuracy);
    let depths: Vec<String> = depths.iter().map(usize::to_string).collect();
    vec![
        ("depths", depths.join(", ")),
        ("deepest", deepest.to_string()),
        ("xavier", short(accuracy(Kind::Xavier))),
        ("he", short(accuracy(Kind::He))),
        ("batch-norm", short(accuracy(Kind::BatchNorm))),
    ]
}

fn claims(runs: &Runs<Deep>, depths: &[usize]) -> Vec<Claim> {
    let accuracy = |depth, kind| runs.median(Deep(depth, kind), |run| run.accuracy);
    let to_1 = |depth, kind| runs.median(Deep(depth, kind), |run| steps_to_1(&run.losses));
    let mut claims = Vec::new();
    if depths.contains(&20) {
        claims.push(
            HE.says("At about 20 layers both learn, with He sooner than with Xavier")
                .measured(
                    "steps until the loss is below 1 with 20 layers, He divided by Xavier",
                    to_1(20, Kind::He) / to_1(20, Kind::Xavier),
                )
                .holds_if(Bound::Below(1.0)),
        );
    }
    claims.extend([
        HE.says("At 30 layers, a network with Xavier stalls")
            .measured(
                "validation accuracy at the end (guessing: 0.1)",
                accuracy(30, Kind::Xavier),
            )
            .holds_if(Bound::AtMost(0.2))
            .why(
                "At first it only guesses, then it begins to learn. Width matters: the networks in which it stalled \
                 for good are far wider than 100 units.",
            ),
        HE.says("At 30 layers, a network with He learns")
            .measured("validation accuracy at the end", accuracy(30, Kind::He))
            .holds_if(Bound::AtLeast(0.85)),
        IOFFE
            .says("With batch norm, 30 layers learn with Xavier too")
            .measured("validation accuracy at the end", accuracy(30, Kind::BatchNorm))
            .holds_if(Bound::AtLeast(0.85)),
    ]);
    claims
}

/// Tabulates the runs. A loss is the mean over the steps up to `step`.
fn table(runs: &Runs<Deep>) -> Table {
    let mut table = Table::new(&["layers", "setting", "seed", "step"]);
    for run in &runs.0 {
        let Deep(depth, kind) = run.setting;
        let key = |points: usize| (depth, kind.label(), run.seed, points * SMOOTH);
        let losses = &run.result.losses;
        for (i, loss) in losses.iter().enumerate() {
            let values = [("mean_training_loss", loss.unwrap_or(f64::NAN))];
            table.add(key(i + 1), values);
        }
        table.add(
            key(losses.len()),
            [("validation_accuracy", run.result.accuracy)],
        );
    }
    table
}
