//! Converts weights between this crate and PyTorch, both ways. fixtures/pytorch.py makes the fixtures and PyTorch's
//! results for them.
#![cfg(feature = "flex")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use burn::module::Module;
use burn::nn::LinearConfig;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use burn_kindling::init::Activation;
use burn_kindling::record::{Layout, Record};
use burn_kindling_lab::data::{Mnist, normalise};
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};
use burn_kindling_lab::train::evaluate;
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

static FIXTURES: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_slice(&fs::read(fixture("pytorch.json")).unwrap()).unwrap());

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap()],
    }
}

#[test]
fn networks_that_pytorch_trained_do_here_what_they_did_there() {
    let device = Device::flex();
    let test = Mnist::load(&Mnist::find(None).unwrap()).unwrap().test;
    for name in ["mlp", "cnn"] {
        let record = Record::open(fixture(&format!("pytorch_{name}.pt"))).unwrap();
        let said = &FIXTURES[name];
        let config: ModelConfig = serde_json::from_value(said["config"].clone()).unwrap();
        let model = Classifier::from_record(&config, &record, &device).unwrap();

        let images = (0..16).map(|i| test.image(i)).collect::<Vec<_>>();
        let logits = model.forward(normalise(images.into_iter(), &device));
        let logits = logits.into_data().try_to_vec::<f32>().unwrap();
        let expected = numbers(&said["logits"]);
        let size = expected.iter().fold(0f64, |max, x| max.max(x.abs()));
        assert_eq!(logits.len(), expected.len());
        for (found, expected) in logits.iter().zip(&expected) {
            let error = (f64::from(*found) - expected).abs() / size;
            assert!(error <= 1e-5, "{name}: {found} for {expected}");
        }
        let right = said["right"].as_u64().unwrap() as f64;
        let score = evaluate(&model, &test, &device);
        assert_eq!(score.accuracy, right / test.len() as f64, "{name}");
    }
}

#[test]
fn views_parameters_and_other_types_of_a_state_dict_are_read() {
    let device = Device::flex();
    for name in ["double", "half", "brain"] {
        let record = Record::open(fixture(&format!("pytorch_{name}.pt"))).unwrap();
        let linear = record.load(LinearConfig::new(3, 4).init(&device)).unwrap();
        let values = |tensor: Tensor<1>| -> Vec<f64> {
            let values = tensor.into_data().try_to_vec::<f32>().unwrap();
            values.into_iter().map(f64::from).collect()
        };
        let weight = linear.weight.val().transpose().flatten(0, 1);
        assert_eq!(values(weight), numbers(&FIXTURES[name]["weight"]), "{name}");
        let bias = linear.bias.unwrap().val();
        assert_eq!(values(bias), numbers(&FIXTURES[name]["bias"]), "{name}");
    }
}

#[test]
fn a_file_that_is_no_state_dict_is_told_what_to_write() {
    // A pickle of the number 1.
    let error = Record::from_bytes(b"\x80\x02K\x01.".to_vec()).unwrap_err();
    assert!(error.to_string().contains("model.state_dict()"), "{error}");
}

#[test]
#[ignore = "needs python with torch and safetensors; PYTHON names another than python3"]
fn pytorch_loads_our_files_and_gives_the_same_logits() {
    let device = Device::flex();
    let training = device.clone().autodiff();
    let scratch = tempfile::tempdir().unwrap();
    let python = std::env::var("PYTHON").unwrap_or("python3".into());
    for norm in Normalization::ALL {
        for activation in Activation::ALL {
            let mlp = MlpConfig::new()
                .with_inputs(144)
                .with_hidden(vec![20, 15])
                .with_activation(activation)
                .with_norm(norm);
            let cnn = CnnConfig::new()
                .with_side(12)
                .with_channels([4, 6])
                .with_dense(16)
                .with_activation(activation)
                .with_norm(norm);
            let resnet = ResnetConfig::new()
                .with_side(12)
                .with_channels(4)
                .with_activation(activation)
                .with_norm(norm);
            for config in [
                ModelConfig::Mlp(mlp),
                ModelConfig::Cnn(cnn),
                ModelConfig::Resnet(resnet),
            ] {
                let model = config.init(&training);
                let images = || Tensor::<3>::random([32, 12, 12], Distribution::Default, &training);
                model.forward(images());
                let model = model.valid();
                let images = images().inner();
                for (config, model) in [
                    (config.clone(), model.clone()),
                    (config.clone().folded(), model.fold()),
                ] {
                    for dtype in [FloatDType::F32, FloatDType::F16] {
                        let name = format!(
                            "{}-{norm}-{}-{activation}-{dtype:?}",
                            config.name(),
                            config.norm()
                        );
                        let file = scratch.path().join(format!("{name}.safetensors"));
                        let record = model.record(&config, Layout::PyTorch).cast(dtype).unwrap();
                        record.save(&file).unwrap();
                        let model = Classifier::from_record(&config, &record, &device).unwrap();
                        let images = images.clone();
                        let logits = model.forward(images.clone());
                        let said = json!({
                            "images": images.iter_dim(0).map(|image| rows(image.squeeze_dim(0))).collect::<Vec<_>>(),
                            "logits": rows(logits),
                        });
                        fs::write(file.with_extension("json"), said.to_string()).unwrap();
                    }
                }
            }
        }
    }
    let output = Command::new(python)
        .arg(fixture("pytorch.py"))
        .arg("check")
        .arg(scratch.path())
        .output()
        .unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn rows(tensor: Tensor<2>) -> Vec<Vec<f32>> {
    let row = |row: Tensor<2>| row.into_data().try_to_vec().unwrap();
    tensor.iter_dim(0).map(row).collect()
}
