use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;

use super::config::TrainConfig;
use crate::model::{Classifier, ModelConfig};
use crate::random::{generator, normal};
use burn_kindling::init::{Fan, InitStrategy};

/// Makes the network of a run before its first step, on `device`.
///
/// The weights are drawn on the host, in the order of the layers, and then copied to the device. So the same seed gives
/// bit-identical weights on every backend, although each of Burn's backends has its own random generator.
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

/// Draws the weights of a network in the order in which the module visits its parameters.
struct Draw {
    strategy: InitStrategy,
    scale: f64,
    random: StdRng,
}

impl ModuleMapper for Draw {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let fan_in = match D {
            // A bias, or a parameter of a normalisation: not random.
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
