//! What `torch.nn.init` does, recorded by `tests/fixtures/init.py`.

use std::sync::LazyLock;

use serde_json::Value;

static FIXTURE: LazyLock<Value> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/init.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
});

/// The cases of a kind. There is at least one.
pub fn cases(kind: &str) -> &'static [Value] {
    let cases = FIXTURE[kind].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

/// An array of counts.
pub fn shape(value: &Value) -> Vec<usize> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|n| n.as_u64().unwrap() as usize).collect()
}

pub fn count(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
