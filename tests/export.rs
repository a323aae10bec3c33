//! Runs the export example, and the predict example on its files.
#![cfg(feature = "flex")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use burn_kindling::record::{Layout, Record};
use burn_kindling_lab::model::{Classifier, MlpConfig, ModelConfig};
use common::{example, small_data};

fn run(name: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    let mut command = example(name);
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The message of a command that failed with this exit code. Progress may come before it.
fn failure(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let mut lines = said.lines().skip_while(|line| !line.starts_with("error: "));
    let message = lines.by_ref().collect::<Vec<_>>().join("\n");
    assert!(!message.is_empty(), "{said}");
    message
}

#[test]
fn a_run_goes_out_in_every_form_and_predicts_as_before() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    for (name, flags) in [
        ("mlp", &["--hidden", "30,20"][..]),
        ("cnn", &["--model", "cnn", "--norm", "burn"]),
        ("resnet", &["--model", "resnet", "--width", "4"]),
    ] {
        let folder = scratch.path().join(name);
        let output = example("mnist")
            .args(["--epochs", "1", "--batch-size", "64"])
            .args(flags)
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&folder)
            .output()
            .unwrap();
        said(&output);
        let predict = |from: &Path| {
            said(&run(
                "predict",
                &[&from, &"--index", &"0", &"--data", &data],
            ))
        };
        let expected = predict(&folder);

        let mut sizes = Vec::new();
        for flags in [
            &[][..],
            &["--fold"],
            &["--dtype", "f16"],
            &["--fold", "--dtype", "f16"],
        ] {
            for extension in ["bpk", "safetensors"] {
                let file = scratch
                    .path()
                    .join(format!("{name}{}.{extension}", flags.join("")));
                let mut command = example("export");
                let report = said(
                    &command
                        .arg(&folder)
                        .arg(&file)
                        .args(flags)
                        .output()
                        .unwrap(),
                );
                assert!(report.contains(name), "{report}");
                assert_eq!(
                    report.contains("norm none"),
                    flags.contains(&"--fold"),
                    "{report}"
                );
                let found = predict(&file);
                match flags {
                    [] => assert_eq!(found, expected),
                    // The last digits of the percentages may change.
                    _ => assert_eq!(
                        found[found.len() - 40..].split(' ').nth(1),
                        expected[expected.len() - 40..].split(' ').nth(1)
                    ),
                }
                sizes.push(fs::metadata(&file).unwrap().len());
                // An exported file can be exported again.
                let again = scratch.path().join("again.bpk");
                said(&run("export", &[&file, &again, &"--force"]));
                predict(&again);
            }
        }
        let [bpk, safetensors, .., half_bpk, half] = sizes[..] else {
            panic!("eight files were written")
        };
        assert!(
            half_bpk * 10 < bpk * 6 && half * 10 < safetensors * 6,
            "{sizes:?}"
        );
    }
}

#[test]
fn a_pytorch_file_takes_its_configuration_from_beside_it() {
    let scratch = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let file = scratch.path().join("theirs.pt");
    fs::copy(fixtures.join("pytorch_cnn.pt"), &file).unwrap();
    let predict = || run("predict", &[&file, &"--index", &"0"]);
    let error = failure(&predict(), 1);
    assert!(
        error.contains("theirs.pt") && error.contains("configuration"),
        "{error}"
    );

    let text = fs::read_to_string(fixtures.join("pytorch.json")).unwrap();
    let said_there: serde_json::Value = serde_json::from_str(&text).unwrap();
    fs::write(
        scratch.path().join("config.json"),
        said_there["cnn"]["config"].to_string(),
    )
    .unwrap();
    assert!(said(&predict()).contains("it shows a 7"));

    // The record of another network than the one in the configuration.
    fs::write(
        scratch.path().join("config.json"),
        said_there["mlp"]["config"].to_string(),
    )
    .unwrap();
    let error = failure(&predict(), 1);
    assert!(
        error.contains("hidden.0.affine.weight") && error.contains("convolutions"),
        "{error}"
    );
}

/// A safetensors file of a fixture's network, with `value` as the fourth running variance.
fn with_variance(folder: &Path, value: f32) -> std::path::PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = fs::read_to_string(fixtures.join("pytorch.json")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config: ModelConfig = serde_json::from_value(said["cnn"]["config"].clone()).unwrap();
    let device = Device::flex();
    let record = Record::open(fixtures.join("pytorch_cnn.pt")).unwrap();
    let model = Classifier::from_record(&config, &record, &device).unwrap();
    let record = model.record(&config, Layout::PyTorch);
    let mut file = record.to_bytes().unwrap();

    let len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&file[8..8 + len]).unwrap();
    let tensor = &header["convolutions.0.norm.running_var"]["data_offsets"][0];
    let at = 8 + len + tensor.as_u64().unwrap() as usize + 3 * 4;
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let path = folder.join("patched.safetensors");
    fs::write(&path, file).unwrap();
    path
}

#[test]
fn a_negative_variance_gets_no_answer_and_no_export() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.safetensors");
    for value in [-2e-5, -1e-6] {
        let file = with_variance(scratch.path(), value);
        for output in [
            run("predict", &[&file, &"--index", &"0"]),
            run("export", &[&file, &out]),
            run("export", &[&file, &out, &"--fold"]),
        ] {
            let error = failure(&output, 1);
            assert!(error.contains("running_var[3]"), "{error}");
            assert!(output.stdout.is_empty());
        }
        assert!(!out.exists());
    }
}

#[test]
fn a_network_whose_logits_overflow_gets_no_answer() {
    let scratch = tempfile::tempdir().unwrap();
    let config = MlpConfig::new().with_hidden(vec![]);
    let device = Device::flex();
    let mut model = config.init(&device);
    model.output.weight = Param::from_tensor(Tensor::full([784, 10], 3e38, &device));
    let file = scratch.path().join("model.bpk");
    Classifier::Mlp(model)
        .record(&ModelConfig::Mlp(config), Layout::Burn)
        .save(&file)
        .unwrap();
    let output = run("predict", &[&file, &"--index", &"0"]);
    let error = failure(&output, 1);
    assert!(error.contains("model.bpk"), "{error}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("NaN"));
}

#[test]
fn a_part_of_a_pytorch_file_is_chosen_by_a_flag() {
    let scratch = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch");
    let config = ModelConfig::Mlp(
        MlpConfig::new()
            .with_inputs(4)
            .with_hidden(vec![3, 2])
            .with_classes(2),
    );
    let beside = scratch.path().join("config.json");
    fs::write(beside, serde_json::to_vec(&config).unwrap()).unwrap();
    let export = |name: &str, flags: &[&str]| {
        let file = scratch.path().join(name);
        fs::copy(fixtures.join(name), &file).unwrap();
        let out = file.with_extension("bpk");
        (
            example("export")
                .arg(&file)
                .arg(&out)
                .args(flags)
                .output()
                .unwrap(),
            out,
        )
    };
    let (output, plain) = export("plain.pt", &[]);
    said(&output);
    let (output, _) = export("own_key.pt", &[]);
    let error = failure(&output, 1);
    assert!(
        error.contains("`ema`") && error.contains("--under"),
        "{error}"
    );
    for (name, flags) in [
        ("own_key.pt", &["--under", "ema"][..]),
        ("key_state_dict.pt", &[]),
        ("prefix_module.pt", &[]),
    ] {
        let (output, out) = export(name, flags);
        said(&output);
        assert_eq!(fs::read(out).unwrap(), fs::read(&plain).unwrap(), "{name}");
    }
}

#[test]
fn what_cannot_be_exported_is_said_and_nothing_is_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pytorch_mlp.pt");
    let text = scratch.path().join("model.onnx");
    assert!(failure(&run("export", &[&fixture, &text]), 2).contains(".safetensors"));

    let taken = scratch.path().join("taken.bpk");
    fs::write(&taken, "years of work").unwrap();
    assert!(failure(&run("export", &[&fixture, &taken]), 1).contains("--force"));
    assert_eq!(fs::read(&taken).unwrap(), b"years of work");

    let nowhere = scratch.path().join("nowhere");
    let to = scratch.path().join("out.bpk");
    assert!(failure(&run("export", &[&nowhere, &to]), 1).contains("nowhere"));
    assert!(failure(&run("export", &[&scratch.path(), &to]), 1).contains("holds no run"));
    let missing = scratch.path().join("missing/out.bpk");
    let config = fixture.with_file_name("pytorch.json");
    let text = fs::read_to_string(config).unwrap();
    let said: serde_json::Value = serde_json::from_str(&text).unwrap();
    let beside = scratch.path().join("config.json");
    fs::write(beside, said["mlp"]["config"].to_string()).unwrap();
    let copy = scratch.path().join("copy.pt");
    fs::copy(&fixture, &copy).unwrap();
    let error = failure(&run("export", &[&copy, &missing]), 1);
    assert!(
        error.contains("out.bpk") && !error.contains(".writing"),
        "{error}"
    );
    assert!(!to.exists());
}
