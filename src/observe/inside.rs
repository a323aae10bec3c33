//! Points inside of blocks.

use std::fmt::Display;

use super::{name, rescale, watch};

/// Puts `block` and a dot before the names of all points that `forward` passes. Blocks nest.
///
/// So a block names its points once, and needs no name of its own to pass on:
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_kindling::observe::{Observer, inside, watch};
///
/// #[derive(Module, Debug)]
/// struct Block {
///     conv1: Linear,
///     conv2: Linear,
/// }
///
/// impl Block {
///     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
///         let branch = watch("conv1", self.conv1.forward(x.clone())).tanh();
///         x + watch("conv2", self.conv2.forward(branch))
///     }
/// }
///
/// # let device = Device::flex();
/// # let linear = || LinearConfig::new(4, 4).init(&device);
/// let blocks = [0, 1].map(|_| Block { conv1: linear(), conv2: linear() });
/// let (_, seen) = Observer::new().run(|| {
///     let mut x = Tensor::<2>::ones([2, 4], &device);
///     for (i, block) in blocks.iter().enumerate() {
///         x = inside(format_args!("blocks.{i}"), || block.forward(x));
///     }
/// });
/// let report = seen.report();
/// let names: Vec<&str> = report.layers.iter().map(|layer| &*layer.name).collect();
/// assert_eq!(names, ["blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2"]);
/// ```
///
/// Without an observer it only calls `forward`. On a rayon worker, an observed `forward` runs on a new thread; see
/// [`Observer::run`](super::Observer::run).
pub fn inside<T: Send>(block: impl Display, forward: impl FnOnce() -> T + Send) -> T {
    if !watch::is_observed() && !rescale::is_rescaled() {
        return forward();
    }
    name::run_inside(block, forward)
}
