//! Folding the batch norms of the lab's networks does not change their output.
#![cfg(feature = "flex")]

use burn::module::Module;
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::init::Activation;
use burn_kindling::record::Layout;
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};

/// A network of each kind, with running statistics from images that are not standardised.
fn trained(norm: Normalization, activation: Activation) -> Vec<(ModelConfig, Classifier)> {
    let device = Device::flex();
    let training = device.clone().autodiff();
    let images = Tensor::random([64, 12, 12], Distribution::Normal(0.5, 2.0), &training);
    [
        ModelConfig::Mlp(
            MlpConfig::new()
                .with_inputs(144)
                .with_hidden(vec![20, 15, 10])
                .with_activation(activation)
                .with_norm(norm),
        ),
        ModelConfig::Cnn(
            CnnConfig::new()
                .with_side(12)
                .with_channels([4, 6])
                .with_dense(16)
                .with_activation(activation)
                .with_norm(norm),
        ),
        ModelConfig::Resnet(
            ResnetConfig::new()
                .with_side(12)
                .with_channels(4)
                .with_activation(activation)
                .with_norm(norm),
        ),
    ]
    .into_iter()
    .map(|config| {
        let model = config.init(&training);
        for _ in 0..20 {
            model.forward(images.clone());
        }
        (config, model.valid())
    })
    .collect()
}

#[test]
fn a_folded_network_gives_the_same_logits() {
    let device = Device::flex();
    let images = Tensor::random([32, 12, 12], Distribution::Normal(0.0, 1.0), &device);
    for norm in Normalization::ALL {
        for (config, model) in trained(norm, Activation::Tanh) {
            let before = model.forward(images.clone());
            let fresh = config.init_with_seed(&device, 1).forward(images.clone());
            let size = before.clone().abs().max().into_scalar::<f32>();
            let folded = model.fold();
            let apart = |logits: Tensor<2>| {
                (logits - before.clone()).abs().max().into_scalar::<f32>() / size
            };
            let name = format!("{} {norm}", config.name());
            assert!(apart(folded.forward(images.clone())) < 1e-5, "{name}");
            assert!(apart(fresh) > 1e-2, "{name}: another network differs");
        }
    }
}

#[test]
fn a_folded_network_is_what_its_folded_configuration_describes() {
    let device = Device::flex();
    for norm in Normalization::ALL {
        for (config, model) in trained(norm, Activation::Relu) {
            let normed = model.num_params();
            let folded = model.fold();
            if norm == Normalization::None {
                assert_eq!(folded.num_params(), normed);
            } else {
                assert!(folded.num_params() < normed);
            }
            let config = config.folded();
            let record = folded.record(&config, Layout::Burn);
            Classifier::from_record(&config, &record, &device).unwrap();
        }
    }
}
