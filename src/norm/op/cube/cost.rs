//! What the kernels cost: launches, bytes moved, shared memory.
//!
//! Plain arithmetic on a `Plan`, for benchmarks and for tests: `tests/cost.rs` holds it against the kernels that run.
//! Whoever changes a kernel or a plan changes this file too.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device};

use super::plan::Plan;
use crate::dtype::at_least_f32;
use crate::norm::op::layout::Dims;
use crate::norm::op::{Pooling, PoolingKind};

/// An operation on one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Normalises by the statistics of the batch.
    Forward,
    /// Computes the gradients of `Forward` or `Inference`.
    Backward,
    /// Normalises by given statistics.
    Inference,
    /// Updates the running statistics by those of the batch.
    Average,
}

/// What the kernels do besides normalising.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// A residual is added.
    pub residual: bool,
    /// An activation is applied, after the residual.
    pub activation: bool,
    /// Images are pooled, after the activation.
    pub pooling: Option<Pooling>,
}

/// One launch of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel's name.
    pub kernel: &'static str,
    /// Tensors that a unit reads in a step of its loops, all loops together: passes.
    ///
    /// If a unit's first value is an outlier, the forward kernels read the input once more, unless it is held.
    pub passes_read: usize,
    /// Tensors that it writes in a step.
    pub passes_written: usize,
    /// Bytes of a tensor that the loops go through: the input, or the results of the parts.
    pub bytes_per_pass: usize,
    /// The same for tensors of the pooled output's shape: those of floats, then those that say where maxima lie.
    ///
    /// A unit reads a value of the input for each window that holds it, and a value of these for each value of its
    /// window; all but the first time from the cache.
    pub pooled_read: [usize; 2],
    /// Those that are written.
    pub pooled_written: [usize; 2],
    /// Bytes of such a tensor.
    pub bytes_per_pooled_pass: [usize; 2],
    /// Values per channel that a cube reads outside its loops, or at most, if only the last cube reads some of them.
    pub channel_reads: usize,
    /// Values per channel that a cube writes, or at most, if only the last cube writes some of them.
    pub channel_writes: usize,
    /// Bytes of one value per channel, for all cubes that share the channels.
    pub bytes_per_channel_value: usize,
    /// Bytes of shared memory of a cube.
    pub shared_memory: usize,
    /// Vectors of each tensor that a unit keeps in registers between its loops; 0 if it reads them again.
    pub held: usize,
}

impl Launch {
    /// Bytes that the kernel reads.
    ///
    /// What units of a cube read together counts once, and so does what a unit reads twice in a row.
    pub fn bytes_read(&self) -> usize {
        self.passes_read * self.bytes_per_pass
            + self.of_pooled(self.pooled_read)
            + self.channel_reads * self.bytes_per_channel_value
    }

    /// Bytes that the kernel writes.
    pub fn bytes_written(&self) -> usize {
        self.passes_written * self.bytes_per_pass
            + self.of_pooled(self.pooled_written)
            + self.channel_writes * self.bytes_per_channel_value
    }

    fn of_pooled(&self, [floats, places]: [usize; 2]) -> usize {
        floats * self.bytes_per_pooled_pass[0] + places * self.bytes_per_pooled_pass[1]
    }
}

/// The launches of an operation on a contiguous input `[batch, channels, ...]`. `None` if the device has no kernels for
/// it.
pub fn launches(
    device: &Device,
    shape: &[usize],
    dtype: DType,
    operation: Operation,
    extras: Extras,
) -> Option<Vec<Launch>> {
    let device = device.clone().without_autodiff();
    #[allow(irrefutable_let_patterns)]
    let DispatchDevice::Cube(device) = device.as_dispatch() else {
        return None;
    };
    let dims = Dims::of(shape, 1);
    let to_kernels = extras.to_kernels(operation);
    let plan = Plan::new(
        &device.client(),
        dtype,
        dims,
        None,
        to_kernels.residual,
        to_kernels.pooling,
    )?;
    Some(plan.launches(dtype, operation, to_kernels))
}

/// What a kernel does with its tensors, in the numbers of [`Launch`].
#[derive(Clone, Copy)]
struct Kernel {
    name: &'static str,
    /// Reads and writes.
    passes: [usize; 2],
    /// Reads and writes of pooled tensors: floats, and places of maxima.
    pooled: [[usize; 2]; 2],
    /// Reads and writes.
    per_channel: [usize; 2],
    /// Vectors, then single values, of shared memory per unit and per lane.
    per_unit: [usize; 2],
    vectors_per_lane: usize,
    held: usize,
    /// Whether the last cube merges the parts.
    joint: bool,
}

impl Extras {
    /// What the kernels of an operation are given: if nothing follows it, those of the backward pass take no residual.
    fn to_kernels(self, operation: Operation) -> Self {
        let is_last = !self.activation && self.pooling.is_none();
        Self {
            residual: self.residual && !(is_last && operation == Operation::Backward),
            ..self
        }
    }
}

impl Plan {
    fn launches(&self, dtype: DType, operation: Operation, extras: Extras) -> Vec<Launch> {
        let kernel = |name, passes, per_channel| Kernel {
            name,
            passes,
            pooled: [[0, 0]; 2],
            per_channel,
            per_unit: [0, 0],
            vectors_per_lane: 0,
            held: 0,
            joint: false,
        };
        // Units share their moments: three vectors and a count; a lane shares its mean.
        let merging = |kernel: Kernel| Kernel {
            per_unit: [3, 1],
            ..kernel
        };
        let with_mean = |kernel: Kernel| Kernel {
            vectors_per_lane: 1,
            ..merging(kernel)
        };
        // Units share two sums.
        let adding = |kernel: Kernel| Kernel {
            per_unit: [2, 0],
            ..kernel
        };
        // What only the last cube reads and writes counts for every cube.
        let joint = |kernel: Kernel| Kernel {
            joint: true,
            ..kernel
        };
        let of_output = extras.pooling.map(|pooling| self.of_pooled(pooling));
        let values_of_output = of_output.as_ref().map_or(0, Plan::values);
        let on_input = |kernel| self.launch(kernel, dtype, dtype, values_of_output);
        // Reads and writes a value per channel in each cube of the output.
        let on_output = |kernel| {
            of_output.as_ref().map_or(on_input(kernel), |plan| Launch {
                bytes_per_channel_value: plan
                    .launch(kernel, dtype, dtype, 0)
                    .bytes_per_channel_value,
                ..on_input(kernel)
            })
        };
        let of_parts = |kernel| {
            self.of_parts()
                .launch(kernel, dtype, at_least_f32(dtype), 0)
        };
        let is_pooled = usize::from(extras.pooling.is_some());
        let has_maxima = extras.pooling.is_some_and(|it| it.kind == PoolingKind::Max);
        let maxima = usize::from(has_maxima);
        let [residual, activation] = [extras.residual, extras.activation].map(usize::from);
        // Writes the output.
        let writing = |kernel: Kernel| Kernel {
            passes: [kernel.passes[0], kernel.passes[1] + 1 - is_pooled],
            pooled: [[0, 0], [is_pooled, 0]],
            ..kernel
        };
        // Reads the gradient of the output so many times.
        let reading = |kernel: Kernel, times: usize| match is_pooled {
            0 => Kernel {
                passes: [kernel.passes[0] + times, kernel.passes[1]],
                ..kernel
            },
            _ => Kernel {
                pooled: [[times, times * maxima], [0, 0]],
                ..kernel
            },
        };
        let apply =
            |per_channel| on_output(writing(kernel("Apply", [1 + residual, 0], per_channel)));
        // A residual whose gate is computed is read; its gradient is written, and read there if it is not held.
        let gate = residual * activation;
        let choose = || {
            on_output(Kernel {
                pooled: [[0, 0], [0, 1]],
                ..kernel("Choose", [1 + residual, 0], [5, 0])
            })
        };
        let backward_apply = || {
            let given = kernel("BackwardApply", [1, 1], [6, 0]);
            on_input(match residual {
                0 => reading(given, 1),
                _ => Kernel {
                    passes: [2, 1],
                    ..given
                },
            })
        };
        let launches = match operation {
            Operation::Inference => vec![apply([4, 0])],
            Operation::Average => vec![of_parts(kernel("Average", [0, 0], [4, 2]))],
            Operation::Forward if self.single_kernel => {
                let held = self.held_forward(extras.pooling.is_some());
                let reads = if held > 0 { 1 } else { 2 };
                let kernel = writing(kernel("ForwardWhole", [reads + residual, 0], [2, 3]));
                vec![on_input(with_mean(Kernel { held, ..kernel }))]
            }
            Operation::Forward if self.joint => vec![
                on_input(joint(with_mean(kernel("ForwardJoint", [1, 0], [4, 4 + 3])))),
                apply([5, 0]),
            ],
            Operation::Forward => vec![
                on_input(merging(kernel("ForwardParts", [1, 0], [0, 4]))),
                of_parts(with_mean(kernel("ForwardMerge", [4, 0], [0, 3]))),
                apply([5, 0]),
            ],
            Operation::Backward if self.single_kernel => {
                let held = self.held(2);
                let times = if held > 0 { 1 } else { 2 };
                // What has passed the activation is read where it was written.
                let again = if held > 0 { 0 } else { residual };
                let kernel = kernel(
                    "BackwardWhole",
                    [times + gate + again, 1 + residual],
                    [5, 2],
                );
                vec![on_input(adding(Kernel {
                    held,
                    ..reading(kernel, times - again)
                }))]
            }
            Operation::Backward if self.joint => {
                let per_channel = [5 + 2 + 3, 2 + 6];
                let sums = kernel("BackwardJoint", [1 + gate, residual], per_channel);
                vec![on_input(joint(adding(reading(sums, 1)))), backward_apply()]
            }
            Operation::Backward => {
                let scale = kernel("ForwardScale", [0, 0], [2, 1]);
                let scale = extras.activation.then(|| of_parts(scale));
                let per_channel = [2 + 2 * activation, 2];
                let sums = kernel("BackwardParts", [1 + gate, residual], per_channel);
                let rest = [
                    on_input(adding(reading(sums, 1))),
                    of_parts(adding(kernel("BackwardMerge", [2, 0], [3, 6]))),
                    backward_apply(),
                ];
                scale.into_iter().chain(rest).collect()
            }
        };
        match operation {
            Operation::Backward if has_maxima => [choose()].into_iter().chain(launches).collect(),
            _ => launches,
        }
    }

    /// A launch by this plan. `values` is the type of the tensor that the loops go through; the output of a pooling has
    /// `pooled` values.
    fn launch(&self, kernel: Kernel, dtype: DType, values: DType, pooled: usize) -> Launch {
        let of_statistics = at_least_f32(dtype).size();
        let vector = self.vector * of_statistics;
        let of_units = |vector| {
            let [vectors, singles] = kernel.per_unit;
            self.tile.units() * (vectors * vector + singles * of_statistics)
        };
        // The last cube merges vectors of channels, or single values, in shared memory of its own, and has a counter.
        let merged = if self.tile.across {
            vector
        } else {
            of_statistics
        };
        let [of_parts, of_lane] = match kernel.joint {
            true => [of_units(merged) + size_of::<u32>(), merged],
            false => [0, vector],
        };
        Launch {
            kernel: kernel.name,
            passes_read: kernel.passes[0],
            passes_written: kernel.passes[1],
            pooled_read: kernel.pooled[0],
            pooled_written: kernel.pooled[1],
            bytes_per_pooled_pass: [values.size(), size_of::<u32>()].map(|size| size * pooled),
            bytes_per_pass: self.values() * values.size(),
            channel_reads: kernel.per_channel[0],
            channel_writes: kernel.per_channel[1],
            bytes_per_channel_value: self.channels() * self.parts * of_statistics,
            shared_memory: of_units(vector)
                + of_parts
                + self.tile.lanes * kernel.vectors_per_lane * of_lane,
            held: kernel.held,
        }
    }
}
