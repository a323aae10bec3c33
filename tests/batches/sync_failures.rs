//! No worker waits for ever.

use std::thread;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::{DType, Device, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, SyncGroup};

use crate::devices::any_device;
use crate::{message, noise, panic_of, tensor};

fn norms(count: usize) -> (Vec<BatchNorm>, Device) {
    let device = any_device().autodiff();
    let norm = |channels| BatchNormConfig::new(channels).init(&device);
    (
        (0..count).map(|layer| norm(4 + layer % 2)).collect(),
        device,
    )
}

fn rows(seed: u64, channels: usize, device: &Device) -> Tensor<2> {
    tensor(
        &noise(seed, 3 * channels),
        [3, channels],
        DType::F32,
        device,
    )
}

/// One worker's step through all layers, forward and backward.
fn pass(norms: &[BatchNorm], device: &Device) {
    let layers = norms.iter().enumerate();
    let outputs = layers.map(|(layer, norm)| {
        let channels = 4 + layer % 2;
        let x = rows(layer as u64, channels, device).require_grad();
        norm.forward(x).square().sum()
    });
    outputs.reduce(|a, b| a + b).unwrap().backward();
}

/// Runs two workers, and returns what each ended with: nothing, or its panic.
fn two(
    group: &SyncGroup,
    first: impl FnOnce() + Send,
    second: impl FnOnce() + Send,
) -> [Result<(), String>; 2] {
    thread::scope(|threads| {
        let named = |name: &str| thread::Builder::new().name(name.into());
        let first = named("first").spawn_scoped(threads, || group.run(first));
        let second = named("second").spawn_scoped(threads, || group.run(second));
        [first, second].map(|worker| worker.unwrap().join().map_err(message))
    })
}

fn group() -> SyncGroup {
    SyncGroup::new(2).with_timeout(Duration::from_secs(20))
}

/// Panics unless both workers failed within a second, and one of them with these words.
#[track_caller]
fn both_fail(found: [Result<(), String>; 2], start: Instant, words: &[&str]) {
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    let found = found.map(Result::unwrap_err);
    for words in words {
        assert!(found.iter().any(|it| it.contains(words)), "{found:?}");
    }
}

const TRIES: usize = 100;

#[test]
fn a_worker_that_panics_ends_the_step_of_the_others() {
    let (norms, device) = norms(3);
    for at in 0..TRIES {
        let start = Instant::now();
        let (good, bad) = (norms.clone(), norms.clone());
        let found = two(
            &group(),
            || pass(&good.fork(&device), &device),
            || {
                for norm in &bad[..at % 3 + 1].to_vec().fork(&device) {
                    norm.forward(rows(1, norm.gamma.dims()[0], &device));
                }
                panic!("out of memory")
            },
        );
        both_fail(
            found,
            start,
            &["out of memory", "synchronised batch norm: "],
        );
    }
}

#[test]
fn a_worker_that_panics_before_its_first_layer_ends_the_step_of_the_others() {
    let (norms, device) = norms(2);
    for _ in 0..TRIES {
        let start = Instant::now();
        let found = two(
            &group(),
            || pass(&norms.clone().fork(&device), &device),
            || panic!("no data"),
        );
        both_fail(
            found,
            start,
            &["no data", "worker `second` panicked in this step"],
        );
    }
}

#[test]
fn a_worker_one_layer_short_ends_the_step_of_the_others() {
    let (norms, device) = norms(3);
    for _ in 0..TRIES {
        let start = Instant::now();
        let [long, short] = [3, 2].map(|count| norms[..count].to_vec().fork(&device));
        let [long, short] = two(&group(), || pass(&long, &device), || pass(&short, &device));
        assert!(start.elapsed() < Duration::from_secs(5));
        // The short one meets the other in the backward passes of its own layers, in vain.
        let failures: Vec<_> = [long, short].into_iter().filter_map(Result::err).collect();
        assert!(
            failures.iter().any(|it| it.contains("batch norm call 3")),
            "{failures:?}"
        );
    }
}

#[test]
fn workers_that_call_different_layers_are_told() {
    let (norms, device) = norms(2);
    let start = Instant::now();
    let [straight, turned] = [[0, 1], [1, 0]].map(|order| order.map(|at| norms[at].clone()));
    let run = |norms: [BatchNorm; 2]| {
        for norm in &norms.to_vec().fork(&device) {
            norm.forward(rows(1, norm.gamma.dims()[0], &device));
        }
    };
    let found = two(&group(), || run(straight), || run(turned));
    both_fail(
        found,
        start,
        &[
            "has 4 channels for one of them, 5 for another",
            "different layers",
        ],
    );
}

#[test]
fn a_worker_that_freezes_its_layer_is_missed() {
    let (norms, device) = norms(1);
    let start = Instant::now();
    let x = || rows(1, 4, &device);
    let frozen = norms[0].clone().freeze().fork(&device);
    let normal = norms[0].clone().fork(&device);
    let [normal, frozen] = two(
        &group(),
        || drop(normal.forward(x())),
        || drop(frozen.forward(x())),
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(frozen, Ok(()));
    let failure = normal.unwrap_err();
    assert!(
        failure.contains("1 of 2 workers came to the forward pass of batch norm call 1 (4 channels), but not worker `second`")
            || failure.contains("1 that did not begin the step"),
        "{failure}"
    );
}

#[test]
fn a_worker_that_never_comes_is_named_after_the_timeout() {
    let (norms, device) = norms(1);
    let group = SyncGroup::new(2).with_timeout(Duration::from_millis(200));
    let failure = panic_of(|| group.run(|| norms[0].forward(rows(1, 4, &device))));
    assert_eq!(
        failure,
        "synchronised batch norm: 1 of 2 workers came to the forward pass of batch norm call 1 (4 channels), but not 1 that \
         did not begin the step within 200ms"
    );
    // The group can be used again.
    let [a, b] = [(); 2].map(|()| norms.clone().fork(&device));
    let late = thread::spawn({
        let (group, device) = (group.clone(), device.clone());
        move || panic_of(|| group.run(|| pass(&a, &device)))
    });
    assert!(late.join().unwrap().contains("within 200ms"));
    drop(b);
}

#[test]
fn a_late_worker_is_waited_for() {
    let (norms, device) = norms(3);
    let [early, late] = [(); 2].map(|()| norms.clone().fork(&device));
    let found = two(
        &group(),
        || pass(&early, &device),
        || {
            thread::sleep(Duration::from_secs(2));
            pass(&late, &device);
        },
    );
    assert_eq!(found, [Ok(()), Ok(())]);
}

#[test]
fn a_worker_without_more_batches_leaves() {
    let (norms, device) = norms(2);
    for _ in 0..TRIES {
        let group = group();
        let steps = |count: usize| {
            let (group, norms, device) =
                (group.clone(), norms.clone().fork(&device), device.clone());
            thread::spawn(move || {
                for _ in 0..count {
                    group.run(|| pass(&norms, &device));
                }
                group.leave();
            })
        };
        let workers = [steps(3), steps(2)];
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(panic_of(|| group.run(|| ())).contains("all workers have left the group"));
        assert!(panic_of(|| group.leave()).contains("all workers have left the group"));
    }
}

/// Burn computes backward passes that share parameters one after the other, so the workers cannot meet in them.
#[test]
fn workers_that_share_parameters_do_not_hang() {
    let (norms, device) = norms(1);
    let group = SyncGroup::new(2).with_timeout(Duration::from_millis(300));
    let run = || {
        let x = rows(1, 4, &device).require_grad();
        norms[0].forward(x).square().sum().backward();
    };
    let failures = two(&group, run, run).map(Result::unwrap_err);
    assert!(
        failures
            .iter()
            .any(|it| it.contains("the backward pass of batch norm call 1")),
        "{failures:?}"
    );
}

#[test]
fn a_backward_pass_after_its_step_is_told_where_it_belongs() {
    let (norms, device) = norms(1);
    let [a, b] = [(); 2].map(|()| norms[0].clone().fork(&device));
    let group = group();
    let failures = thread::scope(|threads| {
        let workers = [a, b].map(|norm| {
            let (group, device) = (&group, &device);
            threads.spawn(move || {
                let x = rows(1, 4, device).require_grad();
                let loss = group.run(|| norm.forward(x).square().sum());
                panic_of(|| loss.backward())
            })
        });
        workers.map(|worker| worker.join().unwrap())
    });
    for failure in failures {
        assert!(
            failure.contains("call `backward` within `SyncGroup::run`"),
            "{failure}"
        );
    }
}

#[test]
fn a_group_of_nobody_and_a_batch_of_one_value_are_refused() {
    assert_eq!(
        panic_of(|| SyncGroup::new(0)),
        "a group needs at least one worker, found 0"
    );
    let (norms, device) = norms(1);
    let one = Tensor::<2>::ones([1, 4], &device);
    let failure = panic_of(|| SyncGroup::new(1).run(|| norms[0].forward(one)));
    assert!(
        failure.contains("at least two values per channel"),
        "{failure}"
    );
}

#[test]
fn in_inference_nobody_meets() {
    let (norms, device) = norms(1);
    let group = SyncGroup::new(2).with_timeout(Duration::from_millis(100));
    let run = || norms[0].forward(rows(1, 4, &device));
    group.run(|| Mode::Inference.run(run));
}
