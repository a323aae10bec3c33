//! The memory of large outputs is reused. Whatever happens to a tensor, it must never change another one.
//!
//! Every tensor here is a batch norm's output in which all values are the same known number. Tensors are changed in
//! place, copied, taken out as data, and dropped in any order and on any thread. Tensors that are still held must keep
//! their number to the end.

#![cfg(feature = "flex")]

use burn::tensor::{Device, Tensor, TensorData};
use burn_kindling::norm::op;
use proptest::prelude::*;
use std::sync::mpsc;
use std::thread;

/// Rows of 64 values: 128 KiB to 4 MiB. Some memory has exactly the requested size, some is larger, some is in huge
/// pages.
const ROWS: [usize; 7] = [512, 600, 1000, 1024, 4096, 8192, 16_384];

/// An owner of an output.
#[allow(clippy::large_enum_variant)]
enum Held {
    Tensor(Tensor<2>),
    Data(TensorData),
}

impl Held {
    fn check(&self, number: f32) {
        let data = match self {
            Self::Tensor(tensor) => &tensor.to_data(),
            Self::Data(data) => data,
        };
        let values = data.as_slice::<f32>().expect("f32");
        assert!(
            values.iter().all(|&value| value == number),
            "a tensor of {number} holds another number"
        );
    }
}

/// An output with the value `number` everywhere: the input is `number - 1`, beta is 1.
fn output(rows: usize, number: f32) -> Tensor<2> {
    let device = Device::flex();
    let ones = || Tensor::<1>::ones([64], &device);
    let input = Tensor::<2>::full([rows, 64], number - 1.0, &device);
    // Held twice, so that it is not overwritten.
    let held = input.clone();
    let output = op::batch_norm_inference(
        input,
        Tensor::zeros([64], &device),
        ones(),
        Some(ones()),
        Some(ones()),
        0.0,
    );
    drop(held);
    output
}

#[derive(Clone, Debug)]
enum Step {
    New(usize),
    Drop(usize),
    DropElsewhere(usize),
    AddInPlace(usize),
    AddToCopy(usize),
    TakeData(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop::sample::select(&ROWS[..]).prop_map(Step::New),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => any::<usize>().prop_map(Step::DropElsewhere),
        1 => any::<usize>().prop_map(Step::AddInPlace),
        1 => any::<usize>().prop_map(Step::AddToCopy),
        1 => any::<usize>().prop_map(Step::TakeData),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_tensor_shows_in_another(steps in prop::collection::vec(step(), 1..40)) {
        let mut held: Vec<(Held, f32)> = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            let number = 1000.0 * (index + 1) as f32;
            if let Step::New(rows) = step {
                held.push((Held::Tensor(output(rows, number)), number));
                continue;
            }
            let (Step::Drop(at) | Step::DropElsewhere(at) | Step::AddInPlace(at) | Step::AddToCopy(at)
            | Step::TakeData(at)) = step else { unreachable!("all other steps have a place") };
            if held.is_empty() {
                continue;
            }
            let at = at % held.len();
            let (what, number) = held.swap_remove(at);
            what.check(number);
            match (step, what) {
                (Step::DropElsewhere(_), what) => {
                    thread::spawn(move || drop(what)).join().expect("nothing panics in a drop");
                }
                (Step::AddInPlace(_), Held::Tensor(tensor)) => {
                    held.push((Held::Tensor(tensor.add_scalar(1.0)), number + 1.0));
                }
                (Step::AddToCopy(_), Held::Tensor(tensor)) => {
                    held.push((Held::Tensor(tensor.clone().add_scalar(1.0)), number + 1.0));
                    held.push((Held::Tensor(tensor), number));
                }
                (Step::TakeData(_), Held::Tensor(tensor)) => {
                    held.push((Held::Data(tensor.into_data()), number));
                }
                _ => {}
            }
        }
        for (what, number) in held {
            what.check(number);
        }
    }
}

/// Four threads make tensors, and each drops the tensors of its neighbour.
#[test]
fn threads_share_the_memory() {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| mpsc::sync_channel(2)).unzip();
    let mut senders = senders;
    senders.rotate_left(1);
    thread::scope(|scope| {
        for (index, (sender, receiver)) in senders.into_iter().zip(receivers).enumerate() {
            scope.spawn(move || {
                for round in 0..50 {
                    let number = (1000 * index + round) as f32;
                    let made = output(ROWS[(round + index) % ROWS.len()], number);
                    sender
                        .send((Held::Tensor(made), number))
                        .expect("the neighbour listens to the end");
                    let (what, number): (Held, f32) =
                        receiver.recv().expect("the neighbour speaks to the end");
                    what.check(number);
                }
            });
        }
    });
}
