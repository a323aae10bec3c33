//! Sixteen weight scales and many learning rates: without batch norm, with this crate's, with
//! Burn's.
//!
//! The set-up is Saito's (*Deep Learning from Scratch*, chapter 6): the first 1000 training images,
//! five hidden layers of 100 ReLU units, plain SGD, batches of 100, 20 epochs, and after each the
//! accuracy on these same images, by the network in use (with running statistics).

use serde::{Deserialize, Serialize};

use super::claim::{BURN, IOFFE, SAITO};
use super::table::row;
use super::{Bound, Claim, Experiment, ExperimentError, Findings, Setup, Table};
use crate::figure::{Axis, Figure, Panel, Row, Series, median, spread};
use crate::model::{MlpConfig, ModelConfig, Normalization};
use crate::number::Number;
use crate::train::{OptimizerKind, Schedule, TrainConfig};
use burn_kindling::init::InitStrategy;

const IMAGES: usize = 1000;
const LEARNING_RATE: f64 = 0.01;
/// Training accuracy from which a network counts as having learned well.
const WELL: f64 = 0.8;
/// Training accuracy from which a network counts as having learned something: three times that of
/// guessing.
const SOMETHING: f64 = 0.3;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Config {
    norm: Normalization,
    start: Start,
    learning_rate: f64,
    epochs: usize,
    seed: u64,
}

/// How the weights start.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Start {
    /// N(0, 1) times this.
    Scale(f64),
    He,
}

#[derive(Serialize, Deserialize)]
struct Run {
    /// On the training images after every epoch: 0 to 1.
    accuracies: Vec<f64>,
}

pub(super) fn run(setup: &Setup) -> Result<Findings, ExperimentError> {
    let (scales, rates, epochs) = setup.pick((16, 11, 20), (6, 6, 8));
    let scales: Vec<f64> = steps(scales, [0.0, -4.0]);
    let rates: Vec<f64> = steps(rates, [-3.0, 2.0]);
    let settings = scales
        .iter()
        .map(|&scale| (Start::Scale(scale), LEARNING_RATE));
    let settings = settings.chain(rates.iter().map(|&rate| (Start::He, rate)));
    let mut configs = Vec::new();
    for (start, learning_rate) in settings {
        for norm in Normalization::ALL {
            configs.extend(setup.seeds(5, 3).map(|seed| Config {
                norm,
                start,
                learning_rate,
                epochs,
                seed,
            }));
        }
    }
    let (images, _) = setup.split(IMAGES, 0);
    let runs = setup.runs(
        Experiment::BatchNormTraining,
        [1, 1],
        &configs,
        Config::training,
        |_, training, job| {
            let trained = setup.train(job, training, &images, &images, |_| {})?;
            let epochs = trained.epochs.iter();
            Ok(Run {
                accuracies: epochs.map(|epoch| epoch.valid.accuracy).collect(),
            })
        },
    )?;
    let trained = Runs {
        runs: configs.into_iter().zip(runs).collect(),
        scales,
        rates,
        epochs,
    };
    Ok(Findings {
        experiment: Experiment::BatchNormTraining,
        size: setup.size,
        seeds: setup.seeds,
        device: setup.device_name.clone(),
        question: "What does batch norm forgive?".into(),
        story: story(),
        figures: vec![trained.by_scale(), trained.curves(), trained.by_rate()],
        claims: trained.claims(),
        table: trained.table(),
    })
}

/// So many powers of ten from the first exponent to the last, evenly apart in the exponent.
fn steps(count: usize, [first, last]: [f64; 2]) -> Vec<f64> {
    let share = |i: usize| i as f64 / (count - 1) as f64;
    (0..count)
        .map(|i| 10f64.powf(first + (last - first) * share(i)))
        .collect()
}

impl Config {
    fn training(&self) -> TrainConfig {
        let (init, scale) = match self.start {
            Start::Scale(scale) => (InitStrategy::StandardNormal, scale),
            Start::He => (InitStrategy::He, 1.0),
        };
        TrainConfig {
            model: ModelConfig::Mlp(
                MlpConfig::new()
                    .with_init(init)
                    .with_weight_scale(scale)
                    .with_norm(self.norm),
            ),
            optimizer: OptimizerKind::Sgd,
            learning_rate: self.learning_rate,
            schedule: Schedule::Constant,
            epochs: self.epochs,
            batch_size: 100,
            seed: self.seed,
            patience: None,
            ..TrainConfig::default()
        }
    }
}

fn story() -> Vec<String> {
    vec![
        "Batch norm stands between a layer's sums and its activation. In training it takes the sums of \
         all images of a batch, unit by unit, shifts them to mean 0 and scales them to std 1, then \
         applies a scale and a shift that are learned. Weights that are twice as large give the same \
         outputs: whatever they are multiplied by is divided out again."
            .into(),
        "To see what that is worth, a network is trained on only 1000 images from sixteen sizes of first \
         weights, from N(0, 1) down to N(0, 0.0001²): without batch norm, with this crate's, and with \
         the one that comes with Burn. Without, only a narrow range of sizes learns; with it, every size \
         learns something, and the sizes in the middle learn well in this time."
            .into(),
        "The same holds for the learning rate, the size of each step: with batch norm, steps work that \
         are far too large without. The two implementations of batch norm give the same curves, as they \
         should: in training they compute the same."
            .into(),
    ]
}

struct Runs {
    runs: Vec<(Config, Run)>,
    scales: Vec<f64>,
    rates: Vec<f64>,
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

/// The median over seeds and the band of all; Burn's dashed, to show what lies beneath.
fn curve(norm: Normalization, points: impl IntoIterator<Item = (f64, Vec<f64>)>) -> [Series; 2] {
    let series = Series::spread(label(norm), norm, points);
    match norm {
        Normalization::Burn => series.map(Series::dashed),
        _ => series,
    }
}

impl Runs {
    /// The repeated runs of one setting.
    fn of(&self, norm: Normalization, start: Start, learning_rate: f64) -> Vec<&Run> {
        let wanted = |config: &Config| {
            config.norm == norm && config.start == start && config.learning_rate == learning_rate
        };
        let runs = self.runs.iter().filter(|(config, _)| wanted(config));
        runs.map(|(_, run)| run).collect()
    }

    /// The training accuracies that the repeated runs of one setting end with.
    fn last(&self, norm: Normalization, start: Start, learning_rate: f64) -> Vec<f64> {
        let runs = self.of(norm, start, learning_rate).into_iter();
        runs.map(|run| run.accuracies[self.epochs - 1]).collect()
    }

    /// In how many settings the networks learn, in a sentence.
    fn share_that_learns(
        &self,
        what: &str,
        settings: impl ExactSizeIterator<Item = (Start, f64)> + Clone,
    ) -> String {
        let all = settings.len();
        let learn = Normalization::ALL.map(|norm| {
            let learned = settings
                .clone()
                .filter(|&(start, rate)| median(&self.last(norm, start, rate)) >= SOMETHING);
            format!("{} {}", learned.count(), label(norm))
        });
        format!(
            "Of {all} {what}, these many reach a training accuracy of {SOMETHING} at the end: {}.",
            learn.join(", ")
        )
    }

    fn by_scale(&self) -> Figure {
        let series = Normalization::ALL.into_iter().flat_map(|norm| {
            let points = self
                .scales
                .iter()
                .map(|&scale| (scale, self.last(norm, Start::Scale(scale), LEARNING_RATE)));
            curve(norm, points)
        });
        Figure::new(
            "scale",
            "Training accuracy at the end, by the std of the first weights",
            self.share_that_learns(
                "weight scales",
                self.scales
                    .iter()
                    .map(|&scale| (Start::Scale(scale), LEARNING_RATE)),
            ),
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::log("std of the first weights", [1e-4, 1.0]),
                    y: Axis::linear("training accuracy (share)", [0.0, 1.0]),
                    series: series.collect(),
                }],
            }],
        )
    }

    /// As in the literature: four by four panels, one a weight scale.
    fn curves(&self) -> Figure {
        let panels: Vec<Panel> = self
            .scales
            .iter()
            .map(|&scale| {
                let series = Normalization::ALL.into_iter().flat_map(|norm| {
                    let runs = self.of(norm, Start::Scale(scale), LEARNING_RATE);
                    let points = (0..self.epochs).map(move |epoch| {
                        let values = runs.iter().map(|run| run.accuracies[epoch]).collect();
                        ((epoch + 1) as f64, values)
                    });
                    curve(norm, points)
                });
                Panel {
                    title: format!("weight std {}", Number(scale)),
                    x: Axis::linear("epoch", [0.0, self.epochs as f64]),
                    y: Axis::linear("accuracy (share)", [0.0, 1.0]),
                    series: series.collect(),
                }
            })
            .collect();
        let rows = panels.chunks(4).map(|panels| Row {
            label: String::new(),
            panels: panels.to_vec(),
        });
        Figure::new(
            "curves",
            "Training accuracy by epoch, a panel for each std of the first weights",
            format!(
                "{} panels, from a std of {} at the top left down to {}. {}",
                self.scales.len(),
                Number(self.scales[0]),
                Number(self.scales[self.scales.len() - 1]),
                self.share_that_learns(
                    "scales",
                    self.scales
                        .iter()
                        .map(|&scale| (Start::Scale(scale), LEARNING_RATE)),
                ),
            ),
            rows.collect(),
        )
    }

    fn by_rate(&self) -> Figure {
        let series = Normalization::ALL.into_iter().flat_map(|norm| {
            let rates = self.rates.iter();
            let points = rates.map(|&rate| (rate, self.last(norm, Start::He, rate)));
            curve(norm, points)
        });
        Figure::new(
            "rate",
            "Training accuracy at the end, by learning rate, from He initialisation",
            self.share_that_learns(
                "learning rates",
                self.rates.iter().map(|&rate| (Start::He, rate)),
            ),
            vec![Row {
                label: String::new(),
                panels: vec![Panel {
                    title: String::new(),
                    x: Axis::log("learning rate", [1e-3, 100.0]),
                    y: Axis::linear("training accuracy (share)", [0.0, 1.0]),
                    series: series.collect(),
                }],
            }],
        )
    }

    fn claims(&self) -> Vec<Claim> {
        let settings: Vec<(Start, f64)> = self.settings().collect();
        let reaches =
            |accuracy: f64, norm, start, rate| median(&self.last(norm, start, rate)) >= accuracy;
        let scales = |accuracy: f64, norm| {
            let scales = self.scales.iter();
            let learned =
                scales.filter(|&&it| reaches(accuracy, norm, Start::Scale(it), LEARNING_RATE));
            learned.count() as f64 / self.scales.len() as f64
        };
        let rate = |norm| {
            let rates = self.rates.iter().copied();
            rates
                .filter(|&rate| reaches(WELL, norm, Start::He, rate))
                .fold(f64::NAN, f64::max)
        };
        // Over all settings and epochs: how far the medians are apart, beyond how far repeated runs
        // of either are.
        let mut apart = f64::NEG_INFINITY;
        let mut furthest: f64 = 0.0;
        for &(start, rate) in &settings {
            for epoch in 0..self.epochs {
                let at = |norm| {
                    let runs = self.of(norm, start, rate).into_iter();
                    spread(&runs.map(|run| run.accuracies[epoch]).collect::<Vec<_>>())
                };
                let [ours, burns] = [at(Normalization::Batch), at(Normalization::Burn)];
                let gap = (ours[1] - burns[1]).abs();
                let seeds = (ours[2] - ours[0]).max(burns[2] - burns[0]);
                apart = apart.max(gap - seeds);
                furthest = furthest.max(gap);
            }
        }
        let mut claims = vec![
            Claim::new(
                "With batch norm a network learns something from nearly every scale of the first weights",
                SAITO,
                format!("share of the scales that reach a training accuracy of {SOMETHING}"),
                scales(SOMETHING, Normalization::Batch),
                Bound::AtLeast(0.75),
            ),
            Claim::new(
                "With batch norm it learns well from nearly every scale",
                SAITO,
                format!("share of the scales that reach a training accuracy of {WELL}"),
                scales(WELL, Normalization::Batch),
                Bound::AtLeast(0.75),
            )
            .why(
                "At the ends of the range it takes longer than these epochs. Saito shows curves and names no \
                 number.",
            ),
            Claim::new(
                "Without batch norm it learns something from few of them",
                SAITO,
                format!("share of the scales that reach a training accuracy of {SOMETHING}"),
                scales(SOMETHING, Normalization::None),
                Bound::AtMost(0.35),
            ),
            Claim::new(
                "Batch norm allows a learning rate at least 5 times as large",
                IOFFE,
                format!(
                    "largest rate that reaches {WELL} with batch norm ({}), over that without ({})",
                    Number(rate(Normalization::Batch)),
                    Number(rate(Normalization::None)),
                ),
                rate(Normalization::Batch) / rate(Normalization::None),
                Bound::AtLeast(5.0),
            ),
        ];
        // One seed has no range to hold the distance against.
        if self
            .of(Normalization::Batch, Start::He, self.rates[0])
            .len()
            > 1
        {
            claims.push(Claim::new(
                "This crate's batch norm gives the learning curves of Burn's, within their range over seeds",
                BURN,
                format!(
                    "largest distance of median accuracies ({} at most) beyond the range over seeds, over all \
                     settings and epochs",
                    Number(furthest),
                ),
                apart,
                Bound::AtMost(0.0),
            ));
        }
        claims
    }

    fn settings(&self) -> impl Iterator<Item = (Start, f64)> {
        let scales = self
            .scales
            .iter()
            .map(|&scale| (Start::Scale(scale), LEARNING_RATE));
        scales.chain(self.rates.iter().map(|&rate| (Start::He, rate)))
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            "norm",
            "weight_std",
            "learning_rate",
            "seed",
            "epoch",
            "training_accuracy",
        ]);
        for (config, run) in &self.runs {
            let scale = match config.start {
                Start::Scale(scale) => serde_json::json!(scale),
                Start::He => "he".into(),
            };
            for epoch in 0..self.epochs {
                table.push(row![
                    config.norm,
                    scale,
                    config.learning_rate,
                    config.seed,
                    epoch + 1,
                    run.accuracies[epoch],
                ]);
            }
        }
        table
    }
}
