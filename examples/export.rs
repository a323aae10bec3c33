//! Takes a trained network elsewhere: `cargo run --release --example export -- runs/NAME model.safetensors`.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use burn_kindling::record::Layout;
use burn_kindling_lab::device;
use burn_kindling_lab::model::{Classifier, ModelConfig};
use burn_kindling_lab::train::RunFolder;
use clap::{Parser, ValueEnum};

/// Write a trained network down for another program: for Burn, for PyTorch, for a small device.
///
/// The file holds the network's configuration too, so that the predict example takes it as it is.
#[derive(Parser)]
#[command(name = "export", max_term_width = 100)]
struct Args {
    /// Folder of the run, as the mnist example made it, or a .bpk, .safetensors or .pt file
    from: PathBuf,

    /// File to write: .bpk for Burn's names and layouts, .safetensors for PyTorch's
    to: PathBuf,

    /// Fold every batch norm into the layer before it
    #[arg(long)]
    fold: bool,

    /// Type of the numbers; in f16, batch norms stay in f32, whose range they need
    #[arg(long, value_enum, value_name = "NAME", default_value = "f32")]
    dtype: DType,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DType {
    F32,
    F16,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let Some(layout) = layout(&args.to) else {
        eprintln!(
            "error: {} should end in .bpk, for Burn, or .safetensors, for PyTorch",
            args.to.display()
        );
        return ExitCode::from(2);
    };
    match run(&args, layout) {
        Ok(text) => {
            // Whoever reads may have gone.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn layout(path: &Path) -> Option<Layout> {
    match path.extension()?.to_str()? {
        "bpk" => Some(Layout::Burn),
        "safetensors" => Some(Layout::PyTorch),
        _ => None,
    }
}

fn run(args: &Args, layout: Layout) -> Result<String, Box<dyn Error>> {
    let to = args.to.display();
    if args.to.exists() && !args.force {
        return Err(format!("{to} is there already; replace it by --force").into());
    }
    let found = device::pick(None)?;
    eprintln!("exporting on {found}");
    let (mut config, mut model) = open(&args.from, &found.device)?;
    if args.fold {
        (config, model) = (config.folded(), model.fold());
    }
    let dtype = match args.dtype {
        DType::F32 => FloatDType::F32,
        DType::F16 => FloatDType::F16,
    };
    let record = model.record(&config, layout).cast(dtype)?;
    record.save(&args.to)?;

    let bytes = std::fs::metadata(&args.to)?.len();
    let numbers = model.num_params();
    Ok(format!(
        "{to}: {numbers} numbers in {bytes} bytes, {} with norm {}\n",
        config.name(),
        config.norm()
    ))
}

/// The network of a run, or of a file.
fn open(path: &Path, device: &Device) -> Result<(ModelConfig, Classifier), Box<dyn Error>> {
    if !path.is_dir() {
        return Ok(Classifier::open(path, device)?);
    }
    let run = RunFolder::open(path)?;
    Ok((run.config()?.model, run.load_model(device)?))
}
