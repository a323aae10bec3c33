//! The gradient of a tensor in the middle of a graph.
//!
//! Burn's autodiff keeps the gradients of leaves only: the backward step of an operation consumes the gradient of its
//! output, and `require_grad` on such an output panics. A tap is an identity operation with a second parent, a leaf
//! that no value depends on. Its backward step passes the gradient on unchanged and also registers it for the leaf,
//! where it can be read. Neither pass computes or copies: both pass their buffer through.

// Burn 0.22 deprecates NdArray; it is supported as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Gradients as TensorGradients, Shape, Tensor};

/// The gradient of a tensor in the middle of a graph, which Burn itself does not keep; see [`of`](Self::of).
#[derive(Clone, Debug)]
pub struct Tap<const D: usize> {
    leaf: Tensor<3>,
    shape: Shape,
}

impl<const D: usize> Tap<D> {
    /// Returns `tensor`, unchanged, and a tap on it. What is computed from the returned tensor passes its gradient
    /// through the tap. Neither pass computes or copies. `None` if the tensor is not part of a graph.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_kindling::observe::Tap;
    ///
    /// let device = Device::flex().autodiff();
    /// let x = Tensor::<1>::from_floats([1.0, 2.0], &device).require_grad();
    /// let (square, tap) = Tap::of(x.square());
    /// let gradients = (square * 3.0).sum().backward();
    /// assert_eq!(tap.unwrap().gradient(&gradients).unwrap().into_data().to_vec::<f32>(), Ok(vec![3.0, 3.0]));
    /// ```
    pub fn of(tensor: Tensor<D>) -> (Tensor<D>, Option<Self>) {
        if !tensor.is_tracked() {
            return (tensor, None);
        }
        let shape = tensor.shape();
        let (tensor, leaf) = tap(tensor, [1, 1, shape.num_elements()]);
        (tensor, Some(Self { leaf, shape }))
    }

    /// The gradient of the tensor, in its shape, outside of any graph. `None` if the backward pass did not reach it.
    pub fn gradient(&self, gradients: &TensorGradients) -> Option<Tensor<D>> {
        let gradient = self.leaf.grad(gradients)?;
        Some(gradient.reshape(self.shape.clone()))
    }
}

/// Returns `tensor` and a leaf that receives the tensor's gradient, in the shape `view`.
///
/// `tensor` must be tracked and have as many values as `view`.
pub(super) fn tap<const D: usize>(tensor: Tensor<D>, view: [usize; 3]) -> (Tensor<D>, Tensor<3>) {
    let leaf = Tensor::<3>::zeros([1, 1, 1], (&tensor.device(), tensor.dtype())).require_grad();
    let tensor = Tensor::from_dispatch(<Dispatch as TapBackend>::tap(
        tensor.into_dispatch(),
        leaf.clone().into_dispatch(),
        view.into(),
    ));
    (tensor, leaf)
}

/// A tap as a backend operation. On every backend but autodiff it does nothing.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Autodiff,
    Fusion: cfg(feature = "fusion"),
)]
pub trait TapBackend: Backend {
    /// Returns `input`. The gradient of the output goes to `input` and, reshaped to `view`, to `leaf`.
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

/// Backward node of [`tap`]. Its parents are the tensor and the leaf.
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
