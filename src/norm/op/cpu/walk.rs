//! Ways over a tensor: the sums of its channels, and the mapping of its values.
//!
//! A tensor is dense and seen as `[outer, channels, inner]`. There are two walks. Where a channel's values lie in
//! long runs (`inner` is large) one channel is walked after the other, run by run. Where they lie scattered (`[N, C]`,
//! channels-last images, a handful of trailing positions) rows of many channels are walked, a few rows at a time for
//! every block of columns, so that whole cache lines are used.
//!
//! Sums are taken in the type of the values over short runs (16 blocks, or 16 rows) and added up in f64.

use macerator::{AutoArch, Simd, WithSimd};
use rayon::prelude::*;
use std::borrow::Cow;
use std::iter::{repeat_n, repeat_with};
use std::ops::Range;
use std::sync::Mutex;

use super::lanes::{self, LANES, Lines, Normalised, Real, RealOf, Source, Target};
use crate::norm::op::layout::Dims;

/// Below this many values in a row, a channel's neighbours are walked along with it.
const LONG_RUN: usize = 64;
/// Rows that are mapped together. More lie, where a row is a power of two of values long, in more of the same few cache
/// lines than a processor has places for.
const ROWS: usize = 4;
/// Rows that are walked together to be summed, and summed in the type of the values.
const ROW_RUN: usize = 16;
/// Blocks that are summed in the type of the values.
const BLOCKS: usize = 16;
/// Bytes that a processor reads ahead over at most.
const PAGE: usize = 4 << 10;
/// Bytes that can be fetched into the nearest cache, of 32 KiB or more, and still be there when they are read.
const NEAR: usize = 28 << 10;
/// Places looked at for a first guess of the mean: rows, or neighbouring values of one channel.
const SAMPLE_ROWS: usize = 8;
const SAMPLE_VALUES: usize = 32;

impl Dims {
    /// Whether one channel is walked after the other.
    pub(super) fn has_long_runs(self) -> bool {
        self.inner >= LONG_RUN
    }
}

/// A range of channels, walked in a number of pieces that may run in parallel.
#[derive(Clone)]
pub(super) struct Region {
    pub dims: Dims,
    pub channels: Range<usize>,
    pub pieces: usize,
}

/// `sum u` and `sum u * d` of a channel.
pub(super) type Sums = [f64; 2];

/// `sum u` and `sum u * d` of each column: of a channel, or, where rows are walked, of each place that a channel has in a
/// row.
struct ColumnSums {
    u: Vec<f64>,
    ud: Vec<f64>,
}

impl ColumnSums {
    fn zeros(columns: usize) -> Self {
        Self {
            u: vec![0.0; columns],
            ud: vec![0.0; columns],
        }
    }

    /// The sums of each channel of `columns` columns, which may be none.
    fn of_channels(&self, channels: usize, columns: usize) -> Vec<Sums> {
        (0..channels)
            .map(|channel| channel * columns..(channel + 1) * columns)
            .map(|columns| {
                [&self.u, &self.ud].map(|quantity| quantity[columns.clone()].iter().sum())
            })
            .collect()
    }
}

/// What sources go by in several channels, each array with one value a channel; see [`Normalised`].
#[derive(Clone)]
pub(super) struct ChannelsNormalised<R> {
    pub centre: Vec<R>,
    pub scale: Vec<R>,
    pub shift: Vec<R>,
}

impl<R: Real> ChannelsNormalised<R> {
    /// For sources that go by the centre alone.
    pub fn about(centre: Vec<R>) -> Self {
        let unused = vec![R::default(); centre.len()];
        Self {
            centre,
            scale: unused.clone(),
            shift: unused,
        }
    }

    /// What goes for all columns, where each channel has `inner`.
    fn of_columns(&self, inner: usize) -> Cow<'_, Self> {
        if inner == 1 {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            centre: repeat_each(&self.centre, inner),
            scale: repeat_each(&self.scale, inner),
            shift: repeat_each(&self.shift, inner),
        })
    }

    /// `L` neighbours from `at`.
    #[inline(always)]
    fn block<const L: usize>(&self, at: usize) -> Normalised<R, L> {
        Normalised {
            centre: block(&self.centre, at),
            scale: block(&self.scale, at),
            shift: block(&self.shift, at),
        }
    }

    /// One channel's for all lanes.
    #[inline(always)]
    fn splat<const L: usize>(&self, channel: usize) -> Normalised<R, L> {
        Normalised {
            centre: [self.centre[channel]; L],
            scale: [self.scale[channel]; L],
            shift: [self.shift[channel]; L],
        }
    }
}

/// The lines of several channels, each array with one value a channel; see [`Lines`].
#[derive(Clone)]
pub(super) struct ChannelLines<R> {
    by: ChannelsNormalised<R>,
    scale: Vec<R>,
    slope: Vec<R>,
    shift: Vec<R>,
    floor: R,
}

impl<R: Real> ChannelLines<R> {
    /// Lines to be pushed, a channel each, for what sources go by.
    pub fn new(by: ChannelsNormalised<R>, floor: f64) -> Self {
        let channels = by.centre.len();
        Self {
            by,
            scale: Vec::with_capacity(channels),
            slope: Vec::with_capacity(channels),
            shift: Vec::with_capacity(channels),
            floor: R::from_f64(floor),
        }
    }

    /// Appends the line of another channel.
    pub fn push(&mut self, scale: f64, slope: f64, shift: f64) {
        self.scale.push(R::from_f64(scale));
        self.slope.push(R::from_f64(slope));
        self.shift.push(R::from_f64(shift));
    }

    /// The lines of all columns, where each channel has `inner`.
    fn of_columns(&self, inner: usize) -> Cow<'_, Self> {
        if inner == 1 {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self {
            by: self.by.of_columns(inner).into_owned(),
            scale: repeat_each(&self.scale, inner),
            slope: repeat_each(&self.slope, inner),
            shift: repeat_each(&self.shift, inner),
            floor: self.floor,
        })
    }

    /// `L` neighbours from `at`.
    #[inline(always)]
    fn block<const L: usize>(&self, at: usize) -> Lines<R, L> {
        Lines {
            by: self.by.block(at),
            scale: block(&self.scale, at),
            slope: block(&self.slope, at),
            shift: block(&self.shift, at),
            floor: self.floor,
        }
    }

    /// One channel's for all lanes.
    #[inline(always)]
    fn splat<const L: usize>(&self, channel: usize) -> Lines<R, L> {
        Lines {
            by: self.by.splat(channel),
            scale: [self.scale[channel]; L],
            slope: [self.slope[channel]; L],
            shift: [self.shift[channel]; L],
            floor: self.floor,
        }
    }
}

/// Each value as often as its channel has columns.
fn repeat_each<R: Copy>(values: &[R], columns: usize) -> Vec<R> {
    let mut repeated = Vec::with_capacity(values.len() * columns);
    for &value in values {
        repeated.extend(repeat_n(value, columns));
    }
    repeated
}

#[inline(always)]
fn block<R: Copy, const L: usize>(values: &[R], at: usize) -> [R; L] {
    values[at..at + L]
        .try_into()
        .expect("a slice of L values is an array of L values")
}

/// Cuts `0..len` into blocks of [`LANES`], then of 8, then of 1 lane, and evaluates the body for each group of up to
/// `most` blocks of one width.
macro_rules! in_blocks {
    ($len:expr, $most:expr, |$at:ident, $count:ident, $lanes:ident| $body:block) => {{
        let len: usize = $len;
        let mut $at = 0;
        in_blocks!(@width LANES, len, $most, $at, $count, $lanes, $body);
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

impl Region {
    /// Places along which the region is cut into pieces: rows, or the values of one channel.
    fn extent(&self) -> usize {
        if self.dims.has_long_runs() {
            self.dims.values_per_channel()
        } else {
            self.dims.outer
        }
    }

    /// Columns that each channel has in a row, where rows are walked.
    fn columns_per_channel(&self) -> usize {
        if self.dims.has_long_runs() {
            1
        } else {
            self.dims.inner
        }
    }

    fn piece(&self, index: usize) -> Range<usize> {
        let extent = self.extent();
        extent * index / self.pieces..extent * (index + 1) / self.pieces
    }

    /// The sums of each channel.
    ///
    /// # Safety
    ///
    /// `source` must be of tensors of the region's dimensions.
    pub unsafe fn sums<S: Source>(
        &self,
        source: S,
        by: &ChannelsNormalised<RealOf<S>>,
    ) -> Vec<Sums> {
        let by = &*by.of_columns(self.columns_per_channel());
        let of_piece = |places| {
            AutoArch::new().dispatch(SumPiece {
                region: self,
                source,
                by,
                places,
            })
        };
        let total = if self.pieces == 1 {
            of_piece(0..self.extent())
        } else {
            let mut pieces: Vec<_> = repeat_with(|| None).take(self.pieces).collect();
            share(pieces.iter_mut().enumerate(), |(index, sums)| {
                *sums = Some(of_piece(self.piece(index)));
            });
            let mut pieces = pieces.into_iter().flatten();
            let mut total = pieces.next().expect("there is a piece");
            for piece in pieces {
                add(&mut total.u, &piece.u);
                add(&mut total.ud, &piece.ud);
            }
            total
        };
        total.of_channels(self.channels.len(), self.columns_per_channel())
    }

    /// A first guess of each channel's mean, from a few of its values.
    ///
    /// # Safety
    ///
    /// `source` must be of tensors of the region's dimensions.
    pub unsafe fn guess_means<S: Source>(&self, source: S) -> Vec<RealOf<S>> {
        let columns = self.columns_per_channel();
        let (most, width) = if self.dims.has_long_runs() {
            (SAMPLE_VALUES, 1)
        } else {
            (SAMPLE_ROWS, self.dims.inner)
        };
        let places = 0..self.extent().min(most);
        let count = (places.len() * width) as f64;
        let sums = AutoArch::new().dispatch(SumPiece {
            region: self,
            source,
            by: &ChannelsNormalised::about(vec![Default::default(); self.channels.len() * columns]),
            places,
        });
        sums.of_channels(self.channels.len(), columns)
            .iter()
            .map(|[sum, _]| {
                let mean = sum / count;
                RealOf::<S>::from_f64(if mean.is_finite() { mean } else { 0.0 })
            })
            .collect()
    }

    /// Maps each value through its channel's line.
    ///
    /// # Safety
    ///
    /// `source` must be of tensors of the region's dimensions, and `target` valid for writing as many values. No other
    /// thread may use the region's values meanwhile.
    pub unsafe fn map<S: Source>(
        &self,
        source: S,
        target: Target<S::Value>,
        lines: &ChannelLines<RealOf<S>>,
    ) {
        let lines = &*lines.of_columns(self.columns_per_channel());
        let of_piece = |places: Range<usize>| {
            AutoArch::new().dispatch(MapPiece {
                region: self,
                source,
                target,
                lines,
                places,
            });
        };
        if self.pieces == 1 {
            of_piece(0..self.extent());
        } else {
            (0..self.pieces)
                .into_par_iter()
                .for_each(|index| of_piece(self.piece(index)));
        }
    }

    /// The run of a channel's neighbouring values, as offset and length, that has the given outer index and places
    /// among the given.
    #[inline(always)]
    fn run(&self, channel: usize, outer: usize, places: &Range<usize>) -> (usize, usize) {
        let Dims {
            channels, inner, ..
        } = self.dims;
        let first = (outer * inner).max(places.start) - outer * inner;
        let last = ((outer + 1) * inner).min(places.end) - outer * inner;
        ((outer * channels + channel) * inner + first, last - first)
    }

    /// How many places on from those that are read others are fetched, with `left` outer indices to come: as many rows
    /// of the region's channels as make up a page, beyond which the processor does not look ahead by itself. None where
    /// so few are left, and where what is fetched of all tensors is more than the nearest cache can hold.
    #[inline(always)]
    fn ahead<T>(&self, tensors: usize, left: usize) -> usize {
        let Dims {
            channels, inner, ..
        } = self.dims;
        let row = self.channels.len() * inner * size_of::<T>();
        let rows = PAGE.div_ceil(row.max(1));
        if left < rows || tensors * row > NEAR {
            return 0;
        }
        rows * channels * inner
    }

    /// The outer indices that the given places of a channel have.
    #[inline(always)]
    fn outer(&self, places: &Range<usize>) -> Range<usize> {
        places.start / self.dims.inner..places.end.div_ceil(self.dims.inner)
    }
}

/// The sums over some places of a region. A type, and not a closure, so that all of it is sure to be inlined into the
/// function that is compiled for the machine's instruction set.
struct SumPiece<'a, S: Source> {
    region: &'a Region,
    source: S,
    /// Of one value a channel, or a column where rows are walked.
    by: &'a ChannelsNormalised<RealOf<S>>,
    places: Range<usize>,
}

impl<S: Source> WithSimd for SumPiece<'_, S> {
    type Output = ColumnSums;

    #[inline(always)]
    fn with_simd<I: Simd>(self) -> ColumnSums {
        if self.region.dims.has_long_runs() {
            self.run_by_run()
        } else {
            self.row_by_row()
        }
    }
}

impl<S: Source> SumPiece<'_, S> {
    #[inline(always)]
    fn run_by_run(self) -> ColumnSums {
        let channels = self.region.channels.clone();
        let mut of_lanes = vec![[[0.0; LANES]; 2]; channels.len()];
        let runs = self.region.outer(&self.places);
        for outer in runs.clone() {
            let ahead = self
                .region
                .ahead::<S::Value>(S::TENSORS, runs.end - 1 - outer);
            for (index, channel) in channels.clone().enumerate() {
                let of_lanes = &mut of_lanes[index];
                let (offset, len) = self.region.run(channel, outer, &self.places);
                in_blocks!(len, BLOCKS, |at, count, L| {
                    let by = self.by.splat::<L>(index);
                    // SAFETY: the run lies within the tensor, and the blocks within the run.
                    let [u, ud] = unsafe {
                        lanes::sums::<S, L>(self.source, offset + at, L, count, ahead, &by)
                    };
                    add(&mut of_lanes[0][..L], &u);
                    add(&mut of_lanes[1][..L], &ud);
                });
            }
        }
        let of_channels = |quantity: usize| {
            of_lanes
                .iter()
                .map(|of_lanes| of_lanes[quantity].iter().sum())
                .collect()
        };
        ColumnSums {
            u: of_channels(0),
            ud: of_channels(1),
        }
    }

    #[inline(always)]
    fn row_by_row(self) -> ColumnSums {
        let Dims {
            channels, inner, ..
        } = self.region.dims;
        let stride = channels * inner;
        let width = self.region.channels.len() * inner;
        let first_column = self.region.channels.start * inner;
        let mut sums = ColumnSums::zeros(width);
        for row in self.places.clone().step_by(ROW_RUN) {
            let rows = ROW_RUN.min(self.places.end - row);
            in_blocks!(width, 1, |column, _count, L| {
                let at = row * stride + first_column + column;
                let by = self.by.block::<L>(column);
                // SAFETY: the rows are the tensor's, and the columns are the region's.
                let [u, ud] = unsafe { lanes::sums::<S, L>(self.source, at, stride, rows, 0, &by) };
                add(&mut sums.u[column..column + L], &u);
                add(&mut sums.ud[column..column + L], &ud);
            });
        }
        sums
    }
}

/// Adds each of `values` to its sum.
#[inline(always)]
fn add<R: Real>(sums: &mut [f64], values: &[R]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value.to_f64();
    }
}

/// The mapping of some places of a region; a type for the same reason as [`SumPiece`].
struct MapPiece<'a, S: Source> {
    region: &'a Region,
    source: S,
    target: Target<S::Value>,
    /// One line a channel, or a column where rows are walked.
    lines: &'a ChannelLines<RealOf<S>>,
    places: Range<usize>,
}

impl<S: Source> WithSimd for MapPiece<'_, S> {
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self) {
        if self.region.dims.has_long_runs() {
            self.run_by_run();
        } else {
            self.row_by_row();
        }
    }
}

impl<S: Source> MapPiece<'_, S> {
    #[inline(always)]
    fn run_by_run(self) {
        let runs = self.region.outer(&self.places);
        for outer in runs.clone().rev() {
            let ahead = self.region.ahead::<S::Value>(1, outer - runs.start);
            for (index, channel) in self.region.channels.clone().enumerate() {
                let (offset, len) = self.region.run(channel, outer, &self.places);
                in_blocks!(len, usize::MAX, |at, count, L| {
                    let lines = self.lines.splat::<L>(index);
                    // SAFETY: the run lies within both tensors, and the blocks within the run.
                    unsafe {
                        lanes::map(
                            self.source,
                            self.target,
                            offset + at,
                            L,
                            count,
                            ahead.wrapping_neg(),
                            &lines,
                        );
                    }
                });
            }
        }
    }

    #[inline(always)]
    fn row_by_row(self) {
        let Dims {
            channels, inner, ..
        } = self.region.dims;
        let stride = channels * inner;
        let width = self.region.channels.len() * inner;
        let first_column = self.region.channels.start * inner;
        for row in self.places.clone().step_by(ROWS) {
            let rows = ROWS.min(self.places.end - row);
            in_blocks!(width, 1, |column, _count, L| {
                let at = row * stride + first_column + column;
                let lines = self.lines.block::<L>(column);
                // SAFETY: the rows are the tensors', and the columns are the region's.
                unsafe { lanes::map(self.source, self.target, at, stride, rows, 0, &lines) };
            });
        }
    }
}

/// Runs a job for each of the items, on the thread that calls and on as many of rayon's as make up a pool.
///
/// To hand all of it over to the pool and wait, as rayon's iterators do, takes one more thread to be woken.
pub(super) fn share<T: Send>(items: impl Iterator<Item = T> + Send, job: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    let next = || items.lock().expect("no item is made by a panic").next();
    let work = || {
        while let Some(item) = next() {
            job(item);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| work());
        }
        work();
    });
}
