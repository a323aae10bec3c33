//! Records the input of each batch norm layer, and cuts the model apart at these layers.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::ParamId;
use burn::tensor::Tensor;

use crate::scope;

/// Notes the input of every call of a batch norm layer in a forward pass.
///
/// In the first pass each layer normalises its input. In later passes it normalises the input of the first pass. So a
/// change of the layers before a norm changes the input of this norm, and nothing after it.
#[derive(Default)]
pub(super) struct Probe(Mutex<Passes>);

/// A batch norm layer as a probe met it.
#[derive(Clone)]
pub(super) struct Met {
    /// The id of its `training` flag.
    pub(super) flag: ParamId,
    /// The ids of gamma and beta.
    pub(super) affine: [ParamId; 2],
    /// The ids of the running statistics: mean, variance and weight.
    pub(super) statistics: [Option<ParamId>; 3],
    pub(super) epsilon: f64,
    /// The scale, mean and beta of inference, by channel.
    pub(super) terms: [Vec<f64>; 3],
}

/// The values of a norm's input.
#[derive(Clone)]
pub(super) struct Values {
    numbers: Vec<f32>,
    channels: usize,
    /// The number of values of one channel of one row of the batch.
    inner: usize,
}

/// A call of a layer in the first pass.
struct Call {
    met: Met,
    /// A `Tensor<D>`.
    input: Box<dyn Any + Send>,
}

#[derive(Default)]
struct Passes {
    /// The calls of the first pass.
    calls: Vec<Call>,
    is_later: bool,
    /// The inputs of this pass.
    inputs: Vec<Values>,
    /// Whether a pass called the layers in another order than the first.
    out_of_step: bool,
}

impl Probe {
    /// The probe of the forward pass that is calling.
    pub(super) fn here() -> Option<Arc<Self>> {
        scope::innermost()
    }

    /// Calls `forward`. Returns its output and the input of every call of a layer, or `None` if the calls are not those
    /// of the first pass.
    pub(super) fn pass<T: Send>(
        self: &Arc<Self>,
        forward: impl FnOnce() -> T + Send,
    ) -> Option<(T, Vec<Values>)> {
        let output = scope::run(self.clone(), forward);
        let mut passes = self.passes();
        passes.is_later = true;
        let inputs = std::mem::take(&mut passes.inputs);
        let in_step = inputs.len() == passes.calls.len() && !passes.out_of_step;
        in_step.then_some((output, inputs))
    }

    /// The layers in the order of the calls.
    pub(super) fn met(&self) -> Vec<Met> {
        self.passes()
            .calls
            .iter()
            .map(|it| it.met.clone())
            .collect()
    }

    /// Notes the input of the layer with this flag, and returns that of the first pass. `layer` describes the layer.
    pub(super) fn meet<const D: usize>(
        &self,
        flag: ParamId,
        layer: impl FnOnce() -> Met,
        input: Tensor<D>,
    ) -> Tensor<D> {
        // No lock is held while a device computes.
        let values = Values::of(&input);
        let is_first = !self.passes().is_later;
        let met = is_first.then(layer);
        let mut passes = self.passes();
        let index = passes.inputs.len();
        passes.inputs.push(values);
        if let Some(met) = met {
            let input = Box::new(input.clone());
            passes.calls.push(Call { met, input });
        }
        let same = passes.calls.get(index).filter(|it| it.met.flag == flag);
        let first = same.and_then(|it| it.input.downcast_ref::<Tensor<D>>());
        match first.cloned() {
            Some(first) if first.dims() == input.dims() => first,
            _ => {
                passes.out_of_step = true;
                input
            }
        }
    }

    fn passes(&self) -> MutexGuard<'_, Passes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    /// Those of an input `[batch, channels, ...]`.
    fn of<const D: usize>(input: &Tensor<D>) -> Self {
        let dims = input.dims();
        Self {
            numbers: input.clone().into_data().iter::<f32>().collect(),
            channels: dims[1],
            inner: dims[2..].iter().product(),
        }
    }

    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// Whether they are those of `first`, up to rounding.
    pub(super) fn equal(&self, first: &Self) -> bool {
        self.are_by(first, |_| [1.0, 0.0]).is_some()
    }

    /// Whether every channel is that of `first` times its factor, plus its shift. Not if all values are 0.
    pub(super) fn are(&self, first: &Self, by_channel: impl Fn(usize) -> [f64; 2]) -> bool {
        self.are_by(first, by_channel)
            .is_some_and(|largest| largest > 0.0)
    }

    /// The largest magnitude, if [`are`](Self::are) holds but for that.
    fn are_by(&self, first: &Self, by_channel: impl Fn(usize) -> [f64; 2]) -> Option<f32> {
        if self.numbers.len() != first.numbers.len() {
            return None;
        }
        let mut largest = 0.0f32;
        for channel in 0..self.channels {
            let [factor, shift] = by_channel(channel).map(|number| number as f32);
            let pairs = || {
                let expected = first.channel(channel).map(|x| factor * x + shift);
                expected.zip(self.channel(channel))
            };
            let scale = pairs().fold(0.0f32, |scale, (expected, _)| scale.max(expected.abs()));
            if !pairs().all(|(expected, found)| (expected - found).abs() <= ROUNDING * scale) {
                return None;
            }
            largest = largest.max(scale);
        }
        Some(largest)
    }

    fn channel(&self, channel: usize) -> impl Iterator<Item = f32> {
        let rows = self.numbers.chunks(self.channels * self.inner.max(1));
        rows.flat_map(move |row| row[channel * self.inner..][..self.inner].iter().copied())
    }
}

/// What rounding may change, relative to the largest value of a channel. In half precision it is 2^-11 for each
/// operation.
const ROUNDING: f32 = 1e-2;
