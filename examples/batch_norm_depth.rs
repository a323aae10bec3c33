//! Why batch norm stands at every layer: `cargo run --release --example batch_norm_depth`.

mod shared;

use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// See how far a change of the first layer moves the later ones, how a unit's input wanders over
/// training, and how deep a network can be and still learn.
#[derive(Parser)]
#[command(name = "batch_norm_depth", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> std::process::ExitCode {
    shared::run(&Args::parse().flags, Experiment::BatchNormDepth)
}
