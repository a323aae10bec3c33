#![warn(missing_docs)]
//! Weight initialisation and batch normalisation for [Burn](burn): what makes a deep network train.
//!
//! Most deep networks that do not train fail in one of two places: the scale of the initial weights,
//! or the scale of the signal, which drifts from layer to layer. This crate has a cure for each. The lab
//! in its repository shows what both do.
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::prelude::*;
//! use burn_kindling::init::{InitStrategy, initialize};
//! use burn_kindling::norm::{BatchNorm, BatchNormConfig}; // instead of burn::nn's
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     hidden: Linear,
//!     norm: BatchNorm,
//!     output: Linear,
//! }
//!
//! impl Net {
//!     fn new(device: &Device) -> Self {
//!         let net = Self {
//!             // Batch norm has its own bias.
//!             hidden: LinearConfig::new(784, 100).with_bias(false).init(device),
//!             norm: BatchNormConfig::new(100).init(device),
//!             output: LinearConfig::new(100, 10).init(device),
//!         };
//!         // Weights by fan-in, for ReLU; biases 0. The same seed gives the same weights on every backend.
//!         let (net, _table) = initialize(net, InitStrategy::He, 42);
//!         net
//!     }
//!
//!     fn forward(&self, input: Tensor<2>) -> Tensor<2> {
//!         // relu(self.norm.forward(..)), in one operation.
//!         let hidden = self.norm.forward_relu(self.hidden.forward(input));
//!         self.output.forward(hidden)
//!     }
//! }
//!
//! let device = Device::flex().autodiff();
//! let net = Net::new(&device);
//! let logits = net.forward(Tensor::ones([32, 784], &device));
//! assert_eq!(logits.dims(), [32, 10]);
//! ```
//!
//! # Modules
//!
//! - [`init`]: initial weights of whole models: which scheme suits which activation, fan-in and fan-out, and what
//!   theory predicts.
//! - [`calibration`]: initial weights by measurement, for models that no formula fits.
//! - [`norm`]: batch normalisation. The layer, its running statistics, folding and recalibrating,
//!   and the operation behind it.
//! - [`observe`]: what happens inside a network. Statistics of every layer's activations, gradients
//!   and updates, for any Burn model.
//! - `record` (feature `record`): saves and loads trained weights. Burnpack, safetensors with
//!   PyTorch's names and layouts, and PyTorch's own files.

pub mod calibration;
mod dtype;
pub mod init;
pub mod norm;
mod norms;
pub mod observe;
mod processor;
#[cfg(feature = "record")]
pub mod record;
mod scope;

/// Compiles the README's example as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
