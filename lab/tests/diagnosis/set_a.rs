//! The networks that were looked at while the thresholds were set.

use burn_kindling::init::Activation::{Gelu, LeakyRelu, Relu, Selu, Sigmoid, Silu, Tanh};
use burn_kindling::init::InitStrategy::{He, SmallNormal, StandardNormal, Xavier, Zeros};
use burn_kindling_lab::model::Normalization as Norm;
use burn_kindling_lab::train::OptimizerKind::{Adam, AdamW, Momentum, Sgd};

use crate::network::Edit::{Fill, First, Freeze, Times};
use crate::network::Look::{Inference, Step};
use crate::network::{Case, Input, Joint, cnn, mlp, resnet, scaled_mlp};
use crate::sickness::*;

const FIVE: &[usize] = &[100; 5];

pub fn cases() -> Vec<Case> {
    let plain = || mlp(FIVE, Relu, He, Norm::None);
    let normed = || mlp(FIVE, Relu, He, Norm::Batch);
    let tanh = || mlp(FIVE, Tanh, Xavier, Norm::None);
    let healthy = Case::healthy;
    let ends_at_zero = || healthy(resnet(8, 8, He, Norm::Batch)).edit("second gamma", Fill(0.0));
    vec![
        healthy(normed()).optimizer(Adam, 1e-3),
        healthy(normed()).optimizer(Adam, 1e-3).look(Step(50)),
        healthy(mlp(FIVE, Relu, He, Norm::Burn))
            .optimizer(Adam, 1e-3)
            .look(Step(30)),
        healthy(plain()),
        healthy(plain()).look(Step(30)),
        healthy(plain()).optimizer(Adam, 1e-3).look(Step(200)),
        healthy(tanh()),
        healthy(tanh()).optimizer(Adam, 1e-3).look(Step(30)),
        healthy(mlp(&[100; 10], Relu, He, Norm::None)).optimizer(Adam, 1e-3),
        healthy(mlp(&[100; 2], Sigmoid, Xavier, Norm::None)).optimizer(Adam, 1e-3),
        healthy(mlp(FIVE, Sigmoid, Xavier, Norm::Batch)).optimizer(Momentum, 0.01),
        healthy(mlp(FIVE, LeakyRelu, He, Norm::None)),
        healthy(mlp(FIVE, Gelu, He, Norm::None)).optimizer(AdamW, 1e-3),
        healthy(mlp(FIVE, Selu, Xavier, Norm::None)),
        healthy(mlp(FIVE, Silu, He, Norm::Batch)),
        healthy(mlp(FIVE, Relu, SmallNormal, Norm::Batch)),
        healthy(mlp(FIVE, Relu, SmallNormal, Norm::Batch)).optimizer(Adam, 1e-3),
        healthy(mlp(&[16; 2], Relu, He, Norm::None)),
        healthy(mlp(&[512, 128, 32], Relu, He, Norm::None)),
        healthy(mlp(&[1024; 2], Relu, He, Norm::None)).optimizer(Adam, 1e-3),
        healthy(plain()).edit("output.weight", Times(0.1)),
        healthy(plain()).edit("output.weight", Fill(0.0)),
        healthy(plain())
            .edit("output.weight", Fill(0.0))
            .optimizer(Adam, 1e-3),
        healthy(plain()).joint(Joint::Dropout).look(Step(30)),
        healthy(plain()).input(Input::Pixels(1.0)),
        healthy(plain()).batch(2).optimizer(Sgd, 0.01),
        healthy(normed()).look(Inference),
        healthy(normed()).trained(50).look(Inference),
        healthy(normed()).input(Input::Pixels(255.0)),
        healthy(cnn(Relu, He, Norm::Batch)).optimizer(Adam, 1e-3),
        healthy(cnn(Relu, He, Norm::Batch))
            .optimizer(Adam, 1e-3)
            .look(Step(20)),
        healthy(cnn(Relu, He, Norm::None)).optimizer(Sgd, 0.05),
        healthy(cnn(Tanh, Xavier, Norm::None)).optimizer(Adam, 1e-3),
        healthy(resnet(8, 16, He, Norm::Batch)).optimizer(Adam, 5e-3),
        healthy(resnet(8, 8, He, Norm::Burn))
            .optimizer(Adam, 5e-3)
            .look(Step(10)),
        healthy(resnet(8, 8, He, Norm::None)).optimizer(Sgd, 0.01),
        ends_at_zero(),
        ends_at_zero().look(Step(10)),
        ends_at_zero().optimizer(Adam, 1e-3),
        // Weights or inputs of the wrong size.
        zeros(mlp(FIVE, Relu, Zeros, Norm::None)),
        zeros(mlp(FIVE, Tanh, Zeros, Norm::None)).optimizer(Adam, 1e-3),
        zeros(mlp(FIVE, Sigmoid, Zeros, Norm::None)),
        zeros(mlp(&[100], Sigmoid, Zeros, Norm::None)).look(Step(20)),
        zeros(mlp(FIVE, Relu, Zeros, Norm::Batch)),
        zeros(cnn(Relu, Zeros, Norm::None)),
        saturated(mlp(FIVE, Sigmoid, StandardNormal, Norm::None)),
        saturated(mlp(FIVE, Tanh, StandardNormal, Norm::None)).optimizer(Adam, 1e-3),
        saturated(cnn(Tanh, StandardNormal, Norm::None)),
        explodes(mlp(FIVE, Relu, StandardNormal, Norm::None)),
        explodes(mlp(FIVE, LeakyRelu, StandardNormal, Norm::None)).optimizer(Adam, 1e-3),
        explodes(cnn(Relu, StandardNormal, Norm::None)),
        vanishes(mlp(FIVE, Tanh, SmallNormal, Norm::None)),
        vanishes(mlp(FIVE, Relu, SmallNormal, Norm::None)).optimizer(Adam, 1e-4),
        vanishes(mlp(&[100; 20], Relu, Xavier, Norm::None)).optimizer(Momentum, 0.01),
        vanishes(cnn(Relu, SmallNormal, Norm::None)).optimizer(Adam, 1e-4),
        alike(mlp(&[100; 10], Sigmoid, Xavier, Norm::None)),
        alike(mlp(&[100; 8], Sigmoid, He, Norm::None)).optimizer(Adam, 1e-3),
        raw(plain()),
        raw(tanh()),
        raw(cnn(Relu, He, Norm::None)).optimizer(Adam, 1e-3),
        gradient(scaled_mlp(2.5, &[100; 20], Tanh, Xavier)),
        gradient(mlp(&[100; 40], Relu, He, Norm::Batch)),
        branches(resnet(26, 8, He, Norm::None)),
        // Steps of the wrong size.
        rate_too_high(plain()).optimizer(Sgd, 100.0),
        rate_too_high(plain()).optimizer(Sgd, 10.0).look(Step(10)),
        rate_too_high(plain()).optimizer(Adam, 1.0),
        rate_too_high(normed()).optimizer(Adam, 0.3),
        rate_too_high(normed()).optimizer(Sgd, 1000.0),
        rate_too_low(plain()).optimizer(Sgd, 1e-6),
        rate_too_low(tanh()).optimizer(Adam, 1e-7).look(Step(20)),
        rate_too_low(cnn(Relu, He, Norm::Batch)).optimizer(Momentum, 1e-6),
        // A single part that is broken in a healthy network.
        dead(plain())
            .edit("hidden.2 bias", Fill(-10.0))
            .at("hidden.2"),
        dead(plain())
            .edit("hidden bias", Fill(-10.0))
            .optimizer(Adam, 1e-3),
        dead(normed())
            .edit("hidden.1 beta", Fill(-10.0))
            .at("hidden.1"),
        frozen(plain())
            .edit("hidden.1 weight", Freeze)
            .at("hidden.1.affine.weight"),
        frozen(cnn(Relu, He, Norm::Batch)).edit("convolutions.0 weight", Freeze),
        outside(plain())
            .joint(Joint::Detach)
            .at("hidden.4.affine.weight"),
        outside(normed()).joint(Joint::Detach).optimizer(Adam, 1e-3),
        outside(plain()).spare().at("spare.weight"),
        not_finite(plain()).input(Input::First(f64::NAN)),
        not_finite(tanh()).input(Input::First(f64::INFINITY)),
        not_finite(plain())
            .edit("hidden.3 weight", First(f64::NAN))
            .at("hidden.3"),
        not_finite(cnn(Relu, He, Norm::Batch)).edit("convolutions.1 weight", First(f64::INFINITY)),
        large(&["signal-too-large"], plain())
            .edit("hidden.0 weight", Times(100.0))
            .at("hidden.0"),
        large(&["signal-explodes"], plain()).edit("hidden.2 weight", Times(100.0)),
        large(&["gradient-explodes"], plain())
            .edit("output.weight", Times(100.0))
            .at("output"),
        large(&["updates-too-small"], normed())
            .edit("hidden.2 weight", Times(100.0))
            .at("hidden.2.affine.weight"),
        small(&["signal-too-small"], plain())
            .edit("hidden.0 weight", Times(0.01))
            .at("hidden.0"),
        small(&["signal-vanishes"], plain()).edit("hidden.2 weight", Times(0.01)),
        small(&["gradient-vanishes"], plain())
            .edit("output.weight", Times(0.008))
            .at("output"),
        small(&["updates-too-large"], normed())
            .edit("hidden.2 weight", Times(0.01))
            .at("hidden.2.affine.weight"),
        gamma(&["dead"], normed())
            .edit("hidden.2 gamma", Fill(0.0))
            .at("hidden.2"),
        gamma(&["symmetry"], mlp(FIVE, Tanh, Xavier, Norm::Batch))
            .edit("hidden.2 gamma", Fill(0.0))
            .at("hidden.2"),
        stale(&["signal-explodes"], normed()).edit("hidden.2 running_var", Times(1e-4)),
        stale(&["signal-too-large"], normed())
            .edit("hidden.0 running_var", Times(1e-4))
            .at("hidden.0"),
        stale(&["signal-vanishes", "inputs-alike"], normed())
            .edit("hidden.3 running_var", Times(1e4)),
        two_images(normed()),
        two_images(mlp(FIVE, Tanh, Xavier, Norm::Burn)).optimizer(Adam, 1e-3),
    ]
}
