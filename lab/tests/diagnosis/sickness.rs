//! The kinds of sickness: what tells each of them, and what else follows from it.

use burn_kindling_lab::model::ModelConfig;

use crate::network::Look::Inference;
use crate::network::{Case, Input};

/// All weights are 0.
pub fn zeros(model: ModelConfig) -> Case {
    // Where weights have just left 0, they pass on little gradient.
    Case::sick("all weights 0", &["symmetry"], model).with(&["dead", "gradient-vanishes"])
}

/// Weights so large that sigmoid or tanh is at its ends.
pub fn saturated(model: ModelConfig) -> Case {
    Case::sick("saturating weights", &["saturated"], model).with(&[
        "gradient-vanishes",
        "gradient-explodes",
        "updates-too-small",
    ])
}

/// Weights so large that the signal grows.
pub fn explodes(model: ModelConfig) -> Case {
    Case::sick("exploding weights", &["signal-explodes"], model).with(&[
        "signal-too-large",
        "gradient-explodes",
        "updates-too-large",
    ])
}

/// Weights so small that the signal vanishes.
pub fn vanishes(model: ModelConfig) -> Case {
    Case::sick("vanishing weights", &["signal-vanishes"], model).with(&[
        "signal-too-small",
        "gradient-vanishes",
        "updates-too-small",
    ])
}

/// Sigmoids, each of which brings all inputs closer together.
pub fn alike(model: ModelConfig) -> Case {
    Case::sick("deep sigmoid", &["inputs-alike"], model)
        .with(&["gradient-vanishes", "updates-too-small"])
}

/// Pixels from 0 to 255.
pub fn raw(model: ModelConfig) -> Case {
    Case::sick("raw pixels", &["signal-too-large", "saturated"], model)
        .with(&["updates-too-large", "gradient-explodes"])
        .input(Input::Pixels(255.0))
}

/// The gradient grows on the way back, and the signal does not.
pub fn gradient(model: ModelConfig) -> Case {
    Case::sick("exploding gradient", &["gradient-explodes"], model)
        .with(&["saturated", "updates-too-large"])
}

/// Residual branches that add to the signal, block after block.
pub fn branches(model: ModelConfig) -> Case {
    Case::sick("growing branches", &["signal-explodes"], model)
        .with(&["gradient-explodes", "updates-too-large", "signal-too-large"])
        .batch(16)
}

pub fn rate_too_high(model: ModelConfig) -> Case {
    let kinds = &["updates-too-large", "not-finite", "dead", "saturated"];
    Case::sick("rate too high", kinds, model).with(&[
        "signal-explodes",
        "signal-too-large",
        "gradient-explodes",
    ])
}

pub fn rate_too_low(model: ModelConfig) -> Case {
    Case::sick("rate too low", &["updates-too-small"], model)
}

/// Units that ReLU never lets through.
pub fn dead(model: ModelConfig) -> Case {
    Case::sick("dead units", &["dead"], model).with(&["signal-vanishes"])
}

pub fn frozen(model: ModelConfig) -> Case {
    Case::sick("frozen layer", &["no-gradient"], model)
}

pub fn outside(model: ModelConfig) -> Case {
    Case::sick("layer outside the graph", &["no-gradient"], model)
}

pub fn not_finite(model: ModelConfig) -> Case {
    Case::sick("not finite", &["not-finite"], model)
}

/// The weights of one layer, or its normalised outputs, are far too large. What tells it depends on the layer.
pub fn large(told_by: &'static [&'static str], model: ModelConfig) -> Case {
    Case::sick("one layer x100", told_by, model).with(&[
        "saturated",
        "signal-explodes",
        "signal-too-large",
        "gradient-explodes",
        "updates-too-large",
        "updates-too-small",
    ])
}

/// The weights of one layer are far too small.
pub fn small(told_by: &'static [&'static str], model: ModelConfig) -> Case {
    Case::sick("one layer /100", told_by, model).with(&[
        "signal-vanishes",
        "signal-too-small",
        "gradient-vanishes",
        "updates-too-large",
        "updates-too-small",
    ])
}

/// The gamma of one layer is 0. The variance of the next is 0 as well, which multiplies the gradient.
pub fn gamma(told_by: &'static [&'static str], model: ModelConfig) -> Case {
    Case::sick("gamma of 0", told_by, model).with(&[
        "signal-vanishes",
        "inputs-alike",
        "symmetry",
        "dead",
        "gradient-explodes",
    ])
}

/// In inference, a running variance is not that of the signal.
pub fn stale(told_by: &'static [&'static str], model: ModelConfig) -> Case {
    Case::sick("stale running variance", told_by, model)
        .with(&["saturated", "signal-explodes", "inputs-alike"])
        .trained(30)
        .look(Inference)
}

/// Batch norm over two images.
pub fn two_images(model: ModelConfig) -> Case {
    Case::sick("batch norm of 2 images", &["symmetry"], model)
        .with(&["updates-too-large"])
        .batch(2)
}
