//! From a backend's tensors to the kernels and back.
//!
//! A dense tensor is used without a copy, even if it is transposed or channels-last, and the output has the same
//! layout. A view with gaps, repeated or reversed values is copied first. A tensor that nobody else holds is
//! overwritten.

use std::ops::Range;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Element, Shape, TensorData};

use super::blocks::{Input, Target};
use super::kernels::{self, Affine, Backward, Forward, Statistics};
use super::regions::Part;
use super::smooth::Smooth;
use super::value::{Real, Value};
use crate::norm::op::layout::{Dims, Order, Strided, check, check_gradient, check_statistics};
use crate::norm::op::{
    BatchNormAffine, BatchNormForward, BatchNormMoments, BatchNormThenBackward,
    BatchNormThenGradients, Positions, Tail,
};

/// Access to the values of a backend's tensors.
pub(super) trait Values<T>: Backend {
    /// The values of a contiguous tensor.
    fn values(tensor: &FloatTensor<Self>) -> &[T];

    /// The values of a contiguous tensor if nobody else holds them.
    fn values_mut(tensor: &mut FloatTensor<Self>) -> Option<&mut [T]>;

    /// A new tensor of the values that `write` writes, and what that returns.
    ///
    /// # Safety
    ///
    /// `write` writes as many values as the shape has from the given place on, and reads none that it has not written.
    unsafe fn written<R>(shape: Shape, write: impl FnOnce(*mut T) -> R) -> (FloatTensor<Self>, R);
}

/// Lets a kernel write over a tensor if nobody else holds it, else into a new one of its shape.
///
/// # Safety
///
/// `kernel` writes all values of the target, and reads none of them that it has not written, unless as its input.
unsafe fn write_over<B, T, R>(
    mut tensor: FloatTensor<B>,
    kernel: impl FnOnce(Input<T>, Target<T>) -> R,
) -> (FloatTensor<B>, R)
where
    B: Values<T>,
    T: Value,
{
    if let Some(values) = B::values_mut(&mut tensor) {
        let (start, len) = (values.as_mut_ptr(), values.len());
        let result = kernel(Input::new(start, len), Target::new(start, len));
        return (tensor, result);
    }
    let values = B::values(&tensor);
    let (input, len) = (Input::of(values), values.len());
    // SAFETY: by this function's condition.
    unsafe {
        B::written(tensor.shape(), |start| {
            kernel(input, Target::new(start, len))
        })
    }
}

/// The values of a tensor of one value per channel.
fn channel_values<B: Values<T> + Strided, T: Copy>(tensor: FloatTensor<B>) -> Vec<T> {
    B::values(&B::contiguous(tensor)).to_vec()
}

/// Gamma and beta of each channel.
fn affine_values<B: Values<R> + Strided, R: Copy>(affine: BatchNormAffine<B>) -> Affine<R> {
    Affine {
        gamma: channel_values::<B, R>(affine.gamma),
        beta: channel_values::<B, R>(affine.beta),
    }
}

/// The statistics of each channel; without `mean_rest`, that is 0.
fn statistics_values<B: Values<R> + Strided, R: Real>(
    mean: FloatTensor<B>,
    mean_rest: Option<FloatTensor<B>>,
    variance: FloatTensor<B>,
) -> Vec<Statistics<R>> {
    let mean = channel_values::<B, R>(mean);
    let rest = mean_rest.map_or_else(|| vec![R::default(); mean.len()], channel_values::<B, R>);
    let variance = channel_values::<B, R>(variance);
    let channels = mean.into_iter().zip(rest).zip(variance);
    let statistics = channels.map(|((mean, mean_rest), variance)| Statistics {
        mean,
        mean_rest,
        variance,
    });
    statistics.collect()
}

/// A tensor of one value per channel.
fn channel_tensor<B: Backend, T: Element>(values: Vec<T>, device: &B::Device) -> FloatTensor<B> {
    let shape = [values.len()];
    B::float_from_data(TensorData::new(values, shape), device)
}

/// How the tensors of an operation lie: the order of their axes, and their dimensions in it.
struct Laid {
    order: Order,
    dims: Dims,
    /// In this order.
    shape: Shape,
}

impl Laid {
    /// Takes the input as it lies or, before a pooling, as contiguous images. If the batch has several parts, it is the
    /// outermost axis.
    fn of<B: Strided>(input: FloatTensor<B>, tail: Tail, parts: usize) -> (Self, FloatTensor<B>) {
        let mut order = Order::of::<B>(&input);
        if tail.pooling.is_some() || parts > 1 && !order.begins_with_the_batch() {
            order = Order::natural(input.shape().num_dims());
        }
        let (mut laid, input) = Self::in_order::<B>(order, input);
        let batch = laid.shape[0];
        if laid.dims.channels == 1 && (tail.pooling.is_some() || parts > 1) {
            // Images and parts are not one block.
            laid.dims.outer = batch;
            laid.dims.inner = laid.shape.num_elements() / batch;
        }
        (laid, input)
    }

    /// The parts of equal size of the batch.
    fn parts(&self, parts: usize) -> impl Iterator<Item = Part> {
        let dims = self.dims;
        let each = dims.outer / parts;
        (0..parts).map(move |part| Part::of_outer(dims, part * each..(part + 1) * each))
    }

    /// Takes the input in this order.
    fn in_order<B: Strided>(order: Order, input: FloatTensor<B>) -> (Self, FloatTensor<B>) {
        let (input, _) = order.apply::<B>(input);
        let (shape, dims) = (input.shape(), order.dims::<B>(&input));
        (Self { order, dims, shape }, input)
    }

    /// Another tensor of the operation, in the same order.
    fn lay<B: Strided>(&self, tensor: FloatTensor<B>) -> FloatTensor<B> {
        self.order.apply::<B>(tensor).0
    }
}

/// Runs a forward pass, which overwrites the input if nobody else holds it and there is no pooling.
///
/// # Safety
///
/// `kernel` writes all values of the output, and reads none of them that it has not written, unless as its input.
unsafe fn run<B, T, R>(
    input: FloatTensor<B>,
    residual: Option<FloatTensor<B>>,
    tail: Tail,
    parts: usize,
    kernel: impl FnOnce(&Laid, Forward<T>) -> R,
) -> (FloatTensor<B>, R)
where
    B: Strided + Values<T>,
    T: Value,
{
    let output = tail.output_shape(&input.shape());
    let (laid, input) = Laid::of::<B>(input, tail, parts);
    let residual = residual.map(|residual| laid.lay::<B>(residual));
    let residual = residual.as_ref().map(|it| Input::of(B::values(it)));
    // SAFETY: by this function's condition. The residual lives to the end, and an input that nobody else holds shares
    // no memory with it.
    let (output, result) = unsafe {
        match tail.pooling {
            None => write_over::<B, T, _>(input, |input, output| {
                let tensors = Forward {
                    input,
                    residual,
                    output,
                };
                kernel(&laid, tensors)
            }),
            Some(_) => {
                let (input, len) = (Input::of(B::values(&input)), output.num_elements());
                B::written(output, |start| {
                    let tensors = Forward {
                        input,
                        residual,
                        output: Target::new(start, len),
                    };
                    kernel(&laid, tensors)
                })
            }
        }
    };
    (laid.order.undo::<B>(output), result)
}

pub(super) fn forward<B, T>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    tail: Tail,
    parts: usize,
) -> BatchNormForward<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    let like_input: Vec<_> = residual.iter().collect();
    check::<B>(&input, &like_input, &[&affine.gamma, &affine.beta]);
    let device = input.device();
    let affine = affine_values::<B, T::Real>(affine);
    let (tail, smooth) = Smooth::take(tail);
    // SAFETY: the tensors have as many values as their dimensions say; `run` gives the kernel the memory for itself.
    let (output, statistics) = unsafe {
        run::<B, T, _>(input, residual, tail, parts, |laid, tensors| {
            let statistics = laid
                .parts(parts)
                .flat_map(|part| kernels::forward(&part, tensors, &affine, epsilon, tail))
                .collect::<Vec<_>>();
            if let Some(smooth) = smooth {
                smooth.activate(tensors.output.values());
            }
            statistics
        })
    };
    let per_channel = |value: fn(&Statistics<T::Real>) -> T::Real| {
        channel_tensor::<B, T::Real>(statistics.iter().map(value).collect(), &device)
    };
    BatchNormForward {
        output,
        mean: per_channel(|channel| channel.mean),
        mean_rest: per_channel(|channel| channel.mean_rest),
        variance: per_channel(|channel| channel.variance),
    }
}

/// A tensor's values as they lie, and which of them count.
struct Counted<B: Backend> {
    laid: Laid,
    input: FloatTensor<B>,
    part: Part,
    /// Runs of the part's places; `None` if all count.
    runs: Option<Vec<Range<usize>>>,
}

impl<B: Strided> Counted<B> {
    fn new(input: FloatTensor<B>, positions: &Positions) -> Self {
        let Some(runs) = positions.runs() else {
            let (laid, input) = Laid::of::<B>(input, Tail::NOTHING, 1);
            let part = Part::whole(laid.dims);
            return Self {
                laid,
                input,
                part,
                runs: None,
            };
        };
        // Positions are counted row by row.
        let mut order = Order::of::<B>(&input);
        if !order.keeps_positions() {
            order = Order::natural(input.shape().num_dims());
        }
        let (laid, input) = Laid::in_order::<B>(order, input);
        let mut part = Part::whole(laid.dims);
        // Rows of several positions are not cut.
        part.by_runs |= laid.dims.inner > 1;
        Self {
            laid,
            input,
            part,
            runs: Some(runs.to_vec()),
        }
    }
}

/// The statistics of each channel, as the rows of a tensor `[3, channels]`: mean, rounding error of the mean, variance.
pub(super) fn moments<B, T>(input: FloatTensor<B>, positions: Positions) -> FloatTensor<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    check::<B>(&input, &[], &[]);
    let device = input.device();
    let counted = Counted::<B>::new(input, &positions);
    let values = Input::of(<B as Values<T>>::values(&counted.input));
    // SAFETY: the tensor has as many values as its dimensions say, and lives to the end.
    let statistics = unsafe { kernels::moments(&counted.part, values, counted.runs.as_deref()) };
    let row = |value: fn(&Statistics<T::Real>) -> T::Real| statistics.iter().map(value);
    let rows = row(|it| it.mean)
        .chain(row(|it| it.mean_rest))
        .chain(row(|it| it.variance))
        .collect::<Vec<_>>();
    B::float_from_data(TensorData::new(rows, [3, statistics.len()]), &device)
}

/// Averages the statistics of a batch into running ones. Rounding errors add up over many updates, so the averages are
/// computed in f64, as in PyTorch.
pub(super) fn average<B, R>(
    running: BatchNormMoments<B>,
    batch: BatchNormMoments<B>,
    gain: f64,
    correction: f64,
) -> BatchNormMoments<B>
where
    B: Strided + Values<R>,
    R: Real + Element,
{
    let device = running.mean.device();
    let [mut mean, mut variance] = [running.mean, running.variance].map(channel_values::<B, R>);
    let [batch_mean, batch_variance] = [batch.mean, batch.variance].map(channel_values::<B, R>);
    let found = batch_mean.into_iter().zip(batch_variance);
    for ((mean, variance), found) in mean.iter_mut().zip(&mut variance).zip(found) {
        let average =
            |held: R, batch: f64| R::from_f64(held.to_f64() * (1.0 - gain) + batch * gain);
        let new = average(*variance, found.1.to_f64() * correction);
        if new.to_f64().is_finite() {
            *variance = new;
            *mean = average(*mean, found.0.to_f64());
        }
    }
    let [mean, variance] = [mean, variance].map(|values| channel_tensor::<B, R>(values, &device));
    BatchNormMoments { mean, variance }
}

/// The tensor with 0 for every value that does not count.
pub(super) fn keep<B, T>(tensor: FloatTensor<B>, positions: Positions) -> FloatTensor<B>
where
    B: Strided + Values<T>,
    T: Value + Element,
{
    let counted = Counted::<B>::new(tensor, &positions);
    let Some(runs) = counted.runs else {
        return counted.laid.order.undo::<B>(counted.input);
    };
    let len = counted.laid.dims.len();
    let mut tensor = counted.input;
    let mut tensor = match <B as Values<T>>::values_mut(&mut tensor).is_some() {
        true => tensor,
        false => B::float_add_scalar(tensor, 0.0.into()),
    };
    let values = <B as Values<T>>::values_mut(&mut tensor).expect("a new tensor is nobody else's");
    let target = Target::new(values.as_mut_ptr(), len);
    // SAFETY: the tensor has as many values as its dimensions say, and nobody else holds it.
    unsafe { kernels::clear_others(&counted.part, target, &runs) };
    counted.laid.order.undo::<B>(tensor)
}

pub(super) fn backward<B, T>(
    saved: BatchNormThenBackward<B>,
    epsilon: f64,
    frozen: bool,
    tail: Tail,
    parts: usize,
) -> BatchNormThenGradients<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    let BatchNormThenBackward {
        input,
        gradient,
        residual,
        affine,
        statistics,
    } = saved;
    let residual = residual.tensor();
    let like_input: Vec<_> = residual.iter().collect();
    check::<B>(&input, &like_input, &[&affine.gamma, &affine.beta]);
    check_statistics::<B>(
        &input,
        &[
            &statistics.mean,
            &statistics.mean_rest,
            &statistics.variance,
        ],
        parts,
    );
    check_gradient::<B>(&input, &gradient, tail.output_shape(&input.shape()));
    let device = input.device();
    let (laid, input) = Laid::of::<B>(input, tail, parts);
    let gradient = laid.lay::<B>(gradient);
    let affine = affine_values::<B, T::Real>(affine);
    let statistics = statistics_values::<B, T::Real>(
        statistics.mean,
        Some(statistics.mean_rest),
        statistics.variance,
    );
    let residual = residual.map(|residual| laid.lay::<B>(residual));
    let residual_values = residual
        .as_ref()
        .map(|it| Input::of(<B as Values<T>>::values(it)));
    let input_values = Input::of(<B as Values<T>>::values(&input));
    let (shape, len) = (laid.shape.clone(), laid.dims.len());
    let (tail, smooth) = Smooth::take(tail);
    let gradient = match smooth {
        None => gradient,
        Some(smooth) => {
            let of_output = <B as Values<T>>::values(&gradient);
            // SAFETY: the tensors have as many values as the dimensions say, and live to the end. The kernels write all
            // of the new one before it is read.
            let (gated, ()) = unsafe {
                B::written(shape.clone(), |start| {
                    let output = Target::new(start, len);
                    let tensors = Forward {
                        input: input_values,
                        residual: residual_values,
                        output,
                    };
                    let of_parts = laid.parts(parts).zip(statistics.chunks(laid.dims.channels));
                    for (part, statistics) in of_parts {
                        kernels::inference(&part, tensors, &affine, statistics, epsilon, tail);
                    }
                    smooth.differentiate(output.values(), of_output);
                })
            };
            gated
        }
    };
    let kernel = |gradient, gated, output| {
        let tensors = Backward {
            input: input_values,
            residual: residual_values,
            gradient,
            gated,
            output,
        };
        let of_parts = laid.parts(parts).zip(statistics.chunks(laid.dims.channels));
        let mut parameters = of_parts.map(|(part, statistics)| {
            // SAFETY: the tensors have as many values as the dimensions say. Input and residual live to the end, and a
            // gradient that nobody else holds shares no memory with them. What is written is new, or that gradient.
            unsafe { kernels::backward(&part, tensors, &affine, statistics, epsilon, frozen, tail) }
        });
        let first = parameters.next().expect("a batch has at least one part");
        parameters.fold(first, kernels::added)
    };
    // The gradient of the residual, if there is one, and that of the input. SAFETY: the kernel writes all values of
    // `output` and, if something follows the normalisation, of `gated`, before it reads them.
    let (for_residual, (for_input, parameters)) = unsafe {
        match (&residual, tail.pooling) {
            (None, None) => {
                let written = write_over::<B, T, _>(gradient, |gradient, output| {
                    kernel(gradient, output, output)
                });
                (None, written)
            }
            // Nothing stands between the residual and the output: they have one gradient.
            (Some(_), None) if tail == Tail::NOTHING => {
                let values = Input::of(<B as Values<T>>::values(&gradient));
                let written = B::written(shape, |start| {
                    let output = Target::new(start, len);
                    kernel(values, output, output)
                });
                (Some(gradient), written)
            }
            (Some(_), None) => {
                let (gated, written) = write_over::<B, T, _>(gradient, |gradient, gated| {
                    B::written(shape, |start| {
                        kernel(gradient, gated, Target::new(start, len))
                    })
                });
                (Some(gated), written)
            }
            (None, Some(_)) => {
                let gradient = Input::of(<B as Values<T>>::values(&gradient));
                let written = B::written(shape, |start| {
                    let output = Target::new(start, len);
                    kernel(gradient, output, output)
                });
                (None, written)
            }
            (Some(_), Some(_)) => {
                let gradient = Input::of(<B as Values<T>>::values(&gradient));
                let (gated, written) = B::written(shape.clone(), |gated| {
                    B::written(shape, |start| {
                        let gated = Target::new(gated, len);
                        kernel(gradient, gated, Target::new(start, len))
                    })
                });
                (Some(gated), written)
            }
        }
    };
    let (for_gamma, for_beta) = parameters
        .iter()
        .map(|channel| (channel.gamma, channel.beta))
        .unzip();
    BatchNormThenGradients {
        input: laid.order.undo::<B>(for_input),
        gamma: channel_tensor::<B, T::Real>(for_gamma, &device),
        beta: channel_tensor::<B, T::Real>(for_beta, &device),
        residual: for_residual.map(|it| laid.order.undo::<B>(it)).into(),
    }
}

pub(super) fn inference<B, T>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    moments: BatchNormMoments<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    tail: Tail,
) -> FloatTensor<B>
where
    B: Strided + Values<T> + Values<T::Real>,
    T: Value + Element,
    T::Real: Element,
{
    let like_input: Vec<_> = residual.iter().collect();
    check::<B>(
        &input,
        &like_input,
        &[
            &affine.gamma,
            &affine.beta,
            &moments.mean,
            &moments.variance,
        ],
    );
    let affine = affine_values::<B, T::Real>(affine);
    let statistics = statistics_values::<B, T::Real>(moments.mean, None, moments.variance);
    let is_alone = residual.is_none() && tail == Tail::NOTHING;
    if is_alone && kernels::is_identity(&affine, &statistics, epsilon) {
        return input;
    }
    let (tail, smooth) = Smooth::take(tail);
    // SAFETY: the tensors have as many values as their dimensions say; `run` gives the kernel the memory for itself.
    let (output, ()) = unsafe {
        run::<B, T, _>(input, residual, tail, 1, |laid, tensors| {
            let part = Part::whole(laid.dims);
            kernels::inference(&part, tensors, &affine, &statistics, epsilon, tail);
            if let Some(smooth) = smooth {
                smooth.activate(tensors.output.values());
            }
        })
    };
    output
}
