//! Problems that a network can have, in words.

use std::fmt::{Display, Formatter, Result};

use super::table::{number, percent};

/// Share of copies, dead units or saturated values at which there is a finding.
pub(super) const SHARE: f64 = 0.5;
/// With fewer values per unit, no unit is called dead. A healthy unit is 0 in all of 16 values once in 2^16 by chance.
pub(super) const SHOWN: usize = 16;
/// Factor between the std of the first and the last layer at which the signal counts as vanishing or exploding.
pub(super) const SIGNAL: f64 = 10.0;
/// Factor by which the spread between inputs falls, relative to the values, at which there is a finding.
pub(super) const ALIKE: f64 = 100.0;
/// Factor by which the root mean square after the first activation may differ from 1.
pub(super) const SCALE: f64 = 30.0;
/// The same factor as [`SIGNAL`], for gradients.
pub(super) const GRADIENT: f64 = 100.0;
/// The same factor as [`GRADIENT`], for the output layer alone. With He's weights it is 1.4, with a tenth of them 0.14,
/// with a hundredth 0.014.
pub(super) const OUTPUT_GRADIENT: f64 = 30.0;
/// Root mean square of the update divided by that of the weights: a finding at or below this.
pub(super) const UPDATE_LEAST: f64 = 1e-5;
/// Root mean square of the update divided by the size of the weights: a finding at or above this.
///
/// Measured: of 31 networks without batch norm whose first step was below this, 30 learned; of 29 above it, one.
pub(super) const UPDATE_MOST: f64 = 0.5;
/// Root mean square of weights, times the root of the number of inputs, at which they are large. With He's it is 1.4.
pub(super) const LARGE: f64 = 10.0;

/// A problem of a network, found in a [`Report`](super::Report) by [`diagnose`](super::Report::diagnose).
///
/// It prints as three lines: the measurement, its place and the threshold; what that means; what to try.
///
/// The thresholds are far from what healthy networks show:
///
/// | finding | where | threshold | source |
/// | --- | --- | --- | --- |
/// | [`NotFinite`](Self::NotFinite) | points, gradients; else parameters, updates | any value | |
/// | [`NoGradient`](Self::NoGradient) | weights | any | |
/// | [`Symmetry`](Self::Symmetry) | points; weights | half of the units are copies, dead ones not counted; all weights are equal, except zeros that get a gradient | Goodfellow et al., *Deep Learning*, 8.4: initial parameters must break symmetry |
/// | [`Dead`](Self::Dead) | points after ReLU with at least 16 values per unit | half of the units | CS231n, *Neural networks 1*: a learning rate that is too high kills 40 %; with He initialisation every deep layer has some |
/// | [`Saturated`](Self::Saturated) | points after sigmoid or tanh | half of the values | Karpathy, makemore part 3: a few percent are healthy; Glorot & Bengio 2010 |
/// | [`SignalTooSmall`](Self::SignalTooSmall), [`SignalTooLarge`](Self::SignalTooLarge) | root mean square at the first point after an activation | a factor of 30 from 1 | LeCun et al. 1998, *Efficient BackProp*, 4.3 and 4.6: inputs and outputs of units have a std of about 1 |
/// | [`SignalVanishes`](Self::SignalVanishes), [`SignalExplodes`](Self::SignalExplodes) | std, from the first to the last point after the same activation | factor 10 | He et al. 2015, arXiv:1502.01852, section 2.2: the std should stay; a layer of 100 units changes it by about a tenth |
/// | [`InputsAlike`](Self::InputsAlike) | spread between inputs divided by the root mean square, from the first to the last such point | factor 100 | Schoenholz et al. 2017, arXiv:1611.01232: such a network cannot be trained |
/// | [`GradientVanishes`](Self::GradientVanishes), [`GradientExplodes`](Self::GradientExplodes) | norm of the gradient, from the last such point back to the first; from the output back to the last one | factor 100; factor 30 | the same: weights from He keep the norm, whatever the widths; batch norm alone makes it grow by a factor of 1.2 per layer (Yang et al. 2019, arXiv:1902.08129) |
/// | [`UpdatesTooLarge`](Self::UpdatesTooLarge) | weights | half of their size: the root mean square or, if that is more, 1/√n for n inputs | measured: `docs/experiments.md` of the repository |
/// | [`UpdatesTooSmall`](Self::UpdatesTooSmall) | half of all weights, or single large ones | 1e-5 | a factor of 100 from a thousandth: Karpathy, makemore part 3; CS231n, *Neural networks 3* |
///
/// "Weights" are parameters with at least two axes: a bias, or the gamma of a norm, may well start at a single value.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// Values are NaN or infinite. Names the first such point; if all points are finite, the first parameter or update.
    /// Measured: their share of its values; NaN for a parameter, whose values are not counted.
    NotFinite(Place),
    /// Weights got no gradient, so they cannot learn: the forward pass did not use them, the graph was cut, or they
    /// require none. This may be on purpose; a report cannot tell. Names the first one. Measured: the share of all
    /// weights.
    NoGradient(Place),
    /// Units repeat others, or all weights of a layer are equal. Measured: the share of copies.
    Symmetry(Place),
    /// Units are 0 for every input of the batch. Measured: their share.
    Dead(Place),
    /// Values lie where the activation is flat. Measured: their share.
    Saturated(Place),
    /// The values are too small from the start. Measured: their root mean square.
    SignalTooSmall(Place),
    /// The values are too large from the start. Measured: their root mean square.
    SignalTooLarge(Place),
    /// The values shrink with depth. Measured: their std.
    SignalVanishes(Change),
    /// The values grow with depth. Measured: their std.
    SignalExplodes(Change),
    /// The values differ less and less between inputs, although they do not vanish. Measured: their
    /// [spread](super::Summary::spread), divided by their root mean square.
    InputsAlike(Change),
    /// The norm of the gradient falls on the way back. Measured: the root of the sum of squares over all values, which
    /// does not depend on how many they are.
    GradientVanishes(Change),
    /// The norm of the gradient grows on the way back. Measured: the same norm.
    GradientExplodes(Change),
    /// A step moves weights by far more than a thousandth. Measured: the root mean square of the update divided by that
    /// of the weights, or by 1/√n for n inputs if that is more. Weights that start small, as those of a last layer may,
    /// are soon overwritten anyway.
    UpdatesTooLarge(Place),
    /// A step moves half of all weights, or large weights, by far less than a thousandth. Small updates of a single
    /// layer without large weights only show that its gradient is small. Measured: the root mean square of the update
    /// divided by that of the weights.
    UpdatesTooSmall(Place),
}

/// The points or parameters that share a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The name of the worst one; for [`NotFinite`](Finding::NotFinite), the first one.
    pub name: String,
    /// The measurement there. [`Finding`] says what is measured.
    pub measured: f64,
    /// The others beyond the threshold, in the order of the report.
    pub also: Vec<String>,
}

/// How much a measure changes between two points, in the direction of the pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The name of the point where the pass starts: the first one forward, the last one backward.
    pub from: String,
    /// The name of the point where it ends.
    pub to: String,
    /// The measurements at the start and at the end. [`Finding`] says what is measured.
    pub measured: [f64; 2],
    /// The distance from the start to the end, in points. Points after another activation are not counted.
    pub points: usize,
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let [found, meaning, remedy] = self.words();
        write!(f, "{found}\n  {meaning}\n  Try {remedy}.")
    }
}

impl Finding {
    /// The name of its kind: that of the variant, in words with hyphens, such as `signal-vanishes`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFinite(_) => "not-finite",
            Self::NoGradient(_) => "no-gradient",
            Self::Symmetry(_) => "symmetry",
            Self::Dead(_) => "dead",
            Self::Saturated(_) => "saturated",
            Self::SignalTooSmall(_) => "signal-too-small",
            Self::SignalTooLarge(_) => "signal-too-large",
            Self::SignalVanishes(_) => "signal-vanishes",
            Self::SignalExplodes(_) => "signal-explodes",
            Self::InputsAlike(_) => "inputs-alike",
            Self::GradientVanishes(_) => "gradient-vanishes",
            Self::GradientExplodes(_) => "gradient-explodes",
            Self::UpdatesTooLarge(_) => "updates-too-large",
            Self::UpdatesTooSmall(_) => "updates-too-small",
        }
    }

    /// The points or parameters that it names: the worst one first, or the two ends of a change, the last one first.
    pub fn places(&self) -> Vec<&str> {
        match self {
            Self::NotFinite(it)
            | Self::NoGradient(it)
            | Self::Symmetry(it)
            | Self::Dead(it)
            | Self::Saturated(it)
            | Self::SignalTooSmall(it)
            | Self::SignalTooLarge(it)
            | Self::UpdatesTooLarge(it)
            | Self::UpdatesTooSmall(it) => {
                let also = it.also.iter().map(String::as_str);
                std::iter::once(it.name.as_str()).chain(also).collect()
            }
            Self::SignalVanishes(it)
            | Self::SignalExplodes(it)
            | Self::InputsAlike(it)
            | Self::GradientVanishes(it)
            | Self::GradientExplodes(it) => vec![&it.to, &it.from],
        }
    }

    /// The measurement, its place and the threshold; what that means; what to try.
    fn words(&self) -> [String; 3] {
        let [found, meaning, remedy] = match self {
            Self::NotFinite(it) => [
                &format!(
                    "not finite: {} of the values of {it} are NaN or infinite (threshold: any)",
                    it.share()
                ),
                "Everything computed from them is lost, and a step ruins the weights.",
                "a lower learning rate, He or Xavier initialisation, batch norm; look for a logarithm of 0 or a \
                 division by 0",
            ],
            Self::NoGradient(it) => [
                &format!(
                    "no gradient: none reached {it}, {} of all weights (threshold: any)",
                    it.share()
                ),
                "They cannot learn: the forward pass does not use them, the graph is cut, or they require no gradient. \
                 That is right if they are frozen on purpose.",
                "`require_grad`; look for `detach`, `inner` and `no_grad`, and for a layer that `forward` leaves out",
            ],
            Self::Symmetry(it) => [
                &format!(
                    "symmetry: {} of {it} are copies of one another (threshold: half)",
                    it.share()
                ),
                "Units that start equal get equal gradients and stay equal: their weights had a single initial value. \
                 Or batch norm had two inputs, of which it makes 1 and -1.",
                "random initial weights: He for ReLU, Xavier for tanh; larger batches for batch norm",
            ],
            Self::Dead(it) => [
                &format!(
                    "dead units: {} of the units of {it} are 0 for every input (threshold: half)",
                    it.share()
                ),
                "No gradient passes through them, so they stop learning. Weights or updates were too large, or the \
                 weights are 0.",
                "He initialisation, a lower learning rate, batch norm",
            ],
            Self::Saturated(it) => [
                &format!(
                    "saturated: {} of the values of {it} lie where the activation is flat (threshold: half)",
                    it.share()
                ),
                "Its slope is close to 0 there, so little gradient passes: the weights are too large.",
                "Xavier initialisation, batch norm",
            ],
            Self::SignalTooSmall(it) => [
                &format!(
                    "signal too small: the root mean square of {it} is {} (threshold: 1/{SCALE})",
                    number(it.measured)
                ),
                "The layers after it learn slowly: the inputs or the first weights are too small.",
                "inputs of mean 0 and std 1; He or Xavier initialisation; batch norm",
            ],
            Self::SignalTooLarge(it) => [
                &format!(
                    "signal too large: the root mean square of {it} is {} (threshold: {SCALE})",
                    number(it.measured)
                ),
                "The loss starts far too high: the inputs or the first weights are too large.",
                "inputs of mean 0 and std 1; He or Xavier initialisation; batch norm",
            ],
            Self::SignalVanishes(it) => [
                &format!("signal vanishes: std from {it} (threshold: {SIGNAL} times less)"),
                "All inputs look alike to the last layers: the weights are too small.",
                "He initialisation for ReLU, Xavier for tanh; batch norm",
            ],
            Self::SignalExplodes(it) => [
                &format!("signal explodes: std from {it} (threshold: {SIGNAL} times more)"),
                "The loss starts far too high, and a deeper network overflows: the weights are too large.",
                "He initialisation for ReLU; batch norm",
            ],
            Self::InputsAlike(it) => [
                &format!(
                    "inputs look alike: spread relative to the values from {it} (threshold: {ALIKE} times less)"
                ),
                "The last layers give nearly the same output for every input, so they cannot tell the classes apart.",
                "tanh or ReLU in place of sigmoid; batch norm; fewer layers",
            ],
            Self::GradientVanishes(it) => [
                &format!(
                    "gradient vanishes: norm from {it} (threshold: {GRADIENT} times less, {OUTPUT_GRADIENT} at the output)"
                ),
                "The first layers learn very slowly.",
                "He initialisation with ReLU, Xavier with tanh; batch norm; another activation than sigmoid",
            ],
            Self::GradientExplodes(it) => [
                &format!(
                    "gradient explodes: norm from {it} (threshold: {GRADIENT} times more, {OUTPUT_GRADIENT} at the output)"
                ),
                "A learning rate that suits the last layers is far too large for the first ones.",
                "He initialisation with ReLU, Xavier with tanh; gradient clipping; fewer layers",
            ],
            Self::UpdatesTooLarge(it) => [
                &format!(
                    "updates too large: a step moves {it} by {} of its size (threshold: {UPDATE_MOST})",
                    number(it.measured)
                ),
                "About 0.001 is healthy. A few such steps overwrite everything learned.",
                "a lower learning rate",
            ],
            Self::UpdatesTooSmall(it) => [
                &format!(
                    "updates too small: a step moves {it} by {} of its root mean square (threshold: {UPDATE_LEAST:e})",
                    number(it.measured)
                ),
                "About 0.001 is healthy. Such weights learn very slowly.",
                "a higher learning rate; smaller initial weights if they are large, larger ones if the gradient vanishes",
            ],
        };
        [found, meaning, remedy].map(str::to_owned)
    }
}

impl Place {
    fn share(&self) -> String {
        match self.measured.is_nan() {
            true => "some".into(),
            false => percent(self.measured),
        }
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
    /// The measurement at the end divided by that at the start.
    pub fn factor(&self) -> f64 {
        let [from, to] = self.measured;
        to / from
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { from, to, .. } = self;
        let [before, after] = self.measured.map(number);
        write!(
            f,
            "{before} at {from} to {after} at {to}, {} points on",
            self.points
        )
    }
}
