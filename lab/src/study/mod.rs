//! The experiments: what initialisation and batch normalisation do inside a network.
//!
//! Each asks one question, repeats what the literature did, and comes to [`Findings`]: raw numbers,
//! figures, and [claims](Claim), which are sentences from the literature held against what was
//! measured. A claim that does not hold is shown as one.
//!
//! Finished runs are kept under [`Setup::out`] by their configuration: an experiment that was
//! stopped goes on from them, and one with more seeds runs only what is new.

mod batch_norm_depth;
mod batch_norm_inference;
mod batch_norm_training;
mod claim;
mod error;
mod init_distributions;
mod init_training;
mod setup;
mod table;

use std::fs;

use serde_json::json;

pub use claim::{Bound, Claim};
pub use error::ExperimentError;
pub use setup::{Setup, Size};
pub use table::Table;

use crate::figure::{Axis, Color, Figure, Panel, Series, Shape};
use crate::train::{TrainError, write_atomically};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::Summary;

/// The experiments, in the order in which the page tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Experiment {
    /// What the weights' distribution does to every layer, forward and backward.
    InitDistributions,
    /// The five initialisations, trained.
    InitTraining,
    /// Weight scales and learning rates, without batch norm and with.
    BatchNormTraining,
    /// What moves behind a change, over training, and with depth.
    BatchNormDepth,
    /// Which statistics to go by once a network is trained.
    BatchNormInference,
}

burn_kindling::names!(Experiment, "experiment":
    InitDistributions = "init_distributions",
    InitTraining = "init_training",
    BatchNormTraining = "batch_norm_training",
    BatchNormDepth = "batch_norm_depth",
    BatchNormInference = "batch_norm_inference",
);

/// What an experiment came to.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Which experiment.
    pub experiment: Experiment,
    /// How much of it was done.
    pub size: Size,
    /// How often it was repeated; `None` leaves it to the experiment.
    pub seeds: Option<usize>,
    /// Where it was computed.
    pub device: String,
    /// What it asks.
    pub question: String,
    /// What was done and what is to be seen, in plain words, a paragraph each.
    pub story: Vec<String>,
    /// The pictures.
    pub figures: Vec<Figure>,
    /// The sentences from the literature, and whether they hold here.
    pub claims: Vec<Claim>,
    /// The raw numbers.
    pub table: Table,
}

impl Experiment {
    /// Runs what is missing of the experiment, and writes what it came to into the folder of its
    /// name: `data.json`, `data.csv`, `claims.json`, and each figure as SVG and PNG.
    ///
    /// # Errors
    ///
    /// It is stopped; a training fails; a file cannot be written.
    pub fn run(self, setup: &Setup) -> Result<Findings, ExperimentError> {
        let findings = match self {
            Self::InitDistributions => init_distributions::run(setup),
            Self::InitTraining => init_training::run(setup),
            Self::BatchNormTraining => batch_norm_training::run(setup),
            Self::BatchNormDepth => batch_norm_depth::run(setup),
            Self::BatchNormInference => batch_norm_inference::run(setup),
        }?;
        findings.write(setup)?;
        Ok(findings)
    }
}

impl Findings {
    /// The command that finds it.
    pub fn command(&self) -> String {
        format!(
            "cargo run --release --example {}{}",
            self.experiment,
            self.flags()
        )
    }

    /// The flags that have a command do as much as was done here.
    pub fn flags(&self) -> String {
        let quick = match self.size {
            Size::Full => "",
            Size::Quick => " --quick",
        };
        let seeds = self.seeds.map(|seeds| format!(" --seeds {seeds}"));
        let flags = [quick, seeds.as_deref().unwrap_or("")].concat();
        match flags.is_empty() {
            true => flags,
            false => format!(" --{flags}"),
        }
    }

    fn write(&self, setup: &Setup) -> Result<(), TrainError> {
        let folder = setup.out.join(self.experiment.to_string());
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        let write = |name: &str, bytes: &[u8]| write_atomically(&folder.join(name), bytes);
        let text = |value| format!("{value:#}\n").into_bytes();
        write("data.csv", self.table.csv().as_bytes())?;
        write("data.json", &text(self.table.json()))?;
        write("claims.json", &text(json!(self.claims)))?;
        for figure in &self.figures {
            write(&format!("{}.svg", figure.name), figure.svg().as_bytes())?;
            write(&format!("{}.png", figure.name), &figure.png())?;
        }
        Ok(())
    }
}

/// An initialisation as the texts call it.
fn label(strategy: InitStrategy) -> &'static str {
    match strategy {
        InitStrategy::Zeros => "zeros",
        InitStrategy::StandardNormal => "N(0, 1)",
        InitStrategy::SmallNormal => "N(0, 0.01²)",
        InitStrategy::Xavier => "Xavier",
        InitStrategy::He => "He",
    }
}

/// An activation as the texts call it.
fn name(activation: Activation) -> &'static str {
    match activation {
        Activation::Sigmoid => "sigmoid",
        Activation::Tanh => "tanh",
        Activation::Relu => "ReLU",
        Activation::LeakyRelu => "leaky ReLU",
        Activation::Gelu => "GELU",
    }
}

/// A histogram of a layer's outputs or of their gradients, over `range`, in as many bins as it has.
fn histogram(values: &Summary, depth: usize, color: Color, x: &str, range: [f64; 2]) -> Panel {
    let bars = shares(values, range);
    let drawn: f64 = bars.iter().map(|bar| bar[2]).sum();
    let finite = values.count - values.nan - values.infinite;
    let beyond = finite as f64 / values.count as f64 - drawn;
    let beyond = match beyond > 0.005 {
        true => format!(", {:.0} % off the axis", 100.0 * beyond),
        false => String::new(),
    };
    let std = match values.std {
        0.0 => "std 0".into(),
        std @ 0.001..10.0 => format!("std {std:.3}"),
        std @ 10.0..1000.0 => format!("std {std:.0}"),
        std if std.is_nan() => "no finite numbers".into(),
        std => format!("std {std:.1e}"),
    };
    Panel {
        title: format!("layer {}: {std}{beyond}", depth + 1),
        x: Axis::linear(x, range),
        y: Axis::linear("share (cut at 0.5)", [0.0, 0.5]),
        series: vec![Series::new("", color, Shape::Bars(bars))],
    }
}

/// The share of the values in each bin, were the histogram cut over `[low, high]`: `(from, to, share)`.
/// A bin of the histogram that lies in several of these is taken for evenly filled.
fn shares(values: &Summary, [low, high]: [f64; 2]) -> Vec<[f64; 3]> {
    let histogram = &values.histogram;
    let bins = histogram.counts.len();
    let width = (high - low) / bins as f64;
    let mut bars: Vec<[f64; 3]> = (0..bins)
        .map(|i| [low + width * i as f64, low + width * (i + 1) as f64, 0.0])
        .collect();
    // A single value has no width of its own.
    let edges = match values.std {
        0.0 => vec![values.mean; bins + 1],
        _ => histogram.edges(),
    };
    for (ends, &count) in edges.windows(2).zip(&histogram.counts) {
        for bar in bars.iter_mut().filter(|_| count > 0) {
            let common = ends[1].min(bar[1]) - ends[0].max(bar[0]);
            let share = match ends[1] - ends[0] {
                0.0 => f64::from(u8::from(bar[0] <= ends[0] && ends[0] < bar[1])),
                length => common.max(0.0) / length,
            };
            bar[2] += share * count as f64 / values.count as f64;
        }
    }
    bars
}
