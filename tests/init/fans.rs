//! Fan-in and fan-out: counted by hand, by real layers, and by PyTorch.

use burn::nn::{
    Initializer, LinearConfig,
    conv::{
        Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
        ConvTranspose3dConfig,
    },
};
use burn::tensor::{Device, Tensor};
use burn_kindling::init::Fan;

use crate::devices::processors;
use crate::pytorch;

#[test]
fn fans_are_counted_from_shapes() {
    let fan = |fan_in, fan_out| Fan { fan_in, fan_out };
    assert_eq!(Fan::linear([784, 100]), fan(784, 100));

    assert_eq!(Fan::conv([16, 8, 5], 1), fan(40, 80));
    assert_eq!(Fan::conv([32, 1, 3, 3], 1), fan(9, 288));
    assert_eq!(Fan::conv([32, 4, 3, 5], 2), fan(60, 240));
    assert_eq!(Fan::conv([32, 1, 3, 3], 32), fan(9, 9));
    assert_eq!(Fan::conv([6, 4, 3, 2, 2], 3), fan(48, 24));

    assert_eq!(Fan::conv_transpose([16, 8, 5], 1), fan(80, 40));
    assert_eq!(Fan::conv_transpose([64, 3, 4, 4], 1), fan(1024, 48));
    assert_eq!(Fan::conv_transpose([32, 4, 3, 5], 2), fan(240, 60));
    assert_eq!(Fan::conv_transpose([6, 4, 3, 2, 2], 3), fan(24, 48));

    let upsampled =
        |shape, stride: [usize; 2]| Fan::conv_transpose::<4>(shape, 1).upsampled_by(&stride);
    assert_eq!(upsampled([64, 3, 4, 4], [1, 1]), fan(1024, 48));
    assert_eq!(upsampled([64, 3, 4, 4], [2, 2]), fan(256, 48));
    assert_eq!(upsampled([64, 3, 2, 2], [2, 2]), fan(64, 12));
    // 2.25 taps per output on average.
    assert_eq!(upsampled([64, 3, 3, 3], [2, 2]), fan(144, 27));
    assert_eq!(upsampled([1, 3, 3, 3], [2, 2]), fan(2, 27));
    assert_eq!(upsampled([1, 3, 1, 1], [3, 3]), fan(1, 3));
}

/// With weights and inputs of 1, the output of an interior unit is its number of inputs, and the gradient of an input
/// is the number of outputs that it feeds.
#[track_caller]
fn assert_fan_by_counting<const D: usize>(
    input: [usize; D],
    forward: impl Fn(Tensor<D>) -> Tensor<D>,
    fan: Fan,
    device: &Device,
) {
    let input = Tensor::ones(input, device).require_grad();
    let output = forward(input.clone());
    let gradient = input.grad(&output.clone().sum().backward()).unwrap();
    let counted = Fan {
        fan_in: output.max().into_scalar::<f32>() as usize,
        fan_out: gradient.max().into_scalar::<f32>() as usize,
    };
    assert_eq!(fan, counted);
}

#[test]
fn fans_count_the_connections_of_real_layers() {
    let ones = Initializer::Ones;
    for device in processors() {
        let device = device.autodiff();

        let layer = LinearConfig::new(6, 9)
            .with_bias(false)
            .with_initializer(ones.clone())
            .init(&device);
        let fan = Fan::linear(layer.weight.dims());
        assert_fan_by_counting([1, 6], |x| layer.forward(x), fan, &device);

        macro_rules! check {
            ($config:expr, $groups:literal, $input:expr, $fan:expr) => {
                let layer = $config
                    .with_groups($groups)
                    .with_bias(false)
                    .with_initializer(ones.clone())
                    .init(&device);
                let fan = $fan(layer.weight.dims(), $groups);
                assert_fan_by_counting($input, |x| layer.forward(x), fan, &device);
            };
        }
        let dilated = Conv2dConfig::new([4, 6], [3, 3]).with_dilation([2, 2]);
        check!(Conv1dConfig::new(4, 6, 3), 1, [1, 4, 12], Fan::conv);
        check!(Conv1dConfig::new(4, 6, 3), 2, [1, 4, 12], Fan::conv);
        check!(
            Conv2dConfig::new([4, 6], [3, 2]),
            1,
            [1, 4, 9, 9],
            Fan::conv
        );
        check!(
            Conv2dConfig::new([4, 6], [3, 2]),
            2,
            [1, 4, 9, 9],
            Fan::conv
        );
        check!(dilated, 2, [1, 4, 15, 15], Fan::conv);
        check!(
            Conv3dConfig::new([4, 6], [3, 2, 2]),
            1,
            [1, 4, 7, 7, 7],
            Fan::conv
        );
        check!(
            Conv3dConfig::new([4, 6], [3, 2, 2]),
            2,
            [1, 4, 7, 7, 7],
            Fan::conv
        );

        let transpose_2d = ConvTranspose2dConfig::new([4, 6], [3, 2]);
        let transpose_3d = ConvTranspose3dConfig::new([4, 6], [3, 2, 2]);
        let upsampling = ConvTranspose2dConfig::new([4, 6], [4, 6]).with_stride([2, 3]);
        let upsampling_fan = |w, groups| Fan::conv_transpose::<4>(w, groups).upsampled_by(&[2, 3]);
        check!(
            ConvTranspose1dConfig::new([4, 6], 3),
            1,
            [1, 4, 9],
            Fan::conv_transpose
        );
        check!(
            ConvTranspose1dConfig::new([4, 6], 3),
            2,
            [1, 4, 9],
            Fan::conv_transpose
        );
        check!(transpose_2d.clone(), 1, [1, 4, 9, 9], Fan::conv_transpose);
        check!(transpose_2d, 2, [1, 4, 9, 9], Fan::conv_transpose);
        check!(upsampling, 2, [1, 4, 9, 9], upsampling_fan);
        check!(
            transpose_3d.clone(),
            1,
            [1, 4, 7, 7, 7],
            Fan::conv_transpose
        );
        check!(transpose_3d, 2, [1, 4, 7, 7, 7], Fan::conv_transpose);
    }
}

#[test]
#[should_panic(expected = "of rank 3 or more; got rank 2")]
fn a_matrix_is_not_a_convolution() {
    Fan::conv([10, 10], 1);
}

#[test]
#[should_panic(expected = "got weight [6, 2, 3] and 4 groups")]
fn groups_divide_the_channels() {
    Fan::conv([6, 2, 3], 4);
}

#[test]
#[should_panic(expected = "must be at least 1; got [2, 0]")]
fn a_stride_of_0_is_refused() {
    Fan::conv_transpose([6, 2, 3, 3], 1).upsampled_by(&[2, 0]);
}

/// PyTorch ignores groups, and takes a transposed convolution for a convolution. What that means is that its fan-out of
/// a convolution is `groups` times ours, and its fans of a transposed convolution are ours exchanged, one of them times
/// `groups`. For all others they are equal, but an embedding's, which has one active input.
#[test]
fn fans_are_pytorchs_where_pytorch_counts_connections() {
    for case in pytorch::cases("fans") {
        let layer = pytorch::text(&case["layer"]);
        let shape = pytorch::shape(&case["torch_shape"]);
        let groups = pytorch::count(&case["groups"]);
        let [fan_in, fan_out] = ["fan_in", "fan_out"].map(|name| pytorch::count(&case[name]));
        let ours = |conv: bool| match (conv, &shape[..]) {
            (true, &[a, b, c]) => Fan::conv([a, b, c], groups),
            (true, &[a, b, c, d]) => Fan::conv([a, b, c, d], groups),
            (true, &[a, b, c, d, e]) => Fan::conv([a, b, c, d, e], groups),
            (false, &[a, b, c]) => Fan::conv_transpose([a, b, c], groups),
            (false, &[a, b, c, d]) => Fan::conv_transpose([a, b, c, d], groups),
            (false, &[a, b, c, d, e]) => Fan::conv_transpose([a, b, c, d, e], groups),
            _ => panic!("{case}"),
        };
        let theirs = Fan { fan_in, fan_out };
        match layer {
            "Linear" => assert_eq!(Fan::linear([shape[1], shape[0]]), theirs, "{case}"),
            "Embedding" => (),
            _ if layer.starts_with("ConvTranspose") => {
                let ours = ours(false);
                let as_theirs = Fan {
                    fan_in: ours.fan_out,
                    fan_out: ours.fan_in * groups,
                };
                assert_eq!(as_theirs, theirs, "{case}");
            }
            _ => {
                let ours = ours(true);
                let as_theirs = Fan {
                    fan_out: ours.fan_out * groups,
                    ..ours
                };
                assert_eq!(as_theirs, theirs, "{case}");
            }
        }
    }
}
