//! Counts saturated values, dead units and duplicate units, on the device.

use burn::tensor::{Bool, FloatDType, Int, Tensor, Transaction};

use super::readout::Readout;
use super::reduce::{filled, in_full_precision, number_of, scaled};
use crate::init::Activation;

/// Two values of different units count as equal up to this distance, relative to the largest magnitude in the layer.
/// That is far above the rounding error of f32, because batch norm of two inputs gives 1 and -1 only up to its epsilon.
pub(super) const IDENTICAL: f32 = 1e-4;

/// [`UnitCounts`] that may still be on the device.
// There are few of them.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub(super) enum UnitsOnDevice {
    OnHost(UnitCounts),
    OnDevice {
        saturates: bool,
        /// Saturated values (zeros if the activation does not saturate), dead units, duplicate units. `None` if there
        /// are no values.
        counts: Option<Tensor<1, Int>>,
    },
}

/// Counts over the units of a layer.
#[derive(Clone, Debug)]
pub(super) struct UnitCounts {
    /// Number of saturated values. `None` if the activation does not saturate.
    pub saturated: Option<usize>,
    /// Number of units that are never active.
    pub dead: usize,
    /// Number of units that repeat another one. The first of each kind is not counted.
    pub duplicates: usize,
}

impl UnitsOnDevice {
    /// Examines `values`, `[before, units, after]`, the output of `activation`.
    pub(super) fn of(values: &Tensor<3>, activation: Option<Activation>) -> Self {
        let saturates = activation.is_some_and(saturates);
        let count: usize = values.dims().iter().product();
        Self::OnDevice {
            saturates,
            counts: (count > 0).then(|| {
                let values = in_full_precision(values.clone());
                let inactive = inactive(values.clone(), activation.filter(|_| saturates));
                let active = inactive.clone().bool_not().int().sum_dim(0).sum_dim(2);
                Tensor::cat(
                    vec![
                        number_of(inactive),
                        number_of(active.equal_elem(0)),
                        duplicates(values),
                    ],
                    0,
                )
            }),
        }
    }

    pub(super) fn register(&self, transaction: Transaction) -> Transaction {
        match self {
            Self::OnDevice {
                counts: Some(counts),
                ..
            } => transaction.register(counts.clone()),
            _ => transaction,
        }
    }

    pub(super) fn read(self, readout: &mut Readout) -> UnitCounts {
        let (saturates, counts) = match self {
            Self::OnHost(counts) => return counts,
            Self::OnDevice { saturates, counts } => (saturates, counts),
        };
        let counts = match counts {
            None => vec![0; 3],
            Some(_) => readout.counts(),
        };
        let &[saturated, dead, duplicates] = counts.as_slice() else {
            unreachable!("`of` stores three counts");
        };
        UnitCounts {
            saturated: saturates.then_some(saturated),
            dead,
            duplicates,
        }
    }
}

/// Whether the output of an activation shows that its slope is close to 0.
pub(super) fn saturates(activation: Activation) -> bool {
    match activation {
        Activation::Sigmoid | Activation::Tanh | Activation::Relu => true,
        // Leaky ReLU is flat nowhere. GELU and SiLU are flat in places, but an output close to 0 may also come from a
        // steep part. SELU is flat far below 0; this is not counted.
        Activation::LeakyRelu | Activation::Gelu | Activation::Selu | Activation::Silu => false,
    }
}

/// The mask of saturated values, if the activation saturates; else the mask of zeros.
fn inactive(values: Tensor<3>, activation: Option<Activation>) -> Tensor<3, Bool> {
    match activation {
        Some(Activation::Sigmoid) => {
            let low = values.clone().lower_elem(0.03);
            low.bool_or(values.greater_elem(0.97))
        }
        Some(Activation::Tanh) => values.abs().greater_elem(0.97),
        _ => values.equal_elem(0.0),
    }
}

/// Counts the units that repeat another one, without the first of each kind: `[1]`.
///
/// Comparing all pairs would take time quadratic in the number of units. Instead, units are sorted by a random
/// projection of their values. Duplicates become neighbours, and only neighbours are compared value by value.
fn duplicates(values: Tensor<3>) -> Tensor<1, Int> {
    let device = values.device();
    let [before, units, after] = values.dims();
    if units < 2 {
        return Tensor::zeros([1], &device);
    }
    let each = before * after;
    let values = values.swap_dims(0, 1).reshape([units * each]);
    let excluded = values.clone().is_finite().bool_not();
    let (values, _) = scaled(filled(&values, &excluded, 0.0));
    let values = values.reshape([units, each]);

    // Sines of whole numbers are as good as random here, and reproducible.
    let direction = Tensor::<1, Int>::arange(1..each as i64 + 1, &device)
        .cast(FloatDType::from(values.dtype()))
        .sin()
        .reshape([1, each]);
    let projections = (values.clone() * direction).sum_dim(1).reshape([units]);
    let values = values.select(0, projections.argsort(0));
    let gaps = values.clone().narrow(0, 1, units - 1) - values.narrow(0, 0, units - 1);
    let differing = gaps.abs().greater_elem(IDENTICAL).int();
    number_of(differing.sum_dim(1).equal_elem(0))
}
