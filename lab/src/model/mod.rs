//! The networks under study.
//!
//! All are made of [`Block`]s: an affine layer (linear or convolution), an optional normalisation, an activation, in
//! this order (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3.2). A last linear layer gives one logit per class.

mod block;
mod classifier;
mod cnn;
mod mlp;
mod resnet;

pub use block::{Affine, Block, Norm, Normalization};
pub use classifier::{Classifier, ModelConfig};
pub use cnn::{Cnn, CnnConfig};
pub use mlp::{Mlp, MlpConfig};
pub use resnet::{ResidualBlock, Resnet, ResnetConfig, Shortcut};
