//! Tests batch norm with what follows it in one operation: a residual, an activation, a pooling.
//!
//! On the CPU backends in f64, on GPUs in f32.

// Burn 0.22 deprecates NdArray; it is tested as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

#[path = "../common/devices.rs"]
mod devices;
mod layouts;
mod oracle;
mod properties;
mod pytorch;
mod resnet;
#[path = "../common/resnets.rs"]
mod resnets;
mod special;
#[path = "../common/values.rs"]
mod values;

use burn::nn::PaddingConfig2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::Then;
use burn_kindling::norm::op::{batch_norm_then_inference, batch_norm_then_train};

use devices::is_processor;
use oracle::{Activation, Answer, EPSILON, Problem, Window};
use properties::weights;
use values::{numbers, tensor};

/// The largest difference, relative to the largest expected magnitude or 1.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    error_of_size(found, expected, 1.0)
}

/// The largest difference, relative to the largest expected magnitude or `size`.
fn error_of_size(found: &[f64], expected: &[f64], size: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().zip(expected);
    let largest = pairs().map(|(_, it)| it.abs()).fold(size, f64::max);
    let difference = pairs().map(|(found, expected)| (found - expected).abs());
    difference.fold(0.0, |worst, it| if it <= worst { worst } else { it }) / largest
}

/// Lays out a tensor anew, with the same values.
type Lay = fn(Tensor<4>) -> Tensor<4>;

fn as_it_is(tensor: Tensor<4>) -> Tensor<4> {
    tensor
}

impl Window {
    fn padding(&self) -> PaddingConfig2d {
        let [y, x] = self.padding;
        PaddingConfig2d::Explicit(y, x, y, x)
    }

    fn max_pool(&self) -> MaxPool2d {
        MaxPool2dConfig::new(self.size)
            .with_strides(self.strides)
            .with_padding(self.padding())
            .init()
    }

    fn avg_pool(&self) -> AvgPool2d {
        AvgPool2dConfig::new(self.size)
            .with_strides(self.strides)
            .with_padding(self.padding())
            .with_count_include_pad(self.count_padding)
            .init()
    }

    fn follow(&self, then: Then<4>) -> Then<4> {
        match self.max {
            true => then.max_pool(&self.max_pool()),
            false => then.avg_pool(&self.avg_pool()),
        }
    }
}

impl Problem {
    fn then(&self, residual: Option<Tensor<4>>) -> Then<4> {
        let mut then = Then::new();
        if let Some(residual) = residual {
            then = then.add_residual(residual);
        }
        then = match self.activation {
            Activation::None => then,
            Activation::Relu(0.0) => then.relu(),
            Activation::Relu(slope) => then.leaky_relu(slope),
            Activation::Sigmoid => then.sigmoid(),
            Activation::Tanh => then.tanh(),
            Activation::Silu => then.silu(),
        };
        match &self.window {
            None => then,
            Some(window) => window.follow(then),
        }
    }

    /// What the crate answers, on a device in a type.
    fn ask(&self, weights: &[f64], dtype: DType, device: &Device) -> Answer {
        self.ask_with(weights, dtype, device, [as_it_is; 2])
    }

    /// What the crate answers for an input and a residual that were laid out anew.
    fn ask_with(
        &self,
        weights: &[f64],
        dtype: DType,
        device: &Device,
        [lay_input, lay_residual]: [Lay; 2],
    ) -> Answer {
        let device = &device.clone().autodiff();
        let channels = [self.shape[1]];
        let of_channels = match dtype {
            DType::F16 | DType::BF16 => DType::F32,
            other => other,
        };
        let leaf = |values| tensor(values, self.shape, dtype, device).require_grad();
        let parameter = |values| tensor(values, channels, of_channels, device).require_grad();
        let (input, gamma, beta) = (
            leaf(&self.input),
            parameter(&self.gamma),
            parameter(&self.beta),
        );
        let residual = self.residual.as_deref().map(leaf);
        let then = self.then(residual.clone().map(lay_residual));
        let affine = [Some(gamma.clone()), Some(beta.clone())];
        let output = match &self.given {
            Some(statistics) => {
                let given = [0, 1].map(|it| tensor(&statistics[it], channels, of_channels, device));
                batch_norm_then_inference(lay_input(input.clone()), given, affine, EPSILON, then)
            }
            None => {
                let [gamma, beta] = affine;
                batch_norm_then_train(lay_input(input.clone()), gamma, beta, EPSILON, then).output
            }
        };
        assert_eq!(output.dims(), self.output_shape());
        let weights = tensor(weights, self.output_shape(), dtype, device);
        let gradients = (output.clone() * weights).sum().backward();
        let gradient = |leaf: Tensor<4>| numbers(leaf.grad(&gradients).expect("a gradient"));
        let of_parameter = |leaf: Tensor<1>| numbers(leaf.grad(&gradients).expect("a gradient"));
        Answer {
            output: numbers(output),
            input: gradient(input),
            gamma: of_parameter(gamma),
            beta: of_parameter(beta),
            residual: residual.map(gradient).unwrap_or_default(),
        }
    }
}

impl Problem {
    /// The oracle's answer, with the activation's slope that the device found without a pooling.
    fn solve_in_single_precision(&self, weights: &[f64], device: &Device) -> Answer {
        let apart = Problem {
            window: None,
            ..self.clone()
        };
        let none = vec![0.0; self.input.len()];
        let found = apart.ask(&none, DType::F32, device);
        self.solve_like(weights, &found.output)
    }

    /// Compares what a device answers with the oracle, in the precision that it has.
    fn check(&self, device: &Device, lay: [Lay; 2]) {
        let weights = weights(self);
        let (error, allowed) = if is_processor(device) {
            let found = self.ask_with(&weights, DType::F64, device, lay);
            (found.error(&self.solve(&weights)), 1e-9)
        } else {
            let found = self.ask_with(&weights, DType::F32, device, lay);
            let expected = self.solve_in_single_precision(&weights, device);
            (found.error_in_single_precision(&expected), 1e-4)
        };
        assert!(error < allowed, "off by {error:e} on {device:?}: {self:?}");
    }
}

impl Answer {
    /// The largest error of the output and of each gradient.
    fn error(&self, expected: &Self) -> f64 {
        self.error_with_sums_of_size(expected, 1.0)
    }

    /// The same in single precision. What `n` terms of either sign add up to is of the order of `sqrt(n)` terms, and so
    /// are the rounding errors, though the terms may cancel.
    fn error_in_single_precision(&self, expected: &Self) -> f64 {
        let largest = expected
            .residual
            .iter()
            .fold(1.0, |largest: f64, it| largest.max(it.abs()));
        let terms = self.input.len() / self.gamma.len();
        self.error_with_sums_of_size(expected, largest * (terms as f64).sqrt())
    }

    fn error_with_sums_of_size(&self, expected: &Self, size: f64) -> f64 {
        let residual = match self.residual.is_empty() {
            true => 0.0,
            false => error(&self.residual, &expected.residual),
        };
        [
            (&self.output, &expected.output, 1.0),
            (&self.input, &expected.input, 1.0),
            (&self.gamma, &expected.gamma, size),
            (&self.beta, &expected.beta, size),
        ]
        .map(|(found, expected, size)| error_of_size(found, expected, size))
        .into_iter()
        .fold(residual, f64::max)
    }
}
