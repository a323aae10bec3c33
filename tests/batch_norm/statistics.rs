//! Running statistics: always up to date, shared by clones, unharmed by threads and bad batches.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Microbatches, Mode, RunningAverage};

use crate::{assert_close, devices, is_processor, numbers, tensor};

/// The running mean of a layer of one channel.
fn mean(norm: &BatchNorm) -> f64 {
    numbers(norm.running_mean.value_sync())[0]
}

/// A batch of one channel with this mean, and unbiased variance 2.
fn about(mean: f32, device: &Device) -> Tensor<2> {
    Tensor::from_floats([[mean - 1.0], [mean + 1.0]], device)
}

/// A layer that keeps only the last batch, so the running mean shows which batch was seen last.
fn keeps_the_last(device: &Device) -> BatchNorm {
    BatchNormConfig::new(1).with_momentum(1.0).init(device)
}

#[test]
fn they_are_never_behind() {
    /// Stores the running mean that a visitor gets.
    #[derive(Default)]
    struct Export {
        field: String,
        mean: Option<f64>,
    }
    impl ModuleVisitor for Export {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.field = name.to_owned();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.field == "running_mean" {
                self.mean = Some(numbers(param.val())[0]);
            }
        }
    }
    for device in devices() {
        let training = device.clone().autodiff();
        let norm = keeps_the_last(&training);
        for batch in [3.0f32, 5.0, 7.0] {
            norm.forward(about(batch, &training));
            let expected = f64::from(batch);
            assert_eq!(mean(&norm), expected, "read");
            let mut export = Export::default();
            norm.visit(&mut export);
            assert_eq!(export.mean, Some(expected), "visited");
            let record = norm.clone().into_record();
            assert_eq!(
                mean(&keeps_the_last(&device).load_record(record)),
                expected,
                "recorded"
            );
            assert_eq!(mean(&norm.clone()), expected, "cloned");
            assert_eq!(mean(&norm.clone().to_device(&device)), expected, "moved");
            assert_eq!(mean(&norm.clone().fork(&device)), expected, "forked");
            assert_eq!(mean(&norm.clone().freeze()), expected, "mapped");
            assert_eq!(mean(&norm.clone().train()), expected, "trained");
            assert_eq!(mean(&norm.valid()), expected, "validated");
            // The running statistics are this mean and variance 2.
            let output = numbers(norm.valid().forward(about(batch, &device)));
            assert_close("inferred", &output, &[-0.5f64.sqrt(), 0.5f64.sqrt()], 1e-4);
        }
    }
}

#[test]
fn validation_models_and_records_are_snapshots() {
    for device in devices() {
        let training = device.clone().autodiff();
        let norm = keeps_the_last(&training);
        norm.forward(about(3.0, &training));
        let (valid, moved, record) = (
            norm.valid(),
            norm.clone().to_device(&training),
            norm.clone().into_record(),
        );
        norm.forward(about(5.0, &training));
        assert_eq!(mean(&norm), 5.0);
        assert_eq!(mean(&valid), 3.0);
        assert_eq!(mean(&moved), 3.0);
        assert_eq!(mean(&keeps_the_last(&device).load_record(record)), 3.0);
        // The reverse holds too.
        Mode::Training.run(|| valid.forward(about(9.0, &device)));
        assert_eq!((mean(&valid), mean(&norm)), (9.0, 5.0));
    }
}

#[test]
fn loading_a_record_does_not_touch_clones() {
    for device in devices() {
        let device = device.autodiff();
        let norm = keeps_the_last(&device);
        norm.forward(about(3.0, &device));
        let loaded = norm
            .clone()
            .load_record(keeps_the_last(&device).into_record());
        assert_eq!((mean(&loaded), mean(&norm)), (0.0, 3.0));
    }
}

#[test]
fn clones_and_forks_share_them_until_the_weights_part() {
    for device in devices() {
        let device = device.autodiff();
        let norm = keeps_the_last(&device);
        let best = norm.clone();
        // As in Burn's multi-device learner: a clone, forked in a worker.
        let worker = norm.clone().fork(&device);
        let output = worker.forward(about(3.0, &device));
        assert_eq!((mean(&norm), mean(&best)), (3.0, 3.0));

        let grads = GradientsParams::from_grads(output.powi_scalar(2).sum().backward(), &worker);
        let norm = SgdConfig::new().init().step(0.1, norm, grads);
        norm.forward(about(5.0, &device));
        assert_eq!((mean(&norm), mean(&best)), (5.0, 3.0));
    }
}

/// As in Burn's distributed learner: each worker forks a clone, and marks its parameters if the device supports it.
#[test]
fn forks_that_are_mapped_have_statistics_of_their_own() {
    struct Mark;
    impl ModuleMapper for Mark {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let id = param.id;
            param.map(|tensor| match is_processor(&tensor.device()) {
                true => tensor,
                false => tensor.set_distributed(id),
            })
        }
    }
    for device in devices() {
        let device = device.autodiff();
        let norm = keeps_the_last(&device);
        let [main, other] = [(); 2].map(|()| norm.clone().fork(&device).map(&mut Mark));
        main.forward(about(3.0, &device));
        other.forward(about(5.0, &device));
        assert_eq!((mean(&main), mean(&other), mean(&norm)), (3.0, 5.0, 0.0));
    }
}

#[cfg(all(feature = "flex", feature = "ndarray"))]
#[test]
fn a_fork_on_another_device_feeds_the_original() {
    let (main, other) = (Device::flex().autodiff(), Device::ndarray().autodiff());
    let norm = keeps_the_last(&main);
    let worker = norm.clone().fork(&other);
    assert_eq!(worker.devices(), std::slice::from_ref(&other));
    worker.forward(about(3.0, &other));
    norm.forward(about(5.0, &main));
    worker.forward(about(7.0, &other));
    assert_eq!((mean(&norm), mean(&worker)), (7.0, 7.0));
    // The values stay where they are; the worker's output and records are on its device.
    assert_eq!(worker.running_mean.value_sync().device(), main);
    let output = worker.valid().forward(about(7.0, &other.clone().inner()));
    assert_eq!(output.device(), other.clone().inner());

    let moved = norm.to_device(&other);
    assert_eq!(moved.devices(), std::slice::from_ref(&other));
    moved.forward(about(9.0, &other));
    assert_eq!((mean(&moved), mean(&worker)), (9.0, 7.0));
}

#[test]
fn every_batch_of_every_thread_counts_once() {
    const THREADS: usize = 8;
    const BATCHES: usize = 50;
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1)
            .with_average(RunningAverage::Cumulative)
            .init(&device);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (shared, own) = (&norm, norm.clone());
                let device = &device;
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        // Half of the batches go through the model itself, half through a clone.
                        let norm = if batch % 2 == 0 { shared } else { &own };
                        norm.forward(about((thread * BATCHES + batch) as f32, device));
                        // Every update is visible at once: in the field on a CPU, in a copy everywhere.
                        let variance = match is_processor(device) {
                            true => norm.running_var.value(),
                            false => norm.valid().running_var.value(),
                        };
                        let variance = numbers(variance)[0];
                        assert!((variance - 2.0).abs() < 1e-5, "{variance}");
                    }
                });
            }
        });
        let expected = (THREADS * BATCHES - 1) as f64 / 2.0;
        assert_close("mean of all", &[mean(&norm)], &[expected], 1e-5);
    }
}

#[test]
fn a_channel_with_nan_or_infinity_in_the_batch_stays_as_it_was() {
    for device in devices() {
        let device = device.autodiff();
        for average in [
            RunningAverage::Exponential,
            RunningAverage::DebiasedExponential,
            RunningAverage::Cumulative,
        ] {
            let config = BatchNormConfig::new(2).with_average(average);
            let (norm, without) = (config.init(&device), config.init(&device));
            let good = |offset: f32| {
                Tensor::<2>::from_floats([[offset, 1.0], [offset + 2.0, 2.0]], &device)
            };
            norm.forward(good(1.0));
            without.forward(good(1.0));
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                let output =
                    norm.forward(Tensor::<2>::from_floats([[-bad, 1.0], [bad, 2.0]], &device));
                let output = numbers(output);
                assert!(output[1].is_finite() && output[3].is_finite());
            }
            norm.forward(good(5.0));
            without.forward(good(5.0));
            let (norms, withouts) = (
                norm.running_mean.value_sync(),
                without.running_mean.value_sync(),
            );
            // The first channel ignores the bad batches; the second has seen them.
            assert_eq!(numbers(norms)[0], numbers(withouts)[0], "{average:?}");
            let (norms, withouts) = (
                norm.running_var.value_sync(),
                without.running_var.value_sync(),
            );
            assert_eq!(numbers(norms)[0], numbers(withouts)[0], "{average:?}");
        }
    }
}

#[test]
fn a_batch_of_another_float_type_is_averaged_in_theirs() {
    for device in devices() {
        let held = device.settings().float_dtype;
        for dtype in [DType::F16, DType::F32, DType::F64] {
            if !device.supports_dtype(dtype) {
                continue;
            }
            for average in [
                RunningAverage::Exponential,
                RunningAverage::DebiasedExponential,
                RunningAverage::Cumulative,
            ] {
                let norm = BatchNormConfig::new(1)
                    .with_average(average)
                    .init(&device.clone().autodiff());
                let batch = |mean| {
                    tensor(
                        &[mean - 1.0, mean + 1.0],
                        [2, 1],
                        dtype,
                        &device.clone().autodiff(),
                    )
                };
                norm.forward(batch(3.0));
                let micro = Microbatches::of(2);
                micro.run(|| norm.forward(batch(1.0)));
                micro.run(|| norm.forward(batch(5.0)));
                let expected = match average {
                    RunningAverage::Exponential => 0.9 * 0.3 + 0.1 * 3.0,
                    RunningAverage::DebiasedExponential | RunningAverage::Cumulative => 3.0,
                };
                assert_close("running mean", &[mean(&norm)], &[expected], 1e-6);
                assert_eq!(
                    norm.running_mean.value_sync().dtype(),
                    DType::from(held),
                    "{average:?}"
                );
            }
        }
    }
}

#[test]
fn they_take_no_part_in_the_graph() {
    for device in devices() {
        let device = device.autodiff();
        let norm = BatchNormConfig::new(1).init(&device).unfreeze();
        for _ in 0..2 {
            norm.forward(about(3.0, &device).require_grad());
        }
        assert!(!norm.running_mean.value_sync().is_require_grad());
        assert!(!norm.running_mean.value_sync().is_tracked());
        assert!(!norm.running_var.value_sync().is_tracked());
    }
}
