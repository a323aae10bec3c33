//! Whole models: what is recognised, what is kept, what the table says.

use std::fmt;

use burn::module::{Module, Param, ParamGroup, Quantizer};
use burn::nn::attention::{MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{
    Conv1d, Conv1dConfig, Conv2d, Conv2dConfig, Conv3d, Conv3dConfig, ConvTranspose1d,
    ConvTranspose1dConfig, ConvTranspose2d, ConvTranspose2dConfig, ConvTranspose3d,
    ConvTranspose3dConfig, DeformConv2d, DeformConv2dConfig,
};
use burn::nn::gru::{Gru, GruConfig};
use burn::nn::transformer::{TransformerEncoder, TransformerEncoderConfig};
use burn::nn::{
    Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig, Linear, LinearConfig,
    LinearLayout, Lstm, LstmConfig, PRelu, PReluConfig, SwiGlu, SwiGluConfig,
};
use burn::tensor::quantization::{Calibration, QuantValue};
use burn::tensor::{Device, Distribution, Tensor, s};
use burn_kindling::init::{
    Activation, Fan, FanMode, InitAction, InitPlan, InitStrategy, InitTable, Kept, LayerKind,
    Scheme, initialize,
};
use burn_kindling::norm::{BatchNorm, BatchNormConfig};

use crate::devices::{any_device, devices, processors};
use crate::{assert_mean_and_std, assert_within_5_sigma, values};

/// A model with every kind of layer, in every kind of container.
#[derive(Module, Debug)]
struct Everything {
    linear: Linear,
    convolutions: (Conv1d, Conv2d, Conv3d),
    deformed: Option<DeformConv2d>,
    up: [Up; 3],
    embedding: Embedding,
    recurrent: Vec<Recurrent>,
    attention: MultiHeadAttention,
    encoder: TransformerEncoder,
    gated: SwiGlu,
    norm: BatchNorm,
    burns_norm: burn::nn::BatchNorm,
    layer_norm: LayerNorm,
    slope: PRelu,
    own: Own,
}

#[derive(Module, Debug)]
enum Up {
    One(ConvTranspose1d),
    Two(ConvTranspose2d),
    Three(ConvTranspose3d),
}

#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
enum Recurrent {
    Lstm(Lstm),
    Gru(Gru),
}

/// A layer that is not Burn's.
#[derive(Module, Debug)]
struct Own {
    position: Param<Tensor<3>>,
}

fn everything(device: &Device) -> Everything {
    Everything {
        linear: LinearConfig::new(30, 20).init(device),
        convolutions: (
            Conv1dConfig::new(4, 6, 3).with_groups(2).init(device),
            Conv2dConfig::new([4, 6], [3, 2])
                .with_stride([2, 2])
                .init(device),
            Conv3dConfig::new([4, 6], [3, 2, 2])
                .with_bias(false)
                .init(device),
        ),
        deformed: Some(
            DeformConv2dConfig::new([4, 6], [3, 3])
                .with_weight_groups(2)
                .init(device),
        ),
        up: [
            Up::One(
                ConvTranspose1dConfig::new([4, 6], 4)
                    .with_stride(2)
                    .init(device),
            ),
            Up::Two(
                ConvTranspose2dConfig::new([4, 6], [4, 6])
                    .with_stride([2, 3])
                    .with_groups(2)
                    .init(device),
            ),
            Up::Three(
                ConvTranspose3dConfig::new([4, 6], [2, 2, 2])
                    .with_stride([2, 2, 2])
                    .init(device),
            ),
        ],
        embedding: EmbeddingConfig::new(50, 8).init(device),
        recurrent: vec![
            Recurrent::Lstm(LstmConfig::new(5, 7, true).init(device)),
            Recurrent::Gru(GruConfig::new(5, 7, true).init(device)),
        ],
        attention: MultiHeadAttentionConfig::new(8, 2).init(device),
        encoder: TransformerEncoderConfig::new(8, 16, 2, 2).init(device),
        gated: SwiGluConfig::new(8, 6).with_bias(true).init(device),
        norm: BatchNormConfig::new(6).init(device),
        burns_norm: burn::nn::BatchNormConfig::new(6).init(device),
        layer_norm: LayerNormConfig::new(6).init(device),
        slope: PReluConfig::new().init(device),
        own: Own {
            position: Initializer::Ones.init([1, 3, 4], device),
        },
    }
}

/// Every parameter with its values, in the order of the fields.
fn bits<M: Module>(model: &M) -> Vec<burn::tensor::TensorData> {
    struct Bits(Vec<burn::tensor::TensorData>);
    impl burn::module::ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut bits = Bits(Vec::new());
    model.visit(&mut bits);
    bits.0
}

/// Path, kind and fan of every drawn weight.
fn drawn(table: &InitTable) -> Vec<(&str, LayerKind, Option<Fan>)> {
    let rows = table.rows.iter().filter_map(|row| match &row.action {
        InitAction::Drawn { fan, .. } => Some((&*row.path, row.layer, *fan)),
        _ => None,
    });
    rows.collect()
}

#[test]
fn every_layer_is_recognised_with_its_own_numbers() {
    let (_, table) = initialize(everything(&any_device()), InitStrategy::He, 1);
    let fan = |fan_in, fan_out| Some(Fan { fan_in, fan_out });
    use LayerKind::*;
    let mut expected = vec![
        ("linear.weight", Linear, fan(30, 20)),
        ("convolutions.0.weight", Conv, fan(6, 9)),
        ("convolutions.1.weight", Conv, fan(24, 36)),
        ("convolutions.2.weight", Conv, fan(48, 72)),
        ("deformed.weight", Conv, fan(18, 27)),
        ("up.0.One.weight", ConvTranspose, fan(8, 24)),
        ("up.1.Two.weight", ConvTranspose, fan(8, 72)),
        ("up.2.Three.weight", ConvTranspose, fan(4, 48)),
        ("embedding.weight", Embedding, fan(1, 8)),
    ];
    let gates = [
        (
            "0.Lstm",
            &["input_gate", "forget_gate", "output_gate", "cell_gate"][..],
        ),
        ("1.Gru", &["update_gate", "reset_gate", "new_gate"]),
    ];
    let gates: Vec<String> = gates
        .iter()
        .flat_map(|(layer, gates)| {
            gates
                .iter()
                .map(move |gate| format!("recurrent.{layer}.{gate}"))
        })
        .collect();
    let transforms: Vec<_> = gates
        .iter()
        .flat_map(|gate| {
            [
                (format!("{gate}.input_transform.weight"), 5),
                (format!("{gate}.hidden_transform.weight"), 7),
            ]
        })
        .collect();
    expected.extend(
        transforms
            .iter()
            .map(|(path, inputs)| (&**path, Linear, fan(*inputs, 7))),
    );
    let projections = ["query", "key", "value", "output"];
    let attention = projections.map(|name| format!("attention.{name}.weight"));
    expected.extend(attention.iter().map(|path| (&**path, Linear, fan(8, 8))));
    let found = drawn(&table);
    for expected in &expected {
        assert!(found.contains(expected), "{expected:?} in\n{table}");
    }
    for row in &table.rows {
        assert!(!row.assumed);
        let bias = row.path.ends_with(".bias");
        let kept = |why| row.action == InitAction::Kept(why);
        match row.layer {
            Norm => assert!(kept(Kept::Norm), "{row:?}"),
            Other => assert!(kept(Kept::Unknown), "{row:?}"),
            _ if bias => assert_eq!(row.action, InitAction::Filled(0.0), "{row:?}"),
            _ => assert!(matches!(row.action, InitAction::Drawn { .. }), "{row:?}"),
        }
    }
    let unknown: Vec<&str> = table.unknown().map(|row| &*row.path).collect();
    assert_eq!(unknown, ["slope.alpha", "own.position"]);
    // Two encoder layers of attention and feed-forward block, and the gated layer.
    assert_eq!(found.len(), expected.len() + 2 * 6 + 2);
}

#[test]
fn the_table_is_what_was_done() {
    let model = everything(&any_device());
    let before = bits(&model);
    let (model, table) = initialize(model, InitStrategy::He, 1);
    let after = bits(&model);
    assert_eq!(table.rows.len(), after.len());
    for ((row, before), after) in table.rows.iter().zip(&before).zip(&after) {
        assert_eq!(row.shape, after.shape().as_slice(), "{}", row.path);
        let after_values: Vec<f64> = after.iter::<f64>().collect();
        match &row.action {
            InitAction::Drawn { std, .. } => assert_mean_and_std(&after_values, *std),
            InitAction::Filled(value) => assert!(after_values.iter().all(|x| x == value)),
            InitAction::Kept(_) => assert_eq!(before, after, "{}", row.path),
            InitAction::Tied(_) => panic!("{row:?}"),
        }
    }
    assert!(table.row("linear.bias").is_some());
    assert!(table.row("linear").is_none());
}

#[test]
fn the_std_of_a_matrix_is_that_of_its_values() {
    let schemes = [Scheme::orthogonal().scaled(1.5), Scheme::delta_orthogonal()];
    for scheme in schemes {
        let (model, table) = initialize(everything(&any_device()), scheme, 1);
        for (row, values) in table.rows.iter().zip(bits(&model)) {
            if let InitAction::Drawn { std, .. } = row.action {
                let values: Vec<f64> = values.iter::<f64>().collect();
                let square = values.iter().map(|x| x * x).sum::<f64>() / values.len() as f64;
                assert!(
                    (square.sqrt() - std).abs() <= 1e-6 * std,
                    "{row:?}: {}",
                    square.sqrt()
                );
            }
        }
    }
    // Drawn values, so within their standard error; each unit lacks two fifths of its inputs.
    let (model, table) = initialize(everything(&any_device()), Scheme::sparse(0.4, 1.0), 1);
    for (row, values) in table.rows.iter().zip(bits(&model)) {
        if let InitAction::Drawn { std, .. } = row.action {
            let values: Vec<f64> = values.iter::<f64>().collect();
            let zeros = values.iter().filter(|x| **x == 0.0).count() as f64 / values.len() as f64;
            assert!(
                (std - (1.0 - zeros).sqrt()).abs() < 1e-12,
                "{row:?}: {zeros}"
            );
            assert!((0.4..0.7).contains(&zeros));
        }
    }
}

#[test]
fn a_model_has_the_same_bits_on_every_backend() {
    let expected = bits(&initialize(everything(&any_device()), Scheme::glorot(), 7).0);
    for device in devices() {
        for device in [device.clone(), device.autodiff()] {
            // Burn's own generator does not matter, nor whether its values are drawn already.
            device.seed(3);
            let lazy = everything(&device);
            assert_eq!(
                bits(&initialize(lazy, Scheme::glorot(), 7).0),
                expected,
                "{device:?}"
            );
            let model = everything(&device);
            bits(&model);
            assert_eq!(
                bits(&initialize(model, Scheme::glorot(), 7).0),
                expected,
                "{device:?}"
            );
        }
    }
    let other = bits(&initialize(everything(&any_device()), Scheme::glorot(), 8).0);
    assert_ne!(other, expected);
}

#[cfg(feature = "remote")]
#[test]
fn a_device_of_another_machine_gets_the_same_bits() {
    let expected = bits(&initialize(everything(&any_device()), Scheme::glorot(), 7).0);
    let device = crate::devices::lent().unwrap().device;
    assert_eq!(
        bits(&initialize(everything(&device), Scheme::glorot(), 7).0),
        expected
    );
}

#[test]
fn no_two_parameters_are_alike_and_another_layer_changes_none() {
    let device = any_device();
    let layers = |count: usize| -> Vec<Linear> {
        (0..count)
            .map(|_| LinearConfig::new(9, 9).init(&device))
            .collect()
    };
    let few = bits(&initialize(layers(3), Scheme::he(), 1).0);
    let many = bits(&initialize(layers(4), Scheme::he(), 1).0);
    assert_eq!(few, many[..few.len()]);
    let weights: Vec<_> = many.iter().step_by(2).collect();
    for (i, weight) in weights.iter().enumerate() {
        assert!(weights[..i].iter().all(|other| other != weight));
    }
}

#[test]
fn parameters_keep_all_but_their_values() {
    for device in processors().into_iter().map(Device::autodiff) {
        for layout in [LinearLayout::Row, LinearLayout::Col] {
            for drawn in [false, true] {
                let layer = LinearConfig::new(30, 20).with_layout(layout).init(&device);
                let untouched = layer.clone();
                let describe = |layer: &Linear| {
                    let bias = layer.bias.as_ref().unwrap();
                    let weight = &layer.weight;
                    format!(
                        "{:?} {:?} {:?} {:?}",
                        weight,
                        bias,
                        weight.lazy_device(),
                        weight.lazy_shape()
                    )
                };
                if drawn {
                    layer.weight.val();
                    layer.bias.as_ref().unwrap().val();
                }
                let before = describe(&layer);
                let layer = initialize(layer, InitStrategy::He, 1).0;
                assert_eq!(describe(&layer), before);
                assert_eq!(layer.weight.is_initialized(), drawn);
                let weight = layer.weight.val();
                assert_eq!(weight.dims(), [30, 20]);
                assert!(weight.device().is_autodiff() && weight.is_require_grad());
                assert!(layer.bias.as_ref().unwrap().val().is_require_grad());
                assert_mean_and_std(&values(weight.clone()), InitStrategy::He.std(30));
                // The layout in records too.
                let saved = layer.weight.transform_for_save().val();
                let expected = match layout {
                    LinearLayout::Row => weight.clone(),
                    LinearLayout::Col => weight.clone().transpose(),
                };
                assert_eq!(values(saved.clone()), values(expected));
                let loaded = layer
                    .weight
                    .clone()
                    .transform_for_load(saved.detach(), layer.weight.id);
                assert_eq!(values(loaded.val()), values(weight.clone()));
                // A clone from before has values of its own.
                assert_ne!(values(untouched.weight.val()), values(weight));
            }
        }
    }
}

#[test]
fn both_layouts_of_a_linear_layer_get_the_same_weight() {
    let device = any_device();
    let [row, col] = [LinearLayout::Row, LinearLayout::Col].map(|layout| {
        let layer = LinearConfig::new(30, 20).with_layout(layout).init(&device);
        let (layer, table) = initialize(layer, InitStrategy::He, 1);
        assert_eq!(table.rows[0].shape, [30, 20]);
        values(layer.weight.val())
    });
    assert_eq!(row, col);
}

#[test]
fn what_is_frozen_stays_unless_a_rule_names_it() {
    for device in processors() {
        for device in [device.clone(), device.autodiff()] {
            for drawn in [false, true] {
                let frozen = LinearConfig::new(5, 5).init(&device).no_grad();
                if drawn {
                    frozen.weight.val();
                }
                let model = vec![frozen, LinearConfig::new(5, 5).init(&device)];
                let (after, table) = initialize(model.clone(), InitStrategy::He, 1);
                assert_eq!(bits(&after)[..2], bits(&model)[..2]);
                assert_eq!(table.rows[0].action, InitAction::Kept(Kept::Frozen));
                assert_eq!(table.rows[1].action, InitAction::Kept(Kept::Frozen));
                assert!(matches!(table.rows[2].action, InitAction::Drawn { .. }));

                let plan = InitPlan::new(InitStrategy::He)
                    .draw(ParamGroup::from_path("0.weight"), Scheme::ones());
                let (after, table) = plan.apply(model, 1);
                assert_eq!(table.rows[0].action, InitAction::Filled(1.0));
                let trained = after[0].clone().train();
                assert!(!trained.weight.val().is_require_grad());
                assert_eq!(values(trained.weight.val()), [1.0; 25]);
            }
        }
    }
}

#[test]
fn a_rule_for_a_kind_of_layer_leaves_what_is_frozen() {
    let device = any_device();
    let model = [
        EmbeddingConfig::new(9, 4).init(&device).no_grad(),
        EmbeddingConfig::new(9, 4).init(&device),
    ];
    let plan = InitPlan::new(InitStrategy::He).draw_kind(LayerKind::Embedding, Scheme::ones());
    let (_, table) = plan.apply(model, 1);
    assert_eq!(table.rows[0].action, InitAction::Kept(Kept::Frozen));
    assert_eq!(table.rows[1].action, InitAction::Filled(1.0));
}

#[test]
fn a_tied_weight_is_the_same_in_layers_of_different_kinds() {
    let device = any_device();
    let embedding = EmbeddingConfig::new(9, 4).init(&device);
    let mut output = LinearConfig::new(9, 4).with_bias(false).init(&device);
    output.weight = embedding.weight.clone();
    let ((embedding, output), table) = initialize((embedding, output), InitStrategy::He, 1);
    assert_eq!(values(embedding.weight.val()), values(output.weight.val()));
    assert_eq!(table.rows[1].action, InitAction::Tied("0.weight".into()));
}

#[test]
fn rules_decide_and_the_last_one_wins() {
    let device = any_device();
    let plan = InitPlan::new(InitStrategy::He)
        .fill(
            ParamGroup::from_regex(r"forget_gate\.input_transform\.bias$").unwrap(),
            1.0,
        )
        .draw_kind(LayerKind::Embedding, Scheme::normal(0.02))
        .draw(ParamGroup::from_predicate("own"), Scheme::normal(0.5))
        .fill(ParamGroup::from_predicate("norm"), 0.25)
        .fill(ParamGroup::from_path("layer_norm.gamma"), 0.0)
        .draw(
            ParamGroup::from_predicate("attention"),
            Scheme::orthogonal(),
        )
        .keep(ParamGroup::from_predicate("linear"))
        .draw(ParamGroup::from_predicate("linear"), Scheme::glorot());
    let model = everything(&device);
    let before = bits(&model.linear);
    let (model, table) = plan.apply(model, 1);
    let action = |path: &str| &table.row(path).unwrap().action;
    assert_eq!(
        *action("recurrent.0.Lstm.forget_gate.input_transform.bias"),
        InitAction::Filled(1.0)
    );
    assert_eq!(
        *action("recurrent.0.Lstm.forget_gate.hidden_transform.bias"),
        InitAction::Filled(0.0)
    );
    assert!(matches!(
        action("embedding.weight"),
        InitAction::Drawn { std: 0.02, .. }
    ));
    assert!(matches!(
        action("own.position"),
        InitAction::Drawn {
            std: 0.5,
            fan: None,
            ..
        }
    ));
    assert_eq!(*action("norm.gamma"), InitAction::Filled(0.25));
    assert_eq!(*action("layer_norm.gamma"), InitAction::Filled(0.0));
    assert_eq!(*action("layer_norm.beta"), InitAction::Filled(0.25));
    // Statistics are not parameters.
    assert_eq!(*action("norm.running_mean"), InitAction::Kept(Kept::Norm));
    assert_eq!(
        *action("burns_norm.running_var"),
        InitAction::Kept(Kept::Norm)
    );
    // A rule that draws is for weights.
    assert_eq!(*action("attention.query.bias"), InitAction::Filled(0.0));
    assert!(
        matches!(action("attention.query.weight"), InitAction::Drawn { scheme, .. } if *scheme == Scheme::orthogonal())
    );
    // The later rule takes the weight back from the one that keeps all.
    assert!(matches!(action("linear.weight"), InitAction::Drawn { .. }));
    assert_eq!(*action("linear.bias"), InitAction::Kept(Kept::Plan));
    let after = bits(&model.linear);
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1]);
    assert_eq!(values(model.norm.gamma.val()), [0.25; 6]);
    assert_eq!(values(model.norm.running_mean.value()), [0.0; 6]);
}

#[test]
fn a_fan_can_be_given() {
    let own = Own {
        position: Initializer::Ones.init([10, 30, 40], &any_device()),
    };
    let plan =
        InitPlan::new(InitStrategy::He).draw(ParamGroup::all(), Scheme::he().by(FanMode::Of(50)));
    let (own, _) = plan.apply(own, 1);
    assert_mean_and_std(&values(own.position.val()), 0.2);
}

#[test]
#[should_panic(expected = "needs a fan, and that of `position`, of shape [1, 3, 4], is not known")]
fn a_fan_that_is_not_known_is_asked_for() {
    let own = Own {
        position: Initializer::Ones.init([1, 3, 4], &any_device()),
    };
    InitPlan::new(Scheme::he())
        .draw(ParamGroup::all(), Scheme::he())
        .apply(own, 1);
}

/// A module with a `Debug` text of its own hides the numbers of its layers.
#[derive(Module)]
struct Hidden {
    up: ConvTranspose2d,
    linear: Linear,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden { \"{\" }")
    }
}

#[test]
fn what_is_assumed_is_said() {
    let device = any_device();
    let hidden = Hidden {
        up: ConvTranspose2dConfig::new([4, 6], [4, 4])
            .with_stride([2, 2])
            .init(&device),
        linear: LinearConfig::new(4, 4).init(&device),
    };
    let (_, table) = initialize(hidden, InitStrategy::He, 1);
    let row = table.row("up.weight").unwrap();
    assert!(row.assumed);
    assert!(matches!(
        row.action,
        InitAction::Drawn {
            fan: Some(Fan { fan_in: 64, .. }),
            ..
        }
    ));
    assert!(
        table
            .to_string()
            .contains("(stride and groups of 1 assumed)"),
        "{table}"
    );
    assert!(!table.row("linear.weight").unwrap().assumed);
    assert!(matches!(
        table.row("linear.weight").unwrap().action,
        InitAction::Drawn { .. }
    ));
}

mod own {
    use super::*;

    /// A layer with the name of one of Burn's and other fields.
    #[derive(Module, Debug)]
    pub struct Linear {
        pub weight: Param<Tensor<2>>,
        pub scale: f64,
    }
}

#[test]
fn a_layer_of_the_same_name_is_not_burns() {
    let layer = own::Linear {
        weight: Initializer::Ones.init([2, 3], &any_device()),
        scale: 1.0,
    };
    let (layer, table) = initialize(layer, InitStrategy::He, 1);
    assert_eq!(table.rows[0].action, InitAction::Kept(Kept::Unknown));
    assert_eq!(values(layer.weight.val()), [1.0; 6]);
}

#[test]
fn tied_weights_stay_tied() {
    let device = any_device();
    for drawn in [false, true] {
        let first = LinearConfig::new(6, 6).init(&device);
        if drawn {
            first.weight.val();
        }
        let model = vec![first.clone(), LinearConfig::new(6, 6).init(&device), first];
        let (model, table) = initialize(model, InitStrategy::He, 1);
        let after = bits(&model);
        assert_eq!(after[..2], after[4..]);
        assert_ne!(after[0], after[2]);
        assert_eq!(table.rows[4].action, InitAction::Tied("0.weight".into()));
    }
}

#[test]
fn the_table_is_aligned() {
    let device = any_device();
    let net = (
        LinearConfig::new(784, 100).init(&device),
        BatchNormConfig::new(100).init(&device),
    );
    let (_, table) = initialize(net, InitStrategy::He, 42);
    let expected = "\
parameter       layer          shape       fan-in  fan-out       std  values
0.weight        linear         [784, 100]     784      100  5.051e-2  normal, std sqrt(2/fan_in)
0.bias          linear         [100]                                  constant 0
1.gamma         normalisation  [100]                                  kept: normalisation
1.beta          normalisation  [100]                                  kept: normalisation
1.running_mean  normalisation  [100]                                  kept: normalisation
1.running_var   normalisation  [100]                                  kept: normalisation";
    assert_eq!(table.to_string(), expected, "\n{table}");
}

#[test]
fn what_is_quantised_stays() {
    let device = any_device();
    let scheme = device.settings().quantization.scheme;
    let mut quantizer = Quantizer::new(Calibration::MinMax, scheme.with_value(QuantValue::Q8S));
    let weights = ParamGroup::from_path("weight");
    let layer = LinearConfig::new(32, 32).init(&device);
    let layer = layer.quantize_weights_group(&mut quantizer, weights);
    let before = values(layer.weight.val().dequantize());
    let (layer, table) = initialize(layer, InitStrategy::He, 1);
    assert_eq!(table.rows[0].action, InitAction::Kept(Kept::Quantized));
    assert_eq!(values(layer.weight.val().dequantize()), before);
    assert_eq!(values(layer.bias.unwrap().val()), [0.0; 32]);
}

#[test]
fn a_layer_without_inputs_or_outputs_stays_as_it_is() {
    let device = any_device();
    for scheme in [
        Scheme::zeros(),
        Scheme::he(),
        Scheme::orthogonal(),
        Scheme::sparse(0.5, 1.0),
        Scheme::identity(),
    ] {
        for (inputs, outputs) in [(0, 3), (3, 0), (0, 0)] {
            let (layer, table) =
                initialize(LinearConfig::new(inputs, outputs).init(&device), scheme, 1);
            assert_eq!(layer.weight.val().dims(), [inputs, outputs]);
            assert_eq!(table.rows[0].action, InitAction::Kept(Kept::Empty));
            assert_eq!(values(layer.bias.unwrap().val()), vec![0.0; outputs]);
        }
        let conv = Conv2dConfig::new([0, 4], [3, 3]).init(&device);
        assert_eq!(
            initialize(conv, scheme, 1).0.weight.val().dims(),
            [4, 0, 3, 3]
        );
    }
}

/// The mean square of the pixels at least two away from the border.
fn second_moment(image: Tensor<4>) -> f64 {
    let interior = image.slice(s![.., .., 2..-2, 2..-2]);
    interior.square().mean().into_scalar::<f32>() as f64
}

#[test]
fn convolutions_keep_the_scale_of_the_signal() {
    // A software GPU takes minutes for a convolution.
    for device in processors() {
        let input = Tensor::<4>::random([2, 64, 16, 16], Distribution::Normal(0.0, 1.0), &device);
        let before = second_moment(input.clone());
        let conv = Conv2dConfig::new([64, 64], [3, 3]);
        let upsample = ConvTranspose2dConfig::new([64, 32], [4, 4])
            .with_stride([2, 2])
            .with_padding([1, 1]);
        let layers = (
            conv.init(&device),
            conv.with_groups(4).init(&device),
            upsample.init(&device),
        );
        // An orthogonal matrix keeps the norm only where no input counts twice: not in a convolution.
        for scheme in [
            Scheme::lecun(),
            Scheme::lecun().uniform(),
            Scheme::lecun().truncated(),
        ] {
            let (conv, grouped, upsample) = initialize(layers.clone(), scheme, 2).0;
            // The mean square of w has a relative standard error of sqrt(2 / weights), at most 1.5 % here. The error of
            // the output, averaged over 2 x 144 pixels or more, is of the same order.
            let outputs = [
                conv.forward(input.clone()),
                grouped.forward(input.clone()),
                upsample.forward(input.clone()),
            ];
            for after in outputs {
                let ratio = second_moment(after) / before;
                assert!(
                    (ratio - 1.0).abs() < 0.1,
                    "{scheme}: the second moment changes by {ratio}"
                );
            }
        }
    }
}

#[test]
fn the_recommended_strategy_carries_the_signal_through_depth() {
    const WIDTH: usize = 512;
    const DEPTH: usize = 10;
    let device = any_device();
    let depth_ratio = |strategy: InitStrategy| {
        let layers: Vec<Linear> = (0..DEPTH)
            .map(|_| LinearConfig::new(WIDTH, WIDTH).init(&device))
            .collect();
        let mut x = Tensor::<2>::random([64, WIDTH], Distribution::Normal(0.0, 1.0), &device);
        let mut moments = Vec::new();
        for layer in initialize(layers, strategy, 9).0 {
            let pre = layer.forward(x);
            moments.push(pre.clone().square().mean().into_scalar::<f32>() as f64);
            x = Activation::Relu.forward(pre);
        }
        moments[DEPTH - 1] / moments[0]
    };
    // q' = q for He and q' = q / 2 for Xavier; the mean of relu(z)^2 over a layer has a relative variance of 5 / WIDTH.
    let layers = (DEPTH - 1) as f64;
    let standard_error = (5.0 * layers / WIDTH as f64).sqrt();
    let he = depth_ratio(InitStrategy::He);
    assert_within_5_sigma("He", he.ln(), 0.0, standard_error);
    let xavier = depth_ratio(InitStrategy::Xavier);
    assert_within_5_sigma("Xavier", xavier.ln(), -layers * 2f64.ln(), standard_error);
    assert!(depth_ratio(InitStrategy::SmallNormal) < 1e-10);
    assert!(depth_ratio(InitStrategy::StandardNormal) > 1e10);
}

#[test]
fn a_public_resnet_is_initialised_in_three_lines() {
    let device = any_device();
    let model = crate::resnets::burns::ResNet::new(1000, &device);
    let last_norms = ParamGroup::from_regex(r"blocks\.\d+\.Basic\.bn2\.gamma$").unwrap();
    let plan = InitPlan::new(InitStrategy::He).fill(last_norms, 0.0);
    let (model, table) = plan.apply(model, 42);

    // 20 convolutions, 20 norms of 4 vectors, the last layer's weight and bias.
    assert_eq!(table.rows.len(), 20 + 20 * 4 + 2, "{table}");
    assert_eq!(table.unknown().count(), 0);
    assert_eq!(drawn(&table).len(), 21);
    let zeros: Vec<&str> = (table.rows.iter())
        .filter(|row| row.action == InitAction::Filled(0.0) && row.layer == LayerKind::Norm)
        .map(|row| &*row.path)
        .collect();
    assert_eq!(zeros.len(), 8);
    assert_eq!(zeros[0], "layer1.blocks.0.Basic.bn2.gamma");
    let row = table
        .row("layer4.blocks.0.Basic.downsample.conv.weight")
        .unwrap();
    assert!(matches!(
        row.action,
        InitAction::Drawn {
            fan: Some(Fan {
                fan_in: 256,
                fan_out: 512
            }),
            ..
        }
    ));
    let logits = model.forward(Tensor::ones([2, 3, 64, 64], &device));
    assert!(values(logits).iter().all(|logit| logit.is_finite()));
}
