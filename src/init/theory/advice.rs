//! The best weight variance for an activation, and what depth and width do to it.

use super::super::activation::Activation;
use super::expectation::negative_slope;
use super::fixed_point::FixedPoint;
use super::mean_field::MeanField;

/// What theory says about a network at criticality, for a depth and a width. [`Advice::new`] computes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// The network. It holds the weight variance to use: [`MeanField::critical`].
    pub mean_field: MeanField,
    /// The limit of the signal in an infinitely deep network.
    pub fixed_point: FixedPoint,
    /// q, the second moment of the pre-activations, in the last layer, for q = 1 in the first.
    pub second_moment: f64,
    /// The second moment of the gradient at the network's inputs, for 1 at its outputs: the product of chi over the
    /// layers.
    pub gradient: f64,
    /// The variance over networks of the mean square of the last activations, divided by the square of its mean: for
    /// ReLU `(1 + 5 / width)^depth - 1` (Hanin & Rolnick 2018, [arXiv:1803.01719](https://arxiv.org/abs/1803.01719)).
    /// Above 1, networks differ widely. It passes 1 at a depth of about `width / 7`, so stay below. It is exact for
    /// Gaussian weights and activations without a scale: ReLU and leaky ReLU. `None` for other activations.
    pub length_variance: Option<f64>,
}

impl Advice {
    /// Advice for a network of `depth` layers of `width` units.
    ///
    /// ```
    /// use burn_kindling::init::{Activation, Advice};
    ///
    /// let advice = Advice::new(Activation::Relu, 50, 100);
    /// assert!((advice.mean_field.weight_variance() - 2.0).abs() < 1e-12);
    /// assert!((advice.gradient - 1.0).abs() < 1e-12);
    /// assert!(advice.length_variance.unwrap() > 10.0); // Too deep for its width.
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if `depth` or `width` is 0.
    pub fn new(activation: Activation, depth: usize, width: usize) -> Self {
        assert!(
            depth > 0 && width > 0,
            "a network needs a depth and a width of at least 1, found depth {depth} and width {width}"
        );
        let mean_field = MeanField::critical(activation);
        let (mut q, mut gradient) = (1.0, mean_field.chi(1.0));
        for _ in 1..depth {
            q = mean_field.next_second_moment(q);
            gradient *= mean_field.chi(q);
        }
        let length_variance = negative_slope(activation).map(|a| {
            let fourth = 6.0 * (1.0 + a.powi(4)) / (1.0 + a * a).powi(2) - 1.0;
            (depth as f64 * (fourth / width as f64).ln_1p()).exp_m1()
        });
        Self {
            mean_field,
            fixed_point: mean_field.fixed_point(1.0),
            second_moment: q,
            gradient,
            length_variance,
        }
    }
}
