//! Compares with PyTorch. tests/fixtures/batch_norm.py makes the numbers.

use std::collections::BTreeMap;

use burn::module::Param;
use burn::tensor::{DType, Device};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, RunningAverage};
use serde::Deserialize;

use crate::{
    assert_close, devices, devices_with, distance, init, is_processor, numbers, oracle, tensor,
};

type Results = BTreeMap<String, Vec<f64>>;

#[derive(Deserialize)]
struct Fixtures {
    options: Vec<Exact>,
    precision: Vec<Single>,
}

/// PyTorch's results in f64, batch by batch: three batches of training, one of inference.
#[derive(Deserialize)]
struct Exact {
    #[serde(flatten)]
    case: Case,
    batches: Vec<Results>,
}

/// The largest distance between PyTorch's f32 and f64 over the same batches.
#[derive(Deserialize)]
struct Single {
    #[serde(flatten)]
    case: Case,
    error: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: Vec<usize>,
    mean: f64,
    deviation: f64,
    epsilon: f64,
    momentum: f64,
    average: String,
    affine: bool,
    running_statistics: bool,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../fixtures/batch_norm.json")).unwrap()
}

/// Uniform numbers of the given mean and deviation, rounded to f32. The formula is the same as in the Python script.
fn values(seed: u64, count: usize, mean: f64, deviation: f64) -> Vec<f64> {
    (0..count as u64)
        .map(|index| {
            let mut z = (index + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            let uniform = (z >> 11) as f64 * 0.5f64.powi(53);
            f64::from((mean + deviation * 3.4641016151377544 * (uniform - 0.5)) as f32)
        })
        .collect()
}

impl Case {
    fn channels(&self) -> usize {
        self.shape[1]
    }

    fn gamma(&self) -> Vec<f64> {
        match self.affine {
            true => values(1, self.channels(), 1.0, 0.5),
            false => vec![1.0; self.channels()],
        }
    }

    fn beta(&self) -> Vec<f64> {
        match self.affine {
            true => values(2, self.channels(), 0.0, 0.5),
            false => vec![0.0; self.channels()],
        }
    }

    fn average(&self) -> RunningAverage {
        match self.average.as_str() {
            "exponential" => RunningAverage::Exponential,
            "debiased" => RunningAverage::DebiasedExponential,
            "cumulative" => RunningAverage::Cumulative,
            other => panic!("no average is called {other}"),
        }
    }

    fn layer(&self, dtype: DType, device: &Device) -> BatchNorm {
        let config = BatchNormConfig::new(self.channels())
            .with_epsilon(self.epsilon)
            .with_momentum(self.momentum)
            .with_average(self.average())
            .with_affine(self.affine)
            .with_running_statistics(self.running_statistics);
        let mut norm = init(&config, dtype, device);
        if self.affine {
            let param = |values: Vec<f64>| {
                Param::from_tensor(tensor(&values, [self.channels()], dtype, device))
            };
            norm.gamma = param(self.gamma());
            norm.beta = param(self.beta());
        }
        norm
    }

    /// The shape, the input and the gradient of the output for one of the four batches.
    fn batch(&self, index: usize) -> (Vec<usize>, Vec<f64>, Vec<f64>) {
        let mut shape = self.shape.clone();
        shape[0] += index;
        let count = shape.iter().product();
        let x = values(10 + index as u64, count, self.mean, self.deviation);
        let g = values(20 + index as u64, count, 0.0, 1.0);
        (shape, x, g)
    }

    /// The layer's results over the four batches.
    fn run(&self, dtype: DType, device: &Device) -> Vec<Results> {
        let mut norm = self.layer(dtype, &device.clone().autodiff());
        (0..4)
            .map(|index| {
                if index == 3 {
                    norm.training = norm.training.clone().with_value(false);
                }
                let (shape, x, g) = self.batch(index);
                let mut results = match shape.len() {
                    2 => step::<2>(&norm, &shape, &x, &g, dtype, device),
                    3 => step::<3>(&norm, &shape, &x, &g, dtype, device),
                    4 => step::<4>(&norm, &shape, &x, &g, dtype, device),
                    _ => step::<5>(&norm, &shape, &x, &g, dtype, device),
                };
                if !self.running_statistics {
                    // The layer does not use these fields.
                    results.retain(|name, _| !name.starts_with("running"));
                }
                results
            })
            .collect()
    }

    /// The results of the plain f64 loops over the four batches.
    fn run_oracle(&self) -> Vec<Results> {
        let channels = self.channels();
        let (gamma, beta) = (self.gamma(), self.beta());
        let mut seen = Vec::new();
        (0..4)
            .map(|index| {
                let (shape, x, g) = self.batch(index);
                let layout = oracle::Layout::of(&shape);
                let (mean, variance, count) = oracle::moments(&x, &layout);
                let unbiased = count as f64 / (count as f64 - 1.0);
                let training = index < 3;
                if training {
                    seen.push((
                        mean.clone(),
                        variance.iter().map(|v| v * unbiased).collect::<Vec<_>>(),
                    ));
                }
                let running_mean =
                    self.averaged(0.0, seen.iter().map(|(mean, _)| mean.as_slice()), channels);
                let running_var =
                    self.averaged(1.0, seen.iter().map(|(_, var)| var.as_slice()), channels);
                let by_batch = training || !self.running_statistics;
                let statistics = match by_batch {
                    true => (&mean, &variance),
                    false => (&running_mean, &running_var),
                };
                let statistics = (statistics.0.as_slice(), statistics.1.as_slice());
                let pass = oracle::pass(
                    &x,
                    &g,
                    &layout,
                    statistics,
                    (&gamma, &beta),
                    self.epsilon,
                    by_batch,
                );
                let mut results = Results::from([
                    ("output".into(), pass.output),
                    ("input_grad".into(), pass.input_grad),
                ]);
                if self.affine {
                    results.insert("gamma_grad".into(), pass.gamma_grad);
                    results.insert("beta_grad".into(), pass.beta_grad);
                }
                if self.running_statistics && training {
                    results.insert("running_mean".into(), running_mean);
                    results.insert("running_var".into(), running_var);
                }
                results
            })
            .collect()
    }

    /// The average of the batches' statistics, each with its textbook weight.
    fn averaged<'a>(
        &self,
        start: f64,
        batches: impl ExactSizeIterator<Item = &'a [f64]>,
        channels: usize,
    ) -> Vec<f64> {
        let (t, keep) = (batches.len() as i32, 1.0 - self.momentum);
        let total = 1.0 - keep.powi(t);
        let mut average = vec![
            match self.average() {
                RunningAverage::Exponential => start * keep.powi(t),
                _ => 0.0,
            };
            channels
        ];
        for (index, batch) in batches.enumerate() {
            let exponential = self.momentum * keep.powi(t - 1 - index as i32);
            let weight = match self.average() {
                RunningAverage::Exponential => exponential,
                RunningAverage::DebiasedExponential => exponential / total,
                RunningAverage::Cumulative => 1.0 / f64::from(t),
            };
            average
                .iter_mut()
                .zip(batch)
                .for_each(|(average, value)| *average += weight * value);
        }
        average
    }
}

fn step<const D: usize>(
    norm: &BatchNorm,
    shape: &[usize],
    x: &[f64],
    g: &[f64],
    dtype: DType,
    device: &Device,
) -> Results {
    let shape: [usize; D] = shape.try_into().unwrap();
    let device = device.clone().autodiff();
    let x = tensor(x, shape, dtype, &device).require_grad();
    let g = tensor(g, shape, dtype, &device);
    let y = norm.forward(x.clone());
    let grads = (y.clone() * g).sum().backward();
    let mut results = Results::from([
        ("output".into(), numbers(y)),
        ("input_grad".into(), numbers(x.grad(&grads).unwrap())),
    ]);
    // A layer without gamma and beta does not use these fields.
    for (name, param) in [("gamma_grad", &norm.gamma), ("beta_grad", &norm.beta)] {
        if let Some(grad) = param.grad(&grads) {
            results.insert(name.into(), numbers(grad));
        }
    }
    if norm.training.is_enabled() {
        let [mean, variance] = [&norm.running_mean, &norm.running_var];
        results.insert("running_mean".into(), numbers(mean.value_sync()));
        results.insert("running_var".into(), numbers(variance.value_sync()));
    }
    results
}

#[test]
fn in_f64_every_option_agrees_with_pytorch() {
    for device in devices_with(DType::F64) {
        for Exact { case, batches } in fixtures().options {
            for (index, (found, expected)) in case
                .run(DType::F64, &device)
                .iter()
                .zip(&batches)
                .enumerate()
            {
                assert!(
                    found.keys().eq(expected.keys()),
                    "{}: {:?}",
                    case.name,
                    found.keys()
                );
                for (result, expected) in expected {
                    let what = format!("{device:?}, {}, batch {index}, {result}", case.name);
                    assert_close(&what, &found[result], expected, 1e-12);
                }
            }
        }
    }
}

#[test]
fn the_oracle_agrees_with_pytorch() {
    for Exact { case, batches } in fixtures().options {
        for (index, (found, expected)) in case.run_oracle().iter().zip(&batches).enumerate() {
            assert!(
                found.keys().eq(expected.keys()),
                "{}: {:?}",
                case.name,
                found.keys()
            );
            for (result, expected) in expected {
                let what = format!("{}, batch {index}, {result}", case.name);
                assert_close(&what, &found[result], expected, 1e-12);
            }
        }
    }
}

#[test]
fn in_f32_the_error_is_no_larger_than_pytorchs() {
    let mut larger = Vec::new();
    for device in devices() {
        for Single {
            case,
            error: theirs,
        } in fixtures().precision
        {
            let mut ours = BTreeMap::<String, (f64, f64)>::new();
            for (found, expected) in case.run(DType::F32, &device).iter().zip(case.run_oracle()) {
                for (result, expected) in expected {
                    let (error, scale) = distance(&found[&result], &expected);
                    let largest = ours.entry(result).or_default();
                    *largest = (largest.0.max(error), largest.1.max(scale));
                }
            }
            for (result, (error, scale)) in ours {
                // Two correct results may differ by the last bit of the largest value. For a mean near 0, the last bit
                // of the values' deviation counts. A GPU sums in f32, and may round a division to the third-last bit
                // (Vulkan 1.3, Precision and Operation of SPIR-V Instructions).
                let bits = if is_processor(&device) { 1.0 } else { 4.0 };
                let scale = match result.as_str() {
                    "running_mean" => scale.max(case.deviation),
                    _ => scale,
                };
                let rounding = bits * scale * f64::from(f32::EPSILON);
                if error > theirs[&result].max(rounding) {
                    larger.push(format!(
                        "{device:?}, {}, {result}: ours {error:e}, PyTorch's {:e}, largest value {scale:e}",
                        case.name, theirs[&result]
                    ));
                }
            }
        }
    }
    assert!(larger.is_empty(), "{}", larger.join("\n"));
}
