//! Runs the README's example in a project that depends on the library as the README says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first fenced block of the README in this language.
fn block(readme: &str, language: &str) -> String {
    let fence = format!("```{language}\n");
    let from = readme.find(&fence).expect("the README has such a block") + fence.len();
    let length = readme[from..].find("\n```").expect("the block ends");
    readme[from..from + length].to_owned()
}

#[test]
#[ignore = "compiles Burn anew, which takes minutes; CI runs it"]
fn the_example_compiles_as_a_project() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let released = format!(r#"burn-kindling = "{}""#, &env!("CARGO_PKG_VERSION")[..3]);
    let dependencies = block(&readme, "toml");
    assert!(dependencies.contains(&released), "{dependencies}");
    let here = format!("burn-kindling = {{ path = {:?} }}", library());
    let dependencies = dependencies.replace(&released, &here);

    let program = format!(
        "{}\n\nfn main() {{\n    let device = Device::flex().autodiff();\n    \
         let output = Net::new(&device).forward(Tensor::ones([32, 784], &device));\n    \
         assert_eq!(output.dims(), [32, 10]);\n}}\n",
        block(&readme, "rust")
    );
    let dependencies = dependencies.replace("[dependencies]\n", "");
    run_project(&dependencies, &program);
}

/// Burn with a backend, and this crate without: slower, and right.
#[test]
#[ignore = "compiles Burn anew, which takes minutes; CI runs it"]
fn a_backend_without_its_feature_works() {
    run_pair(&["flex"], &[]);
}

/// Burn with any backends, and this crate with any others.
#[test]
#[ignore = "compiles Burn for each pair; `.ci/deep` runs it"]
fn every_pair_of_backends_works() {
    let sets: [&[&str]; 4] = [&["flex"], &["ndarray"], &["flex", "ndarray"], &["wgpu"]];
    for burns in sets {
        for ours in [&[][..]].into_iter().chain(sets) {
            eprintln!("Burn with {burns:?}, this crate with {ours:?}");
            run_pair(burns, ours);
        }
    }
}

/// Compares this crate's layer, with these features, with Burn's on every backend that Burn has.
fn run_pair(burns: &[&str], ours: &[&str]) {
    let devices: Vec<_> = burns
        .iter()
        .map(|backend| match *backend {
            "wgpu" => "Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)".to_owned(),
            backend => format!("Device::{backend}()"),
        })
        .collect();
    let program = r#"
#![allow(deprecated)]

use burn::nn;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};
use burn_kindling::norm::BatchNormConfig;

fn main() {
    for device in [DEVICES] {
        compare(&device.autodiff());
    }
}

fn compare(device: &Device) {
    let input = Tensor::<2>::random([32, 3], Distribution::Normal(2.0, 3.0), device).require_grad();
    let ours = BatchNormConfig::new(3).init(device);
    let burns = nn::BatchNormConfig::new(3).init(device);
    let weights = Tensor::<2>::random([32, 3], Distribution::Default, device);
    let run = |output: Tensor<2>| {
        let gradients = (output.clone() * weights.clone()).sum().backward();
        [output.into_data(), input.grad(&gradients).expect("a gradient").into_data()]
    };
    let [found, expected] = [run(ours.forward_relu(input.clone())), run(relu(burns.forward(input.clone())))];
    for (found, expected) in found.iter().zip(&expected) {
        found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-4, 1e-5));
    }
    let mean = ours.running_mean.value_sync().into_data();
    mean.assert_approx_eq::<f32>(&burns.running_mean.value_sync().into_data(), Tolerance::default());
}
"#;
    let dependencies = format!(
        "burn = {{ version = \"0.22.1\", default-features = false, features = {:?} }}\n\
         burn-kindling = {{ path = {:?}, default-features = false, features = {ours:?} }}",
        [&["std", "rayon", "simd"], burns].concat(),
        library()
    );
    run_project(
        &dependencies,
        &program.replace("DEVICES", &devices.join(", ")),
    );
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is tested: this checkout, or the unpacked package whose folder the environment variable `LIBRARY` names.
fn library() -> PathBuf {
    std::env::var_os("LIBRARY").map_or(root().to_owned(), PathBuf::from)
}

/// Runs a program in a project of its own with these dependencies, and denies warnings in the library.
fn run_project(dependencies: &str, program: &str) {
    let project = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"project\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n\n\
         [profile.dev]\ndebug = false\n\n[workspace]\n"
    );
    fs::write(project.path().join("Cargo.toml"), manifest).unwrap();
    fs::copy(root().join("Cargo.lock"), project.path().join("Cargo.lock")).unwrap();
    fs::create_dir(project.path().join("src")).unwrap();
    fs::write(project.path().join("src/main.rs"), program).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet"])
        .current_dir(project.path())
        .env("CARGO_TARGET_DIR", root().join("target/readme"))
        .env("RUSTFLAGS", "-D warnings")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
