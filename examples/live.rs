//! The lab in the browser: `cargo run --release --example live`.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use burn_kindling_lab::cli::{self, DataFlag, DeviceFlag};
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::live::{BenchConfig, Live, LiveConfig, open_browser};
use clap::Parser;

/// Watch networks learn to read digits, and change them while they do: their first weights, their activations, their
/// normalisation.
///
/// Starts a server on this machine, prints its address and opens it in a browser if there is one. Ctrl-C ends it.
/// Nothing is fetched from elsewhere.
#[derive(Parser)]
#[command(name = "live", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    device: DeviceFlag,

    #[command(flatten)]
    data: DataFlag,

    /// Port to listen on; 0 means any free port
    #[arg(long, value_name = "PORT", default_value_t = 4242)]
    port: u16,

    /// Address to listen on. Beyond this machine, the connection is unencrypted, and whoever reaches it can steer the
    /// lab
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,

    /// Do not open a browser
    #[arg(long)]
    no_open: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::keep_freed_memory();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let folder = args.data.find()?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let live = Live::start(LiveConfig {
        data: Mnist::load(&folder)?,
        data_name: match &*name {
            "mnist" => "MNIST".into(),
            name => name.into(),
        },
        device: args.device.pick()?,
        address: SocketAddr::new(args.address, args.port),
        bench: BenchConfig::default(),
    })?;
    let url = live.url();
    cli::print(&url);
    if !args.address.is_loopback() {
        cli::say("everybody who reaches this address can steer the lab");
    }
    let opened = !args.no_open && open_browser(&url);
    cli::say(match opened {
        true => "opening it in a browser; Ctrl-C ends the lab",
        false => "open this address in a browser; Ctrl-C ends the lab",
    });
    live.wait();
    Ok(())
}
