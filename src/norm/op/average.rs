//! The update of running statistics by those of a batch, in one operation.

// Without a backend that has it, the generated dispatch does not use its arguments.
#![cfg_attr(
    not(any(feature = "flex", feature = "ndarray", feature = "cube")),
    allow(unused_variables, unused_imports)
)]

use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::Tensor;

use super::BatchNormMoments;
#[cfg(feature = "fusion")]
use super::BatchNormMomentsMetadata;

/// Averages the mean and the variance of a batch into running ones: `running * (1 - gain) + batch * gain`, where the
/// variance of the batch is multiplied by `correction` first. A channel whose variance would not be finite stays as it
/// was.
///
/// The tensors are `[channels]` and outside of any graph. `None` if the backend has no kernel for their types: the
/// caller can do the same by tensor operations.
pub(in crate::norm) fn average(
    running: &[Tensor<1>; 2],
    batch: &[Tensor<1>; 2],
    gain: f64,
    correction: f64,
) -> Option<[Tensor<1>; 2]> {
    let dtype = running[0].dtype();
    let has_kernel = match running[0].device().as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => dtype == burn::tensor::DType::F32,
        _ => false,
    };
    let mut tensors = running.iter().chain(batch);
    if !has_kernel || !tensors.all(|tensor| tensor.dtype() == dtype) {
        return None;
    }
    let moments = |[mean, variance]: &[Tensor<1>; 2]| BatchNormMoments {
        mean: mean.clone().into_dispatch(),
        variance: variance.clone().into_dispatch(),
    };
    let BatchNormMoments { mean, variance } = <Dispatch as RunningAverageBackend>::running_average(
        moments(running),
        moments(batch),
        gain,
        correction,
    );
    Some([mean, variance].map(Tensor::from_dispatch))
}

/// The update of running statistics, for the backends that have a kernel for it. As tensor operations on a few numbers,
/// it would cost a CPU as much as a small batch, and a GPU several launches.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait RunningAverageBackend: Backend {
    /// See the function [`average`]. All tensors are of one type, on a GPU f32. A CPU computes in f64.
    #[fusion(id = "burn_kindling::running_average", meta = |running, _batch, _gain, _correction| BatchNormMomentsMetadata {
        mean: running.mean.clone(),
        variance: running.variance.clone(),
    })]
    fn running_average(
        #[extension_type] running: BatchNormMoments<Self>,
        #[extension_type] batch: BatchNormMoments<Self>,
        gain: f64,
        correction: f64,
    ) -> BatchNormMoments<Self>;
}
