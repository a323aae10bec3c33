//! Experiments: what initialisation and batch normalisation do inside a network.
//!
//! Each experiment asks one question, repeats what the literature did, and returns [`Findings`]: raw numbers, figures,
//! and [claims](Claim). A claim is a sentence from the literature, tested against a measurement. Claims that do not
//! hold are reported too.
//!
//! Each experiment is one Rust file, with its question and its story beside it in Markdown, in English and in Korean.
//! The Korean file also has the short texts of the figures and claims in both languages. Finished runs are kept
//! under [`Setup::out`]. A stopped experiment continues from them, and asking for more seeds runs only the new ones.

mod batch_norm_batch;
mod batch_norm_batch_sizes;
mod batch_norm_depth;
mod batch_norm_recalibration;
mod batch_norm_running_variance;
mod batch_norm_shift;
mod batch_norm_stability;
mod batch_norm_test_batches;
mod batch_norm_training;
mod claim;
mod error;
mod guess;
mod inference;
mod init_calibration;
mod init_distributions;
mod init_orthogonal;
mod init_trainable_depth;
mod init_training;
mod init_zero_gamma;
mod layers;
mod losses;
mod names;
mod results;
mod runs;
mod setup;
mod story;
mod table;

use std::fs;

use serde_json::json;

pub use claim::{Bound, Claim, Source, Statement, Tested, Verdict};
pub use error::ExperimentError;
pub use guess::Guess;
pub use results::Results;
pub use setup::{Setup, Size};
pub use story::Language;
pub use table::Table;

use crate::train::{TrainError, write_atomically};

/// The experiments, in the order of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Experiment {
    /// Outputs and gradients of every layer of an untrained network.
    InitDistributions,
    /// Training from five initialisations.
    InitTraining,
    /// Networks of 10 to 160 tanh layers, by weight variance.
    InitTrainableDepth,
    /// Gaussian and orthogonal weights in 100 tanh layers.
    InitOrthogonal,
    /// Layers with four activations, from a formula, calibrated, and with batch norm.
    InitCalibration,
    /// Residual branches whose last gamma is 1 or 0.
    InitZeroGamma,
    /// One batch before and after batch norm, and the running statistics that follow the batches.
    BatchNormBatch,
    /// Weight scales and learning rates, with and without batch norm.
    BatchNormTraining,
    /// How far a change of the first layer moves the later ones.
    BatchNormShift,
    /// How the input of a unit changes over training.
    BatchNormStability,
    /// Networks of 10, 20 and 30 layers.
    BatchNormDepth,
    /// Test batches normalised by their own statistics.
    BatchNormTestBatches,
    /// Biased and unbiased running variances.
    BatchNormRunningVariance,
    /// Out-of-date running statistics, and recalibrating them.
    BatchNormRecalibration,
    /// Statistics over more or fewer images than a batch has.
    BatchNormBatchSizes,
}

burn_kindling::names!(Experiment, "experiment":
    InitDistributions = "init-distributions",
    InitTraining = "init-training",
    InitTrainableDepth = "init-trainable-depth",
    InitOrthogonal = "init-orthogonal",
    InitCalibration = "init-calibration",
    InitZeroGamma = "init-zero-gamma",
    BatchNormBatch = "batch-norm-batch",
    BatchNormTraining = "batch-norm-training",
    BatchNormShift = "batch-norm-shift",
    BatchNormStability = "batch-norm-stability",
    BatchNormDepth = "batch-norm-depth",
    BatchNormTestBatches = "batch-norm-test-batches",
    BatchNormRunningVariance = "batch-norm-running-variance",
    BatchNormRecalibration = "batch-norm-recalibration",
    BatchNormBatchSizes = "batch-norm-batch-sizes",
);

impl Experiment {
    /// Whether the quick size measures something smaller, and not only fewer seeds.
    fn is_smaller_when_quick(self) -> bool {
        !matches!(self, Self::InitDistributions | Self::BatchNormShift)
    }

    /// Runs the missing runs of the experiment and writes its findings into `out/name`: `data.json`, `data.csv`,
    /// `claims.json`, and each figure as SVG and PNG.
    ///
    /// # Errors
    ///
    /// The experiment is stopped, a training fails, or a file cannot be written.
    pub fn run(self, setup: &Setup) -> Result<Findings, ExperimentError> {
        let run = match self {
            Self::InitDistributions => init_distributions::run,
            Self::InitTraining => init_training::run,
            Self::InitTrainableDepth => init_trainable_depth::run,
            Self::InitOrthogonal => init_orthogonal::run,
            Self::InitCalibration => init_calibration::run,
            Self::InitZeroGamma => init_zero_gamma::run,
            Self::BatchNormBatch => batch_norm_batch::run,
            Self::BatchNormTraining => batch_norm_training::run,
            Self::BatchNormShift => batch_norm_shift::run,
            Self::BatchNormStability => batch_norm_stability::run,
            Self::BatchNormDepth => batch_norm_depth::run,
            Self::BatchNormTestBatches => batch_norm_test_batches::run,
            Self::BatchNormRunningVariance => batch_norm_running_variance::run,
            Self::BatchNormRecalibration => batch_norm_recalibration::run,
            Self::BatchNormBatchSizes => batch_norm_batch_sizes::run,
        };
        let findings = Findings {
            experiment: self,
            size: setup.size,
            seeds: setup.seeds,
            device: setup.device_name.clone(),
            results: run(setup, &self.to_string())?,
        };
        findings.write(setup)?;
        Ok(findings)
    }
}

/// What an experiment found, and how.
#[derive(Clone, Debug)]
pub struct Findings {
    /// The experiment.
    pub experiment: Experiment,
    /// How much work was done.
    pub size: Size,
    /// How many seeds were asked for; `None` for the experiment's default.
    pub seeds: Option<usize>,
    /// The device.
    pub device: String,
    /// Figures, claims and numbers.
    pub results: Results,
}

impl Findings {
    /// What the experiment found about a claim of its own. Less data, fewer steps and fewer settings cannot refute what
    /// the literature says of more.
    pub fn verdict(&self, claim: &Claim) -> Verdict {
        let smaller = self.size == Size::Quick && self.experiment.is_smaller_when_quick();
        match (claim.holds, smaller) {
            (true, _) => Verdict::Holds,
            (false, false) => Verdict::Fails,
            (false, true) => Verdict::NeedsFullRun,
        }
    }

    /// How many claims have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let claims = self.results.claims.iter();
        claims
            .filter(|claim| self.verdict(claim) == verdict)
            .count()
    }

    /// The command that repeats the experiment.
    pub fn command(&self) -> String {
        let name = self.experiment;
        format!(
            "cargo run --release --example experiment -- {name}{}",
            self.flags()
        )
    }

    /// The flags that repeat it at the same size and with the same seeds; empty or starting with a space.
    pub fn flags(&self) -> String {
        let quick = match self.size {
            Size::Full => "",
            Size::Quick => " --quick",
        };
        let seeds = self.seeds.map(|seeds| format!(" --seeds {seeds}"));
        [quick, seeds.as_deref().unwrap_or("")].concat()
    }

    fn write(&self, setup: &Setup) -> Result<(), TrainError> {
        let folder = setup.out.join(self.experiment.to_string());
        fs::create_dir_all(&folder).map_err(TrainError::io("create", &folder))?;
        let write = |name: &str, bytes: &[u8]| write_atomically(&folder.join(name), bytes);
        let text = |value| format!("{value:#}\n").into_bytes();
        let Results {
            figures,
            claims,
            table,
            ..
        } = &self.results;
        write("data.csv", table.csv().as_bytes())?;
        write("data.json", &text(table.json()))?;
        write("claims.json", &text(json!(claims)))?;
        for figure in figures {
            write(&format!("{}.svg", figure.name), figure.svg().as_bytes())?;
            write(&format!("{}.png", figure.name), &figure.png())?;
        }
        Ok(())
    }
}
