//! Arithmetic on blocks of neighbouring values: the loops in which all the time is spent.
//!
//! A block is an array with a fixed number of lanes. A loop over it does the same for every lane, so the compiler turns
//! it into vector instructions of whatever width the calling function was compiled for. Everything here is inlined
//! into that function, see [`traversal`](super::traversal).
//!
//! The number of lanes alone fixes the order of all additions, and no product is fused with a sum: results are
//! bit-identical on every instruction set.

use std::hint::black_box;

use super::gate::Gate;
use super::value::{Real, Value};

/// Cuts `0..len` into blocks of `$widest`, then of 8, then of 1 lane, and evaluates the body for each group of up to
/// `$most` blocks of one width.
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

/// Evaluates the body for blocks of 16, 8, 4 or 1 lanes that cover `0..len`. The last may overlap the one before it, so
/// the body must be right if it does a lane twice.
macro_rules! in_covering_blocks {
    ($len:expr, |$at:ident, $lanes:ident| $body:block) => {{
        let len: usize = $len;
        if len >= 16 {
            in_covering_blocks!(@width 16, len, $at, $lanes, $body);
        } else if len >= 8 {
            in_covering_blocks!(@width 8, len, $at, $lanes, $body);
        } else if len >= 4 {
            in_covering_blocks!(@width 4, len, $at, $lanes, $body);
        } else {
            in_covering_blocks!(@width 1, len, $at, $lanes, $body);
        }
    }};
    (@width $width:expr, $len:ident, $at:ident, $lanes:ident, $body:block) => {{
        const $lanes: usize = $width;
        let step = $crate::norm::op::cpu::blocks::opaque($lanes);
        let mut next = 0;
        while next < $len {
            let $at = next.min($len - $lanes);
            $body
            next += step;
        }
    }};
}
pub(super) use in_covering_blocks;

/// Hides the value of a number from the compiler.
///
/// The number is the step from block to block. If the compiler knew that blocks are neighbours, it would vectorise
/// across blocks, lane by lane, with gathers and scatters, instead of within them.
#[inline(always)]
pub(super) fn opaque(step: usize) -> usize {
    black_box(step)
}

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

    /// Writes 0 to `len` values.
    ///
    /// # Safety
    ///
    /// - The places `at..at + len` are within the tensor.
    /// - The tensor's memory is valid for writing, and nobody reads or writes these places meanwhile.
    pub unsafe fn clear(self, at: usize, len: usize) {
        debug_assert!(at + len <= self.len);
        // SAFETY: by this function's conditions; a value whose bytes are all 0 is the number 0.
        unsafe { self.start.add(at).write_bytes(0, len) };
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

    /// All values.
    ///
    /// # Safety
    ///
    /// They have been written, and nobody else reads or writes them while the slice lives.
    pub unsafe fn values<'a>(self) -> &'a mut [T] {
        // SAFETY: by this function's conditions, and the length is the tensor's.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// The same values, to read again what has been written.
    pub fn as_input(self) -> Input<T> {
        Input::new(self.start, self.len)
    }
}

/// Prefetches the cache lines that `L` values begin in, on processors whose instruction for this is known.
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
    /// The line from deviations to outputs. With a residual as `d`, the line adds it.
    #[inline(always)]
    pub fn of_forward(forward: &Normalisation<[R; L]>) -> Self {
        Self {
            scale: forward.scale,
            slope: [R::from_f64(1.0); L],
            shift: forward.shift,
        }
    }

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

    /// Prefetches the cache lines of `L` neighbouring places, in the tensors or beyond them.
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

/// The gradient of the normalisation's output as `u`, and the input.
#[derive(Clone, Copy)]
pub(super) struct GradientAndInput<T> {
    pub gradient: Input<T>,
    pub input: Input<T>,
}

impl<T: Value> Source for GradientAndInput<T> {
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
        [gradient, deviations(x, &forward.centre)]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.gradient.fetch::<L>(at);
        self.input.fetch::<L>(at);
    }
}

impl<T: Value> Summand for GradientAndInput<T> {
    #[inline(always)]
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[T::Real; L]>,
    ) -> [[f64; L]; 2] {
        // SAFETY: by this function's conditions.
        let (gradient, x) = unsafe { (self.gradient.load::<L>(at), self.input.load::<L>(at)) };
        let mut u = [0.0; L];
        for lane in 0..L {
            u[lane] = gradient[lane].to_f64();
        }
        [u, exact_deviations(x, &forward.centre)]
    }
}

/// The gradient of the normalisation's output alone, as `u` and as `d`.
#[derive(Clone, Copy)]
pub(super) struct Gradient<T>(pub Input<T>);

impl<T: Value> Source for Gradient<T> {
    type Value = T;
    const TENSORS: usize = 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        _forward: &Normalisation<[T::Real; L]>,
    ) -> [[T::Real; L]; 2] {
        // SAFETY: by this function's conditions.
        let gradient = unsafe { self.0.load(at) };
        [gradient, gradient]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.0.fetch::<L>(at);
    }
}

/// The gradient of the normalisation's output as `u`, computed from that of the activation's, and the input. Reading it
/// also writes `u` to `gated`, so each place may be read only once.
#[derive(Clone, Copy)]
pub(super) struct Gating<S: Source, G> {
    /// What the activation was applied to: the input, or input and residual.
    pub source: S,
    pub input: Input<S::Value>,
    pub gradient: Input<S::Value>,
    pub gate: G,
    /// May be the gradient's own memory.
    pub gated: Target<S::Value>,
}

impl<S: Source, G: Gate<RealOf<S>>> Source for Gating<S, G> {
    type Value = S::Value;
    const TENSORS: usize = S::TENSORS + 1;

    #[inline(always)]
    unsafe fn read<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[RealOf<S>; L]>,
    ) -> [[RealOf<S>; L]; 2] {
        // SAFETY: by this function's conditions.
        let ([d, residual], gradient) =
            unsafe { (self.source.read(at, forward), self.gradient.load(at)) };
        // The activation's input again, by the forward pass's arithmetic, and rounded as its output was.
        let z = S::Value::round(Line::of_forward(forward).of::<S>(&d, &residual));
        let u = S::Value::narrow(self.gate.let_block_through(&gradient, &z));
        // SAFETY: by this function's conditions; the block has been read.
        unsafe { self.gated.store(at, u) };
        [S::Value::widen(u), d]
    }

    #[inline(always)]
    fn fetch<const L: usize>(self, at: usize) {
        self.source.fetch::<L>(at);
        self.gradient.fetch::<L>(at);
    }
}

impl<S: Source, G: Gate<RealOf<S>>> Summand for Gating<S, G> {
    #[inline(always)]
    unsafe fn read_exact<const L: usize>(
        self,
        at: usize,
        forward: &Normalisation<[RealOf<S>; L]>,
    ) -> [[f64; L]; 2] {
        // SAFETY: by this function's conditions.
        let ([gated, _], x) = unsafe { (self.read(at, forward), self.input.load(at)) };
        let mut u = [0.0; L];
        for lane in 0..L {
            u[lane] = gated[lane].to_f64();
        }
        [u, exact_deviations(x, &forward.centre)]
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
    /// How many places ahead of each block to prefetch; 0 for none, and wrapping for places behind.
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
pub(super) unsafe fn map<S: Source, G: Gate<RealOf<S>>, const L: usize>(
    source: S,
    target: Target<S::Value>,
    blocks: Blocks,
    forward: &Normalisation<[RealOf<S>; L]>,
    line: &Line<[RealOf<S>; L]>,
    gate: G,
) {
    let stride = opaque(blocks.stride);
    for block in 0..blocks.count {
        let at = blocks.start + block * stride;
        if blocks.ahead != 0 {
            fetch::<S::Value, L>(target.start.wrapping_add(at.wrapping_add(blocks.ahead)));
        }
        // SAFETY: by this function's conditions. The block is read whole before any of it is written.
        unsafe {
            let [u, d] = source.read(at, forward);
            target.write(at, gate.activate_block(&line.of::<S>(&u, &d)));
        }
    }
}
