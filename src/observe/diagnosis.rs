//! What a report says about a network, in plain words.

use std::fmt::{Display, Formatter, Result};

use super::report::{Layer, Parameter, Report, Summary};
use super::table::{number, percent};
use crate::init::Activation;

/// Something wrong with a network, found in a [`Report`] by [`diagnose`](Report::diagnose).
///
/// It prints as three lines: what was measured, where, and against which threshold; what that means; what to try.
///
/// Each has a threshold, set far enough from healthy networks that these have no finding:
///
/// | finding | where | threshold | source |
/// | --- | --- | --- | --- |
/// | [`NotFinite`](Self::NotFinite) | points, gradients | any value | |
/// | [`Symmetry`](Self::Symmetry) | points; weights | half of the units, those dead aside; all weights equal | Goodfellow et al., *Deep Learning*, 8.4: units must start apart |
/// | [`Dead`](Self::Dead) | points after ReLU with 16 values a unit or more | half of the units | CS231n, *Neural networks 1*: 40 % dead is what a too high learning rate does; with He, some of each deep layer is |
/// | [`Saturated`](Self::Saturated) | points after sigmoid or tanh | half of the values | Karpathy, makemore part 3: a few percent are healthy; Glorot & Bengio 2010 |
/// | [`SignalVanishes`](Self::SignalVanishes), [`SignalExplodes`](Self::SignalExplodes) | std, from the first point after an activation to the last after the same | 10 times | He et al. 2015, arXiv:1502.01852, section 2.2: it is to stay; a layer of 100 units moves it by a tenth |
/// | [`GradientVanishes`](Self::GradientVanishes), [`GradientExplodes`](Self::GradientExplodes) | std of the gradient, from the last such point back to the first | 100 times | the same; batch norm alone makes it grow by 1.2 a layer (Yang et al. 2019, arXiv:1902.08129) |
/// | [`UpdatesTooLarge`](Self::UpdatesTooLarge), [`UpdatesTooSmall`](Self::UpdatesTooSmall) | weights | 100 times from a thousandth | Karpathy, makemore part 3; CS231n, *Neural networks 3* |
///
/// "Weights" are parameters of two axes or more: a bias and the gamma of a norm may well start at one value.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Values are NaN or infinite. The first point where they are, and their share there.
    NotFinite(Place),
    /// Units do the same as others, or a layer's weights are all one value. The share that are copies.
    Symmetry(Place),
    /// Units give 0 for every input of the batch. Their share.
    Dead(Place),
    /// Values lie at the ends of their activation. Their share.
    Saturated(Place),
    /// The values' std falls with depth.
    SignalVanishes(Change),
    /// The values' std grows with depth.
    SignalExplodes(Change),
    /// The gradient's std falls on the way back.
    GradientVanishes(Change),
    /// The gradient's std grows on the way back.
    GradientExplodes(Change),
    /// A step moves weights far more than a thousandth. The std of the update over that of the weights.
    UpdatesTooLarge(Place),
    /// A step moves weights far less than a thousandth. The std of the update over that of the weights.
    UpdatesTooSmall(Place),
}

/// The points, or parameters, that share a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Where it is at its worst.
    pub name: String,
    /// How bad it is there; see [`Finding`] for what is measured.
    pub measured: f64,
    /// Where else it is beyond the threshold, in the order of the report.
    pub also: Vec<String>,
}

/// How far a std changes between two points, in the direction of the pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The name of the point that the pass comes from: the first one forward, the last one backward.
    pub from: String,
    /// The name of the point that it comes to.
    pub to: String,
    /// The std at each.
    pub std: [f64; 2],
    /// How many points on, those after another activation not counted.
    pub points: usize,
}

/// Share of units that are copies, or dead, or of values that are saturated, from which it is a finding.
const SHARE: f64 = 0.5;
/// Values a unit must have shown before it is called dead: by chance one would show 0 in all of them once in 2^16.
const SHOWN: usize = 16;
/// Factor between the first and the last layer from which a signal vanishes or explodes.
const SIGNAL: f64 = 10.0;
/// The same for gradients.
const GRADIENT: f64 = 100.0;
/// Update over weight below and above which it is a finding: a hundredth and a hundred times of a healthy thousandth.
const UPDATE_LEAST: f64 = 1e-5;
const UPDATE_MOST: f64 = 0.1;

impl Report {
    /// What is wrong with the network, in the order of [`Finding`]; nothing if it is healthy.
    ///
    /// It goes by what was seen: gradients and weights need [`backward`](super::Observation::backward), updates
    /// [`step`](super::Observation::step), and saturation, signals and gradients the points to say which
    /// [activation](super::Point::after) they come after. Best look early: at the first step, and after some hundred.
    ///
    /// ```
    /// # use burn::nn::LinearConfig;
    /// # use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_kindling::init::{Activation, InitStrategy};
    /// use burn_kindling::observe::{Finding, Observer, Point};
    ///
    /// # let device = Device::flex();
    /// # let x = Tensor::<2>::random([32, 100], Distribution::Default, &device);
    /// let layer = LinearConfig::new(100, 100).init(&device);
    /// let layer = InitStrategy::Zeros.apply(layer);
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
        findings.extend(self.worst_layer(at_the_ends).map(Finding::Saturated));
        for layers in self.by_activation() {
            let forward = layers.iter().map(|it| (*it, &it.data));
            findings.extend(change(forward).and_then(|it| match it.factor() {
                factor if factor <= 1.0 / SIGNAL => Some(Finding::SignalVanishes(it)),
                factor if factor >= SIGNAL => Some(Finding::SignalExplodes(it)),
                _ => None,
            }));
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

    /// In the order in which they come to be: forward, then backward.
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
            // Of the units that are dead, one is no copy.
            let alive = it.duplicates.saturating_sub(it.dead.saturating_sub(1));
            (it.name.clone(), alive as f64 / it.units as f64)
        });
        let found = equal.chain(copies).filter(|(_, share)| *share >= SHARE);
        worst(found, f64::total_cmp)
    }

    /// The layers of which a share is beyond what is usual.
    fn worst_layer(&self, share: fn(&Layer) -> Option<f64>) -> Option<Place> {
        let shares = self
            .layers
            .iter()
            .filter_map(|it| Some((it.name.clone(), share(it)?)));
        worst(shares.filter(|(_, share)| *share >= SHARE), f64::total_cmp)
    }

    /// The layers after each activation; those after another one have another spread.
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

fn at_the_ends(layer: &Layer) -> Option<f64> {
    // After ReLU half are at 0, and that is as it should be.
    let ends = [Some(Activation::Sigmoid), Some(Activation::Tanh)];
    layer.saturated.filter(|_| ends.contains(&layer.activation))
}

/// How far the step moved weights, relative to their spread, if they have one and a gradient.
fn update(parameter: &Parameter) -> Option<(String, f64)> {
    parameter.gradient_std?;
    let compared = parameter.shape.len() > 1 && parameter.std > 0.0;
    let ratio = parameter.update_std? / parameter.std;
    compared.then(|| (parameter.name.clone(), ratio))
}

/// The place of the largest measure in this order; the first of several.
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

/// From the first to the last of these that have a spread; none if the first has not.
fn change<'a>(passed: impl Iterator<Item = (&'a Layer, &'a Summary)>) -> Option<Change> {
    let passed: Vec<_> = passed
        .filter(|(_, values)| values.std.is_finite())
        .collect();
    let (&(from, before), rest) = passed.split_first().filter(|((_, it), _)| it.std > 0.0)?;
    let &(to, after) = rest.last()?;
    Some(Change {
        from: from.name.clone(),
        to: to.name.clone(),
        std: [before.std, after.std],
        points: rest.len(),
    })
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let [found, meaning, remedy] = self.words();
        write!(f, "{found}\n  {meaning}\n  Try {remedy}.")
    }
}

impl Finding {
    /// What was measured, where and against what; what it means; what to try.
    fn words(&self) -> [String; 3] {
        let [found, meaning, remedy] = match self {
            Self::NotFinite(it) => [
                &format!(
                    "not finite: {} of the values of {it} are NaN or infinite (threshold: any)",
                    it.share()
                ),
                "Nothing that is computed from them can be trusted, and a step ruins the weights.",
                "a lower learning rate, He or Xavier initialisation, batch norm; look for a logarithm of 0 or a \
                 division by it",
            ],
            Self::Symmetry(it) => [
                &format!(
                    "symmetry: {} of {it} are copies of one another (threshold: half)",
                    it.share()
                ),
                "Units that start equal get equal gradients and stay equal: the weights started at one value.",
                "random first weights: He for ReLU, Xavier for tanh",
            ],
            Self::Dead(it) => [
                &format!(
                    "dead units: {} of the units of {it} gave 0 for every input (threshold: half)",
                    it.share()
                ),
                "No gradient comes through them, so they do not learn again. Weights or steps were too large, or \
                 the weights are 0.",
                "He initialisation, a lower learning rate, batch norm",
            ],
            Self::Saturated(it) => [
                &format!(
                    "saturated: {} of the values of {it} lie at the ends of the activation (threshold: half)",
                    it.share()
                ),
                "It is flat there, and lets hardly any gradient through: the weights are too large.",
                "Xavier initialisation, batch norm",
            ],
            Self::SignalVanishes(it) => [
                &format!("signal vanishes: std from {it} (threshold: {SIGNAL} times less)"),
                "The last layers can hardly tell one input from another: the weights are too small.",
                "He initialisation for ReLU, Xavier for tanh; batch norm",
            ],
            Self::SignalExplodes(it) => [
                &format!("signal explodes: std from {it} (threshold: {SIGNAL} times more)"),
                "The loss starts far too high, and deeper networks overflow: the weights are too large.",
                "He initialisation for ReLU; batch norm",
            ],
            Self::GradientVanishes(it) => [
                &format!("gradient vanishes: std from {it} (threshold: {GRADIENT} times less)"),
                "The first layers hardly learn.",
                "He initialisation with ReLU, Xavier with tanh; batch norm; another activation than sigmoid",
            ],
            Self::GradientExplodes(it) => [
                &format!("gradient explodes: std from {it} (threshold: {GRADIENT} times more)"),
                "A step that suits the last layers throws the first ones far off.",
                "He initialisation with ReLU, Xavier with tanh; gradient clipping; fewer layers",
            ],
            Self::UpdatesTooLarge(it) => [
                &format!(
                    "updates too large: a step moves {it} by {} of its spread (threshold: {UPDATE_MOST:e})",
                    number(it.measured)
                ),
                "About 0.001 is healthy. A few such steps replace all that was learned.",
                "a lower learning rate",
            ],
            Self::UpdatesTooSmall(it) => [
                &format!(
                    "updates too small: a step moves {it} by {} of its spread (threshold: {UPDATE_LEAST:e})",
                    number(it.measured)
                ),
                "About 0.001 is healthy. Such weights hardly learn.",
                "a higher learning rate; smaller first weights if they are large, larger ones if the gradient vanishes",
            ],
        };
        [found, meaning, remedy].map(str::to_owned)
    }
}

impl Place {
    fn share(&self) -> String {
        percent(self.measured)
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(&self.name)?;
        match self.also.as_slice() {
            [] => Ok(()),
            [first, _, _, .., last] => {
                write!(f, " (also {first} to {last}, {} in all)", self.also.len())
            }
            few => write!(f, " (also {})", few.join(", ")),
        }
    }
}

impl Change {
    /// The std where it comes to over that where it comes from.
    pub fn factor(&self) -> f64 {
        let [from, to] = self.std;
        to / from
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { from, to, std, .. } = self;
        let [before, after] = std.map(number);
        write!(
            f,
            "{before} at {from} to {after} at {to}, {} points on",
            self.points
        )
    }
}
