//! What flows through a network in one step: captured in the pass, measured afterwards.

use burn::tensor::{FloatDType, Gradients, Tensor, TensorData, Transaction};
use burn_kindling::init::Activation;
use burn_kindling::observe::{self, Parameter, Report, Summary, Tap};
use rayon::prelude::*;

use super::frame::{Channel, GradientFrame, Histogram, LayerFrame, NormFrame};
use super::pass::{self, Counts, Magnitudes, Spread, Units, Values};
use crate::data::DigitBatch;
use crate::model::{Mlp, Norm};
use crate::train::StepOutput;

/// A pass under way.
pub(super) struct Capture {
    layers: Vec<Layer>,
    /// The weights before the step: of the hidden layers, then of the output.
    weights: Vec<Tensor<2>>,
}

struct Layer {
    activation: Activation,
    affine: Tensor<2>,
    output: Tensor<2>,
    tap: Option<Tap<2>>,
    gradient: Option<Tensor<2>>,
    /// Gamma and beta of the pass.
    learned: Option<[Tensor<1>; 2]>,
}

impl Capture {
    /// Computes what [`Classifier::forward_step`](crate::model::Classifier::forward_step) does, to the bit.
    pub fn forward(model: &Mlp, batch: DigitBatch) -> (StepOutput, Self) {
        let plain = |tensor: &Tensor<2>| tensor.clone().without_autodiff();
        let mut affine = Vec::new();
        let mut layers = Vec::new();
        let features = model.features_through(
            batch.images.flatten(1, 2),
            |values| affine.push(plain(values)),
            |_, activation, output| {
                let values = plain(&output);
                let (output, tap) = Tap::of(output);
                layers.push((activation, values, tap));
                output
            },
        );
        let logits = crate::model::Affine::forward(&model.output, features);
        let output = StepOutput::of(logits.cast(FloatDType::F32), batch.targets);
        let blocks = model.hidden.iter().zip(affine).zip(layers);
        let layers = blocks.map(|((block, affine), (activation, output, tap))| Layer {
            activation,
            affine,
            output,
            tap,
            gradient: None,
            learned: block.norm.as_ref().map(|norm| {
                let (gamma, beta) = match norm {
                    Norm::Batch(norm) => (&norm.gamma, &norm.beta),
                    Norm::Burn(norm) => (&norm.gamma, &norm.beta),
                };
                [gamma, beta].map(|param| param.val().without_autodiff())
            }),
        });
        let capture = Self {
            layers: layers.collect(),
            weights: weights(model),
        };
        (output, capture)
    }

    /// Adds the gradients.
    pub fn backward(&mut self, gradients: &Gradients) {
        for layer in &mut self.layers {
            layer.gradient = layer.tap.take().and_then(|tap| tap.gradient(gradients));
        }
    }

    /// Adds what `model` is afterwards: its running statistics and, after a step, its weights. Reads everything.
    pub fn finish(self, model: &Mlp, stepped: bool) -> Captured {
        let mut transaction = Transaction::default();
        let mut count = 0;
        let mut register = |tensor: Tensor<1>| {
            let now = std::mem::take(&mut transaction);
            transaction = now.register(tensor);
            count += 1;
            count - 1
        };
        let layers: Vec<_> = (self.layers.into_iter().zip(&model.hidden).enumerate())
            .map(|(number, (layer, block))| {
                let [_, units] = layer.output.dims();
                let mut matrix = |tensor: Tensor<2>| register(tensor.flatten(0, 1));
                let (affine, output) = (matrix(layer.affine), matrix(layer.output));
                let gradient = layer.gradient.map(&mut matrix);
                let norm = layer
                    .learned
                    .zip(block.norm.as_ref())
                    .map(|([gamma, beta], norm)| {
                        let (mean, variance, epsilon) = match norm {
                            Norm::Batch(it) => (&it.running_mean, &it.running_var, it.epsilon),
                            Norm::Burn(it) => (&it.running_mean, &it.running_var, it.epsilon),
                        };
                        let [mean, variance] =
                            [mean, variance].map(|it| it.value_sync().without_autodiff());
                        ([gamma, beta, mean, variance].map(&mut register), epsilon)
                    });
                Places {
                    name: format!("hidden.{number}"),
                    units,
                    activation: layer.activation,
                    affine,
                    output,
                    gradient,
                    norm,
                }
            })
            .collect();
        let shapes: Vec<_> = self.weights.iter().map(Tensor::dims).collect();
        let mut all = |weights: Vec<Tensor<2>>| -> Vec<usize> {
            weights
                .into_iter()
                .map(|it| register(it.flatten(0, 1)))
                .collect()
        };
        let before = all(self.weights);
        let after = stepped.then(|| all(weights(model)));
        Captured {
            layers,
            shapes,
            before,
            after,
            data: transaction.execute(),
        }
    }
}

fn weights(model: &Mlp) -> Vec<Tensor<2>> {
    let hidden = model.hidden.iter().map(|block| &block.affine);
    let all = hidden.chain([&model.output]);
    all.map(|it| it.weight.val().without_autodiff()).collect()
}

/// A captured pass, in the memory of the host.
pub(super) struct Captured {
    layers: Vec<Places>,
    shapes: Vec<[usize; 2]>,
    before: Vec<usize>,
    after: Option<Vec<usize>>,
    data: Vec<TensorData>,
}

/// Where the values of a layer are in the data.
struct Places {
    name: String,
    units: usize,
    activation: Activation,
    affine: usize,
    output: usize,
    gradient: Option<usize>,
    /// Gamma, beta, running mean and running variance; epsilon.
    norm: Option<([usize; 4], f64)>,
}

/// The statistics of a network in a step.
#[derive(Clone)]
pub(super) struct Seen {
    pub layers: Vec<LayerFrame>,
    /// For [`Report::diagnose`].
    pub report: Report,
}

impl Seen {
    /// Takes the updates of an earlier step, where this saw none.
    pub fn keep_updates(&mut self, before: &Self) {
        for (layer, before) in self.layers.iter_mut().zip(&before.layers) {
            layer.update = layer.update.or(before.update);
        }
        let parameters = self.report.parameters.iter_mut();
        for (parameter, before) in parameters.zip(&before.report.parameters) {
            parameter.update_rms = parameter.update_rms.or(before.update_rms);
        }
    }
}

impl Captured {
    /// Measures all layers, on all cores.
    pub fn measure(&self) -> Seen {
        let parameters: Vec<Parameter> = (0..self.before.len())
            .into_par_iter()
            .map(|layer| self.parameter(layer))
            .collect();
        let layers: Vec<(LayerFrame, observe::Layer)> = (self.layers.par_iter())
            .zip(&parameters)
            .map(|(places, weights)| self.layer(places, weights))
            .collect();
        let (layers, rows) = layers.into_iter().unzip();
        Seen {
            layers,
            report: Report {
                layers: rows,
                parameters,
            },
        }
    }

    fn numbers(&self, place: usize) -> &[f32] {
        self.data[place]
            .as_slice()
            .expect("the lab computes in f32")
    }

    fn parameter(&self, layer: usize) -> Parameter {
        let before = self.numbers(self.before[layer]);
        let after = self.after.as_ref().map(|after| self.numbers(after[layer]));
        let moved = pass::moved(before, after);
        Parameter {
            name: match layer < self.layers.len() {
                true => format!("hidden.{layer}.affine.weight"),
                false => "output.weight".into(),
            },
            shape: self.shapes[layer].into(),
            std: moved.std,
            rms: moved.rms,
            // There is one, of a size that is not measured.
            gradient_std: Some(f64::NAN),
            update_rms: moved.update_rms,
        }
    }

    fn layer(&self, places: &Places, weights: &Parameter) -> (LayerFrame, observe::Layer) {
        let of = |place| Values {
            units: places.units,
            values: self.numbers(place),
        };
        let (affine, output) = (of(places.affine), of(places.output));
        let input_units = Units::of(affine);
        let learned = places
            .norm
            .map(|(norm, epsilon)| (norm.map(|it| self.numbers(it)), epsilon));
        let normalised = learned.map(|([gamma, beta, ..], epsilon)| {
            pass::normalised(affine, &input_units, gamma, beta, epsilon)
        });
        let pre_units = learned.map(|([gamma, beta, ..], epsilon)| {
            pass::normalised_units(&input_units, gamma, beta, epsilon)
        });
        let pre = normalised.as_deref().unwrap_or(affine.values);
        let pre_spread = pre_units.as_ref().unwrap_or(&input_units).spread();
        let spread = Units::of(output).spread();
        let inactive = pass::inactive(output, places.activation);
        let gradient = places
            .gradient
            .map(|place| (of(place), pass::magnitudes(self.numbers(place))));

        let share = |count: usize| count as f64 / places.units as f64;
        let says_dead = places.activation == Activation::Relu || inactive.saturated.is_some();
        let update = weights.update_to_data().filter(|update| update.is_finite());
        let frame = LayerFrame {
            name: places.name.clone(),
            pre: histogram(pass::histogram(pre, pre_spread.std.hypot(pre_spread.mean))),
            gradient: gradient.as_ref().map(|(_, it)| gradient_frame(it)),
            pre_std: Some(pre_spread.std.into()),
            std: spread.std.into(),
            mean: spread.mean.into(),
            between_inputs: spread.between_inputs.into(),
            between_units: spread.between_units.into(),
            saturated: inactive.saturated.map(Into::into),
            dead: says_dead.then(|| share(inactive.dead).into()),
            copies: share(inactive.copies).into(),
            gradient_std: gradient.as_ref().map(|(_, it)| it.std.into()),
            update: update.map(Into::into),
            norm: learned.map(|(norm, _)| norm_frame(norm, &input_units, affine, pre_spread.std)),
        };
        let row = observe::Layer {
            name: places.name.clone(),
            shape: vec![output.values.len() / places.units, places.units],
            activation: Some(places.activation),
            data: summary(output, spread),
            gradient: gradient.map(|(values, it)| {
                let spread = Spread {
                    std: it.std,
                    ..spread_of_gradient()
                };
                summary(values, spread)
            }),
            units: places.units,
            saturated: inactive.saturated,
            dead: inactive.dead,
            duplicates: inactive.copies,
        };
        (frame, row)
    }
}

/// Of gradients, `diagnose` needs the std alone.
fn spread_of_gradient() -> Spread {
    Spread {
        mean: f64::NAN,
        std: f64::NAN,
        between_inputs: f64::NAN,
        between_units: f64::NAN,
    }
}

/// The part of a [`Summary`] that `diagnose` reads; the rest is NaN or empty.
fn summary(values: Values, spread: Spread) -> Summary {
    let [nan, infinite] = pass::not_finite(values.values, spread.std);
    Summary {
        count: values.values.len(),
        nan,
        infinite,
        mean: spread.mean,
        std: spread.std,
        spread: spread.between_inputs,
        min: f64::NAN,
        max: f64::NAN,
        zeros: f64::NAN,
        percentiles: Vec::new(),
        histogram: observe::Histogram {
            range: [f64::NAN; 2],
            counts: Vec::new(),
            below: 0,
            above: 0,
        },
    }
}

fn histogram(counts: Counts) -> Histogram {
    Histogram {
        range: counts.range.map(Into::into),
        counts: counts.counts,
        below: counts.below,
        above: counts.above,
    }
}

fn gradient_frame(magnitudes: &Magnitudes) -> GradientFrame {
    let counts = &magnitudes.counts;
    GradientFrame {
        log: counts.range,
        counts: counts.counts,
        zero: magnitudes.zero,
        below: counts.below,
        above: counts.above,
    }
}

fn norm_frame(norm: [&[f32]; 4], batch: &Units, input: Values, output_std: f64) -> NormFrame {
    let [gamma, beta, running_mean, running_var] = norm;
    let mean =
        |values: &[f32]| values.iter().map(|&it| f64::from(it)).sum::<f64>() / values.len() as f64;
    let span = |values: &[f32]| {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        [f64::from(least), mean(values), f64::from(largest)].map(Into::into)
    };
    // The running variance averages unbiased ones.
    let rows = (input.values.len() / input.units) as f64;
    let unbiased = |variance: f64| variance * rows / (rows - 1.0);
    NormFrame {
        input_std: batch.spread().std.into(),
        output_std: output_std.into(),
        batch_mean: pass::average(&batch.mean).into(),
        running_mean: mean(running_mean).into(),
        batch_var: unbiased(pass::average(&batch.variance)).into(),
        running_var: mean(running_var).into(),
        gamma: span(gamma),
        beta: span(beta),
        channel: Channel {
            batch_mean: batch.mean[0].into(),
            running_mean: f64::from(running_mean[0]).into(),
            batch_var: unbiased(batch.variance[0]).into(),
            running_var: f64::from(running_var[0]).into(),
            gamma: f64::from(gamma[0]).into(),
            beta: f64::from(beta[0]).into(),
        },
    }
}
