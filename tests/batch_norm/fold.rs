//! A folded layer gives the same output as the layer and its batch norm.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::{Module, Param};
use burn::nn::conv::{
    Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
    ConvTranspose3dConfig,
};
use burn::nn::{Linear, LinearConfig, LinearLayout, PaddingConfig2d};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Fold, fold};

use crate::{any_device, assert_close, devices, numbers};

/// A layer that has seen some data, with its own gamma and beta.
fn trained(channels: usize, affine: bool, device: &Device) -> BatchNorm {
    let training = device.clone().autodiff();
    let mut norm = BatchNormConfig::new(channels)
        .with_momentum(0.6)
        .with_affine(affine)
        .init(&training);
    if affine {
        let random = || Tensor::random([channels], Distribution::Uniform(-2.0, 2.0), &training);
        norm.gamma = Param::from_tensor(random());
        norm.beta = Param::from_tensor(random());
    }
    for mean in [1.0, 3.0] {
        norm.forward(Tensor::<2>::random(
            [20, channels],
            Distribution::Normal(mean, 2.0),
            &training,
        ));
    }
    norm.valid()
}

fn assert_same<const D: usize>(what: &str, separate: Tensor<D>, folded: Tensor<D>) {
    assert_eq!(separate.dims(), folded.dims());
    assert_close(what, &numbers(folded), &numbers(separate), 2e-6);
}

macro_rules! folds {
    ($device:expr, $layer:expr, $channels:expr, $input:expr) => {
        for affine in [true, false] {
            let (layer, norm) = ($layer, trained($channels, affine, $device));
            let input = Tensor::<{ $input.len() }>::random($input, Distribution::Default, $device);
            let separate = norm.forward(layer.forward(input.clone()));
            let before = layer.num_params() + norm.num_params();
            let pair = (layer.clone(), norm.clone());
            let folded = layer.fold(&norm);
            assert_same(
                stringify!($layer),
                separate.clone(),
                folded.forward(input.clone()),
            );
            assert!(folded.num_params() < before);

            // As a model of two layers.
            let (pair, table) = fold(&pair, input.clone(), |it, x| it.1.forward(it.0.forward(x)));
            assert_eq!(table.to_string(), "1  into 0");
            let folded = pair.1.forward(pair.0.forward(input));
            assert_same(stringify!($layer), separate, folded);
        }
    };
}

#[test]
fn every_layer_folds() {
    for device in &devices() {
        for bias in [true, false] {
            folds!(
                device,
                LinearConfig::new(5, 4).with_bias(bias).init(device),
                4,
                [3, 5]
            );
            let columns = LinearConfig::new(5, 4)
                .with_bias(bias)
                .with_layout(LinearLayout::Col);
            folds!(device, columns.init(device), 4, [3, 5]);
            folds!(
                device,
                Conv1dConfig::new(2, 4, 3).with_bias(bias).init(device),
                4,
                [3, 2, 7]
            );
            let padded = Conv2dConfig::new([4, 6], [3, 2])
                .with_groups(2)
                .with_stride([2, 1])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(bias);
            folds!(device, padded.init(device), 6, [2, 4, 6, 6]);
            folds!(
                device,
                Conv3dConfig::new([2, 3], [2, 2, 2])
                    .with_bias(bias)
                    .init(device),
                3,
                [2, 2, 4, 4, 4]
            );
            let transposed = ConvTranspose1dConfig::new([4, 6], 3)
                .with_groups(2)
                .with_bias(bias);
            folds!(device, transposed.init(device), 6, [2, 4, 5]);
            let transposed = ConvTranspose2dConfig::new([4, 6], [3, 3])
                .with_groups(2)
                .with_stride([2, 2]);
            folds!(
                device,
                transposed.clone().with_bias(bias).init(device),
                6,
                [2, 4, 5, 5]
            );
            let transposed = ConvTranspose3dConfig::new([2, 3], [2, 2, 2]).with_bias(bias);
            folds!(device, transposed.init(device), 3, [2, 2, 3, 3, 3]);
        }
    }
}

#[test]
fn a_folded_layer_still_trains() {
    for device in devices() {
        let device = device.autodiff();
        let (linear, norm) = (
            LinearConfig::new(3, 2).with_bias(false).init(&device),
            trained(2, true, &device).train(),
        );
        let frozen: Linear = LinearConfig::new(3, 2).init(&device).no_grad().fold(&norm);
        assert!(!frozen.weight.is_require_grad() && !frozen.bias.unwrap().is_require_grad());

        let folded = linear.fold(&norm);
        let grads = folded
            .forward(Tensor::<2>::ones([4, 3], &device))
            .sum()
            .backward();
        assert!(folded.weight.grad(&grads).is_some());
        assert!(folded.bias.unwrap().grad(&grads).is_some());
        assert!(norm.gamma.grad(&grads).is_none());
    }
}

#[test]
fn what_cannot_fold_panics_with_a_sentence() {
    let device = any_device();
    let linear = || LinearConfig::new(3, 2).init(&device);
    let attempts: [(BatchNormConfig, &str); 2] = [
        (
            BatchNormConfig::new(3),
            "3 channels cannot fold into a layer with 2 output channels",
        ),
        (
            BatchNormConfig::new(2).with_running_statistics(false),
            "cannot be folded",
        ),
    ];
    for (config, sentence) in attempts {
        let payload =
            catch_unwind(AssertUnwindSafe(|| linear().fold(&config.init(&device)))).unwrap_err();
        let message = match payload.downcast::<String>() {
            Ok(message) => *message,
            Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
        };
        assert!(message.contains(sentence), "{message}");
    }
}

#[test]
fn a_folded_layer_keeps_gradient_checkpointing() {
    for device in devices() {
        let device = device.autodiff().gradient_checkpointing();
        for bias in [true, false] {
            let config = Conv2dConfig::new([2, 3], [3, 3]).with_bias(bias);
            let (conv, norm) = (config.init(&device), BatchNormConfig::new(3).init(&device));
            let input = Tensor::<4>::random([2, 2, 5, 5], Distribution::Default, &device);
            let folded = conv.fold(&norm);
            let gradients = folded.forward(input).square().sum().backward();
            assert!(folded.weight.grad(&gradients).is_some());
            assert!(folded.bias.unwrap().grad(&gradients).is_some());
        }
    }
}
