//! What not to do with batch norm at test time: `cargo run --release --example batch_norm_inference`.

mod shared;

use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// Test one network by running statistics and by those of all kinds of test batches, with biased and
/// unbiased variances, and with four kinds of running average.
#[derive(Parser)]
#[command(name = "batch_norm_inference", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> std::process::ExitCode {
    shared::run(&Args::parse().flags, Experiment::BatchNormInference)
}
