//! Precise batch normalisation: running statistics recomputed over a sample, with the weights as they are.

use std::cell::RefCell;
use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use super::mode::Mode;
use super::statistics::RunningStatistics;

/// How [`recalibrate`] goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recalibration {
    /// One pass over the batches for each layer, in the order in which the layers are called. Exact: the statistics
    /// of a layer are those of what it will meet in inference, where all layers before it normalise by their own new
    /// running statistics.
    LayerByLayer,
    /// One pass over the batches in all, in which every layer normalises by the batch's statistics (Wu & Johnson
    /// 2021, section 3). Exact for the first layer; what the others meet in inference differs from what they met
    /// here as much as a batch's statistics do from the sample's. The larger the batches, the closer.
    OnePass,
}

/// How far [`recalibrate`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecalibrationProgress {
    /// The pass over the batches that is under way, from 1.
    pub pass: usize,
    /// The number of passes, as far as the layers called so far tell.
    pub passes: usize,
    /// The batches done in this pass.
    pub batches: usize,
}

/// Why [`recalibrate`] could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecalibrateError {
    /// There was no batch to take statistics from.
    #[error(
        "recalibration got no batches; give it an iterator of at least one, anew for each pass"
    )]
    NoBatches,
    /// No batch norm layer was called.
    #[error(
        "the forward pass called no batch norm layer that keeps running statistics on this thread; \
         recalibration has nothing to do"
    )]
    NoBatchNorm,
    /// A channel saw fewer than the two finite values that a variance takes.
    #[error(
        "channel {channel} of batch norm layer {layer} (in the order of calls, from 0) saw {values} finite values in \
         the sample, but a variance takes two; give more samples, or look for NaN and infinity in the layers before"
    )]
    TooFewValues {
        /// The layer, counted from 0 in the order in which the layers are called.
        layer: usize,
        /// The channel of the layer.
        channel: usize,
        /// The values that it saw in batches without NaN or infinity.
        values: usize,
    },
}

/// The model with the running statistics of its batch norm layers recomputed over a sample of batches.
///
/// Each becomes the mean and the unbiased variance of all values that the layer meets in the sample, pooled over the
/// batches, which may be of different sizes, rather than an average of averages. 10^3 to 10^4 samples are enough (Wu
/// & Johnson 2021, [arXiv:2105.07576](https://arxiv.org/abs/2105.07576)). Everything else in the model stays, and so
/// does the model that was passed. A batch in which a channel's mean or variance is not finite does not count for
/// that channel.
///
/// - `batches` gives the batches of one pass; it is called once a pass, and must give the same ones every time
/// - `forward` feeds one to the model, which is the [validation](Module::valid) one, so dropout is off; it must call
///   the layers on the thread that it is called on
/// - `progress` is called after each batch
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNorm, BatchNormConfig, Recalibration, recalibrate};
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
///     Recalibration::LayerByLayer,
///     || batches.iter().cloned(),
///     |model, batch| model.norm.forward(model.linear.forward(batch)),
///     |progress| println!("pass {}/{}, batch {}", progress.pass, progress.passes, progress.batches),
/// )?;
/// # Ok::<(), burn_kindling::norm::RecalibrateError>(())
/// ```
///
/// # Errors
///
/// See [`RecalibrateError`].
pub fn recalibrate<M: Module, I: IntoIterator, T>(
    model: &M,
    method: Recalibration,
    batches: impl Fn() -> I,
    forward: impl Fn(&M, I::Item) -> T,
    mut progress: impl FnMut(RecalibrationProgress),
) -> Result<M, RecalibrateError> {
    let mut model = model.clone();
    let mut layers = Vec::new();
    for pass in 0.. {
        let evaluated = model.valid();
        let recording = Recording::start(Recorder {
            method,
            pass,
            layers,
        });
        let mut done = 0;
        for batch in batches() {
            // All layers but the recorded ones: by the running statistics.
            Mode::INFERENCE.run(|| forward(&evaluated, batch));
            done += 1;
            progress(RecalibrationProgress {
                pass: pass + 1,
                passes: recording.passes(),
                batches: done,
            });
        }
        let passes = recording.passes();
        layers = recording.stop().layers;
        if done == 0 {
            return Err(RecalibrateError::NoBatches);
        }
        if layers.is_empty() {
            return Err(RecalibrateError::NoBatchNorm);
        }
        let mut replacements = Replacements::default();
        for (index, layer) in layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| layer.batches > 0)
        {
            layer.replace(index, &mut replacements)?;
        }
        model = model.map(&mut replacements);
        if pass + 1 == passes {
            break;
        }
    }
    Ok(model)
}

/// What the layers called on a thread report to.
struct Recorder {
    method: Recalibration,
    pass: usize,
    /// In the order in which they were first called.
    layers: Vec<Layer>,
}

/// What one layer met.
struct Layer {
    ids: [ParamId; 3],
    batches: usize,
    channels: Vec<Moments>,
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
    /// Takes in a batch, by its mean and biased variance (Chan, Golub & LeVeque 1983, equation 2.1).
    fn pool(&mut self, count: usize, mean: f64, variance: f64) {
        let (held, new) = (self.count as f64, count as f64);
        let difference = mean - self.mean;
        let total = held + new;
        self.mean += difference * (new / total);
        self.deviations += variance * new + difference * difference * (held * new / total);
        self.count += count;
    }
}

thread_local! {
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// Whether a recalibration under way on this thread records the layer in this pass.
pub(super) fn records(layer: &RunningStatistics) -> bool {
    RECORDER.with_borrow_mut(|recorder| {
        recorder
            .as_mut()
            .is_some_and(|recorder| recorder.records(layer))
    })
}

/// Reports a batch that [`records`] asked for: the mean and biased variance of each channel over `values` values.
pub(super) fn record(
    layer: &RunningStatistics,
    mean: Tensor<1>,
    variance: Tensor<1>,
    values: usize,
) {
    let numbers = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    let (mean, variance) = (numbers(mean), numbers(variance));
    RECORDER.with_borrow_mut(|recorder| {
        let recorder = recorder
            .as_mut()
            .expect("a recorder that asked for the layer");
        let index = recorder.index_of(layer);
        let layer = &mut recorder.layers[index];
        layer.batches += 1;
        layer.channels.resize(mean.len(), Moments::default());
        for (moments, (mean, variance)) in layer
            .channels
            .iter_mut()
            .zip(mean.into_iter().zip(variance))
        {
            if variance.is_finite() {
                moments.pool(values, mean, variance);
            }
        }
    });
}

impl Recorder {
    fn records(&mut self, layer: &RunningStatistics) -> bool {
        let index = self.index_of(layer);
        match self.method {
            Recalibration::LayerByLayer => index == self.pass,
            Recalibration::OnePass => true,
        }
    }

    /// The layer's place in the order of calls, the last one if it is new.
    fn index_of(&mut self, layer: &RunningStatistics) -> usize {
        let ids = layer.ids();
        self.layers
            .iter()
            .position(|known| known.ids == ids)
            .unwrap_or_else(|| {
                self.layers.push(Layer {
                    ids,
                    batches: 0,
                    channels: Vec::new(),
                });
                self.layers.len() - 1
            })
    }
}

/// A recorder in place on this thread; it is taken away when this is dropped, if the forward pass panics too.
struct Recording {
    outer: Option<Recorder>,
}

impl Recording {
    fn start(recorder: Recorder) -> Self {
        Self {
            outer: RECORDER.replace(Some(recorder)),
        }
    }

    fn passes(&self) -> usize {
        RECORDER.with_borrow(|recorder| match recorder {
            Some(Recorder {
                method: Recalibration::LayerByLayer,
                layers,
                ..
            }) => layers.len(),
            _ => 1,
        })
    }

    fn stop(self) -> Recorder {
        RECORDER.take().expect("the recorder of this recording")
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDER.set(self.outer.take());
    }
}

/// New values for parameters, by their ids.
#[derive(Default)]
struct Replacements(HashMap<ParamId, Vec<f64>>);

impl Layer {
    /// The running mean, the unbiased variance, and, as the weight held, the number of batches.
    fn replace(
        &self,
        layer: usize,
        replacements: &mut Replacements,
    ) -> Result<(), RecalibrateError> {
        if let Some((channel, moments)) = self
            .channels
            .iter()
            .enumerate()
            .find(|(_, channel)| channel.count < 2)
        {
            return Err(RecalibrateError::TooFewValues {
                layer,
                channel,
                values: moments.count,
            });
        }
        let [mean, variance, weight] = self.ids;
        let values = |value: &dyn Fn(&Moments) -> f64| self.channels.iter().map(value).collect();
        replacements.0.insert(mean, values(&|channel| channel.mean));
        replacements.0.insert(
            variance,
            values(&|channel| channel.deviations / (channel.count - 1) as f64),
        );
        replacements
            .0
            .insert(weight, values(&|_| self.batches as f64));
        Ok(())
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
