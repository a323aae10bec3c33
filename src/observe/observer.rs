use std::cell::RefCell;
use std::fmt::Display;

use burn::module::Module;
use burn::tensor::{Gradients, Tensor, Transaction};

use super::parameters::{self, SeenParameter};
use super::point::Point;
use super::reduce::{self, Reduced, ReducedUnits};
use super::report::{Layer, Report};
use super::tap::tap;
use crate::init::Activation;

/// Watches the points that a forward pass goes through; see the [module](super) for an example.
///
/// It holds what to compute of each: which percentiles, and how the histogram is cut.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    pub(super) bins: usize,
    pub(super) range: Option<[f64; 2]>,
    pub(super) percentiles: Vec<f64>,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// An observer with histograms of 30 bins over the range of the data, and the 15th, 50th and 85th percentiles
    /// (those that Ioffe & Szegedy 2015 draw).
    pub fn new() -> Self {
        Self {
            bins: 30,
            range: None,
            percentiles: vec![15.0, 50.0, 85.0],
        }
    }

    /// Cuts the histograms into this many bins of equal width.
    ///
    /// # Panics
    ///
    /// Panics if there are none.
    pub fn with_bins(mut self, bins: usize) -> Self {
        assert!(bins > 0, "a histogram needs at least one bin, found 0");
        self.bins = bins;
        self
    }

    /// Draws the histograms over this range, from `low` to `high`, so that they can be laid side by side; what lies
    /// outside is counted apart. It holds for the tensors watched; their gradients keep the range of the data, as
    /// they have another scale.
    ///
    /// # Panics
    ///
    /// Panics unless both are finite and `low < high`.
    pub fn with_range(mut self, low: f64, high: f64) -> Self {
        assert!(
            low.is_finite() && high.is_finite() && low < high,
            "a histogram needs a finite range from low to high, found {low} to {high}"
        );
        self.range = Some([low, high]);
        self
    }

    /// Computes these percentiles, from 0 to 100, in the order given. None of them saves sorting the values.
    ///
    /// # Panics
    ///
    /// Panics if one is below 0 or above 100.
    pub fn with_percentiles(mut self, ranks: impl IntoIterator<Item = f64>) -> Self {
        self.percentiles = ranks.into_iter().collect();
        for rank in &self.percentiles {
            assert!(
                (0.0..=100.0).contains(rank),
                "a percentile is a number from 0 to 100, found {rank}"
            );
        }
        self
    }

    /// Calls `forward` and watches every [`Point`] passed on this thread until it returns. An inner observer takes
    /// precedence over an outer one.
    pub fn run<T>(&self, forward: impl FnOnce() -> T) -> (T, Observation) {
        /// Puts the outer recording back, if `forward` panics too.
        struct Restore(Option<Recording>);
        impl Drop for Restore {
            fn drop(&mut self) {
                RECORDING.set(self.0.take());
            }
        }
        let _restore = Restore(RECORDING.replace(Some(Recording {
            observer: self.clone(),
            layers: Vec::new(),
        })));
        let output = forward();
        let recording = RECORDING.take().expect("the recording of this run");
        let seen = Observation {
            observing: Some(recording.observer),
            layers: recording.layers,
            parameters: Vec::new(),
        };
        (output, seen)
    }

    /// [`run`](Self::run) on some steps only. Where `watching` is false, `forward` is called and nothing else is done,
    /// by the observation returned neither: its report is empty.
    pub fn run_if<T>(&self, watching: bool, forward: impl FnOnce() -> T) -> (T, Observation) {
        match watching {
            true => self.run(forward),
            false => (forward(), Observation::default()),
        }
    }
}

/// What an [`Observer`] saw of one step: of the forward pass from the start, of the backward pass and the update once
/// they are shown to it.
///
/// Until [`report`](Self::report) all of it stays on the device, reduced to a few numbers for each point and parameter;
/// only the parameters' values are held from `backward` to [`step`](Self::step), where the update is taken.
#[derive(Debug, Default)]
pub struct Observation {
    observing: Option<Observer>,
    layers: Vec<SeenLayer>,
    parameters: Vec<SeenParameter>,
}

impl Observation {
    /// Adds the gradients of the points, and the weights of the model with theirs.
    ///
    /// Call it between `loss.backward()` and the optimizer's step, with the model as it was in the forward pass.
    /// A point outside the graph, as the input of the network usually is, has no gradient. Parameters that require
    /// no gradient, as running statistics, are not listed.
    pub fn backward<M: Module>(&mut self, model: &M, gradients: &Gradients) {
        let Some(observer) = &self.observing else {
            return;
        };
        for layer in &mut self.layers {
            if let Some(gradient) = layer.leaf.take().and_then(|leaf| leaf.grad(gradients)) {
                layer.gradient = Some(reduce::values(&gradient, observer, None));
            }
        }
        self.parameters = parameters::with_gradients(model, gradients);
    }

    /// Adds how far the optimizer's step moved each parameter, from where [`backward`](Self::backward) saw it to where
    /// it is in `model`.
    pub fn step<M: Module>(&mut self, model: &M) {
        parameters::moved_to(&mut self.parameters, model);
    }

    /// Reads everything off the device, in one transaction.
    pub fn report(self) -> Report {
        let mut reading = Transaction::default();
        for layer in &self.layers {
            reading = layer.register(reading);
        }
        for parameter in &self.parameters {
            reading = parameter.register(reading);
        }
        let mut read = reading.execute().into_iter();
        Report {
            layers: self
                .layers
                .into_iter()
                .map(|layer| layer.read(&mut read))
                .collect(),
            parameters: self
                .parameters
                .into_iter()
                .map(|parameter| parameter.read(&mut read))
                .collect(),
        }
    }
}

thread_local! {
    static RECORDING: RefCell<Option<Recording>> = const { RefCell::new(None) };
}

/// What the points passed on a thread report to.
struct Recording {
    observer: Observer,
    layers: Vec<SeenLayer>,
}

/// Reports a tensor at a point, if anybody watches.
pub(super) fn record<N: Display, const D: usize>(point: Point<N>, tensor: Tensor<D>) -> Tensor<D> {
    RECORDING.with_borrow_mut(|recording| match recording {
        None => tensor,
        Some(recording) => {
            let (tensor, layer) = SeenLayer::new(point, tensor, &recording.observer);
            recording.layers.push(layer);
            tensor
        }
    })
}

/// A point that was passed.
#[derive(Debug)]
struct SeenLayer {
    name: String,
    shape: Vec<usize>,
    units: usize,
    activation: Option<Activation>,
    data: Reduced,
    by_unit: ReducedUnits,
    /// What the gradient of the tensor can be asked of, until it is.
    leaf: Option<Tensor<3>>,
    gradient: Option<Reduced>,
}

impl SeenLayer {
    fn new<N: Display, const D: usize>(
        point: Point<N>,
        tensor: Tensor<D>,
        observer: &Observer,
    ) -> (Tensor<D>, Self) {
        let name = point.name.to_string();
        let view = view(&name, tensor.dims(), point.units_axis);
        let values = tensor.clone().without_autodiff().reshape(view);
        let layer = Self {
            name,
            shape: tensor.dims().to_vec(),
            units: view[1],
            activation: point.activation,
            data: reduce::values(&values, observer, observer.range),
            by_unit: reduce::units(&values, point.activation),
            leaf: None,
            gradient: None,
        };
        match tensor.is_tracked() {
            false => (tensor, layer),
            true => {
                let (tensor, leaf) = tap(tensor, view);
                let leaf = Some(leaf);
                (tensor, Self { leaf, ..layer })
            }
        }
    }

    fn register(&self, reading: Transaction) -> Transaction {
        let reading = self.by_unit.register(self.data.register(reading));
        match &self.gradient {
            Some(gradient) => gradient.register(reading),
            None => reading,
        }
    }

    fn read(self, read: &mut reduce::Read) -> Layer {
        let data = self.data.read(read);
        let by_unit = self.by_unit.read(read);
        Layer {
            name: self.name,
            shape: self.shape,
            activation: self.activation,
            units: self.units,
            saturated: by_unit
                .saturated
                .map(|values| values as f64 / data.count as f64),
            dead: by_unit.dead,
            duplicates: by_unit.duplicates,
            data,
            gradient: self.gradient.map(|gradient| gradient.read(read)),
        }
    }
}

/// Every tensor as `[before, units, after]`: what comes before the axis of units, and what comes after.
fn view<const D: usize>(name: &str, dims: [usize; D], units_axis: usize) -> [usize; 3] {
    if D == 1 {
        return [dims[0], 1, 1];
    }
    assert!(
        units_axis < D,
        "the point `{name}` has its units along axis {units_axis}, but the tensor there has {D} axes, 0 to {}; say \
         which one with `units_along`",
        D - 1
    );
    [
        dims[..units_axis].iter().product(),
        dims[units_axis],
        dims[units_axis + 1..].iter().product(),
    ]
}
