//! The equations of batch normalisation in plain f64 loops, independent of any tensor library.

/// One channel-wise view of a row-major `[batch, channels, ...]` input.
pub struct Layout {
    pub channels: usize,
    /// The product of the axes after the channel axis.
    pub trailing: usize,
}

impl Layout {
    pub fn of(shape: &[usize]) -> Self {
        Self {
            channels: shape[1],
            trailing: shape[2..].iter().product(),
        }
    }

    fn channel(&self, index: usize) -> usize {
        index / self.trailing % self.channels
    }

    /// Sums `term` over the indices of each channel.
    fn sums(&self, len: usize, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.channels];
        for index in 0..len {
            let channel = self.channel(index);
            sums[channel] += term(index, channel);
        }
        sums
    }
}

/// The mean and the biased variance of each channel, and the number of values per channel.
pub fn moments(x: &[f64], layout: &Layout) -> (Vec<f64>, Vec<f64>, usize) {
    let values = x.len() / layout.channels;
    let divided = |sums: Vec<f64>| {
        sums.into_iter()
            .map(|sum| sum / values as f64)
            .collect::<Vec<_>>()
    };
    let mean = divided(layout.sums(x.len(), |i, _| x[i]));
    let variance = divided(layout.sums(x.len(), |i, c| (x[i] - mean[c]).powi(2)));
    (mean, variance, values)
}

/// The result of a layer and the gradients of `sum(output * g)`.
pub struct Pass {
    pub output: Vec<f64>,
    pub input_grad: Vec<f64>,
    pub gamma_grad: Vec<f64>,
    pub beta_grad: Vec<f64>,
}

/// Normalises with the given statistics. If `of_batch`, they are the batch's own, and the gradient flows through them.
pub fn pass(
    x: &[f64],
    g: &[f64],
    layout: &Layout,
    (mean, variance): (&[f64], &[f64]),
    (gamma, beta): (&[f64], &[f64]),
    epsilon: f64,
    of_batch: bool,
) -> Pass {
    let values = (x.len() / layout.channels) as f64;
    let deviation: Vec<f64> = variance.iter().map(|v| (v + epsilon).sqrt()).collect();
    let normalised = |i: usize, c: usize| (x[i] - mean[c]) / deviation[c];
    let beta_grad = layout.sums(x.len(), |i, _| g[i]);
    let gamma_grad = layout.sums(x.len(), |i, c| g[i] * normalised(i, c));
    let mut output = Vec::with_capacity(x.len());
    let mut input_grad = Vec::with_capacity(x.len());
    for (i, g) in g.iter().enumerate() {
        let c = layout.channel(i);
        let through_statistics = match of_batch {
            true => beta_grad[c] / values + normalised(i, c) * gamma_grad[c] / values,
            false => 0.0,
        };
        output.push(gamma[c] * normalised(i, c) + beta[c]);
        input_grad.push(gamma[c] / deviation[c] * (g - through_statistics));
    }
    Pass {
        output,
        input_grad,
        gamma_grad,
        beta_grad,
    }
}
