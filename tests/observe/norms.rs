//! An observer of a model watches its batch norms.

use burn::module::Module;
use burn::nn::{self, Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::init::Activation;
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Observer, Report, inside, watch};

use crate::{any_device, numbers};

#[derive(Module, Debug)]
struct Block {
    linear: Linear,
    norm: BatchNorm,
}

#[derive(Module, Debug)]
struct Net {
    first: Block,
    blocks: Vec<Block>,
    burns: nn::BatchNorm,
}

impl Net {
    fn new(device: &Device) -> Self {
        let block = || Block {
            linear: LinearConfig::new(4, 4).init(device),
            norm: BatchNormConfig::new(4).init(device),
        };
        Self {
            first: block(),
            blocks: vec![block(), block()],
            burns: nn::BatchNormConfig::new(4).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.first.norm.forward(self.first.linear.forward(x));
        let x = self.blocks.iter().fold(watch("point", x), |x, block| {
            inside("block", || block.norm.forward_relu(block.linear.forward(x)))
        });
        self.burns.forward(x)
    }
}

fn names(report: &Report) -> Vec<&str> {
    report.layers.iter().map(|layer| &*layer.name).collect()
}

const NAMES: [&str; 4] = ["first.norm", "point", "blocks.0.norm", "blocks.1.norm"];

#[test]
fn norms_are_watched_by_their_paths() {
    let device = any_device().autodiff();
    let net = Net::new(&device);
    let x = Tensor::<2>::random([16, 4], Distribution::Default, &device);
    let observer = Observer::of(&net);

    let unwatched = numbers(net.clone().forward(x.clone()));
    let (output, mut seen) = observer.run(|| net.forward(x.clone()));
    assert_eq!(numbers(output.clone()), unwatched);
    let gradients = output.square().mean().backward();
    seen.backward(&net, &gradients);
    let gradients = GradientsParams::from_grads(gradients, &net);
    let stepped = SgdConfig::new().init().step(0.1, net.clone(), gradients);
    let report = seen.report();
    assert_eq!(names(&report), NAMES);
    assert!(report.layers.iter().all(|layer| layer.gradient.is_some()));
    let activations: Vec<_> = report.layers.iter().map(|layer| layer.activation).collect();
    let relu = Some(Activation::Relu);
    assert_eq!(activations, [None, None, relu, relu]);
    // What was normalised.
    let first = &report.layers[0];
    assert!(first.data.mean.abs() < 1e-5 && (first.data.std - 1.0).abs() < 1e-2);
    assert!((0.2..0.8).contains(&report.layers[2].saturated.unwrap()));

    // Models of the same parameters; and one of others.
    for model in [stepped, net.clone(), net.valid()] {
        let x = match model.first.norm.gamma.device().is_autodiff() {
            true => x.clone(),
            false => x.clone().inner(),
        };
        let (_, seen) = observer.run(|| model.forward(x));
        assert_eq!(names(&seen.report()), NAMES);
    }
    let (_, seen) = observer.run(|| Net::new(&device).forward(x.clone()));
    assert_eq!(names(&seen.report()), ["point"]);
    let (_, seen) = Observer::new().run(|| net.forward(x));
    assert_eq!(names(&seen.report()), ["point"]);
}

#[test]
fn channels_along_another_axis_are_the_units() {
    let device = any_device();
    let norm = BatchNormConfig::new(3).with_channel_axis(-1).init(&device);
    let x = Tensor::<3>::random([2, 5, 3], Distribution::Default, &device);
    let (_, seen) = Observer::of(&norm).run(|| [(); 2].map(|()| norm.forward(x.clone())));
    let report = seen.report();
    // The model is the layer: its path is empty.
    assert_eq!(names(&report), ["", ""]);
    assert_eq!(report.layers[0].shape, [2, 5, 3]);
    assert_eq!(report.layers[0].units, 3);
}
