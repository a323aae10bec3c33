//! Trained weights are saved and loaded again.
#![cfg(feature = "flex")]

use std::fs;

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1dConfig, ConvTranspose2dConfig};
use burn::nn::{
    LayerNorm, LayerNormConfig, Linear, LinearConfig, LinearLayout, conv::Conv1d,
    conv::ConvTranspose2d,
};
use burn::store::ModuleRecord;
use burn::tensor::{Device, Distribution, FloatDType, Tensor};
use burn_kindling::norm::{BatchNorm, BatchNormConfig, RunningAverage};
use burn_kindling::record::{Layout, Record, RecordError, remove_leftovers, write_atomically};
use burn_kindling_lab::model::{
    Classifier, CnnConfig, MlpConfig, ModelConfig, Normalization, ResnetConfig,
};

/// A network of either kind with its own running statistics.
fn trained(config: &ModelConfig) -> Classifier {
    let training = Device::flex().autodiff();
    let model = config.init(&training);
    for mean in [0.5, 1.5] {
        let images = Tensor::random([32, 12, 12], Distribution::Normal(mean, 2.0), &training);
        model.forward(images);
    }
    model.valid()
}

fn configs() -> Vec<ModelConfig> {
    Normalization::ALL
        .into_iter()
        .flat_map(|norm| {
            [
                ModelConfig::Mlp(
                    MlpConfig::new()
                        .with_inputs(144)
                        .with_hidden(vec![20, 15])
                        .with_norm(norm),
                ),
                ModelConfig::Mlp(
                    MlpConfig::new()
                        .with_inputs(144)
                        .with_hidden(vec![])
                        .with_norm(norm),
                ),
                ModelConfig::Cnn(
                    CnnConfig::new()
                        .with_side(12)
                        .with_channels([4, 6])
                        .with_dense(16)
                        .with_norm(norm),
                ),
                ModelConfig::Resnet(
                    ResnetConfig::new()
                        .with_side(12)
                        .with_depth(14)
                        .with_channels(3)
                        .with_norm(norm),
                ),
            ]
        })
        .collect()
}

fn logits(model: &Classifier) -> Vec<f32> {
    // Computed without a random generator, so that two calls see the same images.
    let pixels: Vec<f32> = (0..5 * 144)
        .map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0)
        .collect();
    let images = Tensor::<1>::from_floats(&pixels[..], &Device::flex()).reshape([5, 12, 12]);
    model.forward(images).into_data().try_to_vec().unwrap()
}

#[test]
fn every_network_comes_back_bit_for_bit_from_either_format() {
    let device = Device::flex();
    for config in configs() {
        let model = trained(&config);
        for layout in [Layout::Burn, Layout::PyTorch] {
            let record = model.record(&config, layout);
            let bytes = record.to_bytes().unwrap();
            assert_eq!(
                bytes,
                record.to_bytes().unwrap(),
                "the same bytes every time"
            );

            let read = Record::from_bytes(bytes.clone()).unwrap();
            assert_eq!(read.layout(), layout);
            assert_eq!(read.config::<ModelConfig>().unwrap(), config);
            let back = Classifier::from_record(&config, &read, &device).unwrap();
            assert_eq!(logits(&back), logits(&model), "{config:?}");
            assert_eq!(back.record(&config, layout).to_bytes().unwrap(), bytes);
        }
    }
}

#[test]
fn files_say_which_network_they_are_of() {
    let device = Device::flex();
    let scratch = tempfile::tempdir().unwrap();
    for config in configs() {
        let model = trained(&config);
        for (layout, name) in [(Layout::Burn, "m.bpk"), (Layout::PyTorch, "m.safetensors")] {
            let path = scratch.path().join(name);
            model.record(&config, layout).save(&path).unwrap();
            let (said, back) = Classifier::open(&path, &device).unwrap();
            assert_eq!((said, logits(&back)), (config.clone(), logits(&model)));
        }
    }
}

#[test]
fn a_file_without_a_configuration_takes_the_one_beside_it() {
    let device = Device::flex();
    let scratch = tempfile::tempdir().unwrap();
    let config = &configs()[0];
    let Classifier::Mlp(mlp) = trained(config) else {
        panic!("the first network is a perceptron")
    };
    let path = scratch.path().join("m.bpk");
    Record::new(&mlp, Layout::Burn).save(&path).unwrap();
    let error = Classifier::open(&path, &device).unwrap_err();
    assert!(matches!(error, RecordError::NoConfig { .. }), "{error}");

    let beside = scratch.path().join("config.json");
    let model = serde_json::to_value(config).unwrap();
    for text in [
        model.to_string(),
        serde_json::json!({"model": model, "epochs": 3}).to_string(),
    ] {
        fs::write(&beside, text).unwrap();
        let (said, _) = Classifier::open(&path, &device).unwrap();
        assert_eq!(&said, config);
    }
    fs::write(&beside, "[1, 2]").unwrap();
    let error = Classifier::open(&path, &device).unwrap_err().to_string();
    assert!(error.contains("config.json"), "{error}");
}

#[test]
fn burns_own_record_and_ours_are_the_same_file() {
    let config = MlpConfig::new().with_inputs(144).with_hidden(vec![20]);
    let Classifier::Mlp(model) = trained(&ModelConfig::Mlp(config.clone())) else {
        panic!("it is a perceptron")
    };
    let ours = Record::new(&model, Layout::Burn).to_bytes().unwrap();
    let device = Device::flex();
    let burns =
        ModuleRecord::from_bytes(burn::tensor::Bytes::from_bytes_vec(ours.clone())).unwrap();
    let loaded = config.init(&device).load_record(burns);
    assert_eq!(Record::new(&loaded, Layout::Burn).to_bytes().unwrap(), ours);

    let burns = loaded.into_record().into_bytes().unwrap().to_vec();
    let loaded = Record::from_bytes(burns)
        .unwrap()
        .load(config.init(&device))
        .unwrap();
    assert_eq!(Record::new(&loaded, Layout::Burn).to_bytes().unwrap(), ours);
}

/// Layers whose weights PyTorch stores in another layout, and some in the same layout.
#[derive(Module, Debug)]
struct Zoo {
    rows: Linear,
    columns: Linear,
    square: Linear,
    layers: Vec<Conv1d>,
    up: ConvTranspose2d,
    norm: LayerNorm,
    cumulative: BatchNorm,
    plain: BatchNorm,
    scale: Param<Tensor<1>>,
}

impl Zoo {
    fn new(device: &Device) -> Self {
        let average = |average| BatchNormConfig::new(3).with_average(average);
        Self {
            rows: LinearConfig::new(3, 5).init(device),
            columns: LinearConfig::new(3, 5)
                .with_layout(LinearLayout::Col)
                .init(device),
            square: LinearConfig::new(4, 4)
                .with_layout(LinearLayout::Col)
                .init(device),
            layers: vec![Conv1dConfig::new(2, 3, 3).init(device)],
            up: ConvTranspose2dConfig::new([2, 3], [2, 2]).init(device),
            norm: LayerNormConfig::new(3).init(device),
            cumulative: average(RunningAverage::Cumulative).init(device),
            plain: average(RunningAverage::Exponential)
                .with_affine(false)
                .init(device),
            scale: Param::from_tensor(Tensor::random([3], Distribution::Default, device)),
        }
    }
}

#[test]
fn pytorch_names_and_shapes() {
    let zoo = Zoo::new(&Device::flex());
    let record = Record::new(&zoo, Layout::PyTorch);
    let names: Vec<_> = record.names().collect();
    assert_eq!(
        names,
        [
            "columns.bias",
            "columns.weight",
            "cumulative.bias",
            "cumulative.running_mean",
            "cumulative.running_var",
            "cumulative.running_weight",
            "cumulative.weight",
            "layers.0.bias",
            "layers.0.weight",
            "norm.bias",
            "norm.weight",
            "plain.running_mean",
            "plain.running_var",
            "rows.bias",
            "rows.weight",
            "scale",
            "square.bias",
            "square.weight",
            "up.bias",
            "up.weight",
        ]
    );
    let bytes = record.to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, shape) in [
        ("rows.weight", &[5, 3][..]),
        ("columns.weight", &[5, 3]),
        ("square.weight", &[4, 4]),
        ("layers.0.weight", &[3, 2, 3]),
        ("up.weight", &[2, 3, 2, 2]),
        ("plain.num_batches_tracked", &[]),
    ] {
        assert_eq!(file.tensor(name).unwrap().shape(), shape, "{name}");
    }
    // In memory, the weight is [in, out] in both of Burn's layouts.
    for (name, linear) in [
        ("columns.weight", &zoo.columns),
        ("square.weight", &zoo.square),
        ("rows.weight", &zoo.rows),
    ] {
        let live = linear.weight.val().transpose().into_data();
        assert_eq!(
            file.tensor(name).unwrap().data(),
            &live.bytes()[..],
            "{name}"
        );
    }
}

#[test]
fn other_modules_come_back_bit_for_bit_into_drawn_and_undrawn_ones() {
    let device = Device::flex();
    let zoo = Zoo::new(&device);
    let training = device.clone().autodiff();
    let batch = Tensor::<2>::random([8, 3], Distribution::Default, &training);
    burn_kindling::norm::Mode::Training.run(|| zoo.cumulative.forward(batch));
    for layout in [Layout::Burn, Layout::PyTorch] {
        let bytes = Record::new(&zoo, layout).to_bytes().unwrap();
        let record = Record::from_bytes(bytes.clone()).unwrap();
        let drawn = Zoo::new(&device);
        Record::new(&drawn, layout);
        assert!(drawn.columns.weight.is_initialized());
        for target in [Zoo::new(&device), drawn] {
            let back = record.load(target).unwrap();
            assert_eq!(Record::new(&back, layout).to_bytes().unwrap(), bytes);
            let same =
                |a: &Linear, b: &Linear| a.weight.val().into_data() == b.weight.val().into_data();
            assert!(same(&back.columns, &zoo.columns) && same(&back.square, &zoo.square));
        }
    }
}

#[test]
fn a_loaded_module_trains_as_the_one_it_was_loaded_into() {
    let training = Device::flex().autodiff();
    let linear = LinearConfig::new(3, 2).init(&training);
    let record = Record::new(&linear, Layout::PyTorch);
    let back = record
        .load(LinearConfig::new(3, 2).init(&training))
        .unwrap();
    let grads = back
        .forward(Tensor::<2>::ones([4, 3], &training))
        .sum()
        .backward();
    assert!(back.weight.grad(&grads).is_some());
    let frozen = record
        .load(LinearConfig::new(3, 2).init(&training).no_grad())
        .unwrap();
    assert!(!frozen.weight.is_require_grad());
}

#[test]
fn half_precision_halves_the_file_and_hardly_moves_the_logits() {
    let device = Device::flex();
    for config in configs() {
        let model = trained(&config);
        for layout in [Layout::Burn, Layout::PyTorch] {
            let whole = model.record(&config, layout);
            let half = whole.clone().cast(FloatDType::F16).unwrap();
            let read = Record::from_bytes(half.to_bytes().unwrap()).unwrap();
            let back = Classifier::from_record(&config, &read, &device).unwrap();
            let (before, after) = (logits(&model), logits(&back));
            let size = before.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (a, b) in before.iter().zip(&after) {
                assert!((a - b).abs() < 5e-3 * size, "{a} {b}");
            }
            assert_ne!(before, after);
            let values = 4 * whole.num_values();
            let saved = whole.to_bytes().unwrap().len() - half.to_bytes().unwrap().len();
            assert!(saved * 5 > values * 2, "{saved} of {values} bytes");
        }
    }
}

#[test]
fn statistics_of_batch_norms_stay_whole_in_half_precision() {
    let device = Device::flex().autodiff();
    let norm = BatchNormConfig::new(2).with_momentum(1.0).init(&device);
    // A variance of about 1e6, beyond f16's 65504.
    norm.forward(Tensor::<2>::random(
        [64, 2],
        Distribution::Normal(0.0, 1e3),
        &device,
    ));
    let norm = norm.valid();
    let record = Record::new(&norm, Layout::PyTorch)
        .cast(FloatDType::F16)
        .unwrap();
    let back = record
        .load(BatchNormConfig::new(2).init(&Device::flex()))
        .unwrap();
    assert_eq!(
        back.running_var.value_sync().into_data(),
        norm.running_var.value_sync().into_data()
    );

    let mut linear = LinearConfig::new(1, 1).init(&Device::flex());
    linear.weight = Param::from_tensor(Tensor::from_floats([[1e6]], &Device::flex()));
    let error = Record::new(&linear, Layout::Burn)
        .cast(FloatDType::F16)
        .unwrap_err();
    assert!(error.to_string().contains("weight"), "{error}");
}

#[test]
fn f64_and_bf16_files_load_into_f32_modules() {
    let device = Device::flex();
    let linear = LinearConfig::new(7, 5).init(&device);
    let expected = linear.weight.val().into_data();
    let wide = Record::new(&linear, Layout::PyTorch)
        .cast(FloatDType::F64)
        .unwrap();
    let back = Record::from_bytes(wide.to_bytes().unwrap()).unwrap();
    let back = back.load(LinearConfig::new(7, 5).init(&device)).unwrap();
    assert_eq!(back.weight.val().into_data(), expected);

    let brief = Record::new(&linear, Layout::Burn)
        .cast(FloatDType::BF16)
        .unwrap();
    let back = Record::from_bytes(brief.to_bytes().unwrap()).unwrap();
    let back = back.load(LinearConfig::new(7, 5).init(&device)).unwrap();
    let apart = (back.weight.val() - linear.weight.val())
        .abs()
        .max()
        .into_scalar::<f32>();
    assert!(apart > 0.0 && apart < 4e-3, "{apart}");
}

#[test]
fn what_differs_is_said_by_name() {
    let device = Device::flex();
    let small = MlpConfig::new().with_inputs(6).with_hidden(vec![5]);
    let record = Record::new(&small.init(&device), Layout::PyTorch);
    let message = |config: MlpConfig| {
        let record = Record::from_bytes(record.to_bytes().unwrap()).unwrap();
        record.load(config.init(&device)).unwrap_err().to_string()
    };
    let text = message(small.clone().with_hidden(vec![4]));
    assert!(
        text.contains("hidden.0.affine.weight [4, 6], found [5, 6]"),
        "{text}"
    );
    assert!(
        text.contains("hidden.0.norm.running_mean [4], found [5]"),
        "{text}"
    );
    let text = message(small.clone().with_norm(Normalization::None));
    assert!(text.contains("missing hidden.0.affine.bias"), "{text}");
    assert!(text.contains("not expected hidden.0.norm.bias"), "{text}");
    let text = message(small.with_hidden(vec![5; 40]));
    assert!(text.contains("more"), "{text}");
    assert!(text.len() < 2_000, "{}", text.len());
}

#[test]
fn nan_and_infinity_are_told_with_their_tensor() {
    let device = Device::flex();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut linear = LinearConfig::new(2, 1).init(&device);
        linear.weight = Param::from_tensor(Tensor::from_floats([[1.0], [bad]], &device));
        for layout in [Layout::Burn, Layout::PyTorch] {
            let bytes = Record::new(&linear, layout).to_bytes().unwrap();
            let record = Record::from_bytes(bytes).unwrap();
            let error = record
                .load(LinearConfig::new(2, 1).init(&device))
                .unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains("1 values of weight are NaN or infinite"),
                "{text}"
            );
        }
    }
}

/// A batch norm with this running variance and weight.
fn norm_of(variance: [f32; 4], weight: [f32; 4]) -> BatchNorm {
    #[derive(Module, Debug)]
    struct Statistics {
        gamma: Param<Tensor<1>>,
        beta: Param<Tensor<1>>,
        running_mean: Param<Tensor<1>>,
        running_var: Param<Tensor<1>>,
        running_weight: Param<Tensor<1>>,
    }
    let param = |values: [f32; 4]| Param::from_tensor(Tensor::from_floats(values, &Device::flex()));
    let statistics = Statistics {
        gamma: param([1.0; 4]),
        beta: param([0.0; 4]),
        running_mean: param([0.0; 4]),
        running_var: param(variance),
        running_weight: param(weight),
    };
    // Through Burn's own record, which checks nothing.
    let config = BatchNormConfig::new(4).with_average(RunningAverage::Cumulative);
    let norm = config.init(&Device::flex());
    norm.load_record(statistics.into_record())
}

#[test]
fn negative_variances_and_weights_are_told_with_their_channel() {
    let device = Device::flex();
    let config = BatchNormConfig::new(4).with_average(RunningAverage::Cumulative);
    let good = [1.0; 4];
    for (norm, said) in [
        (
            norm_of([1.0, 1.0, 1.0, -2e-5], good),
            "running_var[3] is -2.0e-5",
        ),
        (
            norm_of([1.0, -1e-6, 1.0, 1.0], good),
            "running_var[1] is -1.0e-6",
        ),
        (
            norm_of(good, [1.0, 1.0, -0.5, 1.0]),
            "running_weight[2] is -5.0e-1",
        ),
    ] {
        for layout in [Layout::Burn, Layout::PyTorch] {
            let record = Record::new(&norm, layout);
            assert!(matches!(record.check(), Err(RecordError::Negative { .. })));
            let read = Record::from_bytes(record.to_bytes().unwrap()).unwrap();
            let error = read.load(config.init(&device)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(said), "{text}");
        }
    }
    let fine = norm_of([0.0, 1.0, 2.0, 3.0], good);
    let record = Record::new(&fine, Layout::Burn);
    record.check().unwrap();
    record.load(config.init(&device)).unwrap();
}

/// Structs with the names of Burn's structs.
mod namesakes {
    use super::*;

    #[derive(Module, Debug)]
    pub struct BatchNorm {
        pub gamma: Param<Tensor<1>>,
        pub beta: Param<Tensor<1>>,
        pub weight: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    pub struct Linear {
        pub weight: Param<Tensor<2>>,
        pub scale: Param<Tensor<1>>,
    }

    #[derive(Module, Debug)]
    pub struct Namesakes {
        pub norm: BatchNorm,
        pub linear: Linear,
    }

    impl Namesakes {
        pub fn new(first: f32) -> Self {
            let device = Device::flex();
            let param = |value: f32| Param::from_tensor(Tensor::full([2], value, &device));
            Self {
                norm: BatchNorm {
                    gamma: param(first),
                    beta: param(first + 1.0),
                    weight: param(first + 2.0),
                },
                linear: Linear {
                    weight: Param::from_tensor(Tensor::full([2, 3], first, &device)),
                    scale: param(first),
                },
            }
        }
    }
}

#[test]
fn a_struct_of_the_users_own_with_a_layers_name_loses_nothing() {
    let model = namesakes::Namesakes::new(1.0);
    let record = Record::new(&model, Layout::PyTorch);
    let names: Vec<_> = record.names().collect();
    assert_eq!(
        names,
        [
            "linear.scale",
            "linear.weight",
            "norm.beta",
            "norm.gamma",
            "norm.weight"
        ]
    );
    let bytes = record.to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("linear.weight").unwrap().shape(), [2, 3]);
    let back = Record::from_bytes(bytes.clone()).unwrap();
    let back = back.load(namesakes::Namesakes::new(9.0)).unwrap();
    assert_eq!(
        Record::new(&back, Layout::PyTorch).to_bytes().unwrap(),
        bytes
    );
}

#[test]
fn a_flipped_bit_in_a_burnpack_file_never_makes_another_network() {
    let device = Device::flex();
    let config = &configs()[0];
    let model = trained(config);
    let bytes = model.record(config, Layout::Burn).to_bytes().unwrap();
    // In the header and the description, some bits do no harm: in the format's version, in an ignored name, or in
    // padding. In the values, every bit counts.
    let values = bytes.len() - 400..bytes.len() - 300;
    for at in (0..1_500).chain(values.clone()) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        let outcome = Record::from_bytes(bytes)
            .and_then(|record| Classifier::from_record(config, &record, &device));
        if let Ok(other) = outcome {
            assert!(!values.contains(&at), "byte {at}");
            assert_eq!(logits(&other), logits(&model), "byte {at}");
        }
    }
}

#[test]
fn a_configuration_that_is_larger_than_the_file_makes_no_network() {
    let device = Device::flex();
    let honest = &configs()[0];
    let model = trained(honest);
    let huge = usize::MAX / 4;
    for config in [
        ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![huge])),
        ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![1 << 40; 3])),
        ModelConfig::Mlp(MlpConfig::new().with_inputs(huge)),
        ModelConfig::Mlp(MlpConfig::new().with_inputs(0)),
        ModelConfig::Mlp(MlpConfig::new().with_classes(huge)),
        ModelConfig::Mlp(MlpConfig::new().with_hidden(vec![0])),
        ModelConfig::Cnn(CnnConfig::new().with_side(huge)),
        ModelConfig::Cnn(CnnConfig::new().with_side(3)),
        ModelConfig::Cnn(CnnConfig::new().with_channels([huge, huge])),
        ModelConfig::Cnn(CnnConfig::new().with_dense(huge)),
        ModelConfig::Resnet(ResnetConfig::new().with_channels(huge)),
        ModelConfig::Resnet(ResnetConfig::new().with_depth(6 * (1 << 40) + 2)),
        ModelConfig::Resnet(ResnetConfig::new().with_depth(9)),
        ModelConfig::Resnet(ResnetConfig::new().with_side(huge)),
    ] {
        for layout in [Layout::Burn, Layout::PyTorch] {
            let bytes = model.record(&config, layout).to_bytes().unwrap();
            let record = Record::from_bytes(bytes).unwrap();
            let config = record.config().unwrap();
            let error = Classifier::from_record(&config, &record, &device).unwrap_err();
            assert!(matches!(error, RecordError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_or_read_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let record = Record::new(&LinearConfig::new(2, 1).init(&Device::flex()), Layout::Burn);
    let nowhere = scratch.path().join("no/where.bpk");
    for error in [
        record.save(&nowhere).unwrap_err(),
        Record::open(&nowhere).unwrap_err(),
    ] {
        assert!(error.to_string().contains("where.bpk"), "{error}");
    }
    let error = Record::open(scratch.path()).unwrap_err();
    assert!(error.to_string().contains("not a file"), "{error}");
    #[cfg(unix)]
    assert!(Record::open("/dev/zero").is_err(), "which has no end");
}

#[test]
fn a_missing_folder_is_named_and_not_the_temporary_file() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("no/where.bpk");
    let record = Record::new(&LinearConfig::new(2, 1).init(&Device::flex()), Layout::Burn);
    let error = record.save(&path).unwrap_err().to_string();
    assert!(error.contains("no folder"), "{error}");
    assert!(!error.contains(".writing-"), "{error}");
}

/// The part of the next test that must run without root's rights.
#[test]
#[ignore = "the next test runs it as another user"]
fn write_into_the_folder_of_the_environment() {
    let folder = std::env::var_os("UNREADABLE").expect("the next test sets it");
    write_atomically(&std::path::Path::new(&folder).join("file"), b"new").unwrap();
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_opened_can_be_written_to() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("drop");
    fs::create_dir(&folder).unwrap();
    let test = std::env::current_exe().unwrap();
    let arguments = ["--ignored", "write_into_the_folder_of_the_environment"];
    // Root can open anything.
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| {
        use std::os::unix::fs::MetadataExt;
        process.uid() == 0
    });
    let mut command = std::process::Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        // The other user may have no access to the test's folder.
        let copy = scratch.path().join("test");
        fs::copy(&test, &copy).unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        command.arg(copy);
    } else {
        command.arg(&test);
    }
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o333)).unwrap();
    let output = command
        .args(arguments)
        .env("UNREADABLE", &folder)
        .current_dir(scratch.path())
        .output();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let Ok(output) = output else {
        eprintln!("no setpriv: not tested");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(fs::read(folder.join("file")).unwrap(), b"new");
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let scratch = tempfile::tempdir().unwrap();
    // A folder in the way of the rename.
    let taken = scratch.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("inside"), "kept").unwrap();
    assert!(write_atomically(&taken, b"new").is_err());
    assert_eq!(fs::read(taken.join("inside")).unwrap(), b"kept");
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        1,
        "nothing else is left"
    );

    fs::write(scratch.path().join(".writing-x"), "half").unwrap();
    remove_leftovers(scratch.path()).unwrap();
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}
