//! Initialisation by measurement, for models that no formula fits.
//!
//! A formula for the scale of the weights assumes one activation, whose outputs are the inputs of the layer. Pooling,
//! concatenation, residual branches and mixed activations do not fit. [`calibrate`] measures instead: it scales the
//! weights of every layer until the layer's output has a standard deviation of 1 over a batch of your own data
//! (layer-sequential unit variance, LSUV; Mishkin & Matas 2016,
//! [arXiv:1511.06422](https://arxiv.org/abs/1511.06422)). As in the paper, start from orthogonal weights:
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Distribution, Tensor, activation::{gelu, tanh}};
//! use burn_kindling::calibration::calibrate;
//! use burn_kindling::init::{Scheme, initialize};
//! use burn_kindling::observe::watch;
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     layers: Vec<Linear>,
//! }
//!
//! impl Net {
//!     fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
//!         for (i, layer) in self.layers.iter().enumerate() {
//!             // A point on the output of each layer, under the layer's path.
//!             x = watch(format_args!("layers.{i}"), layer.forward(x));
//!             x = if i % 2 == 0 { gelu(x) } else { tanh(x) };
//!         }
//!         x
//!     }
//! }
//!
//! # let device = Device::flex();
//! let net = Net { layers: (0..20).map(|_| LinearConfig::new(64, 64).init(&device)).collect() };
//! let (net, _) = initialize(net, Scheme::orthogonal(), 42);
//! let batch = Tensor::random([256, 64], Distribution::Normal(0.0, 1.0), &device);
//!
//! let (net, report) = calibrate(&net, |net| net.forward(batch.clone()))?;
//! println!("{report}");
//! assert!(report.layers.iter().all(|layer| (layer.after - 1.0).abs() < 0.05));
//! # Ok::<(), burn_kindling::calibration::CalibrateError>(())
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::Module;

use crate::init::Activation;
use crate::init::weights::{self, ByUnit};
use crate::norm::Mode;
use crate::observe::rescale::{self, Rescale, Values};

/// Scales the weights of every layer until its output on a batch has a standard deviation of 1. Returns the scaled
/// model and a report. See the [module](self) for an example.
///
/// This is [`Calibrator::new()`](Calibrator::new)`.calibrate(model, forward)`.
///
/// # Errors
///
/// Returns a [`CalibrateError`] if a layer cannot be scaled; [`Calibrator::calibrate`] lists the reasons.
pub fn calibrate<M, T>(
    model: &M,
    forward: impl Fn(&M) -> T + Sync,
) -> Result<(M, Calibration), CalibrateError>
where
    M: Module + Sync,
{
    Calibrator::new().calibrate(model, forward)
}

/// Settings of a calibration. [`calibrate`](Self::calibrate) runs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrator {
    tolerance: f64,
    max_passes: usize,
    per_unit: bool,
}

impl Default for Calibrator {
    fn default() -> Self {
        Self::new()
    }
}

impl Calibrator {
    /// The default settings: whole layers are scaled, to a standard deviation within 0.05 of 1, in at most 10 passes.
    pub fn new() -> Self {
        Self {
            tolerance: 0.05,
            max_passes: 10,
            per_unit: false,
        }
    }

    /// Sets how far a standard deviation may be from 1. Default: 0.05.
    ///
    /// # Panics
    ///
    /// Panics unless `tolerance` is above 0.
    pub fn with_tolerance(mut self, tolerance: f64) -> Self {
        assert!(
            tolerance > 0.0,
            "a tolerance must be above 0, found {tolerance}"
        );
        self.tolerance = tolerance;
        self
    }

    /// Sets how often `forward` may be called. Default: 10. It takes at least 3: to measure, to scale, and to check.
    ///
    /// # Panics
    ///
    /// Panics if `passes` is below 3.
    pub fn with_max_passes(mut self, passes: usize) -> Self {
        assert!(
            passes >= 3,
            "a calibration takes at least 3 passes, found {passes}"
        );
        self.max_passes = passes;
        self
    }

    /// Scales every unit of a layer separately, and sets its bias so that its mean is 0 (the within-layer
    /// initialisation of Krähenbühl et al. 2016, [arXiv:1511.06856](https://arxiv.org/abs/1511.06856), section 3.1).
    ///
    /// In a layer without a bias, the means stay. Points must be on the output of a layer, before its activation.
    pub fn per_unit(mut self) -> Self {
        self.per_unit = true;
        self
    }

    /// Scales the weights of every layer until its output has a standard deviation of 1. Returns the scaled model, and
    /// a report of what was done; `model` itself does not change.
    ///
    /// `forward` calls the model on a batch of some hundred examples. It gets the [validation](Module::valid) model. So
    /// dropout is off, and the batch belongs on the device without autodiff. This crate's batch norms normalise by the
    /// batch's statistics; their running statistics stay as they are.
    ///
    /// # Which layers
    ///
    /// A layer is calibrated if `forward` passes a [`Point`](crate::observe::Point) with its name: the path of the
    /// layer, such as `blocks.3.conv`, or of a block in which it is the only layer with weights, such as `blocks.3`.
    /// Put the point on the output of the layer, or on that of the activation after it, and then
    /// [say so](crate::observe::Point::after). Points with other names do not matter.
    ///
    /// Frozen layers stay as they are. So does the layer of a block with a normalisation: after a normalisation, the
    /// scale of the weights does not change the output.
    ///
    /// The standard deviation is over all units and inputs. The weights and the bias of a layer are multiplied by the
    /// same factor.
    ///
    /// # Passes
    ///
    /// While a pass measures a layer, it also passes the output on as the scaled layer would make it. So the layers
    /// after it see the inputs that they will have in the end. Three passes serve a network of any depth: the first
    /// measures, the second scales, the third checks. Points after GELU or another curved activation take a few more.
    ///
    /// If `forward` calls a layer several times, the first call decides, and the check covers all of them.
    ///
    /// # Errors
    ///
    /// Returns a [`CalibrateError`]:
    ///
    /// - if no point names a layer;
    /// - if an output has no spread, or is not finite;
    /// - if a point is after a sigmoid or tanh, whose output cannot have a standard deviation of 1;
    /// - if units are scaled separately, and a point is after an activation or has other units than its layer;
    /// - if the tolerance is not reached.
    pub fn calibrate<M, T>(
        &self,
        model: &M,
        forward: impl Fn(&M) -> T + Sync,
    ) -> Result<(M, Calibration), CalibrateError>
    where
        M: Module + Sync,
    {
        let mut model = model.clone();
        let mut targets = self.targets(&model, &self.pass(&model, &forward, &[]))?;
        let mut passes = 1;
        loop {
            let seen = self.pass(&model, &forward, &targets);
            passes += 1;
            let mut is_settled = true;
            for target in targets.iter_mut().filter(|target| target.is_scaled()) {
                let first = seen.iter().find(|seen| seen.point == target.layer.point);
                is_settled &= match first {
                    Some(seen) => self.scale(target, seen)?,
                    // This time the model did not call the layer.
                    None => {
                        target.by_unit = vec![[1.0, 0.0]];
                        true
                    }
                };
            }
            model = apply(model, &targets);
            if is_settled || passes + 1 >= self.max_passes {
                let seen = self.pass(&model, &forward, &[]);
                passes += 1;
                match self.check(&mut targets, &seen, passes) {
                    Ok(()) => break,
                    Err(error) if passes + 2 > self.max_passes => return Err(error),
                    Err(_) => (),
                }
            }
        }
        let layers = targets.into_iter().map(|target| target.layer).collect();
        Ok((model, Calibration { layers, passes }))
    }

    /// Calls `forward` and measures what passes each point. At the points of the targets, passes on what the scaled
    /// layer would output.
    fn pass<M, T>(
        &self,
        model: &M,
        forward: &(impl Fn(&M) -> T + Sync),
        targets: &[Target],
    ) -> Vec<Seen>
    where
        M: Module + Sync,
    {
        let seen = Arc::new(Mutex::default());
        let scaled = targets.iter().filter(|target| target.is_scaled());
        let measuring = Measuring {
            seen: seen.clone(),
            shifted: scaled
                .map(|target| (target.layer.point.clone(), target.bias.is_some()))
                .collect(),
            per_unit: self.per_unit,
        };
        let model = model.valid();
        rescale::run(measuring, || {
            Mode::TestTimeAdaptation.run(|| {
                forward(&model);
            });
        });
        lock(&seen).drain(..).collect()
    }

    /// Finds the layers that the points name.
    fn targets<M: Module>(&self, model: &M, seen: &[Seen]) -> Result<Vec<Target>, CalibrateError> {
        let parameters = weights::parameters(model);
        let mut targets: Vec<Target> = Vec::new();
        for seen in seen {
            let inside = format!("{}.", seen.point);
            let found = || (parameters.iter()).filter(|found| found.path.starts_with(&inside));
            let mut weights = found().filter(|found| found.is_weight);
            let (Some(weight), None) = (weights.next(), weights.next()) else {
                continue;
            };
            if targets
                .iter()
                .any(|target| target.layer.weight == weight.path)
            {
                continue;
            }
            let state = if found().any(|found| found.is_norm) {
                LayerState::Normalized
            } else if !weight.is_trained {
                LayerState::Frozen
            } else {
                LayerState::Scaled
            };
            let target = Target {
                layer: CalibratedLayer {
                    point: seen.point.clone(),
                    weight: weight.path.clone(),
                    state,
                    before: seen.std,
                    after: seen.std,
                },
                bias: found()
                    .find(|found| found.is_bias)
                    .map(|found| found.path.clone()),
                by_unit: vec![[1.0, 0.0]],
                last: None,
            };
            if target.is_scaled() {
                self.check_activation(seen)?;
                if self.per_unit && seen.units.len() != weight.units {
                    return Err(CalibrateError::OtherUnits {
                        point: seen.point.clone(),
                        found: seen.units.len(),
                        units: weight.units,
                    });
                }
            }
            targets.push(target);
        }
        match targets.is_empty() {
            true => Err(CalibrateError::NoLayer {
                points: seen.iter().map(|seen| seen.point.clone()).collect(),
            }),
            false => Ok(targets),
        }
    }

    fn check_activation(&self, seen: &Seen) -> Result<(), CalibrateError> {
        match seen.activation {
            None => Ok(()),
            Some(activation @ (Activation::Sigmoid | Activation::Tanh)) => {
                Err(CalibrateError::Bounded {
                    point: seen.point.clone(),
                    activation,
                })
            }
            Some(_) if self.per_unit => Err(CalibrateError::AfterActivation {
                point: seen.point.clone(),
            }),
            Some(_) => Ok(()),
        }
    }

    /// Chooses the factors of a layer. Returns whether they are final, provided that those of the layers before it are.
    fn scale(&self, target: &mut Target, seen: &Seen) -> Result<bool, CalibrateError> {
        let point = || seen.point.clone();
        if !seen.std.is_finite() {
            return Err(CalibrateError::NotFinite { point: point() });
        }
        if self.per_unit {
            if let Some(unit) = seen.units.iter().position(|unit| unit.std == 0.0) {
                return Err(CalibrateError::NoSpread {
                    point: point(),
                    unit: Some(unit),
                });
            }
            target.by_unit = seen
                .units
                .iter()
                .map(|unit| unit.factors(target.bias.is_some()))
                .collect();
            return Ok(true);
        }
        if seen.std == 0.0 {
            return Err(CalibrateError::NoSpread {
                point: point(),
                unit: None,
            });
        }
        let is_homogeneous = matches!(
            seen.activation,
            None | Some(Activation::Relu | Activation::LeakyRelu)
        );
        // By how much the logarithm of the output's std changes with that of the weights' std.
        let slope = match target.last {
            Some((std, factor)) if !is_homogeneous && factor != 0.0 => {
                ((seen.std.ln() - std) / factor).clamp(0.3, 3.0)
            }
            _ => 1.0,
        };
        let factor = -seen.std.ln() / slope;
        target.last = Some((seen.std.ln(), factor));
        target.by_unit = vec![[factor.exp(), 0.0]];
        Ok(is_homogeneous || (seen.std - 1.0).abs() <= self.tolerance / 2.0)
    }

    /// Records the standard deviations of the scaled layers, and checks them.
    fn check(
        &self,
        targets: &mut [Target],
        seen: &[Seen],
        passes: usize,
    ) -> Result<(), CalibrateError> {
        let mut result = Ok(());
        for target in targets {
            for seen in seen
                .iter()
                .filter(|seen| seen.point == target.layer.point)
                .rev()
            {
                target.layer.after = seen.std;
                let std = match self.per_unit {
                    true => seen.farthest_unit(),
                    false => seen.std,
                };
                // A std that is not a number is not close enough either.
                let is_close = (std - 1.0).abs() <= self.tolerance;
                if target.is_scaled() && !is_close {
                    result = Err(CalibrateError::NotReached {
                        point: seen.point.clone(),
                        std,
                        passes,
                    });
                }
            }
        }
        result
    }
}

/// A layer to scale.
struct Target {
    layer: CalibratedLayer,
    bias: Option<String>,
    /// The factors of the last pass.
    by_unit: ByUnit,
    /// The logarithms of the std that the last pass saw and of the factor that it chose.
    last: Option<(f64, f64)>,
}

impl Target {
    fn is_scaled(&self) -> bool {
        self.layer.state == LayerState::Scaled
    }
}

/// Multiplies the parameters of the targets by their last factors.
fn apply<M: Module>(model: M, targets: &[Target]) -> M {
    let mut by_path = HashMap::new();
    for target in targets.iter().filter(|target| target.is_scaled()) {
        by_path.insert(target.layer.weight.as_str(), &target.by_unit);
        if let Some(bias) = &target.bias {
            by_path.insert(bias.as_str(), &target.by_unit);
        }
    }
    weights::scale(model, |path| by_path.get(path).copied().cloned())
}

/// Mean and standard deviation of one unit, over the batch.
#[derive(Clone, Copy)]
struct Unit {
    mean: f64,
    std: f64,
}

impl Unit {
    /// Factor and shift that give the unit a std of 1, and a mean of 0 if it may be shifted.
    fn factors(&self, is_shifted: bool) -> [f64; 2] {
        let factor = 1.0 / self.std;
        [factor, if is_shifted { -self.mean * factor } else { 0.0 }]
    }
}

/// What passed a point.
struct Seen {
    point: String,
    activation: Option<Activation>,
    /// Over all units and inputs.
    std: f64,
    units: Vec<Unit>,
}

impl Seen {
    fn new(point: &str, activation: Option<Activation>, values: &Values) -> Self {
        let [before, units, after] = values.view;
        let numbers: Vec<f64> = values.data.iter::<f64>().collect();
        let rows = || (0..before).flat_map(|row| (0..units).map(move |unit| (row, unit)));
        let run = |row, unit| {
            let start = (row * units + unit) * after;
            &numbers[start..start + after]
        };
        let count = (before * after) as f64;
        let mut means = vec![0.0; units];
        for (row, unit) in rows() {
            means[unit] += run(row, unit).iter().sum::<f64>() / count;
        }
        let mut variances = vec![0.0; units];
        for (row, unit) in rows() {
            let mean = means[unit];
            variances[unit] += run(row, unit)
                .iter()
                .map(|x| (x - mean).powi(2))
                .sum::<f64>()
                / count;
        }
        // All units have the same number of values: the variance within them, and that of their means.
        let units = units as f64;
        let mean = means.iter().sum::<f64>() / units;
        let between = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / units;
        let within = variances.iter().sum::<f64>() / units;
        let stds = means.into_iter().zip(variances);
        Self {
            point: point.to_owned(),
            activation,
            std: (between + within).sqrt(),
            units: stds
                .map(|(mean, variance)| Unit {
                    mean,
                    std: variance.sqrt(),
                })
                .collect(),
        }
    }

    /// The unit std that is farthest from 1.
    fn farthest_unit(&self) -> f64 {
        let stds = self.units.iter().map(|unit| unit.std);
        stds.max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()))
            .unwrap_or(f64::NAN)
    }
}

/// Measures what passes the points.
struct Measuring {
    seen: Arc<Mutex<Vec<Seen>>>,
    /// The points whose tensors are rescaled, and whether these are shifted too.
    shifted: HashMap<String, bool>,
    per_unit: bool,
}

impl Rescale for Measuring {
    fn rescale(
        &self,
        point: &str,
        activation: Option<Activation>,
        values: Values,
    ) -> Option<ByUnit> {
        let seen = Seen::new(point, activation, &values);
        let mut all = lock(&self.seen);
        all.push(seen);
        let is_shifted = *self.shifted.get(point)?;
        // The first call decides: there is only one weight for all of them.
        let first = all.iter().find(|seen| seen.point == point)?;
        Some(match self.per_unit {
            true => first
                .units
                .iter()
                .map(|unit| unit.factors(is_shifted))
                .collect(),
            false => vec![[1.0 / first.std, 0.0]; first.units.len()],
        })
    }
}

fn lock(seen: &Mutex<Vec<Seen>>) -> std::sync::MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a calibration did: the report of [`calibrate`].
///
/// Displayed as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The layers that the points name, in the order of the forward pass.
    pub layers: Vec<CalibratedLayer>,
    /// How often `forward` was called.
    pub passes: usize,
}

/// A layer of a [`Calibration`].
#[derive(Clone, Debug, PartialEq)]
pub struct CalibratedLayer {
    /// The name of the point.
    pub point: String,
    /// The path of the layer's weight in the model.
    pub weight: String,
    /// What happened to the layer.
    pub state: LayerState,
    /// The standard deviation at the point before the calibration, over all units and inputs.
    pub before: f64,
    /// The standard deviation at the point after the calibration.
    pub after: f64,
}

/// What a calibration did to a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerState {
    /// Its weights and bias were scaled.
    Scaled,
    /// It stays as it is: its block has a normalisation, so the scale of the weights does not matter.
    Normalized,
    /// It stays as it is: its weights are frozen.
    Frozen,
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = (self.layers.iter()).map(|layer| layer.point.chars().count());
        let width = width.max().unwrap_or(0).max("layer".len());
        write!(
            f,
            "{:width$}  {:>10}  {:>10}",
            "layer", "std before", "std after"
        )?;
        for layer in &self.layers {
            let note = match layer.state {
                LayerState::Scaled => "",
                LayerState::Normalized => "  kept: normalised",
                LayerState::Frozen => "  kept: frozen",
            };
            let [before, after] = [layer.before, layer.after].map(|std| match std {
                std if std == 0.0 || (1e-3..1e4).contains(&std) => format!("{std:.3}"),
                std => format!("{std:.2e}"),
            });
            write!(
                f,
                "\n{:width$}  {before:>10}  {after:>10}{note}",
                layer.point
            )?;
        }
        write!(f, "\n{} passes", self.passes)
    }
}

/// Why a model could not be calibrated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// No point names a layer.
    #[error(
        "no point of the forward pass names a layer with weights; watch the output of each layer under the layer's path, \
         such as `blocks.3.conv`{}",
        match &points[..] {
            [] => "; the forward pass has no points at all".to_owned(),
            points => format!("; the points are {}", points.join(", ")),
        }
    )]
    NoLayer {
        /// The names of the points.
        points: Vec<String>,
    },
    /// The output of a layer does not vary.
    #[error(
        "the output at `{point}`{} is the same for the whole batch, so no factor scales it: its weights are 0, or its \
         inputs are dead",
        unit.map(|unit| format!(", unit {unit},")).unwrap_or_default()
    )]
    NoSpread {
        /// The name of the point.
        point: String,
        /// The index of the unit, if units are scaled separately.
        unit: Option<usize>,
    },
    /// The output of a layer holds NaN or infinity.
    #[error(
        "the output at `{point}` is not finite; check the batch, and start from smaller weights"
    )]
    NotFinite {
        /// The name of the point.
        point: String,
    },
    /// The point is after an activation whose output cannot have a standard deviation of 1.
    #[error(
        "the point `{point}` is after {activation}, whose output cannot have a standard deviation of 1; watch the output \
         of the layer before it"
    )]
    Bounded {
        /// The name of the point.
        point: String,
        /// The activation.
        activation: Activation,
    },
    /// Units are scaled separately, and the point is after an activation.
    #[error(
        "the point `{point}` is after an activation; to scale each unit by itself, watch the output of the layer before \
         it"
    )]
    AfterActivation {
        /// The name of the point.
        point: String,
    },
    /// Units are scaled one by one, and the tensor at the point does not have those of the layer.
    #[error(
        "the tensor at `{point}` has {found} units, and its layer has {units}; watch the output of the layer itself, and \
         name its axis of units with `units_along`"
    )]
    OtherUnits {
        /// The name of the point.
        point: String,
        /// The units of the tensor.
        found: usize,
        /// The output units of the layer.
        units: usize,
    },
    /// The tolerance was not reached.
    #[error(
        "the standard deviation at `{point}` is {std:.3} after {passes} passes; allow more passes or a larger tolerance"
    )]
    NotReached {
        /// The name of the point.
        point: String,
        /// The standard deviation that was reached. If units are scaled separately, that of the unit farthest from 1.
        std: f64,
        /// How often the forward pass ran.
        passes: usize,
    },
}
