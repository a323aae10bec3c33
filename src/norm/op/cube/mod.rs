//! Kernels for the GPU backends of CubeCL: wgpu, Vulkan, Metal, WebGPU, CUDA, ROCm.
//!
//! Passes over the input dominate the time, so there are as few as possible. If one cube can process all values of a
//! channel, a single kernel does the work. It keeps the values in registers if all of them fit, and otherwise reads
//! them a second time, from the cache. For more values, several cubes share a channel, and a kernel merges their
//! results:
//!
//! ```text
//! forward, one kernel (forward_whole)        forward, several cubes per channel
//!
//!   for each channel, in parallel:             forward_parts: for each part of each channel:
//!     moments of each unit's values              moments of each unit's values
//!     merge them over the units                  merge them over the units
//!     mean, variance -> memory                   moments -> memory
//!     for each value x:                        forward_merge: for each channel:
//!       y = (x - mean) * scale + beta            merge the parts; mean, variance -> memory
//!                                              apply: for each value: y, as on the left
//!
//!   scale = gamma / sqrt(variance + epsilon)
//!   y: the residual r is added, if there is one; then y passes through the activation, if one follows
//!
//! backward, one kernel (backward_whole)      backward, several cubes per channel
//!
//!   for each channel, in parallel:             forward_scale (for an activation): scale of each channel
//!     sums of each unit's dy, dy * (x - mean)  backward_parts: sums of each part -> memory
//!     add them over the units                  backward_merge: add the parts; dgamma, dbeta -> memory
//!     dgamma, dbeta -> memory                  backward_apply: for each value: dx, as on the left
//!     for each value: dx from dy, x, the sums
//!
//!   dy: the gradient that passes the activation, computed from x and r; if there is an r, the loops that add up also
//!       write it, as dr
//! ```
//!
//! On devices with fences between cubes, the last cube of a channel merges the parts: `forward_joint` does the work of
//! `forward_parts` and `forward_merge`, `backward_joint` that of all backward kernels before `backward_apply`.
//!
//! Inference is `apply` alone. If nobody else holds the overwritten tensor, the output of inference overwrites its
//! input, and the gradient of the residual, or else that of the input, overwrites the gradient of the output. Without
//! an activation, the gradient of the residual is that of the output, and no kernel sees the residual.
//!
//! | file | content |
//! | --- | --- |
//! | `plan` | divides a tensor among cubes and units |
//! | `launch` | allocates outputs and launches kernels; says why that is sound |
//! | `index` | the part of a tensor that a unit processes; a diagram of a cube |
//! | `joint` | how the last of several cubes knows that the others are done |
//! | `affine` | the function from an input to its output, and the activation's gate |
//! | `forward`, `backward` | the kernels |
//! | `average` | the kernel that updates running statistics |
//! | `cost` | what they cost: launches, bytes moved, shared memory |
//!
//! CUDA and ROCm pad rows of the last axis to a power of two. The kernels take such tensors, and views with the same
//! layout, without a copy.

mod affine;
mod average;
mod backward;
pub mod cost;
mod forward;
mod index;
mod joint;
mod launch;
mod plan;

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::average::RunningAverageBackend;
use super::layout::{Dims, Order, Rows, Strided, check};
use super::then::impl_batch_norm_by_then;
use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward,
    BatchNormThenGradients, FusedActivation, Tail, TailActivation, portable,
};
use launch::Job;
use plan::Plan;

impl Strided for CubeBackend {
    const TAKES_PITCH: bool = true;

    fn strides(tensor: &CubeTensor) -> Vec<isize> {
        let strides = tensor.meta.strides();
        strides.iter().map(|&stride| stride as isize).collect()
    }

    fn contiguous(tensor: CubeTensor) -> CubeTensor {
        into_contiguous(tensor)
    }
}

impl_batch_norm_by_then!(CubeBackend);

/// Tensors that no plan fits go through `portable`: empty ones, those with more channels than a grid has cubes, or with
/// a residual on a device with too few bindings. So do sigmoid, tanh and SiLU, which [`Then`](super::Then) leaves to
/// Burn.
impl BatchNormThenBackend for CubeBackend {
    fn batch_norm_then_forward(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
        parts: usize,
    ) -> BatchNormForward<Self> {
        let residual = residual.tensor();
        let activation = activation(tail, parts);
        let like_input: Vec<_> = residual.iter().collect();
        check::<Self>(&input, &like_input, &[&affine.gamma, &affine.beta]);
        let laid = Laid::new(input, [residual]);
        let Some(plan) = laid.plan(activation) else {
            let (input, [residual]) = laid.undo();
            return portable::forward::<Self>(input, affine, residual, epsilon, activation);
        };
        let [residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation,
        };
        let result = launch::forward(job, residual, [affine.gamma, affine.beta]);
        BatchNormForward {
            output: laid.order.undo::<Self>(result.output),
            ..result
        }
    }

    fn batch_norm_then_backward(
        saved: BatchNormThenBackward<Self>,
        epsilon: f64,
        frozen: bool,
        tail: Tail,
        parts: usize,
    ) -> BatchNormThenGradients<Self> {
        let BatchNormThenBackward {
            input,
            gradient,
            residual,
            affine,
            statistics,
        } = saved;
        let mut residual = residual.tensor();
        let activation = activation(tail, parts);
        let like_input: Vec<_> = [&gradient].into_iter().chain(&residual).collect();
        check::<Self>(
            &input,
            &like_input,
            &[
                &affine.gamma,
                &affine.beta,
                &statistics.mean,
                &statistics.mean_rest,
                &statistics.variance,
            ],
        );
        // Without an activation, the residual has the gradient of the output.
        let mut for_residual = None;
        if activation == TailActivation::None && residual.take().is_some() {
            for_residual = Some(gradient.clone());
        }
        let laid = Laid::new(input, [Some(gradient), residual]);
        let Some(plan) = laid.plan(activation) else {
            let (input, [gradient, residual]) = laid.undo();
            let saved = BatchNormBackward {
                input,
                gradient: gradient.expect("it was given"),
                affine,
                statistics,
            };
            let (found, gated) =
                portable::backward::<Self>(saved, residual, epsilon, frozen, activation);
            return BatchNormThenGradients {
                input: found.input,
                gamma: found.gamma,
                beta: found.beta,
                residual: gated.or(for_residual).into(),
            };
        };
        let [gradient, residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation,
        };
        let result = launch::backward(
            job,
            gradient.expect("it was given"),
            residual,
            [affine.gamma, affine.beta],
            statistics,
            frozen,
        );
        let gated = result.residual.tensor();
        BatchNormThenGradients {
            input: laid.order.undo::<Self>(result.input),
            gamma: result.gamma,
            beta: result.beta,
            residual: gated
                .map(|it| laid.order.undo::<Self>(it))
                .or(for_residual)
                .into(),
        }
    }

    fn batch_norm_then_inference(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        moments: BatchNormMoments<Self>,
        residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
    ) -> FloatTensor<Self> {
        let residual = residual.tensor();
        let activation = activation(tail, 1);
        let like_input: Vec<_> = residual.iter().collect();
        let BatchNormMoments { mean, variance } = &moments;
        let per_channel = [&affine.gamma, &affine.beta, mean, variance];
        check::<Self>(&input, &like_input, &per_channel);
        let laid = Laid::new(input, [residual]);
        let Some(plan) = laid.plan(activation) else {
            let (input, [residual]) = laid.undo();
            return portable::inference::<Self>(
                input, affine, moments, residual, epsilon, activation,
            );
        };
        let [residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation,
        };
        let output = launch::inference(
            job,
            residual,
            [affine.gamma, affine.beta],
            [moments.mean, moments.variance],
        );
        laid.order.undo::<Self>(output)
    }
}

/// The activation, which is all that the kernels do of a tail.
///
/// # Panics
///
/// If there is more: `Then` leaves poolings to Burn, and the caller divides a batch.
fn activation(tail: Tail, parts: usize) -> TailActivation {
    assert!(
        tail.pooling.is_none() && parts == 1,
        "on a GPU, batch norm takes no pooling and a batch of one part, found {:?} and {parts} parts",
        tail.pooling
    );
    tail.activation
}

/// The input and `N` tensors of its shape, all in one memory order, with the same gaps between their rows.
struct Laid<const N: usize> {
    order: Order,
    input: CubeTensor,
    others: [Option<CubeTensor>; N],
    dims: Dims,
    rows: Option<Rows>,
}

impl<const N: usize> Laid<N> {
    fn new(input: CubeTensor, others: [Option<CubeTensor>; N]) -> Self {
        let order = Order::of::<CubeBackend>(&input);
        let (mut input, mut rows) = order.apply::<CubeBackend>(input);
        let laid = others.map(|it| it.map(|tensor| order.apply::<CubeBackend>(tensor)));
        let even = laid.iter().flatten().all(|(_, found)| *found == rows);
        let mut others = laid.map(|it| it.map(|(tensor, _)| tensor));
        if !even {
            input = into_contiguous(input);
            others = others.map(|it| it.map(into_contiguous));
            rows = None;
        }
        let dims = order.dims::<CubeBackend>(&input);
        Self {
            order,
            input,
            others,
            dims,
            rows,
        }
    }

    /// `None` if the kernels cannot do it.
    fn plan(&self, activation: TailActivation) -> Option<Plan> {
        if activation.is_smooth() {
            return None;
        }
        // The last of the others is the residual.
        let residual = matches!(self.others.last(), Some(Some(_)));
        let dtype = self.input.dtype;
        Plan::new(&self.input.client, dtype, self.dims, self.rows, residual)
    }

    /// The tensors in their natural order.
    fn undo(self) -> (CubeTensor, [Option<CubeTensor>; N]) {
        let undo = |tensor| self.order.undo::<CubeBackend>(tensor);
        (undo(self.input), self.others.map(|it| it.map(undo)))
    }
}

impl RunningAverageBackend for CubeBackend {
    fn running_average(
        running: BatchNormMoments<Self>,
        batch: BatchNormMoments<Self>,
        gain: f64,
        correction: f64,
    ) -> BatchNormMoments<Self> {
        launch::average(running, batch, gain, correction)
    }
}
