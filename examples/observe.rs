//! Watches a plain Burn model train and diagnoses it: `cargo run --release --example observe`.

use std::process::ExitCode;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, loss::MseLoss, loss::Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::observe::{Observer, Point, watch};
use burn_kindling_lab::cli::{self, DeviceFlag};
use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};

const COLUMNS: &str = "\
One row per point of the forward pass, at steps 0, 50 and 100:
  mean, std, min, max  of all values at the point
  spread               std between inputs, root mean square over the units
  zero                 share of values that are exactly 0
  sat.                 share of values where the activation is flat (tanh: beyond 0.97)
  dead                 units that are saturated for the whole batch
  copies               units that repeat another unit
  grad std             std of the gradient of the loss
  histogram            of the values, from min to max

One row per parameter:
  std, grad std        of its values before the step, and of its gradient
  grad:data            grad std / std
  log10 update:data    log10 of (root mean square of the update / of the values), about -3 in healthy training

Lines that begin with ! name a problem, what it means, and what to try.";

/// Watch a tanh network learn the sum of the sines of its inputs, and report what is wrong with it.
///
/// Compare the initialisations: zeros learns nothing, standard-normal starts saturated, and the signal of small-normal
/// vanishes at the start.
#[derive(Parser)]
#[command(name = "observe", max_term_width = 100, after_help = COLUMNS)]
struct Args {
    /// Initialisation of the weights [default: that of Burn]
    #[arg(value_name = "INIT", value_parser = PossibleValuesParser::new(InitStrategy::NAMES)
          .try_map(|name| name.parse::<InitStrategy>()))]
    init: Option<InitStrategy>,

    #[command(flatten)]
    device: DeviceFlag,
}

#[derive(Module, Debug)]
struct Net {
    hidden: Vec<Linear>,
    output: Linear,
}

impl Net {
    fn new(init: Option<InitStrategy>, device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let net = Self {
            hidden: vec![linear(8, 64), linear(64, 64), linear(64, 64)],
            output: linear(64, 1),
        };
        match init {
            Some(init) => initialize(net, init, 42).0,
            None => net,
        }
    }

    /// `[batch, 8]` to `[batch, 1]`.
    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.hidden.iter().enumerate() {
            let activated = layer.forward(x).tanh();
            x = Point::new(format_args!("hidden.{i}"))
                .after(Activation::Tanh)
                .watch(activated);
        }
        watch("output", self.output.forward(x))
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::end_with_the_pipe();
    let found = match args.device.pick() {
        Ok(found) => found,
        Err(error) => return cli::fail(error.into()),
    };
    eprintln!("training on {found}");
    let device = found.device.autodiff();
    device.seed(1);

    let mut model = Net::new(args.init, &device);
    let mut optimizer = AdamConfig::new().init();
    let observer = Observer::new();
    for step in 0..=100 {
        let input = Tensor::random([128, 8], Distribution::Uniform(-3.0, 3.0), &device);
        let target = input.clone().sin().sum_dim(1);

        let watching = step % 50 == 0;
        let (output, mut seen) = observer.run_if(watching, || model.forward(input));
        let loss = MseLoss::new().forward(output, target, Reduction::Mean);
        let gradients = loss.backward();
        seen.backward(&model, &gradients);
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(1e-3, model, gradients);
        seen.step(&model);

        if watching {
            let report = seen.report();
            let loss = loss.into_scalar::<f32>();
            println!("step {step}, loss {loss:.3}\n\n{report}");
            for finding in report.diagnose() {
                println!("! {finding}");
            }
            println!();
        }
    }
    println!("{COLUMNS}");
    ExitCode::SUCCESS
}
