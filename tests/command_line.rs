//! Runs the examples as a person does: exit codes, messages, and files left on disk.
#![cfg(feature = "flex")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use burn_kindling_lab::train::{Outcome, RunResult};
use common::{example, small_data};

fn mnist(arguments: &[&str]) -> Output {
    example("mnist").args(arguments).output().unwrap()
}

/// Asserts that a command fails with this exit code, and returns its message.
fn failure(output: &Output, code: i32) -> String {
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(message.contains("error:"), "{message}");
    for word in ["panicked", "RUST_BACKTRACE", "stack backtrace"] {
        assert!(!message.contains(word), "{message}");
    }
    message
}

#[test]
fn what_cannot_train_is_refused_before_a_folder_is_made() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    for (flags, word) in [
        (&["--batch-size", "1"][..], "at least 2 images"),
        (
            &["--batch-size", "1", "--model", "cnn"],
            "at least 2 images",
        ),
        (
            &["--batch-size", "1", "--norm", "burn"],
            "at least 2 images",
        ),
        (&["--hidden", "10,0"], "hidden"),
        (&["--norm", "burn", "--dtype", "f16"], "Burn's"),
        (
            &["--norm", "burn", "--devices", "flex,flex", "--sync-norm"],
            "only this crate's batch norm",
        ),
        (&["--model", "cnn", "--hidden", "10"], "perceptron"),
        (&["--model", "cnn", "--depth", "3"], "perceptron"),
        (&["--model", "cnn", "--width", "3"], "perceptron"),
        (&["--model", "resnet", "--hidden", "10"], "perceptron"),
        (&["--model", "resnet", "--depth", "10"], "6n + 2"),
        (&["--lr", "-1"], "a number above 0"),
        (&["--epochs", "-1"], "a whole number of at least 1"),
    ] {
        let out = ["--no-tui", "--out", run.to_str().unwrap()];
        let message = failure(&mnist(&[flags, &out].concat()), 2);
        assert!(message.contains(word), "{message}");
        assert!(!run.exists(), "{flags:?}");
    }
}

#[test]
fn a_run_trains_and_its_record_predicts() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    let (data, run) = (data.to_str().unwrap(), scratch.path().join("run"));
    let output = mnist(&[
        "--data",
        data,
        "--out",
        run.to_str().unwrap(),
        "--epochs",
        "2",
    ]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for word in ["test accuracy", "model.bpk", "--example predict"] {
        assert!(said.contains(word), "{said}");
    }
    for file in ["config.json", "metrics.json", "result.json", "model.bpk"] {
        assert!(run.join(file).is_file(), "{file}");
    }
    let leftovers: Vec<_> = fs::read_dir(&run)
        .unwrap()
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .to_string_lossy()
                .starts_with('.')
        })
        .collect();
    assert!(leftovers.is_empty(), "{leftovers:?}");

    let output = example("predict")
        .args([run.to_str().unwrap(), "--index", "0", "--data", data])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("its label is 7"), "{said}");

    // A second run does not overwrite it.
    let before = fs::read(run.join("result.json")).unwrap();
    let output = mnist(&["--data", data, "--out", run.to_str().unwrap()]);
    assert!(failure(&output, 1).contains("--resume"));
    let output = mnist(&["--data", data, "--resume", run.to_str().unwrap()]);
    assert!(failure(&output, 1).contains("complete"));
    assert_eq!(fs::read(run.join("result.json")).unwrap(), before);

    // The record of another network, and half a record.
    let record = run.join("model.bpk");
    let good = fs::read(&record).unwrap();
    fs::write(&record, &good[..good.len() / 3]).unwrap();
    let output = example("predict")
        .args([run.to_str().unwrap(), "--index", "0"])
        .output()
        .unwrap();
    assert!(failure(&output, 1).contains("model.bpk is damaged"));
    fs::write(&record, &good).unwrap();
    let config = fs::read_to_string(run.join("config.json")).unwrap();
    let other = config.replace("\"classes\": 10", "\"classes\": 11");
    assert_ne!(other, config);
    fs::write(run.join("config.json"), other).unwrap();
    let output = example("predict")
        .args([run.to_str().unwrap(), "--index", "0"])
        .output()
        .unwrap();
    assert!(failure(&output, 1).contains("output.weight"));
}

#[test]
fn a_network_that_does_not_learn_says_why() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    let run = |name: &str, flags: &[&str]| {
        let run = scratch.path().join(name);
        let common = [
            "--data",
            data.to_str().unwrap(),
            "--out",
            run.to_str().unwrap(),
            "--epochs",
            "1",
        ];
        let output = mnist(&[&common[..], flags].concat());
        assert!(output.status.success());
        let config = fs::read_to_string(run.join("config.json")).unwrap();
        (String::from_utf8(output.stdout).unwrap(), config)
    };
    let sick = [
        "--depth",
        "12",
        "--width",
        "30",
        "--norm",
        "none",
        "--init",
        "small-normal",
    ];
    let (said, config) = run("sick", &sick);
    assert!(said.contains("does not do better than guessing"), "{said}");
    assert!(said.contains("signal vanishes: std from"), "{said}");
    assert_eq!(config.matches("30").count(), 12, "{config}");

    // The same on demand, with tables before and after.
    let (said, _) = run("explained", &[&sick[..], &["--explain"]].concat());
    for word in [
        "before the first step",
        "after the last step",
        "hidden.11",
        "signal vanishes",
        "spread",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("better than guessing"), "{said}");

    let (said, config) = run("healthy", &["--depth", "2"]);
    assert!(
        !said.contains("guessing") && !said.contains("hidden.0"),
        "{said}"
    );
    assert_eq!(config.matches("100").count(), 2, "{config}");
}

#[test]
fn wrong_usage_is_told_apart_from_what_goes_wrong() {
    for arguments in [
        &["--init", "glorot"][..],
        &["--activation", "swish"],
        &["--norm", "layer"],
        &["--model", "transformer"],
        &["--optimizer", "lion"],
        &["--schedule", "linear"],
        &["--device", "abacus"],
        &["--device", "flex:3"],
        &["--device", "cuda:x"],
        &["--devices", "flex,abacus"],
        &["--device", "flex", "--devices", "flex,flex"],
        &["--dtype", "f8"],
        &["--resume", "x", "--dtype", "f16"],
        &["--sync-norm"],
        &["--epochs", "0"],
        &["--epochs", "-1"],
        &["--batch-size", "0"],
        &["--hidden", "100,0"],
        &["--hidden", ""],
        &["--hidden", "100", "--depth", "3"],
        &["--hidden", "100", "--width", "3"],
        &["--depth", "0"],
        &["--width", "-1"],
        &["--resume", "x", "--depth", "3"],
        &["--lr", "0"],
        &["--lr=-0.1"],
        &["--lr", "nan"],
        &["--lr", "inf"],
        &["--lr", "2"],
        &["--patience", "0"],
        &["--seed", "dice"],
        &["--resume", "x", "--epochs", "3"],
        &["--frobnicate"],
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let output = example("mnist")
            .args(arguments)
            .current_dir(scratch.path())
            .output()
            .unwrap();
        failure(&output, 2);
        let left = fs::read_dir(scratch.path()).unwrap().count();
        assert_eq!(left, 0, "{arguments:?} left something behind");
    }
    let output = example("predict").args(["somewhere"]).output().unwrap();
    failure(&output, 2);
}

#[test]
fn a_wrong_name_is_answered_with_the_right_ones() {
    let message = failure(&mnist(&["--init", "glorot"]), 2);
    for name in ["zeros", "standard-normal", "small-normal", "xavier", "he"] {
        assert!(message.contains(name), "{message}");
    }
    let message = failure(&mnist(&["--device", "abacus"]), 2);
    assert!(
        message.contains("'abacus'") && message.contains("flex"),
        "{message}"
    );
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_compiled_in_names_the_feature_that_adds_it() {
    let message = failure(&mnist(&["--device", "cuda:0"]), 1);
    assert!(message.contains("--features cuda"), "{message}");
}

#[test]
fn bad_data_is_named_and_nothing_is_left_behind() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    let run = scratch.path().join("run");
    let attempt = |data: &Path| {
        let output = mnist(&[
            "--data",
            data.to_str().unwrap(),
            "--out",
            run.to_str().unwrap(),
        ]);
        let message = failure(&output, 1);
        assert!(!run.exists(), "a run was started: {message}");
        message
    };
    assert!(attempt(&scratch.path().join("nowhere")).contains("nowhere"));

    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(attempt(&empty).contains("train-images-idx3-ubyte"));

    let images = data.join("train-images-idx3-ubyte");
    let labels = data.join("train-labels-idx1-ubyte");
    let (good_images, good_labels) = (fs::read(&images).unwrap(), fs::read(&labels).unwrap());
    let with = |file: &Path, good: &[u8], change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.to_vec();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
        let message = attempt(&data);
        fs::write(file, good).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(message.contains(name), "{message}");
        message
    };
    with(&images, &good_images, &|bytes| bytes.truncate(1000));
    with(&images, &good_images, &|bytes| bytes.clear());
    with(&images, &good_images, &|bytes| bytes[2] = 9);
    with(&images, &good_images, &|bytes| {
        *bytes = b"<html>not found</html>".to_vec()
    });
    with(&images, &good_images, &|bytes| bytes[4..8].fill(0xff));
    let message = with(&images, &good_images, &|bytes| {
        bytes[11] = 14;
        bytes.truncate(16 + 2_400 * 14 * 28);
    });
    assert!(message.contains("28"), "{message}");
    let message = with(&labels, &good_labels, &|bytes| bytes[8 + 17] = 10);
    assert!(
        message.contains("10") && message.contains("17"),
        "{message}"
    );
    let message = with(&labels, &good_labels, &|bytes| {
        bytes[4..8].copy_from_slice(&100u32.to_be_bytes());
        bytes.truncate(108);
    });
    assert!(
        message.contains("100") && message.contains("2400"),
        "{message}"
    );
}

#[test]
fn an_output_folder_that_cannot_be_made_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let inside = file.join("run");
    let message = failure(&mnist(&["--out", inside.to_str().unwrap()]), 1);
    assert!(message.contains(inside.to_str().unwrap()), "{message}");

    let message = failure(&mnist(&["--resume", scratch.path().to_str().unwrap()]), 1);
    assert!(message.contains("holds no run"), "{message}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_cleanly_and_it_can_go_on() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    let (data, run) = (data.to_str().unwrap(), scratch.path().join("run"));
    let run = run.to_str().unwrap();
    let result = || -> RunResult {
        serde_json::from_slice(&fs::read(Path::new(run).join("result.json")).unwrap()).unwrap()
    };
    let mut child = example("mnist")
        .args(["--data", data, "--out", run, "--epochs", "150"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !Path::new(run).join("metrics.json").exists() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "the run ended by itself"
        );
        std::thread::yield_now();
    }
    let signal = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(signal.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&output.stdout).contains("--resume"));
    let stopped = result();
    assert_eq!(stopped.outcome, Outcome::Interrupted);
    assert!(
        Path::new(run).join("model.bpk").is_file(),
        "what was trained is kept"
    );

    let output = mnist(&["--data", data, "--resume", run]);
    assert!(output.status.success());
    let resumed = result();
    assert_eq!(resumed.outcome, Outcome::Completed);
    assert_eq!(resumed.epochs.len(), 150);
    assert_eq!(resumed.epochs[..stopped.epochs.len()], stopped.epochs);
}

#[test]
fn half_precision_and_several_devices_are_flags_away() {
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 5_400);
    let (data, run) = (data.to_str().unwrap(), scratch.path().join("run"));
    let run = run.to_str().unwrap();
    let train = ["--data", data, "--out", run, "--epochs", "1"];
    let output = mnist(&[&train[..], &["--devices", "flex,flex", "--dtype", "bf16"]].concat());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("flex") && message.contains(" and "));
    let config = fs::read_to_string(Path::new(run).join("config.json")).unwrap();
    assert!(config.contains(r#""dtype": "bf16""#), "{config}");
}

#[test]
#[cfg(feature = "ndarray")]
fn a_device_without_the_float_type_says_which_it_has() {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    let flags = ["--device", "ndarray", "--dtype", "f16", "--out"];
    let output = mnist(&[&flags[..], &[run.to_str().unwrap()]].concat());
    let message = failure(&output, 2);
    for word in ["'ndarray'", "f16", "f32"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(!run.exists());

    // A resumed run keeps its own float type.
    use burn_kindling_lab::train::{Precision, RunFolder, TrainConfig};
    let config = TrainConfig {
        dtype: Precision::F16,
        ..TrainConfig::default()
    };
    RunFolder::create(&run, &config).unwrap();
    let output = mnist(&["--device", "ndarray", "--resume", run.to_str().unwrap()]);
    let message = failure(&output, 2);
    assert!(message.contains("'ndarray'"), "{message}");
}

#[test]
fn the_devices_are_listed_with_what_they_are_and_what_is_missing() {
    let output = example("devices").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    for word in [
        "flex",
        "GB;",
        "bf16",
        "GFLOP/s",
        "remote ",
        "without --device: ",
    ] {
        assert!(said.contains(word), "{said}");
    }
    if !cfg!(feature = "cuda") {
        assert!(said.contains("--features cuda"), "{said}");
    }
    let output = example("devices")
        .args(["--no-speed", "--device", "abacus"])
        .output()
        .unwrap();
    failure(&output, 2);
}

/// Without a Vulkan driver wgpu falls back to OpenGL, whose compilers give different guarantees.
#[cfg(all(feature = "wgpu", target_os = "linux"))]
#[test]
fn a_gpu_is_listed_with_the_graphics_api_that_reaches_it() {
    let list = |variables: &[(&str, &str)]| {
        let output = example("devices")
            .args(["--no-speed", "--device", "wgpu"])
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(said)
    };
    if let Some(said) = list(&[]) {
        let apis = [" through Vulkan", " through OpenGL"];
        assert!(apis.iter().any(|api| said.contains(api)), "{said}");
    }
    let no_vulkan = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].map(|name| (name, "no such driver"));
    if let Some(said) = list(&no_vulkan) {
        assert!(said.contains(" through OpenGL"), "{said}");
    }
}

/// Ends a program when the test ends, even if the test panics.
#[cfg(feature = "remote")]
struct Running(std::process::Child);

#[cfg(feature = "remote")]
impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[cfg(feature = "remote")]
#[test]
fn a_device_lent_by_one_program_trains_in_another() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let mut server = Running(
        example("serve")
            .args(["--device", "flex", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut said = String::new();
    let mut stdout = BufReader::new(server.0.stdout.take().unwrap());
    stdout.read_line(&mut said).unwrap();
    let address = said.trim().rsplit(' ').next().unwrap();
    assert!(said.starts_with("lending flex"), "{said}");

    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 2_400);
    let remote = format!("remote:{address}");
    let scores = ["flex", &remote].map(|device| {
        let run = scratch.path().join(device.replace([':', '/'], "-"));
        let (data, out) = (data.to_str().unwrap(), run.to_str().unwrap());
        let output = mnist(&[
            "--device", device, "--data", data, "--out", out, "--epochs", "2",
        ]);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{device}: {message}");
        let result = fs::read_to_string(run.join("result.json")).unwrap();
        serde_json::from_str::<RunResult>(&result).unwrap().epochs
    });
    // The same kernels on the same CPU; only the fusion of the optimiser's operations may differ.
    let [here, there] = scores.map(|epochs| epochs.last().unwrap().valid.loss);
    assert!((here - there).abs() < 1e-3 * here, "{here} and {there}");

    drop(server);
    let nobody = remote;
    let message = failure(&mnist(&["--device", &nobody]), 1);
    assert!(message.contains("--example serve"), "{message}");
    for wrong in ["remote:", "remote:here", "remote:here:port", "remote::3000"] {
        let message = failure(&mnist(&["--device", wrong]), 2);
        assert!(message.contains("remote:HOST:PORT"), "{message}");
    }
}

/// What `head` and `less` do when they have seen enough.
#[cfg(unix)]
#[test]
fn nobody_reads_the_output_to_its_end() {
    let piped = |program: &str, flags: &str| {
        let program = example(program).get_program().to_owned();
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("\"$0\" {flags} | head -n 1"))
            .arg(program)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!message.contains("panicked"), "{flags}: {message}");
        assert_eq!(output.stdout.iter().filter(|&&it| it == b'\n').count(), 1);
    };
    piped("devices", "--no-speed");
    piped("observe", "he");
    piped("compare_batch_norm", "--json");

    // A training goes on.
    let scratch = tempfile::tempdir().unwrap();
    let data = small_data(scratch.path(), 1_200);
    let run = scratch.path().join("run");
    let (data, out) = (data.display(), run.display());
    piped(
        "mnist",
        &format!("--no-tui --hidden 10 --epochs 20 --data {data} --out {out} 2>&1"),
    );
    assert!(run.join("result.json").exists());
}

#[test]
fn a_network_that_is_not_there_is_an_error_that_says_how_to_make_one() {
    for (program, arguments) in [
        ("predict", &["runs/NONE", "--index", "0"][..]),
        ("export", &["runs/NONE", "network.safetensors"]),
    ] {
        let output = example(program).args(arguments).output().unwrap();
        let message = failure(&output, 1);
        assert!(message.contains("--example mnist"), "{message}");
    }
}
