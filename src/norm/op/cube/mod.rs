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
//!   y: the residual r is added, if there is one; then y passes through the activation, if one follows. With a pooling,
//!      the last loop goes over the windows instead, reads their values, and writes one for each
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
//!       write it, as dr. With a pooling, each loop collects it from the windows that hold the value; for maxima, a
//!       kernel before these (choose) says which value each window took
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
//! | `pooling` | the windows of a pooling, there and back |
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
mod pooling;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::average::RunningAverageBackend;
use super::layout::{Dims, Order, Rows, Strided, check, check_gradient};
use super::then::impl_batch_norm_by_then;
use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward,
    BatchNormThenGradients, FusedActivation, Tail, portable,
};
use launch::{Job, PooledOutput};
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
/// a residual or a max pooling on a device with too few bindings. So do sigmoid, tanh and SiLU, which
/// [`Then`](super::Then) leaves to Burn.
impl BatchNormThenBackend for CubeBackend {
    fn batch_norm_then_forward(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        residual: BatchNormResidual<Self>,
        epsilon: f64,
        tail: Tail,
        parts: usize,
    ) -> BatchNormForward<Self> {
        assert_one_part(parts);
        let residual = residual.tensor();
        let like_input: Vec<_> = residual.iter().collect();
        check::<Self>(&input, &like_input, &[&affine.gamma, &affine.beta]);
        let laid = Laid::new(input, [residual], tail);
        let Some((plan, pooled)) = laid.plan() else {
            let (input, [residual]) = laid.undo();
            let result =
                portable::forward::<Self>(input, affine, residual, epsilon, tail.activation);
            return BatchNormForward {
                output: portable::pool::<Self>(result.output, tail.pooling),
                ..result
            };
        };
        let [residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation: tail.activation,
            pooled,
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
        assert_one_part(parts);
        let mut residual = residual.tensor();
        check::<Self>(
            &input,
            &residual.iter().collect::<Vec<_>>(),
            &[
                &affine.gamma,
                &affine.beta,
                &statistics.mean,
                &statistics.mean_rest,
                &statistics.variance,
            ],
        );
        check_gradient::<Self>(&input, &gradient, tail.output_shape(&input.shape()));
        // Where nothing follows, the residual has the gradient of the output.
        let mut for_residual = None;
        if tail == Tail::NOTHING && residual.take().is_some() {
            for_residual = Some(gradient.clone());
        }
        // The gradient of a pooled output is not shaped like the input.
        let (gradient, of_pooled) = match tail.pooling {
            None => (Some(gradient), None),
            Some(_) => (None, Some(gradient)),
        };
        let laid = Laid::new(input, [gradient, residual], tail);
        let Some((plan, pooled)) = laid.plan() else {
            let (input, [gradient, residual]) = laid.undo();
            let saved = BatchNormBackward {
                input,
                gradient: gradient.or(of_pooled).expect("it is one of them"),
                affine,
                statistics,
            };
            let (found, gated) =
                portable::pooled_backward::<Self>(saved, residual, epsilon, frozen, tail);
            return BatchNormThenGradients {
                input: found.input,
                gamma: found.gamma,
                beta: found.beta,
                residual: gated.or(for_residual).into(),
            };
        };
        let of_pooled = of_pooled.map(|gradient| laid.lay(gradient));
        let [gradient, residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation: tail.activation,
            pooled,
        };
        let result = launch::backward(
            job,
            gradient.or(of_pooled).expect("it is one of them"),
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
        let like_input: Vec<_> = residual.iter().collect();
        let BatchNormMoments { mean, variance } = &moments;
        let per_channel = [&affine.gamma, &affine.beta, mean, variance];
        check::<Self>(&input, &like_input, &per_channel);
        let laid = Laid::new(input, [residual], tail);
        let Some((plan, pooled)) = laid.plan() else {
            let (input, [residual]) = laid.undo();
            let output = portable::inference::<Self>(
                input,
                affine,
                moments,
                residual,
                epsilon,
                tail.activation,
            );
            return portable::pool::<Self>(output, tail.pooling);
        };
        let [residual] = laid.others;
        let job = Job {
            input: laid.input,
            plan,
            epsilon,
            activation: tail.activation,
            pooled,
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

/// # Panics
///
/// If the batch is to be divided.
fn assert_one_part(parts: usize) {
    assert!(
        parts == 1,
        "on a GPU, batch norm takes a batch of one part, found {parts} parts"
    );
}

/// The input and `N` tensors of its shape, all in one memory order, with the same gaps between their rows.
struct Laid<const N: usize> {
    order: Order,
    input: CubeTensor,
    others: [Option<CubeTensor>; N],
    tail: Tail,
    /// The shape of the output in this order.
    output: Shape,
    dims: Dims,
    rows: Option<Rows>,
}

impl<const N: usize> Laid<N> {
    fn new(input: CubeTensor, others: [Option<CubeTensor>; N], tail: Tail) -> Self {
        let order = match tail.pooling {
            None => Order::of::<CubeBackend>(&input),
            Some(_) => Order::of_images::<CubeBackend>(&input),
        };
        let output = order.shape(&tail.output_shape(&input.shape()));
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
            tail,
            output,
            dims,
            rows,
        }
    }

    /// A tensor of another shape in this order, without gaps.
    fn lay(&self, tensor: CubeTensor) -> CubeTensor {
        into_contiguous(self.order.apply::<CubeBackend>(tensor).0)
    }

    /// `None` if the kernels cannot do it.
    fn plan(&self) -> Option<(Plan, Option<PooledOutput>)> {
        let Tail {
            activation,
            pooling,
        } = self.tail;
        if activation.is_smooth() {
            return None;
        }
        // The last of the others is the residual.
        let residual = matches!(self.others.last(), Some(Some(_)));
        let dtype = self.input.dtype;
        let client = &self.input.client;
        let plan = Plan::new(client, dtype, self.dims, self.rows, residual, pooling)?;
        let pooled = pooling.map(|pooling| PooledOutput {
            pooling,
            plan: plan.of_pooled(pooling),
            shape: self.output.clone(),
        });
        Some((plan, pooled))
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
