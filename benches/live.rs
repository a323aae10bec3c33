//! Measures what the steps and pictures of the live lab cost, with four networks.
//!
//! ```text
//! cargo bench --bench live
//! ```

use burn::tensor::Device;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::live::{Bench, BenchConfig, NetworkConfig};
use burn_kindling_lab::model::Normalization;

/// The time that this process has spent on all cores, in steps of 10 ms; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let ticks = |place: usize| {
        fields
            .get(place)
            .and_then(|it| it.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// Prints what everything costs.
fn main() {
    let data = Mnist::find(None).and_then(|folder| Mnist::load(&folder));
    let data = data.expect("the data of the repository");
    for (name, layer) in [
        (
            "5 layers, batch norm",
            NetworkConfig {
                norm: Normalization::Batch,
                ..NetworkConfig::default()
            },
        ),
        (
            "10 layers",
            NetworkConfig {
                depth: 10,
                ..NetworkConfig::default()
            },
        ),
    ] {
        let config = BenchConfig {
            networks: vec![layer; 4],
            batch: 128,
            seed: 7,
            play: true,
        };
        let mut bench = Bench::new(&config, &data, &Device::flex())
            .unwrap_or_else(|error| panic!("{}", error.en));
        let time = |what: &str, count: usize, bench: &mut Bench, run: &dyn Fn(&mut Bench)| {
            let start = (std::time::Instant::now(), cpu_seconds());
            for _ in 0..count {
                run(bench);
            }
            let [wall, cpu] = [start.0.elapsed().as_secs_f64(), cpu_seconds() - start.1];
            let [wall, cpu] = [wall, cpu].map(|seconds| 1e3 * seconds / count as f64);
            println!("4 networks, {name}: {what} {wall:.2} ms, {cpu:.2} ms of a core");
        };
        time("first step", 1, &mut bench, &Bench::advance);
        for _ in 0..2 {
            time("step", 200, &mut bench, &Bench::advance);
            time("watched step", 100, &mut bench, &Bench::advance_watched);
        }
        time("look", 50, &mut bench, &Bench::look);
        time("answer", 50, &mut bench, &Bench::answer);
        time("evaluate", 20, &mut bench, &Bench::evaluate);
        time("frame in JSON", 200, &mut bench, &|bench| {
            drop(bench.frame(1.0))
        });
        println!("{} bytes", bench.frame(1.0).len());
    }
}
