//! Ways over a tensor: the sums of its channels, and the mapping of its values.
//!
//! A tensor is dense and seen as `[outer, channels, inner]`. There are two ways over it:
//!
//! - **Run by run**, if a channel's values lie in long runs (`inner` is large): one channel after the other.
//! - **Row by row**, if they lie scattered (`[N, C]`, channels-last images, a handful of trailing positions): a few
//!   rows at a time for every block of columns, so that whole cache lines are used.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::iter::repeat_with;
use std::ops::Range;

use super::blocks::{self, Blocks, RealOf, Source, Summand, Target, in_blocks};
use super::channels::PerChannel;
use super::gate::Gate;
use super::parallel::share;
use super::regions::Region;
use super::value::Real;
use crate::norm::op::layout::Dims;

/// Lanes of a full block that is mapped.
pub(super) const LANES: usize = 32;
/// Lanes of a full block that is added up. Two sums of each in f64 take half of the registers of AVX2.
pub(super) const SUM_LANES: usize = 16;
/// Columns that are mapped, a few rows at a time, with the numbers of each column loaded once. Rows of more columns are
/// mapped one after the other, which is the order that processors read ahead in.
const MAP_COLUMNS: usize = 64;
const MAP_ROWS: usize = 4;
/// Rows that are added up together: of part of the columns, and of all of them. More rows load and store the sums of
/// the columns less often. Fewer are nearer to the order of the memory, which processors read ahead in.
const SUM_ROWS: usize = 16;
const SUM_WHOLE_ROWS: usize = 4;
/// Bytes beyond which processors do not read ahead.
const PAGE: usize = 4 << 10;
/// Bytes that can be fetched into the nearest cache, of 32 KiB or more, and still be there when they are read.
const NEAR: usize = 28 << 10;
/// Places to look at for a first guess of the mean: rows, or neighbouring values of one channel.
const SAMPLE_ROWS: usize = 8;
const SAMPLE_VALUES: usize = 32;

/// What becomes of each value of a region.
#[derive(Clone, Copy)]
pub(super) struct Mapping<'a, R, G> {
    /// The forward pass of each channel.
    pub forward: &'a PerChannel<R>,
    /// The line of each channel.
    pub lines: &'a PerChannel<R>,
    pub gate: G,
}

/// `sum u` and `sum u * d` of a channel.
pub(super) type Sums = [f64; 2];

/// `sum u` and `sum u * d` of each column: a channel's or, row by row, those of each place that a channel has in a row.
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

    fn add(&mut self, other: &Self) {
        for (sums, others) in [(&mut self.u, &other.u), (&mut self.ud, &other.ud)] {
            for (sum, other) in sums.iter_mut().zip(others) {
                *sum += other;
            }
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

impl Region<'_> {
    /// The sums of each channel over these runs of places.
    ///
    /// # Safety
    ///
    /// - Each tensor of `source` has `self.part.dims.len()` values, and its memory is valid for reading.
    /// - `self.channels` are channels of the tensor, and the places are the part's.
    /// - Nobody writes to the region's values meanwhile.
    pub unsafe fn sums_of<S: Summand>(
        &self,
        source: S,
        forward: &PerChannel<RealOf<S>>,
        runs: &[Range<usize>],
    ) -> Vec<Sums> {
        debug_assert!(self.channels.end <= self.part.dims.channels);
        let all = self.part.places();
        debug_assert!(
            runs.iter()
                .all(|run| all.start <= run.start && run.end <= all.end)
        );
        let columns = self.columns_per_channel();
        let forward = &*forward.of_columns(columns);
        let of_piece = |piece| {
            Arch::new().dispatch(SumPiece {
                region: self,
                source,
                forward,
                piece,
                runs,
            })
        };
        let total = if self.pieces == 1 {
            of_piece(all)
        } else {
            let mut pieces: Vec<_> = repeat_with(|| None).take(self.pieces).collect();
            share(pieces.iter_mut().enumerate(), |(index, sums)| {
                *sums = Some(of_piece(self.piece(index)));
            });
            let mut pieces = pieces.into_iter().flatten();
            let mut total = pieces.next().expect("there is a piece");
            pieces.for_each(|piece| total.add(&piece));
            total
        };
        total.of_channels(self.channels.len(), columns)
    }

    /// The sums of each channel.
    ///
    /// # Safety
    ///
    /// Those of [`sums_of`](Self::sums_of).
    pub unsafe fn sums<S: Summand>(&self, source: S, forward: &PerChannel<RealOf<S>>) -> Vec<Sums> {
        // SAFETY: by this function's conditions.
        unsafe { self.sums_of(source, forward, &[self.part.places()]) }
    }

    /// A first guess of each channel's mean, from a few of its values at these places.
    ///
    /// # Safety
    ///
    /// Those of [`sums`](Self::sums), and the places are the part's.
    pub unsafe fn guess_means<S: Summand>(&self, source: S, among: Range<usize>) -> Vec<RealOf<S>> {
        let (most, width) = if self.part.by_runs {
            (SAMPLE_VALUES, 1)
        } else {
            (SAMPLE_ROWS, self.part.dims.inner)
        };
        let Range { start, end } = among;
        let places = start..end.min(start + most);
        let count = (places.len() * width) as f64;
        let about = PerChannel::about(&vec![Default::default(); self.channels.len()]);
        let few = Region {
            pieces: 1,
            ..self.clone()
        };
        // SAFETY: by this function's conditions.
        unsafe { few.sums_of(source, &about, &[places]) }
            .iter()
            .map(|[sum, _]| {
                let mean = sum / count;
                RealOf::<S>::from_f64(if mean.is_finite() { mean } else { 0.0 })
            })
            .collect()
    }

    /// Maps each value through its channel's line, then through `gate`.
    ///
    /// # Safety
    ///
    /// - Each tensor of `source` and `target` has `self.dims.len()` values; their memory is valid for reading and for
    ///   writing.
    /// - `self.channels` are channels of the tensor.
    /// - A tensor of `source` and `target` are the same or do not overlap.
    /// - Nobody else reads or writes the region's values meanwhile.
    pub unsafe fn map<S: Source, G: Gate<RealOf<S>>>(
        &self,
        source: S,
        target: Target<S::Value>,
        mapping: Mapping<RealOf<S>, G>,
    ) {
        debug_assert!(self.channels.end <= self.part.dims.channels);
        let columns = self.columns_per_channel();
        let forward = &*mapping.forward.of_columns(columns);
        let lines = &*mapping.lines.of_columns(columns);
        let gate = mapping.gate;
        let of_piece = |runs: Range<usize>, places: Range<usize>| {
            Arch::new().dispatch(MapPiece {
                region: self,
                source,
                target,
                forward,
                lines,
                gate,
                runs,
                places,
            });
        };
        let all = self.part.places();
        let channels = self.channels.len();
        let runs_of = |outer: Range<usize>| outer.start * channels..outer.end * channels;
        let runs = runs_of(self.part.outer.clone());
        if self.pieces == 1 {
            return of_piece(runs, all);
        }
        // Whole runs, which lie one after the other in memory, if there are enough of them.
        let by_whole_runs = self.part.by_runs && runs.len() >= 2 * self.pieces;
        (0..self.pieces).into_par_iter().for_each(|piece| {
            if by_whole_runs {
                let at = |piece: usize| runs.start + runs.len() * piece / self.pieces;
                of_piece(at(piece)..at(piece + 1), all.clone());
            } else {
                let places = self.piece(piece);
                let by_runs = self.part.by_runs.then(|| runs_of(self.outer(&places)));
                of_piece(by_runs.unwrap_or_default(), places);
            }
        });
    }

    /// How many places ahead to prefetch, with `left` outer indices to come: as many rows of the region's channels as
    /// make up a page, beyond which processors do not read ahead. 0 if fewer rows are left, or if the prefetched lines
    /// of all tensors would not fit into the nearest cache.
    #[inline(always)]
    fn ahead<T>(&self, tensors: usize, left: usize) -> usize {
        let Dims {
            channels, inner, ..
        } = self.part.dims;
        let row = self.channels.len() * inner * size_of::<T>();
        let rows = PAGE.div_ceil(row.max(1));
        if left < rows || tensors * row > NEAR {
            return 0;
        }
        rows * channels * inner
    }
}

/// Adds up some places of a region. A type and not a closure, so that all of it is inlined into the function that is
/// compiled for the machine's instruction set.
///
/// Made only by [`Region`]'s methods, under their conditions.
struct SumPiece<'a, S: Summand> {
    region: &'a Region<'a>,
    source: S,
    /// Of each channel or, row by row, of each column.
    forward: &'a PerChannel<RealOf<S>>,
    piece: Range<usize>,
    /// Of the part. Only those places are added up that are in the piece too.
    runs: &'a [Range<usize>],
}

impl<S: Summand> WithSimd for SumPiece<'_, S> {
    type Output = ColumnSums;

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) -> ColumnSums {
        if self.region.part.by_runs {
            self.run_by_run()
        } else {
            self.row_by_row()
        }
    }
}

impl<S: Summand> SumPiece<'_, S> {
    #[inline(always)]
    fn run_by_run(&self) -> ColumnSums {
        let channels = self.region.channels.clone();
        let mut of_lanes = vec![[[0.0; SUM_LANES]; 2]; channels.len()];
        for places in self.runs_of_piece() {
            let outer_of_places = self.region.outer(&places);
            for outer in outer_of_places.clone() {
                let left = outer_of_places.end - 1 - outer;
                let ahead = self.region.ahead::<S::Value>(S::TENSORS, left);
                for (index, channel) in channels.clone().enumerate() {
                    let [of_u, of_ud] = &mut of_lanes[index];
                    let (offset, len) = self.region.run(channel, outer, &places);
                    in_blocks!(len, SUM_LANES, usize::MAX, |at, count, L| {
                        let blocks = Blocks {
                            start: offset + at,
                            stride: L,
                            count,
                            ahead,
                        };
                        let sums = [block::<L>(of_u, 0), block::<L>(of_ud, 0)];
                        let forward = self.forward.copies::<L, _>(index);
                        // SAFETY: the run is within the tensors, and the blocks are within the run.
                        unsafe { blocks::add_up(self.source, blocks, &forward, sums) };
                    });
                }
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
    fn row_by_row(&self) -> ColumnSums {
        let Dims {
            channels, inner, ..
        } = self.region.part.dims;
        let stride = channels * inner;
        let width = self.region.channels.len() * inner;
        let first_column = self.region.channels.start * inner;
        let mut sums = ColumnSums::zeros(width);
        let whole = width == stride;
        let together = if whole { SUM_WHOLE_ROWS } else { SUM_ROWS };
        let fits = S::TENSORS * together * width * size_of::<S::Value>() <= NEAR;
        for places in self.runs_of_piece() {
            for row in places.clone().step_by(together) {
                let rows = together.min(places.end - row);
                // Processors do not read ahead along several rows at a time.
                let next = row + 2 * together <= places.end;
                let ahead = if next && (whole || fits) {
                    together * stride
                } else {
                    0
                };
                in_blocks!(width, SUM_LANES, 1, |column, _count, L| {
                    let blocks = Blocks {
                        start: row * stride + first_column + column,
                        stride,
                        count: rows,
                        ahead,
                    };
                    let sums = [
                        block::<L>(&mut sums.u, column),
                        block::<L>(&mut sums.ud, column),
                    ];
                    let forward = self.forward.neighbours::<L, _>(column);
                    // SAFETY: the rows are the tensors', and the columns are the region's.
                    unsafe { blocks::add_up(self.source, blocks, &forward, sums) };
                });
            }
        }
        sums
    }

    /// The runs as far as they are in the piece.
    #[inline(always)]
    fn runs_of_piece(&self) -> impl Iterator<Item = Range<usize>> + use<'_, S> {
        let Range { start, end } = self.piece;
        let clipped = self
            .runs
            .iter()
            .map(move |run| run.start.max(start)..run.end.min(end));
        clipped.filter(|places| !places.is_empty())
    }
}

/// `L` values from `at`.
#[inline(always)]
pub(super) fn block<const L: usize>(values: &mut [f64], at: usize) -> &mut [f64; L] {
    (&mut values[at..at + L])
        .try_into()
        .expect("a slice of L values is an array of L values")
}

/// Maps some places of a region. A type for the same reason as [`SumPiece`], and made under the same conditions.
struct MapPiece<'a, S: Source, G> {
    region: &'a Region<'a>,
    source: S,
    target: Target<S::Value>,
    /// Of each channel or, row by row, of each column.
    forward: &'a PerChannel<RealOf<S>>,
    lines: &'a PerChannel<RealOf<S>>,
    gate: G,
    /// Run by run: the runs of each outer index, one for each channel of the region.
    runs: Range<usize>,
    /// Only these are mapped.
    places: Range<usize>,
}

impl<S: Source, G: Gate<RealOf<S>>> WithSimd for MapPiece<'_, S, G> {
    type Output = ();

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) {
        if self.region.part.by_runs {
            self.run_by_run();
        } else {
            self.row_by_row();
        }
    }
}

impl<S: Source, G: Gate<RealOf<S>>> MapPiece<'_, S, G> {
    /// Last runs first: those that were just added up are still in the cache.
    #[inline(always)]
    fn run_by_run(self) {
        let channels = self.region.channels.clone();
        let outer_of = |run: usize| run / channels.len();
        for run in self.runs.clone().rev() {
            let (outer, index) = (outer_of(run), run % channels.len());
            let left = outer - outer_of(self.runs.start);
            let ahead = self.region.ahead::<S::Value>(1, left);
            let (offset, len) = self.region.run(channels.start + index, outer, &self.places);
            in_blocks!(len, LANES, usize::MAX, |at, count, L| {
                let blocks = Blocks {
                    start: offset + at,
                    stride: L,
                    count,
                    ahead: ahead.wrapping_neg(),
                };
                let forward = self.forward.copies::<L, _>(index);
                let line = self.lines.copies::<L, _>(index);
                // SAFETY: the run is within the tensors, and the blocks are within the run.
                unsafe {
                    blocks::map(self.source, self.target, blocks, &forward, &line, self.gate);
                }
            });
        }
    }

    #[inline(always)]
    fn row_by_row(self) {
        let Dims {
            channels, inner, ..
        } = self.region.part.dims;
        let stride = channels * inner;
        let width = self.region.channels.len() * inner;
        let first_column = self.region.channels.start * inner;
        let together = if width < MAP_COLUMNS { MAP_ROWS } else { 1 };
        for row in self.places.clone().step_by(together) {
            let rows = together.min(self.places.end - row);
            in_blocks!(width, LANES, 1, |column, _count, L| {
                let blocks = Blocks {
                    start: row * stride + first_column + column,
                    stride,
                    count: rows,
                    ahead: 0,
                };
                let forward = self.forward.neighbours::<L, _>(column);
                let line = self.lines.neighbours::<L, _>(column);
                // SAFETY: the rows are the tensors', and the columns are the region's.
                unsafe {
                    blocks::map(self.source, self.target, blocks, &forward, &line, self.gate);
                }
            });
        }
    }
}
