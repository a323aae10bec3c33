//! Lists the available devices and their speed: `cargo run --release --example devices`.

use std::process::ExitCode;

use burn::tensor::{DType, Device};
use burn_kindling_lab::cli;
use burn_kindling_lab::device::{self, DeviceError, Found, Survey};
use clap::Parser;

/// List the devices that this program can compute on, and the backends that are missing.
///
/// For every backend: whether it is compiled in, and which devices it has here. For every device: what it is, how much
/// memory it can use, its float types, and its speed in f32: of a product of two 512x512 matrices, in billions of
/// operations per second, and of this crate's batch norm over [64, 32, 28, 28], in billions of bytes read and written
/// per second.
#[derive(Parser)]
#[command(name = "devices", max_term_width = 100)]
struct Args {
    /// List only this device [default: all]
    #[arg(long, value_name = "NAME")]
    device: Option<String>,

    /// Do not measure the speed
    #[arg(long)]
    no_speed: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::end_with_the_pipe();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error.into()),
    }
}

fn run(args: &Args) -> Result<(), DeviceError> {
    if let Some(name) = &args.device {
        args.print(&device::open(name)?);
        return Ok(());
    }
    for Survey { backend, devices } in device::survey() {
        match devices {
            Err(DeviceError::NotCompiledIn { feature, .. }) => {
                println!("{backend:<9} not compiled in; build with `--features {feature}`");
            }
            Err(error) => println!("{backend:<9} {error}"),
            Ok(devices) => {
                for found in devices {
                    match found {
                        Ok(found) => args.print(&found),
                        Err(error) => println!("{backend:<9} {error}"),
                    }
                }
            }
        }
    }
    match cfg!(feature = "remote") {
        true => println!("remote    whatever the example serve lends: `--device remote:HOST:PORT`"),
        false => println!("remote    not compiled in; build with `--features remote`"),
    }
    println!();
    println!("without --device: {}", device::pick(None)?);
    Ok(())
}

impl Args {
    fn print(&self, found: &Found) {
        let memory = match found.memory {
            Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
            None => "memory not told".into(),
        };
        let software = match found.software {
            true => ", on the CPU",
            false => "",
        };
        println!(
            "{:<9} {}{software}; {memory}; {}",
            found.name,
            found.description,
            types(&found.device)
        );
        if !self.no_speed {
            match device::measure(found) {
                Ok(speed) => println!(
                    "{:<9} matrix product {:.1} GFLOP/s, batch norm {:.2} GB/s",
                    "",
                    speed.matrix_product / 1e9,
                    speed.batch_norm / 1e9
                ),
                Err(error) => println!("{:<9} {error}", ""),
            }
        }
    }
}

/// The float types that a device computes in.
fn types(device: &Device) -> String {
    let all = [
        ("f64", DType::F64),
        ("f32", DType::F32),
        ("f16", DType::F16),
        ("bf16", DType::BF16),
    ];
    let supported = all
        .iter()
        .filter(|(_, dtype)| device.supports_dtype(*dtype));
    supported
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}
