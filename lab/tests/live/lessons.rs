//! Every lesson is run, and its answer checked: a lesson may not claim what the lab does not show.

use burn_kindling_lab::live::{Action, Bench, BenchConfig};
use serde_json::{Value, json};

use super::{action, device, frame, mnist};

/// The lessons as the page has them.
fn lessons() -> Value {
    let text = include_str!("../../src/live/page/lessons.json");
    serde_json::from_str(text).expect("the lessons are JSON")
}

/// Runs a lesson, and returns the frame of each moment.
fn run(lesson: &Value) -> Vec<Value> {
    let config: BenchConfig = serde_json::from_value(lesson["bench"].clone()).expect("a bench");
    let mut bench = Bench::new(&config, mnist(), &device()).expect("the bench makes a run");
    let moments = lesson["run"].as_array().expect("a run");
    let moment = |moment: &Value| {
        if let Some(act) = moment.get("act").filter(|it| !it.is_null()) {
            // The page names networks by their place.
            let mut act = act.clone();
            if let Some(place) = act["network"].as_u64() {
                act["network"] = json!(bench.ids()[place as usize]);
            }
            let act: Action = action(&act);
            bench
                .act(&act)
                .unwrap_or_else(|error| panic!("{act:?}: {}", error.en));
        }
        let until = moment["until"].as_u64().expect("a step") as usize;
        while bench.step() + 1 < until {
            bench.advance();
        }
        match bench.step() < until {
            true => bench.advance_watched(),
            false => bench.look(),
        }
        bench.evaluate();
        frame(&bench)
    };
    moments.iter().map(moment).collect()
}

/// The number that a claim names; `None` if it was not measured.
fn measure(moments: &[Value], what: &Value) -> Option<f64> {
    let moment = what["moment"]
        .as_u64()
        .map_or(moments.len() - 1, |it| it as usize);
    let network = &moments[moment]["networks"][what["network"].as_u64()? as usize];
    let name = what["measure"].as_str()?;
    let of_layer = |layer: &Value| {
        let layers = network["layers"].as_array()?;
        let place = match layer {
            Value::String(end) if end == "first" => 0,
            Value::Number(place) => place.as_u64()? as usize,
            _ => layers.len() - 1,
        };
        let mut found = layers.get(place)?;
        for key in name.split('.') {
            found = match key.parse::<usize>() {
                Ok(index) => found.get(index)?,
                Err(_) => found.get(key)?,
            };
        }
        found.as_f64()
    };
    match name {
        "accuracy" | "loss" => network[name].as_f64(),
        "test" => network["test"]["accuracy"].as_f64(),
        _ => {
            let value = of_layer(&what["layer"])?;
            match &what["over"] {
                Value::Null => Some(value),
                over => Some(value / of_layer(over)?),
            }
        }
    }
}

/// Whether a claim holds, with its numbers.
fn check(moments: &[Value], claim: &Value) -> (bool, String) {
    let found = measure(moments, claim);
    let bound = match &claim["of"] {
        Value::Null => claim["value"].as_f64(),
        of => measure(moments, of),
    };
    let bound = bound.map(|it| it * claim["times"].as_f64().unwrap_or(1.0));
    let at_least = claim["is"] == "at least";
    let holds = match (found, bound) {
        (Some(found), Some(bound)) if at_least => found >= bound,
        (Some(found), Some(bound)) => found <= bound,
        _ => false,
    };
    (holds, format!("{claim}: {found:?} against {bound:?}"))
}

#[test]
fn every_lesson_shows_what_it_claims() {
    let lessons = lessons();
    let mut wrong = Vec::new();
    for lesson in lessons["lessons"].as_array().expect("lessons") {
        let start = std::time::Instant::now();
        let moments = run(lesson);
        let choices = lesson["choices"].as_array().expect("choices");
        let answer = lesson["answer"].as_u64().expect("an answer") as usize;
        let mut fits = Vec::new();
        for (place, choice) in choices.iter().enumerate() {
            let claims = choice["claims"].as_array().expect("claims");
            let checked: Vec<_> = claims.iter().map(|claim| check(&moments, claim)).collect();
            if !claims.is_empty() && checked.iter().all(|it| it.0) {
                fits.push(place);
            }
            if place == answer {
                for (holds, numbers) in &checked {
                    println!("  {} {numbers}", if *holds { "holds" } else { "FAILS" });
                    if !holds {
                        wrong.push(format!("{}: {numbers}", lesson["id"]));
                    }
                }
            }
        }
        println!(
            "{}: answer {answer}, fits {fits:?}, {:.1} s",
            lesson["id"],
            start.elapsed().as_secs_f64()
        );
        if fits != [answer] {
            wrong.push(format!(
                "{}: the numbers bear out choices {fits:?}, not {answer} alone",
                lesson["id"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_text_has_both_languages() {
    fn walk(value: &Value, path: &str) {
        match value {
            Value::Object(fields) => {
                assert_eq!(
                    fields.contains_key("en"),
                    fields.contains_key("ko"),
                    "{path} lacks a language"
                );
                for (name, value) in fields {
                    if name == "en" || name == "ko" {
                        let text = value.as_str().unwrap_or_default();
                        assert!(!text.trim().is_empty(), "{path}.{name} is empty");
                    }
                    walk(value, &format!("{path}.{name}"));
                }
            }
            Value::Array(items) => {
                for (place, value) in items.iter().enumerate() {
                    walk(value, &format!("{path}.{place}"));
                }
            }
            _ => (),
        }
    }
    walk(&lessons(), "lessons");
}
