//! The batch norm module: what it computes, remembers and refuses.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};

fn values(tensor: Option<Tensor<1>>) -> Vec<f32> {
    tensor
        .expect("a layer with running statistics")
        .into_data()
        .try_to_vec()
        .unwrap()
}

fn two_channels(device: &Device) -> Tensor<2> {
    Tensor::from_floats([[1.0, 10.0], [3.0, 30.0], [5.0, 80.0]], device)
}

#[test]
fn training_normalises_by_the_batch_and_updates_at_once() {
    let device = Device::default().autodiff();
    let norm = BatchNormConfig::new(2).with_epsilon(1e-9).init(&device);

    let output = norm.forward(two_channels(&device));

    let deviation = [(8.0f32 / 3.0).sqrt(), (2600.0f32 / 3.0).sqrt()];
    let expected = [[-2.0, -30.0], [0.0, -10.0], [2.0, 40.0]]
        .map(|[first, second]| [first / deviation[0], second / deviation[1]]);
    output
        .into_data()
        .assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::default());
    // Mean 3 and 40; unbiased variance 4 and 1300.
    TensorData::from(values(norm.running_mean()).as_slice())
        .assert_approx_eq::<f32>(&TensorData::from([0.3, 4.0]), Tolerance::default());
    TensorData::from(values(norm.running_var()).as_slice()).assert_approx_eq::<f32>(
        &TensorData::from([0.9 + 0.4, 0.9 + 130.0]),
        Tolerance::default(),
    );
}

#[test]
fn inference_normalises_by_the_running_statistics() {
    let device = Device::default();
    let norm: BatchNorm = BatchNormConfig::new(2)
        .with_momentum(1.0)
        .init(&device.clone().autodiff());
    norm.forward(two_channels(&device.clone().autodiff()));

    let output = norm.valid().forward(Tensor::<2>::from_floats(
        [[3.0, 40.0], [5.0, 40.0]],
        &device,
    ));

    output.into_data().assert_approx_eq::<f32>(
        &TensorData::from([[0.0, 0.0], [1.0, 0.0]]),
        Tolerance::absolute(1e-5),
    );
}
