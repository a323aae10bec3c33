//! How a tensor is cut into regions and pieces.
//!
//! Only its dimensions decide this, so the number of threads never affects a result.

use std::ops::Range;

use super::parallel::share;
use crate::norm::op::layout::Dims;

/// The least number of neighbouring values with which a channel is walked run by run.
const LONG_RUN: usize = 64;
/// Values that are worth a task of their own.
pub(super) const TASK: usize = 1 << 15;
/// Neighbouring columns that a task takes at least. With fewer it would read too little of each row at a time.
const COLUMNS: usize = 128;
/// Groups of channels that are enough to keep all threads busy.
const GROUPS: usize = 8;

/// The part of a tensor that an operation is about.
#[derive(Clone)]
pub(super) struct Part {
    pub dims: Dims,
    /// The outer indices that belong to it.
    pub outer: Range<usize>,
    /// Whether it is walked run by run, one channel after the other, or row by row.
    pub by_runs: bool,
}

impl Part {
    /// The whole tensor.
    pub fn whole(dims: Dims) -> Self {
        Self::of_outer(dims, 0..dims.outer)
    }

    pub fn of_outer(dims: Dims, outer: Range<usize>) -> Self {
        Self {
            dims,
            outer,
            by_runs: dims.inner >= LONG_RUN,
        }
    }

    pub fn values_per_channel(&self) -> usize {
        self.outer.len() * self.dims.inner
    }

    fn len(&self) -> usize {
        self.values_per_channel() * self.dims.channels
    }

    /// Places along the part: rows, or the values of one channel.
    pub fn places(&self) -> Range<usize> {
        let each = if self.by_runs { self.dims.inner } else { 1 };
        self.outer.start * each..self.outer.end * each
    }
}

/// A range of a part's channels, walked in a number of pieces that may run in parallel.
#[derive(Clone)]
pub(super) struct Region<'a> {
    pub part: &'a Part,
    pub channels: Range<usize>,
    pub pieces: usize,
}

/// An image: a channel of a row of the batch.
#[derive(Clone, Copy)]
pub(super) struct Image {
    /// The channel, counted from the region's first.
    pub channel: usize,
    /// The place of its first value.
    pub start: usize,
    /// The place of the first value of its output.
    pub output: usize,
}

impl Region<'_> {
    /// Columns that each channel has in a row, row by row; else 1.
    pub fn columns_per_channel(&self) -> usize {
        if self.part.by_runs {
            1
        } else {
            self.part.dims.inner
        }
    }

    pub fn piece(&self, index: usize) -> Range<usize> {
        let places = self.part.places();
        let at = |index: usize| places.start + places.len() * index / self.pieces;
        at(index)..at(index + 1)
    }

    /// The run of a channel's neighbouring values at an outer index, as far as it is among the given places: offset and
    /// length.
    #[inline(always)]
    pub fn run(&self, channel: usize, outer: usize, places: &Range<usize>) -> (usize, usize) {
        let Dims {
            channels, inner, ..
        } = self.part.dims;
        let first = (outer * inner).max(places.start) - outer * inner;
        let last = ((outer + 1) * inner).min(places.end) - outer * inner;
        ((outer * channels + channel) * inner + first, last - first)
    }

    /// The outer indices that the given places of a channel have.
    #[inline(always)]
    pub fn outer(&self, places: &Range<usize>) -> Range<usize> {
        let inner = self.part.dims.inner;
        places.start / inner..places.end.div_ceil(inner)
    }

    /// Images of the region: channels of a row.
    fn images(&self) -> usize {
        self.part.outer.len() * self.channels.len()
    }

    /// The images of one of the region's pieces.
    pub fn images_of_piece(&self, piece: usize) -> Range<usize> {
        let images = self.images();
        images * piece / self.pieces..images * (piece + 1) / self.pieces
    }

    /// An image of the region that has so many outputs.
    #[inline(always)]
    pub fn image(&self, index: usize, outputs: usize) -> Image {
        let channel = index % self.channels.len();
        let outer = self.part.outer.start + index / self.channels.len();
        let place = outer * self.part.dims.channels + self.channels.start + channel;
        Image {
            channel,
            start: place * self.part.dims.inner,
            output: place * outputs,
        }
    }
}

/// Runs a job over all channels.
///
/// If there are enough groups of channels, each group is a separate job, one region in one piece: its values stay in
/// the core's cache from the sums to the output. Otherwise there is one job, over a region of all channels that is cut
/// into pieces.
pub(super) fn in_regions<C: Send>(
    part: &Part,
    per_channel: &mut [C],
    job: impl Fn(Region, &mut [C]) + Sync,
) {
    let dims = part.dims;
    let columns = if part.by_runs { 1 } else { COLUMNS };
    let group = (TASK / part.values_per_channel().max(1))
        .max(columns.div_ceil(dims.inner.max(1)))
        .clamp(1, dims.channels.max(1));
    let groups = dims.channels.div_ceil(group);
    if groups < GROUPS || part.len() < 2 * TASK {
        job(all_channels(part), per_channel);
    } else {
        let chunks = per_channel.chunks_mut(group).enumerate();
        share(chunks, |(index, chunk)| {
            let first = index * group;
            let region = Region {
                part,
                channels: first..first + chunk.len(),
                pieces: 1,
            };
            job(region, chunk);
        });
    }
}

/// All channels as one region, in pieces for several threads.
pub(super) fn all_channels(part: &Part) -> Region<'_> {
    Region {
        part,
        channels: 0..part.dims.channels,
        pieces: (part.len() / TASK).clamp(1, 4 * GROUPS),
    }
}
