//! What a network answers: on test images, on the digits that the page shows, on a digit that was drawn.

use burn::data::dataloader::batcher::Batcher;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation::softmax};
use burn_kindling::norm::Mode;

use super::action::TestSetting;
use super::config::within;
use super::frame::{Answer, Picture, UnitsFrame, base64};
use super::text::Text;
use crate::data::{DigitBatch, DigitBatcher, ImageSet, Loader, MEAN, STD, normalise};
use crate::model::{Mlp, Norm};
use crate::train::{Score, StepOutput};

/// Test images that every network is scored on.
const SCORED: usize = 1000;
/// Digits that the page shows.
const SHOWN: usize = 36;
/// The most batches for the panel "at test time".
const BATCHES: usize = 100;
/// Rows and columns of a map of units.
const MAP: [usize; 2] = [32, 64];

/// The test images, on the device without autodiff.
pub(super) struct Evaluation {
    device: Device,
    test: ImageSet,
    scored: DigitBatch,
    shown: Tensor<3>,
    pub pictures: Vec<Picture>,
    setting: TestSetting,
    panel: Vec<DigitBatch>,
}

impl Evaluation {
    pub fn new(test: &ImageSet, device: Device) -> Self {
        let shown: Vec<usize> = (0..SHOWN.min(test.len())).collect();
        let picture = |&i: &usize| Picture {
            pixels: base64(test.image(i)),
            label: test.label(i),
        };
        let mut evaluation = Self {
            scored: Loader::first_batch(test, SCORED, &device),
            shown: normalise(shown.iter().map(|&i| test.image(i)), &device),
            pictures: shown.iter().map(picture).collect(),
            test: test.clone(),
            setting: TestSetting::default(),
            panel: Vec::new(),
            device,
        };
        evaluation.panel = evaluation.batches();
        evaluation
    }

    pub fn setting(&self) -> &TestSetting {
        &self.setting
    }

    /// Chooses how the panel evaluates.
    pub fn set(&mut self, setting: TestSetting) -> Result<(), Text> {
        within("batch", setting.batch, 1..=1000)?;
        within(
            "the number of classes",
            setting.classes.len(),
            1..=ImageSet::CLASSES,
        )?;
        for class in &setting.classes {
            within("class", *class, 0..=ImageSet::CLASSES - 1)?;
        }
        let before = std::mem::replace(&mut self.setting, setting);
        let batches = self.batches();
        if self.chosen().is_empty() {
            self.setting = before;
            return Err(Text::new(
                "the test images hold none of these digits",
                "시험 이미지에 이 숫자들이 없습니다",
            ));
        }
        self.panel = batches;
        Ok(())
    }

    /// The scored images of the panel's classes.
    fn chosen(&self) -> Vec<usize> {
        let of_class = |&i: &usize| {
            self.setting
                .classes
                .contains(&usize::from(self.test.label(i)))
        };
        let [scored] = self.scored.targets.dims();
        (0..scored).filter(of_class).collect()
    }

    /// The batches of the panel with their own statistics. A batch of one image is two copies of it: a single value has
    /// no variance.
    fn batches(&self) -> Vec<DigitBatch> {
        let (images, size) = (self.chosen(), self.setting.batch);
        // A last batch that is smaller would be another experiment.
        let whole = |chunk: &&[usize]| chunk.len() == size || images.len() < size;
        let batch = |chunk: &[usize]| {
            let copies = if chunk.len() == 1 { 2 } else { 1 };
            let digits = (0..copies).flat_map(|_| chunk.iter().map(|&i| self.test.digit(i)));
            DigitBatcher.batch(digits.collect(), &self.device)
        };
        images
            .chunks(size)
            .filter(whole)
            .take(BATCHES)
            .map(batch)
            .collect()
    }

    /// Loss and accuracy on the scored images, and the accuracy of the panel. `model` is in inference mode.
    pub fn score(&self, model: &Mlp) -> (Score, f64) {
        let output = forward(model, &self.scored);
        let answers = output.logits.clone().argmax(1).into_data();
        let answers: Vec<i64> = answers.iter().collect();
        let accuracy = |images: &[usize]| {
            let right = images
                .iter()
                .filter(|&&i| answers[i] == i64::from(self.test.label(i)));
            right.count() as f64 / images.len() as f64
        };
        let all: Vec<usize> = (0..answers.len()).collect();
        let score = Score {
            loss: output.loss.into_scalar::<f64>(),
            accuracy: accuracy(&all),
        };
        let panel = match self.setting.own {
            true => self.panel(model),
            false => accuracy(&self.chosen()),
        };
        (score, panel)
    }

    /// Accuracy of the panel, with the statistics of its batches.
    fn panel(&self, model: &Mlp) -> f64 {
        let (mut right, mut count) = (0, 0);
        for batch in &self.panel {
            right += self.with_statistics(model, |model| forward(model, batch).right());
            count += batch.targets.dims()[0];
        }
        right as f64 / count as f64
    }

    /// The answers to the shown digits, with the statistics of the panel.
    pub fn answers(&self, model: &Mlp) -> Vec<Answer> {
        let [count, ..] = self.shown.dims();
        let size = if self.setting.own {
            self.setting.batch
        } else {
            count
        };
        let mut answers = Vec::new();
        for start in (0..count).step_by(size) {
            let end = count.min(start + size);
            let images = self.shown.clone().narrow(0, start, end - start);
            let images = match self.setting.own && end == start + 1 {
                true => Tensor::cat(vec![images.clone(), images], 0),
                false => images,
            };
            let all = self.with_statistics(model, |model| probabilities(model, images));
            let answer = |row: &[f32]| {
                let (answer, p) = best(row);
                Answer {
                    answer,
                    p: f64::from(p).into(),
                }
            };
            answers.extend(all.chunks(ImageSet::CLASSES).take(end - start).map(answer));
        }
        answers
    }

    /// Calls `f` in the mode of the panel.
    fn with_statistics<T: Send>(&self, model: &Mlp, f: impl FnOnce(&Mlp) -> T + Send) -> T {
        if !self.setting.own {
            return f(model);
        }
        // Burn's own layer has no such mode.
        let mut model = model.clone();
        for block in &mut model.hidden {
            block.norm = block
                .norm
                .take()
                .map(|norm| Norm::Batch(norm.into_batch_norm()));
        }
        Mode::TestTimeAdaptation.run(|| f(&model))
    }

    /// The outputs of a hidden layer for some of the shown digits, as bytes.
    pub fn units(&self, model: &Mlp, layer: usize) -> Option<UnitsFrame> {
        let mut found = None;
        let rows = MAP[0].min(self.shown.dims()[0]);
        let images = self.shown.clone().narrow(0, 0, rows);
        model.features_through(
            images.flatten(1, 2),
            |_| (),
            |number, _, output| {
                if number == layer {
                    found = Some(output.clone());
                }
                output
            },
        );
        let output = found?;
        let columns = MAP[1].min(output.dims()[1]);
        let values: Vec<f32> = output
            .slice([0..rows, 0..columns])
            .into_data()
            .iter::<f32>()
            .collect();
        let finite = || values.iter().copied().filter(|it| it.is_finite());
        let low = finite().fold(f32::INFINITY, f32::min);
        let high = finite().fold(f32::NEG_INFINITY, f32::max);
        let width = if high > low { high - low } else { 1.0 };
        let bytes: Vec<u8> = values
            .iter()
            .map(|it| (255.0 * (it - low) / width) as u8)
            .collect();
        Some(UnitsFrame {
            layer,
            rows,
            columns,
            values: base64(&bytes),
            range: [low, high].map(|it| f64::from(it).into()),
        })
    }

    /// The probabilities that a network gives the classes of an image of 784 pixels from 0 to 1.
    pub fn read(&self, model: &Mlp, pixels: &[f32]) -> Vec<f32> {
        let side = ImageSet::SIDE;
        let values: Vec<f32> = pixels.iter().map(|pixel| (pixel - MEAN) / STD).collect();
        let image = Tensor::from_data(TensorData::new(values, [1, side, side]), &self.device);
        probabilities(&model.valid(), image)
    }
}

fn forward(model: &Mlp, batch: &DigitBatch) -> StepOutput {
    let logits = model.forward(batch.images.clone().flatten(1, 2));
    StepOutput::of(logits, batch.targets.clone())
}

fn probabilities(model: &Mlp, images: Tensor<3>) -> Vec<f32> {
    let logits = model.forward(images.flatten(1, 2));
    softmax(logits, 1).into_data().iter::<f32>().collect()
}

/// The class of the largest probability, and the probability.
pub(super) fn best(probabilities: &[f32]) -> (usize, f32) {
    let all = probabilities.iter().copied().enumerate();
    // Among equals, the first, as argmax has it.
    all.fold((0, f32::NEG_INFINITY), |best, it| {
        if it.1 > best.1 { it } else { best }
    })
}
