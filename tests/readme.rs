//! Runs the README's example in a project that depends on the library as the README says.

use std::fs;
use std::path::Path;
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let released = format!(r#"burn-kindling = "{}""#, &env!("CARGO_PKG_VERSION")[..3]);
    let dependencies = block(&readme, "toml");
    assert!(dependencies.contains(&released), "{dependencies}");
    // Test this checkout.
    let here = format!("burn-kindling = {{ path = {root:?} }}");
    let dependencies = dependencies.replace(&released, &here);

    let project = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[package]\nname = \"project\"\nedition = \"2024\"\n\n{dependencies}\n\n[workspace]\n"
    );
    fs::write(project.path().join("Cargo.toml"), manifest).unwrap();
    fs::copy(root.join("Cargo.lock"), project.path().join("Cargo.lock")).unwrap();
    fs::create_dir(project.path().join("src")).unwrap();
    let program = format!(
        "{}\n\nfn main() {{\n    let device = Device::flex().autodiff();\n    \
         let output = Hidden::new(784, 100, &device).forward(Tensor::ones([32, 784], &device));\n    \
         assert_eq!(output.dims(), [32, 100]);\n}}\n",
        block(&readme, "rust")
    );
    fs::write(project.path().join("src/main.rs"), program).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet"])
        .current_dir(project.path())
        .env("CARGO_TARGET_DIR", root.join("target/readme"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
