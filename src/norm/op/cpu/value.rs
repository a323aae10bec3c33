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

    /// The first and the second values of pairs.
    fn split<const P: usize>(pairs: [[Self; 2]; P]) -> [[Self; P]; 2];

    /// The pairs of these first and second values.
    fn join<const P: usize>(values: [[Self; P]; 2]) -> [[Self; 2]; P];
}

/// Pairs are taken as integers of twice the size, whose halves vector instructions separate.
impl Real for f32 {
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
