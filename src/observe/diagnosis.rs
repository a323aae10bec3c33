//! Finds problems of a network in the numbers of a report.

use super::finding::{
    ALIKE, Change, Finding, GRADIENT, Place, SHARE, SHOWN, SIGNAL, UPDATE_LEAST, UPDATE_MOST,
};
use super::report::{Layer, Parameter, Report, Summary};
use crate::init::Activation;

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
        findings.extend(self.symmetry().map(Finding::Symmetry));
        findings.extend(self.worst_layer(dead).map(Finding::Dead));
        findings.extend(self.worst_layer(saturated).map(Finding::Saturated));
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
            let backward = layers.iter().rev();
            let backward = backward.filter_map(|it| Some((*it, it.gradient.as_ref()?)));
            findings.extend(change(backward).and_then(|it| match it.factor() {
                factor if factor <= 1.0 / GRADIENT => Some(Finding::GradientVanishes(it)),
                factor if factor >= GRADIENT => Some(Finding::GradientExplodes(it)),
                _ => None,
            }));
        }
        let updates = || self.parameters.iter().filter_map(update);
        let large = updates().filter(|(_, ratio)| *ratio >= UPDATE_MOST);
        findings.extend(worst(large, f64::total_cmp).map(Finding::UpdatesTooLarge));
        let small = updates().filter(|(_, ratio)| *ratio <= UPDATE_LEAST);
        findings.extend(worst(small, |a, b| b.total_cmp(a)).map(Finding::UpdatesTooSmall));
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
        let mut found = forward.chain(backward).filter(|(_, share)| *share > 0.0);
        let (name, measured) = found.next()?;
        let also = found.map(|(name, _)| name).collect();
        Some(Place {
            name,
            measured,
            also,
        })
    }

    fn symmetry(&self) -> Option<Place> {
        let weights = self.parameters.iter();
        let equal = weights.filter(|it| it.shape.len() > 1 && it.std == 0.0);
        let equal = equal.map(|it| (it.name.clone(), 1.0));
        let layers = self.layers.iter().filter(|it| it.units > 1);
        let copies = layers.map(|it| {
            // All dead units are copies of the first of them, which is not counted as a copy.
            let alive = it.duplicates.saturating_sub(it.dead.saturating_sub(1));
            (it.name.clone(), alive as f64 / it.units as f64)
        });
        let found = equal.chain(copies).filter(|(_, share)| *share >= SHARE);
        worst(found, f64::total_cmp)
    }

    /// The layers in which this share reaches [`SHARE`].
    fn worst_layer(&self, share: fn(&Layer) -> Option<f64>) -> Option<Place> {
        let shares = self
            .layers
            .iter()
            .filter_map(|it| Some((it.name.clone(), share(it)?)));
        worst(shares.filter(|(_, share)| *share >= SHARE), f64::total_cmp)
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

/// The root mean square of the update divided by that of the weights, for weights that are not all 0 and have a gradient.
fn update(parameter: &Parameter) -> Option<(String, f64)> {
    parameter.gradient_std?;
    let compared = parameter.shape.len() > 1 && parameter.rms > 0.0;
    let ratio = parameter.update_rms? / parameter.rms;
    compared.then(|| (parameter.name.clone(), ratio))
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
        std: [before, after],
        points: rest.len(),
    })
}
