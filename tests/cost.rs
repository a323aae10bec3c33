//! Holds `op::cost`, the model of what the GPU kernels cost, against the kernels that run on each GPU that is present.
//!
//! CubeCL reports each launch, and logs the source of each kernel that it compiles. In the source, the test counts what
//! the loops read and write, what is read and written outside them, and the shared memory.
#![cfg(feature = "cube")]

#[path = "common/devices.rs"]
mod devices;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use burn::nn::PaddingConfig2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2dConfig};
use burn::tensor::{DType, Device, Distribution, Tensor};
use burn_cubecl::cubecl::config::compilation::CompilationLogLevel;
use burn_cubecl::cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
use burn_cubecl::cubecl::logging::{LaunchObservation, LaunchObserver};
use burn_kindling::norm::BatchNormConfig;
use burn_kindling::norm::op::cost::{Extras, Launch, Operation, launches};
use burn_kindling::norm::op::{self, Pooling, PoolingKind, Then};

const EPSILON: f64 = 1e-5;

/// One cube per channel, several; channels next to each other in memory, and not; vectors and single values.
const SHAPES: [[usize; 4]; 6] = [
    [64, 100, 1, 1],
    [64, 7, 1, 1],
    [20_000, 12, 1, 1],
    [4, 16, 14, 14],
    [2, 3, 9, 37],
    [2, 2, 250, 400],
];

#[test]
fn the_model_of_cost_is_what_the_kernels_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernels");
    let mut config = CubeClRuntimeConfig::default().override_from_env();
    config.compilation.logger.level = CompilationLogLevel::Full;
    config.compilation.logger.file = Some(path.clone());
    CubeClRuntimeConfig::set(config);
    let mut log = Log {
        path,
        seen: 0,
        names: HashSet::new(),
    };

    for device in gpus() {
        for shape in SHAPES {
            for extras in all_extras(shape) {
                check(&device, shape, extras, &mut log);
            }
            for extras in all_extras(shape) {
                check_layer(&device, shape, extras, &mut log);
            }
        }
    }
    // Each kernel: six everywhere, two where the last cube of a channel merges the parts, five where it does not.
    let has = |name| usize::from(log.names.contains(name));
    let all = 6 + 2 * has("ForwardJoint") + 5 * has("ForwardMerge");
    assert!(
        log.names.is_empty() || log.names.len() == all && all > 6,
        "{:?}",
        log.names
    );
}

/// With a residual or without, with a ReLU or without; with a pooling, only one of the two.
fn all_extras([_, _, height, width]: [usize; 4]) -> Vec<Extras> {
    // A window lies in the image, padding aside.
    let padding = usize::from(height == 1);
    let average = PoolingKind::Average {
        count_padding: false,
    };
    let poolings =
        [(PoolingKind::Max, 2, padding), (average, 3, 1)].map(|(kind, window, padding)| {
            let [window, strides, padding] = [window, 2, padding].map(|it| [it; 2]);
            Some(Pooling::new(kind, [height, width], window, strides, padding).unwrap())
        });
    let one = [(false, true), (true, false)];
    let all = [(false, false), (true, true)].into_iter().chain(one);
    let pooled = poolings.map(|pooling| one.map(|extras| (pooling, extras)));
    let plain = all.map(|extras| (None, extras));
    plain
        .chain(pooled.into_iter().flatten())
        .map(|(pooling, (residual, activation))| Extras {
            residual,
            activation,
            pooling,
        })
        .collect()
}

/// What follows the normalisation. `residual` is the tensor to add, if one is added.
fn then(extras: Extras, residual: impl FnOnce() -> Tensor<4>) -> Then<4> {
    let then = match extras.residual {
        true => Then::new().add_residual(residual()),
        false => Then::new(),
    };
    let then = match extras.activation {
        true => then.relu(),
        false => then,
    };
    let Some(pooling) = extras.pooling else {
        return then;
    };
    let [y, x] = pooling.padding;
    let padding = PaddingConfig2d::Explicit(y, x, y, x);
    match pooling.kind {
        PoolingKind::Max => {
            let pool = MaxPool2dConfig::new(pooling.window)
                .with_strides(pooling.strides)
                .with_padding(padding);
            then.max_pool(&pool.init())
        }
        PoolingKind::Average { count_padding } => {
            let pool = AvgPool2dConfig::new(pooling.window)
                .with_strides(pooling.strides)
                .with_padding(padding)
                .with_count_include_pad(count_padding);
            then.avg_pool(&pool.init())
        }
    }
}

/// Compares a layer in training with the models of its operations. Burn's tensor operations launch nothing forward;
/// backward, they make the gradient of the output, whatever follows the normalisation.
fn check_layer(device: &Device, shape: [usize; 4], extras: Extras, log: &mut Log) {
    let norm = BatchNormConfig::new(shape[1]).init(&device.clone().autodiff());
    let [x, skip] = inputs(shape, device);
    let leaf = |tensor: &Tensor<4>| Tensor::<4>::from_inner(tensor.clone()).require_grad();
    let forward = |extras| norm.forward_then(leaf(&x), then(extras, || leaf(&skip)));
    let run = |extras| {
        let output = &Mutex::new(None);
        let found = launched(device, "", || {
            *output.lock().unwrap() = Some(forward(extras));
        });
        let output = output.lock().unwrap().take().unwrap();
        (found, launched(device, "", || drop(output.backward())))
    };
    // The first call makes gamma and beta.
    run(extras);
    let (found, backward) = run(extras);
    let model =
        |operation, extras| launches(device, &shape, DType::F32, operation, extras).unwrap();
    let forward = [
        model(Operation::Forward, extras),
        model(Operation::Average, extras),
    ];
    compare(&found, &forward.concat(), shape, log);

    let (_, plain) = run(Extras::default());
    let of_burn =
        |launches: Vec<String>, extras| launches.len() - model(Operation::Backward, extras).len();
    assert_eq!(
        of_burn(backward, extras),
        of_burn(plain, Extras::default()),
        "{extras:?} on {shape:?}"
    );
}

/// An input and a residual.
fn inputs(shape: [usize; 4], device: &Device) -> [Tensor<4>; 2] {
    [(); 2].map(|()| Tensor::random(shape, Distribution::Normal(0.5, 2.0), device))
}

/// The devices that have kernels.
fn gpus() -> Vec<Device> {
    let mut gpus = devices::devices();
    gpus.retain(|device| {
        launches(
            device,
            &[2, 3],
            DType::F32,
            Operation::Forward,
            Extras::default(),
        )
        .is_some()
    });
    if gpus.is_empty() {
        eprintln!("skipped: there is no GPU, nor a driver that computes on the CPU");
    }
    gpus
}

/// Compares the three operations on an input with their models.
fn check(device: &Device, shape: [usize; 4], extras: Extras, log: &mut Log) {
    let model = |operation| launches(device, &shape, DType::F32, operation, extras).unwrap();
    let [x, skip] = inputs(shape, device);

    let statistics = || {
        [
            Tensor::zeros([shape[1]], device),
            Tensor::ones([shape[1]], device),
        ]
    };
    let affine = || statistics().map(Some);
    let inference = launched(device, OURS, || {
        let then = then(extras, || skip.clone());
        op::batch_norm_then_inference(x.clone(), statistics(), affine(), EPSILON, then);
    });
    compare(&inference, &model(Operation::Inference), shape, log);

    let leaf = |tensor: &Tensor<4>| Tensor::<4>::from_inner(tensor.clone()).require_grad();
    let forward = || {
        let then = then(extras, || leaf(&skip));
        op::batch_norm_then_train(leaf(&x), None, None, EPSILON, then).output
    };
    let output = &Mutex::new(None);
    let found = launched(device, OURS, || *output.lock().unwrap() = Some(forward()));
    compare(&found, &model(Operation::Forward), shape, log);
    let output = output.lock().unwrap().take().unwrap();
    let found = launched(device, OURS, || drop(output.backward()));
    compare(&found, &model(Operation::Backward), shape, log);
}

/// Compares the launches of an operation, and the sources of those that were compiled for it, with its model. Others
/// were compiled, and compared, before.
fn compare(found: &[String], model: &[Launch], shape: [usize; 4], log: &mut Log) {
    let expected: Vec<&str> = model.iter().map(|launch| launch.kernel).collect();
    assert_eq!(found, expected, "the launches");
    for (kernel, counts) in log.compiled_since(found) {
        // Only WGSL is counted: elsewhere the launches must do.
        let Some(counts) = counts else { continue };
        let launch = model.iter().find(|launch| launch.kernel == kernel).unwrap();
        // A vector of channels is read and written value by value.
        let across = shape[1] > 1 && shape[2] * shape[3] == 1;
        let lanes = if across { counts.lanes } else { 1 };
        let passes = [launch.passes_read, launch.passes_written];
        let [in_loops, held] = match launch.held {
            0 => [passes, [0, 0]],
            // Without loops: one read and one write for each step that there may be.
            held => [[0, 0], passes.map(|pass| pass * held)],
        };
        // A unit takes its deviations from its first value.
        let takes_first = ["ForwardWhole", "ForwardParts"].contains(&launch.kernel);
        let first = usize::from(takes_first && launch.held == 0);
        // The windows of a place are a loop for each step that there may be.
        let [[pooled_read, places_read], [pooled_written, places_written]] =
            [launch.pooled_read, launch.pooled_written]
                .map(|it| it.map(|pass| pass * launch.held.max(1)));
        let expected = Counts {
            reads_in_loops: in_loops[0] + pooled_read,
            writes_in_loops: in_loops[1] + pooled_written,
            places: [places_read, places_written],
            reads: held[0] + first + launch.channel_reads * lanes,
            writes: held[1] + launch.channel_writes * lanes,
            shared_memory: launch.shared_memory,
            lanes: counts.lanes,
        };
        assert_eq!(counts, expected, "{kernel} on {shape:?}");
    }
}

/// This crate's kernels.
const OURS: &str = "burn_kindling::";

/// The kernels that `run` launches, in order, of the crates whose names begin so.
fn launched(device: &Device, crates: &str, run: impl FnOnce()) -> Vec<String> {
    device.sync().unwrap();
    let names = Arc::new(Names::default());
    let observation = LaunchObservation::new(names.clone());
    run();
    device.sync().unwrap();
    drop(observation);
    let mut names = std::mem::take(&mut *names.0.lock().unwrap());
    names.retain(|name| name.starts_with(crates));
    names.iter().map(|name| short(name)).collect()
}

#[derive(Default)]
struct Names(Mutex<Vec<String>>);

impl LaunchObserver for Names {
    fn launched(&self, kernel: &'static str) {
        self.0.lock().unwrap().push(kernel.to_string());
    }
}

/// The name of a kernel without its path and its types.
fn short(kernel: &str) -> String {
    let path = kernel.split('<').next().unwrap();
    path.rsplit("::").next().unwrap().to_string()
}

/// The log of the kernels that were compiled.
struct Log {
    path: PathBuf,
    /// Its kernels that were returned.
    seen: usize,
    names: HashSet<String>,
}

impl Log {
    /// The kernels of this crate that were compiled since the last call. `launched` are known to be in the log by now,
    /// or soon: it is written by another thread.
    fn compiled_since(&mut self, launched: &[String]) -> Vec<(String, Option<Counts>)> {
        let started = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            let (whole, _) = text
                .rsplit_once("[END_KERNEL_COMPILATION]")
                .unwrap_or_default();
            let kernels: Vec<(String, Option<Counts>)> = whole
                .split("[END_KERNEL_COMPILATION]")
                .filter_map(|kernel| {
                    let name = kernel.split_once("name: ")?.1.lines().next()?;
                    let ours = name.starts_with(OURS);
                    let wgsl = kernel.contains("@compute").then(|| count(kernel));
                    ours.then(|| (short(name), wgsl))
                })
                .collect();
            self.names
                .extend(kernels.iter().map(|(name, _)| name.clone()));
            if launched.iter().all(|name| self.names.contains(name)) {
                let new = kernels[self.seen..].to_vec();
                self.seen = kernels.len();
                return new;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "CubeCL logs the source of each kernel; found {:?}",
                self.names
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What the source of a kernel does with arrays.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    reads_in_loops: usize,
    writes_in_loops: usize,
    reads: usize,
    writes: usize,
    /// Reads and writes of integers: where the maxima of windows lie.
    places: [usize; 2],
    /// In bytes.
    shared_memory: usize,
    /// Values of a vector.
    lanes: usize,
}

/// Counts in WGSL as CubeCL writes it, one operation a line:
///
/// ```text
/// @group(0) @binding(0) var<storage, read_write> input: array<vec4<f32>>;
/// let base = &input;
/// let pointer = &(*base)[place];
/// let value = *pointer;
/// *pointer = value;
/// ```
fn count(source: &str) -> Counts {
    let mut counts = Counts {
        lanes: 1,
        ..Counts::default()
    };
    // Arrays and pointers into them, and whether they hold floats.
    let mut arrays = HashMap::new();
    // For each open brace, whether it is a loop's.
    let mut open = Vec::new();
    for line in source.lines().map(str::trim) {
        if let Some((kind, declared)) = line.split_once("var<").and_then(|it| it.1.split_once("> "))
            && let Some((name, kind_of_array)) = declared.split_once(": array<")
            && let Some((is_float, lanes)) = lanes(kind_of_array)
        {
            if kind == "workgroup" {
                let len = kind_of_array
                    .trim_end_matches([';', '>'])
                    .rsplit(", ")
                    .next();
                counts.shared_memory += 4 * lanes * len.unwrap().parse::<usize>().unwrap();
            } else if kind.starts_with("storage") {
                arrays.insert(name.to_string(), is_float);
                counts.lanes = counts.lanes.max(lanes);
            }
        }
        let in_loop = open.contains(&true);
        if let Some((name, value)) = line
            .strip_prefix("let ")
            .and_then(|it| it.split_once(" = "))
        {
            let value = value.trim_end_matches(';');
            let base = match value.strip_prefix("&(*") {
                Some(element) => element.split(')').next(),
                None => value.strip_prefix('&'),
            };
            let into = base.and_then(|base| arrays.get(base).copied());
            if let Some(is_float) = into {
                arrays.insert(name.to_string(), is_float);
            } else if let Some(is_float) = value.strip_prefix('*').and_then(|it| arrays.get(it)) {
                *match (is_float, in_loop) {
                    (false, _) => &mut counts.places[0],
                    (true, false) => &mut counts.reads,
                    (true, true) => &mut counts.reads_in_loops,
                } += 1;
            }
        } else if let Some((pointer, _)) =
            line.strip_prefix('*').and_then(|it| it.split_once(" = "))
            && let Some(is_float) = arrays.get(pointer)
        {
            *match (is_float, in_loop) {
                (false, _) => &mut counts.places[1],
                (true, false) => &mut counts.writes,
                (true, true) => &mut counts.writes_in_loops,
            } += 1;
        }
        for brace in line.chars() {
            match brace {
                '{' => open.push(line.starts_with("for(") || line.starts_with("loop")),
                '}' => drop(open.pop()),
                _ => {}
            }
        }
    }
    counts
}

/// Whether an array holds f32, or else u32, and the values of one of its vectors.
fn lanes(kind: &str) -> Option<(bool, usize)> {
    let (element, lanes) = match kind.strip_prefix("vec") {
        Some(vector) => {
            let (lanes, element) = vector.split_once('<')?;
            (element, lanes.parse().ok()?)
        }
        None => (kind, 1),
    };
    let is_float = element.starts_with("f32");
    (is_float || element.starts_with("u32")).then_some((is_float, lanes))
}
