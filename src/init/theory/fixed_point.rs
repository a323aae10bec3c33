//! Fixed points of the maps from layer to layer, and the depth scales around them.

use super::expectation::{pair, second_moment_slope};
use super::mean_field::MeanField;

/// A second moment beyond this counts as infinite.
const LARGE: f64 = 1e30;

/// Rates closer to 1 than this count as 1.
const ROUNDING: f64 = 1e-13;

/// The limit that the signal approaches with depth, and how fast.
///
/// - Ordered phase, chi < 1: the gradient vanishes, and any two inputs become alike.
/// - Chaotic phase, chi > 1: the gradient explodes, and close inputs drift apart.
/// - Edge of chaos, chi = 1: the boundary between the two, also called criticality.
///
/// The equations are those of Schoenholz et al. 2017, [arXiv:1611.01232](https://arxiv.org/abs/1611.01232), section 3.
/// They leave out two cases:
///
/// - At `q* = 0` without biases, the fixed point is the limit of small `sigma_b²`.
/// - At an infinite q*, chi is the limit of large q. The correlation tends to 1.
///
/// In both cases, and for ReLU in general, the correlation itself may approach 1 more slowly than the slopes say: as a
/// power of depth. The slopes then apply to the distance between the inputs, on the scale of the signal at the fixed
/// point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedPoint {
    /// q*, the second moment of the pre-activations. Infinite if q grows without bound. If every q is a fixed point, as
    /// for ReLU at s² = 2, this is the q at the start.
    pub second_moment: f64,
    /// `d q' / d q = chi + s² E[phi'' phi]` at q*: the factor per layer on a deviation from q*. If it is above 1, q* is
    /// unstable or infinite.
    pub second_moment_slope: f64,
    /// chi at q*: the factor per layer on the second moment of the gradient.
    pub chi: f64,
    /// c*, the correlation of any two inputs whose correlation starts between 0 and 1.
    pub correlation: f64,
    /// `d c' / d c = s² E[phi'(u1) phi'(u2)]` at q* and c*: the factor per layer on a deviation from c*. At `c* = 1`,
    /// it equals chi.
    pub correlation_slope: f64,
}

impl FixedPoint {
    /// `xi_q = 1 / |ln(slope)|`, in layers: over this depth, a deviation from q* changes by a factor of e. Infinite at
    /// a slope of 1.
    pub fn second_moment_depth_scale(&self) -> f64 {
        depth_scale(self.second_moment_slope)
    }

    /// `xi_c = 1 / |ln(slope)|`, in layers: over this depth, a deviation from c* changes by a factor of e. Infinite at
    /// criticality.
    pub fn correlation_depth_scale(&self) -> f64 {
        depth_scale(self.correlation_slope)
    }

    /// `1 / |ln(chi)|`, in layers: over this depth, the second moment of the gradient changes by a factor of e.
    /// Infinite at criticality.
    pub fn gradient_depth_scale(&self) -> f64 {
        depth_scale(self.chi)
    }

    /// `6 xi_c`, in layers. A rule of thumb: up to this depth, Schoenholz et al. 2017 (section 5) could train networks.
    pub fn trainable_depth(&self) -> f64 {
        6.0 * self.correlation_depth_scale()
    }
}

fn depth_scale(slope: f64) -> f64 {
    match (slope - 1.0).abs() <= ROUNDING {
        true => f64::INFINITY,
        false => 1.0 / slope.ln().abs(),
    }
}

impl MeanField {
    /// Finds the limit of the signal with depth, if the pre-activations of the first layer have the second moment q.
    ///
    /// The map of q is increasing. So q approaches the next fixed point in the direction of its first step. A pair of
    /// fixed points within a factor of 2 of one another may be missed.
    ///
    /// Takes a few milliseconds in the chaotic phase, up to 20 close to criticality, and less than 1 elsewhere.
    ///
    /// # Panics
    ///
    /// Panics if q is negative or not finite.
    pub fn fixed_point(&self, q: f64) -> FixedPoint {
        let second_moment = self.second_moment_limit(q);
        // Activations without bounds look like ReLU at a large scale.
        let q = second_moment.min(LARGE);
        let chi = self.chi(q);
        let d = match q > 0.0 && q < LARGE && chi > 1.0 + ROUNDING {
            true => self.stable_difference(q),
            false => 0.0,
        };
        FixedPoint {
            second_moment,
            second_moment_slope: self.weight_variance * second_moment_slope(self.activation, q),
            chi,
            correlation: if d > 0.0 { 1.0 - d / q } else { 1.0 },
            correlation_slope: match d > 0.0 {
                true => self.weight_variance * pair(self.activation, q, d).slopes,
                false => chi,
            },
        }
    }

    /// The fixed point q* of the second moment.
    fn second_moment_limit(&self, start: f64) -> f64 {
        let step = |q: f64| self.next_second_moment(q) - q;
        let first = step(start);
        if first.abs() <= ROUNDING * start {
            return start;
        }
        let (mut low, mut high) = if first > 0.0 {
            // The image of a q below the fixed point is below it too.
            let mut low = start + first;
            let mut high = 2.0 * low;
            while step(high) > 0.0 {
                if high > LARGE {
                    return f64::INFINITY;
                }
                (low, high) = (high, 2.0 * high);
            }
            (low, high)
        } else {
            let mut high = start + first;
            let mut low = high / 2.0;
            while step(low) < 0.0 {
                if low < ROUNDING * start.min(1.0) && self.bias_variance == 0.0 {
                    return 0.0;
                }
                (low, high) = (low / 2.0, low);
            }
            (low, high)
        };
        // Newton's method, or bisection where it leaves the bracket.
        let mut q = (low * high).sqrt();
        for _ in 0..100 {
            let value = step(q);
            match value > 0.0 {
                true => low = q,
                false => high = q,
            }
            let slope = self.weight_variance * second_moment_slope(self.activation, q) - 1.0;
            let newton = q - value / slope;
            let next = match low <= newton && newton <= high {
                true => newton,
                false => (low * high).sqrt(),
            };
            if (next - q).abs() <= 1e-15 * q {
                return next;
            }
            q = next;
        }
        q
    }

    /// `q (1 - c*)` at the stable correlation c* below 1, for chi above 1.
    fn stable_difference(&self, q: f64) -> f64 {
        // c' is convex in c from 0 to 1 (Daniely et al. 2016), so `s² difference / d` falls with d, from chi
        // at 0 to 1 at the fixed point.
        // A root at c* = 0 exactly needs room for rounding.
        let (mut low, mut high) = (0.0f64, 1.001 * q);
        let mut d = q * (self.chi(q) - 1.0).min(1.0) / 2.0;
        for _ in 0..100 {
            let pair = pair(self.activation, q, d);
            let (value, slope) = (
                self.weight_variance * pair.difference - d,
                self.weight_variance * pair.slopes - 1.0,
            );
            match value > 0.0 {
                true => low = d,
                false => high = d,
            }
            let newton = d - value / slope;
            let next = match slope < 0.0 && low < newton && newton <= high {
                true => newton,
                false if low > 0.0 => (low * high).sqrt(),
                false => d / 4.0,
            };
            if (next - d).abs() <= 1e-12 * d {
                return next;
            }
            d = next;
        }
        d
    }
}
