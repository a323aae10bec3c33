//! The images that make a statistic: batch norm over batches of 2 to 256 images, over the batches of several workers,
//! over parts of a batch (as in Wu & Johnson 2021, arXiv:2105.07576), and renormalised.
//!
//! All networks see the same images in the same order. The learning rate is proportional to the images of a step (Goyal
//! et al. 2017, arXiv:1706.02677): an epoch then moves the weights about as far in many small steps as in few large
//! ones.

use std::thread;
use std::time::Duration;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Device;
use burn_kindling::norm::{GhostBatches, Renormalization, SyncGroup};
use serde::{Deserialize, Serialize};

use super::claim::{Bound, Claim, HOFFER, PENG, RENORM, WU, WU_HE};
use super::error::ExperimentError;
use super::inference::{recalibrated, sample, training};
use super::results::Results;
use super::runs::{Run, Runs, Setting};
use super::setup::{Setup, mlp};
use super::table::Table;
use crate::data::{Batches, DigitBatch};
use crate::figure::{Axis, Color, Figure, Panel, Series, Stroke};
use crate::model::{Classifier, Mlp, ModelConfig, Norm, Normalization};
use crate::train::{StepOutput, TrainConfig, evaluate};

/// Images of a step whose parts are ghost batches.
const WHOLE: usize = 256;
/// Numbers of workers.
const WORKERS: [usize; 3] = [2, 4, 8];
/// A small batch and a middling one, of those that are measured.
const SMALL: usize = 4;
const MIDDLING: usize = 32;
/// The momentum of batch renormalisation, as in the paper.
const MOMENTUM: f64 = 0.01;
/// How long workers wait for one another: long enough for a process that is suspended meanwhile.
const TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a layer normalises by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Over {
    /// Nothing: no batch norm.
    Nothing,
    /// The batch.
    Batch,
    /// The batches of this many workers together.
    Workers(usize),
    /// A part of a batch of [`WHOLE`] images (ghost batch norm).
    Part,
    /// The batch, corrected towards the running statistics (batch renormalisation).
    Renormalized,
}

impl Over {
    const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Batch,
        Self::Workers(WORKERS[0]),
        Self::Workers(WORKERS[1]),
        Self::Workers(WORKERS[2]),
        Self::Part,
        Self::Renormalized,
    ];

    /// The name in a legend.
    fn label(self) -> String {
        match self {
            Self::Nothing => "without batch norm".into(),
            Self::Batch => "batch norm".into(),
            Self::Workers(workers) => format!("{workers} workers"),
            Self::Part => format!("parts of {WHOLE} images"),
            Self::Renormalized => "renormalised".into(),
        }
    }

    fn color(self) -> Color {
        match self {
            Self::Nothing => Normalization::None.into(),
            Self::Batch => Normalization::Batch.into(),
            Self::Workers(_) => Color::BLUE,
            Self::Part => Color::VIOLET,
            Self::Renormalized => Color::VERMILLION,
        }
    }

    /// Curves that lie on each other differ in this.
    fn stroke(self) -> Stroke {
        match self {
            Self::Part | Self::Workers(4) => Stroke::Dashed,
            Self::Workers(8) => Stroke::Dotted,
            _ => Stroke::Solid,
        }
    }
}

/// A network that normalises over this, and the images of a batch: of each worker's, or of each part.
#[derive(Clone, PartialEq, Serialize)]
struct Network(Over, usize);

impl Network {
    /// The images of a training step.
    fn images(&self) -> usize {
        let Self(over, size) = *self;
        match over {
            Over::Workers(workers) => workers * size,
            Over::Part => WHOLE,
            _ => size,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Trained {
    /// The mean training loss of the last epoch.
    loss: Option<f64>,
    /// The test error with running statistics: 0 to 1.
    error: f64,
    /// The test error with recalibrated statistics.
    recalibrated: f64,
}

impl Setting for Network {
    type Result = Trained;
    const SEEDS: [usize; 2] = [1, 1];

    fn config(&self, setup: &Setup) -> TrainConfig {
        let config = training(setup.pick(5, 2), self.images());
        match (self.0, config.model) {
            (Over::Nothing, ModelConfig::Mlp(model)) => TrainConfig {
                model: ModelConfig::Mlp(model.with_norm(Normalization::None)),
                ..config
            },
            (_, model) => TrainConfig { model, ..config },
        }
    }

    fn run(&self, run: &Run) -> Result<Trained, ExperimentError> {
        let setup = run.setup;
        // On a worker of the sweep's pool, every scope such as `GhostBatches` would start a pool of its own.
        let (network, loss) = thread::scope(|threads| {
            threads
                .spawn(|| self.train(run))
                .join()
                .expect("training does not panic")
        })?;
        let network = network.valid();
        let test = |network: &Mlp| {
            let network = Classifier::Mlp(network.clone());
            1.0 - evaluate(&network, &setup.data.test, &setup.device).accuracy
        };
        let error = test(&network);
        let recalibrated = match self.0 {
            Over::Nothing => error,
            _ => test(&recalibrated(&network, &sample(setup))),
        };
        Ok(Trained {
            loss,
            error,
            recalibrated,
        })
    }
}

impl Network {
    /// Trains the network. Returns it with the mean training loss of the last epoch.
    fn train(&self, run: &Run) -> Result<(Mlp, Option<f64>), ExperimentError> {
        let Run { setup, config, .. } = run;
        let device = setup.device.clone().autodiff();
        let [images, _] = setup.split(setup.pick(10_240, 2048), 0);
        let mut batches = Batches::new(images, config.batch_size, config.seed, device.clone());
        let epoch = batches.steps_per_epoch();
        let steps = config.epochs * epoch;
        let mut network = mlp(config.init_model(&device));
        if self.0 == Over::Renormalized {
            for block in &mut network.hidden {
                if let Some(Norm::Batch(norm)) = &mut block.norm {
                    norm.momentum = MOMENTUM;
                }
            }
        }
        let mut optimizer = config.optimizer.init();
        let mut losses = 0.0;
        for step in 0..steps {
            if setup.interrupter.should_stop() {
                return Err(ExperimentError::Interrupted);
            }
            let batch = batches.at(step);
            let (loss, gradients) = match *self {
                Self(Over::Workers(workers), _) => pass_on(workers, &network, batch, &device),
                Self(Over::Part, size) => GhostBatches::of(size).run(|| pass(&network, batch, 1.0)),
                Self(Over::Renormalized, _) => {
                    renormalization(step, steps).run(|| pass(&network, batch, 1.0))
                }
                _ => pass(&network, batch, 1.0),
            };
            network = optimizer.step(config.learning_rate, network, gradients);
            if step >= steps - epoch {
                losses += loss;
            }
        }
        let loss = losses / epoch as f64;
        Ok((network, loss.is_finite().then_some(loss)))
    }
}

/// The forward and the backward pass of a batch that is this share of a step's images: the loss and the gradients,
/// times the share.
fn pass(network: &Mlp, batch: DigitBatch, share: f64) -> (f64, GradientsParams) {
    let logits = network.forward(batch.images.flatten(1, 2));
    let loss = StepOutput::of(logits, batch.targets).loss * share;
    let gradients = GradientsParams::from_grads(loss.backward(), network);
    (loss.into_scalar::<f64>(), gradients)
}

/// The passes of several workers, each a thread with its part of the batch: the loss and the gradients of the whole.
fn pass_on(
    workers: usize,
    network: &Mlp,
    batch: DigitBatch,
    device: &Device,
) -> (f64, GradientsParams) {
    let [all] = batch.targets.dims();
    let images = batch.images.chunk(workers, 0).into_iter();
    let parts: Vec<_> = images.zip(batch.targets.chunk(workers, 0)).collect();
    let group = &SyncGroup::new(parts.len()).with_timeout(TIMEOUT);
    let passes: Vec<_> = thread::scope(|threads| {
        let workers = parts.into_iter().map(|(images, targets)| {
            let share = targets.dims()[0] as f64 / all as f64;
            let network = network.clone().fork(device);
            threads
                .spawn(move || group.run(|| pass(&network, DigitBatch { images, targets }, share)))
        });
        let workers: Vec<_> = workers.collect();
        let passes = workers.into_iter().map(|worker| worker.join());
        passes.map(|pass| pass.expect("no worker panics")).collect()
    });
    let mut sum = GradientsAccumulator::new();
    let mut loss = 0.0;
    for (part, gradients) in passes {
        loss += part;
        sum.accumulate(network, gradients);
    }
    (loss, sum.grads())
}

/// The limits of batch renormalisation: the paper's, with its first 40,000 steps as the first quarter of the training.
fn renormalization(step: usize, steps: usize) -> Renormalization {
    Renormalization::at(4 * 40_000 * step / steps)
}

/// All networks that are trained.
fn networks(sizes: &[usize]) -> impl Iterator<Item = Network> {
    let overs = Over::ALL.into_iter();
    overs.flat_map(|over| sizes.iter().map(move |&size| Network(over, size)))
}

pub(super) fn run(setup: &Setup, name: &str) -> Result<Results, ExperimentError> {
    let sizes = setup.pick(
        &[2, SMALL, 8, 16, MIDDLING, 64, 128, WHOLE][..],
        &[SMALL, MIDDLING, WHOLE][..],
    );
    let trainings = Trainings {
        runs: setup.measure(name, networks(sizes))?,
        sizes,
    };
    Ok(Results {
        figures: vec![trainings.by_size(), trainings.workers()],
        claims: trainings.claims(),
        table: trainings.table(),
        facts: trainings.facts(),
        ..Results::default()
    })
}

struct Trainings<'a> {
    runs: Runs<Network>,
    /// From small to large.
    sizes: &'a [usize],
}

fn error(run: &Trained) -> f64 {
    run.error
}

fn recalibrated_error(run: &Trained) -> f64 {
    run.recalibrated
}

fn loss(run: &Trained) -> f64 {
    run.loss.unwrap_or(f64::INFINITY)
}

fn error_axis() -> Axis {
    Axis::log("test error (share)", [0.04, 1.0])
}

impl Trainings<'_> {
    /// A curve of a number over the images of each batch, or over others.
    fn curve(
        &self,
        over: Over,
        images: fn(&Network) -> usize,
        number: fn(&Trained) -> f64,
    ) -> [Series; 2] {
        let points = self.sizes.iter().map(|&size| {
            let network = Network(over, size);
            (images(&network) as f64, self.runs.values(network, number))
        });
        let series = Series::spread(over.label(), over.color(), points);
        series.map(|series| series.stroke(over.stroke()))
    }

    /// A panel of everything on one worker.
    fn panel(&self, y: Axis, number: fn(&Trained) -> f64) -> Panel {
        let overs = [Over::Nothing, Over::Batch, Over::Part, Over::Renormalized];
        let curves = overs.map(|over| self.curve(over, |&Network(_, size)| size, number));
        Panel::new(Axis::log("images in a batch or part", [1.5, 350.0]), y)
            .with(curves.into_iter().flatten())
    }

    fn by_size(&self) -> Figure {
        let loss_axis = Axis::log("loss (nats)", [0.04, 4.0]);
        let panels = [
            self.panel(error_axis(), error).titled("running statistics"),
            self.panel(error_axis(), recalibrated_error)
                .titled("recalibrated statistics"),
            self.panel(loss_axis, loss)
                .titled("in training, last epoch"),
        ];
        Figure::new(
            "sizes",
            "Test error and training loss, by the images that make a statistic",
            "All networks saw the same images. Guessing gives an error of 0.9 and a loss of 2.30.",
        )
        .row("", panels)
    }

    fn workers(&self) -> Figure {
        let panel = |label: &str, images: fn(&Network) -> usize| {
            let overs = [Over::Batch].into_iter().chain(WORKERS.map(Over::Workers));
            let curves = overs.flat_map(|over| self.curve(over, images, error));
            Panel::new(Axis::log(label, [1.5, 3000.0]), error_axis()).with(curves)
        };
        let panels = [
            panel("images of each worker", |&Network(_, size)| size),
            panel("images of all workers", Network::images),
        ];
        Figure::new(
            "workers",
            "Test error with statistics of several workers",
            "Running statistics. On the right, the same points over the images of all workers together.",
        )
        .row("", panels)
        .fold()
    }

    /// The numbers that the story names: test errors in percent.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let percent = |over, size, number: fn(&Trained) -> f64| {
            format!(
                "{:.1} %",
                100.0 * self.runs.median(Network(over, size), number)
            )
        };
        let mut facts = vec![
            ("smallest", self.sizes[0].to_string()),
            ("largest", self.sizes[self.sizes.len() - 1].to_string()),
            ("plain", percent(Over::Nothing, SMALL, error)),
            ("small", percent(Over::Batch, SMALL, error)),
            ("middling", percent(Over::Batch, MIDDLING, error)),
            (
                "recalibrated",
                percent(Over::Batch, SMALL, recalibrated_error),
            ),
            ("renormalised", percent(Over::Renormalized, SMALL, error)),
            ("workers", percent(Over::Workers(8), SMALL, error)),
        ];
        if self.sizes.contains(&2) {
            facts.push(("two", percent(Over::Batch, 2, error)));
        }
        facts
    }

    fn claims(&self) -> Vec<Claim> {
        let median =
            |over, size, number: fn(&Trained) -> f64| self.runs.median(Network(over, size), number);
        let points = |value: f64| 100.0 * value;
        let parts = |number| {
            self.sizes
                .iter()
                .map(move |&size| (size, median(Over::Part, size, number)))
        };
        let losses: Vec<f64> = parts(loss).map(|(_, loss)| loss).collect();
        let growth = losses.windows(2).map(|pair| pair[1] / pair[0]);
        let best = parts(recalibrated_error).min_by(|a, b| a.1.total_cmp(&b.1));
        // A renormalised network has learned with its running statistics.
        let normalised = networks(self.sizes)
            .filter(|Network(over, _)| ![Over::Nothing, Over::Renormalized].contains(over));
        let leads = normalised.map(|network| {
            self.runs
                .median(network, |run| run.recalibrated - run.error)
        });
        vec![
            WU_HE
                .says("The error grows rapidly as batches become smaller")
                .measured(
                    format!("test error, batches of {SMALL} divided by batches of {MIDDLING}"),
                    median(Over::Batch, SMALL, error) / median(Over::Batch, MIDDLING, error),
                )
                .holds_if(Bound::AtLeast(1.5)),
            WU.says("The noise of small statistics makes training harder: the loss falls as they grow")
                .measured(
                    format!(
                        "largest factor on the training loss from one size of parts to the next, steps of {WHOLE} \
                         images"
                    ),
                    growth.fold(0.0, f64::max),
                )
                .holds_if(Bound::Below(1.0)),
            WU.says("Yet the largest statistics are not the best: a little noise helps to generalise")
                .measured(
                    format!(
                        "images in a part with which the test error is lowest, steps of {WHOLE} images, recalibrated"
                    ),
                    best.map_or(f64::NAN, |(size, _)| size as f64),
                )
                .holds_if(Bound::Between(32.0, 128.0)),
            HOFFER
                .says("A large batch generalises better if each small part of it is normalised by itself")
                .measured(
                    format!(
                        "test error in steps of {WHOLE} images, in parts of {MIDDLING} minus as a whole, in percentage \
                         points"
                    ),
                    points(median(Over::Part, MIDDLING, error) - median(Over::Batch, WHOLE, error)),
                )
                .holds_if(Bound::Below(0.0)),
            PENG.says("Synchronised, workers with few images each do as well as one with all of them")
                .measured(
                    format!(
                        "test error of 8 workers with batches of {SMALL} minus that of one with batches of {}, in \
                         percentage points",
                        8 * SMALL
                    ),
                    points(
                        median(Over::Workers(8), SMALL, error) - median(Over::Batch, 8 * SMALL, error),
                    ),
                )
                .holds_if(Bound::Between(-1.0, 1.0)),
            RENORM
                .says("Renormalised, small batches do substantially better")
                .measured(
                    format!("test error in batches of {SMALL}, renormalised divided by batch norm"),
                    median(Over::Renormalized, SMALL, error) / median(Over::Batch, SMALL, error),
                )
                .holds_if(Bound::AtMost(0.9)),
            RENORM
                .says("Renormalised, larger batches lose nothing")
                .measured(
                    format!(
                        "test error in batches of {MIDDLING}, renormalised minus batch norm, in percentage points"
                    ),
                    points(
                        median(Over::Renormalized, MIDDLING, error)
                            - median(Over::Batch, MIDDLING, error),
                    ),
                )
                .holds_if(Bound::AtMost(1.0)),
            WU.says("Recalibrated statistics are never worse than running ones, at any size")
                .measured(
                    "largest lead of running statistics, batches, workers and parts of all sizes, in percentage points",
                    points(leads.fold(f64::NEG_INFINITY, f64::max)),
                )
                .holds_if(Bound::AtMost(1.0)),
            WU.says("But they do not make up for small batches in training")
                .measured(
                    format!(
                        "test error with recalibrated statistics, batches of {SMALL} divided by batches of {MIDDLING}"
                    ),
                    median(Over::Batch, SMALL, recalibrated_error)
                        / median(Over::Batch, MIDDLING, recalibrated_error),
                )
                .holds_if(Bound::AtLeast(1.5)),
        ]
    }

    /// Tabulates the runs. A batch is that of each worker, or a part.
    fn table(&self) -> Table {
        let mut table = Table::new(&["statistics", "batch_size", "images_of_step", "seed"]);
        for run in &self.runs.0 {
            let Network(over, size) = run.setting;
            let values = [
                ("training_loss", loss(&run.result)),
                ("test_error", run.result.error),
                ("test_error_recalibrated", run.result.recalibrated),
            ];
            table.add((over.label(), size, run.setting.images(), run.seed), values);
        }
        table
    }
}
