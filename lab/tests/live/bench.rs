//! The bench: what it computes, and what can be done to it.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling_lab::live::{Bench, BenchConfig, Effect, Id, NetworkConfig};
use burn_kindling_lab::model::{Classifier, Mlp, Normalization};
use burn_kindling_lab::train::{OptimizerKind, Trainer};
use serde_json::{Value, json};

use super::{action, bench, config, device, frame, network, small};

/// All values of a network, to the bit, by the path of the parameter.
fn bits(network: &Mlp) -> BTreeMap<String, Vec<u32>> {
    #[derive(Default)]
    struct Bits {
        path: Vec<String>,
        all: BTreeMap<String, Vec<u32>>,
    }
    impl ModuleVisitor for Bits {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data();
            let bits = values.iter::<f32>().map(f32::to_bits).collect();
            self.all.insert(self.path.join("."), bits);
        }
    }
    let mut bits = Bits::default();
    network.valid().visit(&mut bits);
    bits.all
}

fn bits_of(bench: &Bench, id: Id) -> BTreeMap<String, Vec<u32>> {
    bits(bench.network(id).expect("there is such a network"))
}

fn act(bench: &mut Bench, what: Value) -> Effect {
    let result = bench.act(&action(&what));
    result.unwrap_or_else(|error| panic!("{what}: {}", error.en))
}

/// The sentence of a refusal; both languages have one.
fn refused(bench: &mut Bench, what: Value) -> String {
    let before: Vec<_> = bench
        .ids()
        .into_iter()
        .map(|id| bits_of(bench, id))
        .collect();
    let error = bench.act(&action(&what)).expect_err("this is refused");
    let after: Vec<_> = bench
        .ids()
        .into_iter()
        .map(|id| bits_of(bench, id))
        .collect();
    assert!(before == after, "{what} was refused and changed something");
    assert!(!error.ko.is_empty() && error.ko != error.en);
    error.en
}

/// Steps with everything that a page may cause in between.
fn train_watched(bench: &mut Bench, steps: usize) {
    for step in 0..steps {
        match step % 3 {
            0 => bench.advance(),
            _ => bench.advance_watched(),
        }
        if step % 5 == 1 {
            bench.look();
            bench.answer();
            frame(bench);
        }
        if step % 10 == 3 {
            bench.evaluate();
        }
    }
}

fn train(bench: &mut Bench, steps: usize) {
    for _ in 0..steps {
        bench.advance();
    }
}

#[test]
fn an_epoch_gives_the_weights_that_the_trainer_gives_whatever_was_watched() {
    let networks = [
        NetworkConfig {
            norm: Normalization::Batch,
            ..network()
        },
        NetworkConfig {
            activation: Activation::Tanh,
            std: Some(0.1),
            optimizer: OptimizerKind::Momentum,
            lr: 0.01,
            ..network()
        },
        NetworkConfig {
            norm: Normalization::Burn,
            optimizer: OptimizerKind::Sgd,
            ..network()
        },
        NetworkConfig {
            scale: 1.5,
            optimizer: OptimizerKind::AdamW,
            ..network()
        },
    ];
    let mut bench = bench(networks.clone());
    train_watched(&mut bench, 22);
    let (train, valid) = small().train_and_validation();
    for (id, network) in bench.ids().into_iter().zip(networks) {
        let training = network.training(128, 7);
        let trained = Trainer::new(device()).train(&training, &train, &valid, |_| ());
        let Classifier::Mlp(trained) = trained.expect("the training runs").network else {
            panic!("a perceptron was trained");
        };
        assert_eq!(bits(&trained).len(), bits_of(&bench, id).len());
        for (path, values) in bits(&trained) {
            assert!(
                bits_of(&bench, id)[&path] == values,
                "{path} of {network:?} differs"
            );
        }
    }
}

#[test]
fn the_batches_go_on_into_the_next_epoch_as_the_loader_gives_them() {
    let mut bench = bench([network()]);
    train(&mut bench, 44);
    let training = burn_kindling_lab::train::TrainConfig {
        epochs: 2,
        ..network().training(128, 7)
    };
    let (train, valid) = small().train_and_validation();
    let trained = Trainer::new(device()).train(&training, &train, &valid, |_| ());
    let Classifier::Mlp(trained) = trained.expect("the training runs").network else {
        panic!("a perceptron was trained");
    };
    assert!(bits(&trained) == bits_of(&bench, bench.ids()[0]));
}

#[test]
fn networks_go_in_lockstep_and_the_same_configuration_gives_the_same_bits() {
    let mut bench = bench([
        network(),
        network(),
        NetworkConfig {
            lr: 2e-3,
            ..network()
        },
    ]);
    train_watched(&mut bench, 10);
    let [a, b, c] = bench.ids()[..] else {
        panic!("three networks")
    };
    assert!(bits_of(&bench, a) == bits_of(&bench, b));
    assert!(bits_of(&bench, a) != bits_of(&bench, c));
    assert_eq!(bench.step(), 10);
}

#[test]
fn a_fork_equals_its_original_until_something_changes() {
    for norm in Normalization::ALL {
        let mut bench = bench([NetworkConfig { norm, ..network() }]);
        train(&mut bench, 12);
        let a = bench.ids()[0];
        act(&mut bench, json!({"do": "fork", "network": a}));
        act(
            &mut bench,
            json!({"do": "fork", "network": a, "change": {"lr": 0.01}}),
        );
        let [same, b, changed] = [0, 2, 1].map(|place| bench.ids()[place]);
        train_watched(&mut bench, 12);
        assert!(
            bits_of(&bench, same) == bits_of(&bench, b),
            "{norm}: the fork went another way"
        );
        assert!(bits_of(&bench, a) != bits_of(&bench, changed), "{norm}");
        // And the original is what it would have been alone.
        let mut alone = super::bench([NetworkConfig { norm, ..network() }]);
        train(&mut alone, 24);
        assert!(
            bits_of(&bench, a) == bits_of(&alone, alone.ids()[0]),
            "{norm}: forking changed the original"
        );
    }
}

/// In Burn 0.22.1, two threads whose graphs share a leaf may each wait for the other's lock for ever.
#[test]
fn forks_and_originals_never_wait_for_one_another() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bench = bench([network(), network()]);
        for round in 0..300 {
            let id = bench.ids()[round % 2];
            act(&mut bench, json!({"do": "fork", "network": id}));
            act(&mut bench, json!({"do": "fork", "network": id}));
            if round % 3 == 0 {
                bench.look();
            }
            bench.advance_watched();
            if round % 10 == 9 {
                act(&mut bench, json!({"do": "rewind", "step": 0}));
                bench.advance();
            }
            for id in bench.ids().split_off(2) {
                act(&mut bench, json!({"do": "remove", "network": id}));
            }
        }
        // Nobody waits any more if it took too long.
        let _ = done.send(());
    });
    let ended = ended.recv_timeout(std::time::Duration::from_secs(120));
    ended.expect("the bench makes its steps");
}

#[test]
fn rewinding_and_training_on_repeats_the_run_to_the_bit() {
    for norm in Normalization::ALL {
        let mut bench = bench([NetworkConfig { norm, ..network() }, network()]);
        train(&mut bench, 60);
        let ids = bench.ids();
        let first: Vec<_> = ids.iter().map(|&id| bits_of(&bench, id)).collect();
        act(
            &mut bench,
            json!({"do": "multiply", "network": ids[0], "layer": 1, "factor": 3.0}),
        );
        train(&mut bench, 7);
        act(&mut bench, json!({"do": "rewind", "step": 55}));
        assert_eq!(bench.step(), 50);
        train_watched(&mut bench, 10);
        let again: Vec<_> = ids.iter().map(|&id| bits_of(&bench, id)).collect();
        assert!(first == again, "{norm}");
        // The first steps too.
        act(&mut bench, json!({"do": "rewind", "step": 0}));
        train(&mut bench, 60);
        let again: Vec<_> = ids.iter().map(|&id| bits_of(&bench, id)).collect();
        assert!(first == again, "{norm}");
    }
}

#[test]
fn a_fork_from_a_kept_step_takes_all_back_to_it() {
    let mut bench = bench([network()]);
    train(&mut bench, 70);
    let a = bench.ids()[0];
    act(
        &mut bench,
        json!({"do": "fork", "network": a, "at": 50, "change": {"norm": "batch"}}),
    );
    assert_eq!(bench.step(), 50);
    assert_eq!(bench.ids().len(), 2);
    // Before the fork, the copy was the original.
    act(&mut bench, json!({"do": "rewind", "step": 0}));
    let b = bench.ids()[1];
    let weights = |id| bits_of(&bench, id)["hidden.0.affine.weight"].clone();
    assert!(weights(a) == weights(b));
}

#[test]
fn settings_change_in_mid_run_and_keep_the_weights() {
    let mut bench = bench([network()]);
    train(&mut bench, 10);
    let id = bench.ids()[0];
    let before = bits_of(&bench, id);
    for change in [
        json!({"norm": "batch"}),
        json!({"norm": "burn"}),
        json!({"norm": "none"}),
        json!({"lr": 0.02, "optimizer": "sgd"}),
        json!({"activation": "tanh"}),
    ] {
        act(
            &mut bench,
            json!({"do": "set", "network": id, "change": change}),
        );
        assert_eq!(bench.step(), 10, "{change} restarted the bench");
        let after = bits_of(&bench, id);
        for (path, values) in &before {
            assert!(
                !path.ends_with("weight") || after[path] == *values,
                "{change} changed {path}"
            );
        }
    }
    train(&mut bench, 3);
    act(
        &mut bench,
        json!({"do": "set", "network": id, "change": {"std": 0.5}}),
    );
    assert_eq!(bench.step(), 0, "other weights need a start");
    act(
        &mut bench,
        json!({"do": "set", "network": id, "change": {"init": "xavier"}}),
    );
    assert_eq!(
        bench.config().networks[0].std,
        None,
        "an initialisation replaces the std"
    );
}

#[test]
fn what_was_learned_can_be_touched() {
    let mut bench = bench([
        NetworkConfig {
            norm: Normalization::Batch,
            ..network()
        },
        network(),
    ]);
    train(&mut bench, 5);
    let [normed, plain] = bench.ids()[..] else {
        panic!("two networks")
    };

    let before = bits_of(&bench, plain);
    act(
        &mut bench,
        json!({"do": "multiply", "network": plain, "layer": 1, "factor": -2.0}),
    );
    let after = bits_of(&bench, plain);
    for (path, values) in &before {
        let doubled = path == "hidden.1.affine.weight";
        let factor = if doubled { -2.0 } else { 1.0 };
        let expected = values
            .iter()
            .map(|&bits| (factor * f32::from_bits(bits)).to_bits());
        assert!(expected.eq(after[path].iter().copied()), "{path}");
    }

    for id in [normed, plain] {
        act(
            &mut bench,
            json!({"do": "kill", "network": id, "layer": 0, "share": 0.5}),
        );
    }
    train(&mut bench, 3);
    bench.look();
    for network in frame(&bench)["networks"].as_array().expect("networks") {
        let dead = network["layers"][0]["dead"].as_f64().expect("a share");
        assert!(
            (0.5..0.8).contains(&dead),
            "half of the units were silenced, and {dead} are dead"
        );
    }

    act(
        &mut bench,
        json!({"do": "affine", "network": normed, "layer": 1, "gamma": 2.5}),
    );
    bench.look();
    let norm = &frame(&bench)["networks"][0]["layers"][1]["norm"];
    assert_eq!(norm["gamma"], json!([2.5, 2.5, 2.5]));
    train(&mut bench, 2);

    let before = bits_of(&bench, normed);
    act(&mut bench, json!({"do": "recalibrate", "network": normed}));
    let after = bits_of(&bench, normed);
    for (path, values) in &before {
        assert_eq!(after[path] != *values, path.contains("running"), "{path}");
    }
    train(&mut bench, 2);
}

#[test]
fn networks_come_and_go() {
    let mut bench = bench([network()]);
    train(&mut bench, 3);
    act(
        &mut bench,
        json!({"do": "add", "config": {"init": "zeros", "width": 8, "depth": 2}}),
    );
    assert_eq!((bench.step(), bench.ids().len()), (0, 2));
    train(&mut bench, 2);
    let [a, b] = bench.ids()[..] else {
        panic!("two networks")
    };
    act(&mut bench, json!({"do": "remove", "network": a}));
    assert_eq!((bench.step(), bench.ids()), (2, vec![b]));
    assert!(refused(&mut bench, json!({"do": "remove", "network": b})).contains("last network"));
    for _ in 0..3 {
        act(&mut bench, json!({"do": "fork", "network": b}));
    }
    assert!(refused(&mut bench, json!({"do": "fork", "network": b})).contains("4 networks"));
}

#[test]
fn it_pauses_where_it_is_told_to() {
    let mut bench = bench([network()]);
    act(&mut bench, json!({"do": "play", "until": 4}));
    let mut steps = 0;
    while bench.playing() {
        bench.advance();
        steps += 1;
    }
    assert_eq!((bench.step(), steps), (4, 4));
    act(&mut bench, json!({"do": "play", "until": 4}));
    assert!(!bench.playing(), "it is there already");
    act(&mut bench, json!({"do": "step"}));
    assert_eq!((bench.step(), bench.playing()), (5, false));
    act(
        &mut bench,
        json!({"do": "setup", "bench": {"networks": [{}], "play": true}, "until": 0}),
    );
    assert!(!bench.playing());
    act(&mut bench, json!({"do": "restart"}));
    assert_eq!(bench.step(), 0);
}

#[test]
fn a_network_that_is_lost_stands_still_and_can_be_cured() {
    let mut bench = bench([
        NetworkConfig {
            optimizer: OptimizerKind::Sgd,
            lr: 10.0,
            ..network()
        },
        network(),
    ]);
    train_watched(&mut bench, 60);
    let [lost, well] = bench.ids()[..] else {
        panic!("two networks")
    };
    assert!(
        !bench.losses()[0].is_finite(),
        "a rate of 10 is too high: {:?}",
        bench.losses()
    );
    assert!(bench.losses()[1].is_finite());
    let before = [lost, well].map(|id| bits_of(&bench, id));
    train(&mut bench, 1);
    assert!(bits_of(&bench, lost) == before[0], "it stands still");
    assert!(bits_of(&bench, well) != before[1]);
    bench.look();
    let frame = frame(&bench);
    assert!(frame["networks"][0]["loss"].is_null());
    let findings = frame["networks"][0]["findings"]
        .as_array()
        .expect("findings");
    let finding = findings
        .iter()
        .find(|it| it["kind"] == "not-finite")
        .expect("the finding");
    assert_eq!(finding["advice"]["change"], json!({"lr": 1.0}));
    act(
        &mut bench,
        json!({"do": "advise", "network": lost, "finding": "not-finite"}),
    );
    assert_eq!(bench.step(), 0, "only step 0 was kept before the loss");
    assert_eq!(bench.config().networks[1].lr, 1.0);
    train(&mut bench, 1);
    assert!(bench.losses().iter().all(|loss| loss.is_finite()));
}

#[test]
fn findings_come_with_a_change_that_helps() {
    let deep = NetworkConfig {
        depth: 10,
        ..network()
    };
    let mut bench = bench([NetworkConfig {
        init: InitStrategy::SmallNormal,
        ..deep
    }]);
    bench.look();
    let id = bench.ids()[0];
    let findings = frame(&bench)["networks"][0]["findings"].clone();
    let vanishing = findings
        .as_array()
        .expect("findings")
        .iter()
        .find(|it| it["kind"] == "signal-vanishes");
    let vanishing = vanishing.expect("the signal vanishes");
    assert_eq!(vanishing["layer"], "hidden.9");
    assert_eq!(vanishing["advice"]["label"]["en"], "Take He");
    for text in [&vanishing["text"], &vanishing["advice"]["label"]] {
        assert!(
            text["ko"].as_str().is_some_and(|text| !text.is_ascii()),
            "{text} has no Korean"
        );
    }
    act(
        &mut bench,
        json!({"do": "advise", "network": id, "finding": "signal-vanishes"}),
    );
    bench.look();
    let frame = frame(&bench);
    let kinds = |network: usize| {
        let findings = frame["networks"][network]["findings"]
            .as_array()
            .expect("findings")
            .clone();
        findings
            .iter()
            .map(|it| it["kind"].clone())
            .collect::<Vec<_>>()
    };
    assert!(
        kinds(0).contains(&json!("signal-vanishes")),
        "the patient is still there"
    );
    assert!(
        !kinds(1).contains(&json!("signal-vanishes")),
        "the copy is cured: {:?}",
        kinds(1)
    );
    assert!(
        refused(
            &mut bench,
            json!({"do": "advise", "network": id, "finding": "flu"})
        )
        .contains("no advice")
    );
}

#[test]
fn a_frame_has_what_the_page_draws() {
    let mut bench = bench([
        NetworkConfig {
            width: 256,
            depth: 5,
            ..network()
        },
        NetworkConfig {
            width: 256,
            norm: Normalization::Batch,
            ..network()
        },
    ]);
    bench.look();
    bench.answer();
    bench.evaluate();
    let [plain, normed] = bench.ids()[..] else {
        panic!("two networks")
    };
    act(
        &mut bench,
        json!({"do": "watch", "units": {"network": plain, "layer": 2}, "every": "auto"}),
    );
    let start = frame(&bench);
    let network = &start["networks"][0];
    for (layer, theory) in network["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .zip(network["theory"].as_array().expect("theory"))
    {
        for measure in ["std", "between_inputs", "pre_std"] {
            let [measured, predicted] =
                [layer, theory].map(|it| it[measure].as_f64().expect("a number"));
            let ratio = measured / predicted;
            assert!(
                (0.7..1.4).contains(&ratio),
                "{measure} of {}: {measured}, predicted {predicted}",
                layer["name"]
            );
        }
        let counts = layer["pre"]["counts"].as_array().expect("counts");
        assert_eq!(counts.len(), 40);
        let total: u64 = counts.iter().map(|it| it.as_u64().expect("a count")).sum();
        let outside = layer["pre"]["below"].as_u64().expect("a count")
            + layer["pre"]["above"].as_u64().expect("a count");
        assert_eq!(total + outside, 128 * 256);
        let gradient = &layer["gradient"];
        let total: u64 = gradient["counts"]
            .as_array()
            .expect("counts")
            .iter()
            .map(|it| it.as_u64().expect("a count"))
            .sum();
        let others = ["zero", "below", "above"].map(|it| gradient[it].as_u64().expect("a count"));
        assert_eq!(total + others.iter().sum::<u64>(), 128 * 256);
        assert!(layer["update"].is_null() && layer["norm"].is_null());
    }
    assert_eq!(network["digits"].as_array().map(Vec::len), Some(36));
    assert_eq!(network["units"]["layer"], 2);
    assert_eq!(
        [&network["units"]["rows"], &network["units"]["columns"]],
        [32, 64]
    );
    assert!(start["networks"][1]["units"].is_null());
    let norm = &start["networks"][1]["layers"][0]["norm"];
    assert!((norm["output_std"].as_f64().expect("a number") - 1.0).abs() < 0.01);
    assert_eq!(
        [&norm["running_mean"], &norm["running_var"]],
        [0.0, 1.0],
        "looking changes no running statistics"
    );
    let theory = &start["networks"][1]["theory"][1]["pre_std"];
    assert!((theory.as_f64().expect("a number") - 1.0).abs() < 0.01);

    bench.advance_watched();
    bench.evaluate();
    let next = frame(&bench);
    assert_eq!(next["step"], 1);
    let network = &next["networks"][1];
    assert!(network["theory"].is_null());
    assert_eq!(network["id"], normed);
    let update = network["layers"][0]["update"]
        .as_f64()
        .expect("a step was made");
    assert!(
        (-3.0..-0.5).contains(&update),
        "Adam's first step: {update}"
    );
    let running = network["layers"][0]["norm"]["channel"].clone();
    let [batch, average] =
        ["batch_var", "running_var"].map(|it| running[it].as_f64().expect("a number"));
    assert!(
        (average - (0.9 + 0.1 * batch)).abs() < 1e-3,
        "{average} is not 0.9 + 0.1 * {batch}"
    );
}

#[test]
fn the_statistics_are_those_of_the_observer() {
    let mut bench = bench([
        NetworkConfig {
            activation: Activation::Sigmoid,
            ..network()
        },
        network(),
    ]);
    bench.look();
    let (train, _) = small().train_and_validation();
    let mut batches = burn_kindling_lab::data::Batches::new(train, 128, 7, device().autodiff());
    for (place, id) in bench.ids().into_iter().enumerate() {
        let network = Classifier::Mlp(bench.network(id).expect("a network").clone());
        let report = network.observe_step(batches.at(0));
        let frame = frame(&bench);
        let layers = frame["networks"][place]["layers"]
            .as_array()
            .expect("layers");
        for (ours, theirs) in layers.iter().zip(&report.layers) {
            let close = |name: &str, expected: f64| {
                let found = ours[name].as_f64().expect("a number");
                assert!(
                    (found - expected).abs() <= 1e-3 * expected.abs() + 1e-9,
                    "{name} of {}: {found}, not {expected}",
                    theirs.name
                );
            };
            close("std", theirs.data.std);
            close("mean", theirs.data.mean);
            close("between_inputs", theirs.data.spread);
            close("saturated", theirs.saturated.expect("a share"));
            close("dead", theirs.dead as f64 / theirs.units as f64);
            close("copies", theirs.duplicates as f64 / theirs.units as f64);
            close(
                "gradient_std",
                theirs.gradient.as_ref().expect("a gradient").std,
            );
        }
        let found: Vec<String> = report.diagnose().iter().map(ToString::to_string).collect();
        let ours = frame["networks"][place]["findings"]
            .as_array()
            .expect("findings");
        let kinds = |text: &str| text.split(':').next().map(str::to_owned);
        assert_eq!(
            ours.iter()
                .map(|it| kinds(it["text"]["en"].as_str().expect("a text")))
                .collect::<Vec<_>>(),
            found.iter().map(|it| kinds(it)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn at_test_time_a_batch_of_one_class_collapses_under_its_own_statistics() {
    let mut bench = bench([NetworkConfig {
        norm: Normalization::Batch,
        ..network()
    }]);
    train(&mut bench, 44);
    let mut accuracy = |batch: usize, classes: Value, own: bool| {
        act(
            &mut bench,
            json!({"do": "test", "batch": batch, "classes": classes, "own": own}),
        );
        bench.answer();
        bench.panel_accuracies()[0].expect("an accuracy")
    };
    let running = accuracy(100, json!([3]), false);
    let own = accuracy(40, json!([3]), true);
    assert!(
        running > own + 0.2,
        "{running} by the running statistics, {own} by the batch's own"
    );
    let one = accuracy(1, json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), true);
    assert!(one < 0.3, "an image equals its own mean: {one}");
    for wrong in [
        json!({"do": "test", "batch": 0, "classes": [1], "own": true}),
        json!({"do": "test", "batch": 10, "classes": [], "own": true}),
        json!({"do": "test", "batch": 10, "classes": [10], "own": true}),
    ] {
        refused(&mut bench, wrong);
    }
}

#[test]
fn a_drawn_digit_is_read_by_every_network() {
    let mut bench = bench([
        network(),
        NetworkConfig {
            norm: Normalization::Batch,
            ..network()
        },
    ]);
    train(&mut bench, 44);
    let seven: Vec<f32> = small()
        .test
        .image(0)
        .iter()
        .map(|&pixel| f32::from(pixel) / 255.0)
        .collect();
    let answers = bench.read(&seven).expect("784 pixels");
    assert_eq!(
        answers.iter().map(|it| it.digit).collect::<Vec<_>>(),
        [7, 7]
    );
    for answer in answers {
        assert!((answer.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-3);
    }
    for pixels in [vec![0.0; 783], vec![f32::NAN; 784], vec![2.0; 784]] {
        assert!(bench.read(&pixels).is_err());
    }
}

#[test]
fn absurd_numbers_are_refused_with_a_sentence() {
    let mut bench = bench([network()]);
    let id = bench.ids()[0];
    let networks = |network: Value| json!({"do": "setup", "bench": {"networks": [network]}});
    for (wrong, field) in [
        (
            networks(json!({"depth": 31})),
            "`depth` must be from 1 to 30, found 31",
        ),
        (
            networks(json!({"width": 3})),
            "`width` must be from 4 to 512, found 3",
        ),
        (networks(json!({"lr": 0.0})), "`lr`"),
        (networks(json!({"lr": 1e300})), "`lr`"),
        (networks(json!({"std": -1.0})), "`std`"),
        (networks(json!({"scale": 1e9})), "`scale`"),
        (
            json!({"do": "setup", "bench": {"networks": []}}),
            "`networks`",
        ),
        (
            json!({"do": "setup", "bench": {"networks": [{}], "batch": 1}}),
            "`batch`",
        ),
        (
            json!({"do": "setup", "bench": {"networks": [{}], "seed": 1u64 << 40}}),
            "`seed`",
        ),
        (
            json!({"do": "setup", "bench": {"networks": vec![json!({"depth": 30, "width": 512}); 4], "batch": 1024}}),
            "billion",
        ),
        (
            json!({"do": "set", "network": 99, "change": {"lr": 0.1}}),
            "no network 99",
        ),
        (
            json!({"do": "set", "network": id, "change": {"depth": 0}}),
            "`depth`",
        ),
        (
            json!({"do": "multiply", "network": id, "layer": 4, "factor": 1.0}),
            "`layer`",
        ),
        (
            json!({"do": "multiply", "network": id, "layer": 0, "factor": 1e30}),
            "`factor`",
        ),
        (
            json!({"do": "kill", "network": id, "layer": 3, "share": 0.5}),
            "`layer`",
        ),
        (
            json!({"do": "kill", "network": id, "layer": 0, "share": 1.5}),
            "`share`",
        ),
        (
            json!({"do": "affine", "network": id, "layer": 0, "gamma": 1.0}),
            "no batch norm",
        ),
        (json!({"do": "recalibrate", "network": id}), "no batch norm"),
        (json!({"do": "watch", "every": 0}), "`every`"),
        (
            json!({"do": "watch", "units": {"network": id, "layer": 9}}),
            "`layer`",
        ),
    ] {
        let sentence = refused(&mut bench, wrong.clone());
        assert!(sentence.contains(field), "{wrong}: {sentence}");
    }
    for wrong in [
        r#"{"do":"explode"}"#,
        r#"{"do":"set","network":1,"change":{"lr":NaN}}"#,
        r#"{"do":"set","network":1,"change":{"lr":1e999}}"#,
        r#"{"do":"set","network":1,"change":{"colour":1}}"#,
        r#"{"do":"set","network":-1,"change":{}}"#,
        r#"{"do":"rewind","step":1.5}"#,
        r#"{"do":"add","config":{"init":"magic"}}"#,
        "",
        "[[[[",
    ] {
        let error = burn_kindling_lab::live::Action::parse(wrong.as_bytes())
            .expect_err("this is no action");
        assert!(!error.en.is_empty() && !error.ko.is_empty());
    }
}

#[test]
fn what_is_kept_stays_bounded() {
    let mut bench = Bench::new(
        &BenchConfig {
            batch: 2,
            ..config([NetworkConfig {
                width: 4,
                depth: 1,
                ..network()
            }])
        },
        &small(),
        &device(),
    )
    .expect("a bench");
    for _ in 0..2500 {
        bench.advance();
    }
    let kept = |bench: &mut Bench, step| {
        act(bench, json!({"do": "rewind", "step": step}));
        bench.step()
    };
    assert_eq!(kept(&mut bench, 2499), 2400, "only every 100th is left");
    assert_eq!(kept(&mut bench, 99), 0);
}
