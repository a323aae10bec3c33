//! The cases of PyTorch's own tests. tests/fixtures/pytorch_suite.py collects them.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use serde::Deserialize;

use crate::{devices, devices_with, distance, init, is_processor, numbers, tensor};

type Results = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: Vec<usize>,
    input: Vec<f64>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
    running_mean: Option<Vec<f64>>,
    running_var: Option<Vec<f64>>,
    training: bool,
    momentum: f64,
    eps: f64,
    /// Those of the outputs in the sum whose gradients are taken.
    weights: Vec<f64>,
    expected: Results,
    /// The largest distance of PyTorch's f32 results.
    error: BTreeMap<String, f64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/pytorch_suite.json")).unwrap()
}

impl Case {
    fn layer(&self, dtype: DType, device: &Device) -> BatchNorm {
        let channels = self.shape[1];
        let config = BatchNormConfig::new(channels)
            .with_epsilon(self.eps)
            .with_momentum(self.momentum)
            .with_affine(self.weight.is_some())
            .with_bias(self.bias.is_some())
            .with_running_statistics(self.running_mean.is_some());
        let mut norm = init(&config, dtype, device);
        let values = |values: &[f64]| single(values, [channels], dtype, device);
        for (param, given) in [
            (&mut norm.gamma, &self.weight),
            (&mut norm.beta, &self.bias),
        ] {
            if let Some(given) = given {
                *param = Param::from_tensor(values(given));
            }
        }
        if let Some((mean, variance)) = self.running_mean.as_ref().zip(self.running_var.as_ref()) {
            norm = norm.with_running(values(mean), values(variance));
        }
        norm.training = norm.training.clone().with_value(self.training);
        norm
    }

    fn run(&self, dtype: DType, device: &Device) -> Results {
        let device = &device.clone().autodiff();
        match self.shape.len() {
            2 => self.step::<2>(dtype, device),
            3 => self.step::<3>(dtype, device),
            4 => self.step::<4>(dtype, device),
            _ => self.step::<5>(dtype, device),
        }
    }

    fn step<const D: usize>(&self, dtype: DType, device: &Device) -> Results {
        let shape: [usize; D] = self.shape[..].try_into().unwrap();
        let norm = self.layer(dtype, device);
        let input = single(&self.input, shape, dtype, device).require_grad();
        let output = norm.forward(input.clone());
        let weighted = output.clone() * single(&self.weights, shape, dtype, device);
        let gradients = weighted.sum().backward();
        let mut results = Results::from([
            ("output".into(), numbers(output)),
            (
                "input_grad".into(),
                numbers(input.grad(&gradients).unwrap()),
            ),
        ]);
        for (name, param) in [("weight_grad", &norm.gamma), ("bias_grad", &norm.beta)] {
            if self.expected.contains_key(name) {
                results.insert(name.into(), numbers(param.grad(&gradients).unwrap()));
            }
        }
        if self.training && self.running_mean.is_some() {
            results.insert("running_mean".into(), numbers(norm.running_mean.value()));
            results.insert("running_var".into(), numbers(norm.running_var.value()));
        }
        results
    }
}

/// A tensor of f32 values, of which the file has no more digits than tell them apart.
fn single<const D: usize>(
    values: &[f64],
    shape: [usize; D],
    dtype: DType,
    device: &Device,
) -> Tensor<D> {
    let values: Vec<_> = values
        .iter()
        .map(|&value| f64::from(value as f32))
        .collect();
    tensor(&values, shape, dtype, device)
}

/// The cases and results whose distance from PyTorch's f64 is larger than a bound, given PyTorch's own in f32 and the
/// largest expected magnitude.
fn farther(dtype: DType, device: &Device, bound: impl Fn(f64, f64) -> f64) -> Vec<String> {
    let mut farther = Vec::new();
    for case in cases() {
        let results = case.run(dtype, device);
        assert!(
            results.keys().eq(case.expected.keys()),
            "{}: {:?}",
            case.name,
            results.keys()
        );
        for (result, expected) in &case.expected {
            let (distance, scale) = distance(&results[result], expected);
            if distance > bound(case.error[result], scale) {
                farther.push(format!(
                    "{device:?}, {}, {result}: {distance:e} of {scale:e}",
                    case.name
                ));
            }
        }
    }
    farther
}

#[test]
fn in_f64_every_case_agrees() {
    for device in devices_with(DType::F64) {
        let farther = farther(DType::F64, &device, |_, scale| 1e-9 * scale.max(1.0));
        assert!(farther.is_empty(), "{}", farther.join("\n"));
    }
}

#[test]
fn in_f32_no_case_is_less_exact() {
    for device in devices() {
        // A GPU may round a division to the third-last bit (Vulkan 1.3, Precision and Operation of SPIR-V
        // Instructions).
        let bits = if is_processor(&device) { 1.0 } else { 4.0 };
        let rounding = bits * f64::from(f32::EPSILON);
        let farther = farther(DType::F32, &device, |theirs, scale| {
            2.0 * theirs + rounding * scale.max(1.0)
        });
        assert!(farther.is_empty(), "{}", farther.join("\n"));
    }
}
