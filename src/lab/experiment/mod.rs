//! The experiments: what initialisation and batch normalisation do inside a network.
//!
//! Each asks one question, repeats what the literature did, and comes to [`Findings`]: raw numbers,
//! figures, and [claims](Claim), which are sentences from the literature held against what was
//! measured. A claim that does not hold is shown as one.
//!
//! Finished runs are kept under [`Setup::out`] by their configuration: an experiment that was
//! stopped goes on from them, and one with more seeds runs only what is new.

mod claim;
mod error;
mod init_distributions;
mod setup;
mod table;

use std::fs;

use serde_json::json;

pub use claim::{Bound, Claim};
pub use error::ExperimentError;
pub use setup::{Setup, Size};
pub use table::Table;

use crate::init::names::names;
use crate::lab::report::Figure;
use crate::lab::train::{TrainError, write_atomically};

/// The experiments, in the order in which the page tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Experiment {
    /// What the weights' distribution does to every layer, forward and backward.
    InitDistributions,
}

names!(Experiment, "experiment":
    InitDistributions = "init_distributions",
);

/// What an experiment came to.
#[derive(Clone, Debug)]
pub struct Findings {
    /// Which experiment.
    pub experiment: Experiment,
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
