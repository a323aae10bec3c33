//! Modes, recalibration and observation apply to everything that their closure calls, and to no other job of a rayon
//! worker.

#[path = "common/devices.rs"]
mod devices;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Device, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, Mode, recalibrate};
use burn_kindling::observe::{Observer, watch};
use devices::processors;

const JOBS: usize = 400;

/// Runs the jobs on four workers of rayon. A job returns whether all went well.
fn all_go_well(job: impl Fn(usize) -> bool + Sync) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(4)
        // Waiting jobs nest.
        .stack_size(32 << 20)
        .build()
        .unwrap();
    let failures = AtomicUsize::new(0);
    pool.scope(|scope| {
        for index in 0..JOBS {
            let (job, failures) = (&job, &failures);
            scope.spawn(move |_| {
                if !job(index) {
                    failures.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(failures.into_inner(), 0, "of {JOBS} jobs");
}

/// Waits as a kernel waits for its parts. Meanwhile, the worker runs other jobs of its pool.
fn wait() {
    for _ in 0..3 {
        rayon::yield_now();
        rayon::join(rayon::yield_now, std::thread::yield_now);
    }
}

fn norm(device: &Device) -> BatchNorm {
    BatchNormConfig::new(1).with_momentum(1.0).init(device)
}

/// A batch with mean 3.
fn batch(device: &Device) -> Tensor<2> {
    Tensor::from_floats([[2.0], [4.0]], device)
}

fn mean(norm: &BatchNorm) -> f64 {
    norm.running_mean.value_sync().into_scalar::<f64>()
}

/// Calls the layer, waiting before and after.
fn forward(norm: &BatchNorm, batch: Tensor<2>) -> Tensor<2> {
    wait();
    let output = norm.forward(batch);
    wait();
    output
}

/// Trains a new layer. Its running statistics must change.
fn trains(device: &Device) -> bool {
    let norm = norm(device);
    forward(&norm, batch(device));
    mean(&norm) == 3.0
}

#[test]
fn a_mode_reaches_no_other_job() {
    for plain in processors() {
        let device = plain.clone().autodiff();
        all_go_well(|index| match index % 4 {
            0 => {
                let norm = norm(&device);
                Mode::Inference.run(|| forward(&norm, batch(&device)));
                mean(&norm) == 0.0
            }
            1 => {
                let norm = norm(&plain);
                Mode::Training.run(|| forward(&norm, batch(&plain)));
                mean(&norm) == 3.0
            }
            2 => trains(&device),
            _ => {
                let norm = norm(&plain);
                forward(&norm, batch(&plain));
                mean(&norm) == 0.0
            }
        });
    }
}

#[test]
fn recalibration_takes_no_batch_from_another_job() {
    for device in processors() {
        let device = device.autodiff();
        all_go_well(|index| match index % 2 {
            0 => {
                let batches = || [batch(&device), batch(&device) + 2.0];
                let norm = recalibrate(&norm(&device), batches, forward, |_| ()).unwrap();
                mean(&norm) == 4.0
            }
            _ => trains(&device),
        });
    }
}

#[test]
fn an_observer_sees_the_points_of_its_own_closure_only() {
    for device in processors() {
        let pass = |name: usize| {
            wait();
            watch(name, batch(&device));
            wait();
        };
        all_go_well(|index| match index % 2 {
            0 => {
                let (_, seen) = Observer::new().run(|| pass(index));
                let layers = seen.report().layers;
                layers.len() == 1 && layers[0].name == index.to_string()
            }
            _ => {
                pass(index);
                true
            }
        });
    }
}

#[test]
fn contexts_nest_on_a_worker_and_end_with_a_panic() {
    for plain in processors() {
        let device = plain.autodiff();
        all_go_well(|index| {
            let norm = norm(&device);
            let (output, seen) = Observer::new()
                .run(|| Mode::Inference.run(|| watch("inside", forward(&norm, batch(&device)))));
            let nested =
                seen.report().layers.len() == 1 && output.dims() == [2, 1] && mean(&norm) == 0.0;
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                Mode::Inference.run(|| {
                    if index % 8 == 0 {
                        panic!("in the closure")
                    }
                })
            }));
            nested && panicked.is_err() == (index % 8 == 0) && trains(&device)
        });
    }
}
