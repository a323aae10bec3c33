//! Which weights and learning rates work with batch norm: sixteen weight scales and many learning rates, without batch
//! norm, with this crate's, and with Burn's.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): the first 1000 training images, five hidden layers
//! of 100 ReLU units, plain SGD, batches of 100, 20 epochs. After each epoch, the accuracy on the same images is
//! measured in inference mode (with running statistics).

use burn_kindling::init::InitStrategy;
use serde::Serialize;

use super::claim::{BURN, Bound, Claim, IOFFE, SAITO};
use super::error::ExperimentError;
use super::guess::Guess;
use super::layers::short;
use super::results::Results;
use super::runs::{Run, Runs, Setting, accuracies, from_1};
use super::setup::{Setup, sgd};
use super::table::Table;
use crate::figure::{Axis, Figure, Panel, Series, Stroke, median, spread};
use crate::model::{MlpConfig, Normalization};
use crate::number::Number;
use crate::train::TrainConfig;

const IMAGES: usize = 1000;
const LEARNING_RATE: f64 = 0.01;
/// Training accuracy from which a network counts as having learned well.
const WELL: f64 = 0.8;
/// Training accuracy from which a network counts as having learned something: three times that of guessing.
const SOMETHING: f64 = 0.3;

/// The weights that a network starts with, and its learning rate.
#[derive(Clone, Copy, PartialEq, Serialize)]
struct Start {
    /// The std of the weights; `None`: He initialisation.
    scale: Option<f64>,
    rate: f64,
}

#[derive(Clone, PartialEq, Serialize)]
struct Network(Normalization, Start);

fn epochs(setup: &Setup) -> usize {
    setup.pick(20, 8)
}

impl Setting for Network {
    /// Accuracy on the training images after every epoch: 0 to 1.
    type Result = Vec<f64>;
    const SEEDS: [usize; 2] = [5, 3];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let Self(norm, start) = *self;
        let model = MlpConfig::new().with_norm(norm);
        let model = match start.scale {
            Some(scale) => model
                .with_init(InitStrategy::StandardNormal)
                .with_weight_scale(scale),
            None => model.with_init(InitStrategy::He),
        };
        TrainConfig {
            epochs: epochs(setup),
            batch_size: 100,
            ..sgd(model, start.rate)
        }
    }

    fn run(&self, run: &Run) -> Result<Vec<f64>, ExperimentError> {
        let [images, _] = run.setup.split(IMAGES, 0);
        let (trained, ()) = run.train(&[images.clone(), images], |_, _| {})?;
        Ok(accuracies(&trained))
    }
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let (scales, rates) = setup.pick((16, 11), (6, 6));
    let scales: Vec<Start> = steps(scales, [0.0, -4.0])
        .map(|scale| Start {
            scale: Some(scale),
            rate: LEARNING_RATE,
        })
        .collect();
    let rates: Vec<Start> = steps(rates, [-3.0, 2.0])
        .map(|rate| Start { scale: None, rate })
        .collect();
    let starts = scales.iter().chain(&rates);
    let settings = starts.flat_map(|&start| Normalization::ALL.map(|norm| Network(norm, start)));
    let trained = Trainings {
        runs: setup.measure(name, settings)?,
        scales,
        rates,
        epochs: epochs(setup),
    };
    Ok(Results {
        figures: vec![trained.by_scale(), trained.curves(), trained.by_rate()],
        claims: trained.claims(),
        table: trained.table(),
        facts: trained.facts(),
        guess: Some(trained.guess()),
    })
}

/// `count` powers of ten, with exponents evenly spaced from the first to the last.
fn steps(count: usize, [first, last]: [f64; 2]) -> impl Iterator<Item = f64> {
    let share = move |i: usize| i as f64 / (count - 1) as f64;
    (0..count).map(move |i| 10f64.powf(first + (last - first) * share(i)))
}

struct Trainings {
    runs: Runs<Network>,
    scales: Vec<Start>,
    rates: Vec<Start>,
    epochs: usize,
}

/// The name of a normalisation in a legend.
fn label(norm: Normalization) -> &'static str {
    match norm {
        Normalization::None => "without batch norm",
        Normalization::Batch => "with batch norm (this crate)",
        Normalization::Burn => "with batch norm (Burn's)",
    }
}

/// Its name among the choices of a guess, which has one of the two implementations.
fn short_label(norm: Normalization) -> &'static str {
    match norm {
        Normalization::None => "without batch norm",
        _ => "with batch norm",
    }
}

/// A curve for each normalisation. Burn's is dashed, so that the others show through.
fn series(points: impl Fn(Normalization) -> Vec<(f64, Vec<f64>)>) -> Vec<Series> {
    let curves = Normalization::ALL.into_iter().flat_map(|norm| {
        let stroke = match norm {
            Normalization::Burn => Stroke::Dashed,
            _ => Stroke::Solid,
        };
        Series::spread(label(norm), norm, points(norm)).map(|series| series.stroke(stroke))
    });
    curves.collect()
}

impl Trainings {
    /// The training accuracies after the last epoch, one per seed.
    fn last(&self, norm: Normalization, start: Start) -> Vec<f64> {
        self.runs
            .values(Network(norm, start), |it| it[self.epochs - 1])
    }

    /// The starts whose median accuracy at the end reaches a bound.
    fn reaching(&self, accuracy: f64, norm: Normalization, starts: &[Start]) -> Vec<Start> {
        let reaches = |&&start: &&Start| median(&self.last(norm, start)) >= accuracy;
        starts.iter().filter(reaches).copied().collect()
    }

    /// A sentence that says from how many starts each network learns.
    fn share_that_learns(&self, what: &str, starts: &[Start]) -> String {
        let learn = Normalization::ALL.map(|norm| {
            let learned = self.reaching(SOMETHING, norm, starts).len();
            format!("{learned} {}", label(norm))
        });
        format!(
            "Of {} {what}, this many reach a training accuracy of {SOMETHING} at the end: {}.",
            starts.len(),
            learn.join(", ")
        )
    }

    /// Plots the accuracy at the end over the starts.
    fn at_the_end(&self, starts: &[Start], x: Axis, place: impl Fn(&Start) -> f64) -> Panel {
        let points = |norm, start| (place(start), self.last(norm, *start));
        let series = series(|norm| starts.iter().map(|start| points(norm, start)).collect());
        Panel::new(x, Axis::linear("accuracy (share)", [0.0, 1.0])).with(series)
    }

    fn by_scale(&self) -> Figure {
        let x = Axis::log("std of the initial weights", [1e-4, 1.0]);
        let panel = self.at_the_end(&self.scales, x, |it| it.scale.unwrap_or(f64::NAN));
        Figure::new(
            "scale",
            "Training accuracy at the end, by std of the initial weights",
            self.share_that_learns("weight scales", &self.scales),
        )
        .panel(panel)
    }

    fn by_rate(&self) -> Figure {
        let x = Axis::log("learning rate", [1e-3, 100.0]);
        Figure::new(
            "rate",
            "Training accuracy at the end, by learning rate, with He initialisation",
            self.share_that_learns("learning rates", &self.rates),
        )
        .panel(self.at_the_end(&self.rates, x, |it| it.rate))
    }

    /// Plots the accuracy over the epochs, four panels in a row as in the literature, one per weight scale.
    fn curves(&self) -> Figure {
        let std = |start: &Start| Number(start.scale.unwrap_or(f64::NAN));
        let panel = |&start: &Start| {
            let curve = |norm| {
                self.runs
                    .curve(Network(norm, start), |it| from_1(it.iter().copied()))
            };
            Panel::new(
                Axis::linear("epoch", [0.0, self.epochs as f64]),
                Axis::linear("accuracy (share)", [0.0, 1.0]),
            )
            .titled(format!("weight std {}", std(&start)))
            .with(series(curve))
        };
        let figure = Figure::new(
            "curves",
            "Training accuracy by epoch, one panel per std of the initial weights",
            format!(
                "{} panels, from a std of {} at the top left down to {}. {}",
                self.scales.len(),
                std(&self.scales[0]),
                std(&self.scales[self.scales.len() - 1]),
                self.share_that_learns("scales", &self.scales),
            ),
        );
        let rows = self.scales.chunks(4);
        rows.fold(figure, |figure, row| figure.row("", row.iter().map(panel)))
            .fold()
    }

    /// Compares the median accuracies of this crate and Burn over all starts and epochs. Returns the largest gap
    /// between them, and the largest excess of a gap over the wider of their two ranges over seeds.
    fn distance(&self) -> [f64; 2] {
        let (mut furthest, mut beyond) = (0.0_f64, f64::NEG_INFINITY);
        for &start in self.scales.iter().chain(&self.rates) {
            for epoch in 0..self.epochs {
                let at = |norm| spread(&self.runs.values(Network(norm, start), |it| it[epoch]));
                let [ours, burns] = [at(Normalization::Batch), at(Normalization::Burn)];
                let gap = (ours[1] - burns[1]).abs();
                let seeds = (ours[2] - ours[0]).max(burns[2] - burns[0]);
                furthest = furthest.max(gap);
                beyond = beyond.max(gap - seeds);
            }
        }
        [furthest, beyond]
    }

    /// The scales at which the networks learn best, and the scale from which they learn about as well as from He: for
    /// each, its std and the median accuracies without and with batch norm.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let accuracy = |norm, start: Start| median(&self.last(norm, start));
        let best = |norm| {
            let starts = self.scales.iter().copied();
            let best = starts.max_by(|&a, &b| accuracy(norm, a).total_cmp(&accuracy(norm, b)));
            best.expect("there are scales")
        };
        let std = |start: Start| short(start.scale.unwrap_or(f64::NAN));
        let count = |norm| {
            self.reaching(SOMETHING, norm, &self.scales)
                .len()
                .to_string()
        };
        let (none, batch) = (Normalization::None, Normalization::Batch);
        let [best_plain, best_batch] = [none, batch].map(best);
        vec![
            ("scales", self.scales.len().to_string()),
            ("plain-learns", count(none)),
            ("batch-learns", count(batch)),
            ("plain-std", std(best_plain)),
            ("plain-there", short(accuracy(none, best_plain))),
            ("batch-there", short(accuracy(batch, best_plain))),
            ("batch-std", std(best_batch)),
            ("batch-best", short(accuracy(batch, best_batch))),
        ]
    }

    fn guess(&self) -> Guess {
        let choices = [Normalization::None, Normalization::Batch].map(|norm| {
            let starts = [0.16, 0.0025].map(|near| self.nearest(near));
            starts.map(|start| {
                let std = short(start.scale.unwrap_or(f64::NAN));
                let std = std.trim_end_matches('0');
                let label = format!("std {std}, {}", short_label(norm));
                (label, median(&self.last(norm, start)))
            })
        });
        Guess::most(
            "Which combination of weight std and batch norm has learned most at the end?",
            "training accuracy (share)",
            choices.into_iter().flatten(),
        )
    }

    /// The scale closest to a std.
    fn nearest(&self, std: f64) -> Start {
        let distance = |start: &Start| (start.scale.unwrap_or(f64::NAN) / std).ln().abs();
        let starts = self.scales.iter().copied();
        let nearest = starts.min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.expect("there are scales")
    }

    fn claims(&self) -> Vec<Claim> {
        // The share of the scales that reach an accuracy.
        let share = |accuracy, norm| {
            let reaching = self.reaching(accuracy, norm, &self.scales).len();
            reaching as f64 / self.scales.len() as f64
        };
        // The largest learning rate that learns well.
        let rate = |norm| {
            let rates = self.reaching(WELL, norm, &self.rates).into_iter();
            rates.map(|start| start.rate).fold(f64::NAN, f64::max)
        };
        let mut claims = vec![
            SAITO
                .says("With batch norm, a network learns something from nearly every scale of the initial weights")
                .measured(
                    format!("share of the scales that reach a training accuracy of {SOMETHING}"),
                    share(SOMETHING, Normalization::Batch),
                )
                .holds_if(Bound::AtLeast(0.75)),
            SAITO
                .says("With batch norm, it learns well from nearly every scale")
                .measured(
                    format!("share of the scales that reach a training accuracy of {WELL}"),
                    share(WELL, Normalization::Batch),
                )
                .holds_if(Bound::AtLeast(0.75))
                .why(
                    "With the largest weights, learning takes longer than these epochs. With the smallest, it halts on \
                     plateaus. Saito shows curves and gives no number.",
                ),
            SAITO
                .says("Without batch norm, it learns something from few of them")
                .measured(
                    format!("share of the scales that reach a training accuracy of {SOMETHING}"),
                    share(SOMETHING, Normalization::None),
                )
                .holds_if(Bound::AtMost(0.35)),
            IOFFE
                .says("Batch norm allows a learning rate at least 5 times as large")
                .measured(
                    format!(
                        "largest rate that reaches {WELL} with batch norm ({}), divided by that without ({})",
                        Number(rate(Normalization::Batch)),
                        Number(rate(Normalization::None)),
                    ),
                    rate(Normalization::Batch) / rate(Normalization::None),
                )
                .holds_if(Bound::AtLeast(5.0)),
        ];
        // A single seed has no range to compare with.
        if self.last(Normalization::Batch, self.rates[0]).len() > 1 {
            let [furthest, beyond] = self.distance();
            let quantity = format!(
                "distance between the median accuracies (at most {}) minus the range over seeds, largest over all \
                 settings and epochs",
                Number(furthest),
            );
            claims.push(
                BURN.says("This crate's batch norm gives the learning curves of Burn's, within the range over seeds")
                    .measured(quantity, beyond)
                    .holds_if(Bound::AtMost(0.0)),
            );
        }
        claims
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["norm", "weight_std", "learning_rate", "seed", "epoch"]);
        for run in &self.runs.0 {
            let Network(norm, Start { scale, rate }) = run.setting;
            let std = scale.map_or("he".into(), |scale| serde_json::json!(scale));
            for (epoch, &accuracy) in run.result.iter().enumerate() {
                let key = (norm, &std, rate, run.seed, epoch + 1);
                table.add(key, [("training_accuracy", accuracy)]);
            }
        }
        table
    }
}
