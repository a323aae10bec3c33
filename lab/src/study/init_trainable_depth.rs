//! How deep a tanh network without batch norm can be, by the variance of its weights (after Schoenholz et al. 2017,
//! arXiv:1611.01232, figure 5; here without biases).

use burn_kindling::init::{Activation, FixedPoint, InitStrategy, MeanField};
use serde::Serialize;

use super::claim::{Bound, Claim, SCHOENHOLZ};
use super::error::ExperimentError;
use super::results::Results;
use super::runs::{Run, Runs, Setting, accuracies};
use super::setup::{Setup, sgd};
use super::table::Table;
use crate::figure::{Axis, Cell, Color, Figure, Panel, Series, Shape, Stroke};
use crate::model::{MlpConfig, Normalization};
use crate::train::TrainConfig;

const WIDTH: usize = 100;
const BATCH: usize = 64;
const LEARNING_RATE: f64 = 0.01;
/// A network counts as trained from this validation accuracy.
const TRAINED: f64 = 0.5;

/// A network of this many tanh layers with weights from N(0, `weight_variance` / n).
#[derive(Clone, PartialEq, Serialize)]
struct Deep {
    weight_variance: f64,
    layers: usize,
}

/// Steps of a training.
fn steps(setup: &Setup) -> usize {
    setup.pick(200, 50)
}

impl Setting for Deep {
    type Result = f64;
    const SEEDS: [usize; 2] = [1, 1];

    fn config(&self, _: &Setup) -> TrainConfig {
        let model = MlpConfig::new()
            .with_hidden(vec![WIDTH; self.layers])
            .with_activation(Activation::Tanh)
            .with_init(InitStrategy::Xavier)
            .with_weight_scale(self.weight_variance.sqrt())
            .with_norm(Normalization::None);
        TrainConfig {
            epochs: 1,
            batch_size: BATCH,
            ..sgd(model, LEARNING_RATE)
        }
    }

    /// The validation accuracy after training: 0 to 1.
    fn run(&self, run: &Run) -> Result<f64, ExperimentError> {
        let images = run.setup.split(steps(run.setup) * BATCH, 1000);
        let (trained, ()) = run.train(&images, |(), _| {})?;
        Ok(accuracies(&trained).last().copied().unwrap_or(0.0))
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let variances = setup.pick(
        &[0.5, 0.7, 0.8, 0.9, 1.0, 1.4, 2.0, 2.8, 4.0][..],
        &[0.5, 1.0, 4.0][..],
    );
    let depths = setup.pick(&[10, 18, 32, 56, 100, 160][..], &[5, 10, 20][..]);
    let settings = variances.iter().flat_map(|&weight_variance| {
        let setting = move |&layers: &usize| Deep {
            weight_variance,
            layers,
        };
        depths.iter().map(setting)
    });
    let grid = Grid {
        runs: setup.measure(name, settings)?,
        variances,
        depths,
    };
    Ok(Results {
        figures: vec![grid.figure()],
        claims: grid.claims(),
        table: grid.table(),
        facts: vec![
            ("least", depths[0].to_string()),
            ("most", depths[depths.len() - 1].to_string()),
            ("steps", steps(setup).to_string()),
        ],
        ..Results::default()
    })
}

fn theory(weight_variance: f64) -> FixedPoint {
    MeanField::new(Activation::Tanh, weight_variance).fixed_point(1.0)
}

/// The trainable depth that theory predicts, in layers; infinite at criticality.
fn predict(weight_variance: f64) -> f64 {
    theory(weight_variance).trainable_depth()
}

/// Six depth scales of the gradient, in layers.
fn gradient_depth(weight_variance: f64) -> f64 {
    6.0 * theory(weight_variance).gradient_depth_scale()
}

struct Grid<'a> {
    runs: Runs<Deep>,
    /// From small to large.
    variances: &'a [f64],
    /// From few layers to many.
    depths: &'a [usize],
}

impl Grid<'_> {
    /// The median accuracy over the seeds.
    fn accuracy(&self, weight_variance: f64, layers: usize) -> f64 {
        let setting = Deep {
            weight_variance,
            layers,
        };
        self.runs.median(setting, |&accuracy| accuracy)
    }

    /// The depth at which the accuracy first falls below [`TRAINED`], in layers: on a line through the accuracies over
    /// the logarithm of the depth. `None` if that is not between two depths of the grid.
    fn measure(&self, weight_variance: f64) -> Option<f64> {
        let point = |&layers: &usize| {
            let accuracy = self.accuracy(weight_variance, layers);
            ((layers as f64).ln(), accuracy - TRAINED)
        };
        let points: Vec<_> = self.depths.iter().map(point).collect();
        let below = points.iter().position(|&(_, lead)| lead < 0.0)?;
        let [(from, lead), (to, lag)] = [points[below.checked_sub(1)?], points[below]];
        Some((from + (to - from) * lead / (lead - lag)).exp())
    }

    fn figure(&self) -> Figure {
        let depths: Vec<f64> = self.depths.iter().map(|&layers| layers as f64).collect();
        let (columns, rows) = (cells(self.variances), cells(&depths));
        let cell = |(&weight_variance, &x): (&f64, &[f64; 2])| {
            let rows = self.depths.iter().zip(&rows);
            let cells = rows.map(move |(&layers, &y)| Cell {
                x,
                y,
                share: self.accuracy(weight_variance, layers),
            });
            cells.collect::<Vec<_>>()
        };
        let heat = self.variances.iter().zip(&columns).flat_map(cell).collect();
        let [left, right] = ends(&columns);
        // Criticality, at a variance of 1, is one of the points.
        let fine = (-60..=60).map(|i| 10f64.powf(f64::from(i) / 60.0));
        let fine: Vec<f64> = fine.filter(|it| (left..=right).contains(it)).collect();
        let predicted = fine.iter().map(|&it| [it, predict(it)]);
        // Up to criticality, the two are the same.
        let gradient = fine.iter().filter(|&&it| it > 1.0);
        let gradient = gradient.map(|&it| [it, gradient_depth(it)]);
        let measured = self.variances.iter().copied();
        let measured = measured.filter_map(|it| Some([it, self.measure(it)?]));
        let panel = Panel::new(
            Axis::log("variance of the weights, times n", [left, right]),
            Axis::log("layers", ends(&rows)),
        )
        .with([
            Series::new(
                "validation accuracy, 0 to 1",
                InitStrategy::Xavier,
                Shape::Cells(heat),
            ),
            Series::line("predicted: six depth scales", Color::INK, predicted)
                .stroke(Stroke::Dashed),
            Series::line(
                "six depth scales of the gradient",
                Color::VERMILLION,
                gradient,
            ),
            Series::line("measured: accuracy 0.5", Color::INK, measured).stroke(Stroke::Dotted),
        ]);
        Figure::new(
            "grid",
            "Accuracy of tanh networks after a short training, by depth and weight variance",
            "n is the number of inputs of a layer, so Xavier is at 1. Up to there, the two lines are the same.",
        )
        .panel(panel)
    }

    fn claims(&self) -> Vec<Claim> {
        // The largest depth at which any network learns.
        let learns = |&&layers: &&usize| {
            let mut variances = self.variances.iter();
            variances.any(|&it| self.accuracy(it, layers) >= TRAINED)
        };
        let deepest = *self
            .depths
            .iter()
            .rev()
            .find(learns)
            .unwrap_or(&self.depths[0]);
        let at_depth = |&it: &f64| self.accuracy(it, deepest);
        let order = |a: &&f64, b: &&f64| at_depth(a).total_cmp(&at_depth(b));
        let best = *self
            .variances
            .iter()
            .max_by(order)
            .expect("there are variances");
        let learning = self.variances.iter().filter(|&it| at_depth(it) >= TRAINED);
        let (least, most) = learning.fold((f64::NAN, f64::NAN), |(least, most), &it| {
            (it.min(least), it.max(most))
        });
        let [least_layers, most_layers] = [self.depths.first(), self.depths.last()]
            .map(|it| it.map_or(f64::NAN, |&it| it as f64));
        // The largest factor between prediction and measurement, where both are within the depths of the grid.
        let factor = |phase: fn(&&f64) -> bool| {
            let factors = self.variances.iter().filter(phase).filter_map(|&it| {
                let predicted = predict(it);
                let inside = (least_layers..=most_layers).contains(&predicted);
                let ratio = self.measure(it).filter(|_| inside)? / predicted;
                Some(ratio.max(1.0 / ratio))
            });
            factors.reduce(f64::max)
        };
        let phases = [
            (
                "Below criticality, networks can be trained up to a depth of six depth scales",
                factor(|&&it| it < 1.0),
                "In few steps, a network learns only if more of the signal gets through.",
            ),
            (
                "Above criticality, too",
                factor(|&&it| it > 1.0),
                "There, the gradient explodes over fewer layers than it takes for the similarity of images to be lost. \
                 The measured depths are closer to six depth scales of the gradient.",
            ),
        ];
        let mut claims = vec![
            SCHOENHOLZ
                .says("Networks can be deepest close to criticality, a weight variance of 1/n")
                .measured(
                    format!("variance with which {deepest} layers reach the highest accuracy, times n"),
                    best,
                )
                .holds_if(Bound::Between(0.9, 1.2))
                .why(
                    "The next variance of the grid above criticality is ahead. A likely reason: at criticality itself, \
                     the signal of tanh fades slowly, as one over the depth, and few steps do not make up for it.",
                ),
            SCHOENHOLZ
                .says("Very deep networks learn only close to criticality")
                .measured(
                    format!(
                        "largest variance with which {deepest} layers reach an accuracy of {TRAINED}, divided by the \
                         smallest"
                    ),
                    most / least,
                )
                .holds_if(Bound::AtMost(2.0)),
        ];
        claims.extend(phases.into_iter().filter_map(|(statement, factor, why)| {
            let claim = SCHOENHOLZ.says(statement).measured(
                "largest factor between predicted and measured depth, where both are within the grid",
                factor?,
            );
            Some(claim.holds_if(Bound::AtMost(2.0)).why(why))
        }));
        claims
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["weight_variance", "layers", "seed"]);
        for run in &self.runs.0 {
            let Deep {
                weight_variance,
                layers,
            } = run.setting;
            let values = [
                ("validation_accuracy", run.result),
                ("predicted_trainable_depth", predict(weight_variance)),
                ("predicted_gradient_depth", gradient_depth(weight_variance)),
            ];
            table.add((weight_variance, layers, run.seed), values);
        }
        table
    }
}

/// The edges of a cell around each value, on a logarithmic axis: halfway to its neighbours, and as far beyond the ends.
fn cells(values: &[f64]) -> Vec<[f64; 2]> {
    let between = values.windows(2).map(|pair| (pair[0] * pair[1]).sqrt());
    let between: Vec<f64> = between.collect();
    let [first, last] = [0, values.len() - 1];
    let low = values[first].powi(2) / between[0];
    let high = values[last].powi(2) / between[last - 1];
    let edges: Vec<f64> = [low].into_iter().chain(between).chain([high]).collect();
    edges.windows(2).map(|edge| [edge[0], edge[1]]).collect()
}

/// The outer edges of cells.
fn ends(cells: &[[f64; 2]]) -> [f64; 2] {
    [cells[0][0], cells[cells.len() - 1][1]]
}
