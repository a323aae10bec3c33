//! The command line that all experiments have.

use std::path::PathBuf;
use std::process::ExitCode;

use burn_kindling_lab::cli::{self, DataFlag, DeviceFlag};
use burn_kindling_lab::study::{Experiment, Findings, Setup, Size};

#[derive(clap::Args)]
pub struct Flags {
    /// Less data, fewer epochs, fewer settings: a look in a minute or two instead of the full
    /// experiment
    #[arg(long)]
    quick: bool,

    /// How often each measurement is repeated, from another seed each time
    /// [default: the experiment's own]
    #[arg(long, value_name = "COUNT", value_parser = cli::positive)]
    seeds: Option<usize>,

    /// Folder that keeps finished runs, numbers and figures
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
    /// Opens the device, reads the data, and has Ctrl-C stop the experiment.
    pub fn setup(&self) -> Result<Setup, Error> {
        let device = self.device.pick()?;
        let data = self.data.load()?;
        let (size, folder) = match self.quick {
            true => (Size::Quick, "runs/experiments-quick"),
            false => (Size::Full, "runs/experiments"),
        };
        let out = self.out.clone().unwrap_or_else(|| folder.into());
        eprintln!("on {device}, into {}", out.display());
        let mut setup = Setup::new(device.device.clone(), data, out);
        setup.device_name = device.to_string();
        if !device::is_cpu_backend(&device.name) {
            setup.workers = 1;
        }
        setup.size = size;
        setup.seeds = self.seeds;
        setup.verbose = true;
        cli::stop_on_ctrl_c(&setup.interrupter)?;
        Ok(setup)
    }
}

/// Runs one experiment and prints its claims.
#[allow(
    dead_code,
    reason = "not every example that shares the flags runs a single experiment"
)]
pub fn run(flags: &Flags, experiment: Experiment) -> ExitCode {
    exit(flags.setup().and_then(|setup| {
        print_claims(&experiment.run(&setup)?);
        let folder = setup.out.join(experiment.to_string());
        println!("figures and numbers are in {}", folder.display());
        Ok(())
    }))
}

/// Success, or what went wrong told.
pub fn exit(outcome: Result<(), Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

pub fn print_claims(findings: &Findings) {
    println!("{}", findings.question);
    for claim in &findings.claims {
        let verdict = if claim.holds {
            "holds"
        } else {
            "DOES NOT HOLD"
        };
        println!(
            "  {verdict}: {}\n      {}: {} (bound: {}) [{}]",
            claim.statement,
            claim.quantity,
            claim.measured(),
            claim.bound,
            claim.source,
        );
        if let Some(why) = claim.why {
            println!("      why: {why}");
        }
    }
}
