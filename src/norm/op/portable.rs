//! Batch normalisation in a backend's own tensor operations, for backends without kernels here.
//!
//! The equations are those of [`reference`](super::reference), computed by Burn's batch norm operations. The mean is
//! subtracted from the input first, because Burn's operations lose a small deviation from a large mean.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, get_or_init_device_settings};
use burn::tensor::{FloatDType, Shape};

use super::{
    BatchNormAffine, BatchNormBackend, BatchNormBackward, BatchNormForward, BatchNormGradients,
    BatchNormMoments, BatchNormStatistics, FusedActivation, TailActivation,
};
#[cfg(feature = "cube")]
use super::{Pooling, PoolingKind, Tail};
use crate::dtype::at_least_f32;

pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    activation: TailActivation,
) -> BatchNormForward<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let mean = channel_means::<B>(input.clone());
    let centred = centre::<B>(input, mean.clone());
    let mut result = B::batch_norm_train(
        centred.clone(),
        affine.gamma.clone(),
        affine.beta.clone(),
        epsilon,
    );
    if activation != TailActivation::None {
        // As the backward pass does, which needs the same bits.
        let (rest, variance) = (result.mean.clone(), result.variance.clone());
        result.output = normalise::<B>(centred, affine, rest, variance, epsilon);
    }
    let output = activate::<B>(plus::<B>(result.output, residual), activation);
    BatchNormForward {
        output: B::float_cast(output, dtype.into()),
        mean,
        mean_rest: result.mean,
        variance: result.variance,
    }
}

/// The mean, its rounding error and the variance of each channel: `[3, channels]`. The backend's forward pass finds
/// them beside an output that is not needed.
pub(super) fn moments<B: BatchNormBackend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let (shape, device) = (Shape::new([input.shape()[1]]), input.device());
    let dtype = FloatDType::from(at_least_f32(input.dtype()));
    let affine = BatchNormAffine {
        gamma: B::float_ones(shape.clone(), &device, dtype),
        beta: B::float_zeros(shape.clone(), &device, dtype),
    };
    let found = B::batch_norm_forward(input, affine, 1.0, FusedActivation::None);
    let row = |values| B::float_reshape(values, Shape::new([1, shape[0]]));
    let rows = [found.mean, found.mean_rest, found.variance].map(row);
    B::float_cat(rows.into(), 0)
}

/// The gradients, and that of the residual if there is one.
pub(super) fn backward<B: Backend>(
    saved: BatchNormBackward<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    frozen: bool,
    activation: TailActivation,
) -> (BatchNormGradients<B>, Option<FloatTensor<B>>) {
    let BatchNormBackward {
        input,
        gradient,
        affine,
        statistics:
            BatchNormStatistics {
                mean,
                mean_rest,
                variance,
            },
    } = saved;
    let dtype = input.dtype();
    let centred = centre::<B>(in_statistics_dtype::<B>(input), mean);
    let mut gradient = in_statistics_dtype::<B>(gradient);
    let is_added = residual.is_some();
    if activation != TailActivation::None {
        let (rest, variance) = (mean_rest.clone(), variance.clone());
        let affine = affine.clone();
        let output = normalise::<B>(centred.clone(), affine, rest, variance, epsilon);
        let z = plus::<B>(output, residual);
        // Round as the forward pass did: where the output is 0 in half precision, the gradient is 0.
        let z = B::float_cast(B::float_cast(z, dtype.into()), centred.dtype().into());
        gradient = let_through::<B>(gradient, z, activation);
    }
    let for_residual = is_added.then(|| B::float_cast(gradient.clone(), dtype.into()));
    let gradients = B::batch_norm_train_backward(
        centred,
        affine.gamma.clone(),
        mean_rest,
        variance.clone(),
        epsilon,
        gradient.clone(),
    );
    let input = if frozen {
        let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
        let scale = B::float_div(affine.gamma, deviation);
        let shape = per_channel(&gradient.shape());
        B::float_mul(gradient, B::float_reshape(scale, shape))
    } else {
        gradients.x_grad
    };
    let gradients = BatchNormGradients {
        input: B::float_cast(input, dtype.into()),
        gamma: gradients.gamma_grad,
        beta: gradients.beta_grad,
    };
    (gradients, for_residual)
}

/// The gradients of [`forward`] and then [`pool`], given that of the pooled output.
#[cfg(feature = "cube")]
pub(super) fn pooled_backward<B: Backend>(
    saved: BatchNormBackward<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    frozen: bool,
    tail: Tail,
) -> (BatchNormGradients<B>, Option<FloatTensor<B>>) {
    let Some(pooling) = tail.pooling else {
        return backward::<B>(saved, residual, epsilon, frozen, tail.activation);
    };
    let Pooling {
        window,
        strides,
        padding,
        ..
    } = pooling;
    let BatchNormStatistics {
        mean,
        mean_rest,
        variance,
    } = saved.statistics.clone();
    let dtype = saved.input.dtype();
    let centred = centre::<B>(in_statistics_dtype::<B>(saved.input.clone()), mean);
    let output = normalise::<B>(centred, saved.affine.clone(), mean_rest, variance, epsilon);
    let output = activate::<B>(plus::<B>(output, residual.clone()), tail.activation);
    let output = B::float_cast(output, dtype.into());
    let gradient = match pooling.kind {
        PoolingKind::Average { count_padding } => B::avg_pool2d_backward(
            output,
            saved.gradient,
            window,
            strides,
            padding,
            count_padding,
            false,
        ),
        PoolingKind::Max => {
            let integers = get_or_init_device_settings::<B>(&output.device()).int_dtype;
            let found = B::max_pool2d_with_indices(
                output.clone(),
                window,
                strides,
                padding,
                [1, 1],
                false,
                integers,
            );
            let gradients = B::max_pool2d_with_indices_backward(
                output,
                window,
                strides,
                padding,
                [1, 1],
                false,
                saved.gradient,
                found.indices,
            );
            gradients.x_grad
        }
    };
    let saved = BatchNormBackward { gradient, ..saved };
    backward::<B>(saved, residual, epsilon, frozen, tail.activation)
}

/// Pools the output of [`forward`] or [`inference`].
#[cfg(feature = "cube")]
pub(super) fn pool<B: Backend>(output: FloatTensor<B>, pooling: Option<Pooling>) -> FloatTensor<B> {
    let Some(Pooling {
        kind,
        window,
        strides,
        padding,
        ..
    }) = pooling
    else {
        return output;
    };
    match kind {
        PoolingKind::Max => B::max_pool2d(output, window, strides, padding, [1, 1], false),
        PoolingKind::Average { count_padding } => {
            B::avg_pool2d(output, window, strides, padding, count_padding, false)
        }
    }
}

pub(super) fn inference<B: Backend>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    moments: BatchNormMoments<B>,
    residual: Option<FloatTensor<B>>,
    epsilon: f64,
    activation: TailActivation,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let rest = B::float_zeros(
        moments.mean.shape(),
        &moments.mean.device(),
        moments.mean.dtype().into(),
    );
    let centred = centre::<B>(input, moments.mean);
    let output = normalise::<B>(centred, affine, rest, moments.variance, epsilon);
    let output = activate::<B>(plus::<B>(output, residual), activation);
    B::float_cast(output, dtype.into())
}

/// `output` and the residual, if there is one, in the type of `output`.
fn plus<B: Backend>(output: FloatTensor<B>, residual: Option<FloatTensor<B>>) -> FloatTensor<B> {
    match residual {
        None => output,
        Some(residual) => B::float_add(output, in_statistics_dtype::<B>(residual)),
    }
}

fn activate<B: Backend>(z: FloatTensor<B>, activation: TailActivation) -> FloatTensor<B> {
    match activation {
        TailActivation::None => z,
        TailActivation::Relu => B::relu(z),
        TailActivation::LeakyRelu { .. } => let_through::<B>(z.clone(), z, activation),
        TailActivation::Sigmoid => sigmoid::<B>(z),
        TailActivation::Tanh => B::float_tanh(z),
        TailActivation::Silu => B::float_mul(z.clone(), sigmoid::<B>(z)),
    }
}

/// The gradient of `z`, given that of its activation. At 0, it is that below.
fn let_through<B: Backend>(
    gradient: FloatTensor<B>,
    z: FloatTensor<B>,
    activation: TailActivation,
) -> FloatTensor<B> {
    match activation {
        TailActivation::None => gradient,
        TailActivation::Relu => B::relu_backward(B::relu(z), gradient),
        TailActivation::LeakyRelu { slope } => {
            let dtype = get_or_init_device_settings::<B>(&z.device()).bool_dtype;
            let is_below = B::float_lower_equal_elem(z, 0.0.into(), dtype);
            let below = B::float_mul_scalar(gradient.clone(), slope.into());
            B::float_mask_where(gradient, is_below, below)
        }
        TailActivation::Sigmoid => B::float_mul(gradient, sigmoid_slope::<B>(z)),
        TailActivation::Tanh => {
            // tanh(z) = 2 sigmoid(2 z) - 1.
            let slope = sigmoid_slope::<B>(B::float_mul_scalar(z, 2.0.into()));
            B::float_mul(gradient, B::float_mul_scalar(slope, 4.0.into()))
        }
        TailActivation::Silu => {
            let slope = B::float_mul(z.clone(), sigmoid_slope::<B>(z.clone()));
            B::float_mul(gradient, B::float_add(sigmoid::<B>(z), slope))
        }
    }
}

/// The derivative of the sigmoid: the product of those of `z` and `-z`.
fn sigmoid_slope<B: Backend>(z: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(sigmoid::<B>(z.clone()), sigmoid::<B>(B::float_neg(z)))
}

/// In the type of `z`: most backends compute their own in f32.
fn sigmoid<B: Backend>(z: FloatTensor<B>) -> FloatTensor<B> {
    let e = B::float_exp(B::float_neg(z));
    B::float_recip(B::float_add_scalar(e, 1.0.into()))
}

/// Normalises an input from which the mean has been subtracted. `rest` is the rounding error of that mean; it is
/// subtracted here.
///
/// If an activation follows, the forward and the backward pass both compute the output here, from the same statistics.
/// So the gradient passes exactly where the output is above 0.
fn normalise<B: Backend>(
    centred: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    rest: FloatTensor<B>,
    variance: FloatTensor<B>,
    epsilon: f64,
) -> FloatTensor<B> {
    B::batch_norm(centred, affine.gamma, affine.beta, rest, variance, epsilon)
}

/// `input - mean`, for `[batch, channels, ...]` and `[channels]`.
fn centre<B: Backend>(input: FloatTensor<B>, mean: FloatTensor<B>) -> FloatTensor<B> {
    let shape = per_channel(&input.shape());
    B::float_sub(input, B::float_reshape(mean, shape))
}

/// The mean of each channel of `[batch, channels, ...]`, as `[channels]`.
fn channel_means<B: Backend>(input: FloatTensor<B>) -> FloatTensor<B> {
    let shape = input.shape();
    let channels = shape[1];
    let values = shape.num_elements() / channels.max(1);
    let rows = B::float_swap_dims(input, 0, 1);
    let rows = B::float_reshape(rows, Shape::new([channels, values]));
    B::float_reshape(B::float_mean_dim(rows, 1), Shape::new([channels]))
}

/// The shape in which `[channels]` broadcasts over `[batch, channels, ...]`: `[1, channels, 1, ...]`.
fn per_channel(shape: &Shape) -> Shape {
    let mut dims = vec![1; shape.num_dims()];
    dims[1] = shape[1];
    Shape::from(dims)
}

fn in_statistics_dtype<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = at_least_f32(tensor.dtype());
    if tensor.dtype() == dtype {
        tensor
    } else {
        B::float_cast(tensor, FloatDType::from(dtype))
    }
}

/// The CPU backends have kernels, so the public functions reach this file only on a GPU. These tests call it on Flex
/// and compare it with the kernels.
#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::norm::op::{BatchNormResidual, BatchNormThenBackend, BatchNormThenBackward, Tail};
    use burn::backend::Flex;
    use burn::tensor::{Device, Distribution, Tensor, Tolerance};

    const EPSILON: f64 = 1e-5;

    fn random<const D: usize>(shape: [usize; D], mean: f64) -> FloatTensor<Flex> {
        primitive(Tensor::<D>::random(
            shape,
            Distribution::Normal(mean, 1.5),
            &Device::flex(),
        ))
    }

    fn assert_same<const D: usize>(found: FloatTensor<Flex>, expected: FloatTensor<Flex>) {
        let [found, expected] = [found, expected]
            .map(|primitive| Tensor::<D>::from_primitive::<Flex>(primitive).into_data());
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 1e-4));
    }

    /// In each channel, one output is 0 up to rounding.
    #[test]
    fn the_gradient_passes_where_the_output_is_above_zero() {
        let device = &Device::flex();
        let gamma = Tensor::<1>::random([50], Distribution::Normal(1.0, 0.5), device);
        let input = random([4, 50, 3], 2.0);
        let skip = random([4, 50, 3], 0.0);
        for (given, residual) in [
            (false, None),
            (true, None),
            (false, Some(skip.clone())),
            (true, Some(skip)),
        ] {
            let run = |beta: &Tensor<1>, activation| {
                let affine = affine(&gamma, beta);
                let (input, residual) = (input.clone(), residual.clone());
                if given {
                    let moments = BatchNormMoments::<Flex> {
                        mean: primitive(gamma.clone()),
                        variance: primitive(gamma.clone().abs()),
                    };
                    let statistics = BatchNormStatistics::<Flex> {
                        mean: moments.mean.clone(),
                        mean_rest: primitive(gamma.zeros_like()),
                        variance: moments.variance.clone(),
                    };
                    let output =
                        inference::<Flex>(input, affine, moments, residual, EPSILON, activation);
                    (Tensor::<3>::from_primitive::<Flex>(output), statistics)
                } else {
                    let found = forward::<Flex>(input, affine, residual, EPSILON, activation);
                    let statistics = BatchNormStatistics::<Flex> {
                        mean: found.mean,
                        mean_rest: found.mean_rest,
                        variance: found.variance,
                    };
                    (Tensor::from_primitive::<Flex>(found.output), statistics)
                }
            };
            let (products, _) = run(&gamma.zeros_like(), TailActivation::None);
            let beta = -products.slice([0..1, 0..50, 0..1]).reshape([50]);
            let (output, statistics) = run(&beta, TailActivation::Relu);
            let saved = BatchNormBackward {
                input: input.clone(),
                gradient: primitive(output.ones_like()),
                affine: affine(&gamma, &beta),
                statistics,
            };
            let is_added = residual.is_some();
            let (found, for_residual) =
                backward::<Flex>(saved, residual, EPSILON, given, TailActivation::Relu);
            let passed = output.greater_elem(0.0).float();
            assert_eq!(for_residual.is_some(), is_added);
            if let Some(found) = for_residual {
                let found = Tensor::<3>::from_primitive::<Flex>(found);
                found.into_data().assert_eq(&passed.to_data(), true);
            }
            let passed: Tensor<2> = passed.swap_dims(0, 1).reshape([50, 12]);
            Tensor::<1>::from_primitive::<Flex>(found.beta)
                .into_data()
                .assert_eq(&passed.sum_dim(1).reshape::<1, _>([50]).into_data(), true);
        }
    }

    fn primitive<const D: usize>(tensor: Tensor<D>) -> FloatTensor<Flex> {
        tensor
            .try_into_primitive::<Flex>()
            .expect("a tensor of Flex")
    }

    fn affine(gamma: &Tensor<1>, beta: &Tensor<1>) -> BatchNormAffine<Flex> {
        BatchNormAffine {
            gamma: primitive(gamma.clone()),
            beta: primitive(beta.clone()),
        }
    }

    #[test]
    fn agrees_with_the_kernels() {
        for activation in [
            TailActivation::None,
            TailActivation::Relu,
            TailActivation::LeakyRelu { slope: 0.2 },
            TailActivation::Sigmoid,
            TailActivation::Tanh,
            TailActivation::Silu,
        ] {
            for residual in [None, Some(random([6, 5, 7], 0.0))] {
                agrees(residual, activation);
            }
        }
    }

    fn agrees(residual: Option<FloatTensor<Flex>>, activation: TailActivation) {
        let tail = Tail {
            activation,
            pooling: None,
        };
        let (input, gradient) = (random([6, 5, 7], 100.0), random([6, 5, 7], 0.0));
        let (gamma, beta) = (random([5], 1.0), random([5], 0.0));
        let given = || {
            let (gamma, beta) = (gamma.clone(), beta.clone());
            (
                input.clone(),
                BatchNormAffine { gamma, beta },
                residual.clone(),
            )
        };

        let (x, affine, skip) = given();
        let found = forward::<Flex>(x, affine, skip, EPSILON, activation);
        let (x, affine, skip) = given();
        let expected = Flex::batch_norm_then_forward(x, affine, skip.into(), EPSILON, tail, 1);
        assert_same::<3>(found.output, expected.output);
        assert_same::<1>(found.mean.clone(), expected.mean);
        assert_same::<1>(found.variance.clone(), expected.variance);

        for frozen in [false, true] {
            let statistics = || BatchNormStatistics {
                mean: found.mean.clone(),
                mean_rest: found.mean_rest.clone(),
                variance: found.variance.clone(),
            };
            let (input, affine, skip) = given();
            let saved = BatchNormThenBackward {
                input,
                gradient: gradient.clone(),
                residual: skip.into(),
                affine,
                statistics: statistics(),
            };
            let expected = Flex::batch_norm_then_backward(saved, EPSILON, frozen, tail, 1);
            let (input, affine, skip) = given();
            let saved = BatchNormBackward {
                input,
                gradient: gradient.clone(),
                affine,
                statistics: statistics(),
            };
            let (found, for_residual) = backward::<Flex>(saved, skip, EPSILON, frozen, activation);
            assert_same::<3>(found.input, expected.input);
            assert_same::<1>(found.gamma, expected.gamma);
            assert_same::<1>(found.beta, expected.beta);
            match (for_residual, expected.residual) {
                (Some(found), BatchNormResidual::Added(expected)) => {
                    assert_same::<3>(found, expected);
                }
                (found, expected) => {
                    assert!(found.is_none() && matches!(expected, BatchNormResidual::Absent));
                }
            }
        }

        let moments = || BatchNormMoments {
            mean: found.mean.clone(),
            variance: found.variance.clone(),
        };
        let (x, affine, skip) = given();
        let (skip, given_moments) = (skip.into(), moments());
        let expected =
            Flex::batch_norm_then_inference(x, affine, given_moments, skip, EPSILON, tail);
        let (x, affine, skip) = given();
        let found = inference::<Flex>(x, affine, moments(), skip, EPSILON, activation);
        assert_same::<3>(found, expected);
    }
}
