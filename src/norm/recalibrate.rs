//! Precise batch normalisation: recomputes running statistics over a sample, with fixed weights.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use super::average::Weighting;
use super::mode::Mode;
use super::statistics::{BatchStatistics, RunningStatistics};
use crate::scope;

mod at_once;

pub(super) use at_once::Seat;
pub use at_once::recalibrate_at_once;

/// The progress of [`recalibrate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecalibrationProgress {
    /// The current pass over the batches, from 1.
    pub pass: usize,
    /// The number of passes, as far as known. It grows as layers are found, and when another sweep over the layers is
    /// needed.
    pub passes: usize,
    /// The number of batches done in this pass.
    pub batches: usize,
}

/// Why [`recalibrate`] or [`recalibrate_at_once`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecalibrateError {
    /// There was no batch to compute statistics from.
    #[error(
        "recalibration got no batches; pass a function that returns at least one in every pass"
    )]
    NoBatches,
    /// No batch norm layer was called.
    #[error(
        "the forward pass called no batch norm layer with running statistics on its own thread, so recalibration has \
         nothing to do; call the layers on the thread of the forward pass"
    )]
    NoBatchNorm,
    /// A channel saw fewer than the two finite values that a variance needs.
    #[error(
        "channel {channel} of batch norm layer {layer} (in the order of calls, from 0) saw {values} finite values in \
         the sample, but a variance needs two; give more samples, or look for NaN and infinity in the layers before"
    )]
    TooFewValues {
        /// The layer, counted from 0 in the order of calls.
        layer: usize,
        /// The channel of the layer.
        channel: usize,
        /// The number of values that the channel saw in batches without NaN or infinity.
        values: usize,
    },
    /// The statistics of a layer depend on themselves and did not converge.
    #[error(
        "the statistics of batch norm layer {layer} (in the order of calls, from 0) still changed after {passes} \
         passes; the layer is called more than once for a batch, or the batches differ from pass to pass"
    )]
    NotSettled {
        /// The layer, counted from 0 in the order of calls.
        layer: usize,
        /// The number of passes made.
        passes: usize,
    },
    /// [`recalibrate_at_once`] does not fit how the batches call the layers.
    #[error(
        "in one pass over the batches, all of them must call the same batch norm layers in the same order, each at most \
         once; that is not so at call {call} (from 0), so use `recalibrate`, which makes several passes"
    )]
    OutOfStep {
        /// The call that does not fit, counted from 0.
        call: usize,
    },
}

/// The limit on sweeps over all layers.
const MAX_SWEEPS: usize = 100;

/// Statistics that change by no more than this have converged: in standard deviations for the mean, relative for the
/// variance.
const SETTLED: f64 = 1e-4;

/// Returns the model with the running statistics of its batch norm layers recomputed over a sample of batches.
///
/// They become the mean and the unbiased variance of all values that the layer gets in inference on the sample, or the
/// biased variance if the layer keeps that. The layers before it already use their recomputed statistics. The values of
/// all batches are pooled, whatever their sizes. 10^3 to 10^4 samples are enough (Wu & Johnson 2021,
/// [arXiv:2105.07576](https://arxiv.org/abs/2105.07576)). The rest of the model stays as it is, and so does the model
/// passed in. A batch in which a channel's mean or variance is not finite does not count for that channel.
///
/// - `batches` returns the batches of one pass. It is called once per pass, and must return the same batches each time.
/// - `forward` calls the model on a batch. It gets the [validation](Module::valid) model, so dropout is off. It must
///   call the layers on its own thread. On a rayon worker that is a new thread, as in [`Mode::run`].
/// - `progress` is called after each batch.
///
/// # Passes
///
/// Each pass over the batches recomputes one layer, in the order of the first calls. One pass per layer is enough if
/// every batch calls the layers in that order, each at most once. Otherwise the statistics of a layer may depend on
/// the statistics of later layers, or on its own. Then all layers are recomputed again, until no mean changes by more
/// than 10^-4 standard deviations and no variance by more than 10^-4 of its value.
///
/// If the activations of all batches fit into memory together, [`recalibrate_at_once`] does it in one pass.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNorm, BatchNormConfig, recalibrate};
///
/// #[derive(Module, Debug)]
/// struct Model {
///     linear: Linear,
///     norm: BatchNorm,
/// }
///
/// let device = Device::flex();
/// let model = Model { linear: LinearConfig::new(4, 8).init(&device), norm: BatchNormConfig::new(8).init(&device) };
/// let batches: Vec<_> =
///     (0..10).map(|_| Tensor::<2>::random([32, 4], Distribution::Default, &device)).collect();
///
/// let model = recalibrate(
///     &model,
///     || batches.iter().cloned(),
///     |model, batch| model.norm.forward(model.linear.forward(batch)),
///     |progress| println!("pass {}/{}, batch {}", progress.pass, progress.passes, progress.batches),
/// )?;
/// # Ok::<(), burn_kindling::norm::RecalibrateError>(())
/// ```
///
/// # Errors
///
/// Returns a [`RecalibrateError`] if there are no batches, no layers or too few values, or if the statistics do not
/// converge.
pub fn recalibrate<M, I, T>(
    model: &M,
    batches: impl Fn() -> I,
    forward: impl Fn(&M, I::Item) -> T + Sync,
    mut progress: impl FnMut(RecalibrationProgress),
) -> Result<M, RecalibrateError>
where
    M: Module + Sync,
    I: IntoIterator<Item: Send>,
{
    let mut model = model.clone();
    let recorder = Arc::new(Recorder::default());
    let mut pass = 0;
    for sweep in 1.. {
        let mut unsettled = None;
        for target in 0.. {
            pass += 1;
            recorder.calls().aim_at(target);
            let evaluated = model.valid();
            let mut done = 0;
            for batch in batches() {
                recorder.calls().batch.clear();
                scope::run(recorder.clone(), || {
                    Mode::Inference.run(|| drop(forward(&evaluated, batch)))
                });
                done += 1;
                progress(RecalibrationProgress {
                    pass,
                    passes: recorder.calls().layers.len() * sweep,
                    batches: done,
                });
            }
            if done == 0 {
                return Err(RecalibrateError::NoBatches);
            }
            let mut calls = recorder.calls();
            let Some(layer) = calls.layers.get_mut(target) else {
                return Err(RecalibrateError::NoBatchNorm);
            };
            layer.check_values(target)?;
            if !layer.settle() {
                unsettled = Some(target);
            }
            let mut values = layer.values();
            let is_last = target + 1 == calls.layers.len();
            drop(calls);
            model = model.map(&mut values);
            if is_last {
                break;
            }
        }
        match unsettled {
            Some(_) if recorder.calls().in_order => break,
            Some(layer) if sweep == MAX_SWEEPS => {
                return Err(RecalibrateError::NotSettled {
                    layer,
                    passes: pass,
                });
            }
            Some(_) => (),
            None => break,
        }
    }
    Ok(model)
}

/// Records the calls of batch norm layers. No lock is held while a device computes.
#[derive(Default)]
pub(super) struct Recorder(Mutex<Calls>);

/// The calls of batch norm layers.
struct Calls {
    /// In the order of the first calls.
    layers: Vec<Layer>,
    /// The layer whose input is measured in this pass.
    target: usize,
    /// The layers called for the current batch.
    batch: Vec<usize>,
    /// Whether every batch called the layers in the order of `layers`, each at most once.
    in_order: bool,
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            target: 0,
            batch: Vec::new(),
            in_order: true,
        }
    }
}

impl Recorder {
    /// The recorder of the current recalibration, if this pass measures the input of `layer`.
    pub(super) fn of(layer: RunningStatistics) -> Option<Arc<Self>> {
        scope::innermost().filter(|recorder: &Arc<Self>| recorder.calls().call(layer.ids()))
    }

    /// Adds a batch of the target layer's input.
    pub(super) fn record(&self, batch: BatchStatistics, weighting: Weighting) {
        // Read before the lock is taken.
        let found = Found::from(batch);
        let mut calls = self.calls();
        let target = calls.target;
        calls.layers[target].measured.add(&found, weighting);
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    /// Begins a pass that measures the input of the layer of this index. The layer may not be known yet.
    fn aim_at(&mut self, target: usize) {
        self.target = target;
        if let Some(layer) = self.layers.get_mut(target) {
            layer.measured = Measured::default();
        }
    }

    /// Records a call of a layer. Returns whether the layer is the target.
    fn call(&mut self, ids: [Option<ParamId>; 3]) -> bool {
        let known = self.layers.iter().position(|layer| layer.ids == ids);
        let index = known.unwrap_or_else(|| {
            self.layers.push(Layer::new(ids));
            self.layers.len() - 1
        });
        self.in_order &= self.batch.last() < Some(&index);
        self.layers[index].repeats |= self.batch.contains(&index);
        self.batch.push(index);
        index == self.target
    }
}

/// The measured and the recomputed statistics of one layer.
struct Layer {
    ids: [Option<ParamId>; 3],
    /// Whether it is called more than once per batch. Then its statistics depend on themselves.
    repeats: bool,
    /// The values of the pass that measures this layer.
    measured: Measured,
    /// The recomputed mean and variance of each channel; empty before the first such pass.
    held: Vec<[f64; 2]>,
}

/// The pooled values that a layer gets in a pass.
#[derive(Default)]
struct Measured {
    /// The weight of the batches in the running average.
    weight: f64,
    /// Whether the layer keeps unbiased variances.
    unbiased: bool,
    channels: Vec<Moments>,
}

/// The statistics of a batch, as numbers.
struct Found {
    /// The mean and the biased variance of each channel.
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// The number of values per channel.
    values: usize,
}

impl From<BatchStatistics> for Found {
    fn from(batch: BatchStatistics) -> Self {
        let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect();
        Self {
            mean: numbers(batch.mean),
            variance: numbers(batch.variance),
            values: batch.values,
        }
    }
}

impl Measured {
    /// Adds a batch.
    fn add(&mut self, batch: &Found, weighting: Weighting) {
        self.weight = weighting.after(self.weight);
        self.unbiased = weighting.unbiased;
        self.channels.resize(batch.mean.len(), Moments::default());
        let channels = batch.mean.iter().zip(&batch.variance);
        for (moments, (&mean, &variance)) in self.channels.iter_mut().zip(channels) {
            if variance.is_finite() {
                moments.pool(batch.values, mean, variance);
            }
        }
    }
}

impl Layer {
    fn new(ids: [Option<ParamId>; 3]) -> Self {
        Self {
            ids,
            repeats: false,
            measured: Measured::default(),
            held: Vec::new(),
        }
    }

    /// Returns an error if a channel got too few values for a variance. `layer` is this layer's place in the order of
    /// calls.
    fn check_values(&self, layer: usize) -> Result<(), RecalibrateError> {
        let mut channels = self.measured.channels.iter().enumerate();
        match channels.find(|(_, moments)| moments.count < 2) {
            None => Ok(()),
            Some((channel, moments)) => Err(RecalibrateError::TooFewValues {
                layer,
                channel,
                values: moments.count,
            }),
        }
    }

    /// Replaces the held statistics with the measured ones. Returns whether both were the same, up to [`SETTLED`].
    ///
    /// Statistics that depend on themselves move only half-way; otherwise they would oscillate around the solution.
    fn settle(&mut self) -> bool {
        let channels = self.measured.channels.iter();
        let met: Vec<_> = channels
            .map(|it| [it.mean, it.variance(self.measured.unbiased)])
            .collect();
        if self.held.is_empty() {
            self.held = met;
            return self.held.is_empty();
        }
        let mut settled = true;
        for (held, met) in self.held.iter_mut().zip(met) {
            let changes = [0, 1].map(|index| met[index] - held[index]);
            settled &=
                changes[0].abs() <= SETTLED * met[1].sqrt() && changes[1].abs() <= SETTLED * met[1];
            *held = match self.repeats {
                true => [0, 1].map(|index| held[index] + changes[index] / 2.0),
                false => met,
            };
        }
        settled
    }

    /// The running mean, the unbiased variance and the weight.
    fn values(&self) -> Replacements {
        if self.measured.channels.is_empty() {
            return Replacements::default();
        }
        let [means, variances] =
            [0, 1].map(|index| self.held.iter().map(|held| held[index]).collect());
        let weights = vec![self.measured.weight; self.held.len()];
        let new = self.ids.into_iter().zip([means, variances, weights]);
        Replacements(new.filter_map(|(id, values)| Some((id?, values))).collect())
    }
}

/// The pooled moments of one channel.
#[derive(Clone, Copy, Default)]
struct Moments {
    count: usize,
    mean: f64,
    /// The sum of squared deviations from the mean.
    deviations: f64,
}

impl Moments {
    /// Adds a batch, given its mean and biased variance (Chan, Golub & LeVeque 1983, equation 2.1).
    fn pool(&mut self, count: usize, mean: f64, variance: f64) {
        let (held, new) = (self.count as f64, count as f64);
        let difference = mean - self.mean;
        let total = held + new;
        self.mean += difference * (new / total);
        self.deviations += variance * new + difference * difference * (held * new / total);
        self.count += count;
    }

    fn variance(&self, unbiased: bool) -> f64 {
        self.deviations / (self.count - usize::from(unbiased)) as f64
    }
}

/// New values for parameters, by their ids.
#[derive(Default)]
pub(super) struct Replacements(pub(super) HashMap<ParamId, Vec<f64>>);

impl FromIterator<Self> for Replacements {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        Self(parts.into_iter().flat_map(|part| part.0).collect())
    }
}

impl ModuleMapper for Replacements {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.get(&param.id) {
            None => param,
            Some(values) => param.map(|old| {
                let data = TensorData::new(values.clone(), old.shape());
                Tensor::from_data(data, (&old.device(), old.dtype()))
            }),
        }
    }
}
