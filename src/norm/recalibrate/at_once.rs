//! Recalibration in one pass: all batches go through the model side by side, and wait for each other at every layer.

use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use burn::module::{Module, ParamId};

use super::{Found, Layer, RecalibrateError, Replacements};
use crate::norm::average::Weighting;
use crate::norm::mode::Mode;
use crate::norm::statistics::{BatchStatistics, RunningStatistics, Shared};
use crate::scope;

/// [`recalibrate`](super::recalibrate) in one pass over the batches, however many layers there are. The result is the
/// same, to the bit.
///
/// Each batch goes through the model on a thread of its own. At a batch norm layer it waits for the others; then the
/// statistics of all of them normalise each. So the activations of all batches are in memory at the same time, as if
/// they were one batch. If they do not fit, use [`recalibrate`](super::recalibrate).
///
/// Every batch must call the same layers in the same order, each at most once.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNorm, BatchNormConfig, recalibrate_at_once};
///
/// #[derive(Module, Debug)]
/// struct Model {
///     linear: Linear,
///     norm: BatchNorm,
/// }
///
/// let device = Device::flex();
/// let model = Model { linear: LinearConfig::new(4, 8).init(&device), norm: BatchNormConfig::new(8).init(&device) };
/// let batches = (0..10).map(|_| Tensor::<2>::random([32, 4], Distribution::Default, &device));
///
/// let model = recalibrate_at_once(&model, batches, |model, batch| {
///     model.norm.forward(model.linear.forward(batch))
/// })?;
/// # Ok::<(), burn_kindling::norm::RecalibrateError>(())
/// ```
///
/// # Errors
///
/// Returns a [`RecalibrateError`] if there are no batches, no layers or too few values, or if the batches do not call
/// the layers alike.
///
/// # Panics
///
/// Panics if `forward` does, or if the system refuses a thread.
pub fn recalibrate_at_once<M, B, T>(
    model: &M,
    batches: impl IntoIterator<Item = B>,
    forward: impl Fn(&M, B) -> T + Sync,
) -> Result<M, RecalibrateError>
where
    M: Module + Sync,
    B: Send,
{
    let batches: Vec<B> = batches.into_iter().collect();
    if batches.is_empty() {
        return Err(RecalibrateError::NoBatches);
    }
    let meeting = Arc::new(Meeting::of(batches.len()));
    let evaluated = model.valid();
    thread::scope(|threads| {
        let start = |(batch, input)| {
            let (meeting, evaluated, forward) = (meeting.clone(), &evaluated, &forward);
            threads.spawn(move || {
                let seat = Arc::new(Seat { meeting, batch });
                let _leaves = Leaves(&seat.meeting);
                scope::run(seat.clone(), || {
                    Mode::Inference.run(|| drop(forward(evaluated, input)))
                });
            })
        };
        let started: Vec<_> = batches.into_iter().enumerate().map(start).collect();
        for batch in started {
            batch.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    let state = meeting.state();
    match &state.failed {
        Some(error) => Err(error.clone()),
        None if state.layers.is_empty() => Err(RecalibrateError::NoBatchNorm),
        None => {
            let mut values: Replacements = state.layers.iter().map(Layer::values).collect();
            drop(state);
            Ok(model.clone().map(&mut values))
        }
    }
}

/// A batch's place at the meetings.
pub(in crate::norm) struct Seat {
    meeting: Arc<Meeting>,
    batch: usize,
}

/// Where the batches wait for each other, at one layer after the other.
struct Meeting {
    state: Mutex<State>,
    /// The round is over, or the recalibration has failed.
    over: Condvar,
}

struct State {
    /// The layers whose statistics are recomputed, in the order of the calls.
    layers: Vec<Layer>,
    /// The batches that are on their way to the next layer, and those that wait at it.
    on_the_way: usize,
    waiting: Vec<Option<Arrived>>,
    failed: Option<RecalibrateError>,
}

/// A batch that waits at a layer.
struct Arrived {
    ids: [Option<ParamId>; 3],
    /// The layer's running statistics, which all batches share.
    statistics: Shared,
    weighting: Weighting,
    /// `None` if no value counts.
    found: Option<Found>,
}

impl Seat {
    /// The place of the batch whose forward pass is calling.
    pub(in crate::norm) fn here() -> Option<Arc<Self>> {
        scope::innermost()
    }

    /// Waits at a layer for the other batches. Afterwards, the layer's running statistics are those of all of them.
    pub(in crate::norm) fn wait(
        &self,
        layer: RunningStatistics,
        batch: Option<BatchStatistics>,
        weighting: Weighting,
    ) {
        let arrived = Arrived {
            ids: layer.ids(),
            statistics: layer.share(),
            weighting,
            found: batch.map(Found::from),
        };
        let mut state = self.meeting.state();
        if state.failed.is_some() {
            return;
        }
        state.waiting[self.batch] = Some(arrived);
        state.on_the_way -= 1;
        self.meeting.close_round(&mut state);
        let waits =
            |state: &mut State| state.failed.is_none() && state.waiting[self.batch].is_some();
        drop(
            self.meeting
                .over
                .wait_while(state, waits)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

impl Meeting {
    fn of(batches: usize) -> Self {
        Self {
            state: Mutex::new(State {
                layers: Vec::new(),
                on_the_way: batches,
                waiting: (0..batches).map(|_| None).collect(),
                failed: None,
            }),
            over: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the batches go on if all of them wait.
    fn close_round(&self, state: &mut State) {
        let one_waits = state.waiting.iter().any(Option::is_some);
        if state.on_the_way == 0 && one_waits && state.failed.is_none() {
            if let Err(error) = state.recompute() {
                state.failed = Some(error);
            }
            self.over.notify_all();
        }
    }
}

impl State {
    /// Recomputes the layer at which all batches wait.
    fn recompute(&mut self) -> Result<(), RecalibrateError> {
        let call = self.layers.len();
        let arrived: Vec<Arrived> = self.waiting.iter_mut().filter_map(Option::take).collect();
        self.on_the_way = arrived.len();
        let first = arrived.first().expect("a batch waits");
        let known = self.layers.iter().any(|layer| layer.ids == first.ids);
        let together = arrived.iter().all(|it| it.ids == first.ids);
        if known || !together || arrived.len() < self.waiting.len() {
            return Err(RecalibrateError::OutOfStep { call });
        }
        let mut layer = Layer::new(first.ids);
        for batch in &arrived {
            if let Some(found) = &batch.found {
                layer.measured.add(found, batch.weighting);
            }
        }
        layer.check_values(call)?;
        layer.settle();
        if !layer.held.is_empty() {
            let (means, variances) = layer
                .held
                .iter()
                .map(|&[mean, variance]| (mean, variance))
                .unzip();
            let statistics = first.statistics.get();
            statistics.replace_by([means, variances], layer.measured.weight);
        }
        self.layers.push(layer);
        Ok(())
    }
}

/// Leaves the meetings when a batch is done, or has panicked.
struct Leaves<'a>(&'a Meeting);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.on_the_way = state.on_the_way.saturating_sub(1);
        self.0.close_round(&mut state);
    }
}
