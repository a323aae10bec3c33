//! What the kernels cost: launches, bytes moved, shared memory.
//!
//! Plain arithmetic on a `Plan`, for benchmarks and for tests: `tests/cost.rs` holds it against the kernels that run.
//! Whoever changes a kernel or a plan changes this file too.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device};

use super::plan::Plan;
use crate::dtype::at_least_f32;
use crate::norm::op::layout::Dims;

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
        self.passes_read * self.bytes_per_pass + self.channel_reads * self.bytes_per_channel_value
    }

    /// Bytes that the kernel writes.
    pub fn bytes_written(&self) -> usize {
        self.passes_written * self.bytes_per_pass
            + self.channel_writes * self.bytes_per_channel_value
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
    let plan = Plan::new(&device.client(), dtype, dims, None, to_kernels.residual)?;
    Some(plan.launches(dtype, operation, to_kernels))
}

/// What a kernel does with its tensors, in the numbers of [`Launch`].
struct Kernel {
    name: &'static str,
    /// Reads and writes.
    passes: [usize; 2],
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
    /// What the kernels of an operation are given: without an activation, those of the backward pass take no residual.
    fn to_kernels(self, operation: Operation) -> Self {
        Self {
            residual: self.residual && (self.activation || operation != Operation::Backward),
            ..self
        }
    }
}

impl Plan {
    fn launches(&self, dtype: DType, operation: Operation, extras: Extras) -> Vec<Launch> {
        let kernel = |name, passes, per_channel| Kernel {
            name,
            passes,
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
        let on_input = |kernel| self.launch(kernel, dtype, dtype);
        let of_parts = |kernel| self.of_parts().launch(kernel, dtype, at_least_f32(dtype));
        let [residual, activation] = [extras.residual, extras.activation].map(usize::from);
        // Of so many tensors, which are read once if they are held, else twice.
        let whole = |kernel: Kernel, tensors| {
            let held = self.held(tensors);
            let reads = if held > 0 { tensors } else { 2 * tensors };
            on_input(Kernel {
                passes: [kernel.passes[0] + reads, kernel.passes[1] + 1],
                held,
                ..kernel
            })
        };
        match operation {
            Operation::Inference => vec![on_input(kernel("Apply", [1 + residual, 1], [4, 0]))],
            Operation::Average => vec![of_parts(kernel("Average", [0, 0], [4, 2]))],
            Operation::Forward if self.single_kernel => {
                let kernel = kernel("ForwardWhole", [residual, 0], [2, 3]);
                vec![whole(with_mean(kernel), 1)]
            }
            Operation::Forward if self.joint => vec![
                on_input(joint(with_mean(kernel("ForwardJoint", [1, 0], [4, 4 + 3])))),
                on_input(kernel("Apply", [1 + residual, 1], [5, 0])),
            ],
            Operation::Forward => vec![
                on_input(merging(kernel("ForwardParts", [1, 0], [0, 4]))),
                of_parts(with_mean(kernel("ForwardMerge", [4, 0], [0, 3]))),
                on_input(kernel("Apply", [1 + residual, 1], [5, 0])),
            ],
            Operation::Backward if self.single_kernel => {
                // Reads the residual, writes its gradient.
                let kernel = kernel("BackwardWhole", [residual; 2], [5, 2]);
                vec![whole(adding(kernel), 2)]
            }
            Operation::Backward if self.joint => {
                let per_channel = [5 + 2 + 3, 2 + 6];
                let sums = kernel("BackwardJoint", [2 + residual, residual], per_channel);
                vec![
                    on_input(joint(adding(sums))),
                    on_input(kernel("BackwardApply", [2, 1], [6, 0])),
                ]
            }
            Operation::Backward => {
                let scale = kernel("ForwardScale", [0, 0], [2, 1]);
                let scale = extras.activation.then(|| of_parts(scale));
                let per_channel = [2 + 2 * activation, 2];
                let sums = kernel("BackwardParts", [2 + residual, residual], per_channel);
                let rest = [
                    on_input(adding(sums)),
                    of_parts(adding(kernel("BackwardMerge", [2, 0], [3, 6]))),
                    on_input(kernel("BackwardApply", [2, 1], [6, 0])),
                ];
                scale.into_iter().chain(rest).collect()
            }
        }
    }

    /// A launch by this plan. `values` is the type of the tensor that the loops go through.
    fn launch(&self, kernel: Kernel, dtype: DType, values: DType) -> Launch {
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
            bytes_per_pass: self.channels() * self.values_per_channel() * values.size(),
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
