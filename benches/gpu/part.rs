//! The parts of the benchmark, each in a process of its own.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_kindling_lab::device;
use clap::ValueEnum;

use crate::Args;
use crate::case::{self, Float};
use crate::check;
use crate::entry::Entry;
use crate::epochs;
use crate::layers::{self, Who};
use crate::machine;
use crate::pools;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Part {
    /// What is measured, and with what.
    Machine,
    /// The kernels against an oracle.
    Check,
    /// Copies and this crate's layer.
    Ours,
    /// Burn's layer.
    Burn,
    /// PyTorch's layer and its epochs, by `peer.py`.
    Torch,
    /// Epochs on MNIST.
    Epochs,
}

/// Sizes of the copies, in bytes.
const COPIES: [usize; 3] = [16 << 20, 128 << 20, 1 << 30];

impl Part {
    pub const ALL: [Self; 6] = [
        Self::Machine,
        Self::Check,
        Self::Ours,
        Self::Burn,
        Self::Torch,
        Self::Epochs,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Check => "check",
            Self::Ours => "ours",
            Self::Burn => "burn",
            Self::Torch => "torch",
            Self::Epochs => "epochs",
        }
    }

    /// The share of the time after which the part ends at the latest.
    pub fn ends_at(self) -> f64 {
        match self {
            Self::Machine => 0.06,
            Self::Check => 0.18,
            Self::Ours => 0.42,
            Self::Burn => 0.6,
            Self::Torch => 0.82,
            Self::Epochs => 1.0,
        }
    }

    /// Runs the part and writes its results on standard output.
    pub fn run(self, args: &Args) -> Result<(), String> {
        // Panics are reported as entries.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        let found = device::pick(args.device.as_deref()).map_err(|error| error.to_string())?;
        let device = &found.device;
        let dtypes = dtypes(device);
        let per_case = Duration::from_millis(50);
        match self {
            Self::Machine => machine::about(&found, &dtypes).iter().for_each(Entry::say),
            Self::Check => {
                let layers = check::comparisons(args.quick, &dtypes);
                let pools = pools::comparisons(args.quick, &dtypes);
                let layers = layers.into_iter().map(Check::Layer);
                let pools = pools.into_iter().map(Check::Pool);
                self.each(args, layers.chain(pools).collect(), |check| {
                    Ok(match check {
                        Check::Layer(comparison) => comparison.run(&found.name, device),
                        Check::Pool(comparison) => comparison.run(&found.name, device),
                    })
                });
            }
            Self::Ours => {
                let copies = if args.quick {
                    &COPIES[..1]
                } else {
                    &COPIES[..]
                };
                let copies = copies.iter().map(|&bytes| Job::Copy(bytes));
                let cases = case::all(args.quick, &dtypes).into_iter().map(Job::Case);
                self.each(args, copies.chain(cases).collect(), |job| match job {
                    Job::Copy(bytes) => layers::copy(device, *bytes, per_case),
                    Job::Case(case) => layers::time(Who::Ours, case, device, per_case),
                });
            }
            Self::Burn => self.each(args, case::all(args.quick, &dtypes), |case| {
                layers::time(Who::Burn, case, device, per_case)
            }),
            Self::Torch => return Err("PyTorch is measured by a script".into()),
            Self::Epochs => self.each(args, epochs::trainings(args.quick), |training| {
                epochs::time(training, args.data.as_deref(), args.quick, device)
            }),
        }
        Entry::End.say();
        Ok(())
    }

    /// Runs every job that the time is enough for. Each gives one entry, a note if it fails.
    fn each<J: fmt::Display>(
        self,
        args: &Args,
        jobs: Vec<J>,
        run: impl Fn(&J) -> Result<Entry, String>,
    ) {
        let started = Instant::now();
        let all = jobs.len();
        for (index, job) in jobs.iter().enumerate().skip(args.skip) {
            if started.elapsed().as_secs_f64() > args.seconds {
                let text = format!("out of time: {} of {all} cases left out", all - index);
                return Entry::note(self.name(), text).say();
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(job)));
            let outcome = outcome.unwrap_or_else(|panic| Err(message(panic.as_ref())));
            let failed = |error: String| {
                let reason = error.lines().next().unwrap_or_default();
                Entry::Note {
                    part: self.name().into(),
                    case: Some(job.to_string()),
                    text: reason.into(),
                }
            };
            outcome.unwrap_or_else(failed).say();
        }
    }
}

/// What is compared in one go.
enum Check {
    Layer(check::Comparison),
    Pool(pools::Comparison),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layer(comparison) => comparison.fmt(f),
            Self::Pool(comparison) => comparison.fmt(f),
        }
    }
}

/// What is timed in one go.
enum Job {
    Copy(usize),
    Case(case::Case),
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy(bytes) => write!(f, "a copy of {bytes} bytes"),
            Self::Case(case) => case.fmt(f),
        }
    }
}

fn dtypes(device: &Device) -> Vec<Float> {
    let mut dtypes = Float::ALL.to_vec();
    dtypes.retain(|float| device.supports_dtype(float.dtype()));
    dtypes
}

/// The message of a caught panic.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
        .unwrap_or_else(|| "it panicked".into())
}
