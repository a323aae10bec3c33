//! The weight variance for an activation, and how far it carries.

use super::super::activation::Activation;
use super::expectation::negative_slope;
use super::fixed_point::FixedPoint;
use super::mean_field::MeanField;

/// What theory says of a network at criticality, of a given depth and width: [`Advice::new`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Advice {
    /// The network, with the weight variance: [`MeanField::critical`].
    pub mean_field: MeanField,
    /// Where infinite depth leads.
    pub fixed_point: FixedPoint,
    /// q in the last layer, from q = 1 in the first.
    pub second_moment: f64,
    /// The second moment of the gradient at the network's inputs, from 1 at its outputs: the product of chi over layers.
    pub gradient: f64,
    /// The variance over networks of the mean square of the last activations, divided by the square of its mean: for
    /// ReLU `(1 + 5 / width)^depth - 1` (Hanin & Rolnick 2018, [arXiv:1803.01719](https://arxiv.org/abs/1803.01719)).
    /// Above 1, networks differ widely, so keep depth below some `width / 5`. It is exact for Gaussian weights and
    /// activations without a scale, which are ReLU and leaky ReLU. For others, `None`.
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
            "a network has layers of units, found depth {depth} and width {width}"
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
