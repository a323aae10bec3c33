//! Weight initialisation.
//!
//! One call initialises a whole model: weights from a [`Scheme`], biases 0.
//!
//! ```
//! use burn::{nn::LinearConfig, tensor::Device};
//! use burn_kindling::init::{Activation, InitStrategy, initialize};
//!
//! // Any module; here a single layer for ReLU. Weights from N(0, 2/784), bias 0.
//! let he = InitStrategy::recommended_for(Activation::Relu);
//! let layer = LinearConfig::new(784, 100).init(&Device::flex());
//! let (layer, table) = initialize(layer, he, 42);
//! println!("{table}");
//!
//! let std = layer.weight.val().square().mean().sqrt().into_scalar::<f32>();
//! assert!((std - (2.0f32 / 784.0).sqrt()).abs() < 0.02 * std);
//! assert_eq!(layer.bias.unwrap().val().abs().max().into_scalar::<f32>(), 0.0);
//! ```
//!
//! The seed and the path of a parameter determine its values: the same bits on every backend, for any number of
//! threads. The [table](InitTable) says what was done to each parameter. An [`InitPlan`] makes exceptions.
//!
//! # Which scheme
//!
//! Choose by the activation. n is the [fan-in](Fan): the number of inputs of one output unit.
//!
//! | activation | scheme | std | why | with batch norm |
//! | --- | --- | --- | --- | --- |
//! | ReLU, leaky ReLU | [`InitStrategy::He`] | `sqrt(2/n)` | ReLU halves the second moment of the signal | the same; the scale matters less |
//! | tanh | [`InitStrategy::Xavier`] | `sqrt(1/n)` | tanh is close to a line of slope 1 around 0 | the same; the norm also keeps units from saturating |
//! | sigmoid | `Xavier` | `sqrt(1/n)` | customary; at a slope of at most 1/4, gradients vanish with depth | the same; the norm then sets the scale |
//! | GELU, SiLU | `He` | `sqrt(2/n)` | customary; every layer loses some of the second moment | the same; the norm restores the second moment |
//! | GELU, SiLU, without a norm | [`Scheme::for_activation`] | `1.53/sqrt(n)`, `1.68/sqrt(n)` | keeps a second moment of 1; gradients grow slowly with depth | not needed |
//! | SELU | `Xavier` | `sqrt(1/n)` | SELU keeps a mean of 0 and a variance of 1 | leave the norm out: SELU normalises itself |
//!
//! Batch norm divides by the scale of the weights before it. So any scale above 0 gives the same output, up to epsilon.
//! The scale still sets how far one step of a given learning rate turns the weights: the larger the weights, the less
//! (van Laarhoven 2017, [arXiv:1706.05350](https://arxiv.org/abs/1706.05350)). Build the layer before a batch norm
//! without a bias; beta takes its place.
//!
//! Some layers deserve a scheme of their own, by [`InitPlan::draw`] or [`InitPlan::fill`]:
//!
//! - **The output layer.** Smaller weights, such as `Scheme::glorot().scaled(0.1)`, make the first predictions less
//!   confident.
//! - **Residual branches.** They add up, so the signal grows from block to block. Set the last gamma or the last
//!   weights of each branch to 0, or scale them down; [`Residual`] predicts the growth.
//! - **Embeddings.** One input is 1 and the others are 0, so the fan-in is 1 and the values are large. Transformers
//!   often use N(0, 0.02²): [`InitPlan::draw_kind`].
//! - **Very deep networks without a norm.** [`Scheme::orthogonal`] keeps the norm of the signal, and
//!   [`Scheme::delta_orthogonal`] does so in a convolution.
//!
//! If no formula fits, measure: [`calibration`](crate::calibration) scales every layer by what a batch of your data
//! shows.
//!
//! # Why the scale matters
//!
//! A unit computes `y = w_1 x_1 + ... + w_n x_n`. For independent weights of mean 0 and variance v,
//! `E[y²] = n v E[x²]`. So every layer multiplies the second moment of the signal by `n v`, and by the factor of the
//! activation phi. Depth compounds the product. For weights of variance `s² / n` and z from N(0, 1), the second moment
//! q of the pre-activations changes from one wide layer to the next as `q' = s² E[phi(sqrt(q) z)²]` (Poole et al.
//! 2016, [arXiv:1606.05340](https://arxiv.org/abs/1606.05340), eq. 3).
//!
//! If the product is too large, sigmoid and tanh saturate and ReLU explodes. If it is too small, the signal fades. The
//! five strategies show both:
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
//! Biases start at 0: they have no symmetry to break.
//!
//! # What else is there
//!
//! | to do | use |
//! | --- | --- |
//! | choose another distribution: uniform, truncated, orthogonal, sparse, by the fan-out, ... | [`Scheme`], [`FanMode`] |
//! | treat some parameters in another way: draw, fill or keep them | [`InitPlan`] |
//! | look up what was done to a parameter | [`InitTable`], [`InitRow`], [`InitAction`] |
//! | count the fan-in and fan-out of a layer of your own | [`Fan`] |
//! | predict the signal at every layer | [`InitStrategy::propagate`] |
//! | predict whether two inputs stay apart | [`InitStrategy::propagate_pair`] |
//! | predict how deep a signal and its gradient travel | [`MeanField`], [`FixedPoint`] |
//! | predict what depth and width do to a network, at the best scale for its activation | [`Advice`] |
//! | predict how the signal grows over residual blocks | [`Residual`] |
//! | scale the weights by measurement | [`calibration`](crate::calibration) |
//! | see what happens in training, and what is wrong | [`observe`](crate::observe) |

mod activation;
mod draw;
mod fan;
mod layer;
mod matrix;
mod model;
mod names;
mod param;
mod place;
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
