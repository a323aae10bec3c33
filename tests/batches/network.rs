//! A network of five layers, and one step of it.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor};
use burn_kindling::init::{InitStrategy, initialize};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Then};

use crate::numbers;

#[derive(Module, Debug)]
pub struct Network {
    pub linears: Vec<Linear>,
    pub norms: Vec<BatchNorm>,
    output: Linear,
}

pub const INPUTS: usize = 3;
const WIDTH: usize = 6;

impl Network {
    pub fn new(depth: usize, dtype: DType, device: &Device) -> Self {
        let linear = |inputs| {
            LinearConfig::new(inputs, WIDTH)
                .with_bias(false)
                .init(device)
        };
        let network = Self {
            linears: (0..depth)
                .map(|layer| linear(if layer == 0 { INPUTS } else { WIDTH }))
                .collect(),
            norms: vec![BatchNormConfig::new(WIDTH); depth]
                .iter()
                .map(|config| config.init(device))
                .collect(),
            output: LinearConfig::new(WIDTH, 1).init(device),
        };
        let (network, _) = initialize(network, InitStrategy::He, 3);
        network.map(&mut Cast(dtype.into()))
    }

    /// `[batch, INPUTS]` to `[batch]`.
    pub fn forward(&self, mut x: Tensor<2>) -> Tensor<1> {
        for (index, (linear, norm)) in self.linears.iter().zip(&self.norms).enumerate() {
            let z = linear.forward(x.clone());
            let then = match index % 2 {
                1 => Then::new().add_residual(x).leaky_relu(0.1),
                _ => Then::new().relu(),
            };
            x = norm.forward_then(z, then);
        }
        let rows = x.dims()[0];
        self.output.forward(x).reshape([rows])
    }
}

/// Casts the parameters and the running statistics.
pub struct Cast(pub FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trains = param.is_require_grad();
        param.map(|tensor| {
            let cast = tensor.detach().cast(self.0).detach();
            cast.set_require_grad(trains)
        })
    }
}

/// What a step leaves behind.
pub struct Outcome {
    pub output: Vec<f64>,
    pub input_gradient: Vec<f64>,
    /// One vector for each parameter, in the order of traversal.
    pub gradients: Vec<Vec<f64>>,
}

/// Computes the output of a step and the gradients of `sum (output * weights)`.
pub fn step(network: &Network, input: Tensor<2>, weights: Tensor<1>) -> Outcome {
    let input = input.require_grad();
    let output = network.forward(input.clone());
    let gradients = (output.clone() * weights).sum().backward();
    Outcome {
        output: numbers(output),
        input_gradient: numbers(input.grad(&gradients).expect("the input has a gradient")),
        gradients: parameter_gradients(network, &gradients),
    }
}

fn parameter_gradients(network: &Network, gradients: &Gradients) -> Vec<Vec<f64>> {
    struct Collect<'a>(&'a Gradients, Vec<Vec<f64>>);
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad(self.0) {
                self.1.push(numbers(gradient));
            }
        }
    }
    let mut collect = Collect(gradients, Vec::new());
    network.visit(&mut collect);
    collect.1
}

/// The running means and variances of all layers.
pub fn running(network: &Network) -> Vec<f64> {
    let layers = network.norms.iter();
    layers
        .flat_map(|norm| {
            let values = [&norm.running_mean, &norm.running_var];
            values.map(|state| numbers(state.value())).concat()
        })
        .collect()
}
