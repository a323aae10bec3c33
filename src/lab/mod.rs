//! The lab (feature `lab`): the networks under study, MNIST, training through Burn's learner, and
//! the experiments.
//!
//! - [`model`]: a multi-layer perceptron and a convolutional network, made of one kind of block:
//!   affine layer, normalisation, activation.
//! - [`mnist`]: reading the data and making batches of it.
//! - [`train`]: a training run, from its configuration to its result.
//! - [`experiment`]: what initialisation and batch normalisation do, one file a question.
//! - [`report`]: figures, and the page that holds them.
//! - [`device`]: choosing a device by name.
//! - [`cli`]: what the examples' command lines share.

pub mod cli;
pub mod device;
pub mod experiment;
pub mod mnist;
pub mod model;
mod random;
pub mod report;
pub mod train;
