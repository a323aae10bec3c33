//! The observation of one training step.

use burn::module::Module;
use burn::tensor::{Gradients, Transaction};

use super::layer::LayerOnDevice;
use super::parameters::{self, ParameterOnDevice};
use super::readout::Readout;
use super::report::Report;
use super::summary::Settings;

/// The record of one step by an [`Observer`](super::Observer).
///
/// It starts with the forward pass; [`backward`](Self::backward) adds the gradients and [`step`](Self::step) the
/// updates. On the CPU, values of f32 are measured in a pass or two, by another thread if one is free. Elsewhere the
/// statistics stay on the device until [`report`](Self::report): a few numbers per point and parameter.
///
/// From `backward` to `step`, the observation also keeps the parameters' values, so the optimizer cannot update them in
/// place.
#[derive(Debug, Default)]
pub struct Observation {
    /// `None` if nothing was watched.
    settings: Option<Settings>,
    layers: Vec<LayerOnDevice>,
    parameters: Vec<ParameterOnDevice>,
}

impl Observation {
    pub(super) fn new(settings: Settings, layers: Vec<LayerOnDevice>) -> Self {
        Self {
            settings: Some(settings),
            layers,
            parameters: Vec::new(),
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.settings.is_some()
    }

    /// Adds the gradients of the points, and the parameters of `model` with their gradients.
    ///
    /// Call it between `loss.backward()` and the optimizer's step, with the model of the forward pass. A point outside
    /// the graph, such as the input of the network, has no gradient. Parameters of one axis that require
    /// no gradient, such as running statistics, are left out.
    pub fn backward<M: Module>(&mut self, model: &M, gradients: &Gradients) {
        let Some(settings) = &self.settings else {
            return;
        };
        let settings = settings.of_gradients();
        for layer in &mut self.layers {
            layer.backward(gradients, &settings);
        }
        self.parameters = parameters::before_step(model, gradients);
    }

    /// Adds the update of every parameter: its values in `model` minus its values at [`backward`](Self::backward).
    ///
    /// Call it after the optimizer's step. Without an earlier `backward` it does nothing.
    pub fn step<M: Module>(&mut self, model: &M) {
        parameters::after_step(&mut self.parameters, model);
    }

    /// Reads all statistics off the device, in one transaction.
    pub fn report(self) -> Report {
        let mut transaction = Transaction::default();
        for layer in &self.layers {
            transaction = layer.register(transaction);
        }
        for parameter in &self.parameters {
            transaction = parameter.register(transaction);
        }
        let mut readout = Readout::of(transaction);
        let layers = self.layers.into_iter();
        let layers = layers.map(|it| it.read(&mut readout)).collect();
        let parameters = self.parameters.into_iter();
        let parameters = parameters.map(|it| it.read(&mut readout)).collect();
        Report { layers, parameters }
    }
}
