//! Running statistics: averages, updates, reads, and traversal with the module.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use burn::config::Config;
use burn::module::{ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, FloatDType, StreamId, Tensor};

use super::fields::{map_field, visit_field};
use crate::dtype::at_least_f32;

/// How running mean and variance are averaged over the batches.
///
/// Each is a weighted mean: the old average decays, and a new batch enters with a gain. A batch changes the weight `W`
/// of the average to `W' = decay * W + gain`, and the average `r` to `r + (gain / W') * (batch - r)`:
///
/// | average | decay | gain | `W` at the start |
/// | --- | --- | --- | --- |
/// | exponential | 1 - momentum | momentum | 1, on mean 0 and variance 1 |
/// | debiased exponential | 1 - momentum | momentum | 0 |
/// | cumulative | 1 | 1 | 0 |
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum RunningAverage {
    /// `r = (1 - momentum) * r + momentum * batch`, from mean 0 and variance 1, as in PyTorch and Burn.
    Exponential,
    /// The same, without the pull towards mean 0 and variance 1. It equals an exponential average that starts from 0,
    /// divided by `1 - (1 - momentum)^t` after `t` batches (Kingma & Ba 2015, section 3).
    DebiasedExponential,
    /// The plain mean over all batches, PyTorch's `momentum=None`; the momentum is not used.
    Cumulative,
}

impl RunningAverage {
    /// How a batch changes the weight of the average.
    pub(super) fn weighting(self, momentum: f64) -> Weighting {
        let (decay, gain) = match self {
            Self::Exponential | Self::DebiasedExponential => (1.0 - momentum, momentum),
            Self::Cumulative => (1.0, 1.0),
        };
        Weighting { decay, gain }
    }
}

/// How a batch changes the weight of a [`RunningAverage`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighting {
    decay: f64,
    gain: f64,
}

impl Weighting {
    /// The weight after a batch.
    pub(super) fn after(self, weight: f64) -> f64 {
        self.decay * weight + self.gain
    }
}

/// The statistics of one batch.
pub(super) struct BatchStatistics {
    /// The mean, `[channels]`.
    pub(super) mean: Tensor<1>,
    /// The biased variance, `[channels]`.
    pub(super) variance: Tensor<1>,
    /// The number of values per channel.
    pub(super) values: usize,
}

/// The running mean and variance of one layer, `[channels]` each.
///
/// Every update is visible at once. One lock covers mean and variance, so readers always see a matching pair.
///
/// Clones and forks share the values. Every operation that gives a module its own values makes a copy: mapping its
/// parameters (as an optimizer does), moving it, `valid`, `train`. See
/// [`BatchNorm`](super::BatchNorm#clones-and-threads).
#[derive(Clone, Debug)]
pub(super) struct RunningStatistics {
    mean_id: ParamId,
    variance_id: ParamId,
    weight_id: ParamId,
    /// The module's device. Visitors and mappers get the values on it. The shared values may be on another device: that
    /// of the module this one was forked from.
    device: Device,
    shared: Arc<Mutex<Averages>>,
}

/// The values, outside of any graph, in f32 or wider.
#[derive(Clone, Debug)]
struct Averages {
    mean: Tensor<1>,
    variance: Tensor<1>,
    /// The weight of the average, `[channels]`. `None` for the exponential average, whose weight is always 1.
    weight: Option<Tensor<1>>,
}

impl Averages {
    /// Clones the values so that any thread may read and replace them.
    ///
    /// With Burn's fusion, operations wait to be merged with later ones, and a tensor belongs to the stream of the
    /// thread that made it. All clones on that thread count as one tensor. If another thread drops the last but one of
    /// them at the wrong moment, the last one is lost too. Clones on other threads are tensors of their own. So values
    /// that several threads hold are put on a stream that none of them computes on.
    fn of_no_thread(&self) -> Self {
        static STREAM: LazyLock<StreamId> = LazyLock::new(StreamId::allocate);
        STREAM.executes(|| self.clone())
    }
}

impl RunningStatistics {
    pub(super) fn new(channels: usize, average: RunningAverage, device: &Device) -> Self {
        let options = (
            &device.clone().without_autodiff(),
            at_least_f32(device.settings().float_dtype.into()),
        );
        let averages = Averages {
            mean: Tensor::zeros([channels], options),
            variance: Tensor::ones([channels], options),
            weight: (average != RunningAverage::Exponential)
                .then(|| Tensor::zeros([channels], options)),
        };
        Self {
            mean_id: ParamId::new(),
            variance_id: ParamId::new(),
            weight_id: ParamId::new(),
            device: device.clone(),
            shared: Arc::new(Mutex::new(averages)),
        }
    }

    /// The running mean and variance, on `device` and in its autodiff context.
    pub(super) fn read(&self, device: &Device) -> (Tensor<1>, Tensor<1>) {
        let Averages { mean, variance, .. } = self.averages().clone();
        (on(mean, device), on(variance, device))
    }

    /// The ids of the running mean, variance and weight.
    pub(super) fn ids(&self) -> [ParamId; 3] {
        [self.mean_id, self.variance_id, self.weight_id]
    }

    /// The module's device.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Adds one batch to the averages.
    ///
    /// The unbiased variance is averaged. A channel whose variance would not be finite (because the batch has a NaN, an
    /// infinity or an overflow in it) stays as it was. This is decided on the device.
    pub(super) fn update(&self, batch: BatchStatistics, weighting: Weighting) {
        let Weighting { decay, gain } = weighting;
        if gain == 0.0 {
            return;
        }
        let unbiased = batch.values as f64 / (batch.values as f64 - 1.0);

        // Computed and stored under one lock, so no thread overwrites another thread's batch.
        let mut held = self.averages();
        let (device, dtype) = (held.mean.device(), FloatDType::from(held.mean.dtype()));
        // Rounding errors add up over many updates, so on a CPU the average is computed in f64, as in PyTorch. On a GPU
        // it is not, in PyTorch or here: Burn does not fuse operations in f64, and would launch a kernel for each of
        // them.
        let precision = if is_processor(&device) {
            FloatDType::F64
        } else {
            dtype
        };
        let here = |batch: Tensor<1>| batch.without_autodiff().to_device(&device).cast(precision);
        let weight = held
            .weight
            .clone()
            .map(|weight| weight.cast(precision) * decay + gain);
        let share = weight.clone().map(|weight| weight.recip() * gain);
        let average = |held: &Tensor<1>, batch: Tensor<1>| {
            let held = held.clone().cast(precision);
            let average = match share.clone() {
                None => held * (1.0 - gain) + batch * gain,
                Some(share) => held * (share.clone().neg() + 1.0) + batch * share,
            };
            average.cast(dtype)
        };
        let mean = average(&held.mean, here(batch.mean));
        let variance = average(&held.variance, here(batch.variance) * unbiased);

        let skip = variance.clone().is_nan().bool_or(variance.clone().is_inf());
        let unless_skipped = |new: Tensor<1>, held: Tensor<1>| new.mask_where(skip.clone(), held);
        let new = Averages {
            mean: unless_skipped(mean, held.mean.clone()),
            variance: unless_skipped(variance, held.variance.clone()),
            weight: weight
                .zip(held.weight.clone())
                .map(|(weight, held)| unless_skipped(weight.cast(dtype), held)),
        };
        *held = self.shared_or_not(new);
    }

    /// Replaces the values, for every module that shares them. `weight` is that of the batches seen, unless the average is
    /// exponential.
    pub(super) fn replace(&self, mean: Tensor<1>, variance: Tensor<1>, weight: f64) {
        let mut held = self.averages();
        let (device, dtype) = (held.mean.device(), FloatDType::from(held.mean.dtype()));
        let here = |value: Tensor<1>| value.without_autodiff().to_device(&device).cast(dtype);
        let new = Averages {
            mean: here(mean),
            variance: here(variance),
            weight: held.weight.as_ref().map(|held| held.full_like(weight)),
        };
        *held = self.shared_or_not(new);
    }

    /// The values in the form in which they are held.
    fn shared_or_not(&self, new: Averages) -> Averages {
        match Arc::strong_count(&self.shared) {
            1 => new,
            _ => new.of_no_thread(),
        }
    }

    /// Passes the values to a visitor, as fields of the batch norm module.
    pub(super) fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        let Averages {
            mean,
            variance,
            weight,
        } = self.averages().clone();
        let param = |id, tensor| Param::initialized(id, on(tensor, &self.device));
        visit_field("running_mean", &param(self.mean_id, mean), visitor);
        visit_field("running_var", &param(self.variance_id, variance), visitor);
        if let Some(weight) = weight {
            visit_field("running_weight", &param(self.weight_id, weight), visitor);
        }
    }

    /// Maps the values with a mapper, as fields of the batch norm module.
    pub(super) fn map<M: ModuleMapper>(self, average: RunningAverage, mapper: &mut M) -> Self {
        let Averages {
            mean,
            variance,
            weight,
        } = self.averages().clone();
        let mut map = |name, id, tensor| {
            let param = Param::initialized(id, on(tensor, &self.device));
            let (id, tensor, _) = map_field(name, param, mapper).consume();
            // A mapper may turn on gradients or half precision everywhere. Running statistics get neither.
            let dtype = FloatDType::from(at_least_f32(tensor.dtype()));
            (id, tensor.without_autodiff().cast(dtype))
        };
        let (mean_id, mean) = map("running_mean", self.mean_id, mean);
        let (variance_id, variance) = map("running_var", self.variance_id, variance);
        let (weight_id, weight) =
            match weight.map(|weight| map("running_weight", self.weight_id, weight)) {
                // A record from PyTorch has the number of batches here, but the weight of a debiased average is at most
                // 1.
                Some((id, weight)) if average == RunningAverage::DebiasedExponential => {
                    (id, Some(weight.clamp_max(1.0)))
                }
                Some((id, weight)) => (id, Some(weight)),
                None => (self.weight_id, None),
            };
        let shared = Arc::new(Mutex::new(Averages {
            mean,
            variance,
            weight,
        }));
        Self {
            mean_id,
            variance_id,
            weight_id,
            shared,
            ..self
        }
    }

    /// An independent copy on `device`.
    pub(super) fn copy_to(&self, device: Device) -> Self {
        let plain = device.clone().without_autodiff();
        let Averages {
            mean,
            variance,
            weight,
        } = self.averages().clone();
        let averages = Averages {
            mean: mean.to_device(&plain),
            variance: variance.to_device(&plain),
            weight: weight.map(|weight| weight.to_device(&plain)),
        };
        Self {
            device,
            shared: Arc::new(Mutex::new(averages)),
            ..self.clone()
        }
    }

    /// The same statistics, for a module on `device`: updates of one are updates of the other.
    pub(super) fn fork(self, device: &Device) -> Self {
        let device = device.clone().with_autodiff_context_from(&self.device);
        Self { device, ..self }
    }

    /// Locks the values. They are valid even after a panic under the lock: the panic left the old values in place.
    fn averages(&self) -> MutexGuard<'_, Averages> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves a tensor that is outside of any graph to the device, into the device's autodiff context.
pub(super) fn on<const D: usize>(tensor: Tensor<D>, device: &Device) -> Tensor<D> {
    let tensor = tensor.to_device(&device.clone().without_autodiff());
    match device.gradient_checkpointing_strategy() {
        Some(strategy) => tensor
            .autodiff()
            .with_gradient_checkpointing_strategy(strategy),
        None => tensor,
    }
}

/// Whether a device is the CPU.
// Without a CPU backend there is only one arm.
#[allow(clippy::match_single_binding)]
fn is_processor(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        burn::backend::DispatchDevice::NdArray(_) => true,
        _ => false,
    }
}
