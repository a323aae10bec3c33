//! How a tensor is cut into regions and pieces.
//!
//! Only its dimensions decide this, so the number of threads never affects a result.

use std::ops::Range;

use super::parallel::share;
use crate::norm::op::layout::Dims;

/// The least number of neighbouring values with which a channel is walked run by run.
const LONG_RUN: usize = 64;
/// Values that are worth a task of their own.
const TASK: usize = 1 << 15;
/// Neighbouring columns that a task takes at least. With fewer it would read too little of each row at a time.
const COLUMNS: usize = 128;
/// Groups of channels that are enough to keep all threads busy.
const GROUPS: usize = 8;

impl Dims {
    /// Whether channels are walked run by run.
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

impl Region {
    /// Places along which the region is cut into pieces: rows, or the values of one channel.
    pub fn extent(&self) -> usize {
        if self.dims.has_long_runs() {
            self.dims.values_per_channel()
        } else {
            self.dims.outer
        }
    }

    /// Columns that each channel has in a row, row by row; else 1.
    pub fn columns_per_channel(&self) -> usize {
        if self.dims.has_long_runs() {
            1
        } else {
            self.dims.inner
        }
    }

    pub fn piece(&self, index: usize) -> Range<usize> {
        let extent = self.extent();
        extent * index / self.pieces..extent * (index + 1) / self.pieces
    }

    /// The run of a channel's neighbouring values at an outer index, as far as it is among the given places: offset and
    /// length.
    #[inline(always)]
    pub fn run(&self, channel: usize, outer: usize, places: &Range<usize>) -> (usize, usize) {
        let Dims {
            channels, inner, ..
        } = self.dims;
        let first = (outer * inner).max(places.start) - outer * inner;
        let last = ((outer + 1) * inner).min(places.end) - outer * inner;
        ((outer * channels + channel) * inner + first, last - first)
    }

    /// The outer indices that the given places of a channel have.
    #[inline(always)]
    pub fn outer(&self, places: &Range<usize>) -> Range<usize> {
        places.start / self.dims.inner..places.end.div_ceil(self.dims.inner)
    }
}

/// Runs a job over all channels.
///
/// If there are enough groups of channels, each group is a separate job, one region in one piece: its values stay in
/// the core's cache from the sums to the output. Otherwise there is one job, over a region of all channels that is cut
/// into pieces.
pub(super) fn in_regions<C: Send>(
    dims: Dims,
    per_channel: &mut [C],
    job: impl Fn(Region, &mut [C]) + Sync,
) {
    let columns = if dims.has_long_runs() { 1 } else { COLUMNS };
    let group = (TASK / dims.values_per_channel().max(1))
        .max(columns.div_ceil(dims.inner.max(1)))
        .clamp(1, dims.channels.max(1));
    let groups = dims.channels.div_ceil(group);
    if groups < GROUPS || dims.len() < 2 * TASK {
        job(all_channels(dims), per_channel);
    } else {
        let chunks = per_channel.chunks_mut(group).enumerate();
        share(chunks, |(index, chunk)| {
            let first = index * group;
            let region = Region {
                dims,
                channels: first..first + chunk.len(),
                pieces: 1,
            };
            job(region, chunk);
        });
    }
}

/// All channels as one region, in pieces for several threads.
pub(super) fn all_channels(dims: Dims) -> Region {
    Region {
        dims,
        channels: 0..dims.channels,
        pieces: (dims.len() / TASK).clamp(1, 4 * GROUPS),
    }
}
