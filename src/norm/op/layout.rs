//! How a tensor `[batch, channels, ...]` lies in memory, for the backends with kernels.
//!
//! Any dense tensor is taken as it lies, also transposed or channels-last, and the output lies the same way; only a view
//! with gaps, repeated or reversed values is copied first.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

/// How a backend's tensors lie in memory.
pub trait Strided: Backend {
    /// The distance between neighbours along each axis, in values.
    fn strides(tensor: &FloatTensor<Self>) -> Vec<isize>;

    /// The same tensor, copied to lie contiguously if it does not.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The axes of a tensor `[batch, channels, ...]` in the order in which they lie in memory, outermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Order(Vec<usize>);

impl Order {
    /// The order of a tensor's axes; that of the axes' numbers for a tensor that is not dense.
    pub fn of<B: Strided>(tensor: &FloatTensor<B>) -> Self {
        let shape = tensor.shape();
        let strides = B::strides(tensor);
        let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
        // Of axes of length 1 the stride says nothing: they stay where they are among their neighbours.
        axes.sort_by_key(|&axis| {
            std::cmp::Reverse(if shape[axis] == 1 { 0 } else { strides[axis] })
        });
        let mut expected = 1;
        let dense = axes.iter().rev().all(|&axis| {
            let fits = shape[axis] == 1 || strides[axis] == expected;
            expected *= shape[axis] as isize;
            fits
        });
        if !dense {
            axes.sort();
        }
        Order(axes)
    }

    fn is_natural(&self) -> bool {
        self.0.is_sorted()
    }

    /// The tensor with its axes in this order, contiguous.
    pub fn apply<B: Strided>(&self, tensor: FloatTensor<B>) -> FloatTensor<B> {
        if self.is_natural() {
            B::contiguous(tensor)
        } else {
            B::contiguous(B::float_permute(tensor, &self.0))
        }
    }

    /// The tensor with its axes back in the order of their numbers.
    pub fn undo<B: Backend>(&self, tensor: FloatTensor<B>) -> FloatTensor<B> {
        if self.is_natural() {
            return tensor;
        }
        let mut inverse = vec![0; self.0.len()];
        for (position, &axis) in self.0.iter().enumerate() {
            inverse[axis] = position;
        }
        B::float_permute(tensor, &inverse)
    }

    /// The dimensions of a tensor in this order.
    pub fn dims<B: Backend>(&self, ordered: &FloatTensor<B>) -> Dims {
        let shape = ordered.shape();
        let channel_axis = self
            .0
            .iter()
            .position(|&axis| axis == 1)
            .expect("axis 1 is among the axes");
        Dims {
            outer: shape[..channel_axis].iter().product(),
            channels: shape[channel_axis],
            inner: shape[channel_axis + 1..].iter().product(),
        }
    }
}

/// How a tensor lies in memory: dense, as `[outer, channels, inner]`.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    pub outer: usize,
    pub channels: usize,
    pub inner: usize,
}

impl Dims {
    pub fn values_per_channel(self) -> usize {
        self.outer * self.inner
    }

    pub fn len(self) -> usize {
        self.outer * self.channels * self.inner
    }
}
