//! Recognises the layers of `burn::nn` inside a module.
//!
//! A mapper sees the names of a module's structs and fields, and the shapes of its parameters. It does not see numbers
//! such as strides and groups. Those are read from the module's `Debug` text, beside the id of the parameter.

use super::draw::Arrangement;
use super::fan::Fan;

/// The kind of a layer whose parameter was initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// `Linear`, alone or inside a recurrent layer, an attention or a feed-forward block.
    Linear,
    /// `Conv1d` to `Conv3d` and `DeformConv2d`.
    Conv,
    /// `ConvTranspose1d` to `ConvTranspose3d`.
    ConvTranspose,
    /// `Embedding`. One of its inputs is 1 and the others are 0, so its fan-in is 1.
    Embedding,
    /// A normalisation: `BatchNorm` (Burn's or this crate's), `LayerNorm`, `GroupNorm`, `InstanceNorm`, `RmsNorm`.
    Norm,
    /// Anything else, such as a layer of your own.
    Other,
}

impl std::fmt::Display for LayerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Linear => "linear",
            Self::Conv => "convolution",
            Self::ConvTranspose => "transposed convolution",
            Self::Embedding => "embedding",
            Self::Norm => "normalisation",
            Self::Other => "other",
        })
    }
}

/// The layer that a parameter belongs to.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub kind: LayerKind,
    /// The groups of a convolution.
    groups: usize,
    /// The strides of a transposed convolution.
    stride: Vec<usize>,
    /// Whether groups and strides were not found, and 1 was assumed.
    pub assumed: bool,
}

/// The role of a parameter in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Weight,
    Bias,
    /// The running statistics of a normalisation.
    Statistics,
    /// Anything else, such as a gamma.
    Other,
}

impl Layer {
    /// The layer whose struct has the name `container` and whose parameter `field` has `rank` axes.
    ///
    /// `numbers` is the `Debug` text of the struct, if it was found.
    pub fn recognize(
        container: &str,
        field: &str,
        rank: usize,
        numbers: Option<&Fields>,
    ) -> (Self, Role) {
        use LayerKind::*;
        let kind = match (container, rank) {
            ("Linear", 1 | 2) => Linear,
            ("Conv1d", 1 | 3) | ("Conv2d" | "DeformConv2d", 1 | 4) | ("Conv3d", 1 | 5) => Conv,
            ("ConvTranspose1d", 1 | 3)
            | ("ConvTranspose2d", 1 | 4)
            | ("ConvTranspose3d", 1 | 5) => ConvTranspose,
            ("Embedding", 2) => Embedding,
            ("BatchNorm" | "LayerNorm" | "GroupNorm" | "InstanceNorm" | "RmsNorm", 1) => Norm,
            _ => Other,
        };
        // A user's struct may have the name of one of Burn's.
        let same_fields = match (kind, numbers) {
            (Linear, Some(fields)) => fields.names_are(&["weight", "bias"]),
            (Embedding, Some(fields)) => fields.names_are(&["weight"]),
            (Conv | ConvTranspose, Some(fields)) => fields.get("stride").is_some(),
            _ => true,
        };
        let kind = if same_fields { kind } else { Other };
        let role = match (kind, field, rank) {
            (Linear | Conv | ConvTranspose | Embedding, "weight", 2..) => Role::Weight,
            (Linear | Conv | ConvTranspose, "bias", 1) => Role::Bias,
            (Norm, field, _) if !matches!(field, "gamma" | "beta") => Role::Statistics,
            _ => Role::Other,
        };
        let number = |name| numbers.and_then(|fields| parse(fields.get(name)?));
        let groups = number("groups").or_else(|| number("weight_groups"));
        let stride = number("stride");
        let layer = Self {
            kind,
            assumed: matches!(kind, Conv | ConvTranspose) && (groups.is_none() || stride.is_none()),
            groups: groups
                .and_then(|groups| groups.first().copied())
                .unwrap_or(1),
            stride: stride.unwrap_or_else(|| vec![1]),
        };
        (layer, role)
    }

    /// The fan of a weight of this shape; `None` if it cannot be counted.
    pub fn fan(&self, shape: &[usize]) -> Option<Fan> {
        match (self.kind, shape) {
            (LayerKind::Linear, &[inputs, outputs]) => Some(Fan::linear([inputs, outputs])),
            (LayerKind::Embedding, &[_, outputs]) => Some(Fan {
                fan_in: 1,
                fan_out: outputs,
            }),
            (LayerKind::Conv, _) => Some(Fan::conv_of(shape, self.groups_of(shape))),
            (LayerKind::ConvTranspose, _) => {
                let fan = Fan::conv_transpose_of(shape, self.groups_of(shape));
                Some(fan.upsampled_by(&self.stride))
            }
            _ => None,
        }
    }

    /// How a weight of this shape is arranged.
    pub fn arrangement(&self, shape: Vec<usize>) -> Arrangement {
        Arrangement {
            groups: self.groups_of(&shape),
            shape,
            // An embedding looks up whole rows, so a row takes the place of a unit.
            inputs_first: !matches!(self.kind, LayerKind::Conv | LayerKind::Embedding),
        }
    }

    /// The output unit that an entry of a weight of this shape belongs to, by its indices on the first two axes.
    pub fn unit(&self, shape: &[usize], i: usize, j: usize) -> usize {
        match self.kind {
            LayerKind::Conv => i,
            LayerKind::ConvTranspose => {
                let inputs_per_group = shape[0] / self.groups_of(shape);
                i / inputs_per_group * shape[1] + j
            }
            _ => j,
        }
    }

    /// The groups if they divide the first axis of the weight, otherwise 1: a layer may have been changed by hand.
    fn groups_of(&self, shape: &[usize]) -> usize {
        match shape.first() {
            Some(first) if self.groups > 0 && first.is_multiple_of(self.groups) => self.groups,
            _ => 1,
        }
    }
}

/// Reads `3` or `[3, 2]`.
fn parse(text: &str) -> Option<Vec<usize>> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    text.split(',').map(|n| n.trim().parse().ok()).collect()
}

/// The fields of a struct, as its `Debug` text shows them.
pub(super) struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Fields<'a> {
    /// Finds the struct `name` that holds the parameter `id` in the `Debug` text of a module.
    pub fn find(module: &'a str, name: &str, id: &str) -> Option<Self> {
        let param = module.find(&format!("Param: {id} - "))?;
        let start = opening_brace(&module[..param])?;
        let before = module[..start].trim_end();
        if !before.ends_with(name) {
            return None;
        }
        Self::parse(&module[start + 1..])
    }

    /// Reads `name: value, name: value }`.
    fn parse(text: &'a str) -> Option<Self> {
        let mut fields = Vec::new();
        let (mut depth, mut start) = (0, 0);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'{' | b'[' | b'(' => depth += 1,
                b',' | b'}' if depth == 0 => {
                    if let Some((name, value)) = text[start..at].split_once(':') {
                        fields.push((name.trim(), value.trim()));
                    }
                    if byte == b'}' {
                        return Some(Self(fields));
                    }
                    start = at + 1;
                }
                b'}' | b']' | b')' => depth -= 1,
                _ => (),
            }
        }
        None
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(field, _)| *field == name)?;
        Some(value)
    }

    fn names_are(&self, names: &[&str]) -> bool {
        self.0
            .iter()
            .map(|(name, _)| *name)
            .eq(names.iter().copied())
    }
}

/// The index of the last brace that is still open at the end of `text`.
fn opening_brace(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.bytes().enumerate().rev().find_map(|(at, byte)| {
        match byte {
            b'}' => depth += 1,
            b'{' if depth == 0 => return Some(at),
            b'{' => depth -= 1,
            _ => (),
        }
        None
    })
}
