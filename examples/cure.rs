//! A network of 30 layers that does not train, why not, and the line that cures it.

use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::{Distribution, activation::tanh};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::observe::{Observer, Point};

#[derive(Module, Debug)]
struct Net {
    hidden: Vec<Linear>,
    output: Linear,
}

impl Net {
    /// `[batch, 2]` to `[batch, 1]`.
    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.hidden.iter().enumerate() {
            let point = Point::new(format!("hidden.{i}")).after(Activation::Tanh);
            x = point.watch(tanh(layer.forward(x)));
        }
        self.output.forward(x)
    }
}

/// Learns the distance of a point from the origin. Prints what is wrong at first, and how well it learns.
fn train(mut net: Net, device: &Device) {
    let mut adam = AdamConfig::new().init();
    for step in 0..=300 {
        let points = Tensor::<2>::random([128, 2], Distribution::Uniform(-1.0, 1.0), device);
        let wanted = points.clone().square().sum_dim(1).sqrt();
        let forward = || (net.forward(points) - wanted).square().mean();
        let (loss, mut seen) = Observer::new().run_if(step == 0, forward);
        let gradients = loss.backward();
        seen.backward(&net, &gradients);
        let findings = seen.report().diagnose();
        findings.iter().for_each(|finding| println!("  {finding}"));
        if step % 100 == 0 {
            let error = loss.into_scalar::<f32>().sqrt();
            println!("  step {step}: error {error:.3}");
        }
        let gradients = GradientsParams::from_grads(gradients, &net);
        net = adam.step(1e-3, net, gradients);
    }
}

fn main() {
    let device = Device::default().autodiff();
    device.seed(1);
    let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(&device);
    let hidden = (0..30).map(|i| linear([2, 64][i.min(1)], 64)).collect();
    let output = linear(64, 1);
    let net = Net { hidden, output };
    println!("30 layers, as Burn initialises them:");
    train(net.clone(), &device);
    println!("the same, initialised for tanh:");
    train(initialize(net, InitStrategy::Xavier, 42).0, &device);
}
