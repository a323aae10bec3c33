//! The statistics of a batch as tensors of their own, through which gradients flow.
//!
//! [`batch_norm_train`](super::batch_norm_train) computes the statistics and normalises in one operation. If something
//! has to happen between the two, they are two operations: [`batch_moments`], then
//! [`batch_norm_inference`](super::batch_norm_inference) by what became of the moments. In between, [`exchange`] brings
//! together the moments of several workers' batches.
//!
//! With the gradients `dmean` and `dvariance` of the moments of `n` values,
//!
//! - [`batch_moments`] gives each value the gradient `(dmean + 2 * dvariance * (x - mean)) / n`;
//! - [`exchange`] adds up the gradients of all workers, then gives a worker with `n` of `N` values the gradients
//!   `n / N * (dmean + 2 * dvariance * (its mean - mean))` and `n / N * dvariance`.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};

use super::{BatchNormBackend, is_compiled_in, portable};
use crate::dtype::at_least_f32;

mod autodiff;
mod combine;
mod masked;
mod positions;

use combine::{Contribution, Total};
pub use masked::masked_batch_moments;
pub(in crate::norm) use masked::{Mask, moments_where};
pub use positions::Positions;

/// The mean and the biased variance of each channel.
///
/// The tensors are `[channels]`: f32 for inputs of half precision, otherwise of the input's type.
#[derive(Clone, Debug)]
pub struct BatchMoments {
    /// The mean.
    pub mean: Tensor<1>,
    /// Rounding error of `mean`; `mean + mean_rest` has twice the precision. Detached from the graph.
    pub mean_rest: Tensor<1>,
    /// The biased variance.
    pub variance: Tensor<1>,
    /// The number of values per channel.
    pub values: usize,
}

impl BatchMoments {
    /// `mean`, `mean_rest` and `variance` as the rows of one tensor.
    fn from_rows(rows: Tensor<2>, values: usize) -> Self {
        let [_, channels] = rows.dims();
        let row = |index| rows.clone().narrow(0, index, 1).reshape([channels]);
        Self {
            mean: row(0),
            mean_rest: row(1).detach(),
            variance: row(2),
            values,
        }
    }

    fn into_rows(self) -> Tensor<2> {
        Tensor::stack(vec![self.mean, self.mean_rest, self.variance], 0)
    }

    /// Another mean and variance. The gradients of the moments are 0.
    pub(in crate::norm) fn replaced_by(self, mean: Tensor<1>, variance: Tensor<1>) -> Self {
        let dtype = FloatDType::from(self.mean.dtype());
        Self {
            mean: self.mean * 0.0 + mean.cast(dtype),
            variance: self.variance * 0.0 + variance.cast(dtype),
            ..self
        }
    }

    /// The shift `beta` of a normalisation by these moments that makes up for the rounding error of the mean.
    pub(in crate::norm) fn corrected_beta(
        &self,
        [gamma, beta]: [Option<Tensor<1>>; 2],
        epsilon: f64,
    ) -> Tensor<1> {
        let dtype = FloatDType::from(self.mean.dtype());
        let deviation = self.variance.clone().add_scalar(epsilon).sqrt();
        let correction = self.mean_rest.clone() / deviation;
        let correction = match gamma {
            Some(gamma) => correction * gamma.cast(dtype),
            None => correction,
        };
        // An infinite scale must not turn beta into NaN.
        let exact = self.mean_rest.clone().equal_elem(0.0);
        let correction = correction.mask_fill(exact, 0.0);
        match beta {
            Some(beta) => beta.cast(dtype) - correction,
            None => -correction,
        }
    }
}

/// Computes the mean and the biased variance of each channel. Gradients flow from both to the input.
///
/// # Shapes
///
/// - `input`: `[batch, channels, ...]`. If it is empty, the moments are 0, and `values` is 0.
///
/// # Panics
///
/// Panics if `input` has fewer than 2 axes.
pub fn batch_moments<const D: usize>(input: Tensor<D>) -> BatchMoments {
    assert!(
        D >= 2,
        "batch norm takes an input of shape [batch, channels, ...], found rank {D}; reshape it to rank 2 or more"
    );
    let channels = input.dims()[1];
    let values = input.shape().num_elements() / channels.max(1);
    let device = input.device();
    let dtype = at_least_f32(input.dtype());
    if values == 0 {
        // Tied to the input, so that a backward pass comes by here.
        let nothing = input.cast(FloatDType::from(dtype)).sum();
        let rows = Tensor::<2>::zeros([3, channels], (&device, dtype)) + nothing.reshape([1, 1]);
        return BatchMoments::from_rows(rows, 0);
    }
    let rows = if is_compiled_in(&device) {
        let rows = <Dispatch as BatchMomentsBackend>::batch_norm_moments(
            input.into_dispatch(),
            Positions::default(),
        );
        Tensor::from_dispatch(rows)
    } else {
        in_tensor_operations(input.cast(FloatDType::from(dtype)))
    };
    BatchMoments::from_rows(rows, values)
}

/// The moments on a backend that this crate was not compiled for: rows of `[3, channels]`.
fn in_tensor_operations<const D: usize>(input: Tensor<D>) -> Tensor<2> {
    let channels = input.dims()[1];
    let values = input.shape().num_elements() / channels;
    let rows: Tensor<2> = input.swap_dims(0, 1).reshape([channels, values]);
    let mean = rows.clone().mean_dim(1);
    let centred = rows - mean.clone().detach();
    let rest = centred.clone().mean_dim(1);
    let variance = (centred - rest.clone()).square().mean_dim(1);
    Tensor::cat(vec![mean, rest.detach(), variance], 1).transpose()
}

/// Lets workers exchange numbers, once for each call that all of them make.
///
/// [`SyncGroup`](crate::norm::SyncGroup) has one for threads. For processes, implement it over their connection:
///
/// ```
/// use burn_kindling::norm::op::Exchange;
///
/// /// What every worker has: a message goes to all of them.
/// trait AllGather: std::fmt::Debug + Send + Sync {
///     fn all_gather(&self, message: &[u8]) -> std::io::Result<Vec<Vec<u8>>>;
/// }
///
/// #[derive(Debug)]
/// struct Processes<A>(A);
///
/// impl<A: AllGather> Exchange for Processes<A> {
///     fn gather(&self, numbers: Vec<f64>) -> Vec<Vec<f64>> {
///         let message: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
///         let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
///         let all = self.0.all_gather(&message).expect("all processes should be there");
///         all.iter().map(|message| message.chunks(8).map(number).collect()).collect()
///     }
/// }
/// ```
///
/// Its messages need a connection of their own: those of gradients may come from another thread, in another order.
pub trait Exchange: Debug + Send + Sync {
    /// Hands over this worker's numbers, and waits for those of the others. Returns those of all workers, this one's
    /// included, in an order that is the same for all.
    ///
    /// # Panics
    ///
    /// May panic if a worker does not come.
    fn gather(&self, numbers: Vec<f64>) -> Vec<Vec<f64>>;
}

/// A meeting of all workers at one layer: the two exchanges of its forward and its backward pass.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// The exchange of the forward pass.
    pub forward: Arc<dyn Exchange>,
    /// The exchange of the backward pass, which takes place later.
    pub backward: Arc<dyn Exchange>,
}

/// Brings together the moments of several workers' batches. Returns those of all values, the same for every worker to
/// the bit.
///
/// Moments merge by the stable formula of Chan, Golub & LeVeque 1983, in f64. Gradients flow back to the moments of
/// every worker: the backward pass is an exchange too. The numbers are exchanged by way of the host.
///
/// # Panics
///
/// Panics if a worker's moments have another number of channels, if [`Exchange::gather`] panics, or if gradients are
/// tracked on a backend whose feature of this crate is not enabled.
pub fn exchange(local: BatchMoments, meeting: Meeting) -> BatchMoments {
    let (device, dtype) = (local.mean.device(), local.mean.dtype());
    let channels = local.mean.dims()[0];
    let values = local.values;
    let rows = local.into_rows();
    let mine = Contribution::new(&numbers(rows.clone().detach()), values);
    let all = meeting.forward.gather(mine.numbers().collect());
    let all: Vec<_> = all
        .iter()
        .map(|numbers| Contribution::from_numbers(numbers, channels))
        .collect();
    let total = Total::of(&all, channels);
    let merged = total.rows(dtype == DType::F64);
    let merged = tensor(merged, channels, (&device, dtype));
    if !rows.is_tracked() {
        return BatchMoments::from_rows(merged, total.values);
    }
    assert!(
        is_compiled_in(&device),
        "synchronised batch norm trains on backends that burn-kindling was compiled for; enable its feature for {device:?}"
    );
    let link = Link {
        exchange: meeting.backward,
        share: total.share(&mine),
    };
    let merged = <Dispatch as BatchMomentsBackend>::batch_norm_exchange(
        rows.into_dispatch(),
        merged.into_dispatch(),
        link,
    );
    BatchMoments::from_rows(Tensor::from_dispatch(merged), total.values)
}

/// What the backward pass of an [`exchange`] needs.
#[derive(Clone, Debug)]
pub struct Link {
    exchange: Arc<dyn Exchange>,
    share: combine::Share,
}

/// The values of a tensor, read off its device.
fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// A tensor `[rows, channels]` in the device's autodiff context.
fn tensor(numbers: Vec<f64>, channels: usize, (device, dtype): (&Device, DType)) -> Tensor<2> {
    let rows = numbers.len() / channels.max(1);
    let data = TensorData::new(numbers, [rows, channels]).convert_dtype(dtype);
    Tensor::from_data(data, (device, dtype))
}

/// The operations on moments that a backend computes. Moments are rows of one tensor `[3, channels]`: mean, rounding
/// error of the mean, biased variance.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait BatchMomentsBackend: BatchNormBackend {
    /// The moments of each channel of `[batch, channels, ...]` over some of its positions, at least one.
    ///
    /// The default body takes all positions.
    #[fusion(default)]
    fn batch_norm_moments(input: FloatTensor<Self>, _positions: Positions) -> FloatTensor<Self> {
        portable::moments::<Self>(input)
    }

    /// The tensor `[batch, channels, ...]` with 0 at all other positions.
    ///
    /// The default body takes all positions.
    #[fusion(default)]
    fn batch_norm_keep(tensor: FloatTensor<Self>, _positions: Positions) -> FloatTensor<Self> {
        tensor
    }

    /// Returns `merged`, the moments that `local` was merged into. Gradients go back by an exchange with all workers.
    #[fusion(default)]
    fn batch_norm_exchange(
        _local: FloatTensor<Self>,
        merged: FloatTensor<Self>,
        _link: Link,
    ) -> FloatTensor<Self> {
        // Without gradients, the moments are all.
        merged
    }
}

#[cfg(feature = "cube")]
impl BatchMomentsBackend for burn_cubecl::CubeBackend {}

#[cfg(feature = "remote")]
impl<R: burn_router::RouterChannel> BatchMomentsBackend for burn_router::BackendRouter<R> {}
