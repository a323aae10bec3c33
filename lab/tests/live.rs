//! The live lab: its bench, its lessons and its server.

#[path = "live/bench.rs"]
mod bench;
#[path = "live/lessons.rs"]
mod lessons;
#[path = "live/own.rs"]
mod own;
#[path = "live/server.rs"]
mod server;

use std::sync::OnceLock;

use burn::tensor::Device;
use burn_kindling_lab::data::Mnist;
use burn_kindling_lab::live::{Action, Bench, BenchConfig, NetworkConfig};

/// All of MNIST, read once.
fn mnist() -> &'static Mnist {
    static DATA: OnceLock<Mnist> = OnceLock::new();
    DATA.get_or_init(|| {
        let folder = Mnist::find(None).expect("the data is in the checkout");
        Mnist::load(&folder).expect("the data can be read")
    })
}

/// A part of it, with epochs of 22 steps of 128 images.
fn small() -> Mnist {
    Mnist {
        train: mnist().train.subset(0..3000),
        test: mnist().test.subset(0..500),
    }
}

fn device() -> Device {
    Device::flex()
}

/// A small network.
fn network() -> NetworkConfig {
    NetworkConfig {
        depth: 3,
        width: 32,
        ..NetworkConfig::default()
    }
}

fn config(networks: impl Into<Vec<NetworkConfig>>) -> BenchConfig {
    BenchConfig {
        networks: networks.into(),
        batch: 128,
        seed: 7,
        play: true,
    }
}

fn bench(networks: impl Into<Vec<NetworkConfig>>) -> Bench {
    Bench::new(&config(networks), &small(), &device()).expect("the bench makes a run")
}

/// An action from JSON.
fn action(json: &serde_json::Value) -> Action {
    Action::parse(json.to_string().as_bytes())
        .unwrap_or_else(|error| panic!("{json}: {}", error.en))
}

/// The frame of the bench.
fn frame(bench: &Bench) -> serde_json::Value {
    serde_json::from_str(&bench.frame(0.0)).expect("a frame is JSON")
}
