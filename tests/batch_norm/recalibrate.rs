//! Recalibration gives the statistics of the sample, exactly.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{
    BatchNorm, BatchNormConfig, RecalibrateError, RunningAverage, recalibrate, recalibrate_at_once,
};

use crate::{any_device, assert_close, devices, numbers, oracle, panic_of};

#[derive(Module, Debug)]
struct Model {
    linears: Vec<Linear>,
    norms: Vec<BatchNorm>,
    dropout: Dropout,
}

impl Model {
    fn new(device: &Device) -> Self {
        Self {
            linears: (0..3)
                .map(|_| LinearConfig::new(4, 4).init(device))
                .collect(),
            norms: (0..3)
                .map(|_| BatchNormConfig::new(4).init(device))
                .collect(),
            dropout: DropoutConfig::new(0.5).init(),
        }
    }

    /// The inputs of the batch norm layers, and the output last.
    fn flow(&self, input: Tensor<2>) -> Vec<Tensor<2>> {
        let mut flow = vec![input];
        for (linear, norm) in self.linears.iter().zip(&self.norms) {
            let x = linear.forward(flow.pop().unwrap());
            flow.push(x.clone());
            flow.push(self.dropout.forward(relu(norm.forward(x))));
        }
        flow
    }

    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.flow(input).pop().unwrap()
    }
}

/// Batches of different sizes and means, one of a single row.
fn batches(device: &Device) -> Vec<Tensor<2>> {
    [(7, 0.0), (1, 5.0), (16, -2.0), (3, 1.0)]
        .map(|(rows, mean)| Tensor::random([rows, 4], Distribution::Normal(mean, 1.5), device))
        .to_vec()
}

/// Checks that the statistics are the pooled mean and unbiased variance of each layer's input, with all batches in one.
fn assert_statistics_of_the_sample(model: &Model, sample: Tensor<2>, layers: usize) {
    let model = model.valid();
    let flow = model.flow(sample);
    for (norm, x) in model.norms.iter().zip(flow).take(layers) {
        let (mean, variance, count) =
            oracle::moments(&numbers(x.clone()), &oracle::Layout::of(&x.dims()));
        let unbiased: Vec<_> = variance
            .iter()
            .map(|v| v * count as f64 / (count as f64 - 1.0))
            .collect();
        assert_close(
            "mean",
            &numbers(norm.running_mean.value_sync()),
            &mean,
            2e-6,
        );
        assert_close(
            "variance",
            &numbers(norm.running_var.value_sync()),
            &unbiased,
            2e-6,
        );
    }
}

#[test]
fn layer_by_layer_is_exact_for_every_layer() {
    for device in devices() {
        for device in [device.clone(), device.autodiff()] {
            let (model, batches) = (Model::new(&device), batches(&device));
            let mut seen = Vec::new();
            let recalibrated = recalibrate(
                &model,
                || batches.iter().cloned(),
                Model::forward,
                |progress| seen.push((progress.pass, progress.passes, progress.batches)),
            )
            .unwrap();

            assert_statistics_of_the_sample(&recalibrated, Tensor::cat(batches.clone(), 0), 3);
            let expected: Vec<_> = (1..=3)
                .flat_map(|pass| (1..=4).map(move |batch| (pass, 3, batch)))
                .collect();
            assert_eq!(seen, expected);
            // The rest is unchanged, and so is the model that was passed in.
            assert_eq!(numbers(model.norms[2].running_mean.value_sync()), [0.0; 4]);
            let weights = |model: &Model| numbers(model.linears[1].weight.val());
            assert_eq!(weights(&model), weights(&recalibrated));
            assert_eq!(
                recalibrated.norms[0].training.is_enabled(),
                model.norms[0].training.is_enabled()
            );
            assert_eq!(
                recalibrated.linears[0].weight.is_require_grad(),
                device.is_autodiff()
            );
        }
    }
}

#[test]
fn one_pass_gives_the_same_to_the_bit() {
    for device in devices() {
        let model = Model::new(&device.clone().autodiff());
        let mut batches = batches(&device);
        // One that does not count for its channel.
        batches.push(batches[0].clone().slice_fill([0..1, 2..3], f32::NAN));
        let expected = recalibrate(&model, || batches.clone(), Model::forward, |_| ()).unwrap();
        let found = recalibrate_at_once(&model, batches, Model::forward).unwrap();
        let statistics = |model: &Model| -> Vec<Vec<f64>> {
            let both = |norm: &BatchNorm| {
                [&norm.running_mean, &norm.running_var].map(|it| numbers(it.value_sync()))
            };
            model.norms.iter().flat_map(both).collect()
        };
        assert_eq!(statistics(&found), statistics(&expected));
        assert_eq!(numbers(model.norms[2].running_mean.value_sync()), [0.0; 4]);
        assert!(found.linears[0].weight.is_require_grad());

        // A batch without rows comes to the meeting, too.
        let norm = BatchNormConfig::new(4).init(&device);
        let batches = || [0, 7, 0].map(|rows| Tensor::<2>::ones([rows, 4], &device) * rows as f64);
        let forward = |norm: &BatchNorm, batch| norm.forward(batch);
        let found = recalibrate_at_once(&norm, batches(), forward).unwrap();
        assert_eq!(numbers(found.running_mean.value_sync()), [7.0; 4]);
    }
}

#[test]
fn batches_that_part_in_one_pass_are_an_error() {
    let device = any_device();
    let input = || Tensor::<2>::random([5, 2], Distribution::Default, &device);
    let cases: [(&[&[usize]], usize); 5] = [
        // Another order, a layer twice, a layer that one batch leaves out, and at last.
        (&[&[0, 1], &[1, 0]], 0),
        (&[&[0, 1, 0], &[0, 1, 0]], 2),
        (&[&[0, 1], &[1]], 0),
        (&[&[0, 1], &[0], &[0, 1]], 1),
        (&[&[0], &[]], 0),
    ];
    for (orders, call) in cases {
        let batches = orders.iter().map(|&order| (order, input()));
        let found = recalibrate_at_once(&Shuffled::new(&device), batches, Shuffled::flow);
        assert_eq!(
            found.err(),
            Some(RecalibrateError::OutOfStep { call }),
            "{orders:?}"
        );
    }
}

/// A model that calls its batch norm layers in the order that the batch asks for.
#[derive(Module, Debug)]
struct Shuffled {
    norms: Vec<BatchNorm>,
}

impl Shuffled {
    fn new(device: &Device) -> Self {
        Self {
            norms: (0..2)
                .map(|_| BatchNormConfig::new(2).init(device))
                .collect(),
        }
    }

    /// The inputs of the layers.
    fn flow(&self, (order, mut x): (&[usize], Tensor<2>)) -> Vec<(usize, Tensor<2>)> {
        order
            .iter()
            .map(|&index| {
                let met = (index, x.clone());
                let output = self.norms[index].forward(x.clone());
                x = output.clone() * 8.0 + output.square() * 3.0;
                met
            })
            .collect()
    }
}

/// Checks that every layer holds the statistics of its current input.
fn assert_settled(orders: &[&[usize]]) {
    for device in devices() {
        let inputs: Vec<_> = (orders.iter().zip(1u8..))
            .map(|(&order, scale)| {
                let x = Tensor::<2>::random([64, 2], Distribution::Normal(1.0, 2.0), &device);
                (order, x * f64::from(scale))
            })
            .collect();
        let model = recalibrate(
            &Shuffled::new(&device),
            || inputs.clone(),
            |model: &Shuffled, batch| drop(model.flow(batch)),
            |_| (),
        )
        .unwrap();
        for (index, norm) in model.norms.iter().enumerate() {
            let met = inputs.iter().flat_map(|input| model.flow(input.clone()));
            let met: Vec<_> = met.filter(|(of, _)| *of == index).map(|(_, x)| x).collect();
            let met = Tensor::cat(met, 0);
            let (mean, variance, count) =
                oracle::moments(&numbers(met.clone()), &oracle::Layout::of(&met.dims()));
            let unbiased: Vec<_> = variance
                .iter()
                .map(|v| v * count as f64 / (count as f64 - 1.0))
                .collect();
            assert_close(
                "mean",
                &numbers(norm.running_mean.value_sync()),
                &mean,
                1e-3,
            );
            assert_close(
                "variance",
                &numbers(norm.running_var.value_sync()),
                &unbiased,
                1e-3,
            );
        }
    }
}

#[test]
fn a_layer_that_is_called_twice_settles() {
    assert_settled(&[&[0, 1, 0, 1]]);
}

/// Recalibrates a layer that is called with a batch of mean 0, and then with what `again` makes of it. Returns the layer
/// and what it meets now.
fn called_again(
    device: &Device,
    again: fn(&BatchNorm, Tensor<2>) -> Tensor<2>,
) -> (BatchNorm, Vec<f64>) {
    let x = Tensor::<2>::from_floats([[-3.0], [3.0], [-1.0], [1.0]], device);
    let norm = recalibrate(
        &BatchNormConfig::new(1).init(device),
        || [x.clone()],
        |norm: &BatchNorm, x| drop(norm.forward(again(norm, x))),
        |_| (),
    )
    .unwrap();
    let met = Tensor::cat(vec![x.clone(), again(&norm, x)], 0);
    (norm, numbers(met))
}

/// All means are 0 from the first pass on, so the variance alone tells that nothing has settled yet.
#[test]
fn a_variance_settles_though_the_mean_has() {
    for device in devices() {
        let (norm, met) = called_again(&device, |norm, x| norm.forward(x) * 8.0);
        let unbiased = met.iter().map(|x| x * x).sum::<f64>() / 7.0;
        let found = numbers(norm.running_var.value_sync());
        assert_close("variance", &found, &[unbiased], 1e-3);
    }
}

/// The calls differ so little that the variance hardly depends on where the mean is.
#[test]
fn a_mean_settles_though_the_variance_has() {
    for device in devices() {
        let (norm, met) = called_again(&device, |norm, x| {
            let shift = norm.forward(x.clone()).mean() * -2.0 + 0.02;
            x + shift.reshape([1, 1])
        });
        let expected = met.iter().sum::<f64>() / 8.0;
        let mean = numbers(norm.running_mean.value_sync())[0];
        assert!((mean - expected).abs() < 1e-3, "{mean} and {expected}");
    }
}

#[test]
fn a_layer_that_the_first_batch_does_not_call_is_exact() {
    assert_settled(&[&[0], &[1, 0]]);
}

#[test]
fn statistics_that_do_not_settle_are_an_error() {
    use std::cell::Cell;
    let device = any_device();
    let grows = Cell::new(0.0);
    let batches = || {
        grows.set(grows.get() + 1.0);
        [Tensor::<2>::from_floats([[0.0], [grows.get()]], &device)]
    };
    let error = recalibrate(
        &BatchNormConfig::new(1).init(&device),
        batches,
        |norm: &BatchNorm, batch| norm.forward(norm.forward(batch)),
        |_| (),
    )
    .unwrap_err();
    assert!(matches!(
        error,
        RecalibrateError::NotSettled { layer: 0, .. }
    ));
}

#[test]
fn a_debiased_average_goes_on_as_after_so_many_batches() {
    for device in devices() {
        let device = device.autodiff();
        let batch = |mean: f32| Tensor::<2>::from_floats([[mean - 1.0], [mean + 1.0]], &device);
        for seen in [1, 2, 100] {
            let norm = BatchNormConfig::new(1)
                .with_average(RunningAverage::DebiasedExponential)
                .init(&device);
            let norm = recalibrate(
                &norm,
                || (0..seen).map(|_| batch(0.0)),
                |norm: &BatchNorm, batch| norm.forward(batch),
                |_| (),
            )
            .unwrap();
            for _ in 0..30 {
                norm.forward(batch(10.0));
            }
            // The weight of the last 30 batches in the average is `rest(30) / rest(30 + seen)`.
            let rest = |batches: i32| 1.0 - 0.9f64.powi(batches);
            let expected = 10.0 * rest(30) / rest(30 + seen);
            assert_close(
                "mean",
                &numbers(norm.running_mean.value_sync()),
                &[expected],
                1e-5,
            );
        }
    }
}

#[test]
fn an_average_goes_on_from_the_recalibrated_values() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1)
            .with_average(RunningAverage::Cumulative)
            .init(&device);
        let batches = [[1.0, 3.0], [3.0, 5.0], [5.0, 7.0]]
            .map(|[a, b]| Tensor::<2>::from_floats([[a], [b]], &device));
        let norm = recalibrate(
            &norm,
            || batches.clone(),
            |norm: &BatchNorm, batch| norm.forward(batch),
            |_| (),
        )
        .unwrap();
        assert_close(
            "pooled",
            &numbers(norm.running_mean.value_sync()),
            &[4.0],
            1e-7,
        );
        norm.forward(Tensor::<2>::from_floats([[7.0], [9.0]], &device));
        // Three batches of mean 4 and one of mean 8.
        assert_close(
            "next",
            &numbers(norm.running_mean.value_sync()),
            &[5.0],
            1e-6,
        );
    }
}

#[test]
fn a_bad_batch_does_not_count() {
    for device in devices() {
        let norm = BatchNormConfig::new(2).init(&device);
        let batches = [[[1.0, 1.0], [3.0, 3.0]], [[f32::NAN, 5.0], [1.0, 7.0]]]
            .map(|batch| Tensor::<2>::from_floats(batch, &device));
        let run = |batches: &[Tensor<2>]| {
            recalibrate(
                &norm,
                || batches.to_vec(),
                |norm: &BatchNorm, batch| norm.forward(batch),
                |_| (),
            )
        };
        let recalibrated = run(&batches).unwrap();
        assert_eq!(numbers(recalibrated.running_mean.value_sync()), [2.0, 4.0]);
        assert_eq!(
            run(&batches[1..]).unwrap_err(),
            RecalibrateError::TooFewValues {
                layer: 0,
                channel: 0,
                values: 0
            }
        );
    }
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let device = any_device();
    let norm = BatchNormConfig::new(2).init(&device);
    let batch = Tensor::<2>::ones([1, 2], &device);
    type Forward = dyn Fn(&BatchNorm, Tensor<2>) + Sync;
    let in_passes = |batches: Vec<Tensor<2>>, forward: &Forward| {
        recalibrate(&norm, || batches.clone(), forward, |_| ()).map(|_| ())
    };
    let at_once = |batches: Vec<Tensor<2>>, forward: &Forward| {
        recalibrate_at_once(&norm, batches, forward).map(|_| ())
    };
    let forward = |norm: &BatchNorm, batch| drop(norm.forward(batch));
    type Run<'a> = &'a dyn Fn(Vec<Tensor<2>>, &Forward) -> Result<(), RecalibrateError>;
    for run in [&in_passes as Run, &at_once] {
        assert_eq!(run(vec![], &forward), Err(RecalibrateError::NoBatches));
        assert_eq!(
            run(vec![batch.clone()], &|_, _| ()),
            Err(RecalibrateError::NoBatchNorm)
        );
        assert_eq!(
            run(vec![batch.clone()], &forward),
            Err(RecalibrateError::TooFewValues {
                layer: 0,
                channel: 0,
                values: 1
            })
        );
    }
    // The batches that wait for the one that panics go on.
    let batches = vec![batch.clone(), Tensor::zeros([1, 2], &device), batch.clone()];
    let panics = |norm: &BatchNorm, batch: Tensor<2>| {
        assert!(numbers(batch.clone())[0] > 0.0, "the batch of zeros");
        drop(norm.forward(batch));
    };
    assert_eq!(panic_of(|| at_once(batches, &panics)), "the batch of zeros");
    // Afterwards the layer follows its own rule again.
    assert_eq!(numbers(norm.forward(batch)).len(), 2);
    assert_eq!(numbers(norm.running_mean.value_sync()), [0.0; 2]);
}
