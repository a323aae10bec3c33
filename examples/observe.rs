//! Watches a plain Burn model train: what its layers do, how far each step moves its weights, and what is wrong.
//!
//! `cargo run --release --example observe`, or from first weights of another kind, which may well be broken:
//! `cargo run --release --example observe standard-normal`, or zeros, small-normal, xavier, he.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, loss::MseLoss, loss::Reduction};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{Distribution, Tensor};
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::{Observer, Point, watch};
use burn_kindling_lab::device::{self, DeviceError};

#[derive(Module, Debug)]
struct Net {
    hidden: Vec<Linear>,
    output: Linear,
}

impl Net {
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

fn main() -> Result<(), DeviceError> {
    let found = device::pick(None)?;
    eprintln!("training on {found}");
    let device = found.device.autodiff();
    device.seed(1);
    let start = std::env::args().nth(1).map(|name| strategy(&name));
    let linear = |inputs, outputs| {
        let layer = LinearConfig::new(inputs, outputs).init(&device);
        match start {
            Some(start) => start.apply(layer),
            None => layer,
        }
    };
    let mut model = Net {
        hidden: vec![linear(8, 64), linear(64, 64), linear(64, 64)],
        output: linear(64, 1),
    };
    let mut optimizer = AdamConfig::new().init();
    let observer = Observer::new();

    for step in 0..=100 {
        // To learn: the sum of the inputs' sines.
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
    Ok(())
}

fn strategy(name: &str) -> InitStrategy {
    name.parse().unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(2)
    })
}
