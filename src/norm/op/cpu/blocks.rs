//! Arithmetic on blocks of neighbouring values: the loops in which all the time is spent.
//!
//! A block is an array with a fixed number of lanes. A loop over it does the same for every lane, so the compiler turns
//! it into vector instructions of whatever width the calling function was compiled for. Everything here is inlined
//! into that function, see [`traversal`](super::traversal).
//!
//! The number of lanes alone fixes the order of all additions, and no product is fused with a sum: results are
//! bit-identical on every instruction set.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use std::hint::black_box;
use std::ops::{Add, Div, Mul, Sub};

/// Cuts `0..len` into blocks of `$widest`, then of 8, then of 1 lane, and evaluates the body for each group of up to `$most`
/// blocks of one width.
macro_rules! in_blocks {
    ($len:expr, $widest:expr, $most:expr, |$at:ident, $count:ident, $lanes:ident| $body:block) => {{
        let len: usize = $len;
        let mut $at = 0;
        in_blocks!(@width $widest, len, $most, $at, $count, $lanes, $body);
        in_blocks!(@width 8, len, $most, $at, $count, $lanes, $body);
        in_blocks!(@width 1, len, $most, $at, $count, $lanes, $body);
    }};
    (@width $width:expr, $len:ident, $most:expr, $at:ident, $count:ident, $lanes:ident, $body:block) => {{
        const $lanes: usize = $width;
        while $len - $at >= $lanes {
            let $count = (($len - $at) / $lanes).min($most);
            $body
            $at += $count * $lanes;
        }
    }};
}
pub(super) use in_blocks;

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

/// A type that tensors hold. It is calculated in itself, or in f32 if it has half precision.
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

/// The values of a tensor, to read.
///
/// A pointer and not a slice: the kernels may write their output over them.
pub(super) struct Input<T> {
    start: *const T,
    len: usize,
}

/// The values of a tensor, to write.
///
/// Several threads write through copies of it at once, each to places of its own.
pub(super) struct Target<T> {
    start: *mut T,
    len: usize,
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Input<T> {}

impl<T> Clone for Target<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Target<T> {}

// SAFETY: the pointer is only read through, by functions that ask their caller for that, and the values are Sync.
unsafe impl<T: Sync> Send for Input<T> {}
unsafe impl<T: Sync> Sync for Input<T> {}
// SAFETY: threads write to places of their own, and the values may be sent to them.
unsafe impl<T: Send> Send for Target<T> {}
unsafe impl<T: Send> Sync for Target<T> {}

impl<T: Value> Input<T> {
    /// `len` values from `start`.
    pub fn new(start: *const T, len: usize) -> Self {
        Self { start, len }
    }

    /// The values from `start` to the end of a slice.
    pub fn of(values: &[T]) -> Self {
        Self::new(values.as_ptr(), values.len())
    }

    /// Reads `L` values.
    ///
    /// # Safety
    ///
    /// - The places `at..at + L` are within the tensor.
    /// - The tensor's memory is valid for reading, and nobody writes to these places meanwhile.
    #[inline(always)]
    pub unsafe fn load<const L: usize>(self, at: usize) -> [T::Real; L] {
        debug_assert!(at + L <= self.len, "{at} + {L} of {}", self.len);
        // SAFETY: by this function's conditions. An unaligned read asks for no alignment of the array.
        T::widen(unsafe { self.start.add(at).cast::<[T; L]>().read_unaligned() })
    }
}

impl<T: Value> Target<T> {
    /// `len` values from `start`.
    pub fn new(start: *mut T, len: usize) -> Self {
        Self { start, len }
    }

    /// Writes `L` values.
    ///
    /// # Safety
    ///
    /// - The places `at..at + L` are within the tensor.
    /// - The tensor's memory is valid for writing, and nobody reads or writes these places meanwhile.
    #[inline(always)]
    pub unsafe fn write<const L: usize>(self, at: usize, block: [T::Real; L]) {
        // SAFETY: by this function's conditions.
        unsafe { self.store(at, T::narrow(block)) };
    }

    /// Writes `L` values as they are.
    ///
    /// # Safety
    ///
    /// Those of [`write`](Self::write).
    #[inline(always)]
    pub unsafe fn store<const L: usize>(self, at: usize, block: [T; L]) {
        debug_assert!(at + L <= self.len, "{at} + {L} of {}", self.len);
        // SAFETY: by this function's conditions. An unaligned write asks for no alignment of the array.
        unsafe { self.start.add(at).cast::<[T; L]>().write_unaligned(block) };
    }

    /// The same values, to read again what has been written.
    pub fn as_input(self) -> Input<T> {
        Input::new(self.start, self.len)
    }
}

/// Fetches the cache lines that `L` values begin in, on processors where the instruction for it is known.
#[inline(always)]
fn fetch<T, const L: usize>(from: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    for line in (0..L * size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction, and it takes any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_byte_add(line).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = from;
}

/// The forward pass: `y = scale * d + shift`, with the deviation `d = x - centre`. `R` is one number, or a block.
#[derive(Clone, Copy)]
pub(super) struct Normalisation<R> {
    pub centre: R,
    pub scale: R,
    pub shift: R,
}

/// What a kernel maps values to: `scale * u + slope * d + shift`. `slope` has no part where `u` is `d`.
#[derive(Clone, Copy)]
pub(super) struct Line<R> {
    pub scale: R,
    pub slope: R,
    pub shift: R,
}

impl<R: Real, const L: usize> Line<[R; L]> {
    /// The values of the line, for a block of the source's values.
    #[inline(always)]
    pub fn of<S: Source>(&self, u: &[R; L], d: &[R; L]) -> [R; L] {
        let mut y = [R::default(); L];
        for lane in 0..L {
            y[lane] = self.scale[lane] * u[lane] + self.shift[lane];
            if S::TENSORS == 2 {
                y[lane] = y[lane] + self.slope[lane] * d[lane];
            }
        }
        y
    }
}

/// What the kernels read: at each place a value `u`, and the deviation `d` of the forward pass's input.
pub(super) trait Source: Copy + Send + Sync {
    type Value: Value;
    /// The number of tensors that are read. With one, `u` is `d`.
    const TENSORS: usize;

    /// `u` and `d` at `L` neighbouring places.
    ///
    /// # Safety
    ///
    /// - The places `at..at + L` are within each tensor of the source.
    /// - The tensors' memory is valid for reading, and nobody writes to these places meanwhile.
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[RealOf<Self>; L]>,
    ) -> [[RealOf<Self>; L]; 2];

    /// Fetches the cache lines of `L` neighbouring places, in the tensors or beyond them.
    fn fetch<const L: usize>(self, at: usize);
}

/// A source that is added up.
pub(super) trait Summand: Source {
    /// `u` and `d` in f64, where the difference of two f32 values is exact.
    ///
    /// # Safety
    ///
    /// Those of [`read`](Source::read).
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[RealOf<Self>; L]>,
    ) -> [[f64; L]; 2];
}

/// The type in which a source is calculated.
pub(super) type RealOf<S> = <<S as Source>::Value as Value>::Real;

/// The input alone: `u = d`.
impl<T: Value> Source for Input<T> {
    type Value = T;
    const TENSORS: usize = 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let d = deviations(unsafe { self.load::<L>(at) }, &forward.centre);
        [d, d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        fetch::<T, L>(self.start.wrapping_add(at));
    }
}

impl<T: Value> Summand for Input<T> {
    #[inline(always)]
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[f64; L]; 2] {
        // SAFETY: by this function's conditions.
        let d = exact_deviations(unsafe { self.load::<L>(at) }, &forward.centre);
        [d, d]
    }
}

/// The input and a residual that is added to the normalised input: `d` is the residual.
#[derive(Clone, Copy)]
pub(super) struct InputAndResidual<T> {
    pub input: Input<T>,
    pub residual: Input<T>,
}

impl<T: Value> Source for InputAndResidual<T> {
    type Value = T;
    const TENSORS: usize = 2;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let (x, residual) = unsafe { (self.input.load(at), self.residual.load(at)) };
        [deviations(x, &forward.centre), residual]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.input.fetch::<L>(at);
        self.residual.fetch::<L>(at);
    }
}

#[inline(always)]
fn deviations<R: Real, const L: usize>(mut x: [R; L], centre: &[R; L]) -> [R; L] {
    for lane in 0..L {
        x[lane] = x[lane] - centre[lane];
    }
    x
}

#[inline(always)]
fn exact_deviations<R: Real, const L: usize>(x: [R; L], centre: &[R; L]) -> [f64; L] {
    let mut d = [0.0; L];
    for lane in 0..L {
        d[lane] = x[lane].to_f64() - centre[lane].to_f64();
    }
    d
}

/// The gradient of the output as `u`, and the input. With `RELU`, the output went through a ReLU, and `u` is the gradient
/// where the output was above 0, else 0.
#[derive(Clone, Copy)]
pub(super) struct GradientAndInput<T, const RELU: bool> {
    pub gradient: Input<T>,
    pub input: Input<T>,
}

impl<T: Value, const RELU: bool> GradientAndInput<T, RELU> {
    /// The gradient where a ReLU lets it through, else 0, given the deviations of the input.
    #[inline(always)]
    fn let_through<const L: usize>(
        gradient: [T::Real; L],
        d: &[T::Real; L],
        forward: &Normalisation<[T::Real; L]>,
    ) -> [T::Real; L] {
        if !RELU {
            return gradient;
        }
        // The output again, by the forward pass's arithmetic, and rounded as that was.
        let mut y = [T::Real::default(); L];
        for lane in 0..L {
            y[lane] = forward.scale[lane] * d[lane] + forward.shift[lane];
        }
        Gate::Relu.let_through(gradient, &T::widen(T::narrow(y)))
    }
}

impl<T: Value, const RELU: bool> Source for GradientAndInput<T, RELU> {
    type Value = T;
    const TENSORS: usize = 2;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let (gradient, x) = unsafe { (self.gradient.load(at), self.input.load(at)) };
        let d = deviations(x, &forward.centre);
        [Self::let_through(gradient, &d, forward), d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.gradient.fetch::<L>(at);
        self.input.fetch::<L>(at);
    }
}

impl<T: Value, const RELU: bool> Summand for GradientAndInput<T, RELU> {
    #[inline(always)]
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[f64; L]; 2] {
        // SAFETY: by this function's conditions.
        let (gradient, x) = unsafe { (self.gradient.load(at), self.input.load(at)) };
        let d = deviations(x, &forward.centre);
        let gradient = Self::let_through(gradient, &d, forward);
        let mut u = [0.0; L];
        for lane in 0..L {
            u[lane] = gradient[lane].to_f64();
        }
        [u, exact_deviations(x, &forward.centre)]
    }
}

/// The gradient of [`GradientAndInput`] alone, as `u` and as `d`. The input only says what a ReLU let through.
#[derive(Clone, Copy)]
pub(super) struct Gradient<T, const RELU: bool>(pub GradientAndInput<T, RELU>);

impl<T: Value, const RELU: bool> Source for Gradient<T, RELU> {
    type Value = T;
    const TENSORS: usize = 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let [gradient, _] = unsafe { self.0.read(at, forward) };
        [gradient, gradient]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.0.fetch::<L>(at);
    }
}

/// The gradient of the output as `u`, and the input, where more than a ReLU follows the normalisation: a residual and an
/// activation. Reading it also writes `u` to `gated`, so each place may be read only once.
#[derive(Clone, Copy)]
pub(super) struct Gating<T: Value> {
    pub gradient: Input<T>,
    pub input: Input<T>,
    pub residual: Option<Input<T>>,
    pub gate: Gate<T::Real>,
    /// May be the gradient's own memory.
    pub gated: Target<T>,
}

/// What an activation does to a value that is not above 0, and to its gradient.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate<R> {
    /// Nothing: there is no activation.
    Open,
    /// Makes both 0.
    Relu,
    /// Multiplies both by the slope.
    Leaky { slope: R },
}

impl<R: Real> Gate<R> {
    /// The output of the activation for a block of values.
    #[inline(always)]
    pub fn activate<const L: usize>(self, mut z: [R; L]) -> [R; L] {
        let zero = R::default();
        // The choice stands outside the loops, so that each of them becomes vector instructions.
        match self {
            Self::Open => (),
            Self::Relu => {
                for z in &mut z {
                    if *z <= zero {
                        *z = zero;
                    }
                }
            }
            Self::Leaky { slope } => {
                for z in &mut z {
                    let below = slope * *z;
                    *z = if *z <= zero { below } else { *z };
                }
            }
        }
        z
    }

    /// The gradient of `z`, given that of the activation's output. Above 0 and for NaN, it is the same.
    #[inline(always)]
    pub fn let_through<const L: usize>(self, gradient: [R; L], z: &[R; L]) -> [R; L] {
        // A choice for each lane of a new block: over `gradient` itself it would become a masked store, and whatever
        // reads that next would wait for memory.
        let zero = R::default();
        let mut let_through = [zero; L];
        match self {
            Self::Open => return gradient,
            Self::Relu => {
                for lane in 0..L {
                    let_through[lane] = if z[lane] <= zero {
                        zero
                    } else {
                        gradient[lane]
                    };
                }
            }
            Self::Leaky { slope } => {
                for lane in 0..L {
                    let below = slope * gradient[lane];
                    let_through[lane] = if z[lane] <= zero {
                        below
                    } else {
                        gradient[lane]
                    };
                }
            }
        }
        let_through
    }
}

impl<T: Value> Source for Gating<T> {
    type Value = T;
    const TENSORS: usize = 3;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let (gradient, x) = unsafe { (self.gradient.load::<L>(at), self.input.load::<L>(at)) };
        let d = deviations(x, &forward.centre);
        // The activation's input again, by the forward pass's arithmetic, and rounded as its output was.
        let mut z = [T::Real::default(); L];
        for lane in 0..L {
            z[lane] = forward.scale[lane] * d[lane] + forward.shift[lane];
        }
        if let Some(residual) = self.residual {
            // SAFETY: by this function's conditions.
            let residual = unsafe { residual.load::<L>(at) };
            for lane in 0..L {
                z[lane] = z[lane] + residual[lane];
            }
        }
        let z = T::widen(T::narrow(z));
        let u = T::narrow(self.gate.let_through(gradient, &z));
        // SAFETY: by this function's conditions; the block has been read.
        unsafe { self.gated.store(at, u) };
        [T::widen(u), d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.gradient.fetch::<L>(at);
        self.input.fetch::<L>(at);
        if let Some(residual) = self.residual {
            residual.fetch::<L>(at);
        }
    }
}

impl<T: Value> Summand for Gating<T> {
    #[inline(always)]
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[f64; L]; 2] {
        // SAFETY: by this function's conditions.
        unsafe {
            let [gated, _] = self.read(at, forward);
            let mut u = [0.0; L];
            for lane in 0..L {
                u[lane] = gated[lane].to_f64();
            }
            [u, exact_deviations(self.input.load(at), &forward.centre)]
        }
    }
}

/// Blocks to go through.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    /// The place of the first block.
    pub start: usize,
    /// Places from one block to the next.
    pub stride: usize,
    pub count: usize,
    /// How many places ahead of each block the cache lines are fetched; 0 for none, and wrapping for places behind.
    pub ahead: usize,
}

/// Adds `u` and `u * d` of every block to `sums`, lane by lane, in f64.
///
/// # Safety
///
/// - Every block of `L` values is within each tensor of the source.
/// - The tensors' memory is valid for reading, and nobody writes to the blocks meanwhile.
#[inline(always)]
pub(super) unsafe fn add_up<S: Summand, const L: usize>(
    source: S,
    blocks: Blocks,
    forward: &Normalisation<[RealOf<S>; L]>,
    sums: [&mut [f64; L]; 2],
) {
    let [mut sum_u, mut sum_ud] = [*sums[0], *sums[1]];
    for block in 0..blocks.count {
        let at = blocks.start + block * blocks.stride;
        if blocks.ahead != 0 {
            source.fetch::<L>(at.wrapping_add(blocks.ahead));
        }
        // SAFETY: by this function's conditions.
        let [u, d] = unsafe { source.read_exact(at, forward) };
        for lane in 0..L {
            sum_u[lane] += u[lane];
            sum_ud[lane] += u[lane] * d[lane];
        }
    }
    [*sums[0], *sums[1]] = [sum_u, sum_ud];
}

/// Maps the values of every block through `line` and then `gate`. NaN stays NaN.
///
/// # Safety
///
/// - Every block of `L` values is within each tensor of the source, and within the target.
/// - The source's memory is valid for reading and the target's for writing. They may be the same, but not overlap in
///   another way.
/// - Nobody else reads or writes the blocks meanwhile.
#[inline(always)]
pub(super) unsafe fn map<S: Source, const L: usize>(
    source: S,
    target: Target<S::Value>,
    blocks: Blocks,
    forward: &Normalisation<[RealOf<S>; L]>,
    line: &Line<[RealOf<S>; L]>,
    gate: Gate<RealOf<S>>,
) {
    // If the compiler knew that blocks are neighbours, it would vectorise across blocks, lane by lane, with gathers and
    // scatters, instead of within them.
    let stride = black_box(blocks.stride);
    for block in 0..blocks.count {
        let at = blocks.start + block * stride;
        if blocks.ahead != 0 {
            fetch::<S::Value, L>(target.start.wrapping_add(at.wrapping_add(blocks.ahead)));
        }
        // SAFETY: by this function's conditions. The block is read whole before any of it is written.
        unsafe {
            let [u, d] = source.read(at, forward);
            let y = line.of::<S>(&u, &d);
            target.write(at, gate.activate(y));
        }
    }
}
