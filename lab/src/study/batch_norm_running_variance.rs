//! Compares biased and unbiased running variances, for training batches of all sizes.

use std::sync::Arc;

use burn::module::Module;
use burn::nn;
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, IOFFE};
use super::error::ExperimentError;
use super::inference::{training, with_norms};
use super::results::Results;
use super::runs::{Run, Runs, Setting};
use super::setup::{Setup, mlp};
use super::table::Table;
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{Classifier, Mlp, MlpConfig, Norm, Normalization};
use crate::train::{TrainConfig, evaluate};

const BATCHES: [usize; 7] = [2, 4, 8, 32, 128, 512, 2048];

/// One epoch of training in batches of this size.
#[derive(Clone, PartialEq, Serialize)]
struct BatchSize(usize);

/// One network with two kinds of running variance from the same batches: unbiased (this crate's batch norm) and biased
/// (Burn's).
#[derive(Serialize, Deserialize)]
struct Variances {
    unbiased: Variance,
    biased: Variance,
}

#[derive(Serialize, Deserialize)]
struct Variance {
    /// Mean running variance of the first layer's units.
    variance: f64,
    /// On the test images, with running statistics.
    accuracy: f64,
    loss: Option<f64>,
}

impl Setting for BatchSize {
    type Result = Variances;
    const SEEDS: [usize; 2] = [5, 2];

    fn config(&self, _: &Setup) -> TrainConfig {
        training(1, self.0)
    }

    fn run(&self, run: &Run) -> Result<Variances, ExperimentError> {
        let setup = run.setup;
        let images = setup.split(setup.pick(11_000, 2000), 1000);
        let device = setup.device.clone().autodiff();
        let hidden = MlpConfig::new().hidden.into_iter();
        let burns = hidden.map(|units| nn::BatchNormConfig::new(units).init(&device));
        let burns = Arc::new(burns.collect::<Vec<_>>());
        let aside = burns.clone();
        let (trained, ()) = run.train(&images, move |_, it| {
            let network = with_burns(mlp(it.network.clone()), &aside);
            network.features(it.batch.images.clone().flatten(1, 2));
        })?;
        let network = mlp(trained.network);
        let burns: Vec<nn::BatchNorm> = burns.iter().map(Module::valid).collect();
        Ok(Variances {
            unbiased: score(setup, network.clone()),
            biased: score(setup, with_burns(network, &burns)),
        })
    }
}

/// Replaces the norms of a network with Burn's. These keep their own statistics and get the network's gammas and betas.
fn with_burns(network: Mlp, norms: &[nn::BatchNorm]) -> Mlp {
    with_norms(network, norms, |norm, gamma, beta| {
        // A clone shares its statistics with the original.
        let mut norm = norm.clone();
        (norm.gamma, norm.beta) = (gamma, beta);
        Norm::Burn(norm)
    })
}

fn score(setup: &Setup, network: Mlp) -> Variance {
    let variance = match &network.hidden[0].norm {
        Some(Norm::Batch(norm)) => norm.running_var.value_sync(),
        Some(Norm::Burn(norm)) => norm.running_var.value_sync(),
        None => unreachable!("the network has batch norm"),
    };
    let variance = variance.mean().into_scalar::<f64>();
    let score = evaluate(&Classifier::Mlp(network), &setup.data.test, &setup.device);
    Variance {
        variance,
        accuracy: score.accuracy,
        loss: score.loss.is_finite().then_some(score.loss),
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let runs = setup.measure(name, BATCHES.map(BatchSize))?;
    Ok(Results {
        figures: vec![figure(&runs)],
        claims: claims(&runs),
        table: table(&runs),
        ..Results::default()
    })
}

/// Burn's running variance divided by this crate's.
fn ratio(run: &Variances) -> f64 {
    run.biased.variance / run.unbiased.variance
}

fn figure(runs: &Runs<BatchSize>) -> Figure {
    let by_size = |number: fn(&Variances) -> f64| {
        BATCHES.map(|size| (size as f64, runs.values(BatchSize(size), number)))
    };
    let expected = BATCHES.map(|size| [size as f64, 1.0 - 1.0 / size as f64]);
    let unbiased = by_size(|it| it.unbiased.accuracy);
    let biased = by_size(|it| it.biased.accuracy);
    let x = Axis::log("images in a training batch", [1.0, 3000.0]);
    let ratios = Panel::new(x.clone(), Axis::linear("ratio", [0.0, 1.2]))
        .titled("variance, biased / unbiased")
        .with(Series::spread("measured", Color::INK, by_size(ratio)))
        .with([Series::line("(m - 1) / m", Color::INK, expected).stroke(Stroke::Dashed)]);
    let accuracies = Panel::new(x, Axis::linear("test accuracy (share)", [0.0, 1.0]))
        .titled("with running statistics")
        .with(Series::spread(
            "unbiased (this crate's)",
            Normalization::Batch,
            unbiased,
        ))
        .with(
            Series::spread("biased (Burn's)", Normalization::Burn, biased)
                .map(|series| series.stroke(Stroke::Dashed)),
        );
    Figure::new(
        "variance",
        "Biased and unbiased running variances, by training batch",
        "Left: Burn's running variance divided by this crate's, after the same batches. Right: test accuracy with \
         each.",
    )
    .row("", [ratios, accuracies])
}

fn claims(runs: &Runs<BatchSize>) -> Vec<Claim> {
    vec![
        IOFFE
            .says("In training batches of 2, the biased running variance is half the unbiased one")
            .measured(
                "running variance, Burn's divided by this crate's",
                runs.median(BatchSize(2), ratio),
            )
            .holds_if(Bound::Between(0.4, 0.6)),
        IOFFE
            .says("In training batches of 32, it is 3 % smaller")
            .measured(
                "running variance, Burn's divided by this crate's",
                runs.median(BatchSize(32), ratio),
            )
            .holds_if(Bound::Between(0.95, 0.99)),
    ]
}

fn table(runs: &Runs<BatchSize>) -> Table {
    let mut table = Table::new(&["batch_size", "seed", "variance"]);
    for run in &runs.0 {
        let BatchSize(size) = run.setting;
        for (kind, of) in [
            ("unbiased", &run.result.unbiased),
            ("biased", &run.result.biased),
        ] {
            let values = [
                ("mean_running_variance_of_layer_1", of.variance),
                ("test_accuracy", of.accuracy),
                ("test_loss", of.loss.unwrap_or(f64::NAN)),
            ];
            table.add((size, run.seed, kind), values);
        }
    }
    table
}
