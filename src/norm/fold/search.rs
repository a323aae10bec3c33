//! Finds the layer before each batch norm, by marks on the outputs of the layers.

use crate::init::weights::ByUnit;
use crate::norm::probe::{Met, Values};

/// A layer that a norm may be folded into.
pub(super) struct Affine {
    /// The names of the fields that lead to it, joined by dots.
    pub(super) path: String,
    pub(super) units: usize,
    pub(super) has_bias: bool,
}

impl Affine {
    /// A factor and a shift for each of its units, by which it is recognised.
    pub(super) fn marks(&self, index: usize) -> ByUnit {
        (0..self.units).map(|unit| mark(index, unit)).collect()
    }

    /// What the mark of a unit does to its output.
    fn mark(&self, index: usize, unit: usize) -> [f64; 2] {
        let [factor, shift] = mark(index, unit);
        [factor, if self.has_bias { shift } else { 0.0 }]
    }
}

/// One of 17 factors from -4 to -1/4, and the same number as a shift. None is above 0, because a ReLU lets these pass.
fn mark(layer: usize, unit: usize) -> [f64; 2] {
    // SplitMix64: neighbours get unrelated numbers.
    let mut bits = (((layer as u64) << 32) | unit as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let step = ((bits ^ (bits >> 31)) % 17) as f64 - 8.0;
    [-(step / 4.0).exp2(); 2]
}

/// What a forward pass showed.
pub(super) struct Seen {
    pub(super) output: Vec<f32>,
    /// The input of every call of a norm.
    pub(super) inputs: Vec<Values>,
}

/// The search for the layers before the norms.
pub(super) struct Search<'a> {
    pub(super) layers: &'a [Affine],
    /// The norms in the order of the calls.
    pub(super) norms: &'a [Met],
    /// What a pass without marks showed.
    pub(super) first: &'a Seen,
}

/// The indices of a norm and of the layer before it.
type Pair = (usize, usize);

impl Search<'_> {
    /// The norms that can be folded, each with the layer before it. `pass` marks layers and calls the model.
    pub(super) fn pairs(&self, pass: impl Fn(&[usize]) -> Option<Seen>) -> Vec<Pair> {
        let all: Vec<usize> = (0..self.layers.len()).collect();
        let Some(seen) = pass(&all) else {
            return Vec::new();
        };
        let mut pairs = self.marked_pairs(&seen, &all);
        // If no norm is between two layers, the marks of the first hide those of the second.
        for layer in all {
            let is_known = pairs.iter().any(|pair| pair.1 == layer);
            let mut open = (0..self.norms.len())
                .filter(|&norm| pairs.iter().all(|pair| pair.0 != norm))
                .filter(|&norm| self.may_fold(norm, layer));
            if !is_known && open.next().is_some() {
                let seen = pass(&[layer]);
                pairs.extend(
                    seen.iter()
                        .flat_map(|seen| self.marked_pairs(seen, &[layer])),
                );
            }
        }
        let found = pairs.clone();
        pairs.retain(|&(norm, layer)| {
            let mut same = found.iter().filter(|it| it.0 == norm || it.1 == layer);
            same.nth(1).is_none()
        });

        let are_alone = |pairs: &[Pair]| {
            let marked: Vec<usize> = pairs.iter().map(|pair| pair.1).collect();
            pass(&marked).is_some_and(|seen| self.shows_only(&seen, pairs))
        };
        if !pairs.is_empty() && !are_alone(&pairs) {
            pairs.retain(|&pair| are_alone(&[pair]));
        }
        pairs
    }

    /// Whether the norm could be folded into the layer, if the layer is before it.
    fn may_fold(&self, norm: usize, layer: usize) -> bool {
        let Met { flag, epsilon, .. } = self.norms[norm];
        let calls = self.norms.iter().filter(|met| met.flag == flag).count();
        let channels = self.first.inputs[norm].channels();
        calls == 1 && epsilon < 1.0 && self.layers[layer].units == channels
    }

    /// The norms whose inputs have the marks of exactly one of the marked layers.
    fn marked_pairs(&self, seen: &Seen, marked: &[usize]) -> Vec<Pair> {
        let layer_of = |norm: usize| {
            let mut layers = marked
                .iter()
                .filter(|&&layer| self.may_fold(norm, layer) && self.is_marked(seen, norm, layer));
            let layer = layers.next()?;
            layers.next().is_none().then_some((norm, *layer))
        };
        (0..self.norms.len()).filter_map(layer_of).collect()
    }

    fn is_marked(&self, seen: &Seen, norm: usize, layer: usize) -> bool {
        let mark = |unit| self.layers[layer].mark(layer, unit);
        seen.inputs[norm].are(&self.first.inputs[norm], mark)
    }

    /// Whether the marks of these layers arrived at their norms and nowhere else.
    fn shows_only(&self, seen: &Seen, pairs: &[Pair]) -> bool {
        let is_as_expected = |norm| match pairs.iter().find(|pair| pair.0 == norm) {
            Some(&(_, layer)) => self.is_marked(seen, norm, layer),
            None => seen.inputs[norm].equal(&self.first.inputs[norm]),
        };
        (0..self.norms.len()).all(is_as_expected) && are_equal(&seen.output, &self.first.output)
    }
}

/// Whether two outputs are the same, up to rounding.
fn are_equal(found: &[f32], first: &[f32]) -> bool {
    let largest = |largest: f32, value: &f32| largest.max(value.abs());
    let scale = first.iter().fold(0.0, largest);
    let mut pairs = found.iter().zip(first);
    found.len() == first.len() && pairs.all(|(a, b)| (a - b).abs() <= 1e-4 * scale)
}
