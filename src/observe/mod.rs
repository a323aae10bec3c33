//! Statistics of every layer of a network: activations, gradients and updates.
//!
//! The model names the points to watch in its own forward pass; [`watch`] returns the tensor unchanged. An [`Observer`]
//! around the forward pass turns each point into a row of a [`Report`]. Without an observer, a point only reads a
//! thread-local variable: it computes, copies and keeps nothing.
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
//!     // Watch every second step only. The others cost nothing.
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
//! In a model with batch norm, [`Observer::of`] watches the output of every norm by itself: the model needs no points.
//!
//! A block that occurs several times names its points once: [`inside`] puts the name of the block before them. A
//! [`Sink`] chooses the steps to watch and takes their reports, for example for a page in a browser.
//!
//! # What to look for
//!
//! | in the report | healthy | otherwise |
//! | --- | --- | --- |
//! | [`std`](Summary::std) of the layers | about the same at every depth | growing: the signal explodes; shrinking: it vanishes |
//! | [`spread`](Summary::spread) beside `std` | of the same order | falling with depth while `std` stays: every input looks the same to the last layers |
//! | [`saturated`](Layer::saturated) | a few percent | half or more: the weights are too large for sigmoid or tanh, and little gradient passes |
//! | [`dead`](Layer::dead) | none, or a few | no gradient passes through these units, so they stop learning |
//! | [`duplicates`](Layer::duplicates) | none but dead units | symmetry was never broken: the layer is only as wide as its number of distinct units |
//! | `std` of the [`gradient`](Layer::gradient) | about the same at every depth | vanishing or exploding gradients |
//! | [`update_to_data`](Parameter::update_to_data) of weights | about -3; up to -0.5 in the first step | above -0.3: the learning rate is too large; below -5: too small |
//!
//! These are the diagnostics of Karpathy's lecture *Building makemore, part 3: activations, gradients and batch norm*.
//!
//! His rule of thumb for the last row, -3, is for SGD. In its first steps, Adam moves every weight by about the
//! learning rate, whatever the gradient. So a rate of 1e-3 gives -1.7 for weights with a std of 0.05, which He
//! initialisation draws for 784 inputs. That is healthy. In the example `observe` with He initialisation, weights are
//! at -2.2 to -2.7 in the first step and at -2.9 to -3.3 after 50 steps. Biases start at 0 and stay small. They are at
//! -1.3 to -1.8 after 50 steps, which is healthy too.
//!
//! [`Report::diagnose`] checks all of this. It names what is far from healthy, and suggests what to try.

mod diagnosis;
mod finding;
mod floats;
mod host;
mod inside;
mod layer;
mod meanwhile;
mod name;
mod observation;
mod observer;
mod parameters;
mod percentiles;
mod point;
mod readout;
mod reduce;
mod report;
pub(crate) mod rescale;
mod sink;
mod summary;
mod table;
mod tap;
mod units;
pub(crate) mod watch;

pub use finding::{Change, Finding, Place};
pub use inside::inside;
pub use observation::Observation;
pub use observer::Observer;
pub use point::Point;
pub use report::{Histogram, Layer, Parameter, Percentile, Report, Summary};
pub use sink::Sink;
pub use tap::Tap;
pub use watch::watch;
