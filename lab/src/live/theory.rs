//! What the theory of wide layers predicts for a network before its first step.

use burn::tensor::Tensor;
use burn_kindling::init::MeanField;

use super::config::NetworkConfig;
use super::frame::TheoryFrame;
use crate::data::ImageSet;
use crate::model::Normalization;

/// What a batch of images gives the first layer.
pub(super) struct Input {
    /// Mean square of the pixels.
    second_moment: f64,
    /// Mean product of the pixels of two different images, divided by the second moment.
    correlation: f64,
}

impl Input {
    /// `images` are `[batch, 28, 28]`, at least two.
    pub fn of(images: Tensor<3>) -> Self {
        let [count, ..] = images.dims();
        let count = count as f64;
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        let square: f64 = values.iter().map(|it| f64::from(*it).powi(2)).sum();
        let mut sum = vec![0.0; ImageSet::PIXELS];
        for image in values.chunks(ImageSet::PIXELS) {
            for (sum, pixel) in sum.iter_mut().zip(image) {
                *sum += f64::from(*pixel);
            }
        }
        // The square of the sum of all images has every pair twice, and every image with itself.
        let pairs: f64 = sum.iter().map(|it| it * it).sum::<f64>() - square;
        Self {
            second_moment: square / values.len() as f64,
            correlation: (pairs / (count - 1.0) / square).clamp(-1.0, 1.0),
        }
    }

    /// Predicts the signal at every hidden layer; `None` from where it leaves the range of f32.
    pub fn propagate(&self, config: &NetworkConfig) -> Vec<Option<TheoryFrame>> {
        let mut q = self.second_moment;
        let mut d = q * (1.0 - self.correlation);
        let layer = |number| {
            let fan_in = if number == 0 {
                ImageSet::PIXELS
            } else {
                config.width
            };
            let weight_variance = fan_in as f64 * config.weight_std(fan_in).powi(2);
            (q, d) = (weight_variance * q, weight_variance * d);
            // Batch norm makes every unit's variance over the inputs 1 and its mean 0, whatever the weights; epsilon
            // counts where the variance is as small.
            if config.norm != Normalization::None {
                let variance = d / (d + 1e-5);
                (q, d) = (variance, variance);
            }
            if !(q.is_finite() && q < 1e36) {
                q = f64::NAN;
                return None;
            }
            let correlation = if q > 0.0 { 1.0 - d / q } else { 1.0 };
            let field = MeanField::new(config.activation, weight_variance.min(1e30));
            let predicted = field
                .propagate_pair(1, q, correlation.clamp(-1.0, 1.0))
                .remove(0);
            let (mean, std) = (predicted.signal.mean, predicted.signal.std);
            let frame = TheoryFrame {
                std: std.into(),
                between_inputs: predicted.spread.into(),
                pre_std: q.sqrt().into(),
                pre_between_inputs: d.sqrt().into(),
            };
            (q, d) = (mean * mean + std * std, predicted.spread.powi(2));
            Some(frame)
        };
        (0..config.depth).map(layer).collect()
    }
}
