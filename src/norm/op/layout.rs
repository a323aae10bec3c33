//! The memory layout of a tensor `[batch, channels, ...]`, for the backends with kernels.
//!
//! Kernels take any dense tensor without a copy, even if it is transposed or channels-last, and the output has the same
//! layout. If a backend's kernels allow it, they also take tensors with a pitch (rows with gaps between them). Only a
//! view with other gaps, or with repeated or reversed values, is copied first.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};

use crate::dtype::at_least_f32;

/// Access to the memory layout of a backend's tensors.
pub trait Strided: Backend {
    /// Whether kernels take tensors with a pitch: rows with gaps between them.
    const TAKES_PITCH: bool;

    /// The stride of each axis, in values.
    fn strides(tensor: &FloatTensor<Self>) -> Vec<isize>;

    /// The same tensor, copied if it is not contiguous.
    fn contiguous(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// The rows along the innermost axis that is longer than 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Values in a row.
    pub len: usize,
    /// Distance from the start of one row to the next, in values: more than `len` if there are gaps.
    pub pitch: usize,
}

impl Rows {
    /// Finds the rows, given the lengths and strides of the axes in memory order, outermost first. `None` if there are
    /// gaps anywhere but after each row.
    fn of(axes: impl DoubleEndedIterator<Item = (usize, isize)>) -> Option<Self> {
        // The stride of an axis of length 1 means nothing.
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

/// The axes of a tensor `[batch, channels, ...]` in memory order, outermost first.
#[derive(Clone, Debug, PartialEq)]
pub struct Order(Vec<usize>);

impl Order {
    /// The memory order of a tensor's axes. If the kernels need a copy of the tensor, the natural order 0, 1, 2, ...
    pub fn of<B: Strided>(tensor: &FloatTensor<B>) -> Self {
        let shape = tensor.shape();
        let strides = B::strides(tensor);
        let mut axes: Vec<usize> = (0..shape.num_dims()).collect();
        // An axis of length 1 has no meaningful stride; counting it as 0 makes it innermost.
        axes.sort_by_key(|&axis| {
            std::cmp::Reverse(if shape[axis] == 1 { 0 } else { strides[axis] })
        });
        // If the longer axes lie in their natural order, those of length 1 keep their places. Otherwise the output of
        // one channel has the stride of an innermost axis there, and Burn's fusion (0.22.1) adds the wrong values to
        // it.
        if axes.iter().filter(|&&axis| shape[axis] != 1).is_sorted() {
            axes.sort();
        }
        let rows = Rows::of(axes.iter().map(|&axis| (shape[axis], strides[axis])));
        if !rows.is_some_and(|rows| rows.is_dense() || B::TAKES_PITCH) {
            axes.sort();
        }
        Order(axes)
    }

    /// The order 0, 1, 2, ...
    #[cfg(feature = "cpu-kernels")]
    pub fn natural(axes: usize) -> Self {
        Order((0..axes).collect())
    }

    /// Whether the positions of a channel, along all axes but the channels', lie in their natural order.
    #[cfg(feature = "cpu-kernels")]
    pub fn keeps_positions(&self) -> bool {
        self.0.iter().filter(|&&axis| axis != 1).is_sorted()
    }

    /// Whether the batch is the outermost axis.
    #[cfg(feature = "cpu-kernels")]
    pub fn begins_with_the_batch(&self) -> bool {
        self.0.first() == Some(&0)
    }

    /// The memory order of images `[batch, channels, height, width]`: channels last, or else the natural one, for which
    /// others need a copy. An image of one pixel has its channels last.
    #[cfg(feature = "cube")]
    pub fn of_images<B: Strided>(tensor: &FloatTensor<B>) -> Self {
        const CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];
        let shape = tensor.shape();
        let order = Self::of::<B>(tensor);
        let long = |axes: &[usize]| -> Vec<usize> {
            let long = axes.iter().filter(|&&axis| shape[axis] != 1);
            long.copied().collect()
        };
        let found = long(&order.0);
        let is_natural = found.is_sorted() && shape[2] * shape[3] > 1;
        Order(match !is_natural && found == long(&CHANNELS_LAST) {
            true => CHANNELS_LAST.into(),
            false => vec![0, 1, 2, 3],
        })
    }

    /// The shape in this order of a tensor that has `natural` in the natural order.
    #[cfg(feature = "cube")]
    pub fn shape(&self, natural: &Shape) -> Shape {
        Shape::from(self.0.iter().map(|&axis| natural[axis]).collect::<Vec<_>>())
    }

    fn is_natural(&self) -> bool {
        self.0.is_sorted()
    }

    /// Permutes the axes of the tensor into this order and makes it contiguous. If the tensor has gaps after its rows
    /// and the kernels take them, returns it without a copy, together with its rows.
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

    /// Permutes the axes of the tensor back into their natural order.
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
        Dims::of(&shape, channel_axis)
    }
}

/// The shape of a tensor as `[outer, channels, inner]`, in memory order.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    pub outer: usize,
    pub channels: usize,
    pub inner: usize,
}

impl Dims {
    /// The shape of a dense tensor whose axes are in memory order.
    pub fn of(shape: &[usize], channel_axis: usize) -> Self {
        let outer = shape[..channel_axis].iter().product();
        let channels = shape[channel_axis];
        let inner: usize = shape[channel_axis + 1..].iter().product();
        // A single channel is one contiguous block.
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

    #[cfg(feature = "cube")]
    pub fn values_per_channel(self) -> usize {
        self.outer * self.inner
    }

    pub fn len(self) -> usize {
        self.outer * self.channels * self.inner
    }
}

/// Checks the kernels' requirements: tensors in `like_input` have the input's shape and type; tensors in `per_channel`
/// have one value per channel, in the type of the statistics.
///
/// # Panics
///
/// If a tensor does not meet these requirements.
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
        assert_like::<B>("residual or gradient", tensor, (&shape, dtype));
    }
    let (channels, dtype) = (shape[1], at_least_f32(dtype));
    for tensor in per_channel {
        let found = (tensor.shape(), tensor.dtype());
        assert!(
            found == ([channels].into(), dtype),
            "batch norm takes parameters and statistics with one value per channel: [{channels}] of {dtype:?}, \
             found {:?} of {:?}",
            found.0,
            found.1
        );
    }
}

/// Checks that statistics have a value for each channel of each of a number of equal parts of the batch.
///
/// # Panics
///
/// If a tensor has another shape or type, or the batch cannot be divided into `parts` equal parts.
#[cfg(feature = "cpu-kernels")]
pub fn check_statistics<B: Backend>(
    input: &FloatTensor<B>,
    statistics: &[&FloatTensor<B>],
    parts: usize,
) {
    let (shape, dtype) = (input.shape(), at_least_f32(input.dtype()));
    assert!(
        parts > 0 && shape[0].is_multiple_of(parts),
        "a batch of {} cannot have {parts} parts of equal size",
        shape[0]
    );
    let expected = Shape::new([parts * shape[1]]);
    for tensor in statistics {
        assert_like::<B>("statistic", tensor, (&expected, dtype));
    }
}

/// Checks that a gradient has the shape of its output and the type of the input.
///
/// # Panics
///
/// If the gradient has another shape or type.
pub fn check_gradient<B: Backend>(
    input: &FloatTensor<B>,
    gradient: &FloatTensor<B>,
    output: Shape,
) {
    assert_like::<B>("gradient", gradient, (&output, input.dtype()));
}

fn assert_like<B: Backend>(what: &str, tensor: &FloatTensor<B>, (shape, dtype): (&Shape, DType)) {
    assert!(
        tensor.shape() == *shape && tensor.dtype() == dtype,
        "batch norm takes a {what} of shape {shape:?} and type {dtype:?}, found {:?} and {:?}",
        tensor.shape(),
        tensor.dtype()
    );
}
