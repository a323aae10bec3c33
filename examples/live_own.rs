//! A network of your own in the browser, while it trains: `cargo run --release --example live_own`.
//!
//! The numbered lines are all that a training loop of Burn needs. Ctrl-C ends it.

use std::error::Error;

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::activation::relu;
use burn_kindling::init::Activation::Relu;
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Point, Sink, watch};
use burn_kindling_lab::data::{Batches, Mnist};
use burn_kindling_lab::live::Live;

/// Two convolutions, a hidden linear layer, and an output layer.
#[derive(Module, Debug)]
struct Net {
    conv: [Conv2d; 2],
    norm: [BatchNorm; 2],
    hidden: Linear,
    output: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let conv = |from, to| {
            let config = Conv2dConfig::new([from, to], [5, 5]).with_stride([2, 2]);
            config.with_bias(false).init(device)
        };
        Self {
            conv: [conv(1, 8), conv(8, 16)],
            norm: [8, 16].map(|channels| BatchNormConfig::new(channels).init(device)),
            hidden: LinearConfig::new(16 * 4 * 4, 64).init(device),
            output: LinearConfig::new(64, 10).init(device),
        }
    }

    /// `[batch, 28, 28]` to `[batch, 10]`.
    fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let mut x = images.unsqueeze_dim::<4>(1);
        for (i, (conv, norm)) in self.conv.iter().zip(&self.norm).enumerate() {
            let point = Point::new(format!("conv.{i}")).after(Relu);
            x = point.watch(norm.forward_relu(conv.forward(x)));
        }
        let hidden = relu(self.hidden.forward(x.flatten(1, 3)));
        let hidden = Point::new("hidden").after(Relu).watch(hidden);
        watch("output", self.output.forward(hidden))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::default().autodiff();
    device.seed(1);
    let (images, _) = Mnist::load(&Mnist::find(None)?)?.train_and_validation();
    let mut batches = Batches::new(images, 64, 1, device.clone());
    let cross_entropy = CrossEntropyLossConfig::new().init(&device);
    let mut net = Net::new(&device);
    let mut adam = AdamConfig::new().init();
    let mut lab = Live::serve()?; // 1
    for step in 0.. {
        let batch = batches.at(step);
        let forward = || cross_entropy.forward(net.forward(batch.images), batch.targets);
        let (loss, mut seen) = lab.observe(forward); // 2: was `let loss = forward();`
        let gradients = loss.backward();
        seen.backward(&net, &gradients); // 3
        let gradients = GradientsParams::from_grads(gradients, &net);
        net = adam.step(1e-3, net, gradients);
        seen.step(&net); // 4
        lab.show(step, &loss, seen); // 5
    }
    Ok(())
}
