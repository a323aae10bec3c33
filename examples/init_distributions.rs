//! What the first weights do to every layer: `cargo run --release --example init_distributions`.

mod shared;

use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// Send random inputs through five untrained layers, for five initialisations and three
/// activations, and see what comes out of every layer, forward and backward.
#[derive(Parser)]
#[command(name = "init_distributions", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> std::process::ExitCode {
    shared::run(&Args::parse().flags, Experiment::InitDistributions)
}
