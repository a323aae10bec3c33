//! The ResNet-18 with Burn's layer, with this crate's in its place, and with what follows in the same operation.

// Each test uses only some of these modules.
#![allow(dead_code)]

use burn::tensor::activation::relu;

macro_rules! in_steps {
    () => {
        use super::relu;

        include!("resnet18.rs");

        fn norm_relu(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
            relu(norm.forward(x))
        }

        fn norm_add_relu(norm: &BatchNorm, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
            relu(norm.forward(x) + skip)
        }

        fn norm_relu_pool(norm: &BatchNorm, x: Tensor<4>, pool: &MaxPool2d) -> Tensor<4> {
            pool.forward(relu(norm.forward(x)))
        }
    };
}

pub mod burns {
    use burn::nn::{BatchNorm, BatchNormConfig};

    in_steps!();
}

pub mod ours {
    use burn_kindling::norm::{BatchNorm, BatchNormConfig};

    in_steps!();
}

pub mod fused {
    use burn_kindling::norm::{BatchNorm, BatchNormConfig, Then};

    include!("resnet18.rs");

    fn norm_relu(norm: &BatchNorm, x: Tensor<4>) -> Tensor<4> {
        norm.forward_relu(x)
    }

    fn norm_add_relu(norm: &BatchNorm, x: Tensor<4>, skip: Tensor<4>) -> Tensor<4> {
        norm.forward_then(x, Then::new().add_residual(skip).relu())
    }

    fn norm_relu_pool(norm: &BatchNorm, x: Tensor<4>, pool: &MaxPool2d) -> Tensor<4> {
        norm.forward_then(x, Then::new().relu().max_pool(pool))
    }
}
