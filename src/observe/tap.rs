//! The gradient of a tensor in the middle of a graph.
//!
//! Burn's autodiff keeps the gradients of leaves alone: that of a tensor in between is consumed by the step that made
//! it, and `require_grad` on such a tensor panics. A tap is an identity with a second parent, a leaf that no value
//! depends on: its backward step hands the gradient on as it is, and to the leaf too, where it stays to be read. The
//! forward pass hands the same buffer through, and the backward pass shares the gradient's; neither computes.

// Burn 0.22 marks NdArray deprecated; it is served here for as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor};

/// Returns `tensor`, and a leaf whose gradient will be the tensor's, of shape `view`.
///
/// `tensor` must be tracked, and have as many values as `view`.
pub(super) fn tap<const D: usize>(tensor: Tensor<D>, view: [usize; 3]) -> (Tensor<D>, Tensor<3>) {
    let leaf = Tensor::<3>::zeros([1, 1, 1], (&tensor.device(), tensor.dtype())).require_grad();
    let tensor = Tensor::from_dispatch(<Dispatch as TapBackend>::tap(
        tensor.into_dispatch(),
        leaf.clone().into_dispatch(),
        view.into(),
    ));
    (tensor, leaf)
}

/// A tap as a backend sees it: nothing at all, but for autodiff.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait TapBackend: Backend {
    /// Returns `input`; its gradient goes to `input`, and reshaped to `view` to `leaf`.
    #[fusion(default)]
    fn tap(input: FloatTensor<Self>, _leaf: FloatTensor<Self>, _view: Shape) -> FloatTensor<Self> {
        input
    }
}

#[cfg(feature = "flex")]
impl TapBackend for burn::backend::Flex {}

#[cfg(feature = "ndarray")]
impl TapBackend for burn::backend::NdArray {}

#[cfg(feature = "cube")]
impl TapBackend for burn::backend::Cube {}

#[cfg(feature = "remote")]
impl<R: burn_router::RouterChannel> TapBackend for burn_router::BackendRouter<R> {}

impl<B: TapBackend, C: CheckpointStrategy> TapBackend for Autodiff<B, C> {
    fn tap(input: FloatTensor<Self>, leaf: FloatTensor<Self>, view: Shape) -> FloatTensor<Self> {
        match TapNode
            .prepare::<C>([input.node(), leaf.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(view, input.into_primitive()),
            OpsKind::UnTracked(prep) => prep.finish(input.into_primitive()),
        }
    }
}

/// Backward node of [`tap`]; parents: the tensor and the leaf.
#[derive(Debug)]
struct TapNode;

impl<B: Backend> Backward<B, 2> for TapNode {
    type State = Shape;

    fn backward(self, ops: Ops<Shape, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = grads.consume::<B>(&ops.node);
        let [input, leaf] = ops.parents;
        if let Some(leaf) = leaf {
            grads.register::<B>(leaf.id, B::float_reshape(gradient.clone(), ops.state));
        }
        if let Some(input) = input {
            grads.register::<B>(input.id, gradient);
        }
    }
}
