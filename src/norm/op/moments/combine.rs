//! Merges the moments of several batches, and distributes the gradients.

/// The moments of one worker's batch, in f64.
pub(super) struct Contribution {
    values: f64,
    /// Of each channel. The mean is without its rounding error.
    means: Vec<f64>,
    variances: Vec<f64>,
}

impl Contribution {
    /// From the three rows of moments.
    pub(super) fn new(rows: &[f64], values: usize) -> Self {
        let channels = rows.len() / 3;
        let row = |index: usize| &rows[index * channels..(index + 1) * channels];
        let means = row(0).iter().zip(row(1)).map(|(mean, rest)| mean + rest);
        Self {
            values: values as f64,
            means: means.collect(),
            variances: row(2).to_vec(),
        }
    }

    /// The number of values, the means, the variances.
    pub(super) fn numbers(&self) -> impl Iterator<Item = f64> {
        let channels = self.means.iter().chain(&self.variances);
        std::iter::once(self.values).chain(channels.copied())
    }

    /// # Panics
    ///
    /// If there are other than `channels` channels.
    pub(super) fn from_numbers(numbers: &[f64], channels: usize) -> Self {
        let found = numbers.len().saturating_sub(1) / 2;
        assert!(
            numbers.len() == 1 + 2 * channels,
            "the workers met in different batch norm layers: one of {channels} channels, one of {found}"
        );
        let (means, variances) = numbers[1..].split_at(channels);
        Self {
            values: numbers[0],
            means: means.to_vec(),
            variances: variances.to_vec(),
        }
    }
}

/// The moments of all batches together.
pub(super) struct Total {
    pub(super) values: usize,
    means: Vec<f64>,
    variances: Vec<f64>,
}

impl Total {
    /// Merges the contributions in their order (Chan, Golub & LeVeque 1983, equation 2.1). Without any value, the
    /// moments are 0.
    pub(super) fn of(all: &[Contribution], channels: usize) -> Self {
        let mut values = 0.0;
        let mut means = vec![0.0; channels];
        let mut deviations = vec![0.0; channels];
        for one in all.iter().filter(|one| one.values > 0.0) {
            let total = values + one.values;
            let merged = means.iter_mut().zip(&mut deviations);
            for ((mean, deviations), (new, variance)) in
                merged.zip(one.means.iter().zip(&one.variances))
            {
                let difference = new - *mean;
                *deviations +=
                    variance * one.values + difference * difference * (values * one.values / total);
                *mean += difference * (one.values / total);
            }
            values = total;
        }
        let count = values.max(1.0);
        Self {
            values: values as usize,
            means,
            variances: deviations.into_iter().map(|sum| sum / count).collect(),
        }
    }

    /// The rows of moments, whose mean will be rounded to f32 or, if `is_double`, not at all.
    pub(super) fn rows(&self, is_double: bool) -> Vec<f64> {
        let rest = |mean: &f64| match is_double {
            true => 0.0,
            false => mean - f64::from(*mean as f32),
        };
        let rests: Vec<_> = self.means.iter().map(rest).collect();
        [&self.means[..], &rests, &self.variances].concat()
    }

    /// What a worker needs to share in the gradients.
    pub(super) fn share(&self, mine: &Contribution) -> Share {
        let off = mine.means.iter().zip(&self.means);
        Share {
            part: mine.values / (self.values as f64).max(1.0),
            off: off.map(|(mine, all)| mine - all).collect(),
        }
    }
}

/// One worker's share in all values.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// Its values, as a part of all.
    part: f64,
    /// Its means less those of all.
    off: Vec<f64>,
}

impl Share {
    /// The rows of gradients of this worker's moments, given the workers' rows of gradients of the merged moments.
    pub(super) fn gradients(&self, of_workers: &[Vec<f64>]) -> Vec<f64> {
        let channels = self.off.len();
        let mut sums = vec![0.0; 3 * channels];
        for gradients in of_workers {
            assert!(
                gradients.len() == sums.len(),
                "the workers met in the backward passes of different batch norm layers"
            );
            for (sum, gradient) in sums.iter_mut().zip(gradients) {
                *sum += gradient;
            }
        }
        let (for_means, for_variances) = (&sums[..channels], &sums[2 * channels..]);
        let through_both = for_means.iter().zip(for_variances).zip(&self.off);
        let for_means =
            through_both.map(|((mean, variance), off)| self.part * (mean + 2.0 * variance * off));
        let for_variances = for_variances.iter().map(|variance| self.part * variance);
        let nothing = std::iter::repeat_n(0.0, channels);
        for_means.chain(nothing).chain(for_variances).collect()
    }
}
