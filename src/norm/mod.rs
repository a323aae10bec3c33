//! Batch normalisation.
//!
//! [`BatchNorm`] normalises every channel of an input `[batch, channels, ...]` to mean 0 and variance 1, then scales
//! and shifts it by learned values (Ioffe & Szegedy 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167)):
//!
//! ```text
//! y = gamma * (x - mean) / sqrt(variance + epsilon) + beta
//! ```
//!
//! - *Learned*: gamma and beta, one value per channel each.
//! - *Averaged*: the running statistics, averages of the batches' means and unbiased variances ([`RunningAverage`]).
//! - *In training*, mean and variance are those of the batch, over the batch axis and all trailing axes. Gradients flow
//!   through them.
//! - *In inference*, they are the running statistics, so an answer does not depend on the rest of the batch.
//!
//! Batch norm goes between an affine layer and the activation. The affine layer then needs no bias, because beta
//! replaces it. The scale of its weights no longer changes the output, so networks with batch norm train from more
//! initial scales than networks without: from 9 of 16 in the lab's experiment, instead of 1.
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
//! // On an autodiff device the batch's statistics normalise, and update the running ones.
//! block.forward(Tensor::random([64, 10], Distribution::Default, &training));
//!
//! // The validation model normalises by the running ones, so a single row is enough.
//! let block = block.valid();
//! let row = Tensor::random([1, 10], Distribution::Default, &device);
//! let separate = block.forward(row.clone());
//!
//! // The norm folds into the layer before it.
//! let folded = relu(block.linear.fold(&block.norm).forward(row));
//! assert!(separate.all_close(folded, None, Some(1e-4)));
//! ```
//!
//! # Three choices
//!
//! Three things can be chosen: whether gamma and beta train, which statistics normalise, and whether the batch updates
//! the running statistics. The parameters decide the first, as everywhere in Burn; a [`Mode`] decides the other two.
//!
//! | known as | gamma, beta | normalised with | running statistics | how |
//! | --- | --- | --- | --- | --- |
//! | training | train | the batch's | updated | by default on an autodiff device |
//! | inference | - | the running | kept | `model.valid()`; by default on any other device |
//! | frozen batch norm, for fine-tuning | fixed | the running | kept | [`freeze`]`(model)` |
//! | frozen statistics | train | the running | kept | [`freeze_statistics`]`(model)` |
//! | statistics-only pass | fixed | the batch's | updated | `Mode::Training.run(\|\| valid.forward(x))` |
//! | test-time adaptation | unchanged | the batch's | kept | `Mode::TestTimeAdaptation.run(\|\| model.forward(x))` |
//!
//! - `model.no_grad()` fixes gamma and beta only. On an autodiff device the model's statistics are still updated, as
//!   in Burn. Use `model.valid()` or [`freeze`].
//! - In a statistics-only pass, take `valid` from `model.valid()`, which copies the statistics. Clones of `valid` share
//!   its statistics ([clones and threads](BatchNorm#clones-and-threads)), so the pass changes them too. To keep a clone
//!   unchanged, call `valid()` on it first.
//!
//! # Which values make the statistics
//!
//! | the statistics are of | for | how |
//! | --- | --- | --- |
//! | the batch | most models | by default |
//! | the batches of several workers | training on several devices | [`SyncGroup`]`::run` around a step |
//! | the values that a mask marks | padded sequences and images | [`forward_masked`](BatchNorm::forward_masked) |
//! | each part of the batch by itself | large batches that generalise badly | [`GhostBatches`]`::run` |
//! | the batch, corrected towards the running ones | small batches | [`Renormalization`]`::run` |
//! | several micro-batches, in the running average | accumulated gradients | [`Microbatches`]`::run` |
//! | one domain, time step or kind of image | a network with several | [`BatchNormSets`] |
//!
//! Wrap a step in `run` to choose for every layer in it; the model and its records stay as they are. Set
//! [`BatchNormConfig::with_channel_axis`] if the channels are not along axis 1. Use [`average_statistics`] to merge the
//! running statistics of several models.
//!
//! # Cautions
//!
//! - Do not evaluate with the test batch's own statistics unless you want adaptation. Answers then depend on the rest
//!   of the batch, and a batch of a single class collapses.
//! - A batch with one value per channel has no variance; training on it panics. Small batches make noisy statistics.
//! - Padding counts like data unless a mask leaves it out.
//! - The running averages lag behind the weights. [`recalibrate`] recomputes them before evaluation;
//!   [`recalibrate_at_once`] does so in one pass, in more memory.
//! - Statistics of one domain do not fit another. After training on one, recalibrate on the other, or adapt.
//! - Rows of a batch influence each other through its statistics: information leaks between rows that should be
//!   independent.
//!
//! # Pages
//!
//! [`op`] holds the operation itself, and [`op::reference`] its equations. [`Fold`], [`fold`](fold()) and
//! [`recalibrate`] are for trained models. [`memory`] releases what the layers keep between steps.

pub mod memory;
pub mod op;

mod accumulate;
mod average;
mod batch;
mod batch_norm;
mod config;
mod fields;
mod fold;
mod freeze;
mod ghost;
mod merge;
mod mode;
mod module;
mod probe;
mod recalibrate;
mod renormalization;
mod sets;
mod statistics;
mod sync;

pub use accumulate::Microbatches;
pub use average::RunningAverage;
pub use batch_norm::BatchNorm;
pub use config::BatchNormConfig;
pub use fold::{Fold, FoldRow, FoldTable, fold};
pub use freeze::{freeze, freeze_statistics, unfreeze};
pub use ghost::GhostBatches;
pub use merge::average_statistics;
pub use mode::Mode;
pub use op::Then;
pub use recalibrate::{RecalibrateError, RecalibrationProgress, recalibrate, recalibrate_at_once};
pub use renormalization::Renormalization;
pub use sets::{BatchNormSets, BatchNormSetsConfig, StatisticsSet};
pub use sync::SyncGroup;
