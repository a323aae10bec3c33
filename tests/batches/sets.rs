//! Several sets of running statistics, and statistics of several models.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Tensor};
use burn_kindling::norm::{
    BatchNorm, BatchNormConfig, BatchNormSets, BatchNormSetsConfig, Fold, StatisticsSet,
    average_statistics, freeze, recalibrate,
};

use crate::devices::{any_device, devices};
use crate::{assert_close, numbers, panic_of};

fn config() -> BatchNormSetsConfig {
    let names = ["photo", "sketch", "map"].map(String::from).to_vec();
    BatchNormSetsConfig::new(BatchNormConfig::new(3), names)
}

fn rows(mean: f64, device: &Device) -> Tensor<2> {
    Tensor::random([64, 3], Distribution::Normal(mean, 1.0), device)
}

fn means(norm: &BatchNormSets) -> Vec<f64> {
    let sets = norm.sets.iter();
    sets.map(|set| numbers(set.running_mean.value())[0])
        .collect()
}

#[test]
fn a_batch_enters_the_chosen_set_alone() {
    for device in devices() {
        let device = device.autodiff();
        let norm = config().init(&device);
        norm.forward(rows(10.0, &device));
        StatisticsSet::named("map").run(|| norm.forward(rows(-10.0, &device)));
        let [photo, sketch, map] = means(&norm)[..] else {
            unreachable!()
        };
        assert!((photo - 1.0).abs() < 0.1 && sketch == 0.0 && (map + 1.0).abs() < 0.1);

        let valid = norm.valid();
        let x = rows(1.0, &device.without_autodiff());
        for (at, name) in ["photo", "sketch", "map"].into_iter().enumerate() {
            let named = StatisticsSet::named(name).run(|| valid.forward(x.clone()));
            let numbered = StatisticsSet::at(at).run(|| valid.forward(x.clone()));
            let alone = valid.select(name).forward(x.clone());
            assert_eq!(numbers(named.clone()), numbers(numbered));
            assert_eq!(numbers(named), numbers(alone));
        }
    }
}

/// The number of values that an optimiser changes.
fn trained(norm: &BatchNormSets) -> usize {
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                self.0 += param.val().shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    norm.visit(&mut count);
    count.0
}

#[test]
fn gamma_and_beta_are_shared_or_not() {
    let device = any_device().autodiff();
    let shared = config().init(&device);
    let separate = config().with_separate_affine(true).init(&device);
    assert_eq!((trained(&shared), trained(&separate)), (6, 18));
    for (norm, at) in [(shared, 0), (separate, 1)] {
        let output = StatisticsSet::at(1).run(|| norm.forward(rows(0.0, &device)));
        let gradients = output.square().sum().backward();
        for (set, layer) in norm.sets.iter().enumerate() {
            assert_eq!(layer.gamma.val().grad(&gradients).is_some(), set == at);
        }
    }
}

#[test]
fn sets_are_saved_frozen_recalibrated_and_folded() {
    let device = any_device();
    let training = device.clone().autodiff();
    let norm = config().init(&training);
    StatisticsSet::at(1).run(|| norm.forward(rows(4.0, &training)));
    let loaded = config()
        .init(&training)
        .load_record(norm.clone().into_record());
    assert_eq!(means(&loaded), means(&norm));

    let frozen = freeze(norm.clone());
    StatisticsSet::at(1).run(|| frozen.forward(rows(100.0, &training)));
    assert_eq!(means(&frozen), means(&norm));

    let batches = [rows(7.0, &device)];
    let fresh = recalibrate(
        &norm.valid(),
        || batches.clone(),
        |norm, batch| StatisticsSet::named("sketch").run(|| norm.forward(batch)),
        |_| (),
    )
    .unwrap();
    let [photo, sketch, _] = means(&fresh)[..] else {
        unreachable!()
    };
    assert!(photo == 0.0 && (sketch - 7.0).abs() < 0.5);

    let linear = burn::nn::LinearConfig::new(3, 3).init(&device);
    let x = rows(1.0, &device);
    let separate = StatisticsSet::at(1).run(|| fresh.forward(linear.forward(x.clone())));
    let folded = linear.fold(&fresh.select("sketch")).forward(x);
    assert_close("folded", &numbers(folded), &numbers(separate), 1e-5);
}

#[test]
fn a_set_that_is_not_there_is_named() {
    let device = any_device();
    let norm = config().init(&device);
    let run = |set: StatisticsSet| panic_of(|| set.run(|| norm.forward(rows(0.0, &device))));
    assert_eq!(
        run(StatisticsSet::named("drawing")),
        "this batch norm has no set of statistics `drawing`; it has `photo`, `sketch`, `map`"
    );
    assert!(run(StatisticsSet::at(3)).contains("no set of statistics 3"));
    let of = |names: &[&str]| {
        let names = names.iter().map(|name| name.to_string()).collect();
        panic_of(|| BatchNormSetsConfig::new(BatchNormConfig::new(3), names).init(&device))
    };
    assert!(of(&[]).contains("at least one set"));
    assert!(of(&["a", "b", "a"]).contains("`a`"));
}

#[derive(Module, Debug)]
struct Model {
    first: BatchNorm,
    rest: Vec<BatchNorm>,
}

impl Model {
    fn new(channels: usize, mean: f64, variance: f64, device: &Device) -> Self {
        let value = |value: f64, count: usize| Tensor::<1>::full([count], value, device);
        let norm = |count: usize| {
            let norm = BatchNormConfig::new(count).init(device);
            norm.with_running(value(mean, count), value(variance, count))
        };
        Self {
            first: norm(2),
            rest: vec![norm(channels)],
        }
    }
}

#[test]
fn statistics_of_several_models_are_those_of_a_mixture() {
    for device in devices() {
        let models = [(0.0, 1.0), (3.0, 2.0), (6.0, 3.0)];
        let [first, others @ ..] =
            models.map(|(mean, variance)| Model::new(3, mean, variance, &device));
        let merged = average_statistics(first.clone(), &others);
        for norm in [&merged.first, &merged.rest[0]] {
            let channels = norm.gamma.dims()[0];
            assert_close(
                "mean",
                &numbers(norm.running_mean.value()),
                &vec![3.0; channels],
                1e-6,
            );
            // Means 3 apart have a variance of 6.
            assert_close(
                "variance",
                &numbers(norm.running_var.value()),
                &vec![8.0; channels],
                1e-6,
            );
        }
        assert_eq!(numbers(first.first.running_mean.value()), [0.0; 2]);
        let other = Model::new(4, 0.0, 1.0, &device);
        let failure = panic_of(|| average_statistics(first, &[other]));
        assert!(failure.contains("`rest.0`"), "{failure}");
    }
}
