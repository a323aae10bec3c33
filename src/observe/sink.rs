//! Receives the statistics of a training.

use burn::tensor::Tensor;

use super::observation::Observation;
use super::observer::Observer;
use super::report::Report;

/// Receives statistics while a network trains: a page in a browser, a file, a test.
///
/// An implementation chooses the steps to watch, and takes their statistics. A training loop then needs one line around
/// its forward pass, and one at the end of the step:
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::{GradientsParams, SgdConfig};
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::observe::{Observer, Report, Sink, watch};
///
/// /// Prints every tenth step.
/// struct Printer(usize);
///
/// impl Sink for Printer {
///     fn observer(&mut self) -> Option<Observer> {
///         self.0 += 1;
///         (self.0 % 10 == 1).then(Observer::new)
///     }
///
///     fn take(&mut self, step: usize, loss: f64, report: Report) {
///         println!("step {step}, loss {loss}, std {}", report.layers[0].data.std);
///     }
/// }
///
/// let device = Device::flex().autodiff();
/// let mut model: Linear = LinearConfig::new(8, 1).init(&device);
/// let mut optimizer = SgdConfig::new().init();
/// let mut sink = Printer(0);
/// for step in 0..20 {
///     let input = Tensor::<2>::random([32, 8], Distribution::Default, &device);
///     let forward = || watch("output", model.forward(input)).square().mean();
///     let (loss, mut seen) = sink.observe(forward);
///     let gradients = loss.backward();
///     seen.backward(&model, &gradients);
///     let gradients = GradientsParams::from_grads(gradients, &model);
///     model = optimizer.step(0.1, model, gradients);
///     seen.step(&model);
///     sink.show(step, &loss, seen);
/// }
/// ```
///
/// A step that is not wanted runs as if there were no sink.
pub trait Sink {
    /// The observer of the step that starts now, or `None` if the step is not wanted.
    fn observer(&mut self) -> Option<Observer>;

    /// Takes the statistics of a step that was wanted. The training waits meanwhile, so this should return at once.
    fn take(&mut self, step: usize, loss: f64, report: Report);

    /// Calls `forward`, and watches it if the step is wanted; see [`Observer::run_if`].
    fn observe<T: Send>(&mut self, forward: impl FnOnce() -> T + Send) -> (T, Observation) {
        match self.observer() {
            Some(observer) => observer.run(forward),
            None => (forward(), Observation::default()),
        }
    }

    /// Shows a step that was watched: reads its loss and its statistics off the device. Does nothing otherwise.
    ///
    /// `step` counts up from one call to the next. `loss` has a single value.
    fn show(&mut self, step: usize, loss: &Tensor<1>, seen: Observation) {
        if seen.is_watched() {
            self.take(step, loss.clone().into_scalar(), seen.report());
        }
    }
}
