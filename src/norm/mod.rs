//! Batch normalisation.
//!
//! [`BatchNorm`] takes an input `[batch, channels, ...]` and brings every channel to mean 0 and variance 1, then to a
//! mean and a variance that are learned (Ioffe & Szegedy 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167)):
//!
//! ```text
//! y = gamma * (x - mean) / sqrt(variance + epsilon) + beta
//! ```
//!
//! - *Learned*: gamma and beta, a value a channel each.
//! - *Remembered*: a running average of the batches' means and unbiased variances ([`RunningAverage`]).
//! - *In training*, mean and variance are those of the batch, over its rows and all trailing axes, `m` values a
//!   channel; gradients flow through them.
//! - *In inference* they are the remembered ones, so that an answer does not depend on its neighbours in the batch.
//!
//! It stands between an affine layer and the activation. The affine layer then needs no bias, beta takes its place;
//! and its scale does not matter any more, which is why networks with batch norm train from nearly any start.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Distribution, Tensor, activation::relu};
//! use burn_kindling::norm::{BatchNorm, BatchNormConfig, Fold};
//!
//! #[derive(Module, Debug)]
//! struct Block {
//!     linear: Linear,
//!     norm: BatchNorm,
//! }
//!
//! impl Block {
//!     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
//!         relu(self.norm.forward(self.linear.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let training = device.clone().autodiff();
//! let block = Block {
//!     linear: LinearConfig::new(10, 20).with_bias(false).init(&training),
//!     norm: BatchNormConfig::new(20).init(&training),
//! };
//!
//! // On a training device the batch's statistics normalise, and enter the running ones.
//! block.forward(Tensor::random([64, 10], Distribution::Default, &training));
//!
//! // The validation model normalises by the running ones: a single row will do.
//! let block = block.valid();
//! let row = Tensor::random([1, 10], Distribution::Default, &device);
//! let separate = block.forward(row.clone());
//!
//! // And then the norm can go: it folds into the layer before.
//! let folded = relu(block.linear.fold(&block.norm).forward(row));
//! assert!(separate.all_close(folded, None, Some(1e-4)));
//! ```
//!
//! # Three choices
//!
//! Whether gamma and beta train, which statistics normalise, and whether the running ones are updated are three
//! choices, which other libraries tangle. Here the first belongs to the parameters, as in all of Burn; the other two
//! make a [`Mode`].
//!
//! | known as | gamma, beta | normalise by | running ones | how |
//! | --- | --- | --- | --- | --- |
//! | training | train | the batch's | updated | the rule on an autodiff device |
//! | inference | - | the running | kept | `model.valid()`; the rule on any other device |
//! | frozen batch norm, for fine-tuning | fixed | the running | kept | [`freeze`]`(model)` |
//! | frozen statistics | train | the running | kept | [`freeze_statistics`]`(model)` |
//! | statistics-only pass | fixed | the batch's | updated | `Mode::TRAINING.run(\|\| valid.forward(x))` |
//! | test-time adaptation | as you like | the batch's | kept | `Mode::TEST_TIME_ADAPTATION.run(\|\| model.forward(x))` |
//!
//! # Cautions
//!
//! - Never evaluate with the test batch's own statistics, unless adaptation is what you want: the answer then depends
//!   on what else is in the batch, and a batch of a single class collapses.
//! - A batch of one value a channel has no variance; training on it panics. Small batches make noisy statistics.
//! - The running average lags behind the weights. [`recalibrate`] recomputes it before evaluation.
//! - Statistics of one domain do not fit another: after training on one, recalibrate on the other, or adapt.
//! - Rows of a batch see each other through its statistics: information leaks where they should be independent.
//!
//! # Pages
//!
//! [`op`] holds the operation itself, and [`op::reference`] its equations; [`Fold`] and [`recalibrate`] are for
//! trained models.

pub mod op;

mod batch_norm;
mod fold;
mod mode;
mod recalibrate;
mod statistics;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use fold::Fold;
pub use mode::{Mode, Statistics, freeze, freeze_statistics, unfreeze};
pub use recalibrate::{RecalibrateError, Recalibration, RecalibrationProgress, recalibrate};
pub use statistics::RunningAverage;
