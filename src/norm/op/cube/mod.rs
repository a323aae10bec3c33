//! Kernels for the backends of CubeCL: wgpu, Vulkan, Metal, CUDA, ROCm.
//!
//! [`kernels`] has them; this file decides how the work is divided and launches them. Where a cube can see to all values
//! of its channels, one kernel does everything; else the channels are read in parts, the parts' statistics merged, and a
//! third kernel writes. A gradient that nobody else holds is overwritten by that of the input, and so is the input of an
//! inference.
//!
//! CUDA and ROCm lay tensors out with a pitch: rows of the last axis begin at multiples of some power of two. Such
//! tensors are taken as they lie, and so is any view that lies likewise.

mod kernels;

use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::layout::{Dims, Order, Rows, Strided, check};
use super::{
    BatchNormBackend, BatchNormForward, BatchNormGradients, BatchNormStatistics, portable,
};
use kernels::{ExtentLaunch, Plan};

/// Units of a cube.
const UNITS: usize = 256;
/// Bytes that the lanes of a cube read side by side.
const LINE: usize = 128;
/// The widest vector, in bytes of the statistics' type: three a unit must fit into the shared memory that every device
/// has, 16 KiB.
const VECTOR: usize = 16;
/// Vectors of a channel that one unit sees to before a channel is divided among cubes.
const ALONE: usize = 16;
/// The least number of vectors for a unit of a channel that is divided.
const TOGETHER: usize = 4;
/// Cubes that fill any device.
const CUBES: usize = 1024;
/// The most tensors that a kernel takes; its scalars are one binding more.
const MOST_TENSORS: u32 = 10;

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

/// How the values of a tensor are divided among cubes and units.
struct Division {
    dims: Dims,
    /// Where there are gaps behind rows.
    rows: Option<Rows>,
    plan: Plan,
    vector: usize,
    /// Cubes that share the values of a group of channels.
    parts: usize,
    /// Whether one kernel may take all tensors of an operation.
    whole: bool,
}

impl Division {
    /// `None` for a tensor without values, or with more channels than a grid has places.
    fn of(tensor: &CubeTensor, dims: Dims, rows: Option<Rows>) -> Option<Self> {
        if dims.len() == 0 {
            return None;
        }
        let across = dims.inner == 1 && dims.channels > 1;
        let side_by_side = if across { dims.channels } else { dims.inner };
        let [side_by_side, pitch] = match rows {
            Some(rows) => [rows.len, rows.pitch],
            None => [side_by_side; 2],
        };
        let widest = VECTOR / statistics_size(tensor.dtype);
        let vector = tensor
            .client
            .io_optimized_vector_sizes(tensor.dtype.size())
            .filter(|&vector| vector <= widest)
            .filter(|&vector| side_by_side.is_multiple_of(vector) && pitch.is_multiple_of(vector))
            .max()
            .unwrap_or(1);
        let lanes = if across {
            let of_line = LINE / tensor.dtype.size() / vector;
            of_line.min((dims.channels / vector).next_power_of_two())
        } else {
            1
        };
        let hardware = &tensor.client.properties().hardware;
        let units = UNITS.min(prior_power_of_two(hardware.max_units_per_cube as usize));
        let lanes = lanes.min(units);
        let plan = Plan {
            across,
            // Rows of one channel each, or of many, say all by their distance.
            pitched: !across && rows.is_some_and(|rows| rows.len < dims.inner),
            lanes,
            rows: units / lanes,
        };
        let mut division = Division {
            dims,
            rows,
            plan,
            vector,
            parts: 1,
            whole: hardware.max_bindings > MOST_TENSORS,
        };
        if division.count() > plan.rows * ALONE {
            let useful = division.count() / (plan.rows * TOGETHER);
            division.parts = CUBES.div_ceil(division.groups()).min(useful).max(1);
            division.whole &= division.parts == 1;
        }
        let groups = division.groups().max(division.of_parts().groups());
        let (most_groups, most_parts, _) = hardware.max_cube_count;
        let fits = groups <= most_groups as usize && division.parts <= most_parts as usize;
        fits.then_some(division)
    }

    /// Channels, or vectors of channels.
    fn channels(&self) -> usize {
        if self.plan.across {
            self.dims.channels / self.vector
        } else {
            self.dims.channels
        }
    }

    /// Vectors of a channel, or of a vector of channels.
    fn count(&self) -> usize {
        if self.plan.across {
            self.dims.outer
        } else {
            self.dims.outer * self.dims.inner / self.vector
        }
    }

    /// Groups of channels that a cube takes at a time.
    fn groups(&self) -> usize {
        self.channels().div_ceil(self.plan.lanes)
    }

    fn extent(&self) -> ExtentLaunch {
        let Dims {
            channels, inner, ..
        } = self.dims;
        let rows = self.rows.unwrap_or_else(|| {
            let len = if self.plan.across { channels } else { inner };
            Rows { len, pitch: len }
        });
        let vectors = |values: usize| values / self.vector;
        let (channel, outer, inner) = if self.plan.across {
            (1, vectors(rows.pitch), 1)
        } else {
            let channel = vectors(inner / rows.len * rows.pitch);
            (channel, channels * channel, vectors(inner))
        };
        ExtentLaunch::new(
            self.channels(),
            channel,
            outer,
            inner,
            vectors(rows.len),
            vectors(rows.pitch),
            self.count(),
        )
    }

    fn cubes(&self) -> CubeCount {
        CubeCount::new_2d(self.groups() as u32, self.parts as u32)
    }

    fn units(&self) -> CubeDim {
        CubeDim::new_1d((self.plan.lanes * self.plan.rows) as u32)
    }

    /// The division of `[parts, channels]` values among cubes, by which the parts are brought together.
    fn of_parts(&self) -> Division {
        let units = self.plan.lanes * self.plan.rows;
        let lanes = self.dims.channels.next_power_of_two().min(32).min(units);
        Division {
            dims: Dims {
                outer: self.parts,
                channels: self.dims.channels,
                inner: 1,
            },
            rows: None,
            plan: Plan {
                across: true,
                pitched: false,
                lanes,
                rows: units / lanes,
            },
            vector: 1,
            parts: 1,
            whole: true,
        }
    }
}

fn prior_power_of_two(number: usize) -> usize {
    1 << number.ilog2()
}

/// The type of the statistics and the parameters, in bytes.
fn statistics_size(dtype: DType) -> usize {
    super::statistics_dtype(dtype).size()
}

/// The type of a tensor's values, as the kernels take it.
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

/// The types of a tensor's values and of its statistics.
fn elems(dtype: DType) -> [ElemType; 2] {
    [elem(dtype), elem(super::statistics_dtype(dtype))]
}

/// A scalar of the type of the statistics.
fn scalar(value: f64, dtype: DType) -> InputScalar {
    InputScalar::new(value, elem(super::statistics_dtype(dtype)))
}

/// A new tensor on the device of another.
fn empty_like(tensor: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(
        tensor.client.clone(),
        tensor.device.clone(),
        shape.into(),
        dtype,
    )
}

/// A new tensor that lies as another does, whose rows have gaps behind them if they are given.
fn empty_alike(tensor: &CubeTensor, rows: Option<Rows>) -> CubeTensor {
    let Some(rows) = rows else {
        return empty_like(tensor, tensor.shape(), tensor.dtype);
    };
    let places = tensor.shape().num_elements() / rows.len * rows.pitch;
    let room = empty_like(tensor, [places], tensor.dtype);
    CubeTensor {
        meta: tensor.meta.clone(),
        ..room
    }
}

/// What a kernel writes: a tensor itself where nobody else holds it, else a new one that lies as it does; and the
/// kernel's argument for it, given the tensor's place among the arguments.
fn written_over(tensor: &CubeTensor, rows: Option<Rows>, place: usize) -> (CubeTensor, TensorArg) {
    if tensor.can_mut() && tensor.is_nonoverlapping() {
        (tensor.clone(), tensor.as_tensor_alias(place))
    } else {
        let output = empty_alike(tensor, rows);
        (output.clone(), output.into_tensor_arg())
    }
}

/// The type of index that reaches every value of these tensors.
fn address_type(tensors: &[&CubeTensor]) -> AddressType {
    let types = tensors.iter().map(|tensor| tensor.required_address_type());
    types.max().unwrap_or_default()
}

impl BatchNormBackend for CubeBackend {
    fn batch_norm_forward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> BatchNormForward<Self> {
        check::<Self>(&input, &[], &[&gamma, &beta]);
        let order = Order::of::<Self>(&input);
        let (input, rows) = order.apply::<Self>(input);
        let dims = order.dims::<Self>(&input);
        let Some(division) = Division::of(&input, dims, rows) else {
            let input = order.undo::<Self>(input);
            return portable::forward::<Self>(input, gamma, beta, epsilon, rectify);
        };
        let [gamma, beta] = [gamma, beta].map(into_contiguous);
        let (client, dtype) = (input.client.clone(), input.dtype);
        let statistics = || empty_like(&input, [dims.channels], super::statistics_dtype(dtype));
        let (mean, mean_rest, variance) = (statistics(), statistics(), statistics());
        let output = empty_alike(&input, rows);
        let address_type = address_type(&[&input]);

        if division.whole {
            // SAFETY: every unit reads and writes inside of the tensors, whose sizes the division is made from.
            unsafe {
                kernels::forward_whole::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    input.into_tensor_arg(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    output.clone().into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.clone().into_tensor_arg(),
                    scalar(epsilon, dtype),
                    division.extent(),
                    division.plan,
                    rectify,
                    elems(dtype),
                );
            }
        } else {
            let shape = [4, division.parts, dims.channels];
            let parts = empty_like(&input, shape, super::statistics_dtype(dtype));
            let merge = division.of_parts();
            // SAFETY: as above.
            unsafe {
                kernels::forward_parts::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    input.clone().into_tensor_arg(),
                    parts.clone().into_tensor_arg(),
                    division.extent(),
                    division.plan,
                    elems(dtype),
                );
                kernels::forward_merge::launch_unchecked(
                    &client,
                    merge.cubes(),
                    merge.units(),
                    address_type,
                    parts.into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.clone().into_tensor_arg(),
                    merge.extent(),
                    merge.plan,
                    elems(dtype)[1],
                );
                kernels::apply::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    input.into_tensor_arg(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    variance.clone().into_tensor_arg(),
                    output.clone().into_tensor_arg(),
                    scalar(epsilon, dtype),
                    division.extent(),
                    division.plan,
                    true,
                    rectify,
                    elems(dtype),
                );
            }
        }
        BatchNormForward {
            output: order.undo::<Self>(output),
            mean,
            mean_rest,
            variance,
        }
    }

    fn batch_norm_backward(
        input: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        statistics: BatchNormStatistics<Self>,
        epsilon: f64,
        frozen: bool,
        rectified: bool,
    ) -> BatchNormGradients<Self> {
        check::<Self>(
            &input,
            &[&gradient],
            &[
                &gamma,
                &beta,
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
        let Some(division) = Division::of(&input, dims, rows) else {
            let [input, gradient] = [input, gradient].map(|tensor| order.undo::<Self>(tensor));
            return portable::backward::<Self>(
                input, gradient, gamma, beta, statistics, epsilon, frozen, rectified,
            );
        };
        let [gamma, beta] = [gamma, beta].map(into_contiguous);
        let mean = into_contiguous(statistics.mean);
        let mean_rest = into_contiguous(statistics.mean_rest);
        let variance = into_contiguous(statistics.variance);
        let (client, dtype) = (input.client.clone(), input.dtype);
        let parameter = || empty_like(&input, [dims.channels], super::statistics_dtype(dtype));
        let (for_gamma, for_beta) = (parameter(), parameter());
        let (output, output_arg) = written_over(&gradient, rows, 0);
        let address_type = address_type(&[&input]);
        let epsilon = scalar(epsilon, dtype);
        let count = scalar(dims.values_per_channel() as f64, dtype);

        if division.whole {
            // SAFETY: every unit reads and writes inside of the tensors, whose sizes the division is made from.
            unsafe {
                kernels::backward_whole::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    gradient.into_tensor_arg(),
                    input.into_tensor_arg(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    mean.into_tensor_arg(),
                    mean_rest.into_tensor_arg(),
                    variance.into_tensor_arg(),
                    output_arg,
                    for_gamma.clone().into_tensor_arg(),
                    for_beta.clone().into_tensor_arg(),
                    epsilon,
                    count,
                    division.extent(),
                    division.plan,
                    frozen,
                    rectified,
                    elems(dtype),
                );
            }
        } else {
            let shape = [2, division.parts, dims.channels];
            let parts = empty_like(&input, shape, super::statistics_dtype(dtype));
            let lines = empty_like(&input, [4, dims.channels], super::statistics_dtype(dtype));
            let merge = division.of_parts();
            let units = division.plan.lanes * division.plan.rows;
            // SAFETY: as above.
            unsafe {
                let mut forward_lines = mean.clone();
                if rectified {
                    forward_lines =
                        empty_like(&input, [2, dims.channels], super::statistics_dtype(dtype));
                    kernels::forward_lines::launch_unchecked(
                        &client,
                        CubeCount::new_1d(dims.channels.div_ceil(units) as u32),
                        division.units(),
                        gamma.clone().into_tensor_arg(),
                        beta.clone().into_tensor_arg(),
                        variance.clone().into_tensor_arg(),
                        forward_lines.clone().into_tensor_arg(),
                        epsilon,
                        elems(dtype)[1],
                    );
                }
                kernels::backward_parts::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    gradient.clone().into_tensor_arg(),
                    input.clone().into_tensor_arg(),
                    mean.clone().into_tensor_arg(),
                    mean_rest.clone().into_tensor_arg(),
                    forward_lines.into_tensor_arg(),
                    parts.clone().into_tensor_arg(),
                    division.extent(),
                    division.plan,
                    rectified,
                    elems(dtype),
                );
                kernels::backward_merge::launch_unchecked(
                    &client,
                    merge.cubes(),
                    merge.units(),
                    address_type,
                    parts.into_tensor_arg(),
                    gamma.into_tensor_arg(),
                    beta.into_tensor_arg(),
                    variance.into_tensor_arg(),
                    for_gamma.clone().into_tensor_arg(),
                    for_beta.clone().into_tensor_arg(),
                    lines.clone().into_tensor_arg(),
                    epsilon,
                    count,
                    merge.extent(),
                    merge.plan,
                    frozen,
                    elems(dtype)[1],
                );
                kernels::backward_apply::launch_unchecked(
                    &client,
                    division.cubes(),
                    division.units(),
                    address_type,
                    division.vector,
                    gradient.into_tensor_arg(),
                    input.into_tensor_arg(),
                    mean.into_tensor_arg(),
                    mean_rest.into_tensor_arg(),
                    lines.into_tensor_arg(),
                    output_arg,
                    division.extent(),
                    division.plan,
                    rectified,
                    elems(dtype),
                );
            }
        }
        BatchNormGradients {
            input: order.undo::<Self>(output),
            gamma: for_gamma,
            beta: for_beta,
        }
    }

    fn batch_norm_inference(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        epsilon: f64,
        rectify: bool,
    ) -> FloatTensor<Self> {
        check::<Self>(&input, &[], &[&gamma, &beta, &mean, &variance]);
        let order = Order::of::<Self>(&input);
        let (input, rows) = order.apply::<Self>(input);
        let dims = order.dims::<Self>(&input);
        let Some(division) = Division::of(&input, dims, rows) else {
            let input = order.undo::<Self>(input);
            return portable::inference::<Self>(
                input, gamma, beta, mean, variance, epsilon, rectify,
            );
        };
        let [gamma, beta, mean, variance] = [gamma, beta, mean, variance].map(into_contiguous);
        let (client, dtype) = (input.client.clone(), input.dtype);
        let (output, output_arg) = written_over(&input, rows, 0);
        let address_type = address_type(&[&input]);
        // SAFETY: every unit reads and writes inside of the tensors, whose sizes the division is made from.
        unsafe {
            kernels::apply::launch_unchecked(
                &client,
                division.cubes(),
                division.units(),
                address_type,
                division.vector,
                input.into_tensor_arg(),
                gamma.into_tensor_arg(),
                beta.into_tensor_arg(),
                mean.clone().into_tensor_arg(),
                mean.into_tensor_arg(),
                variance.into_tensor_arg(),
                output_arg,
                scalar(epsilon, dtype),
                division.extent(),
                division.plan,
                false,
                rectify,
                elems(dtype),
            );
        }
        order.undo::<Self>(output)
    }
}
