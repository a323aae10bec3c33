//! What is timed: shapes, float types, passes, and what follows the normalisation.

use std::fmt;

use burn::tensor::FloatDType;
use serde::{Deserialize, Serialize};

/// One call of a layer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Case {
    /// `[batch, channels, ...]`
    pub shape: Vec<usize>,
    pub dtype: Float,
    pub tail: Tail,
    pub pass: Pass,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Float {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// By the running statistics.
    Inference,
    /// The forward pass in training.
    Forward,
    /// The forward pass in training and the backward pass, from a given gradient of the output.
    Backward,
}

/// What follows the normalisation.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    Nothing,
    Relu,
    /// A residual is added, then a ReLU.
    AddRelu,
    /// A ReLU, then the maximum of windows of 2x2.
    ReluMaxPool,
}

impl Float {
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    pub fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.dtype, self.shape, self.work())
    }
}

impl Case {
    /// What is done, without the input.
    pub fn work(&self) -> String {
        let pass = match self.pass {
            Pass::Inference => "inference",
            Pass::Forward => "forward",
            Pass::Backward => "forward, backward",
        };
        let tail = match self.tail {
            Tail::Nothing => "",
            Tail::Relu => ", ReLU",
            Tail::AddRelu => ", residual, ReLU",
            Tail::ReluMaxPool => ", ReLU, 2x2 maximum",
        };
        format!("{pass}{tail}")
    }

    /// Bytes of a tensor of this shape.
    pub fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bytes()
    }

    /// Bytes that any implementation must move: each tensor of the input's size that goes in or out, once per pass.
    ///
    /// Forward, the input and the output: 2. Backward, the input, the gradient of the output, and the gradient of the
    /// input: 3. A residual adds 1 forward (it goes in). Backward it adds 2: it, or the output, opens the ReLU's gate,
    /// and it has a gradient of its own. After a pooling, the output and its gradient have a quarter of the size.
    pub fn must_move(&self) -> usize {
        let [forward, backward] = match self.tail {
            Tail::Nothing | Tail::Relu => [2.0, 3.0],
            Tail::AddRelu => [3.0, 5.0],
            Tail::ReluMaxPool => [1.25, 2.25],
        };
        let tensors = match self.pass {
            Pass::Inference | Pass::Forward => forward,
            Pass::Backward => forward + backward,
        };
        (tensors * self.bytes() as f64) as usize
    }
}

/// The inputs of ResNet-50's batch norms, for images of 224x224.
const RESNET_50: [[usize; 2]; 10] = [
    [64, 112],
    [64, 56],
    [256, 56],
    [128, 56],
    [128, 28],
    [512, 28],
    [256, 14],
    [1024, 14],
    [512, 7],
    [2048, 7],
];

/// The shapes of the CPU's table in docs/benchmarks.md that ResNet-50 does not have.
const OTHERS: [&[usize]; 7] = [
    &[256, 100],
    &[256, 1024],
    &[4096, 512],
    &[32, 64, 1024],
    &[128, 32, 28, 28],
    &[8, 256, 14, 14],
    &[1, 64, 112, 112],
];

/// Channels and height of those before which a network pools.
const POOLED: [[usize; 2]; 2] = [[64, 112], [32, 28]];

const QUICK: [&[usize]; 3] = [&[64, 100], &[4, 16, 14, 14], &[2, 3, 100, 100]];

/// All cases, those first that matter most: whoever runs out of time leaves out the others.
pub fn all(quick: bool, dtypes: &[Float]) -> Vec<Case> {
    let shapes: Vec<Vec<usize>> = match quick {
        true => QUICK.iter().map(|shape| shape.to_vec()).collect(),
        false => {
            let resnet = RESNET_50
                .iter()
                .map(|&[channels, side]| vec![64, channels, side, side]);
            let others = OTHERS.iter().map(|shape| shape.to_vec());
            resnet.chain(others).collect()
        }
    };
    let mut cases = Vec::new();
    for tail in [Tail::Nothing, Tail::Relu, Tail::AddRelu, Tail::ReluMaxPool] {
        let shapes = shapes.iter().filter(|shape| match tail {
            Tail::ReluMaxPool => {
                shape.len() == 4 && (quick || POOLED.contains(&[shape[1], shape[2]]))
            }
            _ => true,
        });
        for &dtype in dtypes {
            for shape in shapes.clone() {
                for pass in [Pass::Backward, Pass::Inference, Pass::Forward] {
                    cases.push(Case {
                        shape: shape.clone(),
                        dtype,
                        tail,
                        pass,
                    });
                }
            }
        }
    }
    cases
}
