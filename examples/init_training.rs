//! Which first weights let a network learn: `cargo run --release --example init_training`.

mod shared;

use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// Train five initialisations on MNIST, over several seeds, and look into their layers before, during
/// and after.
#[derive(Parser)]
#[command(name = "init_training", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> std::process::ExitCode {
    shared::run(&Args::parse().flags, Experiment::InitTraining)
}
