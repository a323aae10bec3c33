//! Many trainings at the same time: the results are the same for any number of workers.
#![cfg(feature = "flex")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, LazyLock};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_kindling::init::InitStrategy;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::model::{Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization};
use burn_kindling_lab::train::{EpochScores, Sweep, TrainConfig, TrainError, Trainer};

static MNIST: LazyLock<Mnist> = LazyLock::new(|| Mnist::load(&Mnist::find(None).unwrap()).unwrap());

/// Every parameter and running statistic, in the order of the layers.
#[derive(Default)]
struct Weights(Vec<Vec<f32>>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let values = param.val().into_data().try_to_vec::<f32>().unwrap();
        self.0.push(values);
    }
}

fn weights(network: &Classifier) -> Vec<Vec<u32>> {
    let mut weights = Weights::default();
    network.visit(&mut weights);
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    weights.0.into_iter().map(bits).collect()
}

/// Perceptrons with every initialisation and normalisation, wide enough for their matrix products to use several
/// threads, and a convolutional network.
fn configs() -> Vec<TrainConfig> {
    let mut models = Vec::new();
    for init in InitStrategy::ALL {
        for norm in Normalization::ALL {
            let hidden = vec![256, 100];
            let mlp = MlpConfig::new().with_hidden(hidden);
            models.push(ModelConfig::Mlp(mlp.with_init(init).with_norm(norm)));
        }
    }
    models.push(ModelConfig::Cnn(
        CnnConfig::new().with_channels([8, 16]).with_dense(32),
    ));
    let configs = models.into_iter().enumerate();
    configs
        .map(|(seed, model)| TrainConfig {
            model,
            epochs: 2,
            seed: seed as u64,
            ..TrainConfig::default()
        })
        .collect()
}

#[test]
fn the_number_of_workers_changes_no_bit() {
    let (train, rest) = MNIST.train.split_at(1500);
    let valid = rest.subset(0..500);
    let trainer = Trainer::new(Device::flex());
    let configs = configs();
    let [alone, two, many] = [1, 2, 5].map(|workers| {
        let sweep = Sweep::new().with_workers(workers);
        let trained: Result<Vec<(_, Vec<EpochScores>)>, TrainError> =
            sweep.run(&configs, |config, job| {
                let trained = job.train(&trainer, config, &train, &valid, |_| {})?;
                Ok((weights(&trained.network), trained.epochs))
            });
        trained.unwrap()
    });
    for (config, alone) in configs.iter().zip(&alone) {
        // The same training outside of a sweep gives the same result.
        let trained = trainer.train(config, &train, &valid, |_| {}).unwrap();
        assert!(weights(&trained.network) == alone.0, "{config:?}");
    }
    for (config, ((alone, two), many)) in configs.iter().zip(alone.iter().zip(&two).zip(&many)) {
        // Compared as text, because NaN does not equal itself.
        let scores = |of: &(_, Vec<EpochScores>)| format!("{:?}", of.1);
        assert_eq!(scores(alone), scores(two), "{config:?}");
        assert_eq!(scores(alone), scores(many), "{config:?}");
        assert!(alone.0 == two.0 && alone.0 == many.0, "{config:?}");
    }
}

#[test]
fn results_come_in_the_order_of_the_jobs() {
    let jobs: Vec<u64> = (0..50).collect();
    for workers in [1, 2, 7, 100] {
        let results = Sweep::new().with_workers(workers).run(&jobs, |&job, _| {
            // Later jobs finish sooner.
            std::thread::sleep(std::time::Duration::from_micros(50 * (50 - job)));
            Ok::<_, TrainError>(3 * job)
        });
        assert_eq!(
            results.unwrap(),
            jobs.iter().map(|it| 3 * it).collect::<Vec<_>>()
        );
    }
    let nothing: Result<Vec<()>, TrainError> = Sweep::new().run(&[(); 0], |_, _| Ok(()));
    assert!(nothing.unwrap().is_empty());
}

#[test]
fn as_many_jobs_are_under_way_as_there_are_workers() {
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // The barrier lets three jobs pass at a time, never fewer.
    let together = Barrier::new(3);
    let results = Sweep::new().with_workers(3).run(&[(); 30], |_, _| {
        most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
        together.wait();
        now.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, TrainError>(())
    });
    assert_eq!(results.unwrap().len(), 30);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn after_an_error_no_other_job_is_begun() {
    let jobs: Vec<usize> = (0..1000).collect();
    for workers in [1, 2] {
        let begun = AtomicUsize::new(0);
        let outcome = Sweep::new().with_workers(workers).run(&jobs, |&job, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            match job {
                5 => Err(job),
                // Gives the other worker enough time to fail.
                _ => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                    Ok(())
                }
            }
        });
        assert_eq!(outcome.unwrap_err(), 5);
        assert!(begun.load(Ordering::SeqCst) < 100);
    }
}

#[test]
#[should_panic(expected = "at least one worker")]
fn no_worker_does_nothing() {
    let _ = Sweep::new().with_workers(0);
}

#[test]
fn a_configuration_that_makes_no_run_is_an_error() {
    let config = TrainConfig {
        epochs: 0,
        ..TrainConfig::default()
    };
    let trainer = Trainer::new(Device::flex());
    let set = MNIST.train.subset(0..100);
    let outcome = Sweep::new().run(&[config], |config, job| {
        job.train(&trainer, config, &set, &set, |_| {}).map(drop)
    });
    assert!(matches!(outcome, Err(TrainError::Config(_))));
}
