//! Channels along another axis.

use burn::nn::pool::MaxPool2dConfig;
use burn::tensor::{Bool, DType, Tensor};
use burn_kindling::norm::{BatchNormConfig, Then};

use crate::devices::{any_device, devices};
use crate::{assert_close, noise, numbers, panic_of, tensor};

#[test]
fn it_equals_permuting_by_hand() {
    for device in devices() {
        let device = device.autodiff();
        let values = noise(1, 2 * 5 * 6 * 3);
        for axis in [-1, 3] {
            let config = BatchNormConfig::new(3);
            let last = config.clone().with_channel_axis(axis).init(&device);
            let first = config.init(&device);
            let [x, skip] = [0, 1].map(|turn| {
                let mut values = values.clone();
                values.rotate_left(7 * turn);
                tensor::<4>(&values, [2, 5, 6, 3], DType::F32, &device).require_grad()
            });
            let then = |skip| Then::new().add_residual(skip).relu();
            let found = last.forward_then(x.clone(), then(skip.clone()));
            let [turned, skipped] = [&x, &skip].map(|it| it.clone().permute([0, 3, 1, 2]));
            let expected = first
                .forward_then(turned, then(skipped))
                .permute([0, 2, 3, 1]);
            assert_close(
                "output",
                &numbers(found.clone()),
                &numbers(expected.clone()),
                1e-6,
            );
            let gradient = |output: Tensor<4>, of: &Tensor<4>| {
                numbers(of.grad(&output.powi_scalar(3).sum().backward()).unwrap())
            };
            assert_close("x", &gradient(found, &x), &gradient(expected, &x), 1e-5);
            let [found, expected] = [last, first].map(|norm| numbers(norm.running_mean.value()));
            assert_close("mean", &found, &expected, 1e-6);
        }
    }
}

#[test]
fn images_are_pooled_whatever_the_axis() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(3).with_channel_axis(-1).init(&device);
        let x = tensor::<4>(&noise(1, 2 * 4 * 6 * 3), [2, 4, 6, 3], DType::F32, &device);
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        let output = norm.forward_then(x, Then::new().relu().max_pool(&pool));
        assert_eq!(output.dims(), [2, 2, 3, 3]);
    }
}

#[test]
fn sequences_are_masked_along_time() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(2)
            .with_channel_axis(-1)
            .with_momentum(1.0)
            .init(&device);
        let x = tensor::<3>(
            &[1.0, 10.0, 3.0, 20.0, 9.0, 9.0],
            [1, 3, 2],
            DType::F32,
            &device,
        );
        let mask = Tensor::<2, Bool>::from_data([[true, true, false]], &device);
        norm.forward_masked(x, mask);
        assert_eq!(numbers(norm.running_mean.value()), [2.0, 15.0]);
    }
}

#[test]
fn a_wrong_axis_is_named() {
    let device = any_device();
    let norm = BatchNormConfig::new(3).with_channel_axis(2).init(&device);
    let failure = panic_of(|| norm.forward(Tensor::<2>::ones([4, 3], &device)));
    assert_eq!(
        failure,
        "BatchNorm has its channels along axis 2 (`with_channel_axis`), and its batch along axis 0, but the input of shape [4, \
         3] has the axes 0 to 1."
    );
    let failure = panic_of(|| norm.forward(Tensor::<3>::ones([4, 3, 5], &device)));
    assert!(failure.contains("axis 2 expected 3, got 5"), "{failure}");
    assert!(
        failure.contains("BatchNormConfig::with_channel_axis"),
        "{failure}"
    );
    let failure = panic_of(|| {
        let norm = BatchNormConfig::new(3).with_channel_axis(-3).init(&device);
        norm.forward(Tensor::<3>::ones([3, 4, 5], &device))
    });
    assert!(failure.contains("axis -3"), "{failure}");
    let failure = panic_of(|| BatchNormConfig::new(3).with_channel_axis(0).init(&device));
    assert_eq!(
        failure,
        "channel_axis must not be 0, the axis of the batch."
    );
}

#[test]
fn it_is_saved_and_shown() {
    use burn::config::{Config, config_to_json};
    let config = BatchNormConfig::new(3).with_channel_axis(-1);
    let json = config_to_json(&config);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("norm.json");
    std::fs::write(&path, json).unwrap();
    assert_eq!(BatchNormConfig::load(&path).unwrap(), config);
    let shown = config.init(&any_device()).to_string();
    assert!(shown.contains("channel_axis: -1"), "{shown}");
    let usual = BatchNormConfig::new(3).init(&any_device()).to_string();
    assert!(!usual.contains("channel_axis"), "{usual}");
}
