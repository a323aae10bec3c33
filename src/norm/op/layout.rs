//! How a tensor `[batch, channels, ...]` lies in memory, for the backends with kernels.
//!
//! Any dense tensor is taken as it lies, also transposed or channels-last, and the output lies the same way; so is one
//! with a pitch, if the backend's kernels take that. Only a view with other gaps, repeated or reversed values is copied
//! first.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};

use crate::dtype::at_least_f32;

/// How a backend's tensors lie in memory.
pub trait Strided: Backend {
    /// Whether kernels take rows that begin further apart than they are long.
    const TAKES_PITCH: bool;

    /// The distance between neighbours along each axis, in values.
    fn strides(tensor: &FloatTensor<Self>) -> Vec<isize>;

    /// The same tensor, copied to lie contiguously if it does not.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The rows along the innermost axis that is longer than 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Values in a row.
    pub len: usize,
    /// Places from one row to the next: more than `len` where there are gaps.
    pub pitch: usize,
}

impl Rows {
    /// The rows of axes that are in the order in which they lie, outermost first, given their lengths and strides; None
    /// where there are gaps elsewhere than behind each row.
    fn of(axes: impl DoubleEndedIterator<Item = (usize, isize)>) -> Option<Self> {
        // Of axes of length 1 the stride says nothing.
        let mut axes = axes.rev().filter(|&(len, _)| len != 1);
        let Some((len, 1)) = axes.next() else {
            return axes.next().is_none().then_some(Self { len: 1, pitch: 1 });
        };
        let Some((rows, pitch)) = axes.next() else {
            return Some(Self { len, pitch: len });
        };
        let mut expected = pitch * rows as isize;
        let even = axes.all(|(len, stride)| {
            let fits = stride == expected;
            expected *= len as isize;
            fits
        });
        let pitch = usize::try_from(pitch).ok()?;
        (even && pitch >= len).then_some(Self { len, pitch })
    }

    pub fn is_dense(self) -> bool {
        self.len == self.pitch
    }
}

/// The axes of a tensor `[batch, channels, ...]` in the order in which they lie in memory, outermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Order(Vec<usize>);

impl Order {
    /// The order of a tensor's axes; that of the axes' numbers for a tensor that the kernels do not take as it is.
    pub fn of<B: Strided>(tensor: &FloatTensor<B>) -> Self {
        let shape = tensor.shape();
        let strides = B::strides(tensor);
        let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
        // Axes of length 1 stay where they are among their neighbours.
        axes.sort_by_key(|&axis| {
            std::cmp::Reverse(if shape[axis] == 1 { 0 } else { strides[axis] })
        });
        let rows = Rows::of(axes.iter().map(|&axis| (shape[axis], strides[axis])));
        if !rows.is_some_and(|rows| rows.is_dense() || B::TAKES_PITCH) {
            axes.sort();
        }
        Order(axes)
    }

    fn is_natural(&self) -> bool {
        self.0.is_sorted()
    }

    /// The tensor with its axes in this order, contiguous; or as it is, with its rows, where there are gaps behind those
    /// and the kernels take them.
    pub fn apply<B: Strided>(&self, tensor: FloatTensor<B>) -> (FloatTensor<B>, Option<Rows>) {
        let tensor = if self.is_natural() {
            tensor
        } else {
            B::float_permute(tensor, &self.0)
        };
        if B::TAKES_PITCH {
            let strides = B::strides(&tensor);
            let rows = Rows::of(tensor.shape().iter().copied().zip(strides));
            if let Some(rows) = rows.filter(|rows| !rows.is_dense()) {
                return (tensor, Some(rows));
            }
        }
        (B::contiguous(tensor), None)
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
        let outer = shape[..channel_axis].iter().product();
        let channels = shape[channel_axis];
        let inner: usize = shape[channel_axis + 1..].iter().product();
        // All values of a single channel lie side by side.
        let (outer, inner) = match channels {
            1 => (1, outer * inner),
            _ => (outer, inner),
        };
        Dims {
            outer,
            channels,
            inner,
        }
    }
}

/// How a tensor lies in memory: as `[outer, channels, inner]`.
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

/// Checks what the kernels rely on: `like_input` are of the input's shape and type, `per_channel` of one value a channel
/// in the type of the statistics.
///
/// # Panics
///
/// If they are not.
pub fn check<B: Backend>(
    input: &FloatTensor<B>,
    like_input: &[&FloatTensor<B>],
    per_channel: &[&FloatTensor<B>],
) {
    let (shape, dtype) = (input.shape(), input.dtype());
    assert!(
        shape.num_dims() >= 2,
        "batch norm takes an input of shape [batch, channels, ...], found {shape:?}"
    );
    for tensor in like_input {
        let found = (tensor.shape(), tensor.dtype());
        assert!(
            found == (shape.clone(), dtype),
            "batch norm takes a gradient like its input: {shape:?} of {dtype:?}, found {:?} of {:?}",
            found.0,
            found.1
        );
    }
    let (channels, dtype) = (shape[1], at_least_f32(dtype));
    for tensor in per_channel {
        let found = (tensor.shape(), tensor.dtype());
        assert!(
            found == ([channels].into(), dtype),
            "batch norm takes parameters and statistics of one value a channel: [{channels}] of {dtype:?}, \
             found {:?} of {:?}",
            found.0,
            found.1
        );
    }
}
