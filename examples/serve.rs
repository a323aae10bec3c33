//! Lends a device of this machine: `cargo run --release --features remote --example serve`.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use burn_kindling_lab::cli::{self, DeviceFlag};
use burn_kindling_lab::device;
use clap::Parser;

/// Lend a device of this machine to programs on other machines, which use it with `--device remote:HOST:PORT`.
///
/// The connection is unencrypted and unauthenticated. Listen beyond this machine only in a network that you trust.
/// Otherwise use a tunnel: `ssh -L 3000:localhost:3000 HOST`, and `--device remote:localhost:3000`.
#[derive(Parser)]
#[command(name = "serve", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    device: DeviceFlag,

    /// Address and port to listen on; 0.0.0.0 means every network of this machine, port 0 any free port
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let found = args.device.pick()?;
    let listener = TcpListener::bind(args.listen)
        .map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
    cli::print(format_args!(
        "lending {found} at {}",
        listener.local_addr()?
    ));
    cli::print("Ctrl-C ends it");
    let (server, transport) = device::lend([found.device], listener)?;
    Ok(server.serve(transport)?)
}
