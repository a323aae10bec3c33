//! Exports a trained network: `cargo run --release --example export -- runs/NAME model.safetensors`.

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::FloatDType;
use burn_kindling::record::Layout;
use burn_kindling_lab::{cli, device};
use clap::{Parser, ValueEnum};

/// Export a trained network to another program: to Burn, to PyTorch, or to a small device.
///
/// The file includes the network's configuration, so the predict example can read it.
#[derive(Parser)]
#[command(name = "export", max_term_width = 100)]
struct Args {
    /// Folder of a run of the mnist example, or a .bpk, .safetensors or .pt file
    from: PathBuf,

    /// File to write: .bpk for Burn's names and layouts, .safetensors for PyTorch's
    to: PathBuf,

    /// Fold every batch norm into the layer before it
    #[arg(long)]
    fold: bool,

    /// Part of the file that holds the network, such as `model` or `ema.module` [default: found by the usual names]
    #[arg(long, value_name = "NAME")]
    under: Option<String>,

    /// Type of the numbers; with f16, batch norms stay in f32, whose range they need
    #[arg(long, value_enum, value_name = "NAME", default_value = "f32")]
    dtype: DType,

    /// Replace the file if it exists
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
        cli::say(format_args!(
            "error: {} should end in .bpk (Burn) or .safetensors (PyTorch)",
            args.to.display()
        ));
        return ExitCode::from(2);
    };
    match run(&args, layout) {
        Ok(text) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(error),
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
        return Err(format!("{to} exists already; replace it with --force").into());
    }
    let found = device::pick(None)?;
    cli::say(format_args!("exporting on {found}"));
    let (mut config, mut model) =
        cli::open_network(&args.from, args.under.as_deref(), &found.device)?;
    if args.fold {
        (config, model) = (config.folded(), model.fold());
    }
    let dtype = match args.dtype {
        DType::F32 => FloatDType::F32,
        DType::F16 => FloatDType::F16,
    };
    let record = model.record(&config, layout).cast(dtype)?;
    record.check()?;
    record.save(&args.to)?;

    let bytes = std::fs::metadata(&args.to)?.len();
    let numbers = model.num_params();
    Ok(format!(
        "{to}: {numbers} numbers in {bytes} bytes, {} with norm {}\n",
        config.name(),
        config.norm()
    ))
}
