//! A network that is not the lab's, on the page: what the page gets of it, and what its training does not notice.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Tensor};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Point, Sink, watch};
use burn_kindling_lab::data::Batches;
use burn_kindling_lab::live::{Live, LiveSink};
use serde_json::{Value, json};

use super::server::{Events, ask, send};
use super::{device, small};

const BATCH: usize = 32;
const RATE: f64 = 0.05;

#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    output: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let conv = Conv2dConfig::new([1, 6], [5, 5]).with_stride([3, 3]);
        let net = Self {
            conv: conv.with_bias(false).init(device),
            norm: BatchNormConfig::new(6).init(device),
            output: LinearConfig::new(6 * 8 * 8, 10).init(device),
        };
        initialize(net, InitStrategy::He, 3).0
    }

    /// `[batch, 28, 28]` to what the points see: `[batch, 6, 8, 8]`, `[batch, 10]`.
    fn forward(&self, images: Tensor<3>) -> (Tensor<4>, Tensor<2>) {
        let conv = self.conv.forward(images.unsqueeze_dim(1));
        let conv = self.norm.forward_relu(conv);
        let conv = Point::new("conv").after(Activation::Relu).watch(conv);
        let output = self.output.forward(conv.clone().flatten(1, 3));
        (conv, watch("output", output))
    }
}

/// A training loop as a user has it.
struct Training {
    net: Net,
    optimizer: ModuleOptimizer,
    batches: Batches,
    step: usize,
}

/// What a step had, by other means than the observer's.
struct Step {
    loss: f64,
    conv: Vec<f64>,
    output: Vec<f64>,
    /// log10 of the root mean square of the update of the convolution divided by that of its weights.
    update: f64,
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    (values.map(|it| it * it).sum::<f64>() / count).sqrt()
}

impl Training {
    fn new() -> Self {
        let device = device().autodiff();
        Self {
            net: Net::new(&device),
            optimizer: SgdConfig::new().init(),
            batches: Batches::new(small().train, BATCH, 5, device),
            step: 0,
        }
    }

    fn step(&mut self, sink: Option<&mut LiveSink>) -> Step {
        let batch = self.batches.at(self.step);
        let cross_entropy = CrossEntropyLossConfig::new().init(&device());
        let weights = |net: &Net| values(net.conv.weight.val());
        let before = weights(&self.net);
        let net = &self.net;
        let forward = || {
            let (conv, output) = net.forward(batch.images);
            let loss = cross_entropy.forward(output.clone(), batch.targets);
            (loss, conv, output)
        };
        let (loss, conv, output);
        match sink {
            None => {
                (loss, conv, output) = forward();
                let gradients = loss.backward();
                self.update(GradientsParams::from_grads(gradients, &self.net));
            }
            Some(sink) => {
                let mut seen;
                ((loss, conv, output), seen) = sink.observe(forward);
                let gradients = loss.backward();
                seen.backward(&self.net, &gradients);
                self.update(GradientsParams::from_grads(gradients, &self.net));
                seen.step(&self.net);
                sink.show(self.step, &loss, seen);
            }
        }
        self.step += 1;
        let after = weights(&self.net);
        let moved = rms(before
            .iter()
            .zip(&after)
            .map(|(before, after)| after - before));
        Step {
            loss: loss.into_scalar(),
            conv: values(conv),
            output: values(output),
            update: (moved / rms(before.iter().copied())).log10(),
        }
    }

    fn update(&mut self, gradients: GradientsParams) {
        self.net = self.optimizer.step(RATE, self.net.clone(), gradients);
    }

    /// The bits of all weights.
    fn bits(&self) -> Vec<u32> {
        let all = [
            values(self.net.conv.weight.val()),
            values(self.net.norm.gamma.val()),
            values(self.net.norm.running_var.value_sync()),
            values(self.net.output.weight.val()),
        ];
        all.into_iter()
            .flatten()
            .map(|it| (it as f32).to_bits())
            .collect()
    }
}

fn counts(histogram: &Value, others: &[&str]) -> u64 {
    let bins = histogram["counts"].as_array().expect("counts");
    let bins = bins.iter().map(|it| it.as_u64().expect("a count"));
    let others = others
        .iter()
        .map(|it| histogram[it].as_u64().expect("a count"));
    bins.chain(others).sum()
}

fn close(frame: &Value, name: &str, expected: f64) {
    let found = frame[name].as_f64().expect("a number");
    assert!(
        (found - expected).abs() <= 2e-4 * expected.abs(),
        "{name}: {found}, not {expected}"
    );
}

#[test]
fn a_page_shows_the_layers_and_the_loss_of_a_network_of_ones_own() {
    let mut lab = Live::serve().expect("the page is served");
    assert!(lab.live().address().ip().is_loopback());
    let mut page = Events::open(lab.live());
    let (name, state) = page.next();
    assert_eq!(name, "state");
    assert_eq!(state["own"], true);
    // The name of this test program.
    let shown = state["bench"]["networks"][0]["name"].as_str();
    assert!(
        shown.is_some_and(|name| name.starts_with("live")),
        "{state}"
    );

    let mut training = Training::new();
    let steps = Mutex::new(BTreeMap::new());
    let mut step = || {
        let mut steps = steps
            .lock()
            .expect("no check fails while it looks at a step");
        steps.insert(training.step, training.step(Some(&mut lab)));
    };
    step_while(&mut step, || watch_steps(&mut page, &steps));
    (0..200).for_each(|_| step());
    let losses: Vec<_> = steps
        .into_inner()
        .unwrap()
        .into_values()
        .map(|it| it.loss)
        .collect();
    assert!(losses[199] < 0.5 * losses[0]);
}

/// Takes step after step until `look` has seen enough: which of them a page gets to see depends on the machine.
fn step_while<T>(mut step: impl FnMut() + Send, look: impl FnOnce() -> T) -> T {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let seen = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            while !seen.load(Ordering::Relaxed) {
                step();
                // Leaves the lock on the steps to others.
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _ends = Ends(&seen);
        look()
    })
}

/// Compares frames with the steps that they show.
fn watch_steps(page: &mut Events, steps: &Mutex<BTreeMap<usize, Step>>) {
    for first in [0, 1, 100] {
        let frame = page.find("frame", |frame| frame["step"].as_u64() >= Some(first));
        let steps = steps.lock().expect("no step fails");
        let step = &steps[&(frame["step"].as_u64().expect("a step") as usize)];
        let network = &frame["networks"][0];
        close(network, "loss", step.loss);
        assert!(network["accuracy"].is_null() && network["digits"] == json!([]));
        let layers = network["layers"].as_array().expect("layers");
        let names: Vec<_> = layers.iter().map(|it| &it["name"]).collect();
        assert_eq!(names, ["conv", "output"]);
        for (layer, (values, units)) in layers.iter().zip([(&step.conv, 6), (&step.output, 10)]) {
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let std = rms(values.iter().map(|it| it - mean));
            close(layer, "mean", mean);
            close(layer, "std", std);
            assert_eq!(
                counts(&layer["pre"], &["below", "above"]),
                values.len() as u64
            );
            let gradients = counts(&layer["gradient"], &["zero", "below", "above"]);
            assert_eq!(gradients, values.len() as u64);
            // Of each value of an input over the batch.
            let each = values.len() / BATCH;
            let between = (0..each).map(|at| {
                let over = || values[at..].iter().step_by(each);
                let mean = over().sum::<f64>() / BATCH as f64;
                rms(over().map(|it| it - mean).collect::<Vec<_>>().into_iter())
            });
            close(
                layer,
                "between_inputs",
                rms(between.collect::<Vec<_>>().into_iter()),
            );
            let zeros = values.iter().filter(|it| **it == 0.0).count();
            match units {
                6 => close(layer, "saturated", zeros as f64 / count),
                _ => assert!(layer["saturated"].is_null()),
            }
        }
        close(&layers[0], "update", step.update);
    }
    // The frames come in their order.
    let mut step = || page.find("frame", |_| true)["step"].as_u64();
    let before = step();
    assert!(step() > before);
}

#[test]
fn the_training_goes_on_whoever_looks_on_and_to_the_same_bits() {
    let mut training = Training::new();
    let mut lab = Live::serve().expect("the page is served");
    let mut train = |lab: &mut LiveSink, who: &str| {
        let start = Instant::now();
        for _ in 0..60 {
            training.step(Some(&mut *lab));
        }
        let took = start.elapsed();
        println!("60 steps, {who}: {took:?}");
        assert!(took < Duration::from_secs(20), "{who}: {took:?}");
        training.step as u64
    };
    train(&mut lab, "no page");
    let silent = Events::open(lab.live());
    train(&mut lab, "a page that reads nothing");
    let mut quick = Events::open(lab.live());
    let before = train(&mut lab, "a page beside it");
    drop(silent);
    train(&mut lab, "after it went away");
    let step = |frame: &Value| frame["step"].as_u64().expect("a step");
    // A page that comes late sees what went before.
    assert_eq!(step(&quick.find("frame", |_| true)), 0);
    let next = || drop(training.step(Some(&mut lab)));
    step_while(next, || quick.find("frame", |frame| step(frame) >= before));

    let mut alone = Training::new();
    for _ in 0..training.step {
        alone.step(None);
    }
    assert!(alone.bits() == training.bits());
}

#[test]
fn two_programs_have_a_page_each() {
    let [one, other] = [(); 2].map(|()| Live::serve().expect("the page is served"));
    assert_ne!(one.live().address(), other.live().address());
    assert_ne!(one.live().token(), other.live().token());
}

#[test]
fn a_page_of_ones_own_network_is_guarded_and_cannot_steer() {
    let lab = Live::serve().expect("the page is served");
    let live = lab.live();
    let (status, _, body) = ask(live, "GET", "/", &Value::Null);
    assert_eq!(status, 200);
    assert!(body.contains(live.token()));
    for (path, what) in [
        ("/act", json!({"do": "pause"})),
        ("/read", json!({"pixels": [0.0]})),
    ] {
        let (status, _, body) = ask(live, "POST", path, &what);
        assert_eq!(status, 405, "{path}");
        assert!(body.contains("own network"), "{body}");
    }
    let address = live.address();
    for (head, status) in [
        (format!("GET /events HTTP/1.1\r\nHost: {address}"), 403),
        (
            format!("GET / HTTP/1.1\r\nHost: evil.example:{}", address.port()),
            403,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {address}\r\nOrigin: http://evil.example"),
            403,
        ),
    ] {
        let request = format!("{head}\r\nConnection: close\r\n\r\n");
        let answer = send(address, &request, b"").expect("an answer");
        assert_eq!(answer.0, status, "{head}");
    }
}
