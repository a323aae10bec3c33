//! How weights start.
//!
//! A unit sums n inputs, each times a weight: `y = w_1 x_1 + ... + w_n x_n`. With independent weights of
//! mean 0 and variance v, `E[y^2] = n v E[x^2]`. So every layer multiplies the second moment of the
//! signal by `n v`, times what the activation does to it, and depth compounds the product. With
//! weights of variance `s^2 / n` and z from N(0, 1), the second moment q of the pre-activations goes
//! from one wide layer to the next as `q' = s^2 E[phi(sqrt(q) z)^2]` (Poole et al. 2016,
//! [arXiv:1606.05340](https://arxiv.org/abs/1606.05340)). Too large a product, and sigmoid and tanh
//! sit at their ends, where the gradient vanishes, while ReLU explodes; too small, and every unit
//! says the same.
//!
//! | [`InitStrategy`] | weights | what becomes of the signal |
//! | --- | --- | --- |
//! | `zeros` | 0 | the units of a layer get the same gradient and stay copies of one another; with ReLU or tanh only the last bias ever learns |
//! | `standard-normal` | N(0, 1) | pre-activations of std about sqrt(n): sigmoid and tanh saturate, ReLU explodes with depth |
//! | `small-normal` | N(0, 0.01²) | fades: sigmoid to 0.5, tanh and ReLU to 0, and the gradients with it |
//! | `xavier` | N(0, 1/n) | kept where the activation is close to a straight line of slope 1, as tanh is around 0; ReLU halves it at every layer |
//! | `he` | N(0, 2/n) | kept by ReLU, which zeroes half of the second moment: `q' = s² q / 2` |
//!
//! Biases start at 0: they have no symmetry to break. The fan-in n is counted by [`Fan`]; the
//! [`Activation`] tells which strategy to take; [`InitStrategy::propagate`] computes what becomes of
//! a signal, and [`observe`](crate::observe) measures it.
//!
//! ```
//! use burn::{nn::LinearConfig, tensor::Device};
//! use burn_kindling::init::{Activation, InitStrategy};
//!
//! let device = Device::flex();
//! device.seed(42);
//!
//! // A layer that Burn built, started anew: weights N(0, 2/784), bias 0.
//! let he = InitStrategy::recommended_for(Activation::Relu);
//! let layer = he.apply(LinearConfig::new(784, 100).init(&device));
//!
//! let std = layer.weight.val().square().mean().sqrt().into_scalar::<f32>();
//! assert!((std - (2.0f32 / 784.0).sqrt()).abs() < 0.02 * std);
//! assert_eq!(layer.bias.unwrap().val().abs().max().into_scalar::<f32>(), 0.0);
//! ```

mod activation;
mod fan;
mod names;
mod reinit;
mod strategy;
mod theory;

pub use activation::Activation;
pub use fan::Fan;
pub use names::UnknownName;
pub use reinit::Reinit;
pub use strategy::InitStrategy;
pub use theory::LayerSignal;
