//! The lab (feature `lab`): the networks under study, MNIST, and training through Burn's learner.
//!
//! - [`model`]: a multi-layer perceptron and a convolutional network, made of one kind of block:
//!   affine layer, normalisation, activation.
//! - [`mnist`]: reading the data and making batches of it.
//! - [`train`]: a training run, from its configuration to its result.
//! - [`device`]: choosing a device by name.
//! - [`cli`]: what the examples' command lines share.

pub mod cli;
pub mod device;
pub mod mnist;
pub mod model;
pub mod train;
