//! What to change about a finding.

use burn_kindling::init::{Activation, InitStrategy};
use burn_kindling::observe::Finding;

use super::config::{Change, NetworkConfig};
use super::frame::Advice;
use super::text::Text;
use crate::model::Normalization;

/// The change that helps most likely, of those that this network has not made yet.
pub(super) fn advice(finding: &Finding, config: &NetworkConfig) -> Option<Advice> {
    let weights = || (!config.is_recommended()).then(|| take_recommended(config));
    let norm = || (config.norm == Normalization::None).then(add_batch_norm);
    let relu = || (config.activation == Activation::Sigmoid).then(take_relu);
    match finding {
        Finding::NotFinite(_) => weights().or_else(|| rate(config, 0.1)),
        Finding::Symmetry(_) => weights(),
        Finding::Dead(_) => weights().or_else(norm).or_else(|| rate(config, 0.1)),
        Finding::Saturated(_) => weights().or_else(norm),
        Finding::SignalTooSmall(_)
        | Finding::SignalTooLarge(_)
        | Finding::SignalVanishes(_)
        | Finding::SignalExplodes(_) => weights().or_else(norm),
        // The networks of the lab have no such layer.
        Finding::NoGradient(_) => None,
        Finding::InputsAlike(_) => weights()
            .or_else(norm)
            .or_else(relu)
            .or_else(|| halve(config)),
        Finding::GradientVanishes(_) => weights()
            .or_else(norm)
            .or_else(relu)
            .or_else(|| halve(config)),
        Finding::GradientExplodes(_) => weights().or_else(|| halve(config)),
        Finding::UpdatesTooLarge(_) => rate(config, 0.1),
        Finding::UpdatesTooSmall(_) => weights().or_else(|| rate(config, 10.0)),
    }
}

fn take_recommended(config: &NetworkConfig) -> Advice {
    let init = InitStrategy::recommended_for(config.activation);
    let name = match init {
        InitStrategy::He => "He",
        _ => "Xavier",
    };
    Advice {
        change: Change {
            init: Some(init),
            std: Some(None),
            scale: Some(1.0),
            ..Change::default()
        },
        label: Text::new(format!("Take {name}"), format!("{name} 초기화 쓰기")),
    }
}

fn add_batch_norm() -> Advice {
    Advice {
        change: Change {
            norm: Some(Normalization::Batch),
            ..Change::default()
        },
        label: Text::new("Add batch norm", "배치 정규화 추가"),
    }
}

fn take_relu() -> Advice {
    Advice {
        change: Change {
            activation: Some(Activation::Relu),
            init: Some(InitStrategy::He),
            std: Some(None),
            scale: Some(1.0),
            ..Change::default()
        },
        label: Text::new("Take ReLU with He", "ReLU와 He 초기화 쓰기"),
    }
}

fn rate(config: &NetworkConfig, factor: f64) -> Option<Advice> {
    let lr = (config.lr * factor).clamp(1e-6, 10.0);
    let (en, ko) = match factor < 1.0 {
        true => ("Lower", "낮추기"),
        false => ("Raise", "높이기"),
    };
    (lr != config.lr).then(|| Advice {
        change: Change {
            lr: Some(lr),
            ..Change::default()
        },
        label: Text::new(
            format!("{en} the rate to {lr:.0e}"),
            format!("학습률을 {lr:.0e}로 {ko}"),
        ),
    })
}

fn halve(config: &NetworkConfig) -> Option<Advice> {
    let depth = config.depth / 2;
    (depth >= 1).then(|| Advice {
        change: Change {
            depth: Some(depth),
            ..Change::default()
        },
        label: Text::new(
            format!("Take {depth} layers"),
            format!("층을 {depth}개로 줄이기"),
        ),
    })
}
