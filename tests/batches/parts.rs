//! Parts of a batch that count alone (ghost batches), and batches that count together (micro-batches).

use burn::nn::pool::MaxPool2dConfig;
use burn::tensor::{Bool, DType, Tensor};
use burn_kindling::norm::{
    BatchNorm, BatchNormConfig, GhostBatches, Microbatches, RunningAverage, SyncGroup, Then,
};

use crate::devices::{any_device, devices, devices_with};
use crate::{assert_close, noise, numbers, panic_of, tensor};

fn running(norm: &BatchNorm) -> Vec<f64> {
    let states = [&norm.running_mean, &norm.running_var];
    states.map(|state| numbers(state.value())).concat()
}

#[test]
fn ghost_batches_equal_separate_calls() {
    for device in devices() {
        let device = device.autodiff();
        for (rows, size, ends) in [
            (8, 4, &[4, 8][..]),
            (7, 3, &[3, 7]),
            (5, 8, &[5]),
            (9, 4, &[4, 9]),
            (6, 1, &[1, 2, 3, 4, 5, 6]),
        ] {
            // With one value per channel, a part needs more than one row.
            let length = if size == 1 { 3 } else { 1 };
            let shape = [rows, 2, length];
            let [x, skip] = [1, 2].map(|seed| {
                tensor::<3>(&noise(seed, rows * 2 * length), shape, DType::F32, &device)
                    .require_grad()
            });
            let [ghost, separate] = [(); 2].map(|()| BatchNormConfig::new(2).init(&device));
            let then = |skip| Then::new().add_residual(skip).relu();
            let found =
                GhostBatches::of(size).run(|| ghost.forward_then(x.clone(), then(skip.clone())));
            let mut start = 0;
            let parts = ends.iter().map(|&end| {
                let part = |it: &Tensor<3>| it.clone().slice(start..end);
                let output = separate.forward_then(part(&x), then(part(&skip)));
                start = end;
                output
            });
            let expected = Tensor::cat(parts.collect(), 0);
            assert_close(
                "output",
                &numbers(found.clone()),
                &numbers(expected.clone()),
                1e-5,
            );
            assert_close("running", &running(&ghost), &running(&separate), 1e-5);
            let gradients = |output: Tensor<3>| {
                let gradients = output.powi_scalar(2).sum().backward();
                [&x, &skip].map(|of| numbers(of.grad(&gradients).unwrap()))
            };
            let [found, expected] = [found, expected].map(gradients);
            for (found, expected) in found.iter().zip(&expected) {
                assert_close("gradient", found, expected, 2e-4);
            }
        }
    }
}

#[test]
fn ghost_batches_of_any_layout_equal_separate_calls() {
    for device in devices() {
        let device = device.autodiff();
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        for shape in [
            [12, 1, 4, 4],
            [12, 5, 10, 12],
            [12, 40, 2, 2],
            [6, 70, 8, 8],
        ] {
            for last in [false, true] {
                for pooled in [false, true] {
                    let [x, skip] = [1, 2].map(|seed| {
                        let count = shape.iter().product();
                        let x = tensor::<4>(&noise(seed, count), shape, DType::F32, &device);
                        x.require_grad()
                    });
                    let config = BatchNormConfig::new(shape[1]);
                    let [ghost, separate] = [(); 2].map(|()| config.init(&device));
                    let then = |skip: Tensor<4>| {
                        let then = Then::new().add_residual(skip).relu();
                        if pooled { then.max_pool(&pool) } else { then }
                    };
                    // In memory, the channels or the batch may be innermost.
                    let laid = |x: Tensor<4>| match last {
                        true => (x.permute([3, 1, 2, 0]) * 1.0).permute([3, 1, 2, 0]),
                        false => x,
                    };
                    let size = shape[0] / 3;
                    let run = || ghost.forward_then(laid(x.clone()), then(laid(skip.clone())));
                    let found = GhostBatches::of(size).run(run);
                    let parts = (0..3).map(|part| {
                        let rows = |it: &Tensor<4>| it.clone().narrow(0, part * size, size);
                        separate.forward_then(rows(&x), then(rows(&skip)))
                    });
                    let expected = Tensor::cat(parts.collect(), 0);
                    let what = format!("{shape:?}, {last}, {pooled}");
                    assert_close(
                        &what,
                        &numbers(found.clone()),
                        &numbers(expected.clone()),
                        1e-5,
                    );
                    assert_close(&what, &running(&ghost), &running(&separate), 1e-5);
                    let params =
                        [&ghost, &separate].map(|norm| (norm.gamma.val(), norm.beta.val()));
                    let mut outcomes =
                        [found, expected]
                            .into_iter()
                            .zip(params)
                            .map(|(output, (gamma, beta))| {
                                let gradients = output.powi_scalar(2).sum().backward();
                                [
                                    numbers(x.grad(&gradients).unwrap()),
                                    numbers(skip.grad(&gradients).unwrap()),
                                    numbers(gamma.grad(&gradients).unwrap()),
                                    numbers(beta.grad(&gradients).unwrap()),
                                ]
                            });
                    let (found, expected) = (outcomes.next().unwrap(), outcomes.next().unwrap());
                    for (found, expected) in found.iter().zip(&expected) {
                        assert_close(&what, found, expected, 2e-4);
                    }
                }
            }
        }
    }
}

#[test]
fn ghost_batches_take_their_part_of_a_mask() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1).with_momentum(1.0).init(&device);
        let x = tensor::<2>(&[0.0, 0.0, 9.0, 4.0, 6.0, 9.0], [6, 1], DType::F32, &device);
        let mask = Tensor::<1, Bool>::from_data([true, true, false, true, true, false], &device);
        GhostBatches::of(3).run(|| norm.forward_masked(x, mask));
        assert_eq!(running(&norm), [5.0, 2.0]);
    }
}

#[test]
fn a_ghost_batch_is_refused_where_it_makes_no_sense() {
    assert_eq!(
        panic_of(|| GhostBatches::of(0)),
        "a ghost batch needs at least one row, found 0"
    );
    let device = any_device().autodiff();
    let norm = BatchNormConfig::new(3).init(&device);
    let x = Tensor::<2>::ones([4, 3], &device);
    let run = || GhostBatches::of(2).run(|| norm.forward(x.clone()));
    let failure = panic_of(|| SyncGroup::new(1).run(run));
    assert!(
        failure.contains("ghost batches") && failure.contains("SyncGroup"),
        "{failure}"
    );
}

#[test]
fn micro_batches_enter_the_average_as_one_batch() {
    for device in devices_with(DType::F32) {
        let device = device.autodiff();
        let averages = [
            RunningAverage::Exponential,
            RunningAverage::DebiasedExponential,
            RunningAverage::Cumulative,
        ];
        for average in averages {
            let config = BatchNormConfig::new(3).with_average(average);
            let [micro, whole] = [(); 2].map(|()| config.init(&device));
            let x = tensor::<2>(&noise(1, 60), [20, 3], DType::F32, &device) * 3.0 + 100.0;
            let parts = Microbatches::of(3);
            for step in 0..2 {
                let x = x.clone() + step as f64;
                for range in [0..2, 2..11, 11..20] {
                    parts.run(|| micro.forward(x.clone().slice(range)));
                }
                whole.forward(x);
            }
            assert_close("running", &running(&micro), &running(&whole), 2e-6);
        }
    }
}

#[test]
fn a_step_may_end_early_and_a_panic_loses_nothing_else() {
    let device = any_device().autodiff();
    let [micro, whole] = [(); 2].map(|()| BatchNormConfig::new(1).init(&device));
    let x = tensor::<2>(&noise(1, 8), [8, 1], DType::F32, &device);
    let parts = Microbatches::of(3);
    parts.run(|| micro.forward(x.clone().slice(0..4)));
    let failure = panic_of(|| parts.run(|| panic!("no data")));
    assert_eq!(failure, "no data");
    parts.run(|| micro.forward(x.clone().slice(4..8)));
    assert_eq!(running(&micro), [0.0, 1.0], "nothing has been updated yet");
    parts.finish();
    whole.forward(x);
    assert_close("running", &running(&micro), &running(&whole), 1e-6);
    parts.finish();
    assert_close("running", &running(&micro), &running(&whole), 1e-6);
}
