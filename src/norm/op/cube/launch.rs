//! Launches the kernels: allocates their outputs and passes the arguments.
//!
//! # Safety
//!
//! The kernels are launched without bounds checks. That is sound if no kernel reads or writes out of bounds, and if all
//! of its loops end:
//!
//! - **Tensors shaped like the input.** `Share::of_unit` limits the channel to `extent.channels - 1` and the number of
//!   steps to the vectors of that channel; `Share::position` maps these to places of the tensor. [`Plan::extent`] is
//!   made from the shape and the strides of the input. So a tensor is only passed if it lies as the input does: the
//!   gradient and the residual, because the caller brings them into one order; the outputs, because [`empty_alike`] and
//!   [`written_over`] make it so.
//! - **Pooled tensors.** The same with the plan of [`PooledOutput`]: the caller brings the gradient into the order of the
//!   input, without gaps, and the others are allocated here with that shape. The rows and columns of a window, and the
//!   windows of a row or column, end with the image and with the output; [`Pooling::new`] sees to it that a window is
//!   not all padding. What lies at an index of a channel is found by `Share::place`, which maps indices below
//!   `vectors_per_channel`.
//! - **Tensors of one value per channel.** They have [`Plan::channels`] values side by side: the caller checks their
//!   shapes (`layout::check`), [`into_contiguous`] removes gaps, and new ones are allocated here with that shape.
//! - **Results of parts, and lines.** They are allocated here as `[_, parts, channels]` and `[_, channels]`. A kernel
//!   takes its strides in them from that shape, and its part from the y axis of the grid, which has
//!   [`Plan::parts`] cubes. The merging kernels have the channels of [`Plan::of_parts`], the joint ones those of the
//!   plan. Both read as many parts as the shape says.
//! - **Counters.** There is one for each group of channels, the x axis of the grid: [`joint::counters`] are asked for
//!   [`Plan::groups`]. What the last cube reads, the others have made visible to it (`joint`), and none of them writes
//!   what it writes.
//! - **Writes do not overlap.** A place of an output belongs to one share; results of a channel, or of its part, are
//!   written only by the unit of rank 0.
//! - **An output that overwrites a tensor** (`written_over`) is the gradient or the input that the same unit reads at
//!   that place before it writes there, and that nobody else holds. A unit reads only its own places of `gated` after
//!   it has written them.
//! - **Loops** run over the steps of a share, twice at most, over parts, or halve a distance until it is below `lanes`,
//!   which is at least 1.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::affine::Activation;
use super::plan::{Plan, UNITS};
use super::pooling::{GradientLaunch, PooledLaunch};
use super::{average, backward, forward, joint, pooling};
use crate::dtype::at_least_f32;
use crate::norm::op::layout::Rows;
use crate::norm::op::{
    BatchNormForward, BatchNormMoments, BatchNormStatistics, BatchNormThenGradients, Pooling,
    PoolingKind, TailActivation,
};

/// A tensor and how its values are divided.
pub struct Job {
    pub input: CubeTensor,
    pub plan: Plan,
    /// Added to the variance.
    pub epsilon: f64,
    /// What follows the normalisation and the residual.
    pub activation: TailActivation,
    /// What follows the activation.
    pub pooled: Option<PooledOutput>,
}

/// The output of a pooling.
pub struct PooledOutput {
    pub pooling: Pooling,
    /// Divides the output as [`Job::plan`] divides the input.
    pub plan: Plan,
    /// The output's shape in the memory order of the input.
    pub shape: Shape,
}

impl Job {
    /// The activation, and its slope.
    fn activation(&self) -> (Activation, InputScalar) {
        let (activation, slope) = match self.activation {
            TailActivation::None => (Activation::None, 1.0),
            TailActivation::Relu => (Activation::Relu, 0.0),
            TailActivation::LeakyRelu { slope } => (Activation::LeakyRelu, slope),
            smooth => unreachable!("there is no plan for {smooth:?}"),
        };
        (activation, self.scalar(slope))
    }

    /// A scalar of the type of the statistics.
    fn scalar(&self, value: f64) -> InputScalar {
        InputScalar::new(value, elem(at_least_f32(self.input.dtype)))
    }

    /// The types of the values and of the statistics.
    fn elems(&self) -> [ElemType; 2] {
        [self.input.dtype, at_least_f32(self.input.dtype)].map(elem)
    }

    /// A new tensor of the type of the statistics.
    fn new_statistics(&self, shape: impl Into<Shape>) -> CubeTensor {
        empty(&self.input, shape, at_least_f32(self.input.dtype))
    }

    fn address_type(&self) -> AddressType {
        let of_input = self.input.required_address_type();
        match &self.pooled {
            None => of_input,
            // Padding may make it larger.
            Some(pooled) => of_input.max(AddressType::from_len(pooled.shape.num_elements())),
        }
    }

    /// The plan of the kernels that write the output, or decide on it.
    fn output_plan(&self) -> &Plan {
        self.pooled
            .as_ref()
            .map_or(&self.plan, |pooled| &pooled.plan)
    }

    /// The extent of the output, if it is pooled.
    fn pooled(&self) -> Option<PooledLaunch> {
        let PooledOutput { pooling, plan, .. } = self.pooled.as_ref()?;
        Some(PooledLaunch::new(plan.extent(), *pooling))
    }

    /// A new tensor for the output.
    fn new_output(&self) -> CubeTensor {
        match &self.pooled {
            None => empty_alike(&self.input, self.plan.rows()),
            Some(pooled) => empty(&self.input, pooled.shape.clone(), self.input.dtype),
        }
    }
}

/// Normalises by the statistics of the batch. The residual has the same memory layout as the input.
pub fn forward(
    job: Job,
    residual: Option<CubeTensor>,
    [gamma, beta]: [CubeTensor; 2],
) -> BatchNormForward<CubeBackend> {
    let [gamma, beta] = [gamma, beta].map(into_contiguous);
    let residual = residual.map(CubeTensor::into_tensor_arg);
    let (activation, slope) = job.activation();
    let channels = job.plan.channels();
    let [mean, mean_rest, variance] = [(); 3].map(|()| job.new_statistics([channels]));
    let output = job.new_output();
    let (plan, client) = (&job.plan, job.input.client.clone());

    if plan.single_kernel {
        // SAFETY: see the module; all tensors are made or checked above.
        unsafe {
            forward::forward_whole::launch_unchecked(
                &client,
                plan.cubes(),
                plan.units(),
                job.address_type(),
                plan.vector,
                job.input.clone().into_tensor_arg(),
                residual.into(),
                gamma.into_tensor_arg(),
                beta.into_tensor_arg(),
                output.clone().into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                mean_rest.clone().into_tensor_arg(),
                variance.clone().into_tensor_arg(),
                job.scalar(job.epsilon),
                slope,
                plan.extent(),
                job.pooled().into(),
                plan.tile,
                plan.held_forward(job.pooled.is_some()),
                activation,
                job.elems(),
            );
        }
    } else {
        let parts = job.new_statistics([4, plan.parts, channels]);
        // SAFETY: see the module.
        unsafe {
            if plan.joint {
                let (counters, first_counter) = joint::counters(&job.input, plan.groups());
                forward::forward_joint::launch_unchecked(
                    &client,
                    plan.cubes(),
                    plan.units(),
                    job.address_type(),
                    plan.vector,
                    job.input.clone().into_tensor_arg(),
                    parts.into_tensor_arg(),
                    counters.into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.clone().into_tensor_arg(),
                    first_counter,
                    plan.extent(),
                    plan.tile,
                    job.elems(),
                );
            } else {
                let merge = plan.of_parts();
                forward::forward_parts::launch_unchecked(
                    &client,
                    plan.cubes(),
                    plan.units(),
                    job.address_type(),
                    plan.vector,
                    job.input.clone().into_tensor_arg(),
                    parts.clone().into_tensor_arg(),
                    plan.extent(),
                    plan.tile,
                    job.elems(),
                );
                forward::forward_merge::launch_unchecked(
                    &client,
                    merge.cubes(),
                    merge.units(),
                    job.address_type(),
                    parts.into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.clone().into_tensor_arg(),
                    merge.extent(),
                    merge.tile,
                    job.elems()[1],
                );
            }
            forward::apply::launch_unchecked(
                &client,
                job.output_plan().cubes(),
                plan.units(),
                job.address_type(),
                plan.vector,
                job.input.clone().into_tensor_arg(),
                residual.into(),
                gamma.into_tensor_arg(),
                beta.into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                Some(mean_rest.clone().into_tensor_arg()).into(),
                variance.clone().into_tensor_arg(),
                output.clone().into_tensor_arg(),
                job.scalar(job.epsilon),
                slope,
                plan.extent(),
                job.pooled().into(),
                plan.tile,
                activation,
                job.elems(),
            );
        }
    }
    BatchNormForward {
        output,
        mean,
        mean_rest,
        variance,
    }
}

/// Normalises by given statistics. The residual has the same memory layout as the input.
pub fn inference(
    job: Job,
    residual: Option<CubeTensor>,
    [gamma, beta]: [CubeTensor; 2],
    [mean, variance]: [CubeTensor; 2],
) -> CubeTensor {
    let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(into_contiguous);
    let (plan, client) = (&job.plan, job.input.client.clone());
    let (output, output_arg) = match &job.pooled {
        None => written_over(&job.input, plan.rows(), 0),
        Some(_) => {
            let output = job.new_output();
            (output.clone(), output.into_tensor_arg())
        }
    };
    let pooled = job.pooled();
    let (address_type, epsilon, elems) = (job.address_type(), job.scalar(job.epsilon), job.elems());
    let (activation, slope) = job.activation();
    // SAFETY: see the module.
    unsafe {
        forward::apply::launch_unchecked(
            &client,
            job.output_plan().cubes(),
            plan.units(),
            address_type,
            plan.vector,
            job.input.into_tensor_arg(),
            residual.map(CubeTensor::into_tensor_arg).into(),
            gamma.into_tensor_arg(),
            beta.into_tensor_arg(),
            mean.into_tensor_arg(),
            None.into(),
            variance.into_tensor_arg(),
            output_arg,
            epsilon,
            slope,
            plan.extent(),
            pooled.into(),
            plan.tile,
            activation,
            elems,
        );
    }
    output
}

/// Computes the gradients of [`forward()`], or with `frozen` of [`inference`], from the gradient of the output. It has
/// the same memory layout as the input, or without gaps that of the pooled output. The residual has that of the input.
///
/// The residual is given only if there is an activation or a pooling: otherwise it does not matter, and its gradient is
/// that of the output.
pub fn backward(
    job: Job,
    gradient: CubeTensor,
    residual: Option<CubeTensor>,
    [gamma, beta]: [CubeTensor; 2],
    statistics: BatchNormStatistics<CubeBackend>,
    frozen: bool,
) -> BatchNormThenGradients<CubeBackend> {
    let [gamma, beta] = [gamma, beta].map(into_contiguous);
    let BatchNormStatistics {
        mean,
        mean_rest,
        variance,
    } = statistics;
    let [mean, mean_rest, variance] = [mean, mean_rest, variance].map(into_contiguous);
    let channels = job.plan.channels();
    let [for_gamma, for_beta] = [(); 2].map(|()| job.new_statistics([channels]));
    let (plan, client) = (&job.plan, job.input.client.clone());
    let (activation, slope) = job.activation();
    // What passes the activation overwrites the gradient if it is returned, else the gradient of the input does. That of
    // a pooled output has another size.
    let (first, first_arg) = match &job.pooled {
        None => written_over(&gradient, plan.rows(), 0),
        Some(_) => {
            let first = empty_alike(&job.input, plan.rows());
            (first.clone(), first.into_tensor_arg())
        }
    };
    let (for_residual, gated_arg, output, output_arg) = match &residual {
        None => (None, None, first, first_arg),
        Some(_) => {
            let output = empty_alike(&job.input, plan.rows());
            let output_arg = output.clone().into_tensor_arg();
            (Some(first), Some(first_arg), output, output_arg)
        }
    };
    let statistics = [&gamma, &beta, &mean, &mean_rest, &variance];
    let choices = choices(&job, residual.clone(), statistics);
    let residual = residual.map(CubeTensor::into_tensor_arg);
    let epsilon = job.scalar(job.epsilon);
    let values_per_channel = job.scalar(plan.values_per_channel() as f64);

    if plan.single_kernel {
        // SAFETY: see the module.
        unsafe {
            backward::backward_whole::launch_unchecked(
                &client,
                plan.cubes(),
                plan.units(),
                job.address_type(),
                plan.vector,
                of_output(&job, gradient, choices),
                job.input.clone().into_tensor_arg(),
                residual.into(),
                gamma.into_tensor_arg(),
                beta.into_tensor_arg(),
                mean.into_tensor_arg(),
                mean_rest.into_tensor_arg(),
                variance.into_tensor_arg(),
                gated_arg.into(),
                output_arg,
                for_gamma.clone().into_tensor_arg(),
                for_beta.clone().into_tensor_arg(),
                epsilon,
                slope,
                values_per_channel,
                plan.extent(),
                plan.tile,
                plan.held(2),
                frozen,
                activation,
                job.elems(),
            );
        }
    } else {
        let parts = job.new_statistics([2, plan.parts, channels]);
        let lines = job.new_statistics([4, channels]);
        // SAFETY: see the module.
        unsafe {
            if plan.joint {
                let (counters, first_counter) = joint::counters(&job.input, plan.groups());
                backward::backward_joint::launch_unchecked(
                    &client,
                    plan.cubes(),
                    plan.units(),
                    job.address_type(),
                    plan.vector,
                    of_output(&job, gradient.clone(), choices.clone()),
                    job.input.clone().into_tensor_arg(),
                    residual.into(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.into_tensor_arg(),
                    gated_arg.into(),
                    parts.into_tensor_arg(),
                    counters.into_tensor_arg(),
                    for_gamma.clone().into_tensor_arg(),
                    for_beta.clone().into_tensor_arg(),
                    lines.clone().into_tensor_arg(),
                    epsilon,
                    slope,
                    values_per_channel,
                    first_counter,
                    plan.extent(),
                    plan.tile,
                    frozen,
                    activation,
                    job.elems(),
                );
            } else {
                let merge = plan.of_parts();
                // Without an activation, `mean` stands in for the scale, which is not read.
                let mut scale = mean.clone();
                if activation != Activation::None {
                    scale = job.new_statistics([channels]);
                    backward::forward_scale::launch_unchecked(
                        &client,
                        plan.cubes_for_channels(),
                        plan.units(),
                        gamma.clone().into_tensor_arg(),
                        variance.clone().into_tensor_arg(),
                        scale.clone().into_tensor_arg(),
                        epsilon,
                        job.elems()[1],
                    );
                }
                backward::backward_parts::launch_unchecked(
                    &client,
                    plan.cubes(),
                    plan.units(),
                    job.address_type(),
                    plan.vector,
                    of_output(&job, gradient.clone(), choices.clone()),
                    job.input.clone().into_tensor_arg(),
                    residual.into(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    scale.into_tensor_arg(),
                    beta.clone().into_tensor_arg(),
                    gated_arg.into(),
                    parts.clone().into_tensor_arg(),
                    slope,
                    plan.extent(),
                    plan.tile,
                    activation,
                    job.elems(),
                );
                backward::backward_merge::launch_unchecked(
                    &client,
                    merge.cubes(),
                    merge.units(),
                    job.address_type(),
                    parts.into_tensor_arg(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    variance.into_tensor_arg(),
                    for_gamma.clone().into_tensor_arg(),
                    for_beta.clone().into_tensor_arg(),
                    lines.clone().into_tensor_arg(),
                    epsilon,
                    values_per_channel,
                    merge.extent(),
                    merge.tile,
                    frozen,
                    job.elems()[1],
                );
            }
            // What has passed the activation does not pass it again.
            let (gradient, activation) = match &for_residual {
                None => (of_output(&job, gradient, choices), activation),
                Some(gated) => {
                    let gated = gated.clone().into_tensor_arg();
                    (
                        GradientLaunch::new(gated, None.into(), None.into()),
                        Activation::None,
                    )
                }
            };
            backward::backward_apply::launch_unchecked(
                &client,
                plan.cubes(),
                plan.units(),
                job.address_type(),
                plan.vector,
                gradient,
                job.input.clone().into_tensor_arg(),
                mean.into_tensor_arg(),
                mean_rest.into_tensor_arg(),
                lines.into_tensor_arg(),
                output_arg,
                slope,
                plan.extent(),
                plan.tile,
                activation,
                job.elems(),
            );
        }
    }
    BatchNormThenGradients {
        input: output,
        gamma: for_gamma,
        beta: for_beta,
        residual: for_residual.into(),
    }
}

/// The gradient of the output as an argument of a kernel.
fn of_output<T: Float, N: Size>(
    job: &Job,
    gradient: CubeTensor,
    choices: Option<CubeTensor>,
) -> GradientLaunch<T, N> {
    let choices = choices.map(CubeTensor::into_tensor_arg);
    GradientLaunch::new(
        gradient.into_tensor_arg(),
        choices.into(),
        job.pooled().into(),
    )
}

/// Where the maximum of each window lies, `None` if no maxima are pooled: in the memory layout of the pooled output.
fn choices(
    job: &Job,
    residual: Option<CubeTensor>,
    [gamma, beta, mean, mean_rest, variance]: [&CubeTensor; 5],
) -> Option<CubeTensor> {
    let PooledOutput {
        pooling,
        plan,
        shape,
    } = job.pooled.as_ref()?;
    let pooled = job.pooled()?;
    if pooling.kind != PoolingKind::Max {
        return None;
    }
    let choices = empty(&job.input, shape.clone(), DType::U32);
    let (activation, slope) = job.activation();
    // SAFETY: see the module.
    unsafe {
        pooling::choose::launch_unchecked(
            &job.input.client,
            plan.cubes(),
            plan.units(),
            job.address_type(),
            plan.vector,
            job.input.clone().into_tensor_arg(),
            residual.map(CubeTensor::into_tensor_arg).into(),
            gamma.clone().into_tensor_arg(),
            beta.clone().into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            mean_rest.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            choices.clone().into_tensor_arg(),
            job.scalar(job.epsilon),
            slope,
            job.plan.extent(),
            pooled,
            job.plan.tile,
            activation,
            job.elems(),
        );
    }
    Some(choices)
}

/// Averages the statistics of a batch into running ones, all f32.
pub fn average(
    running: BatchNormMoments<CubeBackend>,
    batch: BatchNormMoments<CubeBackend>,
    gain: f64,
    correction: f64,
) -> BatchNormMoments<CubeBackend> {
    let tensors = [running.mean, running.variance, batch.mean, batch.variance];
    let shape = tensors[0].shape();
    for tensor in &tensors {
        assert_eq!(
            tensor.shape(),
            shape,
            "statistics have one value per channel"
        );
    }
    let [running_mean, running_variance, batch_mean, batch_variance] = tensors.map(into_contiguous);
    let [mean, variance] = [(); 2].map(|()| empty(&running_mean, shape.clone(), DType::F32));
    let client = running_mean.client.clone();
    let units = UNITS.min(client.properties().hardware.max_units_per_cube as usize);
    let cubes = shape.num_elements().div_ceil(units);
    // SAFETY: see the module; all tensors have one value per channel.
    unsafe {
        average::average::launch_unchecked(
            &client,
            CubeCount::new_1d(cubes as u32),
            CubeDim::new_1d(units as u32),
            running_mean.into_tensor_arg(),
            running_variance.into_tensor_arg(),
            batch_mean.into_tensor_arg(),
            batch_variance.into_tensor_arg(),
            mean.clone().into_tensor_arg(),
            variance.clone().into_tensor_arg(),
            gain as f32,
            correction as f32,
        );
    }
    BatchNormMoments { mean, variance }
}

/// Converts a float type to the kernels' type.
fn elem(dtype: DType) -> ElemType {
    let kind = match dtype {
        DType::F64 => FloatKind::F64,
        DType::F32 => FloatKind::F32,
        DType::Flex32 => FloatKind::Flex32,
        DType::F16 => FloatKind::F16,
        DType::BF16 => FloatKind::BF16,
        other => panic!("batch norm takes a floating point tensor, found one of {other:?}"),
    };
    ElemType::Float(kind)
}

/// A new contiguous tensor on the device of another.
fn empty(tensor: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(
        tensor.client.clone(),
        tensor.device.clone(),
        shape.into(),
        dtype,
    )
}

/// A new tensor with the memory layout of another. If `rows` are given, there are gaps between its rows.
fn empty_alike(tensor: &CubeTensor, rows: Option<Rows>) -> CubeTensor {
    let Some(rows) = rows else {
        return empty(tensor, tensor.shape(), tensor.dtype);
    };
    let places = tensor.shape().num_elements() / rows.len * rows.pitch;
    let room = empty(tensor, [places], tensor.dtype);
    CubeTensor {
        meta: tensor.meta.clone(),
        ..room
    }
}

/// The output of a kernel, and the kernel's argument for it: `tensor` itself if nobody else holds it, else a new tensor
/// with the same memory layout. `place` is the index of `tensor` among the arguments.
fn written_over(tensor: &CubeTensor, rows: Option<Rows>, place: usize) -> (CubeTensor, TensorArg) {
    if tensor.can_mut() && tensor.is_nonoverlapping() {
        (tensor.clone(), tensor.as_tensor_alias(place))
    } else {
        let output = empty_alike(tensor, rows);
        (output.clone(), output.into_tensor_arg())
    }
}
