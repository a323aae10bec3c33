//! Running statistics: updates, reads, and traversal with the module.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId, RunningState};
use burn::tensor::{DType, Device, FloatDType, StreamId, Tensor, TensorData};

use super::average::{RunningAverage, Weighting};
use super::fields::{map_field, visit_field};
use super::op;
use super::sync::Occasion;
use crate::dtype::at_least_f32;
use crate::processor::is_processor;

/// The panic of whatever needs running statistics in a layer without them.
pub(super) const NO_STATISTICS: &str = "this BatchNorm keeps no running statistics (`with_running_statistics(false)`), \
    so there is nothing to read or set.";

/// The statistics of one batch.
pub(super) struct BatchStatistics {
    /// The mean, `[channels]`.
    pub(super) mean: Tensor<1>,
    /// The biased variance, `[channels]`.
    pub(super) variance: Tensor<1>,
    /// The number of values per channel.
    pub(super) values: usize,
    /// The meeting in which workers found them. Every worker that shares the running statistics reports the same one.
    pub(super) occasion: Option<Occasion>,
}

impl BatchStatistics {
    /// Adds another batch (Chan, Golub & LeVeque 1983, equation 2.1).
    pub(super) fn pool(&mut self, other: Self) {
        let device = self.mean.device();
        let precision = precision(&device, self.mean.dtype());
        let here = |tensor: Tensor<1>| tensor.to_device(&device).without_autodiff().cast(precision);
        let (held, new) = (self.values as f64, other.values as f64);
        let share = new / (held + new);
        let mean = here(self.mean.clone());
        let difference = here(other.mean) - mean.clone();
        let variance = here(self.variance.clone()) * (1.0 - share)
            + here(other.variance) * share
            + difference.clone().square() * (share * (1.0 - share));
        self.mean = mean + difference * share;
        self.variance = variance;
        self.values += other.values;
    }
}

/// A value of each channel, shared by the clones of a module.
pub(super) type State = RunningState<Tensor<1>>;

/// The running statistics of a layer: its fields, and the lock that makes them one value.
///
/// Every update is visible at once. Readers always see a matching pair.
///
/// Clones and forks of a module share the values. Every operation that gives a module its own values makes an
/// [`Own`] copy: mapping its parameters (as an optimizer does), moving it, `valid`, `train`. See
/// [`BatchNorm`](super::BatchNorm#clones-and-threads).
#[derive(Clone, Copy)]
pub(super) struct RunningStatistics<'a> {
    pub(super) mean: &'a State,
    pub(super) variance: &'a State,
    /// The weight of the average. `None` for the exponential average, whose weight is always 1.
    pub(super) weight: Option<&'a State>,
    /// Locked while the fields are read or replaced. Its reference count tells how many share them.
    pub(super) lock: &'a Arc<Lock>,
}

/// The fields of a layer that shares its running statistics with no other.
pub(super) struct Own {
    pub(super) mean: State,
    pub(super) variance: State,
    pub(super) weight: Option<State>,
    pub(super) lock: Arc<Lock>,
}

/// Locked while running statistics are read or replaced. Contains the last meeting of workers that has updated them.
pub(super) type Lock = Mutex<Option<Occasion>>;

/// Fields that share their values with a layer.
pub(super) struct Shared(Own);

impl Shared {
    pub(super) fn get(&self) -> RunningStatistics<'_> {
        RunningStatistics {
            mean: &self.0.mean,
            variance: &self.0.variance,
            weight: self.0.weight.as_ref(),
            lock: &self.0.lock,
        }
    }
}

impl Own {
    /// Mean 0, variance 1, no batch seen.
    pub(super) fn new(channels: usize, average: RunningAverage, device: &Device) -> Self {
        let dtype = at_least_f32(device.settings().float_dtype.into());
        let options = (device, dtype);
        Self {
            mean: State::new(Tensor::zeros([channels], options)),
            variance: State::new(Tensor::ones([channels], options)),
            weight: (average != RunningAverage::Exponential)
                .then(|| State::new(Tensor::zeros([channels], options))),
            lock: Arc::default(),
        }
    }
}

/// The values, outside of any graph, in f32 or wider.
struct Averages {
    mean: Tensor<1>,
    variance: Tensor<1>,
    weight: Option<Tensor<1>>,
}

impl RunningStatistics<'_> {
    /// The running mean and variance, on `device` and in its autodiff context.
    pub(super) fn read(self, device: &Device) -> (Tensor<1>, Tensor<1>) {
        let _locked = self.locked();
        let Averages { mean, variance, .. } = self.averages();
        (on(mean, device), on(variance, device))
    }

    /// The ids of the running mean, variance and weight.
    pub(super) fn ids(self) -> [Option<ParamId>; 3] {
        [
            Some(id(self.mean)),
            Some(id(self.variance)),
            self.weight.map(id),
        ]
    }

    /// Fields that share the values.
    pub(super) fn share(self) -> Shared {
        Shared(Own {
            mean: self.mean.clone(),
            variance: self.variance.clone(),
            weight: self.weight.cloned(),
            lock: self.lock.clone(),
        })
    }

    /// Adds one batch to the averages.
    ///
    /// A channel whose variance would not be finite (because the batch has a NaN, an infinity or an overflow in it)
    /// stays as it was. This is decided on the device.
    pub(super) fn update(self, batch: BatchStatistics, weighting: Weighting) {
        let Weighting { decay, gain, .. } = weighting;
        if gain == 0.0 {
            return;
        }

        // Computed and stored under one lock, so no thread overwrites another thread's batch.
        let mut last = self.locked();
        if batch.occasion.is_some() && *last == batch.occasion {
            // Another worker that shares the values has updated them by the same batch.
            return;
        }
        *last = batch.occasion;
        let held = self.averages();
        let (device, dtype) = (held.mean.device(), FloatDType::from(held.mean.dtype()));
        let correction = weighting.correction(batch.values);
        let here = |batch: Tensor<1>| batch.without_autodiff().to_device(&device);
        let batch = [batch.mean, batch.variance].map(here);
        if held.weight.is_none() {
            let running = [held.mean.clone(), held.variance.clone()];
            if let Some([mean, variance]) = op::average(&running, &batch, gain, correction) {
                let weight = None;
                return self.store(Averages {
                    mean,
                    variance,
                    weight,
                });
            }
        }
        let precision = precision(&device, held.mean.dtype());
        let [batch_mean, batch_variance] = batch.map(|batch| batch.cast(precision));
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
        let mean = average(&held.mean, batch_mean);
        let variance = average(&held.variance, batch_variance * correction);

        let skip = variance.clone().is_nan().bool_or(variance.clone().is_inf());
        let unless_skipped = |new: Tensor<1>, held: Tensor<1>| new.mask_where(skip.clone(), held);
        self.store(Averages {
            mean: unless_skipped(mean, held.mean),
            variance: unless_skipped(variance, held.variance),
            weight: weight
                .zip(held.weight)
                .map(|(weight, held)| unless_skipped(weight.cast(dtype), held)),
        });
    }

    /// Replaces the values, for every module that shares them. `weight` is that of the batches seen, unless the average
    /// is exponential.
    pub(super) fn replace(self, mean: Tensor<1>, variance: Tensor<1>, weight: f64) {
        let _locked = self.locked();
        let held = self.averages();
        let (device, dtype) = (held.mean.device(), FloatDType::from(held.mean.dtype()));
        let here = |value: Tensor<1>| value.without_autodiff().to_device(&device).cast(dtype);
        self.store(Averages {
            mean: here(mean),
            variance: here(variance),
            weight: held.weight.map(|held| held.full_like(weight)),
        });
    }

    /// [`replace`](Self::replace), by a mean and a variance for each channel.
    pub(super) fn replace_by(self, moments: [Vec<f64>; 2], weight: f64) {
        let held = self.mean.value();
        let (device, dtype) = (held.device(), held.dtype());
        let [mean, variance] = moments.map(|values| {
            let data = TensorData::new(values, held.shape()).convert_dtype(dtype);
            Tensor::from_data(data, (&device, dtype))
        });
        self.replace(mean, variance, weight);
    }

    /// Passes the values on `device` to a visitor, as fields of the batch norm module.
    pub(super) fn visit<V: ModuleVisitor>(self, device: &Device, visitor: &mut V) {
        let copy = self.copy_to(device);
        visit_field("running_mean", &copy.mean, visitor);
        visit_field("running_var", &copy.variance, visitor);
        if let Some(weight) = &copy.weight {
            visit_field("running_weight", weight, visitor);
        }
    }

    /// Maps the values on `device` with a mapper, as fields of the batch norm module.
    pub(super) fn map<M: ModuleMapper>(
        self,
        device: &Device,
        average: RunningAverage,
        mapper: &mut M,
    ) -> Own {
        let copy = self.copy_to(device);
        let mut map = |name, state: State| {
            // As a parameter, whose id a mapper may change.
            let param = Param::initialized(id(&state), state.value());
            let (id, tensor, _) = map_field(name, param, mapper).consume();
            // A mapper may turn on gradients or half precision everywhere. Running statistics get neither.
            (id, widened(tensor))
        };
        let own = |(id, tensor): (ParamId, Tensor<1>)| {
            let device = tensor.device();
            State::with_id(id, on(tensor.without_autodiff(), &device))
        };
        let mean = map("running_mean", copy.mean);
        let variance = map("running_var", copy.variance);
        let weight = copy
            .weight
            .map(|weight| match (average, map("running_weight", weight)) {
                // A record from PyTorch has the number of batches here, but the weight of a debiased average is at most
                // 1.
                (RunningAverage::DebiasedExponential, (id, weight)) => (id, weight.clamp_max(1.0)),
                (_, weight) => weight,
            });
        Own {
            mean: own(mean),
            variance: own(variance),
            weight: weight.map(own),
            lock: Arc::default(),
        }
    }

    /// An independent copy on `device`.
    pub(super) fn copy_to(self, device: &Device) -> Own {
        let _locked = self.locked();
        let values = self.averages();
        let own = |state, value| State::with_id(id(state), on(value, device));
        Own {
            mean: own(self.mean, values.mean),
            variance: own(self.variance, values.variance),
            weight: self
                .weight
                .zip(values.weight)
                .map(|(state, value)| own(state, value)),
            lock: Arc::default(),
        }
    }

    /// Locks the values. They are valid even after a panic under the lock: the panic left the old values in place.
    fn locked(&self) -> MutexGuard<'_, Option<Occasion>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values. The caller holds the lock.
    fn averages(self) -> Averages {
        // With the updates that a user of the fields made by `RunningState::update`.
        let value = |state: &State| widened(state.value_sync()).without_autodiff();
        Averages {
            mean: value(self.mean),
            variance: value(self.variance),
            weight: self.weight.map(value),
        }
    }

    /// Replaces the values. The caller holds the lock.
    ///
    /// With Burn's fusion, operations wait to be merged with later ones, and a tensor belongs to the stream of the
    /// thread that made it. All clones on that thread count as one tensor. If another thread drops the last but one of
    /// them at the wrong moment, the last one is lost too. Clones on other threads are tensors of their own. So values
    /// that several threads may hold are put on a stream that none of them computes on.
    fn store(self, values: Averages) {
        static STREAM: LazyLock<StreamId> = LazyLock::new(StreamId::allocate);
        let is_shared = Arc::strong_count(self.lock) > 1;
        let device = self.mean.value().device();
        let store = |state: &State, value: Tensor<1>| {
            // Before the change of streams: an operation would put the value back on this thread's.
            let value = on(value, &device);
            let value = match is_shared {
                true => STREAM.executes(|| value.clone()),
                false => value,
            };
            state.clone().map(&mut Store(Some(value)));
        };
        store(self.mean, values.mean);
        store(self.variance, values.variance);
        if let Some((state, value)) = self.weight.zip(values.weight) {
            store(state, value);
        }
    }
}

/// The id under which traversals meet a value.
fn id(state: &State) -> ParamId {
    struct Id(Option<ParamId>);
    impl ModuleVisitor for Id {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 = Some(param.id);
        }
    }
    let mut id = Id(None);
    state.visit(&mut id);
    id.0.expect("a running state is one parameter")
}

/// Replaces a value at once, for all that share it.
struct Store(Option<Tensor<1>>);

impl ModuleMapper for Store {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let new = self.0.take().expect("a running state is one parameter");
        Param::initialized(param.id, Tensor::from_dispatch(new.into_dispatch()))
    }
}

/// Casts half precision to f32.
fn widened(tensor: Tensor<1>) -> Tensor<1> {
    let dtype = FloatDType::from(at_least_f32(tensor.dtype()));
    tensor.cast(dtype)
}

/// What averages of values of this type are computed in: f64 on a CPU.
///
/// Rounding errors add up over many updates, so on a CPU the averages are computed in f64, as in PyTorch. On a GPU they
/// are not, in PyTorch or here: Burn does not fuse operations in f64, and would launch a kernel for each of them.
fn precision(device: &Device, dtype: DType) -> FloatDType {
    match is_processor(device) {
        true => FloatDType::F64,
        false => dtype.into(),
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
