//! Batch normalisation in a backend's own tensor operations, for the backends without kernels here.
//!
//! The equations are [`reference`](super::reference)'s; Burn's operations evaluate them, on the input with the mean
//! taken off first, since Burn's own lose a small deviation from a large mean.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{FloatDType, Shape};

use super::{
    BatchNormAffine, BatchNormBackward, BatchNormForward, BatchNormGradients, BatchNormMoments,
    BatchNormStatistics, Then, statistics_dtype,
};

pub(super) fn forward<B: Backend>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    epsilon: f64,
    then: Then,
) -> BatchNormForward<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let mean = channel_means::<B>(input.clone());
    let centred = centre::<B>(input, mean.clone());
    let result = B::batch_norm_train(centred, affine.gamma, affine.beta, epsilon);
    BatchNormForward {
        output: B::float_cast(followed::<B>(result.output, then), dtype.into()),
        mean,
        mean_rest: result.mean,
        variance: result.variance,
    }
}

pub(super) fn backward<B: Backend>(
    saved: BatchNormBackward<B>,
    epsilon: f64,
    frozen: bool,
    then: Then,
) -> BatchNormGradients<B> {
    let BatchNormBackward {
        input,
        gradient,
        affine: BatchNormAffine { gamma, beta },
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
    if then.is_relu() {
        let output = B::batch_norm(
            centred.clone(),
            gamma.clone(),
            beta,
            mean_rest.clone(),
            variance.clone(),
            epsilon,
        );
        gradient = B::relu_backward(B::relu(output), gradient);
    }
    let gradients = B::batch_norm_train_backward(
        centred,
        gamma.clone(),
        mean_rest,
        variance.clone(),
        epsilon,
        gradient.clone(),
    );
    let input = if frozen {
        let deviation = B::float_sqrt(B::float_add_scalar(variance, epsilon.into()));
        let scale = B::float_div(gamma, deviation);
        let shape = per_channel(&gradient.shape());
        B::float_mul(gradient, B::float_reshape(scale, shape))
    } else {
        gradients.x_grad
    };
    BatchNormGradients {
        input: B::float_cast(input, dtype.into()),
        gamma: gradients.gamma_grad,
        beta: gradients.beta_grad,
    }
}

pub(super) fn inference<B: Backend>(
    input: FloatTensor<B>,
    affine: BatchNormAffine<B>,
    moments: BatchNormMoments<B>,
    epsilon: f64,
    then: Then,
) -> FloatTensor<B> {
    let dtype = input.dtype();
    let input = in_statistics_dtype::<B>(input);
    let output = B::batch_norm(
        input,
        affine.gamma,
        affine.beta,
        moments.mean,
        moments.variance,
        epsilon,
    );
    B::float_cast(followed::<B>(output, then), dtype.into())
}

/// Applies what follows the normalisation.
fn followed<B: Backend>(output: FloatTensor<B>, then: Then) -> FloatTensor<B> {
    match then {
        Then::Nothing => output,
        Then::Relu => B::relu(output),
    }
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

/// The shape that lines `[channels]` up with `[batch, channels, ...]`: `[1, channels, 1, ...]`.
fn per_channel(shape: &Shape) -> Shape {
    let mut dims = vec![1; shape.num_dims()];
    dims[1] = shape[1];
    Shape::from(dims)
}

fn in_statistics_dtype<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    let dtype = statistics_dtype(tensor.dtype());
    if tensor.dtype() == dtype {
        tensor
    } else {
        B::float_cast(tensor, FloatDType::from(dtype))
    }
}

/// The processor backends have kernels, so that the public functions reach this file on a GPU alone: here it runs on
/// Flex, against the kernels.
#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::norm::op::BatchNormBackend;
    use burn::backend::Flex;
    use burn::tensor::{Device, Distribution, Tensor, Tolerance};

    const EPSILON: f64 = 1e-5;

    fn random<const D: usize>(shape: [usize; D], mean: f64) -> FloatTensor<Flex> {
        Tensor::<D>::random(shape, Distribution::Normal(mean, 1.5), &Device::flex())
            .try_into_primitive::<Flex>()
            .expect("a tensor of Flex")
    }

    fn assert_same<const D: usize>(found: FloatTensor<Flex>, expected: FloatTensor<Flex>) {
        let [found, expected] = [found, expected]
            .map(|primitive| Tensor::<D>::from_primitive::<Flex>(primitive).into_data());
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 1e-4));
    }

    #[test]
    fn agrees_with_the_kernels() {
        for then in [Then::Nothing, Then::Relu] {
            agrees(then);
        }
    }

    fn agrees(then: Then) {
        let (input, gradient) = (random([6, 5, 7], 100.0), random([6, 5, 7], 0.0));
        let (gamma, beta) = (random([5], 1.0), random([5], 0.0));
        let given = || {
            let (gamma, beta) = (gamma.clone(), beta.clone());
            (input.clone(), BatchNormAffine { gamma, beta })
        };

        let (x, affine) = given();
        let found = forward::<Flex>(x, affine, EPSILON, then);
        let (x, affine) = given();
        let expected = Flex::batch_norm_forward(x, affine, EPSILON, then);
        assert_same::<3>(found.output, expected.output);
        assert_same::<1>(found.mean.clone(), expected.mean);
        assert_same::<1>(found.variance.clone(), expected.variance);

        for frozen in [false, true] {
            let saved = || {
                let (input, affine) = given();
                BatchNormBackward {
                    input,
                    gradient: gradient.clone(),
                    affine,
                    statistics: BatchNormStatistics {
                        mean: found.mean.clone(),
                        mean_rest: found.mean_rest.clone(),
                        variance: found.variance.clone(),
                    },
                }
            };
            let expected = Flex::batch_norm_backward(saved(), EPSILON, frozen, then);
            let found = backward::<Flex>(saved(), EPSILON, frozen, then);
            assert_same::<3>(found.input, expected.input);
            assert_same::<1>(found.gamma, expected.gamma);
            assert_same::<1>(found.beta, expected.beta);
        }

        let (x, affine) = given();
        let moments = || BatchNormMoments {
            mean: found.mean.clone(),
            variance: found.variance.clone(),
        };
        let expected = Flex::batch_norm_inference(x, affine, moments(), EPSILON, then);
        let (x, affine) = given();
        let found = inference::<Flex>(x, affine, moments(), EPSILON, then);
        assert_same::<3>(found, expected);
    }
}
