//! The command line that all experiments have.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use burn_kindling::lab::device::{self, DeviceError};
use burn_kindling::lab::experiment::{Experiment, ExperimentError, Findings, Setup, Size};
use burn_kindling::lab::mnist::Mnist;
use burn_kindling::lab::train::Interrupter;

#[derive(clap::Args)]
pub struct Flags {
    /// Less data, fewer epochs, fewer settings: a look in a minute instead of the full experiment
    #[arg(long)]
    quick: bool,

    /// How often each measurement is repeated, from another seed each time
    /// [default: the experiment's own]
    #[arg(long, value_name = "COUNT", value_parser = positive)]
    seeds: Option<usize>,

    /// Folder that keeps finished runs, numbers and figures
    /// [default: runs/experiments, with --quick runs/experiments-quick]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Device: flex, ndarray, wgpu, vulkan, metal, webgpu, cuda, rocm, with :INDEX for one of several GPUs
    /// [default: the best that is compiled in and present]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,

    /// Folder of the four MNIST files, gzip or plain [default: data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

type Error = Box<dyn std::error::Error>;

impl Flags {
    /// Opens the device, reads the data, and has Ctrl-C stop the experiment.
    pub fn setup(&self) -> Result<Setup, Error> {
        let (name, device) = device::pick(self.device.as_deref())?;
        let data = Mnist::load(&Mnist::find(self.data.as_deref())?)?;
        let (size, folder) = match self.quick {
            true => (Size::Quick, "runs/experiments-quick"),
            false => (Size::Full, "runs/experiments"),
        };
        let out = self.out.clone().unwrap_or_else(|| folder.into());
        eprintln!("on {name}, into {}", out.display());
        let mut setup = Setup::new(device, data, out);
        if !matches!(name.as_str(), "flex" | "ndarray") {
            setup.workers = 1;
        }
        setup.size = size;
        setup.seeds = self.seeds;
        setup.verbose = true;
        stop_on_ctrl_c(&setup.interrupter)?;
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

/// 2 for a wrong flag, 130 for Ctrl-C, 1 for everything else that goes wrong.
pub fn exit(outcome: Result<(), Error>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(DeviceError::Unknown { .. }), _) => ExitCode::from(2),
        (_, Some(ExperimentError::Interrupted)) => ExitCode::from(130),
        _ => ExitCode::FAILURE,
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
    }
}

/// The first Ctrl-C ends the experiment after the training step under way; the second the program.
fn stop_on_ctrl_c(interrupter: &Interrupter) -> Result<(), ctrlc::Error> {
    let interrupter = interrupter.clone();
    let stopping = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if stopping.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to leave at once");
        interrupter.stop(Some("Ctrl-C"));
    })
}
