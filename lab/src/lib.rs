#![warn(missing_docs)]
//! The lab of [burn-kindling](burn_kindling): what initialisation and batch normalisation do, shown on MNIST.
//!
//! - [`data`]: reads MNIST and its relatives, and makes batches.
//! - [`model`]: a multi-layer perceptron, a convolutional network and a residual network, built from one kind of block:
//!   affine layer, normalisation, activation.
//! - [`train`]: a training run, from its configuration to its result, through Burn's learner.
//! - [`study`]: the experiments, one file per question.
//! - [`figure`] and [`page`]: figures, and the report that holds them.
//! - [`live`]: the lab in the browser, where networks change under your hands while they train.
//! - [`device`]: chooses a device by name.
//! - [`cli`]: command-line arguments that the examples share.

pub mod cli;
pub mod data;
pub mod device;
pub mod figure;
pub mod live;
pub mod model;
mod number;
pub mod page;
mod panic;
mod precision;
mod random;
mod say;
pub mod study;
pub mod train;
