//! Runs one experiment: `cargo run --release --example experiment -- init-training --quick`.

mod shared;

use std::process::ExitCode;

use burn_kindling_lab::cli;
use burn_kindling_lab::study::Experiment;
use clap::Parser;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

/// Run one experiment: print its claims, and write its numbers and figures to the output folder.
///
/// A stopped experiment continues from its finished runs. The report example runs all experiments and makes a page of
/// their findings.
#[derive(Parser)]
#[command(name = "experiment", max_term_width = 100)]
struct Args {
    /// Name of the experiment
    #[arg(value_name = "NAME", value_parser = names())]
    experiment: Experiment,

    #[command(flatten)]
    flags: shared::Flags,
}

/// Accepts the names of the experiments; the help lists them with their questions.
fn names() -> impl TypedValueParser<Value = Experiment> {
    let names = Experiment::NAMES.iter().zip(Experiment::ALL);
    let values = names.map(|(name, it)| PossibleValue::new(*name).help(it.question()));
    PossibleValuesParser::new(values).try_map(|name| name.parse::<Experiment>())
}

fn main() -> ExitCode {
    let args = Args::parse();
    shared::exit(run(&args))
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let setup = args.flags.setup()?;
    shared::print_claims(&args.experiment.run(&setup)?);
    let folder = setup.out.join(args.experiment.to_string());
    cli::print(format_args!(
        "figures and numbers are in {}",
        folder.display()
    ));
    Ok(())
}
