//! What batch norm forgives: `cargo run --release --example batch_norm_training`.

mod shared;

use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// Train with weights of sixteen scales and with many learning rates: without batch norm, with this
/// crate's, and with Burn's.
#[derive(Parser)]
#[command(name = "batch_norm_training", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> std::process::ExitCode {
    shared::run(&Args::parse().flags, Experiment::BatchNormTraining)
}
