//! Networks that were made after the thresholds had been set, and diagnosed once.

use burn_kindling::init::Activation::{Gelu, LeakyRelu, Relu, Selu, Sigmoid, Silu, Tanh};
use burn_kindling::init::InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};
use burn_kindling_lab::model::Normalization as Norm;
use burn_kindling_lab::train::OptimizerKind::{Adam, AdamW, Momentum, Sgd};

use crate::network::Edit::{Fill, First, Freeze, Times};
use crate::network::Look::{Inference, Step};
use crate::network::{Case, Input, Joint, cnn, mlp, resnet, scaled_mlp};
use crate::sickness::*;

pub fn cases() -> Vec<Case> {
    let wide = || mlp(&[300; 3], Relu, He, Norm::None);
    let normed = || mlp(&[64; 8], LeakyRelu, He, Norm::Batch);
    let tanh = || mlp(&[200; 4], Tanh, Xavier, Norm::None);
    let healthy = Case::healthy;
    let cases = vec![
        healthy(wide()),
        healthy(wide()).optimizer(Momentum, 0.01).look(Step(40)),
        healthy(wide()).optimizer(AdamW, 2e-3).look(Step(10)),
        healthy(normed()).optimizer(Sgd, 0.3),
        healthy(normed()).optimizer(Adam, 3e-3).look(Step(100)),
        healthy(tanh()).optimizer(Sgd, 0.2),
        healthy(tanh()).optimizer(Adam, 2e-3).look(Step(60)),
        healthy(mlp(&[256], Relu, He, Norm::None)).optimizer(Adam, 1e-3),
        healthy(mlp(&[32; 3], Relu, He, Norm::None)).optimizer(Adam, 3e-3),
        healthy(mlp(&[150; 15], Relu, He, Norm::None)).optimizer(Adam, 1e-3),
        healthy(mlp(&[80; 12], Tanh, Xavier, Norm::None)).optimizer(Momentum, 0.01),
        healthy(mlp(&[120; 8], Gelu, He, Norm::None)).optimizer(Adam, 1e-3),
        healthy(mlp(&[120; 6], Selu, Xavier, Norm::None))
            .optimizer(Adam, 1e-3)
            .look(Step(30)),
        healthy(mlp(&[90; 4], Silu, He, Norm::None)).optimizer(AdamW, 1e-3),
        healthy(mlp(&[150; 7], Sigmoid, Xavier, Norm::Burn))
            .optimizer(Adam, 1e-3)
            .look(Step(20)),
        healthy(mlp(&[60], Sigmoid, Xavier, Norm::None)),
        healthy(mlp(&[400, 200, 100, 50], Gelu, He, Norm::Batch)).optimizer(Adam, 2e-3),
        healthy(mlp(&[30, 120, 480], LeakyRelu, He, Norm::None)).optimizer(Sgd, 0.05),
        healthy(mlp(&[120; 6], Tanh, SmallNormal, Norm::Batch)).optimizer(Adam, 1e-3),
        healthy(mlp(&[120; 6], Gelu, SmallNormal, Norm::Burn))
            .optimizer(Sgd, 0.05)
            .look(Step(5)),
        healthy(wide())
            .edit("output.weight", Times(0.2))
            .optimizer(Adam, 1e-3),
        healthy(tanh())
            .edit("output.weight", Fill(0.0))
            .optimizer(Momentum, 0.02),
        healthy(normed())
            .edit("output.weight", Fill(0.0))
            .optimizer(Adam, 1e-3)
            .look(Step(25)),
        healthy(wide()).joint(Joint::Dropout).optimizer(Adam, 1e-3),
        healthy(tanh())
            .joint(Joint::Dropout)
            .optimizer(Sgd, 0.05)
            .look(Step(50)),
        healthy(tanh())
            .input(Input::Pixels(1.0))
            .optimizer(Adam, 1e-3),
        healthy(wide()).batch(4).optimizer(Sgd, 0.02).look(Step(10)),
        healthy(normed()).batch(16).optimizer(Adam, 1e-3),
        healthy(normed()).trained(80).look(Inference),
        healthy(cnn(LeakyRelu, He, Norm::Burn))
            .optimizer(Momentum, 0.02)
            .look(Step(15)),
        healthy(cnn(Gelu, He, Norm::None))
            .optimizer(Adam, 1e-3)
            .look(Step(30)),
        healthy(cnn(Silu, He, Norm::Batch)).optimizer(AdamW, 2e-3),
        healthy(cnn(Relu, He, Norm::Batch))
            .batch(128)
            .optimizer(Sgd, 0.2),
        healthy(cnn(Relu, He, Norm::Batch))
            .trained(25)
            .look(Inference),
        healthy(resnet(14, 8, He, Norm::Batch))
            .batch(32)
            .optimizer(Adam, 2e-3),
        healthy(resnet(8, 12, He, Norm::Batch))
            .batch(32)
            .optimizer(Momentum, 0.05)
            .look(Step(8)),
        healthy(resnet(14, 8, He, Norm::Batch))
            .batch(32)
            .edit("second gamma", Fill(0.0)),
        healthy(resnet(14, 8, He, Norm::Burn))
            .batch(32)
            .edit("second gamma", Fill(0.0))
            .optimizer(Adam, 2e-3)
            .look(Step(6)),
        // Weights or inputs of the wrong size.
        zeros(mlp(&[64; 3], Relu, Zeros, Norm::None)).optimizer(Adam, 1e-3),
        zeros(mlp(&[200; 2], Gelu, Zeros, Norm::None)),
        zeros(mlp(&[50], Sigmoid, Zeros, Norm::None))
            .optimizer(Adam, 1e-2)
            .look(Step(40)),
        zeros(cnn(Tanh, Zeros, Norm::None)).optimizer(Momentum, 0.01),
        zeros(mlp(&[64; 4], Tanh, Zeros, Norm::Burn)),
        saturated(mlp(&[200; 3], Tanh, StandardNormal, Norm::None)),
        saturated(mlp(&[150; 7], Sigmoid, StandardNormal, Norm::None)).optimizer(Adam, 1e-3),
        saturated(scaled_mlp(10.0, &[80; 4], Tanh, Xavier)).optimizer(Momentum, 0.01),
        saturated(tanh()).input(Input::Pixels(255.0)),
        explodes(mlp(&[64; 8], Relu, StandardNormal, Norm::None)).optimizer(Adam, 1e-3),
        explodes(mlp(&[200; 3], Gelu, StandardNormal, Norm::None)),
        explodes(scaled_mlp(2.0, &[100; 8], Relu, He)).optimizer(Sgd, 0.01),
        explodes(cnn(LeakyRelu, StandardNormal, Norm::None)).optimizer(Momentum, 0.01),
        vanishes(mlp(&[200; 3], Relu, SmallNormal, Norm::None)).optimizer(Sgd, 0.05),
        vanishes(mlp(&[64; 6], Selu, SmallNormal, Norm::None)).optimizer(Adam, 1e-4),
        vanishes(scaled_mlp(0.5, &[100; 8], Tanh, Xavier)),
        vanishes(mlp(&[120; 25], LeakyRelu, Xavier, Norm::None)).optimizer(Adam, 1e-3),
        vanishes(cnn(Tanh, SmallNormal, Norm::None)).optimizer(Sgd, 0.1),
        alike(mlp(&[150; 7], Sigmoid, Xavier, Norm::None)).optimizer(Momentum, 0.01),
        alike(mlp(&[60; 12], Sigmoid, He, Norm::None)),
        alike(mlp(&[200; 5], Sigmoid, SmallNormal, Norm::None)).optimizer(Adam, 1e-3),
        raw(wide()).optimizer(Adam, 1e-3),
        raw(mlp(&[80; 4], Gelu, He, Norm::None)).optimizer(Sgd, 1e-3),
        raw(mlp(&[100; 2], Sigmoid, Xavier, Norm::None)),
        raw(resnet(8, 8, He, Norm::None))
            .batch(16)
            .optimizer(Adam, 1e-3),
        gradient(scaled_mlp(3.0, &[150; 30], Tanh, Xavier)).optimizer(Adam, 1e-4),
        gradient(mlp(&[64; 50], Relu, He, Norm::Burn)).optimizer(Adam, 1e-3),
        branches(resnet(32, 6, He, Norm::None)).optimizer(Adam, 1e-3),
        // Steps of the wrong size.
        rate_too_high(wide()).optimizer(Sgd, 30.0),
        rate_too_high(tanh()).optimizer(Adam, 0.3),
        rate_too_high(wide()).optimizer(Momentum, 3.0).look(Step(8)),
        rate_too_high(cnn(Relu, He, Norm::None)).optimizer(Adam, 0.5),
        rate_too_high(cnn(LeakyRelu, He, Norm::Batch)).optimizer(Sgd, 200.0),
        rate_too_low(wide()).optimizer(Adam, 1e-7),
        rate_too_low(normed()).optimizer(Sgd, 3e-6).look(Step(5)),
        rate_too_low(cnn(Tanh, Xavier, Norm::None)).optimizer(AdamW, 1e-7),
        rate_too_low(resnet(8, 8, He, Norm::Batch))
            .batch(16)
            .optimizer(Momentum, 1e-6),
        // A single part that is broken in a healthy network.
        dead(wide())
            .edit("hidden.1 bias", Fill(-20.0))
            .at("hidden.1"),
        dead(mlp(&[64; 5], Relu, He, Norm::Burn))
            .edit("hidden.4 beta", Fill(-8.0))
            .at("hidden.4"),
        dead(cnn(Relu, He, Norm::None))
            .edit("dense bias", Fill(-30.0))
            .at("dense"),
        frozen(tanh())
            .edit("hidden.3 weight", Freeze)
            .at("hidden.3.affine.weight"),
        frozen(resnet(8, 8, He, Norm::Batch))
            .batch(16)
            .edit("blocks.1.first weight", Freeze)
            .at("blocks.1.first.affine.weight"),
        frozen(normed()).edit("output", Freeze).at("output.weight"),
        outside(tanh())
            .joint(Joint::Detach)
            .optimizer(Momentum, 0.01)
            .at("hidden.0.affine.weight"),
        outside(cnn(Relu, He, Norm::Batch))
            .spare()
            .at("spare.weight"),
        not_finite(tanh()).input(Input::First(f64::NAN)),
        not_finite(resnet(8, 8, He, Norm::Batch))
            .batch(16)
            .edit("blocks.2.second weight", First(f64::NAN))
            .at("blocks.2"),
        not_finite(cnn(Relu, He, Norm::None)).input(Input::First(f64::INFINITY)),
        not_finite(wide())
            .edit("output.weight", First(f64::INFINITY))
            .at("output"),
        large(&["signal-too-large"], wide())
            .edit("hidden.0 weight", Times(100.0))
            .optimizer(Adam, 1e-3)
            .at("hidden.0"),
        large(&["signal-explodes"], mlp(&[80; 6], Gelu, He, Norm::None))
            .edit("hidden.4 weight", Times(100.0)),
        large(&["saturated"], tanh())
            .edit("hidden.2 weight", Times(100.0))
            .at("hidden.2"),
        large(&["gradient-explodes"], cnn(Relu, He, Norm::Batch))
            .edit("output.weight", Times(100.0))
            .optimizer(Adam, 1e-3)
            .at("output"),
        large(
            &["updates-too-small"],
            mlp(&[80; 4], Tanh, Xavier, Norm::Batch),
        )
        .edit("hidden.1 weight", Times(100.0))
        .at("hidden.1.affine.weight"),
        small(&["signal-too-small"], tanh())
            .edit("hidden.0 weight", Times(0.01))
            .at("hidden.0"),
        small(&["signal-vanishes"], wide())
            .edit("hidden.1 weight", Times(0.01))
            .optimizer(Adam, 1e-3),
        small(&["signal-vanishes"], cnn(Relu, He, Norm::None))
            .edit("convolutions.1 weight", Times(0.01)),
        small(&["gradient-vanishes"], tanh())
            .edit("output.weight", Times(0.008))
            .at("output"),
        small(&["updates-too-large"], mlp(&[80; 4], Relu, He, Norm::Burn))
            .edit("hidden.1 weight", Times(0.01))
            .at("hidden.1.affine.weight"),
        gamma(&["dead"], cnn(Relu, He, Norm::Batch))
            .edit("convolutions.1 gamma", Fill(0.0))
            .at("convolutions.1"),
        gamma(&["symmetry"], mlp(&[80; 4], Sigmoid, Xavier, Norm::Burn))
            .edit("hidden.1 gamma", Fill(0.0))
            .optimizer(Adam, 1e-3)
            .at("hidden.1"),
        stale(&["signal-explodes"], normed()).edit("hidden.4 running_var", Times(1e-4)),
        stale(&["signal-too-large"], cnn(Relu, He, Norm::Batch))
            .edit("convolutions.0 running_var", Times(1e-4))
            .at("convolutions.0"),
        stale(
            &["signal-vanishes", "inputs-alike"],
            mlp(&[80; 4], Relu, He, Norm::Batch),
        )
        .edit("hidden.2 running_var", Times(1e6)),
        two_images(mlp(&[80; 4], Relu, He, Norm::Burn)),
        two_images(normed()).optimizer(Adam, 1e-3),
    ];
    // Other weights and other images than those of set A.
    let seeded = (1..).zip(cases).map(|(seed, case)| case.seed(seed));
    seeded.collect()
}
