//! Compares this crate's batch norm with Burn's and with an oracle in f64.
//!
//!     cargo run --release --example compare_batch_norm
//!     cargo run --release --example compare_batch_norm -- --device flex --batches 10 --json

use std::process::ExitCode;

use burn::module::Param;
use burn::nn;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_kindling::norm;
use burn_kindling_lab::cli::{self, DeviceFlag};
use burn_kindling_lab::device::Found;
use clap::Parser;
use serde::Serialize;

/// The equations in plain f64 loops, as the tests use them.
#[path = "../tests/batch_norm/oracle.rs"]
mod oracle;

use oracle::Pass;

/// Compares this crate's batch norm with Burn's: outputs, gradients and running statistics, each against f64.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    device: DeviceFlag,
    /// How many batches to train on before the results are compared
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    batches: u32,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

const EPSILON: f64 = 1e-5;
const MOMENTUM: f64 = 0.1;
const RUNNING_VARIANCE: &str = "running variance";

/// All results.
#[derive(Serialize)]
struct Report {
    device: String,
    batches: u32,
    comparisons: Vec<Comparison>,
    small_batches: Vec<SmallBatches>,
    verdict: Vec<String>,
}

/// Both layers on one kind of input.
#[derive(Serialize)]
struct Comparison {
    /// `[batch, channels, ...]`
    shape: Vec<usize>,
    values_per_channel: usize,
    input_mean: f64,
    input_deviation: f64,
    results: Vec<Row>,
}

/// One result of both layers where the oracle's value is largest, and the largest error anywhere, relative to that
/// value.
#[derive(Serialize)]
struct Row {
    result: &'static str,
    burn: f64,
    kindling: f64,
    oracle: f64,
    burn_error: f64,
    kindling_error: f64,
}

/// The running variance after training on batches of this size, whose true variance is 1.
#[derive(Serialize)]
struct SmallBatches {
    values_per_channel: usize,
    burn: f64,
    kindling: f64,
    /// How much larger Burn's outputs are in inference for it.
    burn_output_factor: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::end_with_the_pipe();
    match arguments.device.pick() {
        Ok(found) => {
            arguments.compare(found);
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(error.into()),
    }
}

impl Arguments {
    fn compare(&self, found: Found) {
        let device = &found.device;
        let batches = self.batches;
        device.seed(self.seed);
        let inputs = |mean, deviation| Inputs {
            mean,
            deviation,
            batches,
        };
        let (ordinary, far, tiny) = (inputs(0.5, 1.5), inputs(1e4, 1e-2), inputs(0.0, 1e-6));
        let comparisons = vec![
            ordinary.compare([2, 100], device),
            ordinary.compare([32, 100], device),
            ordinary.compare([256, 100], device),
            ordinary.compare([16, 32, 50], device),
            ordinary.compare([8, 16, 14, 14], device),
            ordinary.compare([64, 16, 28, 28], device),
            ordinary.compare([4, 8, 6, 6, 6], device),
            far.compare([64, 16, 8, 8], device),
            tiny.compare([64, 16, 8, 8], device),
        ];
        let small_batches =
            Vec::from([2, 4, 8, 32, 128].map(|values| SmallBatches::train(values, device)));
        let report = Report {
            device: found.to_string(),
            batches,
            verdict: verdict(&comparisons, &small_batches),
            comparisons,
            small_batches,
        };
        match self.json {
            true => println!(
                "{}",
                serde_json::to_string_pretty(&report).expect("numbers and strings")
            ),
            false => report.print(),
        }
    }
}

/// The distribution of the inputs, and the number of batches.
struct Inputs {
    mean: f64,
    deviation: f64,
    batches: u32,
}

impl Inputs {
    /// Trains both layers on the same batches. Outputs and gradients are those of the last one.
    fn compare<const D: usize>(&self, shape: [usize; D], device: &Device) -> Comparison {
        let device = device.clone().autodiff();
        let channels = shape[1];
        let layout = oracle::Layout::of(&shape);
        let parameter = |mean| -> TensorData {
            Tensor::<1>::random([channels], Distribution::Normal(mean, 0.5), &device).into_data()
        };
        let (gamma, beta) = (parameter(1.0), parameter(0.0));
        let param = |data: &TensorData| Param::from_data(data.clone(), &device);

        let mut burn = nn::BatchNormConfig::new(channels)
            .with_epsilon(EPSILON)
            .with_momentum(MOMENTUM)
            .init(&device);
        (burn.gamma, burn.beta) = (param(&gamma), param(&beta));
        let mut kindling = norm::BatchNormConfig::new(channels)
            .with_epsilon(EPSILON)
            .with_momentum(MOMENTUM)
            .init(&device);
        (kindling.gamma, kindling.beta) = (param(&gamma), param(&beta));

        let random = |mean, deviation| {
            Tensor::<D>::random(shape, Distribution::Normal(mean, deviation), &device)
        };
        let batches: Vec<_> = (0..self.batches)
            .map(|_| (random(self.mean, self.deviation), random(0.0, 1.0)))
            .collect();
        let parameters = (&burn.gamma, &burn.beta);
        let by_burn = last_pass(&batches, parameters, |x| burn.forward(x));
        let parameters = (&kindling.gamma, &kindling.beta);
        let by_kindling = last_pass(&batches, parameters, |x| kindling.forward(x));

        let (mut mean, mut variance) = (vec![0.0; channels], vec![1.0; channels]);
        let mut of_last = Default::default();
        for (x, _) in &batches {
            of_last = oracle::moments(&numbers(x.clone()), &layout);
            let unbiased = of_last.2 as f64 / (of_last.2 as f64 - 1.0);
            for channel in 0..channels {
                mean[channel] += MOMENTUM * (of_last.0[channel] - mean[channel]);
                variance[channel] += MOMENTUM * (of_last.1[channel] * unbiased - variance[channel]);
            }
        }
        let (x, g) = batches.last().expect("at least one batch").clone();
        let values = |data: &TensorData| data.iter::<f64>().collect::<Vec<_>>();
        let exact = oracle::pass(
            &numbers(x),
            &numbers(g),
            &layout,
            (&of_last.0, &of_last.1),
            (&values(&gamma), &values(&beta)),
            EPSILON,
            true,
        );

        Comparison {
            shape: shape.to_vec(),
            values_per_channel: of_last.2,
            input_mean: self.mean,
            input_deviation: self.deviation,
            results: vec![
                Row::of(
                    "output",
                    &by_burn.output,
                    &by_kindling.output,
                    &exact.output,
                ),
                Row::of(
                    "input gradient",
                    &by_burn.input_grad,
                    &by_kindling.input_grad,
                    &exact.input_grad,
                ),
                Row::of(
                    "gamma gradient",
                    &by_burn.gamma_grad,
                    &by_kindling.gamma_grad,
                    &exact.gamma_grad,
                ),
                Row::of(
                    "beta gradient",
                    &by_burn.beta_grad,
                    &by_kindling.beta_grad,
                    &exact.beta_grad,
                ),
                Row::of(
                    "running mean",
                    &numbers(burn.running_mean.value_sync()),
                    &numbers(kindling.running_mean.value_sync()),
                    &mean,
                ),
                Row::of(
                    RUNNING_VARIANCE,
                    &numbers(burn.running_var.value_sync()),
                    &numbers(kindling.running_var.value_sync()),
                    &variance,
                ),
            ],
        }
    }
}

/// Passes all batches `(x, g)` through a layer: the last output, and the gradients of its `sum(output * g)`.
fn last_pass<const D: usize>(
    batches: &[(Tensor<D>, Tensor<D>)],
    (gamma, beta): (&Param<Tensor<1>>, &Param<Tensor<1>>),
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
) -> Pass {
    let passes = batches.iter().map(|(x, g)| {
        let x = x.clone().require_grad();
        (forward(x.clone()), x, g.clone())
    });
    let (output, x, g) = passes.last().expect("at least one batch");
    let grads = (output.clone() * g).sum().backward();
    Pass {
        output: numbers(output),
        input_grad: numbers(x.grad(&grads).expect("required")),
        gamma_grad: numbers(gamma.grad(&grads).expect("required")),
        beta_grad: numbers(beta.grad(&grads).expect("required")),
    }
}

impl Row {
    fn of(result: &'static str, burn: &[f64], kindling: &[f64], oracle: &[f64]) -> Self {
        let largest =
            (0..oracle.len()).max_by(|a, b| oracle[*a].abs().total_cmp(&oracle[*b].abs()));
        let at = largest.expect("at least one value");
        let error = |found: &[f64]| {
            let errors = found
                .iter()
                .zip(oracle)
                .map(|(found, exact)| (found - exact).abs());
            errors.fold(0.0, f64::max) / oracle[at].abs()
        };
        Self {
            result,
            burn: burn[at],
            kindling: kindling[at],
            oracle: oracle[at],
            burn_error: error(burn),
            kindling_error: error(kindling),
        }
    }
}

impl SmallBatches {
    /// Trains both layers on 200 batches of standard normal numbers, in many channels, and takes the mean of those.
    fn train(values: usize, device: &Device) -> Self {
        const CHANNELS: usize = 2000;
        let device = device.clone().autodiff();
        let burn = nn::BatchNormConfig::new(CHANNELS).init(&device);
        let kindling = norm::BatchNormConfig::new(CHANNELS).init(&device);
        for _ in 0..200 {
            let batch =
                Tensor::<2>::random([values, CHANNELS], Distribution::Normal(0.0, 1.0), &device);
            burn.forward(batch.clone());
            kindling.forward(batch);
        }
        let mean = |variance: Tensor<1>| numbers(variance).iter().sum::<f64>() / CHANNELS as f64;
        let (burn, kindling) = (
            mean(burn.running_var.value_sync()),
            mean(kindling.running_var.value_sync()),
        );
        Self {
            values_per_channel: values,
            burn,
            kindling,
            burn_output_factor: (kindling / burn).sqrt(),
        }
    }
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The largest errors over all inputs, and where the layers differ on purpose.
fn verdict(comparisons: &[Comparison], small_batches: &[SmallBatches]) -> Vec<String> {
    let errors = |what: &str, chosen: &dyn Fn(&Comparison, &Row) -> bool| {
        let (mut burn, mut kindling) = (0.0f64, 0.0f64);
        for comparison in comparisons {
            for row in comparison
                .results
                .iter()
                .filter(|row| chosen(comparison, row))
            {
                burn = burn.max(row.burn_error);
                kindling = kindling.max(row.kindling_error);
            }
        }
        format!("{what}: off by at most {burn:.1e} in Burn, {kindling:.1e} in burn-kindling.")
    };
    let is_far =
        |comparison: &Comparison| comparison.input_mean.abs() > 100.0 * comparison.input_deviation;
    let is_running = |row: &Row| row.result.starts_with("running");
    let smallest = &small_batches[0];
    vec![
        errors("Outputs and gradients", &|comparison, row| {
            !is_far(comparison) && !is_running(row)
        }),
        errors("The same for a mean far from 0", &|comparison, row| {
            is_far(comparison) && !is_running(row)
        }),
        errors("Running mean", &|_, row| row.result == "running mean"),
        errors("Running variance", &|_, row| row.result == RUNNING_VARIANCE),
        format!(
            "The running variance differs on purpose: the paper and burn-kindling average the unbiased variance, Burn \
             the biased one, smaller by (m - 1) / m at m values per channel. After training at m = {}, Burn's outputs \
             in inference are {:.2} times too large; from m = 100 on, by 0.5% and less.",
            smallest.values_per_channel, smallest.burn_output_factor
        ),
    ]
}

impl Report {
    fn print(&self) {
        println!(
            "Batch norm in Burn and in burn-kindling, f32 on {}",
            self.device
        );
        println!(
            "Values: where the oracle's value is largest. Errors: the largest anywhere, relative to that value."
        );
        for Comparison {
            shape,
            values_per_channel,
            input_mean,
            input_deviation,
            results,
        } in &self.comparisons
        {
            println!(
                "\n{shape:?}, {values_per_channel} values per channel, mean {input_mean}, deviation {input_deviation}, \
                 {} batches",
                self.batches
            );
            println!(
                "  {:<17}{:>15}{:>15}{:>15}{:>13}{:>13}",
                "", "Burn", "kindling", "oracle (f64)", "Burn off by", "kindling by"
            );
            for row in results {
                println!(
                    "  {:<17}{:>15.6e}{:>15.6e}{:>15.6e}{:>13.1e}{:>13.1e}",
                    row.result,
                    row.burn,
                    row.kindling,
                    row.oracle,
                    row.burn_error,
                    row.kindling_error
                );
            }
        }
        println!(
            "\nRunning variance after 200 batches of variance 1, and what it does to the outputs in inference"
        );
        println!(
            "  {:<17}{:>15}{:>15}{:>29}",
            "values/channel", "Burn", "kindling", "Burn's outputs too large by"
        );
        for row in &self.small_batches {
            println!(
                "  {:<17}{:>15.3}{:>15.3}{:>28.1}%",
                row.values_per_channel,
                row.burn,
                row.kindling,
                (row.burn_output_factor - 1.0) * 100.0
            );
        }
        println!();
        for line in &self.verdict {
            println!("{line}");
        }
    }
}
