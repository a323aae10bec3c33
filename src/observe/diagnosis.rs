//! Finds problems of a network in the numbers of a report.

use super::finding::{
    ALIKE, Change, Finding, GRADIENT, LARGE, OUTPUT_GRADIENT, Place, SCALE, SHARE, SHOWN, SIGNAL,
    UPDATE_LEAST, UPDATE_MOST,
};
use super::report::{Layer, Parameter, Report, Summary};
use crate::init::{Activation, Fan};

impl Report {
    /// Finds problems of the network, in the order of [`Finding`]. A healthy network has no finding.
    ///
    /// Each check needs its data. Checks of gradients and weights need [`backward`](super::Observation::backward).
    /// Checks of updates also need [`step`](super::Observation::step). Checks of dead units, saturation, signals and
    /// gradients need points that declare their [activation](super::Point::after). Diagnose early: at the first step,
    /// and again after a few hundred steps.
    ///
    /// ```
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_kindling::init::{Activation, InitStrategy, initialize};
    /// use burn_kindling::observe::{Finding, Observer, Point};
    ///
    /// # let device = Device::flex();
    /// # let x = Tensor::<2>::random([32, 100], Distribution::Default, &device);
    /// let layer = LinearConfig::new(100, 100).init(&device);
    /// let (layer, _) = initialize(layer, InitStrategy::Zeros, 42);
    /// let point = Point::new("hidden").after(Activation::Tanh);
    /// let (_, seen) = Observer::new().run(|| point.watch(layer.forward(x).tanh()));
    ///
    /// let findings = seen.report().diagnose();
    /// assert!(matches!(&findings[..], [Finding::Symmetry(place)] if place.name == "hidden"));
    /// println!("{}", findings[0]);
    /// ```
    pub fn diagnose(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.not_finite().map(Finding::NotFinite));
        findings.extend(self.no_gradient().map(Finding::NoGradient));
        findings.extend(self.symmetry().map(Finding::Symmetry));
        findings.extend(self.worst_layer(dead).map(Finding::Dead));
        findings.extend(self.worst_layer(saturated).map(Finding::Saturated));
        findings.extend(self.scale());
        for layers in self.by_activation() {
            let forward = layers.iter().map(|it| (*it, &it.data));
            findings.extend(change(forward).and_then(|it| match it.factor() {
                factor if factor <= 1.0 / SIGNAL => Some(Finding::SignalVanishes(it)),
                factor if factor >= SIGNAL => Some(Finding::SignalExplodes(it)),
                _ => None,
            }));
            let alike = || {
                layers
                    .iter()
                    .map(|it| (*it, it.data.spread / it.data.rms()))
            };
            let alike = change_of(alike()).filter(|it| it.factor() <= 1.0 / ALIKE);
            findings.extend(alike.map(Finding::InputsAlike));
            findings.extend(gradient(&layers, GRADIENT));
        }
        findings.extend(
            self.output_layer()
                .and_then(|it| gradient(&it, OUTPUT_GRADIENT)),
        );
        findings.extend(self.updates_too_large().map(Finding::UpdatesTooLarge));
        findings.extend(self.updates_too_small().map(Finding::UpdatesTooSmall));
        findings
    }

    /// The points with values that are not finite, in the order of computation: forward, then backward.
    fn not_finite(&self) -> Option<Place> {
        let share = |values: &Summary| (values.nan + values.infinite) as f64 / values.count as f64;
        let points = self.layers.iter();
        let forward = points.clone().map(|it| (it.name.clone(), share(&it.data)));
        let backward = points.rev().filter_map(|it| {
            let name = format!("the gradient of {}", it.name);
            Some((name, share(it.gradient.as_ref()?)))
        });
        let points = forward.chain(backward);
        let mut found: Vec<_> = points.filter(|(_, share)| *share > 0.0).collect();
        if found.is_empty() {
            // An infinite input may end in a finite signal, where it saturates, and still ruin the weights.
            let parameters = self.parameters.iter().flat_map(|it| {
                let update = format!("the update of {}", it.name);
                [(it.name.clone(), Some(it.rms)), (update, it.update_rms)]
            });
            let ruined = parameters.filter(|(_, rms)| rms.is_some_and(|it| !it.is_finite()));
            found = ruined.map(|(name, _)| (name, f64::NAN)).collect();
        }
        let mut found = found.into_iter();
        let (name, measured) = found.next()?;
        let also = found.map(|(name, _)| name).collect();
        Some(Place {
            name,
            measured,
            also,
        })
    }

    /// The weights that got no gradient.
    fn no_gradient(&self) -> Option<Place> {
        let weights = || self.parameters.iter().filter(|it| it.shape.len() > 1);
        let none = || weights().filter(|it| it.gradient_std.is_none());
        let mut names = none().map(|it| it.name.clone());
        let size = |it: &Parameter| it.shape.iter().product::<usize>() as f64;
        Some(Place {
            name: names.next()?,
            measured: none().map(size).sum::<f64>() / weights().map(size).sum::<f64>(),
            also: names.collect(),
        })
    }

    fn symmetry(&self) -> Option<Place> {
        let weights = self.parameters.iter();
        let equal = weights.filter(|it| it.shape.len() > 1 && it.std == 0.0);
        // A last layer, or one that ends a residual branch, may start at 0: its gradient differs between units, which
        // the first step then tells apart.
        let equal = equal.filter(|it| it.rms != 0.0 || !it.gradient_std.is_some_and(|it| it > 0.0));
        let equal = equal.map(|it| (it.name.clone(), 1.0));
        // Units whose values are lost are no copies.
        let layers =
            (self.layers.iter()).filter(|it| it.units > 1 && it.data.nan + it.data.infinite == 0);
        let copies = layers.map(|it| {
            // All dead units are copies of the first of them, which is not counted as a copy.
            let alive = it.duplicates.saturating_sub(it.dead.saturating_sub(1));
            (it.name.clone(), alive as f64 / it.units as f64)
        });
        let found = equal.chain(copies).filter(|(_, share)| *share >= SHARE);
        worst(found, f64::total_cmp)
    }

    fn updates_too_large(&self) -> Option<Place> {
        let found = self.moved().filter_map(|it| {
            let size = it.rms.max(usual_size(it));
            Some((it.name.clone(), it.update_rms? / size))
        });
        worst(
            found.filter(|(_, ratio)| *ratio >= UPDATE_MOST),
            f64::total_cmp,
        )
    }

    fn updates_too_small(&self) -> Option<Place> {
        let is_small = |it: &&Parameter| {
            it.update_rms
                .is_some_and(|rms| rms <= UPDATE_LEAST * it.rms)
        };
        let small = self.moved().filter(is_small).count();
        let most = small as f64 >= SHARE * self.moved().count() as f64;
        // Small updates of single weights are those of a small gradient, as in a residual branch that starts at 0. Only
        // if the weights are large, they are what is wrong.
        let found = self.moved().filter(is_small);
        let found = found.filter(|it| most || it.rms >= LARGE * usual_size(it));
        let found = found.filter_map(|it| Some((it.name.clone(), it.update_rms? / it.rms)));
        worst(found, |a, b| b.total_cmp(a))
    }

    /// The weights that the step moved: not all 0, with a gradient.
    ///
    /// No learning rate moves weights whose gradient is exactly 0, such as those of a branch that ends with a gamma of
    /// 0.
    fn moved(&self) -> impl Iterator<Item = &Parameter> {
        let weights = self.parameters.iter().filter(|it| it.shape.len() > 1);
        let moved = weights.filter(|it| it.update_rms.is_some() && it.rms > 0.0);
        moved.filter(|it| it.gradient_std.is_some_and(|std| std != 0.0))
    }

    /// The layers in which this share reaches [`SHARE`].
    fn worst_layer(&self, share: fn(&Layer) -> Option<f64>) -> Option<Place> {
        let shares = self
            .layers
            .iter()
            .filter_map(|it| Some((it.name.clone(), share(it)?)));
        worst(shares.filter(|(_, share)| *share >= SHARE), f64::total_cmp)
    }

    /// Whether the signal is too small or too large from the start. Where it ends depends on where it starts.
    fn scale(&self) -> Option<Finding> {
        let first = self.layers.iter().find(|it| it.activation.is_some())?;
        let place = Place {
            name: first.name.clone(),
            measured: first.data.rms(),
            also: Vec::new(),
        };
        match place.measured {
            // Units that are all dead are told as such.
            0.0 => None,
            rms if rms <= 1.0 / SCALE => Some(Finding::SignalTooSmall(place)),
            rms if rms >= SCALE => Some(Finding::SignalTooLarge(place)),
            _ => None,
        }
    }

    /// The last point after an activation, and the output of the layer that follows.
    fn output_layer(&self) -> Option<[&Layer; 2]> {
        let last = self.layers.iter().rposition(|it| it.activation.is_some())?;
        Some([&self.layers[last], self.layers.get(last + 1)?])
    }

    /// The layers grouped by activation: different activations give different stds.
    fn by_activation(&self) -> Vec<Vec<&Layer>> {
        let of = |activation: Activation| {
            let layers = self.layers.iter();
            layers
                .filter(|it| it.activation == Some(activation))
                .collect()
        };
        Activation::ALL.map(of).into()
    }
}

fn dead(layer: &Layer) -> Option<f64> {
    let shown = layer.data.count >= SHOWN * layer.units;
    let told = layer.activation == Some(Activation::Relu) && shown;
    told.then(|| layer.dead as f64 / layer.units as f64)
}

fn saturated(layer: &Layer) -> Option<f64> {
    // In a healthy ReLU layer, half of the values are 0.
    let ends = [Some(Activation::Sigmoid), Some(Activation::Tanh)];
    layer.saturated.filter(|_| ends.contains(&layer.activation))
}

/// 1/√n for weights of n inputs: the size that keeps a signal. Two axes are taken for a linear layer, more for a
/// convolution.
fn usual_size(weights: &Parameter) -> f64 {
    let fan = match weights.shape[..] {
        [inputs, outputs] => Fan::linear([inputs, outputs]),
        ref shape => Fan::conv_of(shape, 1),
    };
    1.0 / (fan.fan_in as f64).sqrt()
}

/// The place with the largest measure by this order; among equals, the first.
fn worst(
    found: impl Iterator<Item = (String, f64)>,
    order: impl Fn(&f64, &f64) -> std::cmp::Ordering,
) -> Option<Place> {
    let mut found: Vec<_> = found.collect();
    let places = found.iter().enumerate().rev();
    let (at, _) = places.max_by(|(_, (_, a)), (_, (_, b))| order(a, b))?;
    let (name, measured) = found.remove(at);
    let also = found.into_iter().map(|(name, _)| name).collect();
    Some(Place {
        name,
        measured,
        also,
    })
}

/// How the norm of the gradient changes on the way back through these layers, if it does by this factor.
///
/// A norm that is exactly 0 is left out: a later layer is 0, or the norm has become too small for its float type.
fn gradient(layers: &[&Layer], threshold: f64) -> Option<Finding> {
    let norms = layers.iter().rev().filter_map(|it| {
        let gradient = it.gradient.as_ref()?;
        // The mean is close to 0.
        Some((*it, gradient.std * (gradient.count as f64).sqrt()))
    });
    let change = change_of(norms.filter(|(_, norm)| *norm > 0.0))?;
    match change.factor() {
        factor if factor <= 1.0 / threshold => Some(Finding::GradientVanishes(change)),
        factor if factor >= threshold => Some(Finding::GradientExplodes(change)),
        _ => None,
    }
}

/// The change of the std from the first to the last layer where it is finite. `None` if the first is 0.
fn change<'a>(passed: impl Iterator<Item = (&'a Layer, &'a Summary)>) -> Option<Change> {
    change_of(passed.map(|(layer, values)| (layer, values.std)))
}

/// The change from the first to the last layer with a finite measure. `None` if the first is 0.
fn change_of<'a>(passed: impl Iterator<Item = (&'a Layer, f64)>) -> Option<Change> {
    let passed: Vec<_> = passed.filter(|(_, measure)| measure.is_finite()).collect();
    let (&(from, before), rest) = passed.split_first().filter(|((_, it), _)| *it > 0.0)?;
    let &(to, after) = rest.last()?;
    Some(Change {
        from: from.name.clone(),
        to: to.name.clone(),
        measured: [before, after],
        points: rest.len(),
    })
}
