//! Calibration: any model reaches a standard deviation of 1, and what cannot is an error.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::calibration::{CalibrateError, Calibration, Calibrator, LayerState, calibrate};
use burn_kindling::init::{Activation, InitStrategy, Scheme, initialize};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};
use burn_kindling::observe::{Observer, Point, inside, watch};
use burn_kindling_lab::model::{Classifier, CnnConfig, ModelConfig, Normalization};

use crate::devices::{any_device, processors};
use crate::values;

const WIDTH: usize = 100;

fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    device.seed(1);
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn layers(count: usize, bias: bool, device: &Device) -> Vec<Linear> {
    let layer = || LinearConfig::new(WIDTH, WIDTH).with_bias(bias).init(device);
    (0..count).map(|_| layer()).collect()
}

/// A perceptron that alternates between GELU and tanh.
#[derive(Module, Debug)]
struct Mixed {
    layers: Vec<Linear>,
}

impl Mixed {
    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = watch(format_args!("layers.{i}"), layer.forward(x));
            x = [Activation::Gelu, Activation::Tanh][i % 2].forward(x);
        }
        x
    }

    /// The same, with points after the GELUs.
    fn forward_after(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.layers.iter().enumerate() {
            let point = Point::new(format!("layers.{i}"));
            x = match i % 2 {
                0 => point
                    .after(Activation::Gelu)
                    .watch(Activation::Gelu.forward(layer.forward(x))),
                _ => Activation::Tanh.forward(point.watch(layer.forward(x))),
            };
        }
        x
    }
}

/// A residual network, with or without batch norm.
#[derive(Module, Debug)]
struct Residual {
    blocks: Vec<ResidualBlock>,
}

#[derive(Module, Debug)]
struct ResidualBlock {
    first: Linear,
    norm: Option<BatchNorm>,
    second: Linear,
}

impl ResidualBlock {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let mut branch = watch("first", self.first.forward(x.clone()));
        if let Some(norm) = &self.norm {
            branch = norm.forward(branch);
        }
        x + watch(
            "second",
            self.second.forward(Activation::Relu.forward(branch)),
        )
    }
}

impl Residual {
    fn new(normed: bool, device: &Device) -> Self {
        let block = || ResidualBlock {
            first: LinearConfig::new(WIDTH, WIDTH).init(device),
            norm: normed.then(|| BatchNormConfig::new(WIDTH).init(device)),
            second: LinearConfig::new(WIDTH, WIDTH).init(device),
        };
        Self {
            blocks: (0..10).map(|_| block()).collect(),
        }
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, block) in self.blocks.iter().enumerate() {
            x = inside(format_args!("blocks.{i}"), || block.forward(x));
        }
        x
    }
}

#[track_caller]
fn assert_calibrated(report: &Calibration, layers: usize, tolerance: f64, passes: usize) {
    assert_eq!(report.layers.len(), layers, "{report}");
    for layer in &report.layers {
        assert_eq!(layer.state, LayerState::Scaled);
        assert!((layer.after - 1.0).abs() <= tolerance, "{report}");
    }
    assert!(report.passes <= passes, "{report}");
}

/// The standard deviations that an observer sees.
fn stds<T: Send>(forward: impl FnOnce() -> T + Send) -> Vec<f64> {
    let (_, seen) = Observer::new().run(forward);
    seen.report()
        .layers
        .iter()
        .map(|layer| layer.data.std)
        .collect()
}

#[test]
fn a_deep_network_of_mixed_activations_is_calibrated_in_three_passes() {
    for device in processors()
        .into_iter()
        .flat_map(|device| [device.clone(), device.autodiff()])
    {
        let (net, _) = initialize(
            Mixed {
                layers: layers(50, true, &device),
            },
            Scheme::normal(1.0),
            1,
        );
        let batch = normal([200, WIDTH], &device.clone().inner());
        let before = stds(|| net.valid().forward(batch.clone()));
        let (calibrated, report) = calibrate(&net, |net| net.forward(batch.clone())).unwrap();
        assert_calibrated(&report, 50, 1e-3, 3);
        // The report is what an observer sees, and the model given stays as it was.
        let after = stds(|| calibrated.valid().forward(batch.clone()));
        for (layer, (before, after)) in report.layers.iter().zip(before.iter().zip(after)) {
            assert!((layer.before / before - 1.0).abs() < 1e-4);
            assert!((layer.after / after - 1.0).abs() < 1e-4);
        }
        assert_eq!(stds(|| net.valid().forward(batch.clone())), before);
        assert_eq!(
            calibrated.layers[0].weight.val().is_require_grad(),
            device.is_autodiff()
        );
    }
}

#[test]
fn points_after_a_gelu_take_a_few_more_passes() {
    let device = any_device();
    let (net, _) = initialize(
        Mixed {
            layers: layers(50, false, &device),
        },
        Scheme::normal(1.0),
        1,
    );
    let batch = normal([200, WIDTH], &device);
    let (_, report) = calibrate(&net, |net| net.forward_after(batch.clone())).unwrap();
    assert_calibrated(&report, 50, 0.05, 10);
}

#[test]
fn a_residual_network_is_calibrated() {
    let device = any_device();
    for normed in [false, true] {
        let (net, _) = initialize(Residual::new(normed, &device), Scheme::normal(1.0), 1);
        let batch = normal([200, WIDTH], &device);
        let (calibrated, report) = calibrate(&net, |net| net.forward(batch.clone())).unwrap();
        assert_calibrated(&report, 20, 1e-3, 3);
        // The statistics of its norms are not the calibration's to change.
        for block in calibrated.blocks {
            let untouched = block
                .norm
                .is_none_or(|norm| values(norm.running_mean.value()) == [0.0; WIDTH]);
            assert!(untouched);
        }
    }
}

#[test]
fn the_convolutional_network_of_the_lab_is_calibrated() {
    let device = any_device();
    let config = CnnConfig::new()
        .with_norm(Normalization::None)
        .with_init(InitStrategy::StandardNormal);
    let Classifier::Cnn(net) = ModelConfig::Cnn(config).init(&device) else {
        panic!("the config describes a Cnn")
    };
    let images = normal([50, 1, 28, 28], &device);
    let (_, report) = calibrate(&net, |net| net.forward(images.clone())).unwrap();
    assert_calibrated(&report, 4, 0.05, 10);
}

/// Layers whose units lie along different axes.
#[derive(Module, Debug)]
struct Image {
    up: ConvTranspose2d,
    conv: Conv2d,
    output: Linear,
}

impl Image {
    fn new(device: &Device) -> Self {
        Self {
            up: ConvTranspose2dConfig::new([4, 6], [2, 2])
                .with_stride([2, 2])
                .with_groups(2)
                .init(device),
            conv: Conv2dConfig::new([6, 8], [3, 3])
                .with_groups(2)
                .init(device),
            output: LinearConfig::new(8 * 36, 5).with_bias(false).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = Activation::Relu.forward(watch("up", self.up.forward(x)));
        let x = Activation::Gelu.forward(watch("conv", self.conv.forward(x)));
        watch("output", self.output.forward(x.flatten(1, 3)))
    }
}

#[test]
fn each_unit_can_be_scaled_by_itself() {
    let device = any_device();
    let (net, _) = initialize(Image::new(&device), Scheme::uniform_between(-1.0, 3.0), 1);
    let images = normal([64, 4, 4, 4], &device);
    let calibrator = Calibrator::new().per_unit().with_tolerance(1e-3);
    let (net, report) = calibrator
        .calibrate(&net, |net| net.forward(images.clone()))
        .unwrap();
    assert_eq!(report.passes, 3, "{report}");

    let up = net.up.forward(images.clone());
    let conv = net.conv.forward(Activation::Relu.forward(up.clone()));
    let moments = |x: Tensor<4>| {
        let [batch, units, height, width] = x.dims();
        let rows = x.swap_dims(0, 1).reshape([units, batch * height * width]);
        let (variance, mean) = rows.var_mean_bias(1);
        (values(mean), values(variance))
    };
    for x in [up, conv] {
        let (means, variances) = moments(x);
        assert!(means.iter().all(|mean| mean.abs() < 1e-4), "{means:?}");
        assert!(
            variances
                .iter()
                .all(|variance| (variance - 1.0).abs() < 1e-3),
            "{variances:?}"
        );
    }
    // Without a bias, the mean stays.
    let output = net.forward(images);
    let (variance, mean) = output.var_mean_bias(0);
    assert!(
        values(variance)
            .iter()
            .all(|variance| (variance - 1.0).abs() < 1e-3)
    );
    assert!(values(mean).iter().any(|mean| mean.abs() > 0.01));
}

#[derive(Module, Debug)]
struct Block {
    linear: Linear,
    norm: BatchNorm,
}

#[test]
fn normalised_and_frozen_layers_are_left_alone() {
    let device = any_device();
    let block = Block {
        linear: LinearConfig::new(WIDTH, WIDTH).init(&device),
        norm: BatchNormConfig::new(WIDTH).init(&device),
    };
    let frozen = LinearConfig::new(WIDTH, WIDTH).init(&device).no_grad();
    let model = (block, frozen, LinearConfig::new(WIDTH, WIDTH).init(&device));
    let batch = normal([64, WIDTH], &device);
    let (after, report) = calibrate(&model, |(block, frozen, last)| {
        let x = watch("0", block.norm.forward(block.linear.forward(batch.clone())));
        let x = watch("1", frozen.forward(x));
        watch("2", last.forward(x))
    })
    .unwrap();
    let states: Vec<LayerState> = report.layers.iter().map(|layer| layer.state).collect();
    assert_eq!(
        states,
        [
            LayerState::Normalized,
            LayerState::Frozen,
            LayerState::Scaled
        ]
    );
    assert_eq!(
        values(after.0.linear.weight.val()),
        values(model.0.linear.weight.val())
    );
    assert_eq!(values(after.1.weight.val()), values(model.1.weight.val()));
    assert!((report.layers[2].after - 1.0).abs() < 1e-3);
}

#[test]
fn a_layer_that_is_called_twice_is_scaled_once() {
    let device = any_device();
    let (net, _) = initialize(
        layers(1, false, &device),
        Scheme::orthogonal().scaled(3.0),
        1,
    );
    let batch = normal([500, WIDTH], &device);
    let (_, report) = calibrate(&net, |net| {
        let x = watch("0", net[0].forward(batch.clone()));
        watch("0", net[0].forward(x))
    })
    .unwrap();
    assert_calibrated(&report, 1, 0.05, 3);
    // Its second output cannot have the same spread, if it shrinks what the first gives.
    let (net, _) = initialize(layers(1, false, &device), Scheme::he(), 1);
    let error = calibrate(&net, |net| {
        let x = watch("0", net[0].forward(batch.clone()));
        watch("0", net[0].forward(Activation::Tanh.forward(x * 0.1)))
    })
    .unwrap_err();
    assert!(
        matches!(error, CalibrateError::NotReached { .. }),
        "{error}"
    );
}

#[test]
fn a_layer_that_is_not_called_again_keeps_its_scale() {
    let device = any_device();
    let net = layers(2, false, &device);
    let (net, _) = initialize(net, Scheme::orthogonal().scaled(3.0), 1);
    let batch = normal([200, WIDTH], &device);
    let passes = std::sync::atomic::AtomicUsize::new(0);
    let (after, _) = calibrate(&net, |net| {
        let pass = passes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let x = net[0].forward(batch.clone());
        // The first two passes call both layers, the others only the second.
        let x = if pass < 2 { watch("0", x) } else { x };
        let x = Activation::Gelu.forward(net[1].forward(x));
        Point::new("1").after(Activation::Gelu).watch(x)
    })
    .unwrap();
    assert!(passes.into_inner() > 3);
    let std = values(after[0].forward(batch).flatten::<1>(0, 1).var(0).sqrt())[0];
    assert!((std - 1.0).abs() < 1e-3, "{std}");
}

#[test]
fn a_point_with_other_units_than_its_layer_is_an_error() {
    let device = any_device();
    let net = layers(1, true, &device);
    let batch = normal([64, WIDTH], &device);
    let result = Calibrator::new().per_unit().calibrate(&net, |net| {
        watch(
            "0",
            net[0].forward(batch.clone()).reshape([64, WIDTH / 4, 4]),
        )
    });
    assert_eq!(
        result.unwrap_err().to_string(),
        "the tensor at `0` has 25 units, and its layer has 100; watch the output of the layer itself, and name its axis \
         of units with `units_along`"
    );
}

#[test]
fn what_cannot_be_scaled_is_an_error_that_says_why() {
    let device = any_device();
    let batch = normal([64, WIDTH], &device);
    let error =
        |net: &Vec<Linear>, calibrator: Calibrator, name: &str, activation: Option<Activation>| {
            let result = calibrator.calibrate(net, |net| {
                let mut x = net[0].forward(batch.clone());
                let mut point = Point::new(name);
                if let Some(activation) = activation {
                    x = activation.forward(x);
                    point = point.after(activation);
                }
                point.watch(x)
            });
            result.unwrap_err().to_string()
        };
    let net = layers(1, true, &device);
    let plain = Calibrator::new;
    assert_eq!(
        error(&net, plain(), "first", None),
        "no point of the forward pass names a layer with weights; watch the output of each layer under the layer's path, \
         such as `blocks.3.conv`; the points are first"
    );
    assert_eq!(
        error(&net, plain(), "0", Some(Activation::Tanh)),
        "the point `0` is after tanh, whose output cannot have a standard deviation of 1; watch the output of the layer \
         before it"
    );
    assert_eq!(
        error(&net, plain().per_unit(), "0", Some(Activation::Relu)),
        "the point `0` is after an activation; to scale each unit by itself, watch the output of the layer before it"
    );
    let (zeros, _) = initialize(net.clone(), InitStrategy::Zeros, 1);
    assert_eq!(
        error(&zeros, plain(), "0", None),
        "the output at `0` is the same for the whole batch, so no factor scales it: its weights are 0, or its inputs are \
         dead"
    );
    assert_eq!(
        error(&zeros, plain().per_unit(), "0", None),
        "the output at `0`, unit 0, is the same for the whole batch, so no factor scales it: its weights are 0, or its \
         inputs are dead"
    );
    let (huge, _) = initialize(net, Scheme::normal(1e38), 1);
    assert_eq!(
        error(&huge, plain(), "0", None),
        "the output at `0` is not finite; check the batch, and start from smaller weights"
    );
}

#[test]
fn the_report_is_a_table() {
    let device = any_device();
    let (net, _) = initialize(
        layers(2, false, &device),
        Scheme::orthogonal().scaled(10.0),
        1,
    );
    let batch = Tensor::<2>::eye(WIDTH, &device);
    let (_, report) = calibrate(&net, |net| {
        let x = watch("0", net[0].forward(batch.clone()));
        watch("1", net[1].forward(x))
    })
    .unwrap();
    let shown = report.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "layer  std before   std after");
    assert_eq!(lines[1], "0           1.000       1.000");
    assert_eq!(lines[2], "1           9.999       1.000");
    assert_eq!(lines[3], "3 passes");
}
