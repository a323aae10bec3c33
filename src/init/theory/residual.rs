//! Growth of the signal over residual blocks.

use super::mean_field::MeanField;
use super::signal::decorrelation;

/// Residual blocks `x' = x + scale branch(x)`. A branch is a number of layers, each an activation and then weights.
///
/// The last weights of a branch have mean 0. So the branch is uncorrelated with x, and the second moments add (Yang &
/// Schoenholz 2017, [arXiv:1712.08969](https://arxiv.org/abs/1712.08969)).
///
/// ```
/// use burn_kindling::init::{Activation, MeanField, Residual};
///
/// // He weights double the second moment in every block. A scale of 1 / sqrt(depth) keeps it within a factor of e.
/// let he = MeanField::critical(Activation::Relu);
/// let plain = Residual::new(he, 2).propagate(100, 1.0, 0.0);
/// assert!((plain[99].second_moment.log2() - 100.0).abs() < 1e-9);
/// let scaled = Residual::new(he, 2).with_scale(0.1).propagate(100, 1.0, 0.0);
/// assert!(scaled[99].second_moment < 2.72 && scaled[99].gradient < 1.02);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residual {
    branch: MeanField,
    layers: usize,
    scale: f64,
    gamma: Option<f64>,
}

/// The signal after a residual block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockSignal {
    /// The second moment of x.
    pub second_moment: f64,
    /// The correlation of x between two inputs.
    pub correlation: f64,
    /// The factor of this block on the second moment of the gradient.
    pub gradient: f64,
}

impl Residual {
    /// Blocks of scale 1, with a branch of this many layers.
    pub fn new(branch: MeanField, layers: usize) -> Self {
        Self {
            branch,
            layers,
            scale: 1.0,
            gamma: None,
        }
    }

    /// Sets the factor on the branch.
    pub fn with_scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Ends every branch with a batch norm of this gamma and beta 0, in training on large batches.
    ///
    /// The branch then adds `scale² gamma²` to the second moment, whatever the scale of its weights. So the second
    /// moment grows linearly with depth, not exponentially (De & Smith 2020,
    /// [arXiv:2002.10444](https://arxiv.org/abs/2002.10444)). The norm divides the gradient by the spread of the
    /// branch's output over the inputs.
    pub fn with_batch_norm(self, gamma: f64) -> Self {
        Self {
            gamma: Some(gamma),
            ..self
        }
    }

    /// Predicts the signal after each of `blocks` blocks. At the start, x has second moment q, and two inputs have this
    /// correlation. With batch norm, any two inputs of the batch have it.
    ///
    /// | per block | second moment | factor on the second moment of the gradient |
    /// | --- | --- | --- |
    /// | without batch norm | `q' = q + scale² q_branch` | `1 + scale² chi_1 ... chi_k` |
    /// | with batch norm | `q' = q + scale² gamma²` | `1 + scale² chi_1 ... chi_k gamma² / variance` |
    ///
    /// chi_1 to chi_k are those of the k layers of the branch; `variance` is that of the branch's output over the
    /// inputs, before the norm.
    ///
    /// # Panics
    ///
    /// Panics if q, here or in a later block, is negative or not finite; if the correlation is not between -1 and 1; or
    /// if it is 1 with batch norm, which divides by the spread.
    pub fn propagate(&self, blocks: usize, q: f64, correlation: f64) -> Vec<BlockSignal> {
        let mut difference = q * decorrelation(correlation);
        let mut second_moment = q;
        let block = |_| {
            let (mut q, mut d, mut gain) = (second_moment, difference, 1.0);
            for _ in 0..self.layers {
                gain *= self.branch.chi(q);
                (q, d) = self.branch.next_pair(q, d);
            }
            if let Some(gamma) = self.gamma {
                assert!(
                    d > 0.0,
                    "batch norm needs inputs that differ, found a spread of 0 in the branch"
                );
                gain *= gamma * gamma / d;
                (q, d) = (gamma * gamma, gamma * gamma);
            }
            let square = self.scale * self.scale;
            second_moment += square * q;
            difference += square * d;
            BlockSignal {
                second_moment,
                correlation: if second_moment > 0.0 {
                    1.0 - difference / second_moment
                } else {
                    1.0
                },
                gradient: 1.0 + square * gain,
            }
        };
        (0..blocks).map(block).collect()
    }
}
