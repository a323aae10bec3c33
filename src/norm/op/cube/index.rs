//! How the units of a cube share the values of a tensor.
//!
//! A tensor is `[outer, channels, inner]`, read in vectors of `N` neighbouring values. The values of a vector belong to
//! neighbouring channels if `inner` is 1 ([`Tile::across`]), otherwise to one channel. Below, "channel" means one
//! channel, or one vector of channels.
//!
//! The grid has one cube per group of `lanes` channels (x) and per part of their values (y). In a cube, each lane
//! processes one channel, and `units_per_lane` units share its values:
//!
//! ```text
//!             lane 0   lane 1   lane 2   lane 3
//!   rank 0    unit 0   unit 1   unit 2   unit 3     reads vectors 0, S, 2S, ... of its channel
//!   rank 1    unit 4   unit 5   unit 6   unit 7     reads vectors 1, S+1, 2S+1, ...
//!   rank 2    unit 8   ...                          ...
//! ```
//!
//! `S` is the number of units that read one channel: `units_per_lane` times the number of parts. Units next to each
//! other therefore read memory next to each other: along a row if there are several lanes, else along a column.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// How the units of a cube are arranged. Known when a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Whether the values of a vector belong to neighbouring channels, rather than to one.
    pub across: bool,
    /// Whether the values of a channel at an outer position form rows with gaps between them.
    pub pitched: bool,
    /// Channels that a cube processes side by side.
    pub lanes: usize,
    /// Units that share the values of one lane. A power of two.
    pub units_per_lane: usize,
}

impl Tile {
    /// The number of units in a cube.
    pub fn units(&self) -> usize {
        self.lanes * self.units_per_lane
    }

    /// The same for a tensor without gaps between its rows.
    pub fn dense(self) -> Self {
        Self {
            pitched: false,
            ..self
        }
    }
}

/// Shape and strides of a tensor, in vectors.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Extent {
    /// Number of channels.
    pub channels: usize,
    /// Distance from one channel to the next.
    pub channel_stride: usize,
    /// Distance from one outer position to the next.
    pub outer_stride: usize,
    /// Vectors of one channel at one outer position.
    pub inner: usize,
    /// Vectors in one row of those; used if they are pitched.
    pub row_len: usize,
    /// Distance from one row to the next; used if they are pitched.
    pub row_pitch: usize,
    /// Vectors of one channel in all.
    pub vectors_per_channel: usize,
}

/// The part of a tensor that one unit reads and writes.
#[derive(CubeType, Clone, Copy)]
#[expand(derive(Clone, Copy))]
pub struct Share {
    /// The unit's channel. Always a valid one, so that it can be loaded.
    pub channel: usize,
    /// Whether this unit writes the results of its channel.
    pub leads: bool,
    /// Rank of the unit within its lane.
    pub rank: usize,
    /// The first vector of the channel that the unit reads.
    pub first: usize,
    /// Distance to the next one.
    pub step: usize,
    /// Number of vectors that the unit reads. 0 if the lane has no channel: the last cube may have more lanes than
    /// there are channels.
    pub steps: usize,
    extent: Extent,
    /// The arrangement of the units.
    #[cube(comptime)]
    pub tile: Tile,
}

#[cube]
impl Share {
    /// The share of the unit that calls this.
    pub fn of_unit(extent: Extent, #[comptime] tile: Tile) -> Share {
        let unit = UNIT_POS as usize;
        let wanted = CUBE_POS_X as usize * tile.lanes + unit % tile.lanes;
        let active = wanted < extent.channels;
        let rank = unit / tile.lanes;
        let first = CUBE_POS_Y as usize * tile.units_per_lane + rank;
        let step = CUBE_COUNT_Y as usize * tile.units_per_lane;
        let end = select(active, extent.vectors_per_channel, 0);
        Share {
            channel: select(active, wanted, extent.channels - 1),
            leads: active && rank == 0,
            rank,
            first,
            step,
            steps: (max(end, first) - first).div_ceil(step),
            extent,
            tile,
        }
    }

    /// The position of the vector that the unit reads in its `at`-th step.
    pub fn position(&self, at: usize) -> usize {
        self.place(self.index(at))
    }

    /// The index of that vector among those of the channel.
    pub fn index(&self, at: usize) -> usize {
        self.first + at * self.step
    }

    /// The position of the channel's vector with this index.
    pub fn place(&self, index: usize) -> usize {
        let extent = self.extent;
        let mut within = index % extent.inner;
        if comptime!(self.tile.pitched) {
            within = within / extent.row_len * extent.row_pitch + within % extent.row_len;
        }
        index / extent.inner * extent.outer_stride + self.channel * extent.channel_stride + within
    }

    /// The distance in memory from the first vector of an image to the one with this index in the image.
    pub fn offset(&self, index: usize) -> usize {
        let extent = self.extent;
        let mut offset = index;
        if comptime!(self.tile.across) {
            offset *= extent.outer_stride;
        } else if comptime!(self.tile.pitched) {
            offset = index / extent.row_len * extent.row_pitch + index % extent.row_len;
        }
        offset
    }

    /// Reads the unit's share of a tensor, of at most `held` vectors, into registers.
    pub fn hold<T: Float, N: Size>(
        &self,
        tensor: &Tensor<Vector<T, N>>,
        #[comptime] held: usize,
    ) -> Array<Vector<T, N>> {
        let mut values = Array::<Vector<T, N>>::new(comptime!(held.max(1)));
        #[unroll]
        for at in 0..held {
            if at < self.steps {
                values[at] = tensor[self.position(at)];
            }
        }
        values
    }

    /// The values of the unit's channel in a tensor of one value per channel.
    pub fn load<P: Float, N: Size>(&self, source: &Tensor<P>) -> Vector<P, N> {
        self.load_at::<P, N>(source, 0)
    }

    /// The values of the unit's channel in `[.., channels]`, from `offset` on.
    pub fn load_at<P: Float, N: Size>(&self, source: &Tensor<P>, offset: usize) -> Vector<P, N> {
        let mut values = Vector::<P, N>::empty();
        if comptime!(self.tile.across) {
            #[unroll]
            for lane in 0usize..N::value() {
                values.insert(lane, source[offset + self.channel * N::value() + lane]);
            }
        } else {
            values = Vector::new(source[offset + self.channel]);
        }
        values
    }

    /// Stores the values of the unit's channel in a tensor of one value per channel.
    pub fn store<P: Float, N: Size>(&self, target: &mut Tensor<P>, values: Vector<P, N>) {
        self.store_at::<P, N>(target, 0, values);
    }

    /// Stores the values of the unit's channel in `[.., channels]`, from `offset` on.
    pub fn store_at<P: Float, N: Size>(
        &self,
        target: &mut Tensor<P>,
        offset: usize,
        values: Vector<P, N>,
    ) {
        if comptime!(self.tile.across) {
            #[unroll]
            for lane in 0usize..N::value() {
                target[offset + self.channel * N::value() + lane] = values.extract(lane);
            }
        } else {
            target[offset + self.channel] = values.extract(0usize);
        }
    }
}
