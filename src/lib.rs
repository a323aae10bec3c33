#![warn(missing_docs)]
//! Weight initialisation and batch normalisation for [Burn](burn): what makes a deep network train.
//!
//! Most deep networks that do not train fail in one of two places: the scale of the initial weights,
//! or the scale of the signal, which drifts from layer to layer. This crate has a cure for each. Its
//! repository also has a lab that shows what they do.
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::prelude::*;
//! use burn_kindling::init::InitStrategy;
//! use burn_kindling::norm::{BatchNorm, BatchNormConfig}; // instead of burn::nn's
//!
//! #[derive(Module, Debug)]
//! struct Hidden {
//!     linear: Linear,
//!     norm: BatchNorm,
//! }
//!
//! impl Hidden {
//!     fn new(inputs: usize, units: usize, device: &Device) -> Self {
//!         // He initialisation suits ReLU. Batch norm has its own bias.
//!         let linear = LinearConfig::new(inputs, units).with_bias(false).init(device);
//!         Self {
//!             linear: InitStrategy::He.apply(linear),
//!             norm: BatchNormConfig::new(units).init(device),
//!         }
//!     }
//!
//!     fn forward(&self, input: Tensor<2>) -> Tensor<2> {
//!         burn::tensor::activation::relu(self.norm.forward(self.linear.forward(input)))
//!     }
//! }
//!
//! let device = Device::flex().autodiff();
//! let hidden = Hidden::new(784, 100, &device);
//! let output = hidden.forward(Tensor::ones([32, 784], &device));
//! assert_eq!(output.dims(), [32, 100]);
//! ```
//!
//! # Modules
//!
//! - [`init`]: initial weights. Five strategies, fan-in and fan-out, and which strategy suits which
//!   activation.
//! - [`norm`]: batch normalisation. The layer, its running statistics, folding and recalibrating,
//!   and the operation behind it.
//! - [`observe`]: what happens inside a network. Statistics of every layer's activations, gradients
//!   and updates, for any Burn model.
//! - `record` (feature `record`): saves and loads trained weights. Burnpack, safetensors with
//!   PyTorch's names and layouts, and PyTorch's own files.

mod dtype;
pub mod init;
pub mod norm;
pub mod observe;
#[cfg(feature = "record")]
pub mod record;
mod scope;

/// Compiles the README's example as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
