//! Results of PyTorch, from `tests/fixtures/then.py`.

use burn::tensor::DType;
use serde_json::Value;

use crate::devices::{devices, is_processor};
use crate::oracle::{Activation, Answer, Problem, Window};

fn numbers(value: &Value) -> Vec<f64> {
    let values = value.as_array().expect("a list");
    values
        .iter()
        .map(|it| it.as_f64().expect("a number"))
        .collect()
}

fn pair(value: &Value) -> [usize; 2] {
    [0, 1].map(|at| value[at].as_u64().expect("a number") as usize)
}

fn cases() -> Vec<(Problem, Vec<f64>, Answer)> {
    let text = include_str!("../fixtures/then.json");
    let cases: Value = serde_json::from_str(text).expect("JSON");
    let cases = cases.as_array().expect("a list");
    let case = |case: &Value| {
        let shape = numbers(&case["shape"]);
        let window = &case["window"];
        let problem = Problem {
            shape: [0, 1, 2, 3].map(|axis| shape[axis] as usize),
            input: numbers(&case["input"]),
            gamma: numbers(&case["gamma"]),
            beta: numbers(&case["beta"]),
            given: case["given"]
                .as_array()
                .map(|given| [numbers(&given[0]), numbers(&given[1])]),
            residual: (!case["residual"].is_null()).then(|| numbers(&case["residual"])),
            activation: case["slope"]
                .as_f64()
                .map_or(Activation::None, Activation::Relu),
            window: (!window.is_null()).then(|| Window {
                max: window["max"].as_bool().expect("a flag"),
                count_padding: window["count_padding"].as_bool().expect("a flag"),
                size: pair(&window["size"]),
                strides: pair(&window["strides"]),
                padding: pair(&window["padding"]),
            }),
        };
        let found = &case["found"];
        let answer = Answer {
            output: numbers(&found["output"]),
            input: numbers(&found["input"]),
            gamma: numbers(&found["gamma"]),
            beta: numbers(&found["beta"]),
            residual: match &found["residual"] {
                Value::Null => Vec::new(),
                residual => numbers(residual),
            },
        };
        (problem, numbers(&case["weights"]), answer)
    };
    cases.iter().map(case).collect()
}

#[test]
fn agrees_with_pytorch() {
    let cases = cases();
    assert!(cases.len() >= 24);
    for (problem, weights, expected) in &cases {
        for device in devices() {
            if is_processor(&device) {
                let error = problem.ask(weights, DType::F64, &device).error(expected);
                assert!(error < 1e-12, "off by {error:e} on {device:?}: {problem:?}");
            }
            let error = problem.ask(weights, DType::F32, &device).error(expected);
            assert!(error < 2e-5, "off by {error:e} on {device:?}: {problem:?}");
        }
    }
}
