//! The activation that follows the normalisation, and what it lets through of a gradient.

use super::value::Real;

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
