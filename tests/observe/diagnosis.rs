//! Findings: none in healthy networks, the right ones in broken networks.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_kindling::init::Activation::{self, Relu, Sigmoid, Tanh};
use burn_kindling::init::InitStrategy::{self, He, SmallNormal, StandardNormal, Xavier, Zeros};
use burn_kindling::init::initialize;
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Change, Finding, Observer, Place, Point, Report, watch};
use proptest::prelude::*;

use crate::{any_device, normal, tensor};

#[derive(Module, Debug)]
struct Net {
    hidden: Vec<Linear>,
    norms: Vec<BatchNorm>,
    output: Linear,
}

const CLASSES: usize = 10;

impl Net {
    fn new(start: InitStrategy, widths: &[usize], norm: bool, device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let norms = widths[1..].iter().filter(|_| norm);
        let net = Self {
            hidden: widths.windows(2).map(|it| linear(it[0], it[1])).collect(),
            norms: norms
                .map(|&it| BatchNormConfig::new(it).init(device))
                .collect(),
            output: linear(widths[widths.len() - 1], CLASSES),
        };
        initialize(net, start, 1).0
    }

    /// `[batch, inputs]` to `[batch, classes]`.
    fn forward(&self, activation: Activation, input: Tensor<2>) -> Tensor<2> {
        let mut x = watch("input", input);
        for (i, layer) in self.hidden.iter().enumerate() {
            x = layer.forward(x);
            if let Some(norm) = self.norms.get(i) {
                x = norm.forward(x);
            }
            let point = Point::new(format!("hidden.{i}")).after(activation);
            x = point.watch(activation.forward(x));
        }
        watch("output", self.output.forward(x))
    }
}

/// A training run of a few steps. Inputs are from N(0, 1); the class depends on two of them.
struct Run {
    start: InitStrategy,
    activation: Activation,
    widths: Vec<usize>,
    norm: bool,
    learning_rate: f64,
    steps: usize,
    seed: u64,
    /// What is changed about the network before it starts.
    change: fn(Net) -> Net,
    /// Factor on the inputs.
    inputs: f64,
}

impl Run {
    /// The first step of a network with `depth` hidden layers of 100 units.
    fn of(start: InitStrategy, activation: Activation, depth: usize) -> Self {
        Self {
            start,
            activation,
            widths: vec![100; depth + 1],
            norm: false,
            learning_rate: 0.01,
            steps: 1,
            seed: 1,
            change: |net| net,
            inputs: 1.0,
        }
    }

    /// The report on the last step.
    fn report(&self) -> Report {
        let device = device().autodiff();
        device.seed(self.seed);
        let batch = 128;
        let inputs = normal(batch * self.widths[0], self.seed);
        let class = |row: &[f64]| (row[0] * row[1] * 10.0).rem_euclid(CLASSES as f64) as usize;
        let classes = inputs.chunks(self.widths[0]).map(class);
        let wanted: Vec<f64> = classes
            .flat_map(|class| (0..CLASSES).map(move |it| f64::from(u8::from(it == class))))
            .collect();
        let wanted = tensor(&wanted, [batch, CLASSES], &device);
        let inputs = tensor(&inputs, [batch, self.widths[0]], &device) * self.inputs;

        let net = Net::new(self.start, &self.widths, self.norm, &device);
        let mut net = (self.change)(net);
        let mut optimizer = SgdConfig::new().init();
        for step in 1..=self.steps {
            let (loss, mut seen) = Observer::new().run_if(step == self.steps, || {
                let logits = net.forward(self.activation, inputs.clone());
                let chances = burn::tensor::activation::log_softmax(logits, 1);
                (chances * wanted.clone()).sum_dim(1).mean().neg()
            });
            let gradients = loss.backward();
            seen.backward(&net, &gradients);
            let gradients = GradientsParams::from_grads(gradients, &net);
            net = optimizer.step(self.learning_rate, net, gradients);
            seen.step(&net);
            if step == self.steps {
                return seen.report();
            }
        }
        unreachable!("a run has a last step")
    }

    fn diagnose(&self) -> Vec<Finding> {
        self.report().diagnose()
    }
}

/// Any device will do: findings depend only on the numbers of a report, which are tested on all devices.
fn device() -> Device {
    any_device()
}

/// The kinds of finding, in the order found.
fn kinds(findings: &[Finding]) -> Vec<&'static str> {
    findings.iter().map(Finding::kind).collect()
}

#[test]
fn nothing_is_found_in_healthy_networks() {
    for depth in [1, 3, 5, 10] {
        for (start, activation) in [(He, Relu), (Xavier, Tanh)] {
            for steps in [1, 30] {
                let run = Run {
                    steps,
                    ..Run::of(start, activation, depth)
                };
                let found = run.diagnose();
                assert!(found.is_empty(), "{start} {activation} {depth} {found:#?}");
            }
        }
        for start in [SmallNormal, Xavier, He] {
            for activation in [Relu, Tanh, Sigmoid] {
                let run = Run {
                    norm: true,
                    ..Run::of(start, activation, depth)
                };
                let found = run.diagnose();
                assert!(found.is_empty(), "{start} {activation} {depth} {found:#?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_found_in_relu_networks_from_he_of_any_shape(
        widths in prop::collection::vec(40usize..160, 2..9),
        norm: bool,
        seed in 0u64..1 << 32,
    ) {
        let run = Run { widths: widths.clone(), norm, seed, ..Run::of(He, Relu, 1) };
        prop_assert_eq!(run.diagnose(), []);
    }
}

#[test]
fn each_broken_start_is_told() {
    let expected: [(_, _, _, &[&str]); 12] = [
        (Zeros, Relu, 5, &["symmetry", "dead"]),
        (Zeros, Tanh, 5, &["symmetry"]),
        (Zeros, Sigmoid, 5, &["symmetry"]),
        (StandardNormal, Tanh, 5, &["saturated"]),
        (StandardNormal, Sigmoid, 5, &["saturated"]),
        (
            StandardNormal,
            Relu,
            5,
            &["signal-explodes", "gradient-explodes"],
        ),
        (
            SmallNormal,
            Tanh,
            5,
            &["signal-vanishes", "gradient-vanishes"],
        ),
        (
            SmallNormal,
            Relu,
            5,
            &["signal-vanishes", "gradient-vanishes"],
        ),
        (
            SmallNormal,
            Sigmoid,
            5,
            &["inputs-alike", "gradient-vanishes"],
        ),
        (Xavier, Sigmoid, 10, &["inputs-alike", "gradient-vanishes"]),
        (He, Sigmoid, 10, &["inputs-alike", "gradient-vanishes"]),
        (Xavier, Relu, 20, &["signal-vanishes", "gradient-vanishes"]),
    ];
    for (start, activation, depth, expected) in expected {
        let mut report = Run::of(start, activation, depth).report();
        // Without the updates, which are tested below.
        report
            .parameters
            .iter_mut()
            .for_each(|it| it.update_rms = None);
        let found = report.diagnose();
        assert_eq!(kinds(&found), expected, "{start} {activation} {found:#?}");
    }
}

#[test]
fn units_that_started_equal_are_told_when_their_weights_are_not_all_one_value_any_more() {
    let run = Run {
        steps: 30,
        ..Run::of(Zeros, Sigmoid, 1)
    };
    let report = run.report();
    assert!(report.parameters[0].std > 0.0);
    let found = report.diagnose();
    assert_eq!(kinds(&found)[..1], ["symmetry"]);
    let expected = Place {
        name: "hidden.0".into(),
        measured: 0.99,
        also: vec![],
    };
    assert_eq!(found[0], Finding::Symmetry(expected));
}

#[test]
fn steps_of_the_wrong_size_are_told() {
    for (learning_rate, expected) in [(1e-5, "updates-too-small"), (1e3, "updates-too-large")] {
        let run = Run {
            learning_rate,
            ..Run::of(He, Relu, 3)
        };
        assert_eq!(kinds(&run.diagnose()), [expected]);
    }
    // After a few steps that are far too large, most units are dead or all numbers are NaN.
    let run = Run {
        learning_rate: 30.0,
        steps: 5,
        ..Run::of(He, Relu, 3)
    };
    let found = kinds(&run.diagnose());
    assert!(
        found.contains(&"dead") || found.contains(&"not-finite"),
        "{found:?}"
    );
}

/// Adam's first step moves every weight by the learning rate, in the direction of its gradient: where all gradients
/// have one sign, the updates have no spread at all.
#[test]
fn a_step_that_moves_all_weights_alike_is_not_too_small() {
    struct Move;
    impl ModuleMapper for Move {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|values| (values.detach() + 1e-4).detach().require_grad())
        }
    }
    let device = device().autodiff();
    let net = Net::new(He, &[100, 100], false, &device);
    let inputs = tensor(&normal(12800, 1), [128, 100], &device);
    let (output, mut seen) = Observer::new().run(|| net.forward(Relu, inputs));
    seen.backward(&net, &output.square().mean().backward());
    seen.step(&net.map(&mut Move));
    let report = seen.report();
    assert_eq!(kinds(&report.diagnose()), [""; 0]);
    // Weights of std sqrt(2 / 100).
    let moved = report.parameters[0].update_to_data().unwrap();
    assert!(
        (moved - (1e-4f64 / 0.02f64.sqrt()).log10()).abs() < 0.02,
        "{moved}"
    );
}

/// A network of five layers with He initialisation and ReLU, of which something is changed.
fn changed(change: fn(Net) -> Net) -> Run {
    Run {
        change,
        ..Run::of(He, Relu, 5)
    }
}

fn times(layer: &mut Linear, factor: f64) {
    let weight = layer.weight.clone();
    layer.weight = weight.map(|it| (it.detach() * factor).detach().require_grad());
}

/// Changes a network in place.
macro_rules! with {
    ($net:ident => $change:expr) => {
        |mut $net| {
            $change;
            $net
        }
    };
}

#[test]
fn a_last_layer_that_starts_small_or_at_zero_is_healthy() {
    let small = changed(with!(net => times(&mut net.output, 0.1)));
    assert_eq!(small.diagnose(), []);
    // The layers before it get a gradient of exactly 0 in the first step, and learn from the second one on.
    let zero = changed(with!(net => times(&mut net.output, 0.0)));
    assert_eq!(zero.report().parameters[0].gradient_std, Some(0.0));
    assert_eq!(zero.diagnose(), []);
}

#[test]
fn an_output_layer_of_the_wrong_size_is_told_by_the_gradient_that_it_passes_on() {
    let small = changed(with!(net => times(&mut net.output, 0.01)));
    let large = changed(with!(net => times(&mut net.output, 100.0)));
    for (run, expected) in [(small, "gradient-vanishes"), (large, "gradient-explodes")] {
        let found = run.diagnose();
        let told = found.iter().find(|it| it.kind() == expected);
        let told = told.unwrap_or_else(|| panic!("{expected}: {found:#?}"));
        assert_eq!(told.places(), ["hidden.4", "output"]);
    }
}

#[test]
fn a_signal_of_the_wrong_size_is_told_at_its_start() {
    let weights = |change| Run {
        learning_rate: 1e-3,
        ..changed(change)
    };
    let inputs = |inputs| Run {
        inputs,
        learning_rate: 1e-3,
        ..Run::of(He, Relu, 5)
    };
    for (run, expected) in [
        (inputs(100.0), "signal-too-large"),
        (inputs(0.01), "signal-too-small"),
        (
            weights(with!(net => times(&mut net.hidden[0], 100.0))),
            "signal-too-large",
        ),
        (
            weights(with!(net => times(&mut net.hidden[0], 0.01))),
            "signal-too-small",
        ),
    ] {
        let found = run.diagnose();
        let told = found.iter().find(|it| it.kind() == expected);
        let told = told.unwrap_or_else(|| panic!("{expected}: {found:#?}"));
        assert_eq!(told.places(), ["hidden.0"]);
    }
    // Batch norm makes up for it.
    let normed = Run {
        norm: true,
        ..inputs(100.0)
    };
    assert_eq!(normed.diagnose(), []);
}

#[test]
fn weights_without_a_gradient_are_told() {
    let frozen = changed(with!(net => net.hidden[1] = net.hidden[1].clone().no_grad()));
    let place = Place {
        name: "hidden.1.weight".into(),
        measured: 1e4 / (5e4 + 1e3),
        also: vec![],
    };
    assert_eq!(frozen.diagnose(), [Finding::NoGradient(place)]);

    let device = device().autodiff();
    let nets = [1, 2].map(|_| Net::new(He, &[10, 10], false, &device));
    let nets = Vec::from(nets);
    let inputs = || tensor(&normal(640, 1), [64, 10], &device);
    let told = |forward: &(dyn Fn() -> Tensor<2> + Sync)| {
        let (output, mut seen) = Observer::new().run(forward);
        seen.backward(&nets, &output.square().mean().backward());
        let found = seen.report().diagnose();
        let of_gradients = found.into_iter().find_map(|it| match it {
            Finding::NoGradient(place) => Some(place),
            _ => None,
        });
        of_gradients.expect("half of the weights got none")
    };
    let expected = |net: usize| Place {
        name: format!("{net}.hidden.0.weight"),
        measured: 0.5,
        also: vec![format!("{net}.output.weight")],
    };
    let unused = told(&|| nets[0].forward(Relu, inputs()));
    assert_eq!(unused, expected(1));
    let cut = told(&|| nets[1].forward(Relu, nets[0].forward(Relu, inputs()).detach()));
    assert_eq!(cut, expected(0));
}

#[test]
fn values_that_are_not_finite_are_told_in_updates_if_all_points_are_finite() {
    let device = device().autodiff();
    let net = Net::new(Xavier, &[10, 10], false, &device);
    let mut inputs = normal(640, 1);
    inputs[0] = f64::INFINITY;
    let inputs = tensor(&inputs, [64, 10], &device);
    let (output, mut seen) = Observer::new().run(|| {
        let x = Tanh.forward(net.hidden[0].forward(inputs));
        net.output
            .forward(Point::new("hidden").after(Tanh).watch(x))
    });
    let gradients = output.square().mean().backward();
    seen.backward(&net, &gradients);
    let gradients = GradientsParams::from_grads(gradients, &net);
    seen.step(&SgdConfig::new().init().step(0.1, net, gradients));
    let found = seen.report().diagnose();
    assert_eq!(kinds(&found), ["not-finite"]);
    assert_eq!(found[0].places(), ["the update of hidden.0.weight"]);
    assert!(found[0].to_string().starts_with(
        "not finite: some of the values of the update of hidden.0.weight are NaN or infinite"
    ));
}

#[test]
fn units_whose_values_are_lost_are_no_copies() {
    let lost = tensor(&vec![f64::NAN; 640], [64, 10], &device());
    let (_, seen) = Observer::new().run(|| watch("lost", lost));
    assert_eq!(kinds(&seen.report().diagnose()), ["not-finite"]);
}

#[test]
fn an_update_is_compared_with_the_size_that_weights_usually_have() {
    let healthy = Run {
        learning_rate: 0.1,
        ..changed(with!(net => times(&mut net.output, 0.05)))
    };
    let report = healthy.report();
    let output = report
        .parameters
        .iter()
        .find(|it| it.name == "output.weight");
    // A twentieth of what He draws, and updates as large as they were.
    assert!(output.unwrap().update_to_data().unwrap() > 0.5f64.log10());
    assert_eq!(report.diagnose(), []);
}

#[test]
fn small_updates_are_told_of_most_weights_or_of_large_ones() {
    let report = Run::of(He, Relu, 5).report();
    let told = |layers: &[usize], size: f64| {
        let mut report = report.clone();
        for &layer in layers {
            let found = &mut report.parameters[2 * layer];
            assert!(found.name.ends_with("weight"));
            found.rms *= size;
            found.update_rms = Some(1e-6 * found.rms);
        }
        kinds(&report.diagnose())
    };
    assert_eq!(told(&[1, 2], 1.0), [""; 0]);
    assert_eq!(told(&[0, 1, 2], 1.0), ["updates-too-small"]);
    assert_eq!(told(&[1], 100.0), ["updates-too-small"]);
}

#[test]
fn a_gradient_is_compared_by_its_norm_over_the_whole_layer() {
    let report = Run::of(He, Relu, 5).report();
    let with_stds = |stds: [f64; 5], values: usize| {
        let mut report = report.clone();
        for (layer, std) in report.layers[1..].iter_mut().zip(stds) {
            layer.gradient.as_mut().unwrap().std = std;
        }
        report.layers[1].gradient.as_mut().unwrap().count *= values;
        // The output layer is not what is tested.
        report.layers.pop();
        kinds(&report.diagnose())
    };
    assert_eq!(with_stds([0.561, 0.3, 0.2, 0.15, 0.134], 1), [""; 0]);
    assert_eq!(
        with_stds([9e-3, 0.1, 0.3, 0.5, 1.0], 1),
        ["gradient-vanishes"]
    );
    // The first layer has 400 times as many values, as in a convolution of large images.
    assert_eq!(with_stds([9e-3, 0.1, 0.3, 0.5, 1.0], 400), [""; 0]);
    // A gradient that has become too small for its float type is 0. One that a later layer of zeros stops is 0 as well.
    assert_eq!(
        with_stds([0.0, 0.0, 1e-40, 1e-20, 1.0], 1),
        ["gradient-vanishes"]
    );
    assert_eq!(with_stds([0.0; 5], 1), [""; 0]);
}

#[test]
fn units_that_batch_norm_of_two_inputs_makes_alike_are_told() {
    let device = device().autodiff();
    let net = Net::new(He, &[100, 100], true, &device);
    let inputs = tensor(&normal(200, 1), [2, 100], &device);
    let (_, seen) = Observer::new().run(|| net.forward(Tanh, inputs));
    let found = seen.report().diagnose();
    assert_eq!(kinds(&found), ["symmetry"]);
    assert!(
        found[0].to_string().contains("larger batches"),
        "{}",
        found[0]
    );
}

#[test]
fn what_is_not_finite_is_told_where_it_starts() {
    let x = tensor(&[1.0, 2.0, 0.0, -1.0], [2, 2], &device());
    let (_, seen) = Observer::new().run(|| {
        let x = watch("fine", x);
        let x = watch("log", x.log());
        watch("after", x * 2.0)
    });
    let place = Place {
        name: "log".into(),
        measured: 0.5,
        also: vec!["after".into()],
    };
    assert_eq!(seen.report().diagnose(), [Finding::NotFinite(place)]);
}

#[test]
fn a_share_is_a_finding_from_one_half() {
    let relu = Run::of(He, Relu, 3).report();
    let tanh = Run::of(Xavier, Tanh, 3).report();
    for (amount, any) in [(49, false), (50, true)] {
        let expect = |report: &Report, finding: fn(Place) -> Finding| {
            let place = Place {
                name: "hidden.1".into(),
                measured: 0.5,
                also: vec![],
            };
            let expected = any.then(|| finding(place));
            assert_eq!(report.diagnose(), Vec::from_iter(expected));
        };
        let mut report = relu.clone();
        report.layers[2].dead = amount;
        report.layers[2].duplicates = amount - 1;
        expect(&report, Finding::Dead);
        report.layers[2].dead = 0;
        report.layers[2].duplicates = amount;
        expect(&report, Finding::Symmetry);
        let mut report = tanh.clone();
        report.layers[2].saturated = Some(amount as f64 / 100.0);
        expect(&report, Finding::Saturated);
    }
    // Too few images to decide.
    let mut report = relu;
    report.layers[2].dead = 100;
    report.layers[2].data.count = 15 * 100;
    assert_eq!(report.diagnose(), []);
}

#[test]
fn a_std_is_compared_from_end_to_end_of_the_pass() {
    let mut report = Run::of(He, Relu, 5).report();
    report.layers[1].data.std = 1.0;
    for (last, any) in [(9.9, false), (10.1, true)] {
        report.layers[5].data.std = last;
        let change = Change {
            from: "hidden.0".into(),
            to: "hidden.4".into(),
            measured: [1.0, last],
            points: 4,
        };
        assert_eq!(change.factor(), last);
        let expected = any.then_some(Finding::SignalExplodes(change));
        assert_eq!(report.diagnose(), Vec::from_iter(expected));
    }
}

#[test]
fn a_finding_prints_what_was_measured_what_it_means_and_what_to_try() {
    let place = |also: &[&str]| Place {
        name: "relu3".into(),
        measured: 0.93,
        also: also.iter().map(|it| it.to_string()).collect(),
    };
    assert_eq!(
        Finding::Dead(place(&[])).to_string(),
        "\
dead units: 93.0% of the units of relu3 are 0 for every input (threshold: half)
  No gradient passes through them, so they stop learning. Weights or updates were too large, or the weights are 0.
  Try He initialisation, a lower learning rate, batch norm."
    );
    let also = |also: &[&str]| place(also).to_string();
    assert_eq!(also(&["a", "b"]), "relu3 (also a, b)");
    assert_eq!(also(&["a", "b", "c", "d"]), "relu3 (also a to d, 4 in all)");
    let vanishes = Finding::SignalVanishes(Change {
        from: "hidden.0".into(),
        to: "hidden.5".into(),
        measured: [0.9, 0.004],
        points: 5,
    });
    let printed = vanishes.to_string();
    let first = printed.lines().next().unwrap();
    assert_eq!(
        first,
        "signal vanishes: std from 0.900 at hidden.0 to 4.0e-3 at hidden.5, 5 points on (threshold: 10 times less)"
    );
}

#[test]
fn nothing_is_found_where_nothing_was_seen() {
    assert_eq!(Report::default().diagnose(), []);
    let (_, seen) = Observer::new().run(|| {
        let empty = Tensor::<2>::zeros([0, 3], &device());
        Point::new("empty").after(Relu).watch(empty)
    });
    assert_eq!(seen.report().diagnose(), []);
}
