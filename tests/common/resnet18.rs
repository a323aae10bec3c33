// A ResNet-18, as public collections of Burn models write it.
//
// The module that includes this file says which `BatchNorm` it has, and how that is called before a ReLU, before an
// addition and a ReLU, and before a ReLU and a pooling.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    maxpool: MaxPool2d,
    layer1: LayerBlock,
    layer2: LayerBlock,
    layer3: LayerBlock,
    layer4: LayerBlock,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

#[derive(Module, Debug)]
pub struct LayerBlock {
    blocks: Vec<ResidualBlock>,
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum ResidualBlock {
    Basic(BasicBlock),
}

#[derive(Module, Debug)]
pub struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: Option<Downsample>,
}

#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv2d,
    bn: BatchNorm,
}

fn conv(inputs: usize, outputs: usize, side: usize, stride: usize, device: &Device) -> Conv2d {
    let padding = side / 2;
    Conv2dConfig::new([inputs, outputs], [side, side])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(
            padding, padding, padding, padding,
        ))
        .with_bias(false)
        .init(device)
}

fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).init(device)
}

impl BasicBlock {
    fn new(inputs: usize, outputs: usize, stride: usize, device: &Device) -> Self {
        Self {
            conv1: conv(inputs, outputs, 3, stride, device),
            bn1: norm(outputs, device),
            conv2: conv(outputs, outputs, 3, 1, device),
            bn2: norm(outputs, device),
            downsample: (inputs != outputs).then(|| Downsample {
                conv: conv(inputs, outputs, 1, stride, device),
                bn: norm(outputs, device),
            }),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = norm_relu(&self.bn1, self.conv1.forward(x.clone()));
        let branch = self.conv2.forward(branch);
        let skip = match &self.downsample {
            Some(downsample) => downsample.bn.forward(downsample.conv.forward(x)),
            None => x,
        };
        norm_add_relu(&self.bn2, branch, skip)
    }
}

impl ResNet {
    pub fn new(classes: usize, device: &Device) -> Self {
        let stage = |inputs, outputs, stride| LayerBlock {
            blocks: vec![
                ResidualBlock::Basic(BasicBlock::new(inputs, outputs, stride, device)),
                ResidualBlock::Basic(BasicBlock::new(outputs, outputs, 1, device)),
            ],
        };
        Self {
            conv1: conv(3, 64, 7, 2, device),
            bn1: norm(64, device),
            maxpool: MaxPool2dConfig::new([3, 3])
                .with_strides([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(),
            layer1: stage(64, 64, 1),
            layer2: stage(64, 128, 2),
            layer3: stage(128, 256, 2),
            layer4: stage(256, 512, 2),
            avgpool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(512, classes).init(device),
        }
    }

    /// `[batch, 3, height, width]` to `[batch, classes]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = norm_relu_pool(&self.bn1, self.conv1.forward(images), &self.maxpool);
        for layer in [&self.layer1, &self.layer2, &self.layer3, &self.layer4] {
            for ResidualBlock::Basic(block) in &layer.blocks {
                x = block.forward(x);
            }
        }
        self.fc.forward(self.avgpool.forward(x).flatten(1, 3))
    }
}
