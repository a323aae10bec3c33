//! Averaging the running statistics of several models.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use super::fields::CONTAINER;

/// Returns the model with the average of its running statistics and those of `others`.
///
/// The running mean becomes the mean of the models' means. The running variance becomes the mean of their variances
/// plus the variance of their means, as in a mixture. Use it for models with the same weights but separate statistics,
/// such as the workers of a training. The rest of the model stays as it is.
///
/// After averaging *weights* (stochastic weight averaging), use [`recalibrate`](super::recalibrate()): the layers
/// compute something new, which no average describes.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_kindling::norm::{BatchNormConfig, average_statistics};
///
/// let device = Device::flex();
/// let norm = |mean: f64| {
///     let mean = Tensor::<1>::full([1], mean, &device);
///     BatchNormConfig::new(1).init(&device).with_running(mean.clone(), mean.ones_like())
/// };
/// let merged = average_statistics(norm(0.0), &[norm(2.0)]);
/// assert_eq!(merged.running_mean.value().into_scalar::<f32>(), 1.0);
/// assert_eq!(merged.running_var.value().into_scalar::<f32>(), 2.0); // 1 + (1 + 1) / 2
/// ```
///
/// # Panics
///
/// Panics if a batch norm layer of the model is not in one of the others, or has another number of channels there.
pub fn average_statistics<M: Module>(model: M, others: &[M]) -> M {
    let mut models = vec![Survey::of(&model)];
    models.extend(others.iter().map(Survey::of));
    model.map(&mut Replace {
        place: Vec::new(),
        models,
    })
}

/// The running statistics of a model, by the names of the fields around them, the innermost last.
type Statistics = HashMap<Vec<String>, Vec<f64>>;

#[derive(Default)]
struct Survey {
    place: Vec<String>,
    found: Statistics,
    containers: Vec<bool>,
}

impl Survey {
    fn of<M: Module>(model: &M) -> Statistics {
        let mut survey = Self::default();
        model.visit(&mut survey);
        survey.found
    }
}

const MEAN: &str = "running_mean";
const VARIANCE: &str = "running_var";

impl ModuleVisitor for Survey {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.place.push(name.to_owned());
        self.containers.push(container == CONTAINER);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let is_statistic =
            matches!(self.place.last(), Some(name) if name == MEAN || name == VARIANCE);
        if is_statistic && self.containers.last() == Some(&true) {
            let values = param.val().into_data().iter::<f64>().collect();
            self.found.insert(self.place.clone(), values);
        }
    }
}

struct Replace {
    place: Vec<String>,
    models: Vec<Statistics>,
}

impl Replace {
    /// The values at this place in every model.
    ///
    /// # Panics
    ///
    /// If one has none, or another number of them.
    fn everywhere<'a>(&'a self, place: &[String]) -> Vec<&'a [f64]> {
        let channels = self.models[0][place].len();
        let of_model = |model: &'a Statistics| match model.get(place) {
            Some(values) if values.len() == channels => &values[..],
            _ => panic!(
                "average_statistics: the batch norm `{}` is not in all models, or has other channels there",
                place[..place.len() - 1].join(".")
            ),
        };
        self.models.iter().map(of_model).collect()
    }

    /// The new values at this place.
    fn values(&self) -> Option<Vec<f64>> {
        self.models[0].get(&self.place)?;
        let count = self.models.len() as f64;
        let average = |values: &[&[f64]]| -> Vec<f64> {
            let channels = 0..values[0].len();
            let sum = |channel: usize| values.iter().map(|of| of[channel]).sum::<f64>();
            channels.map(|channel| sum(channel) / count).collect()
        };
        let here = self.everywhere(&self.place);
        if self.place.last()? == MEAN {
            return Some(average(&here));
        }
        let mut place = self.place.clone();
        *place.last_mut()? = MEAN.into();
        let means = self.everywhere(&place);
        let of_means = average(&means);
        let mut variances = average(&here);
        for (channel, variance) in variances.iter_mut().enumerate() {
            let off = means
                .iter()
                .map(|of| (of[channel] - of_means[channel]).powi(2));
            *variance += off.sum::<f64>() / count;
        }
        Some(variances)
    }
}

impl ModuleMapper for Replace {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.place.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.place.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values() {
            None => param,
            Some(values) => param.map(|old| {
                let data = TensorData::new(values, old.shape());
                Tensor::from_data(data, (&old.device(), old.dtype()))
            }),
        }
    }
}
