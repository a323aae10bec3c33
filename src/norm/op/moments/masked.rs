//! Moments of the values that a mask marks.

use std::ops::Range;

use burn::backend::Dispatch;
use burn::tensor::{Bool, FloatDType, Tensor};

use super::{BatchMoments, BatchMomentsBackend, Positions, batch_moments};
use crate::norm::op::has_cpu_kernels;

/// Computes the mean and the biased variance of each channel over the values that `mask` marks. Gradients flow from
/// both to these values.
///
/// # Shapes
///
/// - `input`: `[batch, channels, ...]`
/// - `mask`: `[batch, ...]`, the input's without the channels. If it is true nowhere, the moments are 0, and `values`
///   is 0.
///
/// # Panics
///
/// Panics if `input` has fewer than 2 axes, or if the mask has another shape.
pub fn masked_batch_moments<const D: usize, const M: usize>(
    input: Tensor<D>,
    mask: Tensor<M, Bool>,
) -> BatchMoments {
    moments_where(input, Some(Mask::new(mask)))
}

/// [`masked_batch_moments`], or without a mask [`batch_moments`].
pub(in crate::norm) fn moments_where<const D: usize>(
    input: Tensor<D>,
    mask: Option<Mask>,
) -> BatchMoments {
    match mask {
        None => batch_moments(input),
        Some(mask) => mask.moments(input),
    }
}

/// A mask `[batch, ...]`, true where values count.
#[derive(Clone)]
pub(in crate::norm) struct Mask {
    /// `[batch, positions]`
    rows: Tensor<2, Bool>,
    dims: Vec<usize>,
}

impl Mask {
    pub(in crate::norm) fn new<const M: usize>(mask: Tensor<M, Bool>) -> Self {
        let dims = mask.dims();
        let positions = dims[1..].iter().product();
        Self {
            rows: mask.reshape([dims[0], positions]),
            dims: dims.to_vec(),
        }
    }

    /// That of some rows of the batch.
    pub(in crate::norm) fn rows(&self, range: Range<usize>) -> Self {
        let mut dims = self.dims.clone();
        dims[0] = range.len();
        Self {
            rows: self.rows.clone().narrow(0, range.start, range.len()),
            dims,
        }
    }

    pub(in crate::norm) fn without_autodiff(self) -> Self {
        Self {
            rows: self.rows.without_autodiff(),
            ..self
        }
    }
}

impl Mask {
    fn moments<const D: usize>(self, input: Tensor<D>) -> BatchMoments {
        let dims = input.dims();
        let others = (0..D).filter(|&axis| axis != 1);
        let expected: Vec<_> = others.map(|axis| dims[axis]).collect();
        assert!(
            self.dims == expected,
            "BatchNorm takes a mask of the input's shape without its channels: {expected:?}, but got {:?}.",
            self.dims
        );
        if input.shape().num_elements() == 0 {
            return batch_moments(input);
        }
        let positions = self.positions();
        let values = positions.count(0);
        if values == 0 {
            // Stays in the graph of the input: the backward pass of a group must reach this worker too.
            let zeros = input.mask_fill(self.marks(dims).bool_not(), 0.0);
            return BatchMoments {
                values: 0,
                ..batch_moments(zeros)
            };
        }
        if has_cpu_kernels(&input.device()) {
            let input = input.into_dispatch();
            let rows = <Dispatch as BatchMomentsBackend>::batch_norm_moments(input, positions);
            return BatchMoments::from_rows(Tensor::from_dispatch(rows), values);
        }
        self.in_tensor_operations(input, values)
    }

    /// Reads the mask.
    fn positions(&self) -> Positions {
        Positions::new(self.rows.clone().into_data().iter::<bool>())
    }

    /// The mask in the shape of the input.
    fn marks<const D: usize>(&self, dims: [usize; D]) -> Tensor<D, Bool> {
        let mut broadcast = dims;
        broadcast[1] = 1;
        self.rows.clone().reshape(broadcast).expand(dims)
    }

    /// The moments, on a backend whose operations take all positions.
    ///
    /// Values that do not count are replaced by a number near the mean, so that they add nothing to the sums of
    /// deviations from it.
    fn in_tensor_operations<const D: usize>(self, input: Tensor<D>, values: usize) -> BatchMoments {
        let dims = input.dims();
        let invalid = self.marks(dims).bool_not();
        let mut broadcast = [1; D];
        broadcast[1] = dims[1];
        let ratio = input.shape().num_elements() as f64 / (dims[1] * values) as f64;

        let zeroed = input.clone().detach().mask_fill(invalid.clone(), 0.0);
        let centre = batch_moments(zeroed).mean * ratio;
        // Of the input's type, as it is what the sums are about.
        let centre = centre.cast(FloatDType::from(input.dtype()));
        let filling = centre.clone().reshape(broadcast).expand(dims);
        let found = batch_moments(input.mask_where(invalid.clone(), filling));

        let centre = centre.cast(FloatDType::from(found.mean.dtype()));
        let off = (found.mean - centre.clone()) + found.mean_rest;
        let shift = off.clone() * ratio;
        let mean = centre.clone() + shift.clone();
        let mean_rest = (shift.clone() - (mean.clone() - centre)).detach();
        let squares = (found.variance + off.square()) * ratio;
        BatchMoments {
            mean,
            mean_rest,
            // The difference of two numbers that are equal up to rounding, where all values are.
            variance: (squares - shift.square()).clamp_min(0.0),
            values,
        }
    }
}
