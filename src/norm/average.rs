//! How batches are averaged into running statistics.

use burn::config::Config;

/// How running mean and variance are averaged over the batches.
///
/// Each is a weighted mean: the old average decays, and a new batch enters with a gain. A batch changes the weight `W`
/// of the average to `W' = decay * W + gain`, and the average `r` to `r + (gain / W') * (batch - r)`:
///
/// | average | decay | gain | `W` at the start |
/// | --- | --- | --- | --- |
/// | exponential | 1 - momentum | momentum | 1, on mean 0 and variance 1 |
/// | debiased exponential | 1 - momentum | momentum | 0 |
/// | cumulative | 1 | 1 | 0 |
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum RunningAverage {
    /// `r = (1 - momentum) * r + momentum * batch`, from mean 0 and variance 1, as in PyTorch and Burn.
    Exponential,
    /// The same, without the pull towards mean 0 and variance 1. It equals an exponential average that starts from 0,
    /// divided by `1 - (1 - momentum)^t` after `t` batches (Kingma & Ba 2015, section 3).
    DebiasedExponential,
    /// The plain mean over all batches, PyTorch's `momentum=None`; the momentum is not used.
    Cumulative,
}

impl RunningAverage {
    /// How a batch enters the average.
    pub(super) fn weighting(self, momentum: f64, unbiased: bool) -> Weighting {
        let (decay, gain) = match self {
            Self::Exponential | Self::DebiasedExponential => (1.0 - momentum, momentum),
            Self::Cumulative => (1.0, 1.0),
        };
        Weighting {
            decay,
            gain,
            unbiased,
        }
    }
}

/// How a batch enters a [`RunningAverage`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighting {
    pub(super) decay: f64,
    pub(super) gain: f64,
    /// Whether the unbiased variance is averaged.
    pub(super) unbiased: bool,
}

impl Weighting {
    /// The weight after a batch.
    pub(super) fn after(self, weight: f64) -> f64 {
        self.decay * weight + self.gain
    }

    /// The factor from the biased variance of `values` values to the variance that is averaged.
    pub(super) fn correction(self, values: usize) -> f64 {
        match self.unbiased {
            true => values as f64 / (values as f64 - 1.0),
            false => 1.0,
        }
    }
}
