#![warn(missing_docs)]
//! Weight initialisation and batch normalisation for [Burn](burn): what makes a deep network train.
//!
//! Most deep networks that will not train fail at two places: how the weights start, and how the
//! scale of the signal drifts from layer to layer. This crate has the two cures, and a lab that
//! shows what they do.
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::prelude::*;
//! use burn_kindling::init::InitStrategy;
//! use burn_kindling::norm::{BatchNorm, BatchNormConfig}; // in the place of burn::nn's
//!
//! #[derive(Module, Debug)]
//! struct Hidden {
//!     linear: Linear,
//!     norm: BatchNorm,
//! }
//!
//! impl Hidden {
//!     fn new(inputs: usize, units: usize, device: &Device) -> Self {
//!         // He's weights go with ReLU; batch norm brings a bias of its own.
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
//! # The rooms
//!
//! - [`init`]: how weights start. Five strategies, fan-in and fan-out, what goes with which
//!   activation.
//! - [`norm`]: batch normalisation. The layer, its running statistics, folding and recalibrating,
//!   and the operation behind it.
//! - [`observe`]: what flows through a network. Statistics of every layer's activations, gradients
//!   and updates, for any Burn model.
//! - `record` (feature `record`): trained weights in and out. Burnpack, safetensors in PyTorch's
//!   names and layouts, PyTorch's own files.

mod dtype;
pub mod init;
pub mod norm;
pub mod observe;
#[cfg(feature = "record")]
pub mod record;
mod scope;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
