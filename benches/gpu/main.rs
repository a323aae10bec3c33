//! Measures a GPU: this crate's batch norm, Burn's and PyTorch's, and epochs on MNIST.
//!
//! `benches/gpu/pack` builds this program for a machine that has a GPU and nothing else; see docs/devices.md.
//!
//! The work is in parts. Each is a process of its own with a limit on its time, and reports its results line by line as
//! `Entry`s: whatever crashes or hangs costs one case or one part. The program itself starts the parts and writes all
//! results so far, as JSON and as a table, after every case.

#[path = "../bare.rs"]
mod bare;
mod case;
mod check;
mod clock;
mod entry;
mod epochs;
mod layers;
mod machine;
mod part;
mod pools;
mod report;
mod supervise;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use part::Part;

/// Checks and times batch norm on a GPU, beside Burn's layer and PyTorch's; then epochs on MNIST.
#[derive(Clone, Parser)]
#[command(version, args_override_self = true)]
pub struct Args {
    /// Small shapes and few images: for trying the program out
    #[arg(long)]
    quick: bool,

    /// Device, such as vulkan, wgpu or cuda; append :INDEX to choose among several GPUs [default: the best one that is
    /// compiled in and present]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,

    /// Minutes that it may take; what does not fit in is left out
    #[arg(long, default_value_t = 8.0)]
    minutes: f64,

    /// Folder for results.json and results.md
    #[arg(long, value_name = "DIR", default_value = "results")]
    out: PathBuf,

    /// Folder of MNIST's files [default: data/mnist]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Python with PyTorch, to compare with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,

    /// PyTorch's device, if not the first GPU: cpu, to try it out
    #[arg(long, value_name = "DEVICE")]
    torch_device: Option<String>,

    /// Script that measures PyTorch
    #[arg(long, value_name = "FILE", default_value = "benches/gpu/peer.py")]
    peer: PathBuf,

    /// Runs one part in this process
    #[arg(long, hide = true)]
    part: Option<Part>,

    /// Seconds that the part may take
    #[arg(long, hide = true, default_value_t = f64::INFINITY)]
    seconds: f64,

    /// Cases of the part that were done before
    #[arg(long, hide = true, default_value_t = 0)]
    skip: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.part {
        Some(part) => part.run(&args),
        None => supervise::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
