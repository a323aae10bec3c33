use burn::data::dataloader::batcher::Batcher;
use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

use super::{Digit, ImageSet};

/// The mean of MNIST's training pixels, after division by 255.
pub const MEAN: f32 = 0.1307;

/// The standard deviation of MNIST's training pixels, after division by 255.
pub const STD: f32 = 0.3081;

/// The normalised value of each of the 256 pixel values.
const NORMALISED: [f32; 256] = {
    let mut table = [0.0; 256];
    let mut pixel = 0;
    while pixel < 256 {
        table[pixel] = (pixel as f32 / 255.0 - MEAN) / STD;
        pixel += 1;
    }
    table
};

/// Images and their labels, on a device.
#[derive(Clone, Debug)]
pub struct DigitBatch {
    /// The images, normalised by [`normalise`]: `[batch, 28, 28]`.
    pub images: Tensor<3>,
    /// The labels, 0 to 9: `[batch]`.
    pub targets: Tensor<1, Int>,
}

/// Turns images of 784 bytes into a network's input, `[batch, 28, 28]`: each pixel `p` becomes
/// `(p / 255 - MEAN) / STD`.
///
/// [`MEAN`] and [`STD`] are MNIST's for every data set, so that a trained network takes the same input from all of
/// them.
///
/// # Panics
///
/// If an image does not have 784 bytes.
pub fn normalise<'a>(
    images: impl ExactSizeIterator<Item = &'a [u8]>,
    device: &Device,
) -> Tensor<3> {
    let side = ImageSet::SIDE;
    let shape = [images.len(), side, side];
    Tensor::from_data(TensorData::new(floats(images), shape), device)
}

fn floats<'a>(images: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<f32> {
    // Images of a shuffled batch are scattered in memory. Copying them first fetches each in one go; looking up the
    // pixels directly would wait for one cache line after the other.
    let mut pixels = Vec::with_capacity(images.len() * ImageSet::PIXELS);
    for image in images {
        pixels.extend_from_slice(image);
    }
    pixels
        .into_iter()
        .map(|pixel| NORMALISED[usize::from(pixel)])
        .collect()
}

/// A batch in host memory, which another thread can prepare.
pub(super) struct HostBatch {
    pixels: Vec<f32>,
    labels: Vec<i64>,
}

impl HostBatch {
    /// Gathers images of a set, in the order of `indices`.
    pub fn gather(set: &ImageSet, indices: &[usize]) -> Self {
        Self {
            pixels: floats(indices.iter().map(|&i| set.image(i))),
            labels: indices.iter().map(|&i| set.label(i).into()).collect(),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn into_batch(self, device: &Device, dtype: FloatDType) -> DigitBatch {
        let (len, side) = (self.len(), ImageSet::SIDE);
        let images = TensorData::new(self.pixels, [len, side, side]);
        DigitBatch {
            images: Tensor::from_data(images, (device, DType::from(dtype))),
            targets: Tensor::from_data(TensorData::new(self.labels, [len]), device),
        }
    }
}

/// Makes a [`DigitBatch`] from single [`Digit`]s, for Burn's own data loaders.
///
/// [`Loader`](super::Loader) makes the same batches without copying each image first.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigitBatcher;

impl Batcher<Digit, DigitBatch> for DigitBatcher {
    fn batch(&self, items: Vec<Digit>, device: &Device) -> DigitBatch {
        HostBatch {
            pixels: floats(items.iter().map(|it| it.pixels.as_slice())),
            labels: items.iter().map(|it| it.label.into()).collect(),
        }
        .into_batch(device, FloatDType::F32)
    }
}
