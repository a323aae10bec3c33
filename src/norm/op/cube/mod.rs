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
//!   scale = gamma / sqrt(variance + epsilon); y passes through the ReLU, if one follows
//!
//! backward, one kernel (backward_whole)      backward, several cubes per channel
//!
//!   for each channel, in parallel:             forward_scale (for a ReLU): scale of each channel
//!     sums of each unit's dy, dy * (x - mean)  backward_parts: sums of each part -> memory
//!     add them over the units                  backward_merge: add the parts; dgamma, dbeta -> memory
//!     dgamma, dbeta -> memory                  backward_apply: for each value: dx, as on the left
//!     for each value: dx from dy, x, the sums
//! ```
//!
//! Inference is `apply` alone. If nobody else holds the overwritten tensor, the output of inference overwrites its
//! input, and the gradient of the input overwrites the gradient of the output.
//!
//! | file | content |
//! | --- | --- |
//! | `plan` | divides a tensor among cubes and units |
//! | `launch` | allocates outputs and launches kernels; says why that is sound |
//! | `index` | the part of a tensor that a unit processes; a diagram of a cube |
//! | `affine` | the function from an input to its output, and the ReLU's gate |
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
mod launch;
mod plan;

use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::average::RunningAverageBackend;
use super::layout::{Order, Strided, check};
use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, FusedActivation, portable,
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

/// Tensors that no plan fits (empty ones, or more channels than a grid has cubes) go through `portable`.
impl BatchNormBackend for CubeBackend {
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        epsilon: f64,
        activation: FusedActivation,
    ) -> BatchNormForward<Self> {
        check::<Self>(&input, &[], &[&affine.gamma, &affine.beta]);
        let order = Order::of::<Self>(&input);
        let (input, rows) = order.apply::<Self>(input);
        let dims = order.dims::<Self>(&input);
        let Some(plan) = Plan::new(&input.client, input.dtype, dims, rows) else {
            let input = order.undo::<Self>(input);
            return portable::forward::<Self>(input, affine, epsilon, activation);
        };
        let job = Job {
            input,
            plan,
            epsilon,
            relu: activation.is_relu(),
        };
        let result = launch::forward(job, [affine.gamma, affine.beta]);
        BatchNormForward {
            output: order.undo::<Self>(result.output),
            ..result
        }
    }

    fn batch_norm_backward(
        saved: BatchNormBackward<Self>,
        epsilon: f64,
        frozen: bool,
        activation: FusedActivation,
    ) -> BatchNormGradients<Self> {
        let BatchNormBackward {
            input,
            gradient,
            affine,
            statistics,
        } = saved;
        check::<Self>(
            &input,
            &[&gradient],
            &[
                &affine.gamma,
                &affine.beta,
                &statistics.mean,
                &statistics.mean_rest,
                &statistics.variance,
            ],
        );
        let order = Order::of::<Self>(&input);
        let (mut input, mut rows) = order.apply::<Self>(input);
        let (mut gradient, rows_of_gradient) = order.apply::<Self>(gradient);
        if rows_of_gradient != rows {
            [input, gradient] = [input, gradient].map(into_contiguous);
            rows = None;
        }
        let dims = order.dims::<Self>(&input);
        let Some(plan) = Plan::new(&input.client, input.dtype, dims, rows) else {
            let [input, gradient] = [input, gradient].map(|tensor| order.undo::<Self>(tensor));
            let saved = BatchNormBackward {
                input,
                gradient,
                affine,
                statistics,
            };
            return portable::backward::<Self>(saved, epsilon, frozen, activation);
        };
        let job = Job {
            input,
            plan,
            epsilon,
            relu: activation.is_relu(),
        };
        let result = launch::backward(
            job,
            gradient,
            [affine.gamma, affine.beta],
            statistics,
            frozen,
        );
        BatchNormGradients {
            input: order.undo::<Self>(result.input),
            ..result
        }
    }

    fn batch_norm_inference(
        input: FloatTensor<Self>,
        affine: BatchNormAffine<Self>,
        moments: BatchNormMoments<Self>,
        epsilon: f64,
        activation: FusedActivation,
    ) -> FloatTensor<Self> {
        let BatchNormMoments { mean, variance } = &moments;
        check::<Self>(&input, &[], &[&affine.gamma, &affine.beta, mean, variance]);
        let order = Order::of::<Self>(&input);
        let (input, rows) = order.apply::<Self>(input);
        let dims = order.dims::<Self>(&input);
        let Some(plan) = Plan::new(&input.client, input.dtype, dims, rows) else {
            let input = order.undo::<Self>(input);
            return portable::inference::<Self>(input, affine, moments, epsilon, activation);
        };
        let job = Job {
            input,
            plan,
            epsilon,
            relu: activation.is_relu(),
        };
        let output = launch::inference(
            job,
            [affine.gamma, affine.beta],
            [moments.mean, moments.variance],
        );
        order.undo::<Self>(output)
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
