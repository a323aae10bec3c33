//! Times this crate's layer and Burn's, and copies.

use std::time::Duration;

use burn::module::{Module, ModuleMapper, Param};
use burn::nn;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use burn_kindling::norm::op::cost::{Extras, Operation, launches};
use burn_kindling::norm::op::{Pooling, PoolingKind};
use burn_kindling::norm::{BatchNormConfig, Then};

use crate::case::{Case, Float, Pass, Tail};
use crate::clock::Stopwatch;
use crate::entry::{Entry, Timing};

/// Bytes that the graphs of a window may take.
const KEPT: usize = 4 << 30;
/// The most tensors of the input's size that a layer keeps for its backward pass.
const SAVED: usize = 6;

/// Whose layer is timed.
#[derive(Clone, Copy, PartialEq)]
pub enum Who {
    Ours,
    Burn,
}

impl Who {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Burn => "burn",
        }
    }
}

/// Times one case.
pub fn time(who: Who, case: &Case, device: &Device, time: Duration) -> Result<Entry, String> {
    match case.shape[..] {
        [a, b] => time_shape(who, case, [a, b], Pool::none(), device, time),
        [a, b, c] => time_shape(who, case, [a, b, c], Pool::none(), device, time),
        [a, b, c, d] => {
            let pool = match case.tail {
                Tail::ReluMaxPool => Pool::halving(),
                _ => Pool::none(),
            };
            time_shape(who, case, [a, b, c, d], pool, device, time)
        }
        _ => Err(format!("no layer takes {:?}", case.shape)),
    }
}

/// What is done after the activation, in batch norm's operation or after it.
#[derive(Clone, Copy)]
struct Pool<const D: usize> {
    in_one: fn(Then<D>) -> Then<D>,
    apart: fn(Tensor<D>) -> Tensor<D>,
}

impl<const D: usize> Pool<D> {
    fn none() -> Self {
        Self {
            in_one: |then| then,
            apart: |y| y,
        }
    }
}

impl Pool<4> {
    /// The maximum of windows of 2x2.
    fn halving() -> Self {
        fn pool() -> MaxPool2d {
            MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()
        }
        Self {
            in_one: |then| then.max_pool(&pool()),
            apart: |y| pool().forward(y),
        }
    }
}

fn time_shape<const D: usize>(
    who: Who,
    case: &Case,
    shape: [usize; D],
    pool: Pool<D>,
    device: &Device,
    time: Duration,
) -> Result<Entry, String> {
    let dtype = case.dtype.dtype();
    let random = || random(shape, dtype, device);
    let x = random();
    let skip = (case.tail == Tail::AddRelu).then(random);
    let (forward, inference) = layers(who, case, pool, shape[1], device);

    let leaf = |tensor: &Tensor<D>| Tensor::<D>::from_inner(tensor.clone()).require_grad();
    let train = || forward(leaf(&x), skip.as_ref().map(leaf));
    let stopwatch = Stopwatch::new(device, time);
    let (time, kernels) = match case.pass {
        Pass::Inference => {
            let call = || inference(x.clone(), skip.clone());
            (stopwatch.measure(call, || {})?, stopwatch.kernels(call)?)
        }
        Pass::Forward => {
            let call = train;
            // A backward pass frees what Burn keeps for the graphs of dropped outputs.
            let free = || drop(train().backward());
            let stopwatch = Stopwatch {
                most_calls: (KEPT / (SAVED * case.bytes())).clamp(1, stopwatch.most_calls),
                ..stopwatch
            };
            let time = stopwatch.measure(call, free)?;
            let kernels = stopwatch.kernels(call)?;
            free();
            (time, kernels)
        }
        Pass::Backward => {
            // Burn first makes the gradient of the output, a tensor of ones, which others are given.
            let ones = || leaf(&x).backward();
            let call = || train().backward();
            let empty = stopwatch.measure(ones, || {})?;
            let full = stopwatch.measure(call, || {})?;
            let mut kernels = stopwatch.kernels(call)?;
            for of_ones in stopwatch.kernels(ones)? {
                let mut same = kernels.iter_mut().filter(|it| it.name == of_ones.name);
                if let Some(kernel) = same.next() {
                    kernel.launches = kernel.launches.saturating_sub(of_ones.launches);
                    kernel.milliseconds = (kernel.milliseconds - of_ones.milliseconds).max(0.0);
                }
            }
            kernels.retain(|kernel| kernel.launches > 0);
            (full.less(empty.median), kernels)
        }
    };
    Ok(Entry::Time {
        who: who.name().into(),
        case: case.clone(),
        time,
        moved: if who == Who::Ours {
            moved(case, device)
        } else {
            None
        },
        kernels,
    })
}

type Layer<const D: usize> = Box<dyn Fn(Tensor<D>, Option<Tensor<D>>) -> Tensor<D> + Send + Sync>;

/// The layer in training, and in inference; each with what follows.
fn layers<const D: usize>(
    who: Who,
    case: &Case,
    pool: Pool<D>,
    channels: usize,
    device: &Device,
) -> (Layer<D>, Layer<D>) {
    let training = device.clone().autodiff();
    let tail = case.tail;
    match who {
        Who::Ours => [&training, device].map(|device| {
            let layer = BatchNormConfig::new(channels).init(device);
            Box::new(move |x: Tensor<D>, skip: Option<Tensor<D>>| {
                let then = match skip {
                    Some(skip) => Then::new().add_residual(skip),
                    None => Then::new(),
                };
                let then = match tail {
                    Tail::Nothing => then,
                    _ => then.relu(),
                };
                layer.forward_then(x, (pool.in_one)(then))
            }) as Layer<D>
        }),
        Who::Burn => [&training, device].map(|device| {
            let layer = nn::BatchNormConfig::new(channels).init(device);
            // It takes no input of another type than its parameters.
            let layer = match case.dtype {
                Float::F32 => layer,
                _ => layer.map(&mut Cast(case.dtype.dtype())),
            };
            Box::new(move |x: Tensor<D>, skip: Option<Tensor<D>>| {
                let y = layer.forward(x);
                let y = match skip {
                    Some(skip) => y + skip,
                    None => y,
                };
                let y = match tail {
                    Tail::Nothing => y,
                    _ => relu(y),
                };
                (pool.apart)(y)
            }) as Layer<D>
        }),
    }
    .into()
}

/// Changes the float type of a module's parameters and statistics.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let tracked = tensor.is_require_grad();
            tensor.cast(self.0).detach().set_require_grad(tracked)
        })
    }
}

/// Bytes that this crate's kernels move. `None` if the device has none.
fn moved(case: &Case, device: &Device) -> Option<usize> {
    let operations: &[Operation] = match case.pass {
        Pass::Inference => &[Operation::Inference],
        Pass::Forward => &[Operation::Forward],
        Pass::Backward => &[Operation::Forward, Operation::Backward],
    };
    let extras = Extras {
        residual: case.tail == Tail::AddRelu,
        activation: case.tail != Tail::Nothing,
        pooling: match (case.tail, &case.shape[..]) {
            (Tail::ReluMaxPool, &[_, _, height, width]) => {
                Pooling::new(PoolingKind::Max, [height, width], [2, 2], [2, 2], [0, 0])
            }
            _ => None,
        },
    };
    let dtype = case.dtype.dtype().into();
    let bytes = operations.iter().map(|&operation| {
        let launches = launches(device, &case.shape, dtype, operation, extras)?;
        let moved = launches
            .iter()
            .map(|it| it.bytes_read() + it.bytes_written());
        Some(moved.sum::<usize>())
    });
    bytes.sum()
}

/// Times a copy of `bytes` bytes of device memory: an operation of Burn's that reads its input and writes as much.
pub fn copy(device: &Device, bytes: usize, time: Duration) -> Result<Entry, String> {
    let len = bytes / 4 / 1024;
    let x = random([len, 1024], FloatDType::F32, device);
    let call = || x.clone().neg();
    Ok(Entry::Copy {
        who: "Burn's negation".into(),
        bytes: 2 * 4 * len * 1024,
        time: Stopwatch::new(device, time).measure(call, || {})?,
    })
}

fn random<const D: usize>(shape: [usize; D], dtype: FloatDType, device: &Device) -> Tensor<D> {
    Tensor::<D>::random(shape, Distribution::Normal(0.5, 2.0), device).cast(dtype)
}

impl Timing {
    /// Without a part that takes `time`.
    fn less(self, time: f64) -> Self {
        let less = |it: f64| (it - time).max(0.0);
        Self {
            median: less(self.median),
            low: less(self.low),
            high: less(self.high),
            ..self
        }
    }
}
