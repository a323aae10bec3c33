//! A folded model gives the same output; a norm whose layer has another user stays.

use burn::module::{Module, Param};
use burn::nn;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Then, fold};

use crate::{any_device, assert_close, devices, numbers, processors};

/// A norm whose statistics, gamma and beta are not those of a new one. Most outputs are above 0: if a ReLU let nothing
/// through, nobody could tell what is before the next norm.
fn trained(config: BatchNormConfig, device: &Device) -> BatchNorm {
    let mut norm = config.init(device);
    let channels = norm.running_mean.value().dims();
    let random = |low, high| Tensor::random(channels, Distribution::Uniform(low, high), device);
    norm.gamma = Param::from_tensor(random(-2.0, 2.0));
    norm.beta = Param::from_tensor(random(0.5, 1.5));
    norm.with_running(random(-0.5, 0.5), random(0.5, 2.0))
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    trained(BatchNormConfig::new(channels), device)
}

fn conv(channels: [usize; 2], bias: bool, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .with_bias(bias)
        .init(device)
}

fn images(device: &Device) -> Tensor<4> {
    Tensor::random([2, 3, 6, 6], Distribution::Normal(0.3, 1.0), device)
}

#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<(Conv2d, BatchNorm)>,
}

impl Block {
    fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        Self {
            conv1: conv([inputs, outputs], false, device),
            bn1: norm(outputs, device),
            conv2: conv([outputs, outputs], false, device),
            bn2: norm(outputs, device),
            downsample: (inputs != outputs)
                .then(|| (conv([inputs, outputs], true, device), norm(outputs, device))),
        }
    }

    fn forward(&self, x: Tensor<4>, fused: bool) -> Tensor<4> {
        let skip = match &self.downsample {
            Some((conv, norm)) => norm.forward(conv.forward(x.clone())),
            None => x.clone(),
        };
        let x = self
            .conv2
            .forward(relu(self.bn1.forward(self.conv1.forward(x))));
        match fused {
            true => self
                .bn2
                .forward_then(x, Then::new().add_residual(skip).relu()),
            false => relu(self.bn2.forward(x) + skip),
        }
    }
}

#[derive(Module, Debug)]
struct Net {
    blocks: Vec<Block>,
    hidden: [Linear; 2],
    norm: BatchNorm,
    output: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let linear = |inputs| LinearConfig::new(inputs, 4).init(device);
        Self {
            blocks: vec![Block::new([3, 4], device), Block::new([4, 4], device)],
            hidden: [linear(4 * 36), linear(4)],
            norm: norm(4, device),
            output: linear(4),
        }
    }

    fn forward(&self, x: Tensor<4>, fused: bool) -> Tensor<2> {
        let x = self.blocks.iter().fold(x, |x, it| it.forward(x, fused));
        // Without a norm between them.
        let x = self
            .hidden
            .iter()
            .fold(x.flatten(1, 3), |x, it| it.forward(x));
        self.output.forward(leaky_relu(self.norm.forward(x), 0.2))
    }
}

#[test]
fn a_whole_model_folds() {
    for device in devices() {
        for fused in [false, true] {
            let net = Net::new(&device);
            let x = images(&device);
            let (folded, table) = fold(&net, x.clone(), |net, x| net.forward(x, fused));
            assert_eq!(
                table.to_string(),
                "blocks.0.bn1           into blocks.0.conv1\n\
                 blocks.0.bn2           into blocks.0.conv2\n\
                 blocks.0.downsample.1  into blocks.0.downsample.0\n\
                 blocks.1.bn1           into blocks.1.conv1\n\
                 blocks.1.bn2           into blocks.1.conv2\n\
                 norm                   into hidden.1"
            );
            let expected = numbers(net.forward(x.clone(), fused));
            let found = numbers(folded.forward(x.clone(), fused));
            assert_close("folded", &found, &expected, 1e-5);

            // It is the same type, so its record is too.
            let loaded = Net::new(&device).load_record(folded.clone().into_record());
            assert_eq!(numbers(loaded.forward(x.clone(), fused)), found);
            // The norms are frozen: they normalise nothing on an autodiff device either.
            let trained = folded.train().forward(x.autodiff(), fused);
            assert_close("autodiff", &numbers(trained), &expected, 1e-5);
        }
    }
}

#[test]
fn the_model_passed_in_stays() {
    let device = any_device().autodiff();
    let net = Net::new(&device);
    let x = images(&device.clone().inner());
    let before = numbers(net.valid().forward(x.clone(), false));
    let (folded, _) = fold(&net, x.clone(), |net, x| net.forward(x, false));
    assert_eq!(numbers(net.valid().forward(x.clone(), false)), before);
    assert!(net.norm.training.is_enabled() && net.norm.gamma.is_require_grad());
    assert!(!folded.norm.training.is_enabled() && !folded.norm.gamma.is_require_grad());
    assert!(folded.output.weight.is_require_grad());
    assert!(folded.hidden[1].weight.is_require_grad());
}

#[test]
fn on_a_cpu_a_norm_that_was_folded_into_a_bias_does_nothing() {
    for device in processors() {
        for epsilon in [1e-5, 1e-3, 0.8] {
            let config = BatchNormConfig::new(4).with_epsilon(epsilon);
            let pair = (conv([3, 4], true, &device), trained(config, &device));
            let forward = |pair: &(Conv2d, BatchNorm), x| pair.1.forward(pair.0.forward(x));
            let (folded, table) = fold(&pair, images(&device), forward);
            assert_eq!(table.to_string(), "1  into 0");
            let x = Tensor::<4>::random([2, 4, 5, 5], Distribution::Default, &device);
            assert_eq!(numbers(folded.1.forward(x.clone())), numbers(x));
        }
    }
}

/// Two layers, two norms, and what a forward pass makes of them.
#[derive(Module, Debug)]
struct Parts {
    convs: [Conv2d; 2],
    norms: [BatchNorm; 2],
    burns: nn::BatchNorm,
}

impl Parts {
    fn new(device: &Device) -> Self {
        let mut burns = nn::BatchNormConfig::new(4).init(device);
        burns.gamma = Param::from_data([2.0; 4], device);
        Self {
            convs: [conv([3, 4], true, device), conv([4, 4], false, device)],
            norms: [norm(4, device), norm(4, device)],
            burns,
        }
    }
}

/// Folds by this forward pass, and returns what the two norms were folded into.
fn folds(forward: impl Fn(&Parts, Tensor<4>) -> Tensor<4> + Sync) -> [Option<usize>; 2] {
    let device = any_device();
    let parts = Parts::new(&device);
    let x = images(&device);
    let (folded, table) = fold(&parts, x.clone(), &forward);
    let expected = numbers(forward(&parts, x.clone()));
    assert_close("folded", &numbers(forward(&folded, x)), &expected, 1e-5);
    assert_eq!(table.rows.len(), 3);
    assert_eq!(table.rows[2].norm, "burns");
    assert_eq!(table.rows[2].into, None);
    [0, 1].map(|norm| {
        let path = table.rows[norm].into.as_ref()?;
        Some(path.strip_prefix("convs.").unwrap().parse().unwrap())
    })
}

#[test]
fn only_the_layer_before_a_norm_takes_it() {
    let max = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    let average = AvgPool2dConfig::new([3, 3])
        .with_strides([1, 1])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init();
    let one = |p: &Parts, x| p.convs[0].forward(x);
    let two = |p: &Parts, x| p.convs[1].forward(x);

    assert_eq!(
        folds(|p, x| p.norms[1].forward(two(p, p.norms[0].forward(one(p, x))))),
        [Some(0), Some(1)]
    );
    // The other way round.
    assert_eq!(
        folds(|p, x| p.norms[0].forward(two(p, p.norms[1].forward(one(p, x))))),
        [Some(1), Some(0)]
    );
    // Something between the two.
    assert_eq!(folds(|p, x| p.norms[0].forward(relu(one(p, x)))), [None; 2]);
    assert_eq!(
        folds(|p, x| p.norms[0].forward(leaky_relu(one(p, x), 0.5))),
        [None; 2]
    );
    assert_eq!(
        folds(|p, x| p.norms[0].forward(max.forward(one(p, x)))),
        [None; 2]
    );
    // Its padding would dilute the bias.
    assert_eq!(
        folds(|p, x| p.norms[0].forward(average.forward(one(p, x)))),
        [None; 2]
    );
    assert_eq!(
        folds(|p, x| p.norms[0].forward(one(p, x).flip([1]))),
        [None; 2]
    );
    assert_eq!(
        folds(|p, x| p.norms[0].forward(p.burns.forward(one(p, x)))),
        [None; 2]
    );
    // A norm before a layer.
    assert_eq!(
        folds(|p, x| two(p, p.norms[0].forward(relu(one(p, x))))),
        [None; 2]
    );
    // What only changes the shape is nothing.
    assert_eq!(
        folds(|p, x| {
            let x = p.norms[0].forward(one(p, x).reshape([2, 4, 36]));
            p.norms[1].forward(two(p, x.reshape([2, 4, 6, 6])))
        }),
        [Some(0), Some(1)]
    );
}

#[test]
fn a_layer_with_another_user_keeps_its_norm() {
    let one = |p: &Parts, x| p.convs[0].forward(x);
    let two = |p: &Parts, x| p.convs[1].forward(x);
    // A skip around the norm, to the output, and into the next norm.
    assert_eq!(
        folds(|p, x| {
            let skip = one(p, x);
            let x = p.norms[0].forward(skip.clone());
            p.norms[1].forward(two(p, x)) + skip
        }),
        [None, Some(1)]
    );
    assert_eq!(
        folds(|p, x| {
            let skip = one(p, x);
            let x = p.norms[0].forward(skip.clone());
            p.norms[1].forward_then(two(p, x), Then::new().add_residual(skip).relu())
        }),
        [None, Some(1)]
    );
    assert_eq!(
        folds(|p, x| {
            let skip = one(p, x);
            p.norms[1].forward(p.norms[0].forward(skip.clone()) + skip)
        }),
        [None; 2]
    );
    // Two norms of one layer.
    assert_eq!(
        folds(|p, x| {
            let x = one(p, x);
            p.norms[0].forward(x.clone()) + p.norms[1].forward(x)
        }),
        [None; 2]
    );
    // A layer that is called twice, and a norm that is.
    assert_eq!(
        folds(|p, x| {
            let x = relu(p.norms[0].forward(one(p, x)));
            relu(p.norms[1].forward(two(p, x.clone()))) + two(p, x)
        }),
        [Some(0), None]
    );
    assert_eq!(
        folds(|p, x| {
            let x = relu(p.norms[0].forward(one(p, x)));
            p.norms[0].forward(two(p, x))
        }),
        [None; 2]
    );
}

#[test]
fn what_cannot_fold_stays() {
    let device = any_device();
    let forward = |pair: &(Conv2d, BatchNorm), x| pair.1.forward(pair.0.forward(x));
    let fold = |config: BatchNormConfig, x: Tensor<4>| {
        let pair = (conv([3, 4], true, &device), config.init(&device));
        let (folded, table) = fold(&pair, x.clone(), forward);
        assert_eq!(table.rows.len(), 1);
        let [found, expected] = [folded, pair].map(|it| numbers(forward(&it, x.clone())));
        assert_close("folded", &found, &expected, 1e-5);
        table.kept().count()
    };
    let config = BatchNormConfig::new(4);
    let x = images(&device);
    assert_eq!(fold(config.clone(), x.clone()), 0);
    assert_eq!(fold(config.clone().with_affine(false), x.clone()), 0);
    assert_eq!(fold(config.clone().with_epsilon(2.0), x.clone()), 1);
    assert_eq!(fold(config.with_running_statistics(false), x), 1);
}

#[test]
fn a_sample_that_shows_nothing_folds_nothing() {
    let device = any_device();
    let pair = (conv([3, 4], true, &device), norm(4, &device));
    let x = images(&device) * f32::NAN;
    let (_, table) = fold(&pair, x, |pair, x| pair.1.forward(pair.0.forward(x)));
    assert_eq!(table.to_string(), "1  kept");
    // The forward pass does not call the norm.
    let (_, table) = fold(&pair, images(&device), |pair, x| pair.0.forward(x));
    assert_eq!(table.to_string(), "1  kept");
}
