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

/// Takes words of four pixels apart, and normalises them, on a GPU: a quarter of the bytes goes there.
#[derive(Clone)]
pub(super) struct Unpacker {
    /// The bits before each pixel of a word.
    shifts: Tensor<2, Int>,
}

impl Unpacker {
    /// `None` if the device is not a GPU of this machine: a CPU reads what the host has written.
    pub fn for_gpu(device: &Device) -> Option<Self> {
        let device = device.clone().without_autodiff();
        match device.as_dispatch() {
            #[cfg(feature = "cube")]
            burn::backend::DispatchDevice::Cube(_) => Some(Self {
                shifts: Tensor::from_data([[0, 8, 16, 24]], (&device, DType::I32)),
            }),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }

    /// The images of a batch, `[batch, 28, 28]`.
    fn unpack(&self, words: Vec<i32>, shape: [usize; 3], dtype: FloatDType) -> Tensor<3> {
        let words = TensorData::new(words, [shape.iter().product::<usize>() / 4, 1]);
        let words = Tensor::<2, Int>::from_data(words, (&self.shifts.device(), DType::I32));
        let pixels = words
            .bitwise_right_shift(self.shifts.clone())
            .bitwise_and_scalar(255);
        let normalised = pixels.float() * (1.0 / (255.0 * STD)) - MEAN / STD;
        normalised.reshape(shape).cast(dtype)
    }
}

/// A batch in host memory, which another thread can prepare.
pub(super) struct HostBatch {
    pixels: Pixels,
    labels: Vec<i64>,
}

enum Pixels {
    Normalised(Vec<f32>),
    /// Four to a word, the first in the lowest bits.
    Words(Vec<i32>),
}

impl HostBatch {
    /// Gathers images of a set, in the order of `indices`; `packed` for an [`Unpacker`].
    pub fn gather(set: &ImageSet, indices: &[usize], packed: bool) -> Self {
        let images = indices.iter().map(|&i| set.image(i));
        Self {
            pixels: match packed {
                true => Pixels::Words(
                    images
                        .flat_map(|image| image.as_chunks::<4>().0)
                        .map(|four| i32::from_le_bytes(*four))
                        .collect(),
                ),
                false => Pixels::Normalised(floats(images)),
            },
            labels: indices.iter().map(|&i| set.label(i).into()).collect(),
        }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Brings the batch to the device. Words are taken apart by the device's `unpacker`.
    pub fn into_batch(
        self,
        device: &Device,
        dtype: FloatDType,
        unpacker: Option<&Unpacker>,
    ) -> DigitBatch {
        let (len, side) = (self.len(), ImageSet::SIDE);
        let shape = [len, side, side];
        let images = match self.pixels {
            Pixels::Normalised(pixels) => {
                let images = TensorData::new(pixels, shape);
                Tensor::from_data(images, (device, DType::from(dtype)))
            }
            Pixels::Words(words) => {
                let unpacker = unpacker.expect("words are made for an unpacker");
                let images = unpacker.unpack(words, shape, dtype);
                match device.is_autodiff() {
                    true => Tensor::from_inner(images),
                    false => images,
                }
            }
        };
        DigitBatch {
            images,
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
            pixels: Pixels::Normalised(floats(items.iter().map(|it| it.pixels.as_slice()))),
            labels: items.iter().map(|it| it.label.into()).collect(),
        }
        .into_batch(device, FloatDType::F32, None)
    }
}
