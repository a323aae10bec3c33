//! What follows the normalisation, as far as it has no tensors: the activation and the pooling.

#[cfg(feature = "kernels")]
use burn::tensor::Shape;

use crate::norm::op::FusedActivation;

/// The activation and the pooling that follow the normalisation and the residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// The activation.
    pub activation: TailActivation,
    /// The pooling of the activation's output.
    pub pooling: Option<Pooling>,
}

impl Tail {
    /// Nothing follows.
    pub const NOTHING: Self = Self {
        activation: TailActivation::None,
        pooling: None,
    };

    /// The shape of the output for an input of this shape.
    ///
    /// # Panics
    ///
    /// If there is a pooling of images of another size.
    #[cfg(feature = "kernels")]
    pub(in crate::norm::op) fn output_shape(&self, input: &Shape) -> Shape {
        let Some(pooling) = self.pooling else {
            return input.clone();
        };
        assert!(
            input.num_dims() == 4 && [input[2], input[3]] == pooling.input,
            "batch norm pools an input of shape [batch, channels, {}, {}], found {input:?}",
            pooling.input[0],
            pooling.input[1]
        );
        let [height, width] = pooling.output;
        Shape::new([input[0], input[1], height, width])
    }
}

impl From<FusedActivation> for Tail {
    fn from(activation: FusedActivation) -> Self {
        Self {
            activation: activation.into(),
            pooling: None,
        }
    }
}

/// An activation that the kernels apply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TailActivation {
    /// None.
    None,
    /// `max(z, 0)`.
    Relu,
    /// `z` above 0, `slope * z` elsewhere.
    LeakyRelu {
        /// Above 0, and finite.
        slope: f64,
    },
    /// `1 / (1 + exp(-z))`, without a pooling.
    Sigmoid,
    /// `tanh(z)`, without a pooling.
    Tanh,
    /// `z / (1 + exp(-z))`, without a pooling.
    Silu,
}

impl TailActivation {
    /// Whether it is a sigmoid, a tanh or a SiLU, for which GPUs have no kernels.
    #[cfg(feature = "kernels")]
    pub(in crate::norm::op) fn is_smooth(self) -> bool {
        matches!(self, Self::Sigmoid | Self::Tanh | Self::Silu)
    }
}

impl From<FusedActivation> for TailActivation {
    fn from(activation: FusedActivation) -> Self {
        match activation {
            FusedActivation::None => Self::None,
            FusedActivation::Relu => Self::Relu,
        }
    }
}

/// The value of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolingKind {
    /// Its largest value.
    Max,
    /// The average of its values.
    Average {
        /// Whether padding counts, as zeros.
        count_padding: bool,
    },
}

/// A pooling of images `[height, width]`. Each field is for height, then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pooling {
    /// The value of a window.
    pub kind: PoolingKind,
    /// Height and width of the images.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of a window.
    pub window: [usize; 2],
    /// Distance from one window to the next.
    pub strides: [usize; 2],
    /// Padding on each side, at most half a window: each window has a value that is not padding.
    pub padding: [usize; 2],
}

impl Pooling {
    /// The pooling of images `input`, or `None` if they are empty, or a window does not fit into an
    /// image or is more than half padding.
    pub fn new(
        kind: PoolingKind,
        input: [usize; 2],
        window: [usize; 2],
        strides: [usize; 2],
        padding: [usize; 2],
    ) -> Option<Self> {
        let mut output = [0; 2];
        for axis in 0..2 {
            let padded = input[axis] + 2 * padding[axis];
            let is_empty = input[axis] == 0 || window[axis] == 0 || strides[axis] == 0;
            let fits = !is_empty && window[axis] <= padded;
            if !fits || 2 * padding[axis] > window[axis] {
                return None;
            }
            output[axis] = (padded - window[axis]) / strides[axis] + 1;
        }
        Some(Self {
            kind,
            input,
            output,
            window,
            strides,
            padding,
        })
    }
}
