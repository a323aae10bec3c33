//! The tensor at a point, reduced where it lies.

use burn::tensor::{Gradients, Tensor, Transaction};

use super::host::HostValues;
use super::meanwhile::Meanwhile;
use super::point::Point;
use super::readout::Readout;
use super::report::Layer;
use super::summary::{Settings, SummaryOnDevice};
use super::tap::tap;
use super::units::UnitsOnDevice;
use crate::init::Activation;

/// A [`Layer`] whose numbers are still on the device.
#[derive(Debug)]
pub(super) struct LayerOnDevice {
    name: String,
    shape: Vec<usize>,
    units: usize,
    activation: Option<Activation>,
    measured: Meanwhile<(SummaryOnDevice, UnitsOnDevice)>,
    /// The leaf that receives the gradient of the tensor. Taken when the gradient is read.
    leaf: Option<Tensor<3>>,
    gradient: Option<Meanwhile<SummaryOnDevice>>,
}

impl LayerOnDevice {
    /// Reduces `tensor`, and returns it. If the tensor is tracked, the returned one has a tap for its gradient.
    ///
    /// # Panics
    ///
    /// Panics if the tensor lacks the axis of units that `point` names.
    pub(super) fn new<const D: usize>(
        point: Point<String>,
        tensor: Tensor<D>,
        settings: &Settings,
    ) -> (Tensor<D>, Self) {
        let name = point.name;
        let view = view(&name, tensor.dims(), point.units_axis);
        let values = tensor.clone().without_autodiff().reshape(view);
        let (activation, settings) = (point.activation, settings.clone());
        let measured = match HostValues::of(&values) {
            Some(values) => Meanwhile::start(move || match values.measure(activation, &settings) {
                Some((data, by_unit)) => Ok((
                    SummaryOnDevice::OnHost(data),
                    UnitsOnDevice::OnHost(by_unit),
                )),
                None => Err(Box::new(move || {
                    reduced(values.tensor(), activation, &settings)
                })),
            }),
            None => Meanwhile::done(reduced(&values, activation, &settings)),
        };
        let layer = Self {
            name,
            shape: tensor.dims().to_vec(),
            units: view[1],
            activation: point.activation,
            measured,
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

    /// Adds the gradient of the tensor, if the backward pass reached it.
    pub(super) fn backward(&mut self, gradients: &Gradients, settings: &Settings) {
        if let Some(gradient) = self.leaf.take().and_then(|leaf| leaf.grad(gradients)) {
            let settings = settings.clone();
            self.gradient = Some(match HostValues::of(&gradient) {
                Some(values) => Meanwhile::start(move || match values.summary(&settings) {
                    Some(summary) => Ok(SummaryOnDevice::OnHost(summary)),
                    None => Err(Box::new(move || {
                        SummaryOnDevice::of(values.tensor(), &settings)
                    })),
                }),
                None => Meanwhile::done(SummaryOnDevice::of(&gradient, &settings)),
            });
        }
    }

    pub(super) fn register(&self, transaction: Transaction) -> Transaction {
        let (data, by_unit) = self.measured.get();
        let transaction = by_unit.register(data.register(transaction));
        match &self.gradient {
            Some(gradient) => gradient.get().register(transaction),
            None => transaction,
        }
    }

    pub(super) fn read(self, readout: &mut Readout) -> Layer {
        let (data, by_unit) = self.measured.get().clone();
        let (data, by_unit) = (data.read(readout), by_unit.read(readout));
        let share = |values| values as f64 / data.count as f64;
        Layer {
            name: self.name,
            shape: self.shape,
            activation: self.activation,
            units: self.units,
            saturated: by_unit.saturated.map(share),
            dead: by_unit.dead,
            duplicates: by_unit.duplicates,
            data,
            gradient: self.gradient.map(|it| it.get().clone().read(readout)),
        }
    }
}

/// Everything about the output of an activation, in tensor operations.
fn reduced(
    values: &Tensor<3>,
    activation: Option<Activation>,
    settings: &Settings,
) -> (SummaryOnDevice, UnitsOnDevice) {
    let data = SummaryOnDevice::of(values, settings);
    (data, UnitsOnDevice::of(values, activation))
}

/// The shape of the tensor as `[before, units, after]`: the axes before the axis of units, and the axes after it.
pub(super) fn view<const D: usize>(name: &str, dims: [usize; D], units_axis: usize) -> [usize; 3] {
    if D == 1 {
        return [dims[0], 1, 1];
    }
    assert!(
        units_axis < D,
        "the point `{name}` has its units along axis {units_axis}, but the tensor there has {D} axes, 0 to {}; name \
         the right one with `units_along`",
        D - 1
    );
    [
        dims[..units_axis].iter().product(),
        dims[units_axis],
        dims[units_axis + 1..].iter().product(),
    ]
}
