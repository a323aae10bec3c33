//! What flows through a network: statistics of every layer, forward and backward.
//!
//! The model names the points worth watching, in its own forward pass; [`watch`] hands the tensor back as it is. An
//! [`Observer`] around that pass turns each point into a row of a [`Report`]. Without an observer a point is a look at
//! one thread-local variable: nothing is computed, copied or kept.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::{GradientsParams, SgdConfig};
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_kindling::init::Activation;
//! use burn_kindling::observe::{self, Observer, Point};
//!
//! #[derive(Module, Debug)]
//! struct Model {
//!     hidden: Vec<Linear>,
//!     output: Linear,
//! }
//!
//! impl Model {
//!     fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
//!         for (i, layer) in self.hidden.iter().enumerate() {
//!             x = layer.forward(x).tanh();
//!             x = Point::new(format_args!("hidden.{i}")).after(Activation::Tanh).watch(x);
//!         }
//!         observe::watch("output", self.output.forward(x))
//!     }
//! }
//!
//! let device = Device::flex().autodiff();
//! let mut model = Model {
//!     hidden: vec![LinearConfig::new(8, 16).init(&device), LinearConfig::new(16, 16).init(&device)],
//!     output: LinearConfig::new(16, 1).init(&device),
//! };
//! let mut optimizer = SgdConfig::new().init();
//! let observer = Observer::new();
//!
//! for step in 0..3 {
//!     let input = Tensor::random([32, 8], Distribution::Default, &device);
//!     // Watch every second step only; the others pay nothing.
//!     let (loss, mut seen) = observer.run_if(step % 2 == 0, || model.forward(input).square().mean());
//!     let gradients = loss.backward();
//!     seen.backward(&model, &gradients);
//!     let gradients = GradientsParams::from_grads(gradients, &model);
//!     model = optimizer.step(0.1, model, gradients);
//!     seen.step(&model);
//!     if step % 2 == 0 {
//!         println!("{}", seen.report());
//!     }
//! }
//! ```
//!
//! # What to look for
//!
//! | in the report | healthy | what else it may be |
//! | --- | --- | --- |
//! | [`std`](Summary::std) of the layers | about the same at every depth | growing: the signal explodes; shrinking: it vanishes |
//! | [`saturated`](Layer::saturated) | a few percent | half or more: the weights are too large for sigmoid or tanh, no gradient comes through |
//! | [`dead`](Layer::dead) | none, or a few | units that never learn again |
//! | [`duplicates`](Layer::duplicates) | none, dead units aside | the layer is as wide as its distinct units: symmetry was never broken |
//! | `std` of the [`gradient`](Layer::gradient) | about the same at every depth | vanishing or exploding gradients |
//! | [`update_to_data`](Parameter::update_to_data) | about -3 | above -2: the learning rate is too large; below -4: too small |
//!
//! The set is that of Karpathy's lecture *Building makemore, part 3: activations, gradients and batch norm*; the
//! last row is his rule of thumb.
//!
//! [`Report::diagnose`] looks for it: it names what is far from healthy in plain words, with what to try.

mod diagnosis;
mod observer;
mod parameters;
mod point;
mod reduce;
mod report;
mod table;
mod tap;

pub use diagnosis::{Change, Finding, Place};
pub use observer::{Observation, Observer};
pub use point::{Point, watch};
pub use report::{Histogram, Layer, Parameter, Percentile, Report, Summary};
