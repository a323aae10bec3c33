use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::module::{ModuleVisitor, Param};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Bool, ExecutionError, Int, Tensor};
use burn::train::metric::{AccuracyInput, Adaptor, LossInput};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use burn_kindling::norm::SyncGroup;
use burn_kindling::observe::{Observer, Report};

use crate::data::DigitBatch;
use crate::model::Classifier;
use crate::precision::Precision;

/// The output of one step, for the metrics.
pub struct StepOutput {
    /// Mean cross-entropy of the batch, in nats: `[1]`.
    pub loss: Tensor<1>,
    /// Logits: `[batch, classes]`.
    pub logits: Tensor<2>,
    /// Labels: `[batch]`.
    pub targets: Tensor<1, Int>,
}

impl StepOutput {
    /// The loss of these logits.
    pub(crate) fn of(logits: Tensor<2>, targets: Tensor<1, Int>) -> Self {
        let loss = CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits.clone(), targets.clone());
        Self {
            loss,
            logits,
            targets,
        }
    }

    /// How many images the network classifies correctly.
    pub fn right(&self) -> i64 {
        let answers = self.logits.clone().argmax(1).squeeze_dim::<1>(1);
        let right = answers.equal(self.targets.clone()).int().sum();
        right.into_scalar::<i64>()
    }
}

impl Classifier {
    /// Computes loss and logits of a batch.
    pub fn forward_step(&self, batch: DigitBatch) -> StepOutput {
        StepOutput::of(self.forward(batch.images), batch.targets)
    }
}

impl Classifier {
    /// Observes the forward and the backward pass of a batch. The network must be on a device with autodiff; running
    /// statistics are updated as in a training step.
    pub fn observe_step(&self, batch: DigitBatch) -> Report {
        let (output, mut seen) = Observer::new().run(|| self.forward_step(batch));
        seen.backward(self, &output.loss.backward());
        seen.report()
    }
}

impl TrainStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<StepOutput> {
        let output = self.forward_step(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> StepOutput {
        self.forward_step(batch)
    }
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            logits: self.logits.without_autodiff(),
            targets: self.targets.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for StepOutput {
    /// Expands the loss to one value per image. Burn weights a batch by the length of this tensor, so the mean over an
    /// epoch counts every image once, even in a smaller last batch.
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone().expand(self.targets.dims()))
    }
}

impl Adaptor<AccuracyInput> for StepOutput {
    fn adapt(&self) -> AccuracyInput {
        AccuracyInput::new(self.logits.clone(), self.targets.clone())
    }
}

/// One training step, as a watcher sees it: after the forward and backward pass, before the weights are updated. The
/// running statistics of batch norm already include the batch.
pub struct TrainingStep<'a> {
    /// Counted from 1, over all epochs.
    pub step: usize,
    /// The network, with the weights that this step is about to change.
    pub network: &'a Classifier,
    /// The images of the step.
    pub batch: &'a DigitBatch,
    /// Mean cross-entropy of the batch, in nats: `[1]`.
    pub loss: &'a Tensor<1>,
}

/// A function that is called at every training step; see [`Trainer::train`](super::Trainer::train).
pub type Watcher = dyn Fn(TrainingStep) + Send + Sync;

/// A network in training, with its watcher and the scale of its gradients.
#[derive(Module, Debug)]
pub(super) struct Watched {
    pub(super) network: Classifier,
    #[module(skip)]
    watch: Watch,
    #[module(skip)]
    pub(super) scale: Scale,
    #[module(skip)]
    sync: Option<Synchronised>,
}

/// The devices that normalise by the statistics of all their batches.
#[derive(Clone, Debug)]
pub(super) struct Synchronised {
    group: SyncGroup,
    /// The batches of an epoch, and how many of them belong to steps of all devices. Those come first.
    batches: usize,
    of_all: usize,
    /// The batches so far.
    done: Arc<AtomicUsize>,
}

impl Synchronised {
    /// `steps` is each device's number of steps in an epoch.
    pub(super) fn new(steps: &[usize]) -> Self {
        let fewest = steps.iter().min().expect("there is a device");
        Self {
            group: SyncGroup::new(steps.len()),
            batches: steps.iter().sum(),
            of_all: fewest * steps.len(),
            done: Arc::default(),
        }
    }

    /// Calls `step` on one of the devices' batches, together with the other devices if all have one.
    fn run<T: Send>(&self, step: impl FnOnce() -> T + Send) -> T {
        let position = self.done.fetch_add(1, Ordering::Relaxed) % self.batches;
        match position < self.of_all {
            true => self.group.run(step),
            false => step(),
        }
    }
}

/// The factors on the loss before the backward pass and on the gradients after it, and how many steps were skipped
/// because the scaled gradients overflowed.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    loss: f64,
    gradients: f64,
    skipped: Arc<AtomicUsize>,
}

impl Scale {
    /// Scales the loss as the float type needs. The factor on the gradients undoes this, and turns the sum over
    /// `devices` devices, which Burn computes, into their mean.
    pub(super) fn new(precision: Precision, devices: usize) -> Self {
        let loss = precision.loss_scale();
        Self {
            loss,
            gradients: 1.0 / (loss * devices as f64),
            skipped: Arc::default(),
        }
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Watch {
    watcher: Option<Arc<Watcher>>,
    steps: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("watched", &self.watcher.is_some())
            .finish_non_exhaustive()
    }
}

impl Watched {
    pub(super) fn new(network: Classifier, watcher: Option<Arc<Watcher>>, scale: Scale) -> Self {
        let steps = Arc::default();
        Self {
            network,
            watch: Watch { watcher, steps },
            scale,
            sync: None,
        }
    }

    /// Synchronises the statistics of batch norm over several devices.
    pub(super) fn synchronised(self, sync: Option<Synchronised>) -> Self {
        Self { sync, ..self }
    }

    /// Whether all gradients are finite. Waits for the device.
    fn all_finite(&self, gradients: &GradientsParams) -> bool {
        let mut finite = Finite {
            gradients,
            all: None,
        };
        self.visit(&mut finite);
        finite.all.is_none_or(|all| all.into_scalar::<bool>())
    }
}

impl TrainStep for Watched {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> TrainOutput<StepOutput> {
        let watched = self.watch.watcher.as_ref().zip(Some(batch.clone()));
        let passes = || {
            let output = self.network.forward_step(batch);
            let gradients = match self.scale.loss {
                1.0 => output.loss.backward(),
                factor => (output.loss.clone() * factor).backward(),
            };
            (output, gradients)
        };
        let (output, gradients) = match &self.sync {
            None => passes(),
            Some(sync) => sync.run(passes),
        };
        if let Some((watcher, batch)) = watched {
            watcher(TrainingStep {
                step: 1 + self.watch.steps.fetch_add(1, Ordering::Relaxed),
                network: &self.network,
                batch: &batch,
                loss: &output.loss,
            });
        }
        TrainOutput::new(self, gradients, output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: ModuleLearningRate,
        mut gradients: GradientsParams,
    ) -> Self {
        if self.scale.loss != 1.0 && !self.all_finite(&gradients) {
            self.scale.skipped.fetch_add(1, Ordering::Relaxed);
            return self;
        }
        if self.scale.gradients != 1.0 {
            self.visit(&mut Scaling {
                gradients: &mut gradients,
                factor: self.scale.gradients,
            });
        }
        optimizer.step(learning_rate, self, gradients)
    }
}

/// Checks on the device whether the gradients of all visited parameters are finite.
struct Finite<'a> {
    gradients: &'a GradientsParams,
    all: Option<Tensor<1, Bool>>,
}

impl ModuleVisitor for Finite<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let finite = gradient.is_finite().all();
            self.all = Some(match self.all.take() {
                Some(all) => all.bool_and(finite),
                None => finite,
            });
        }
    }
}

/// Multiplies the gradients of all visited parameters by `factor`.
struct Scaling<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scaling<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients.register(param.id, gradient * self.factor);
        }
    }
}

impl InferenceStep for Watched {
    type Input = DigitBatch;
    type Output = StepOutput;

    fn step(&self, batch: DigitBatch) -> StepOutput {
        self.network.forward_step(batch)
    }
}
