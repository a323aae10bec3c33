//! Reads PyTorch weights in every form that people save. fixtures/pytorch.py makes the files in fixtures/pytorch.
#![cfg(feature = "flex")]

use std::fs;
use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_kindling::norm::{BatchNormConfig, RunningAverage};
use burn_kindling::record::{Layout, Record, RecordError};
use burn_kindling_lab::model::{Mlp, MlpConfig};
use burn_store::{
    BurnToPyTorchAdapter, ModuleSnapshot, PyTorchToBurnAdapter, PytorchStore, SafetensorsStore,
};

fn fixture(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
    folder.join(name)
}

fn network() -> Mlp {
    let config = MlpConfig::new().with_inputs(4).with_hidden(vec![3, 2]);
    config.with_classes(2).init(&Device::flex())
}

fn load(name: &str) -> Result<Mlp, RecordError> {
    Record::open(fixture(&format!("{name}.pt")))?.load(network())
}

fn values(model: &Mlp) -> Vec<u8> {
    Record::new(model, Layout::Burn).to_bytes().unwrap()
}

#[test]
fn wrapped_weights_are_the_plain_ones() {
    let plain = values(&load("plain").unwrap());
    for name in [
        "key_state_dict",
        "key_model",
        "key_model_state_dict",
        "prefix_module",
        "prefix_orig_mod",
        "prefix_both",
        "whole",
        "legacy",
        "legacy_key",
        "integers",
        "counter_f32",
        "counter_i32",
    ] {
        let model = load(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(values(&model), plain, "{name}");
        let bytes = fs::read(fixture(&format!("{name}.pt"))).unwrap();
        let model = Record::from_bytes(bytes).unwrap().load(network()).unwrap();
        assert_eq!(values(&model), plain, "{name}, from bytes");
    }
}

#[test]
fn a_part_is_chosen_by_name() {
    let plain = values(&load("plain").unwrap());
    let record = || Record::open(fixture("own_key.pt")).unwrap();
    let error = record().load(network()).unwrap_err().to_string();
    assert!(
        error.contains("`ema`, `generator`") && error.contains("--under"),
        "{error}"
    );
    let model = record().under("ema").unwrap().load(network()).unwrap();
    assert_eq!(values(&model), plain);
    let error = record().under("nothing").unwrap_err().to_string();
    assert!(error.contains("`generator`"), "{error}");

    let error = load("twice").unwrap_err().to_string();
    assert!(error.contains("`model`, `state_dict`"), "{error}");

    // An encoder in a larger network of this crate loads the same way.
    let record = Record::new(&network(), Layout::PyTorch);
    let weights = record.under("hidden.0").unwrap();
    assert!(weights.names().any(|name| name == "affine.weight"));
}

#[test]
fn a_prefix_in_a_safetensors_file_is_stripped() {
    #[derive(Module, Debug)]
    struct Wrapper {
        module: Mlp,
    }
    let model = load("plain").unwrap();
    let plain = values(&model);
    let record = Record::new(&Wrapper { module: model }, Layout::PyTorch);
    let record = Record::from_bytes(record.to_bytes().unwrap()).unwrap();
    assert!(record.names().all(|name| name.starts_with("module.")));
    assert_eq!(values(&record.load(network()).unwrap()), plain);
    let back = record.load(Wrapper { module: network() }).unwrap();
    assert_eq!(values(&back.module), plain, "a field of this name stays");
}

#[test]
fn a_parameter_of_integers_is_refused_by_name() {
    let error = load("integer_weight").unwrap_err();
    assert!(matches!(error, RecordError::NotFloat { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("output.bias") && error.contains("I64"),
        "{error}"
    );
}

#[test]
fn what_is_of_another_network_is_said_by_name_within_its_wrapper() {
    let record = Record::open(fixture("prefix_module.pt")).unwrap();
    let other = MlpConfig::new()
        .with_inputs(4)
        .with_hidden(vec![3, 2, 2])
        .with_classes(2);
    let error = record.load(other.init(&Device::flex())).unwrap_err();
    let RecordError::OtherNetwork { differences, .. } = error else {
        panic!("{error}")
    };
    assert!(
        differences
            .missing
            .contains(&"hidden.2.affine.weight".to_string())
    );
    assert!(differences.unexpected.is_empty(), "{differences}");
}

#[test]
fn the_number_of_batches_goes_both_ways() {
    let training = Device::flex().autodiff();
    let config = BatchNormConfig::new(3).with_average(RunningAverage::Cumulative);
    let record = Record::open(fixture("cumulative.pt")).unwrap();
    let norm = record.load(config.init(&training)).unwrap();

    let text = fs::read(fixture("cumulative.json")).unwrap();
    let after: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let row = |row: &serde_json::Value| -> Vec<f32> {
        let numbers = row.as_array().unwrap().iter();
        numbers
            .map(|number| number.as_f64().unwrap() as f32)
            .collect()
    };
    let batch = after["batch"].as_array().unwrap();
    let batch: Vec<f32> = batch.iter().flat_map(row).collect();
    let batch = Tensor::<1>::from_floats(&batch[..], &training).reshape([5, 3]);
    norm.forward(batch);
    for (found, expected) in [
        (&norm.running_mean, &after["mean"]),
        (&norm.running_var, &after["variance"]),
    ] {
        let found = found.value_sync().into_data().try_to_vec::<f32>().unwrap();
        for (found, expected) in found.iter().zip(row(expected)) {
            assert!(
                (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        }
    }

    let bytes = Record::new(&norm.valid(), Layout::PyTorch)
        .to_bytes()
        .unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let count = file.tensor("num_batches_tracked").unwrap();
    assert_eq!(count.data(), 4i64.to_le_bytes());
    assert!(
        file.tensor("running_weight").is_err(),
        "which load_state_dict(strict=True) refuses"
    );
    let back = Record::from_bytes(bytes).unwrap();
    let back = back.load(config.init(&Device::flex())).unwrap();
    assert_eq!(
        Record::new(&back, Layout::Burn).to_bytes().unwrap(),
        Record::new(&norm.valid(), Layout::Burn).to_bytes().unwrap()
    );
}

#[test]
fn a_debiased_average_takes_pytorchs_as_a_full_one() {
    // PyTorch's exponential average has weight 1 from the start, so a batch enters with weight 0.1.
    let training = Device::flex().autodiff();
    let config = BatchNormConfig::new(3).with_average(RunningAverage::DebiasedExponential);
    let record = Record::open(fixture("cumulative.pt")).unwrap();
    let norm = record.load(config.init(&training)).unwrap();
    let mean = || {
        let mean = norm.running_mean.value_sync();
        mean.into_data().try_to_vec::<f32>().unwrap()
    };
    let before = mean();
    norm.forward(Tensor::<2>::ones([4, 3], &training));
    for (after, before) in mean().iter().zip(before) {
        assert!((after - (0.9 * before + 0.1)).abs() < 1e-6);
    }
}

#[test]
fn burn_store_loads_and_saves_a_model_with_our_batch_norm() {
    let scratch = tempfile::tempdir().unwrap();
    let expected = load("plain").unwrap();
    let mut model = network();
    let mut store = PytorchStore::from_file(fixture("plain.pt"));
    let result = model.load_from(&mut store).unwrap();
    assert!(
        result.missing.is_empty() && result.errors.is_empty(),
        "{result}"
    );
    assert_eq!(values(&model), values(&expected));

    let path = scratch.path().join("model.safetensors");
    let mut store = SafetensorsStore::from_file(&path)
        .with_to_adapter(BurnToPyTorchAdapter)
        .skip_enum_variants(true);
    model.save_into(&mut store).unwrap();
    let mut back = network();
    let mut store = SafetensorsStore::from_file(&path)
        .with_from_adapter(PyTorchToBurnAdapter)
        .skip_enum_variants(true);
    back.load_from(&mut store).unwrap();
    assert_eq!(values(&back), values(&expected));
    let ours = Record::open(&path).unwrap().load(network()).unwrap();
    assert_eq!(values(&ours), values(&expected));
    // burn-store loads the files of this crate.
    let record = Record::new(&model, Layout::PyTorch);
    record.save(&path).unwrap();
    let mut back = network();
    let mut store = SafetensorsStore::from_file(&path)
        .with_from_adapter(PyTorchToBurnAdapter)
        .skip_enum_variants(true);
    back.load_from(&mut store).unwrap();
    assert_eq!(values(&back), values(&expected));
}
