//! Arithmetic on blocks of neighbouring values: the few loops in which all the time is spent.
//!
//! A block is an array of a fixed number of lanes, and a loop over it has no other form than "the same for every
//! lane", which the compiler turns into vector instructions of whatever width the caller was compiled for. Everything
//! here is inlined into that caller, see [`walk`](super::walk). The order of all additions is fixed by the
//! number of lanes alone, and no multiplication is fused with an addition: results are equal to the bit on every
//! instruction set.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::hint::black_box;
use std::ops::{Add, AddAssign, Mul, Sub};

/// The number of lanes of a full block.
pub(super) const LANES: usize = 32;

/// A floating point type that is calculated with.
pub(super) trait Real:
    Copy
    + Default
    + Send
    + Sync
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + PartialOrd
{
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

impl Real for f32 {
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
    fn from_f64(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

/// A type that tensors hold: itself where it can be calculated with, f32 for the types of half precision.
pub(super) trait Value: Copy + Send + Sync + 'static {
    type Real: Real;

    fn widen<const L: usize>(block: [Self; L]) -> [Self::Real; L];
    fn narrow<const L: usize>(block: [Self::Real; L]) -> [Self; L];
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

/// Reads `L` values.
///
/// # Safety
///
/// `from` must be valid for reading `L` values.
#[inline(always)]
unsafe fn read<T: Value, const L: usize>(from: *const T) -> [T::Real; L] {
    // SAFETY: as the caller promises; a pointer to T is all that is asked of an unaligned read.
    T::widen(unsafe { from.cast::<[T; L]>().read_unaligned() })
}

/// Writes `L` values.
///
/// # Safety
///
/// `to` must be valid for writing `L` values.
#[inline(always)]
unsafe fn write<T: Value, const L: usize>(to: *mut T, block: [T::Real; L]) {
    // SAFETY: as the caller promises.
    unsafe { to.cast::<[T; L]>().write_unaligned(T::narrow(block)) }
}

/// Has the lines of the cache that `L` values begin in brought near, where the processor is known to have a way to.
#[inline(always)]
fn fetch<T, const L: usize>(from: *const T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..L * size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// What a source goes by at each lane: the centre that the input's deviations are taken from, and what the deviation `d`
/// was normalised to in the forward pass, `scale * d + shift`.
#[derive(Clone, Copy)]
pub(super) struct Normalised<R, const L: usize> {
    pub centre: [R; L],
    pub scale: [R; L],
    pub shift: [R; L],
}

/// What the kernels go over: at each place a value `u` that is summed and scaled, and the deviation `d` of the input
/// from a centre.
///
/// # Safety
///
/// `read` reads no memory but that of the places `at..at + L`.
pub(super) unsafe trait Source: Copy + Send + Sync {
    type Value: Value;
    /// The number of tensors that are read: with one, `u` is `d`.
    const TENSORS: usize;

    /// `u` and `d` at `L` neighbouring places.
    ///
    /// # Safety
    ///
    /// The places `at..at + L` must lie within the tensor.
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        by: &Normalised<RealOf<Self>, L>,
    ) -> [[RealOf<Self>; L]; 2];

    /// Has `L` neighbouring places, of this tensor or not, brought into the cache.
    fn fetch<const L: usize>(self, at: usize);
}

/// Where mapped values go.
///
/// Several threads write through it at once, each to places of its own.
#[derive(Clone, Copy)]
pub(super) struct Target<T>(pub *mut T);

// SAFETY: threads write to places of their own, and the values may be sent to them.
unsafe impl<T: Send> Send for Target<T> {}
unsafe impl<T: Send> Sync for Target<T> {}

/// The type in which a source is calculated with.
pub(super) type RealOf<S> = <<S as Source>::Value as Value>::Real;

/// The input alone: `u = d`.
#[derive(Clone, Copy)]
pub(super) struct Input<T>(pub *const T);

/// The output's gradient as `u`, and the input. With `RELU` the output went through a ReLU, which lets a gradient
/// through where it let the value through.
#[derive(Clone, Copy)]
pub(super) struct GradientAndInput<T, const RELU: bool>(pub *const T, pub *const T);

// SAFETY: the pointers are only read through, and the values they point at are Sync.
unsafe impl<T: Sync> Send for Input<T> {}
unsafe impl<T: Sync> Sync for Input<T> {}
unsafe impl<T: Sync, const RELU: bool> Send for GradientAndInput<T, RELU> {}
unsafe impl<T: Sync, const RELU: bool> Sync for GradientAndInput<T, RELU> {}

#[inline(always)]
fn deviation<R: Real, const L: usize>(mut block: [R; L], centre: &[R; L]) -> [R; L] {
    for lane in 0..L {
        block[lane] = block[lane] - centre[lane];
    }
    block
}

// SAFETY: reads L values from `at`.
unsafe impl<T: Value> Source for Input<T> {
    type Value = T;
    const TENSORS: usize = 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        by: &Normalised<T::Real, L>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: as the caller promises.
        let d = deviation(unsafe { read::<T, L>(self.0.add(at)) }, &by.centre);
        [d, d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        fetch::<T, L>(self.0.wrapping_add(at));
    }
}

// SAFETY: reads L values from `at` of each of the two.
unsafe impl<T: Value, const RELU: bool> Source for GradientAndInput<T, RELU> {
    type Value = T;
    const TENSORS: usize = 2;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        by: &Normalised<T::Real, L>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: as the caller promises, of tensors of the same shape.
        let (gradient, input) =
            unsafe { (read::<T, L>(self.0.add(at)), read::<T, L>(self.1.add(at))) };
        let d = deviation(input, &by.centre);
        if !RELU {
            return [gradient, d];
        }
        // A choice for every lane of a new block: over `gradient` itself it would become a store under a mask, and what
        // reads it next would wait for memory.
        let zero = T::Real::default();
        let mut let_through = [zero; L];
        for lane in 0..L {
            let stopped = by.scale[lane] * d[lane] + by.shift[lane] <= zero;
            let_through[lane] = if stopped { zero } else { gradient[lane] };
        }
        [let_through, d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        fetch::<T, L>(self.0.wrapping_add(at));
        fetch::<T, L>(self.1.wrapping_add(at));
    }
}

/// The output's gradient alone, as `u` and in the place of `d`: of the input it is only asked what a ReLU let through.
#[derive(Clone, Copy)]
pub(super) struct Gradient<T, const RELU: bool>(pub GradientAndInput<T, RELU>);

// SAFETY: reads what the other reads.
unsafe impl<T: Value, const RELU: bool> Source for Gradient<T, RELU> {
    type Value = T;
    const TENSORS: usize = 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        by: &Normalised<T::Real, L>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: as the caller promises.
        let [gradient, _] = unsafe { self.0.read(at, by) };
        [gradient, gradient]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.0.fetch::<L>(at);
    }
}

/// Sums of `u` and of `u * d` over `count` blocks, which begin `stride` places apart, lane by lane. With `ahead`, the places
/// that far ahead of them are fetched.
///
/// # Safety
///
/// Every block must lie within the tensor.
#[inline(always)]
pub(super) unsafe fn sums<S: Source, const L: usize>(
    source: S,
    at: usize,
    stride: usize,
    count: usize,
    ahead: usize,
    by: &Normalised<RealOf<S>, L>,
) -> [[RealOf<S>; L]; 2] {
    let mut sum_u = [RealOf::<S>::default(); L];
    let mut sum_ud = [RealOf::<S>::default(); L];
    for block in 0..count {
        let at = at + block * stride;
        if ahead != 0 {
            source.fetch::<L>(at + ahead);
        }
        // SAFETY: as the caller promises.
        let [u, d] = unsafe { source.read(at, by) };
        for lane in 0..L {
            sum_u[lane] += u[lane];
            sum_ud[lane] += u[lane] * d[lane];
        }
    }
    [sum_u, sum_ud]
}

/// The line through which a channel's values are mapped: `scale * u + slope * d + shift`, and no lower than `floor`;
/// `slope` plays no part where `u` is `d`.
#[derive(Clone, Copy)]
pub(super) struct Lines<R, const L: usize> {
    pub by: Normalised<R, L>,
    pub scale: [R; L],
    pub slope: [R; L],
    pub shift: [R; L],
    pub floor: R,
}

/// Maps `count` blocks that begin `stride` places apart. Source and target may be the same tensor. With `ahead`, the
/// target's places that far ahead (or back, wrapping) are fetched.
///
/// # Safety
///
/// Every block must lie within the source's tensor and be valid for writing at `target`.
#[inline(always)]
pub(super) unsafe fn map<S: Source, const L: usize>(
    source: S,
    target: Target<S::Value>,
    at: usize,
    stride: usize,
    count: usize,
    ahead: usize,
    lines: &Lines<RealOf<S>, L>,
) {
    // If it knew the blocks for neighbours, the compiler would vectorise over blocks, lane for lane, with gathers and
    // scatters, instead of within them.
    let stride = black_box(stride);
    for block in 0..count {
        let at = at + block * stride;
        if ahead != 0 {
            fetch::<S::Value, L>(target.0.wrapping_add(at.wrapping_add(ahead)));
        }
        // SAFETY: as the caller promises. The block is read whole before any of it is written.
        unsafe {
            let [u, d] = source.read(at, &lines.by);
            let mut y = [RealOf::<S>::default(); L];
            for lane in 0..L {
                y[lane] = lines.scale[lane] * u[lane] + lines.shift[lane];
                if S::TENSORS == 2 {
                    y[lane] += lines.slope[lane] * d[lane];
                }
                // What is not a number stays so.
                if y[lane] <= lines.floor {
                    y[lane] = lines.floor;
                }
            }
            write(target.0.add(at), y);
        }
    }
}
