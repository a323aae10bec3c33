//! The types of the values: those that tensors hold, and those to calculate in.

use std::ops::{Add, Div, Mul, Sub};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// A floating point type to calculate in.
pub(super) trait Real:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + PartialOrd
{
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;

    /// `e^x` for `x` of at most 0. NaN stays NaN.
    fn exp_of_negative(self) -> Self;

    /// The hyperbolic tangent. NaN stays NaN.
    fn tanh(self) -> Self;

    /// The first and the second values of pairs.
    fn split<const P: usize>(pairs: [[Self; 2]; P]) -> [[Self; P]; 2];

    /// The pairs of these first and second values.
    fn join<const P: usize>(values: [[Self; P]; 2]) -> [[Self; 2]; P];
}

/// `1 / k!` from `k = 7` down to 2: the Taylor series of `e^x`, whose error is below 1e-8 for `x` up to `ln 2 / 2`.
const EXP: [f32; 6] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    1.0 / 2.0,
];
/// `ln 2` in two parts: the product of the first with an integer of up to 15 bits is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// Where e^x is 0, rounded to f32.
const LEAST: f32 = -104.0;
/// A number that rounds what is added to it to an integer, in its last bits.
const ROUNDING: f32 = 12_582_912.0;
/// `tanh x = x + x^3 p(x^2)` below [`NEAR_0`]: the coefficients of `p`, highest first (Moshier, Cephes, `tanhf`).
const TANH: [f32; 5] = [
    -5.704_988_7e-3,
    2.063_908_8e-2,
    -5.373_971_6e-2,
    1.333_144_2e-1,
    -3.333_328e-1,
];
const NEAR_0: f32 = 0.625;

/// Pairs are taken as integers of twice the size, whose halves vector instructions separate.
///
/// Exponentials are computed without branches and calls, so that a loop over lanes becomes vector instructions.
impl Real for f32 {
    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        let x = if self < LEAST { LEAST } else { self };
        // e^x = 2^n e^r.
        let rounded = x * std::f32::consts::LOG2_E + ROUNDING;
        let n = rounded - ROUNDING;
        let r = x - n * LN_2[0] - n * LN_2[1];
        let mut series = EXP[0];
        for coefficient in &EXP[1..] {
            series = series * r + coefficient;
        }
        let e_r = series * r * r + r + 1.0;
        // In two factors, as 2^n alone may be too small for a normal number.
        let n = rounded.to_bits().wrapping_sub(ROUNDING.to_bits()) as i32;
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
        let half = n >> 1;
        e_r * power(half) * power(n.wrapping_sub(half))
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        let size = self.abs();
        let square = self * self;
        let mut series = TANH[0];
        for coefficient in &TANH[1..] {
            series = series * square + coefficient;
        }
        let near = series * square * self + self;
        let e = (-2.0 * size).exp_of_negative();
        let far = (1.0 - e) / (1.0 + e);
        if size < NEAR_0 { near } else { far }.copysign(self)
    }

    #[inline(always)]
    fn split<const P: usize>(pairs: [[f32; 2]; P]) -> [[f32; P]; 2] {
        // SAFETY: both types are `2 * P` words of 32 bits, of which every value is valid.
        let words: [u64; P] = unsafe { (&raw const pairs).cast::<[u64; P]>().read_unaligned() };
        let [mut low, mut high] = [[0.0; P]; 2];
        for i in 0..P {
            low[i] = f32::from_bits(words[i] as u32);
        }
        for i in 0..P {
            high[i] = f32::from_bits((words[i] >> 32) as u32);
        }
        if cfg!(target_endian = "little") {
            [low, high]
        } else {
            [high, low]
        }
    }

    #[inline(always)]
    fn join<const P: usize>([first, second]: [[f32; P]; 2]) -> [[f32; 2]; P] {
        let [low, high] = if cfg!(target_endian = "little") {
            [first, second]
        } else {
            [second, first]
        };
        let mut words = [0; P];
        for i in 0..P {
            words[i] = u64::from(low[i].to_bits()) | u64::from(high[i].to_bits()) << 32;
        }
        // SAFETY: both types are `2 * P` words of 32 bits, of which every value is valid.
        unsafe { (&raw const words).cast::<[[f32; 2]; P]>().read_unaligned() }
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value as f32
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        self.exp()
    }

    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }

    #[inline(always)]
    fn split<const P: usize>(pairs: [[f64; 2]; P]) -> [[f64; P]; 2] {
        [pairs.map(|pair| pair[0]), pairs.map(|pair| pair[1])]
    }

    #[inline(always)]
    fn join<const P: usize>([first, second]: [[f64; P]; 2]) -> [[f64; 2]; P] {
        std::array::from_fn(|i| [first[i], second[i]])
    }

    #[inline(always)]
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

/// A type that tensors hold. Arithmetic is in this type, or in f32 if it has half precision.
pub(super) trait Value: Copy + Send + Sync + 'static {
    type Real: Real;

    fn widen<const L: usize>(block: [Self; L]) -> [Self::Real; L];
    fn narrow<const L: usize>(block: [Self::Real; L]) -> [Self; L];

    /// Rounds to this type.
    #[inline(always)]
    fn round<const L: usize>(block: [Self::Real; L]) -> [Self::Real; L] {
        Self::widen(Self::narrow(block))
    }
}

macro_rules! value_of_itself {
    ($($real:ty),*) => {$(
        impl Value for $real {
            type Real = $real;

            #[inline(always)]
            fn widen<const L: usize>(block: [$real; L]) -> [$real; L] {
                block
            }

            #[inline(always)]
            fn narrow<const L: usize>(block: [$real; L]) -> [$real; L] {
                block
            }
        }
    )*};
}
value_of_itself!(f32, f64);

macro_rules! value_of_half_precision {
    ($($half:ty),*) => {$(
        impl Value for $half {
            type Real = f32;

            #[inline(always)]
            fn widen<const L: usize>(block: [$half; L]) -> [f32; L] {
                let mut wide = [0.0; L];
                block.as_slice().convert_to_f32_slice(&mut wide);
                wide
            }

            #[inline(always)]
            fn narrow<const L: usize>(block: [f32; L]) -> [$half; L] {
                let mut narrow = [<$half>::ZERO; L];
                narrow.as_mut_slice().convert_from_f32_slice(&block);
                narrow
            }
        }
    )*};
}
value_of_half_precision!(f16, bf16);
