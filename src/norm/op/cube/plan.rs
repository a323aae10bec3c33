//! Divides a tensor among cubes and units.

use burn::tensor::DType;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;

use super::index::{ExtentLaunch, Tile};
use super::joint;
use crate::dtype::at_least_f32;
use crate::norm::op::layout::{Dims, Rows};
use crate::norm::op::{Pooling, PoolingKind};

/// Units of a cube.
pub const UNITS: usize = 256;
/// Bytes that the lanes of a cube read side by side.
const LINE: usize = 128;
/// The widest vector, in bytes of the statistics' type. Three vectors per unit must fit into the 16 KiB of shared
/// memory that every device has.
const VECTOR: usize = 16;
/// Vectors that one unit reads alone, before a channel is divided among cubes.
const ALONE: usize = 16;
/// Vectors that one unit keeps in registers. In f32 they take 64 of the 255 that each of 256 units can have.
const HELD: usize = 16;
/// The fewest vectors per unit of a channel that is divided.
const TOGETHER: usize = 4;
/// Cubes that fill any device.
const CUBES: usize = 1024;
/// The most tensors that the kernel of a whole operation takes, then those that work on parts of a channel, then those
/// that merge the parts too. Their scalars take one more binding.
const MOST_TENSORS: [u32; 3] = [10, 7, 12];
/// Tensors that a residual adds: itself and its gradient.
const OF_RESIDUAL: u32 = 2;
/// Tensors that the pooling of maxima adds: where they lie.
const OF_MAXIMA: u32 = 1;

/// How the values of a tensor are divided among cubes and units.
pub struct Plan {
    dims: Dims,
    /// The rows of the tensor, if there are gaps between them.
    rows: Option<Rows>,
    pub tile: Tile,
    /// Values of a vector.
    pub vector: usize,
    /// Cubes that share the values of a channel.
    pub parts: usize,
    /// Whether one kernel does the whole operation: one cube has all values of a channel, and the device has enough
    /// bindings.
    pub single_kernel: bool,
    /// Whether the last of the cubes that share a channel merges what they found.
    pub joint: bool,
}

impl Plan {
    /// Plans an operation on a tensor of the client's device, with a residual or without, and with a pooling or without.
    /// None if the tensor is empty, or has more channels than a grid has cubes, or if the device has too few bindings.
    pub fn new(
        client: &Client,
        dtype: DType,
        dims: Dims,
        rows: Option<Rows>,
        residual: bool,
        pooling: Option<Pooling>,
    ) -> Option<Self> {
        if dims.len() == 0 {
            return None;
        }
        let across = dims.inner == 1 && dims.channels > 1;
        let side_by_side = if across { dims.channels } else { dims.inner };
        let [side_by_side, pitch] = match rows {
            Some(rows) => [rows.len, rows.pitch],
            None => [side_by_side; 2],
        };
        let widest = match pooling {
            // Windows divide the values of a row.
            Some(_) if !across => 1,
            _ => VECTOR / at_least_f32(dtype).size(),
        };
        let vector = client
            .io_optimized_vector_sizes(dtype.size())
            .filter(|&vector| vector <= widest)
            .filter(|&vector| side_by_side.is_multiple_of(vector) && pitch.is_multiple_of(vector))
            .max()
            .unwrap_or(1);
        let hardware = &client.properties().hardware;
        let of_residual = if residual { OF_RESIDUAL } else { 0 };
        let of_pooling = match pooling {
            Some(pooling) if pooling.kind == PoolingKind::Max => OF_MAXIMA,
            _ => 0,
        };
        let more = of_residual + of_pooling;
        let [whole_fits, part_fits, joint_fits] =
            MOST_TENSORS.map(|tensors| hardware.max_bindings > tensors + more);
        // Without more, the kernels of parts fit: every device has 8 bindings.
        if more > 0 && !part_fits {
            return None;
        }
        let units = UNITS.min(prior_power_of_two(hardware.max_units_per_cube as usize));
        let lanes = if across {
            let of_line = LINE / dtype.size() / vector;
            of_line
                .min((dims.channels / vector).next_power_of_two())
                .min(units)
        } else {
            1
        };
        let tile = Tile {
            across,
            // If each row holds one channel, or many channels, the strides alone describe the gaps.
            pitched: !across && rows.is_some_and(|rows| rows.len < dims.inner),
            lanes,
            units_per_lane: units / lanes,
        };
        let mut plan = Plan {
            dims,
            rows,
            tile,
            vector,
            parts: 1,
            single_kernel: whole_fits,
            joint: false,
        };
        if plan.vectors_per_channel() > tile.units_per_lane * ALONE {
            plan.parts = plan.useful_parts();
            plan.single_kernel &= plan.parts == 1;
            plan.joint = plan.parts > 1 && joint_fits && joint::is_possible(client);
        }
        let groups = plan.groups().max(plan.of_parts().groups());
        let (most_groups, most_parts, _) = hardware.max_cube_count;
        let fits = groups <= most_groups as usize && plan.parts <= most_parts as usize;
        fits.then_some(plan)
    }

    /// The plan for the output of a pooling. It has the same groups of channels.
    pub fn of_pooled(&self, pooling: Pooling) -> Plan {
        let [of_image, of_output] =
            [pooling.input, pooling.output].map(|[rows, columns]| rows * columns);
        let pooled = |len: usize| len / of_image * of_output;
        let Dims {
            outer,
            channels,
            inner,
        } = self.dims;
        let (outer, inner) = match self.tile.across {
            true => (pooled(outer), inner),
            false => (outer, pooled(inner)),
        };
        let mut plan = Plan {
            dims: Dims {
                outer,
                channels,
                inner,
            },
            rows: None,
            tile: self.tile.dense(),
            ..*self
        };
        plan.parts = plan.useful_parts();
        plan
    }

    /// The plan for merging the `[parts, channels]` results of the parts.
    pub fn of_parts(&self) -> Plan {
        let units = self.tile.units();
        let lanes = self.dims.channels.next_power_of_two().min(32).min(units);
        Plan {
            dims: Dims {
                outer: self.parts,
                channels: self.dims.channels,
                inner: 1,
            },
            rows: None,
            tile: Tile {
                across: true,
                pitched: false,
                lanes,
                units_per_lane: units / lanes,
            },
            vector: 1,
            parts: 1,
            single_kernel: true,
            joint: false,
        }
    }

    /// Vectors of each of so many tensors that a unit keeps in registers, if a single kernel does the whole operation.
    /// A power of two, so that few kernels are compiled; 0 if they are too many.
    pub fn held(&self, tensors: usize) -> usize {
        let vectors = self.vectors_per_channel();
        let steps = vectors.div_ceil(self.tile.units_per_lane);
        match steps.next_power_of_two() {
            held if held * tensors <= HELD => held,
            _ => 0,
        }
    }

    /// Vectors of the input that a unit keeps in registers in the forward pass. None if the output is pooled: the values
    /// of a window are not those that one unit holds.
    pub fn held_forward(&self, is_pooled: bool) -> usize {
        if is_pooled { 0 } else { self.held(1) }
    }

    /// Cubes that share a channel, if each of their units is to have enough to do.
    fn useful_parts(&self) -> usize {
        let useful = self.vectors_per_channel() / (self.tile.units_per_lane * TOGETHER);
        CUBES.div_ceil(self.groups()).min(useful).max(1)
    }

    /// Channels of the tensor.
    pub fn channels(&self) -> usize {
        self.dims.channels
    }

    /// Values of a channel.
    pub fn values_per_channel(&self) -> usize {
        self.dims.values_per_channel()
    }

    /// Values of the tensor.
    pub fn values(&self) -> usize {
        self.dims.len()
    }

    /// The rows of the tensor, if there are gaps between them.
    pub fn rows(&self) -> Option<Rows> {
        self.rows
    }

    pub fn extent(&self) -> ExtentLaunch {
        let Dims {
            channels, inner, ..
        } = self.dims;
        let rows = self.rows.unwrap_or_else(|| {
            let len = if self.tile.across { channels } else { inner };
            Rows { len, pitch: len }
        });
        let vectors = |values: usize| values / self.vector;
        let (channel_stride, outer_stride, inner) = if self.tile.across {
            (1, vectors(rows.pitch), 1)
        } else {
            let channel_stride = vectors(inner / rows.len * rows.pitch);
            (channel_stride, channels * channel_stride, vectors(inner))
        };
        ExtentLaunch::new(
            self.vectors_of_channels(),
            channel_stride,
            outer_stride,
            inner,
            vectors(rows.len),
            vectors(rows.pitch),
            self.vectors_per_channel(),
        )
    }

    /// The grid: groups of channels by parts of their values.
    pub fn cubes(&self) -> CubeCount {
        CubeCount::new_2d(self.groups() as u32, self.parts as u32)
    }

    /// A grid with one unit per channel.
    pub fn cubes_for_channels(&self) -> CubeCount {
        CubeCount::new_1d(self.dims.channels.div_ceil(self.tile.units()) as u32)
    }

    /// The units of a cube.
    pub fn units(&self) -> CubeDim {
        CubeDim::new_1d(self.tile.units() as u32)
    }

    /// Channels, or vectors of channels.
    fn vectors_of_channels(&self) -> usize {
        if self.tile.across {
            self.dims.channels / self.vector
        } else {
            self.dims.channels
        }
    }

    /// Vectors of one channel, or of one vector of channels.
    fn vectors_per_channel(&self) -> usize {
        if self.tile.across {
            self.dims.outer
        } else {
            self.dims.values_per_channel() / self.vector
        }
    }

    /// Groups of channels that a cube processes at a time.
    pub fn groups(&self) -> usize {
        self.vectors_of_channels().div_ceil(self.tile.lanes)
    }
}

fn prior_power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}
