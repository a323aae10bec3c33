//! Runs all experiments and makes a page of them: `cargo run --release --example report`.

mod shared;

use std::process::ExitCode;

use burn_kindling_lab::cli;
use burn_kindling_lab::page;
use burn_kindling_lab::study::Experiment;
use clap::Parser;

/// Run all experiments and write their findings to one HTML page, report.html, in the output folder. A table of all
/// claims is written to claims.md beside it. Finished runs are not repeated.
#[derive(Parser)]
#[command(name = "report", max_term_width = 100)]
struct Args {
    #[command(flatten)]
    flags: shared::Flags,
}

fn main() -> ExitCode {
    shared::exit(run(&Args::parse()))
}

fn run(args: &Args) -> Result<(), Box<dyn std::error::Error>> {
    let setup = args.flags.setup()?;
    let mut findings = Vec::new();
    for experiment in Experiment::ALL {
        let found = experiment.run(&setup)?;
        shared::print_claims(&found);
        findings.push(found);
    }
    let page = page::write(&setup.out, &findings)?;
    cli::print(format_args!("the page is {}", page.display()));
    Ok(())
}
