//! Mean-field theory of the signal in wide layers at initialisation.

mod advice;
mod expectation;
mod fixed_point;
mod mean_field;
mod residual;
mod signal;

pub use advice::Advice;
pub use fixed_point::FixedPoint;
pub use mean_field::{MeanField, WeightEnsemble};
pub use residual::{BlockSignal, Residual};
pub use signal::{LayerSignal, PairSignal};
