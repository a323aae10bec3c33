//! Measures many small trainings: one after the other, and several at a time.
//!
//!     cargo bench --bench sweep -- [SEEDS]    # default: 3
//!
//! Trains the default perceptron with Adam for 2 epochs of 55,000 images, with each of the five initialisations x {no
//! norm, this crate's, Burn's} x seeds. The first pass trains one network at a time on all cores; the second runs one
//! worker per core. Prints both times, whether the results are equal, and the peak memory of each pass.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use burn_kindling::init::InitStrategy;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::model::{MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{EpochScores, Sweep, TrainConfig, TrainError, Trainer};

fn configs(seeds: u64) -> Vec<TrainConfig> {
    let mut configs = Vec::new();
    for init in InitStrategy::ALL {
        for norm in Normalization::ALL {
            configs.extend((0..seeds).map(|seed| TrainConfig {
                model: ModelConfig::Mlp(MlpConfig::new().with_init(init).with_norm(norm)),
                epochs: 2,
                seed,
                ..TrainConfig::default()
            }));
        }
    }
    configs
}

/// The result of a pass.
struct Pass {
    all: Duration,
    /// The time of each training.
    each: Vec<Duration>,
    /// The scores of each training as text, in which NaN equals NaN.
    scores: Vec<String>,
}

fn pass(sweep: Sweep, configs: &[TrainConfig], data: &Mnist) -> Result<Pass, TrainError> {
    let (train, valid) = data.train_and_validation();
    let trainer = Trainer::new(Device::flex());
    let started = Instant::now();
    let trained = sweep.run(configs, |config, job| {
        let started = Instant::now();
        let trained = job.train(&trainer, config, &train, &valid, |_| {})?;
        Ok::<(Duration, Vec<EpochScores>), TrainError>((started.elapsed(), trained.epochs))
    })?;
    Ok(Pass {
        all: started.elapsed(),
        each: trained.iter().map(|it| it.0).collect(),
        scores: trained.iter().map(|it| format!("{:?}", it.1)).collect(),
    })
}

/// Peak memory of the process, on systems that report it.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:"));
    line.map_or("unknown".into(), |it| it.trim().into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds the flag --bench.
    let seeds = std::env::args().skip(1).find(|it| !it.starts_with('-'));
    let configs = configs(seeds.map_or(Ok(3), |it| it.parse())?);
    let data = Mnist::load(&Mnist::find(None)?)?;

    let alone = pass(Sweep::new().with_workers(1), &configs, &data)?;
    let sum: Duration = alone.each.iter().sum();
    println!(
        "one after the other  {:6.1} s for {} trainings, {:.2} s in the middle; peak memory {}",
        sum.as_secs_f64(),
        configs.len(),
        median(&alone.each),
        peak(),
    );
    let together = pass(Sweep::new(), &configs, &data)?;
    println!(
        "several at a time    {:6.1} s, {:.2} s in the middle; peak memory {}",
        together.all.as_secs_f64(),
        median(&together.each),
        peak(),
    );
    println!(
        "ratio {:.2}; results {}",
        together.all.as_secs_f64() / sum.as_secs_f64(),
        match alone.scores == together.scores {
            true => "the same",
            false => "DIFFERENT",
        },
    );
    Ok(())
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2].as_secs_f64()
}
