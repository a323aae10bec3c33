//! The activation that follows the normalisation, and what it lets through of a gradient.

use std::hint::black_box;

use super::value::Real;
use crate::norm::op::TailActivation;

/// What follows the normalisation: an activation. Each is a type, so the choice costs nothing in the loops.
pub(super) trait Gate<R: Real>: Copy + Send + Sync {
    /// The output of the activation. NaN stays NaN.
    fn activate(self, z: R) -> R;

    /// The gradient of `z`, given that of the activation's output. Above 0 and for NaN, it is the same.
    fn let_through(self, gradient: R, z: R) -> R;

    /// [`activate`](Self::activate) for a block. It is a new block: a choice over `z` itself would become a masked
    /// store, and whatever reads that next would wait for memory.
    #[inline(always)]
    fn activate_block<const L: usize>(self, z: &[R; L]) -> [R; L] {
        let mut y = [R::default(); L];
        for lane in 0..L {
            y[lane] = self.activate(z[lane]);
        }
        y
    }

    /// [`let_through`](Self::let_through) for a block.
    #[inline(always)]
    fn let_block_through<const L: usize>(self, gradient: &[R; L], z: &[R; L]) -> [R; L] {
        let mut let_through = [R::default(); L];
        for lane in 0..L {
            let_through[lane] = self.let_through(gradient[lane], z[lane]);
        }
        let_through
    }
}

/// No activation.
#[derive(Clone, Copy)]
pub(super) struct Open;

impl<R: Real> Gate<R> for Open {
    #[inline(always)]
    fn activate(self, z: R) -> R {
        z
    }

    #[inline(always)]
    fn let_through(self, gradient: R, _: R) -> R {
        gradient
    }
}

/// A ReLU.
#[derive(Clone, Copy)]
pub(super) struct Relu;

impl<R: Real> Gate<R> for Relu {
    #[inline(always)]
    fn activate(self, z: R) -> R {
        if z <= R::default() { R::default() } else { z }
    }

    #[inline(always)]
    fn let_through(self, gradient: R, z: R) -> R {
        if z <= R::default() {
            R::default()
        } else {
            gradient
        }
    }
}

/// A leaky ReLU with this slope.
#[derive(Clone, Copy)]
pub(super) struct Leaky<R>(pub R);

impl<R: Real> Gate<R> for Leaky<R> {
    #[inline(always)]
    fn activate(self, z: R) -> R {
        let below = self.0 * z;
        if z <= R::default() { below } else { z }
    }

    #[inline(always)]
    fn let_through(self, gradient: R, z: R) -> R {
        let below = self.0 * gradient;
        if z <= R::default() { below } else { gradient }
    }
}

/// Any of the others, chosen when it runs: for loops in which the choice costs little, and which are large, so that
/// compiling one for each activation would take long.
#[derive(Clone, Copy)]
pub(super) struct Chosen<R> {
    /// Whether nothing passes at and below 0.
    closed: bool,
    /// What values at and below 0 are multiplied by, if not.
    slope: R,
}

impl<R: Real> Chosen<R> {
    pub fn new(activation: TailActivation) -> Self {
        let (closed, slope) = match activation {
            TailActivation::None => (false, 1.0),
            TailActivation::Relu => (true, 0.0),
            TailActivation::LeakyRelu { slope } => (false, slope),
            smooth => unreachable!("{smooth:?} takes a pass of its own"),
        };
        Self {
            closed,
            slope: R::from_f64(slope),
        }
    }

    /// What becomes of values where `z` is at or below 0.
    #[inline(always)]
    fn below<const L: usize>(self, values: &[R; L]) -> [R; L] {
        let mut below = [R::default(); L];
        // Hidden from the compiler, which would make two loops of the one that this is in.
        if !black_box(self.closed) {
            for lane in 0..L {
                below[lane] = self.slope * values[lane];
            }
        }
        below
    }
}

impl<R: Real> Gate<R> for Chosen<R> {
    #[inline(always)]
    fn activate(self, z: R) -> R {
        self.activate_block(&[z])[0]
    }

    #[inline(always)]
    fn let_through(self, gradient: R, z: R) -> R {
        self.let_block_through(&[gradient], &[z])[0]
    }

    #[inline(always)]
    fn activate_block<const L: usize>(self, z: &[R; L]) -> [R; L] {
        self.let_block_through(z, z)
    }

    #[inline(always)]
    fn let_block_through<const L: usize>(self, gradient: &[R; L], z: &[R; L]) -> [R; L] {
        let below = self.below(gradient);
        let mut let_through = [R::default(); L];
        for lane in 0..L {
            let_through[lane] = if z[lane] <= R::default() {
                below[lane]
            } else {
                gradient[lane]
            };
        }
        let_through
    }
}

/// Calls a function for the gate of an activation.
macro_rules! for_gate {
    ($activation:expr, |$gate:ident| $body:expr) => {
        match $activation {
            TailActivation::None => {
                let $gate = Open;
                $body
            }
            TailActivation::Relu => {
                let $gate = Relu;
                $body
            }
            TailActivation::LeakyRelu { slope } => {
                let $gate = Leaky(Real::from_f64(slope));
                $body
            }
            smooth => unreachable!("{smooth:?} takes a pass of its own"),
        }
    };
}

pub(super) use for_gate;
