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

use crate::init::names::names;
use crate::init::{Activation, InitStrategy};
use crate::lab::report::{Axis, Color, Figure, Panel, Series, Shape};
use crate::lab::train::{TrainError, write_atomically};
use crate::observe::Layer;

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

names!(Experiment, "experiment":
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

    /// The command that runs it.
    pub fn command(self) -> String {
        format!("cargo run --release --example {self}")
    }
}

impl Findings {
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

/// A histogram of what a layer puts out, over the activation's range.
fn histogram(layer: &Layer, activation: Activation, color: Color, depth: usize) -> Panel {
    let histogram = &layer.data.histogram;
    let share = |count: usize| count as f64 / layer.data.count as f64;
    let edges = histogram.edges();
    let bars = histogram.counts.iter().enumerate();
    let bars = bars.map(|(i, &count)| [edges[i], edges[i + 1], share(count)]);
    let beyond = share(histogram.above + histogram.below);
    let beyond = match beyond > 0.005 {
        true => format!(", {:.0} % beyond", 100.0 * beyond),
        false => String::new(),
    };
    let std = match layer.data.std {
        0.0 => "std 0".into(),
        std @ 0.001..10.0 => format!("std {std:.3}"),
        std @ 10.0..1000.0 => format!("std {std:.0}"),
        std if std.is_nan() => "not one number".into(),
        std => format!("std {std:.1e}"),
    };
    Panel {
        title: format!("layer {}: {std}{beyond}", depth + 1),
        x: Axis::linear(
            format!("{} output", name(activation)),
            setup::histogram_range(activation),
        ),
        y: Axis::linear("share (cut at 0.5)", [0.0, 0.5]),
        series: vec![Series::new("", color, Shape::Bars(bars.collect()))],
    }
}
