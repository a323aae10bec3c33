//! Says which digit an image shows: `cargo run --release --example predict -- runs/NAME --image digit.png`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use burn::tensor::activation::softmax;
use burn_kindling_lab::cli::{self, DataFlag, DeviceFlag};
use burn_kindling_lab::data::{ImageSet, Picture, draw, normalise};
use clap::Parser;

/// Say which digit an image shows, with a trained network.
#[derive(Parser)]
#[command(name = "predict", max_term_width = 100)]
struct Args {
    /// Folder of a run of the mnist example, or a .bpk, .safetensors or .pt file; a file without a configuration
    /// needs a config.json beside it
    network: PathBuf,

    /// Part of the file that holds the network, such as `model` or `ema.module` [default: found by the usual names]
    #[arg(long, value_name = "NAME")]
    under: Option<String>,

    #[command(flatten)]
    what: What,

    #[command(flatten)]
    device: DeviceFlag,

    #[command(flatten)]
    data: DataFlag,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// PNG or JPEG file of one digit, of any size, dark on light or light on dark: a drawing or a photograph
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// Index of an image of the test set, from 0
    #[arg(long, value_name = "NUMBER")]
    index: Option<usize>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(text) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(error),
    }
}

fn run(args: &Args) -> Result<String, Box<dyn std::error::Error>> {
    let found = args.device.pick()?;
    cli::say(format_args!("reading on {found}"));
    let device = found.device;
    let (config, model) = cli::open_network(&args.network, args.under.as_deref(), &device)?;
    if config.pixels() != Some(ImageSet::PIXELS) {
        return Err(format!(
            "{} does not take images of {} pixels",
            args.network.display(),
            ImageSet::PIXELS
        )
        .into());
    }

    let (pixels, truth) = match (&args.what.image, args.what.index) {
        (Some(path), _) => {
            let picture = Picture::open(path)?;
            for doubt in picture.doubts() {
                cli::say(format_args!("warning: {doubt}"));
            }
            (picture.pixels().to_vec(), None)
        }
        (None, index) => {
            let test = args.data.load()?.test;
            let index = index.expect("clap asks for one of the two");
            if index >= test.len() {
                let last = test.len() - 1;
                return Err(format!("the test set has images 0 to {last}, found {index}").into());
            }
            (test.image(index).to_vec(), Some(test.label(index)))
        }
    };
    let logits = model.forward(normalise(std::iter::once(&*pixels), &device));
    let probabilities = softmax(logits, 1).into_data().convert::<f32>();
    let probabilities = probabilities.try_to_vec::<f32>()?;
    if probabilities.iter().any(|probability| probability.is_nan()) {
        return Err(format!(
            "{} has no answer for this image: its logits overflow",
            args.network.display()
        )
        .into());
    }
    Ok(report(&pixels, &probabilities, truth))
}

fn report(pixels: &[u8], probabilities: &[f32], truth: Option<u8>) -> String {
    const WIDTH: f32 = 40.0;
    let mut text = draw(pixels);
    for (class, probability) in probabilities.iter().enumerate() {
        let bar = "█".repeat((WIDTH * probability).round() as usize);
        writeln!(text, "{class}  {:6.2} %  {bar}", 100.0 * probability)
            .expect("a string takes every line");
    }
    let (class, probability) = probabilities
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .expect("there are classes");
    let truth = truth.map_or(String::new(), |label| format!("; its label is {label}"));
    writeln!(
        text,
        "it shows a {class} ({:.2} %){truth}",
        100.0 * probability
    )
    .expect("a string takes every line");
    text
}
