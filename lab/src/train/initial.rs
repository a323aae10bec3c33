use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;

use super::config::TrainConfig;
use crate::model::{Classifier, ModelConfig};
use crate::random::{generator, normal};
use burn_kindling::init::{Fan, InitStrategy};

/// The network of a run before its first step, on `device`.
///
/// Its weights are drawn on the host, in the order of the layers, and then laid on the device: Burn's backends each
/// have a random generator of their own, and this way the same seed gives the same weights, to the bit, on all of
/// them.
pub fn initial_model(config: &TrainConfig, device: &Device) -> Classifier {
    let scale = match &config.model {
        ModelConfig::Mlp(mlp) => mlp.weight_scale,
        ModelConfig::Cnn(_) => 1.0,
    };
    config.model.init(device).map(&mut Draw {
        strategy: config.model.strategy(),
        scale,
        random: generator(config.seed, 0),
    })
}

/// Draws the weights of a network, in the order in which a module names them.
struct Draw {
    strategy: InitStrategy,
    scale: f64,
    random: StdRng,
}

impl ModuleMapper for Draw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let fan_in = match D {
            // A bias, or of a normalisation: each the same everywhere.
            1 => return param,
            2 => Fan::linear(shape.dims()).fan_in,
            _ => Fan::conv(shape.dims::<D>(), 1).fan_in,
        };
        let std = self.scale * self.strategy.std(fan_in);
        let draw = || match self.strategy {
            InitStrategy::Zeros => 0.0,
            _ => (std * normal(&mut self.random)) as f32,
        };
        let values = std::iter::repeat_with(draw).take(shape.num_elements());
        let data = TensorData::new(values.collect::<Vec<f32>>(), shape);
        let device = param.lazy_device();
        let weights =
            device.memory_persistent_allocations(data, |data| Tensor::from_data(data, &device));
        Param::initialized(param.id, weights).set_require_grad(true)
    }
}
