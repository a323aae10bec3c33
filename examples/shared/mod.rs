//! Shared by the experiment and report examples.

use std::path::PathBuf;
use std::process::ExitCode;

use burn_kindling_lab::cli::{self, DataFlag, DeviceFlag};
use burn_kindling_lab::device;
use burn_kindling_lab::study::{Findings, Setup, Size, Verdict};
use burn_kindling_lab::train::Display;

#[derive(clap::Args)]
pub struct Flags {
    /// Less data, fewer epochs and fewer settings: takes a minute or two
    #[arg(long)]
    quick: bool,

    /// Number of seeds to repeat each measurement over [default: depends on the experiment]
    #[arg(long, value_name = "COUNT", value_parser = cli::positive, allow_negative_numbers = true)]
    seeds: Option<usize>,

    /// Folder for finished runs, numbers and figures
    /// [default: runs/experiments, with --quick runs/experiments-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceFlag,

    #[command(flatten)]
    data: DataFlag,
}

type Error = Box<dyn std::error::Error>;

impl Flags {
    /// Opens the device, reads the data, and lets Ctrl-C stop the experiment.
    pub fn setup(&self) -> Result<Setup, Error> {
        let device = self.device.pick()?;
        let data = self.data.load()?;
        let (size, folder) = match self.quick {
            true => (Size::Quick, "runs/experiments-quick"),
            false => (Size::Full, "runs/experiments"),
        };
        let out = self.out.clone().unwrap_or_else(|| folder.into());
        cli::say(format_args!("on {device}, into {}", out.display()));
        let mut setup = Setup::new(device.device.clone(), data, out);
        setup.device_name = device.to_string();
        if !device::is_cpu_backend(&device.name) {
            setup.workers = 1;
        }
        setup.size = size;
        setup.seeds = self.seeds;
        setup.verbose = true;
        cli::stop_on_ctrl_c(&setup.interrupter, Display::Lines)?;
        Ok(setup)
    }
}

/// Returns the exit code of a program. Prints the error, if there is one.
pub fn exit(outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

/// Prints the question of an experiment and its claims.
pub fn print_claims(findings: &Findings) {
    cli::print(findings.experiment.question());
    for claim in &findings.results.claims {
        let verdict = findings.verdict(claim);
        cli::print(format_args!(
            "  {verdict}: {}\n      {}: {} (bound: {}) [{}]",
            claim.statement,
            claim.quantity,
            claim.measured(),
            claim.bound,
            claim.source,
        ));
        if let Some(why) = claim.why
            && verdict == Verdict::Fails
        {
            cli::print(format_args!("      why: {why}"));
        }
    }
}
