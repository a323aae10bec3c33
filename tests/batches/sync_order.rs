//! Why layers exchange their numbers by way of the host, and not by collective operations of the devices.
//!
//! With Burn's distributed strategy, a thread of its own issues the all-reduce of a gradient, for all devices, once the
//! last worker has it. A device runs its collective operations in the order in which they were issued, and pairs them
//! with those of the other devices by that order. If a layer issued collective operations too, from the workers'
//! threads, the two could be issued in different orders on different devices. Then each device waits for the other.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use burn::module::Module;
use burn::tensor::DType;
use burn_kindling::norm::op::Exchange;
use burn_kindling::norm::{BatchNorm, BatchNormConfig, SyncGroup};

use crate::devices::any_device;
use crate::{noise, tensor};

/// The collective operations that each of two devices was given, in order.
type Queues = Arc<Mutex<[Vec<&'static str>; 2]>>;

/// Issues the all-reduce of a gradient on both devices, once both have it: Burn's gradient server.
fn gradient_server(queues: &Queues, arrivals: Receiver<()>, issued: Sender<()>) {
    for _ in 0..2 {
        arrivals.recv().unwrap();
    }
    for queue in queues.lock().unwrap().iter_mut() {
        queue.push("gradient");
    }
    issued.send(()).unwrap();
}

/// An exchange by a collective operation of the device. It hands over the numbers at once, so that the test does not
/// hang where devices would.
#[derive(Debug)]
struct ByDevice {
    worker: usize,
    queues: Queues,
    numbers: Arc<Mutex<Vec<Vec<f64>>>>,
    all: Arc<Barrier>,
}

impl Exchange for ByDevice {
    fn gather(&self, numbers: Vec<f64>) -> Vec<Vec<f64>> {
        self.queues.lock().unwrap()[self.worker].push("layer");
        self.numbers.lock().unwrap().push(numbers);
        self.all.wait();
        let all = self.numbers.lock().unwrap().clone();
        if self.all.wait().is_leader() {
            self.numbers.lock().unwrap().clear();
        }
        self.all.wait();
        all
    }
}

/// The queues after a step in which the first worker is ahead: it comes to the layer's backward pass before the second
/// has the gradient of the layer behind it.
fn step(groups: [SyncGroup; 2], queues: &Queues) -> [Vec<&'static str>; 2] {
    let device = any_device().autodiff();
    let norm = BatchNormConfig::new(2).init(&device);
    let (arrive, arrivals) = channel();
    let (issued, when_issued) = channel();
    let (first_is_there, wait_for_first) = channel();
    let pass = |norm: &BatchNorm| {
        let x = tensor::<2>(&noise(1, 6), [3, 2], DType::F32, &device).require_grad();
        norm.forward(x).square().sum()
    };
    thread::scope(|threads| {
        threads.spawn(|| gradient_server(queues, arrivals, issued));
        let [ahead, behind] = groups;
        let [a, b] = [(); 2].map(|()| norm.clone().fork(&device));
        let arrive_first = arrive.clone();
        threads.spawn(move || {
            ahead.run(|| {
                let loss = pass(&a);
                arrive_first.send(()).unwrap();
                first_is_there.send(()).unwrap();
                loss.backward();
            })
        });
        threads.spawn(move || {
            behind.run(move || {
                let loss = pass(&b);
                wait_for_first.recv().unwrap();
                // Only now does it have the gradient of the layer behind.
                thread::sleep(std::time::Duration::from_millis(200));
                arrive.send(()).unwrap();
                when_issued.recv().unwrap();
                loss.backward();
            })
        });
    });
    queues.lock().unwrap().clone()
}

#[test]
fn collective_operations_of_layers_and_gradients_can_cross() {
    let queues = Queues::default();
    let (numbers, all) = (Arc::default(), Arc::new(Barrier::new(2)));
    let groups = [0, 1].map(|worker| {
        SyncGroup::over(Arc::new(ByDevice {
            worker,
            queues: queues.clone(),
            numbers: Arc::clone(&numbers),
            all: all.clone(),
        }))
    });
    let [first, second] = step(groups, &queues);
    assert_eq!(first, ["layer", "layer", "gradient"]);
    assert_eq!(
        second,
        ["layer", "gradient", "layer"],
        "the devices wait for each other"
    );
}

#[test]
fn an_exchange_by_the_host_leaves_the_order_of_gradients_alone() {
    let queues = Queues::default();
    let group = SyncGroup::new(2);
    let [first, second] = step([group.clone(), group], &queues);
    assert_eq!(first, ["gradient"]);
    assert_eq!(second, ["gradient"]);
}
