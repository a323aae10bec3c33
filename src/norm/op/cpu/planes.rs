//! Ways over the images of a tensor `[batch, channels, height, width]` that is pooled.

use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;

use super::blocks::{
    self, Blocks, GradientAndInput, Input, Line, RealOf, Source, Summand, Target, in_blocks,
    in_covering_blocks, opaque,
};
use super::channels::PerChannel;
use super::gate::{Chosen, Gate, Relu};
use super::parallel::share;
use super::pooling::{self, Pooler};
use super::quads::{Quads, is_of_quads};
use super::regions::{Image, Region};
use super::traversal::{LANES, SUM_LANES, Sums, block};
use super::value::Value;
use crate::norm::op::{Pooling, TailActivation};

/// What becomes of the images.
#[derive(Clone, Copy)]
pub(super) struct Pooled<'a, R> {
    /// The forward pass of each channel.
    pub forward: &'a PerChannel<R>,
    pub activation: TailActivation,
    pub pooling: Pooling,
}

impl Region<'_> {
    /// Normalises each value, applies the activation, and pools. `source` is the input, or input and residual.
    ///
    /// # Safety
    ///
    /// - Each tensor of `source` has `self.dims.len()` values, images of the pooling's shape; its memory is valid for
    ///   reading.
    /// - `target` has a value for each output of each image, and its memory is valid for writing.
    /// - `self.channels` are channels of the tensor.
    /// - The tensors of `source` do not overlap `target`.
    /// - Nobody else reads or writes the region's outputs meanwhile, or writes to its values.
    pub unsafe fn map_pooled<S: Source>(
        &self,
        source: S,
        target: Target<S::Value>,
        pooled: Pooled<RealOf<S>>,
    ) {
        debug_assert!(self.channels.end <= self.part.dims.channels);
        debug_assert_eq!(
            self.part.dims.inner,
            pooled.pooling.input.iter().product::<usize>()
        );
        share(0..self.pieces, |piece| {
            Arch::new().dispatch(MapImages {
                region: self,
                source,
                target,
                pooled,
                images: self.images_of_piece(piece),
            });
        });
    }

    /// The sums of each channel, where `u` is the gradient of the activation's input, which is also written to
    /// `gated`. `source` and `pooled` are those of the forward pass.
    ///
    /// # Safety
    ///
    /// - Each tensor of `source`, `input` and `gated` has `self.dims.len()` values, images of the pooling's shape.
    ///   `gradient` has a value for each output of each image. Their memory is valid for reading and, for `gated`, for
    ///   writing.
    /// - `self.channels` are channels of the tensor.
    /// - No other tensor overlaps `gated`.
    /// - Nobody else reads or writes the region's values meanwhile.
    pub unsafe fn pooled_sums<S: Source>(
        &self,
        source: S,
        tensors: PooledBackward<S::Value>,
        pooled: Pooled<RealOf<S>>,
    ) -> Vec<Sums> {
        debug_assert!(self.channels.end <= self.part.dims.channels);
        debug_assert_eq!(
            self.part.dims.inner,
            pooled.pooling.input.iter().product::<usize>()
        );
        let mut pieces = vec![Vec::new(); self.pieces];
        share(pieces.iter_mut().enumerate(), |(piece, sums)| {
            *sums = Arch::new().dispatch(SumImages {
                region: self,
                source,
                tensors,
                pooled,
                images: self.images_of_piece(piece),
            });
        });
        let mut of_channels = vec![[0.0; 2]; self.channels.len()];
        for (index, [u, ud]) in pieces.into_iter().flatten().enumerate() {
            let sums = &mut of_channels[index % self.channels.len()];
            sums[0] += u;
            sums[1] += ud;
        }
        of_channels
    }
}

/// The tensors of a backward pass through a pooling.
pub(super) struct PooledBackward<T> {
    /// The input of the normalisation.
    pub input: Input<T>,
    /// The gradient of the pooling's output.
    pub gradient: Input<T>,
    /// Where the gradient of the activation's input goes.
    pub gated: Target<T>,
}

impl<T> Clone for PooledBackward<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for PooledBackward<T> {}

/// Calls a function for a ReLU, which comes before most poolings, or for any other activation.
macro_rules! for_relu_or_other {
    ($activation:expr, |$gate:ident| $body:expr) => {
        if $activation == TailActivation::Relu {
            let $gate = Relu;
            $body
        } else {
            let $gate = Chosen::new($activation);
            $body
        }
    };
}

/// Calculates the values of an image before the pooling, rounded to the type of the tensor.
///
/// # Safety
///
/// The image's places are within each tensor of `source`; their memory is valid for reading, and nobody writes to them
/// meanwhile.
#[inline(always)]
unsafe fn values_before_pooling<S: Source, G: Gate<RealOf<S>>>(
    source: S,
    image: &Image,
    forward: &PerChannel<RealOf<S>>,
    gate: G,
    values: &mut [RealOf<S>],
) {
    in_blocks!(values.len(), LANES, usize::MAX, |at, count, L| {
        let forward = forward.copies::<L, _>(image.channel);
        let line = Line::of_forward(&forward);
        let step = opaque(L);
        for index in 0..count {
            let at = at + index * step;
            // SAFETY: by this function's conditions.
            let [u, d] = unsafe { source.read::<L>(image.start + at, &forward) };
            let block = S::Value::round(gate.activate_block(&line.of::<S>(&u, &d)));
            pooling::store(values, at, block);
        }
    });
}

/// Writes the gradient of the activation's input of an image to `gated`. `values` are those before the pooling,
/// `unpooled` is their gradient.
///
/// # Safety
///
/// The image's places are within `gated`; their memory is valid for writing, and nobody else reads or writes them
/// meanwhile.
#[inline(always)]
unsafe fn gate_image<T: Value, G: Gate<T::Real>>(
    gated: Target<T>,
    image: &Image,
    gate: G,
    [values, unpooled]: [&[T::Real]; 2],
) {
    in_covering_blocks!(values.len(), |at, L| {
        let (gradient, values) = (pooling::block(unpooled, at), pooling::block(values, at));
        let u: [_; L] = gate.let_block_through(&gradient, &values);
        // SAFETY: by this function's conditions.
        unsafe { gated.write(image.start + at, u) };
    });
}

/// The sums of an image of `len` values. `of_lanes` is memory for those of each lane. It must not be a local array,
/// which the compiler would take apart and put together again in pairs of a lane's two sums.
///
/// # Safety
///
/// The image's places are within each tensor of `source`; their memory is valid for reading, and nobody writes to them
/// meanwhile.
#[inline(always)]
unsafe fn sums_of_image<S: Summand>(
    source: S,
    image: &Image,
    len: usize,
    forward: &PerChannel<RealOf<S>>,
    of_lanes: &mut [[f64; SUM_LANES]],
) -> Sums {
    let [of_u, of_ud] = of_lanes else {
        unreachable!("there are two sums");
    };
    [*of_u, *of_ud] = [[0.0; SUM_LANES]; 2];
    in_blocks!(len, SUM_LANES, usize::MAX, |at, count, L| {
        let blocks = Blocks {
            start: image.start + at,
            stride: L,
            count,
            ahead: 0,
        };
        let sums = [block::<L>(of_u, 0), block::<L>(of_ud, 0)];
        let forward = forward.copies::<L, _>(image.channel);
        // SAFETY: by this function's conditions.
        unsafe { blocks::add_up(source, blocks, &forward, sums) };
    });
    [of_u.iter().sum(), of_ud.iter().sum()]
}

/// Maps some images of a region. A type and not a closure, so that all of it is inlined into the function that is
/// compiled for the machine's instruction set.
///
/// Made only by [`Region::map_pooled`], under its conditions.
struct MapImages<'a, S: Source> {
    region: &'a Region<'a>,
    source: S,
    target: Target<S::Value>,
    pooled: Pooled<'a, RealOf<S>>,
    images: Range<usize>,
}

impl<S: Source> WithSimd for MapImages<'_, S> {
    type Output = ();

    /// Last images first: those that were just added up are still in the cache.
    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) {
        let Pooled {
            forward,
            activation,
            pooling,
        } = self.pooled;
        let outputs = pooling.output.iter().product();
        let images = self.images.rev();
        let images = images.map(|index| self.region.image(index, outputs));
        if is_of_quads(&pooling) {
            for_relu_or_other!(activation, |gate| {
                for image in images {
                    let quads = Quads {
                        source: self.source,
                        forward,
                        gate,
                        image,
                        size: pooling.input,
                    };
                    // SAFETY: the image is one of the tensor's.
                    unsafe { quads.pool(self.target) };
                }
            });
            return;
        }
        let gate = Chosen::new(activation);
        let mut pooler = Pooler::new(pooling);
        let mut values = vec![RealOf::<S>::default(); self.region.part.dims.inner];
        for image in images {
            // SAFETY: the image is one of the tensor's.
            unsafe { values_before_pooling(self.source, &image, forward, gate, &mut values) };
            pooler.forward(&values, |first, outputs| {
                let start = image.output + first;
                in_covering_blocks!(outputs.len(), |at, L| {
                    let block: [_; L] = pooling::block(outputs, at);
                    // SAFETY: these are outputs of the image.
                    unsafe { self.target.write(start + at, block) };
                });
            });
        }
    }
}

/// Adds up some images of a region. A type for the same reason as [`MapImages`], and made only by
/// [`Region::pooled_sums`], under its conditions.
struct SumImages<'a, S: Source> {
    region: &'a Region<'a>,
    source: S,
    tensors: PooledBackward<S::Value>,
    pooled: Pooled<'a, RealOf<S>>,
    images: Range<usize>,
}

impl<S: Source> WithSimd for SumImages<'_, S> {
    type Output = Vec<Sums>;

    #[inline(always)]
    fn with_simd<I: Simd>(self, _: I) -> Vec<Sums> {
        let PooledBackward {
            input,
            gradient,
            gated,
        } = self.tensors;
        let Pooled {
            forward,
            activation,
            pooling,
        } = self.pooled;
        let len = self.region.part.dims.inner;
        let mut of_lanes = vec![[0.0; SUM_LANES]; 2];
        let mut sums = Vec::with_capacity(self.images.len());
        let sums_of = GradientAndInput {
            gradient: gated.as_input(),
            input,
        };
        let outputs = pooling.output.iter().product();
        let images = self.images.map(|index| self.region.image(index, outputs));
        let gate = Chosen::new(activation);
        let mut any = (!is_of_quads(&pooling)).then(|| {
            let [values, unpooled] = [(); 2].map(|()| vec![RealOf::<S>::default(); len]);
            (Pooler::new(pooling), values, unpooled)
        });
        for image in images {
            if let Some((pooler, values, unpooled)) = &mut any {
                // SAFETY: the image is one of the tensor's.
                unsafe { values_before_pooling(self.source, &image, forward, gate, values) };
                pooler.backward(values, unpooled, |first, gradients| {
                    let start = image.output + first;
                    in_covering_blocks!(gradients.len(), |at, L| {
                        // SAFETY: these are gradients of the image's output.
                        let block: [_; L] = unsafe { gradient.load(start + at) };
                        pooling::store(gradients, at, block);
                    });
                });
                // SAFETY: the image is one of the tensors'.
                unsafe { gate_image(gated, &image, gate, [values, unpooled]) };
            } else {
                for_relu_or_other!(activation, |gate| {
                    let quads = Quads {
                        source: self.source,
                        forward,
                        gate,
                        image,
                        size: pooling.input,
                    };
                    // SAFETY: the image is one of the tensors'.
                    unsafe { quads.unpool(gradient, gated) };
                });
            }
            // SAFETY: the image is one of the tensors'.
            sums.push(unsafe { sums_of_image(sums_of, &image, len, forward, &mut of_lanes) });
        }
        sums
    }
}
