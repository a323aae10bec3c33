//! Weight initialisation.
//!
//! A unit computes `y = w_1 x_1 + ... + w_n x_n`. For independent weights of mean 0 and variance v, `E[y²] = n v
//! E[x²]`: every layer multiplies the second moment of the signal by `n v`, and by the factor of the activation phi.
//! Depth compounds the product. For weights of variance `s² / n` and z from N(0, 1), the second moment q of the
//! pre-activations changes from one wide layer to the next as `q' = s² E[phi(sqrt(q) z)²]` (Poole et al. 2016,
//! [arXiv:1606.05340](https://arxiv.org/abs/1606.05340), eq. 3).
//!
//! If the product is too large, sigmoid and tanh saturate and ReLU explodes. If it is too small, the signal fades.
//!
//! | [`InitStrategy`] | weights | effect on the signal |
//! | --- | --- | --- |
//! | `zeros` | 0 | the units of a layer get the same gradient and stay copies of one another; with ReLU or tanh only the last bias ever learns |
//! | `standard-normal` | N(0, 1) | pre-activations have a std of about sqrt(n): sigmoid and tanh saturate, ReLU explodes with depth |
//! | `small-normal` | N(0, 0.01²) | fades: sigmoid to 0.5, tanh and ReLU to 0; the gradients fade too |
//! | `xavier` | N(0, 1/n) | kept if the activation is close to a line of slope 1, as tanh is around 0; halved by every ReLU layer |
//! | `he` | N(0, 2/n) | kept by ReLU, which removes half of the second moment: `q' = s² q / 2` |
//!
//! Saturation does not always make the gradient vanish. With N(0, 1), few units of a saturated layer pass a gradient,
//! but the large weights make up for the others. In wide layers, mean-field theory gives a factor per layer on the std
//! of the gradient that grows with the fourth root of the width. For sigmoid it is 0.99 at 100 units (measured: 0.99)
//! and 1.6 at 784; for tanh 2.4 and 3.9, so the gradient explodes on its way back.
//!
//! Biases start at 0: they have no symmetry to break. [`Fan`] counts the fan-in n; [`InitStrategy::recommended_for`]
//! names the strategy for an [`Activation`]; [`InitStrategy::propagate`] predicts the signal, and
//! [`observe`](crate::observe) measures it. [`InitStrategy::propagate_pair`] predicts whether two inputs stay apart, and
//! [`MeanField`] how deep a signal and its gradient travel.
//!
//! ```
//! use burn::{nn::LinearConfig, tensor::Device};
//! use burn_kindling::init::{Activation, InitStrategy, initialize};
//!
//! // Any model, or a single layer: weights from N(0, 2/784), bias 0.
//! let he = InitStrategy::recommended_for(Activation::Relu);
//! let layer = LinearConfig::new(784, 100).init(&Device::flex());
//! let (layer, table) = initialize(layer, he, 42);
//! println!("{table}");
//!
//! let std = layer.weight.val().square().mean().sqrt().into_scalar::<f32>();
//! assert!((std - (2.0f32 / 784.0).sqrt()).abs() < 0.02 * std);
//! assert_eq!(layer.bias.unwrap().val().abs().max().into_scalar::<f32>(), 0.0);
//! ```

mod activation;
mod draw;
mod fan;
mod layer;
mod matrix;
mod model;
mod names;
mod scheme;
mod strategy;
mod table;
mod theory;
pub(crate) mod weights;

pub use activation::Activation;
pub use fan::Fan;
pub use layer::LayerKind;
pub use model::{InitPlan, initialize};
pub use names::UnknownName;
pub use scheme::{FanMode, Scheme};
pub use strategy::InitStrategy;
pub use table::{InitAction, InitRow, InitTable, Kept};
pub use theory::{
    Advice, BlockSignal, FixedPoint, LayerSignal, MeanField, PairSignal, Residual, WeightEnsemble,
};
