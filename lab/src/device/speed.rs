use std::time::{Duration, Instant};

use burn::tensor::{Device, Distribution, ExecutionError, Tensor};

use super::error::DeviceError;
use super::found::{Found, caught};
use burn_kindling::norm::op::batch_norm_train;

/// The speed of a device on small jobs, in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Floating point operations per second in products of two `[512, 512]` matrices, 2 x 512^3 operations each.
    pub matrix_product: f64,
    /// Bytes per second of this crate's batch norm on `[64, 32, 28, 28]` with the batch's statistics: 6.4 MB read and
    /// 6.4 MB written.
    pub batch_norm: f64,
}

/// Measures a device, which takes about a second. The first time, a GPU backend also compiles and tunes its kernels.
///
/// Each job is repeated for a quarter of a second; the fastest run counts.
///
/// # Errors
///
/// The device fails to compute.
pub fn measure(found: &Found) -> Result<Speed, DeviceError> {
    caught(|| run(&found.device)).map_err(|reason| DeviceError::NoAnswer {
        name: found.name.clone(),
        reason,
    })
}

fn run(device: &Device) -> Result<Speed, ExecutionError> {
    let random = Distribution::Normal(0.0, 1.0);
    let [a, b] = [(); 2].map(|()| Tensor::<2>::random([512, 512], random, device));
    let product = fastest(device, || a.clone().matmul(b.clone()))?;

    let images = Tensor::<4>::random([64, 32, 28, 28], random, device);
    let bytes = images.shape().num_elements() * size_of::<f32>();
    let norm = fastest(device, || {
        batch_norm_train(images.clone(), None, None, 1e-5).output
    })?;
    Ok(Speed {
        matrix_product: 2.0 * 512f64.powi(3) / product,
        batch_norm: 2.0 * bytes as f64 / norm,
    })
}

/// Seconds of the fastest run of a job.
fn fastest<const D: usize>(
    device: &Device,
    job: impl Fn() -> Tensor<D>,
) -> Result<f64, ExecutionError> {
    let run = || {
        let started = Instant::now();
        let result = job();
        device.sync()?;
        drop(result);
        Ok(started.elapsed().as_secs_f64())
    };
    // The first run also compiles, tunes and allocates, so it is not measured.
    run()?;
    let (started, mut fastest) = (Instant::now(), f64::INFINITY);
    while started.elapsed() < Duration::from_millis(250) {
        fastest = fastest.min(run()?);
    }
    Ok(fastest)
}
