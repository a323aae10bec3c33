//! Compares the kernels that pool with those that do not, whose output is pooled here, on the host: the maxima to the bit.

use std::collections::BTreeMap;
use std::fmt;

use burn::nn::PaddingConfig2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::Then;
use burn_kindling::norm::op;

use crate::case::Float;
use crate::check::{EPSILON, numbers, relative, worst};
use crate::entry::Entry;

/// One comparison: batch norm, residual, ReLU and a pooling of images `[batch, channels, height, width]`.
#[derive(Clone, Copy)]
pub struct Comparison {
    shape: [usize; 4],
    channels_last: bool,
    dtype: Float,
    window: Window,
}

/// A pooling of square windows.
#[derive(Clone, Copy)]
struct Window {
    max: bool,
    size: usize,
    stride: usize,
    padding: usize,
}

const WINDOWS: [Window; 4] = [
    Window {
        max: true,
        size: 2,
        stride: 2,
        padding: 0,
    },
    Window {
        max: true,
        size: 3,
        stride: 2,
        padding: 1,
    },
    Window {
        max: false,
        size: 3,
        stride: 1,
        padding: 1,
    },
    Window {
        max: false,
        size: 7,
        stride: 7,
        padding: 0,
    },
];

/// One cube per channel, and several.
const SHAPES: [[usize; 4]; 4] = [
    [3, 5, 7, 9],
    [2, 3, 61, 70],
    [64, 33, 14, 14],
    [16, 64, 56, 56],
];
const QUICK: usize = 2;

pub fn comparisons(quick: bool, dtypes: &[Float]) -> Vec<Comparison> {
    let shapes = if quick { &SHAPES[..QUICK] } else { &SHAPES[..] };
    let mut comparisons = Vec::new();
    for &shape in shapes {
        for &dtype in dtypes {
            for window in WINDOWS {
                comparisons.extend([false, true].map(|channels_last| Comparison {
                    shape,
                    channels_last,
                    dtype,
                    window,
                }));
            }
        }
    }
    comparisons
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.dtype, self.shape, self.what())
    }
}

/// An output, and the gradients of its sum weighted: of the input, the residual, gamma and beta.
struct Answer {
    output: Tensor<4>,
    gradients: [Vec<f64>; 4],
}

impl Comparison {
    /// Compares the outputs and the gradients.
    pub fn run(&self, name: &str, device: &Device) -> Entry {
        let [input, skip] = [(); 2].map(|()| self.random(self.shape, device));
        let affine = [1.0, 0.0].map(|mean| {
            let normal = Distribution::Normal(mean, 1.0);
            Tensor::<1>::random([self.shape[1]], normal, device)
        });
        let weights = self.random(self.output_shape(), device);
        let found = self.ask(&input, &skip, &affine, &weights, |then| self.pool(then));

        let nothing = Tensor::<4>::zeros(self.shape, device).cast(self.dtype.dtype());
        let unpooled = self.ask(&input, &skip, &affine, &nothing, |then| then);
        let (output, gradient) = self.pool_here(&numbers(unpooled.output), &numbers(weights));
        let values: Vec<f32> = gradient.iter().map(|&it| it as f32).collect();
        let gradient_of_image = Tensor::<1>::from_data(&values[..], device)
            .reshape(self.shape)
            .cast(self.dtype.dtype());
        let expected = self.ask(&input, &skip, &affine, &gradient_of_image, |then| then);

        let relative = relative(self.dtype);
        let largest = |values: &[f64]| values.iter().fold(1.0, |max: f64, it| max.max(it.abs()));
        let mut errors = BTreeMap::new();
        let mut compare = |what: &str, found: &[f64], expected: &[f64], allowed: f64| {
            errors.insert(what.to_string(), worst(found, expected, &[allowed]));
        };
        let of_output = match self.window.max {
            true => f64::MIN_POSITIVE,
            false => relative * largest(&output),
        };
        compare("output", &numbers(found.output), &output, of_output);
        // Each term of the sums may be rounded otherwise.
        let values_per_channel = (values.len() / self.shape[1]) as f64;
        let of_sums = relative * values_per_channel.sqrt() * largest(&gradient);
        let names = [
            ("input's gradient", relative * 4.0),
            // One may be rounded up and the other down.
            ("residual's gradient", relative * 2.0),
            ("gamma's gradient", of_sums),
            ("beta's gradient", of_sums),
        ];
        for ((what, allowed), (found, expected)) in names
            .iter()
            .zip(found.gradients.iter().zip(&expected.gradients))
        {
            compare(what, found, expected, allowed * largest(expected));
        }
        Entry::Check {
            device: name.to_string(),
            shape: self.shape.to_vec(),
            dtype: self.dtype,
            what: self.what(),
            errors,
        }
    }

    fn ask(
        &self,
        input: &Tensor<4>,
        skip: &Tensor<4>,
        affine: &[Tensor<1>; 2],
        weights: &Tensor<4>,
        pool: impl FnOnce(Then<4>) -> Then<4>,
    ) -> Answer {
        let [input, skip] =
            [input, skip].map(|it| Tensor::<4>::from_inner(it.clone()).require_grad());
        let [gamma, beta] =
            [0, 1].map(|it| Tensor::<1>::from_inner(affine[it].clone()).require_grad());
        let then = pool(Then::new().add_residual(skip.clone()).relu());
        let affine = [gamma.clone(), beta.clone()].map(Some);
        // By given statistics: those of the batch may differ in their last bits, and then other values are the largest.
        let given = [0.5, 4.0].map(|it| Tensor::full([self.shape[1]], it, &gamma.device()));
        let output = op::batch_norm_then_inference(input.clone(), given, affine, EPSILON, then);
        let weighted = output.clone() * Tensor::from_inner(weights.clone());
        let gradients = weighted.sum().backward();
        let [input, skip] =
            [input, skip].map(|it| numbers(it.grad(&gradients).expect("a gradient")));
        let [gamma, beta] =
            [gamma, beta].map(|it| numbers(it.grad(&gradients).expect("a gradient")));
        Answer {
            output: output.inner(),
            gradients: [input, skip, gamma, beta],
        }
    }

    fn pool(&self, then: Then<4>) -> Then<4> {
        let Window {
            max,
            size,
            stride,
            padding,
        } = self.window;
        let padding = PaddingConfig2d::Explicit(padding, padding, padding, padding);
        if max {
            let pool = MaxPool2dConfig::new([size; 2])
                .with_strides([stride; 2])
                .with_padding(padding);
            then.max_pool(&pool.init())
        } else {
            let pool = AvgPool2dConfig::new([size; 2])
                .with_strides([stride; 2])
                .with_padding(padding);
            then.avg_pool(&pool.init())
        }
    }

    fn output_shape(&self) -> [usize; 4] {
        let [batch, channels, height, width] = self.shape;
        let Window {
            size,
            stride,
            padding,
            ..
        } = self.window;
        let [height, width] = [height, width].map(|side| (side + 2 * padding - size) / stride + 1);
        [batch, channels, height, width]
    }

    /// Pools the values of an image; hands the gradients of the windows to the values.
    fn pool_here(&self, image: &[f64], weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let [_, _, height, width] = self.shape;
        let [_, _, rows, columns] = self.output_shape();
        let Window {
            max,
            size,
            stride,
            padding,
        } = self.window;
        let mut output = Vec::with_capacity(weights.len());
        let mut gradient = vec![0.0; image.len()];
        for (window, weight) in weights.iter().enumerate() {
            let plane = window / (rows * columns);
            let (row, column) = (window / columns % rows, window % columns);
            let mut places = Vec::new();
            for (y, x) in (0..size).flat_map(|y| (0..size).map(move |x| (y, x))) {
                let y = (row * stride + y).wrapping_sub(padding);
                let x = (column * stride + x).wrapping_sub(padding);
                if y < height && x < width {
                    places.push((plane * height + y) * width + x);
                }
            }
            if max {
                let first = places[0];
                let chosen = places.iter().fold(first, |chosen, &place| {
                    if image[place] > image[chosen] {
                        place
                    } else {
                        chosen
                    }
                });
                output.push(image[chosen]);
                gradient[chosen] += weight;
            } else {
                let sum: f64 = places.iter().map(|&place| image[place]).sum();
                // Burn's layer counts the padding.
                let divisor = (size * size) as f64;
                output.push(sum / divisor);
                places
                    .iter()
                    .for_each(|&place| gradient[place] += weight / divisor);
            }
        }
        (output, gradient)
    }

    fn what(&self) -> String {
        let Window {
            max,
            size,
            stride,
            padding,
        } = self.window;
        let layout = if self.channels_last {
            "channels last, "
        } else {
            ""
        };
        let value = if max { "maximum" } else { "average" };
        format!(
            "{layout}residual, ReLU, {value} of {size}x{size}, stride {stride}, padding {padding}"
        )
    }

    fn random(&self, [batch, channels, height, width]: [usize; 4], device: &Device) -> Tensor<4> {
        let random = |shape: [usize; 4]| {
            let normal = Distribution::Normal(0.5, 2.0);
            Tensor::<4>::random(shape, normal, device).cast(self.dtype.dtype())
        };
        match self.channels_last {
            true => random([batch, height, width, channels]).permute([0, 3, 1, 2]),
            false => random([batch, channels, height, width]),
        }
    }
}
