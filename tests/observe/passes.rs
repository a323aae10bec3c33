//! Watches a forward pass, a backward pass and a step: checks the records, and that results do not change.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Gradients, Tensor};
use burn_kindling::init::{Activation, InitStrategy, initialize};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Observation, Observer, Point, Report, inside, watch};

use crate::devices::lent;
use crate::{any_device, assert_close, bits, devices, is_processor, normal, numbers, tensor};

/// A network with points in all positions: on the input, after layers of rank 2 and 4, inside a residual, on a view.
#[derive(Module, Debug)]
struct Net {
    conv: Conv2d,
    norm: BatchNorm,
    hidden: Vec<Linear>,
    output: Linear,
}

impl Net {
    fn new(device: &Device) -> Self {
        let linear = |inputs, outputs| LinearConfig::new(inputs, outputs).init(device);
        let net = Self {
            conv: Conv2dConfig::new([1, 3], [3, 3]).init(device),
            norm: BatchNormConfig::new(3).init(device),
            hidden: vec![linear(48, 48), linear(48, 48)],
            output: linear(48, 2),
        };
        initialize(net, InitStrategy::Xavier, 11).0
    }

    /// Shapes: `[batch, 1, 6, 6]` to `[batch, 2]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = watch("input", x);
        let x = watch("norm", self.norm.forward(self.conv.forward(x)));
        let x = Point::new("conv").after(Activation::Relu).watch(relu(x));
        let mut x = watch("flat", x.swap_dims(1, 3).flatten(1, 3));
        for (i, layer) in self.hidden.iter().enumerate() {
            let branch = layer.forward(x.clone()).tanh();
            let branch = Point::new(format_args!("hidden.{i}"))
                .after(Activation::Tanh)
                .watch(branch);
            x = watch(format_args!("sum.{i}"), x + branch);
        }
        self.output.forward(x)
    }
}

const NAMES: [&str; 8] = [
    "input", "norm", "conv", "flat", "hidden.0", "sum.0", "hidden.1", "sum.1",
];

fn images(device: &Device) -> Tensor<4> {
    tensor(&normal(5 * 36, 12), [5, 1, 6, 6], device)
}

/// Everything that training depends on: the output and the gradient of every parameter.
fn trained(model: &Net, output: Tensor<2>) -> (Gradients, Vec<Vec<u32>>) {
    let gradients = output.clone().square().mean().backward();
    let mut all = vec![bits(output)];
    all.push(bits(model.conv.weight.val().grad(&gradients).unwrap()));
    all.push(bits(model.norm.gamma.val().grad(&gradients).unwrap()));
    for layer in model.hidden.iter().chain([&model.output]) {
        all.push(bits(layer.weight.val().grad(&gradients).unwrap()));
        all.push(bits(
            layer.bias.as_ref().unwrap().val().grad(&gradients).unwrap(),
        ));
    }
    (gradients, all)
}

fn autodiff_devices() -> Vec<Device> {
    let devices = devices().into_iter();
    let devices = devices.chain(lent().map(|found| found.device));
    let both = |device: Device| {
        let device = device.autodiff();
        [device.clone(), device.gradient_checkpointing()]
    };
    devices.flat_map(both).collect()
}

#[test]
fn watching_changes_no_bit_of_the_output_or_the_gradients() {
    let repeatable = |device: &Device| is_processor(device);
    for device in autodiff_devices().into_iter().filter(repeatable) {
        let model = Net::new(&device);
        let (_, unwatched) = trained(&model, model.forward(images(&device)));
        let (output, mut seen) = Observer::new().run(|| model.forward(images(&device)));
        let (gradients, watched) = trained(&model, output);
        assert!(watched == unwatched);
        seen.backward(&model, &gradients);
        let report = seen.report();
        let names: Vec<&str> = report
            .layers
            .iter()
            .map(|layer| layer.name.as_str())
            .collect();
        assert_eq!(names, NAMES);
    }
}

#[test]
fn any_bits_pass_a_point() {
    let values = [0.0, -0.0, f64::NAN, f64::INFINITY, 1e-40, -3.5];
    for device in autodiff_devices() {
        let x = tensor(&values, [2, 3], &device).require_grad();
        let (y, _) = Observer::new().run(|| watch("x", x.clone()));
        assert_eq!(bits(y), bits(x));
    }
}

#[test]
fn gradients_are_those_of_the_points() {
    for device in autodiff_devices() {
        let factors = normal(8 * 4, 13);
        let x = tensor(&normal(8 * 4, 14), [8, 4], &device).require_grad();
        let (loss, mut seen) = Observer::new().run(|| {
            let input = watch("input", x.clone());
            let doubled = watch("doubled", input * 2.0);
            let unused = watch("unused", doubled.clone().exp());
            drop(unused);
            let view = watch("view", doubled.swap_dims(0, 1));
            (view.swap_dims(0, 1) * tensor(&factors, [8, 4], &device)).sum()
        });
        let model = LinearConfig::new(1, 1).init(&device);
        seen.backward(&model, &loss.backward());
        let report = seen.report();
        let gradient = |name: &str| {
            let layer = report.layers.iter().find(|layer| layer.name == name);
            layer.unwrap().gradient.as_ref()
        };
        let mean = factors.iter().sum::<f64>() / 32.0;
        let variance = factors.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 32.0;
        let max = factors.iter().copied().fold(f64::MIN, f64::max);
        for (name, factor) in [("view", 1.0), ("doubled", 1.0), ("input", 2.0)] {
            let found = gradient(name).unwrap();
            assert_eq!(found.count, 32);
            assert_eq!(found.max, factor * max);
            assert_close(found.mean, factor * mean, 1.0, 1e-6);
            assert_close(found.std, factor * variance.sqrt(), 1.0, 1e-6);
            assert_eq!(found.histogram.counts.iter().sum::<usize>(), 32);
        }
        assert!(gradient("unused").is_none());
    }
}

#[test]
fn constants_and_models_in_use_have_no_gradients() {
    for device in devices() {
        let training = device.clone().autodiff();
        let model = Net::new(&training);
        let (output, mut seen) = Observer::new().run(|| model.forward(images(&training)));
        seen.backward(&model, &output.sum().backward());
        let report = seen.report();
        assert!(report.layers[0].gradient.is_none());
        assert!(
            report.layers[1..]
                .iter()
                .all(|layer| layer.gradient.is_some())
        );

        let (_, seen) = Observer::new().run(|| model.valid().forward(images(&device)));
        let report = seen.report();
        assert_eq!(report.layers.len(), NAMES.len());
        assert!(report.layers.iter().all(|layer| layer.gradient.is_none()));
        assert!(report.parameters.is_empty());
    }
}

fn std(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt()
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn parameters_are_compared_with_their_gradients_and_updates() {
    for device in autodiff_devices() {
        let model = Net::new(&device);
        let (output, mut seen) = Observer::new().run(|| model.forward(images(&device)));
        let gradients = output.square().mean().backward();
        seen.backward(&model, &gradients);
        let weight = numbers(model.hidden[1].weight.val());
        let gradient = numbers(model.hidden[1].weight.val().grad(&gradients).unwrap());
        let mut optimizer = SgdConfig::new().init();
        let gradients = GradientsParams::from_grads(gradients, &model);
        let model = optimizer.step(0.1, model, gradients);
        let moved: Vec<f64> = numbers(model.hidden[1].weight.val())
            .iter()
            .zip(&weight)
            .map(|(after, before)| after - before)
            .collect();
        seen.step(&model);
        let report = seen.report();

        let names: Vec<&str> = report
            .parameters
            .iter()
            .map(|found| found.name.as_str())
            .collect();
        // Running statistics are not trained.
        assert_eq!(
            names,
            [
                "conv.weight",
                "conv.bias",
                "norm.gamma",
                "norm.beta",
                "hidden.0.weight",
                "hidden.0.bias",
                "hidden.1.weight",
                "hidden.1.bias",
                "output.weight",
                "output.bias",
            ]
        );
        let found = &report.parameters[6];
        assert_eq!(found.shape, [48, 48]);
        let [data, slope, update] = [&weight, &gradient, &moved].map(|values| std(values));
        let [data_rms, update_rms] = [&weight, &moved].map(|values| rms(values));
        assert_close(found.std, data, data, 1e-5);
        assert_close(found.gradient_std.unwrap(), slope, slope, 1e-5);
        assert_close(found.rms, data_rms, data_rms, 1e-5);
        assert_close(found.update_rms.unwrap(), update_rms, update_rms, 1e-5);
        assert_close(
            found.gradient_to_data().unwrap(),
            slope / data,
            slope / data,
            1e-4,
        );
        assert_close(
            found.update_to_data().unwrap(),
            (update_rms / data_rms).log10(),
            1.0,
            1e-4,
        );
        // Plain SGD moves by the learning rate times the gradient.
        assert_close(update, 0.1 * slope, update, 1e-3);
        // A bias starts at 0, so its update has nothing to be compared with.
        assert_eq!(
            (report.parameters[7].std, report.parameters[7].rms),
            (0.0, 0.0)
        );
        assert_eq!(report.parameters[7].update_to_data(), Some(f64::INFINITY));
        // A gamma starts with all values 1: no spread, but a size to compare its update with.
        let gamma = &report.parameters[2];
        assert_eq!((gamma.std, gamma.rms), (0.0, 1.0));
        assert_eq!(gamma.update_to_data(), gamma.update_rms.map(f64::log10));
    }
}

#[test]
fn what_was_not_shown_is_not_reported() {
    let device = any_device().autodiff();
    let model = Net::new(&device);
    let (output, mut seen) = Observer::new().run(|| model.forward(images(&device)));
    seen.backward(&model, &output.sum().backward());
    let report = seen.report();
    assert!(
        report
            .parameters
            .iter()
            .all(|found| found.gradient_std.is_some())
    );
    assert!(
        report
            .parameters
            .iter()
            .all(|found| found.update_to_data().is_none())
    );

    // Without an earlier backward pass, a step has nothing to compare with.
    let (_, mut seen) = Observer::new().run(|| model.forward(images(&device)));
    seen.step(&model);
    assert!(seen.report().parameters.is_empty());
}

/// A name that counts how often it is formatted.
struct Name<'a>(&'a AtomicUsize);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fetch_add(1, Ordering::Relaxed);
        f.write_str("name")
    }
}

#[test]
fn nothing_is_done_or_kept_when_nobody_watches() {
    for device in autodiff_devices() {
        let asked = AtomicUsize::new(0);
        let observer = Observer::new();
        let x = tensor(&normal(6, 15), [2, 3], &device).require_grad();
        let forward = || watch(Name(&asked), x.clone() * 2.0);

        forward();
        let (y, mut seen) = observer.run_if(false, forward);
        let model = Net::new(&device);
        seen.backward(&model, &y.sum().backward());
        seen.step(&model);
        assert_eq!(seen.report(), Report::default());
        assert_eq!(Observation::default().report(), Report::default());
        assert_eq!(asked.load(Ordering::Relaxed), 0);

        let (_, seen) = observer.run_if(true, forward);
        assert_eq!(seen.report().layers.len(), 1);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn an_observer_sees_its_own_closure_and_thread_only() {
    let device = any_device();
    let x = || Tensor::<2>::ones([2, 2], &device);
    let names = |report: Report| -> Vec<String> {
        report.layers.into_iter().map(|layer| layer.name).collect()
    };
    let observer = Observer::new();
    watch("before", x());
    let (inner, outer) = observer.run(|| {
        watch("first", x());
        let ((), inner) = observer.run(|| drop(watch("inside", x())));
        std::thread::scope(|scope| {
            scope.spawn(|| watch("elsewhere", x()));
        });
        // Passed twice: a row each.
        watch("second", watch("second", x()));
        inner
    });
    watch("after", x());
    assert_eq!(names(outer.report()), ["first", "second", "second"]);
    assert_eq!(names(inner.report()), ["inside"]);
}

#[test]
fn a_panic_inside_ends_the_watching() {
    let x = || Tensor::<2>::ones([2, 2], &any_device());
    let observer = Observer::new();
    let (_, seen) = observer.run(|| {
        watch("first", x());
        let inner = catch_unwind(AssertUnwindSafe(|| observer.run(|| panic!("inside"))));
        assert!(inner.is_err());
        watch("second", x());
    });
    assert_eq!(seen.report().layers.len(), 2);
    let asked = AtomicUsize::new(0);
    let outer = catch_unwind(AssertUnwindSafe(|| observer.run(|| panic!("outside"))));
    assert!(outer.is_err());
    watch(Name(&asked), x());
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn zeros_leave_every_unit_a_copy() {
    for device in devices() {
        let device = device.autodiff();
        let mut model = Net::new(&device);
        model.hidden = initialize(model.hidden, InitStrategy::Zeros, 1).0;
        let (_, seen) = Observer::new().run(|| model.forward(images(&device)));
        let report = seen.report();
        let hidden = report
            .layers
            .iter()
            .find(|layer| layer.name == "hidden.0")
            .unwrap();
        assert_eq!((hidden.duplicates, hidden.dead), (47, 0));
        assert_eq!((hidden.data.std, hidden.data.zeros), (0.0, 1.0));
    }
}

#[test]
fn blocks_come_before_the_names_of_their_points() {
    let device = any_device();
    let x = || Tensor::<2>::ones([2, 2], &device);
    let forward = || {
        watch("input", x());
        inside("stage", || {
            watch("first", x());
            for i in 0..2 {
                inside(format_args!("blocks.{i}"), || watch("conv", x()));
            }
        });
        watch("output", x());
    };
    let (_, seen) = Observer::new().run(forward);
    let names = |report: Report| -> Vec<String> {
        let layers = report.layers.into_iter();
        layers.map(|layer| layer.name).collect()
    };
    let expected = [
        "input",
        "stage.first",
        "stage.blocks.0.conv",
        "stage.blocks.1.conv",
        "output",
    ];
    assert_eq!(names(seen.report()), expected);
    // On a worker of rayon, whose jobs see nothing of it, too.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let (_, seen) = pool.install(|| Observer::new().run(forward));
    assert_eq!(names(seen.report()), expected);
    // Without an observer, the names are not even formatted.
    struct Unformatted;
    impl fmt::Display for Unformatted {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("nobody watches")
        }
    }
    assert_eq!(inside(Unformatted, || 7), 7);
    // An observer inside of a block starts at its own names, because nobody watches the block.
    let (_, seen) = inside("stage", || Observer::new().run(|| watch("first", x())));
    assert_eq!(names(seen.report()), ["first"]);
}

/// There, no thread is free to measure meanwhile.
#[test]
fn the_only_thread_of_a_pool_measures_by_itself() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let report = pool.unwrap().install(|| {
        let x = tensor(&normal(600, 9), [20, 30], &any_device().autodiff()).require_grad();
        let (loss, mut seen) = Observer::new().run(|| watch("point", x).square().sum());
        seen.backward(&Vec::<Linear>::new(), &loss.backward());
        seen.report()
    });
    let [layer] = &report.layers[..] else {
        panic!("one point was passed")
    };
    let gradient = layer.gradient.as_ref().unwrap();
    assert!((gradient.std / layer.data.std - 2.0).abs() < 1e-6);
}
