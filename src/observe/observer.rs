//! Watches a forward pass.

use std::sync::Arc;

use burn::module::Module;

use super::observation::Observation;
use super::summary::{Bins, Settings};
use super::watch::{Norms, record};
use crate::norms::norms_of;

/// Watches the points that a forward pass goes through; see the [module](super) for an example.
///
/// Its settings say what to compute at each point: the bins and the range of the histogram, and which percentiles.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    settings: Settings,
    norms: Arc<Norms>,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// Makes an observer with histograms of 30 bins over the range of the data, and the 15th, 50th and 85th
    /// percentiles, as in Ioffe & Szegedy 2015, [arXiv:1502.03167](https://arxiv.org/abs/1502.03167), figure 1.
    pub fn new() -> Self {
        Self {
            settings: Settings {
                count: 30,
                bins: Bins::OfData,
                gradient_bins: Bins::OfData,
                percentiles: vec![15.0, 50.0, 85.0],
            },
            norms: Arc::default(),
        }
    }

    /// Makes an observer that also watches the output of every [`BatchNorm`](crate::norm::BatchNorm) of `model`. So a
    /// model with batch norm needs no points of its own.
    ///
    /// The row has the path of the layer in the model, such as `blocks.0.norm`. The output includes what
    /// [follows](crate::norm::Then) in the same operation. A layer that is called several times makes a row each time.
    ///
    /// It also knows the layers in clones of the model, in the validation model, and in what an optimizer makes of it.
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_kindling::norm::{BatchNorm, BatchNormConfig};
    /// use burn_kindling::observe::Observer;
    ///
    /// #[derive(Module, Debug)]
    /// struct Block {
    ///     linear: Linear,
    ///     norm: BatchNorm,
    /// }
    ///
    /// # let device = Device::flex().autodiff();
    /// let block = |_| Block {
    ///     linear: LinearConfig::new(8, 8).init(&device),
    ///     norm: BatchNormConfig::new(8).init(&device),
    /// };
    /// let blocks: Vec<Block> = (0..3).map(block).collect();
    /// let input = Tensor::<2>::random([32, 8], Distribution::Default, &device);
    ///
    /// let (_, seen) = Observer::of(&blocks).run(|| {
    ///     blocks.iter().fold(input, |x, block| block.norm.forward_relu(block.linear.forward(x)))
    /// });
    /// let report = seen.report();
    /// let names: Vec<&str> = report.layers.iter().map(|layer| &*layer.name).collect();
    /// assert_eq!(names, ["0.norm", "1.norm", "2.norm"]);
    /// ```
    pub fn of<M: Module>(model: &M) -> Self {
        let norms = norms_of(model).into_iter();
        Self {
            norms: Arc::new(norms.map(|norm| (norm.flag, norm.path)).collect()),
            ..Self::new()
        }
    }

    /// Sets the number of bins of the histograms, all of equal width.
    ///
    /// # Panics
    ///
    /// Panics if `bins` is 0.
    pub fn with_bins(mut self, bins: usize) -> Self {
        assert!(bins > 0, "a histogram needs at least one bin, found 0");
        self.settings.count = bins;
        self
    }

    /// Sets a fixed range for the histograms, which makes layers comparable. Values outside it are counted in
    /// [`below`](super::Histogram::below) and [`above`](super::Histogram::above).
    ///
    /// It applies to the watched tensors. Their gradients have another scale, so they keep the range of the data; see
    /// [`with_gradient_decades`](Self::with_gradient_decades).
    ///
    /// # Panics
    ///
    /// Panics unless both ends are finite and `low < high`.
    pub fn with_range(mut self, low: f64, high: f64) -> Self {
        self.settings.bins = Bins::Fixed(range(low, high));
        self
    }

    /// Makes the histograms of gradients those of log10 of their magnitudes, from `low` to `high`: all layers on one
    /// scale, however much the gradients grow or vanish. Zeros are counted in [`below`](super::Histogram::below).
    ///
    /// # Panics
    ///
    /// Panics unless both ends are finite and `low < high`.
    pub fn with_gradient_decades(mut self, low: f64, high: f64) -> Self {
        self.settings.gradient_bins = Bins::Decades(range(low, high));
        self
    }

    /// Sets the ranks of the percentiles, in percent from 0 to 100. An empty list saves the time to sort the values.
    ///
    /// # Panics
    ///
    /// Panics if a rank is below 0 or above 100.
    pub fn with_percentiles(mut self, ranks: impl IntoIterator<Item = f64>) -> Self {
        self.settings.percentiles = ranks.into_iter().collect();
        for rank in &self.settings.percentiles {
            assert!(
                (0.0..=100.0).contains(rank),
                "a percentile must be a number from 0 to 100, found {rank}"
            );
        }
        self
    }

    /// Calls `forward` and watches every [`Point`](super::Point) that it passes on this thread. Returns the output of
    /// `forward` and the observation.
    ///
    /// Observers nest: the inner one takes precedence.
    ///
    /// On a rayon worker, `forward` runs on a new thread, where rayon uses one thread; that costs up to 1 ms. The
    /// worker itself would run unrelated jobs while it waits, and those must not be recorded.
    pub fn run<T: Send>(&self, forward: impl FnOnce() -> T + Send) -> (T, Observation) {
        let settings = self.settings.clone();
        let (output, layers) = record(settings.clone(), self.norms.clone(), forward);
        (output, Observation::new(settings, layers))
    }

    /// Calls [`run`](Self::run) if `watching` is true; use it to watch some steps only.
    ///
    /// Otherwise it only calls `forward`. The observation then does nothing, and its report is empty.
    pub fn run_if<T: Send>(
        &self,
        watching: bool,
        forward: impl FnOnce() -> T + Send,
    ) -> (T, Observation) {
        match watching {
            true => self.run(forward),
            false => (forward(), Observation::default()),
        }
    }
}

/// The range of a histogram.
///
/// # Panics
///
/// Unless both ends are finite and `low < high`.
fn range(low: f64, high: f64) -> [f64; 2] {
    assert!(
        low.is_finite() && high.is_finite() && low < high,
        "a histogram needs a finite range from low to high, found {low} to {high}"
    );
    [low, high]
}
