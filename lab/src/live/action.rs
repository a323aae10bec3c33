//! What a page can ask for.

use serde::{Deserialize, Serialize};

use super::config::{BenchConfig, Change, NetworkConfig, given_or_null};
use super::text::Text;

/// The number of a network, the same from its start to its end.
pub type Id = u32;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Train on.
    Play {
        /// Pause when this step is done.
        #[serde(default)]
        until: Option<usize>,
    },
    /// Wait.
    Pause {},
    /// Make one training step of all networks.
    Step {},
    /// Go back to step 0, with the same configurations and seed.
    Restart {},
    /// Replace everything.
    Setup {
        /// The new bench.
        bench: BenchConfig,
        /// Whether to train, in place of what the bench says.
        #[serde(default)]
        play: Option<bool>,
        /// Pause when this step is done.
        #[serde(default)]
        until: Option<usize>,
    },
    /// Change the configuration of a network. If that needs other weights, the bench restarts.
    Set {
        /// Which network.
        network: Id,
        /// What changes.
        change: Change,
    },
    /// Add a network. The bench restarts.
    Add {
        /// Its configuration.
        config: NetworkConfig,
    },
    /// Remove a network.
    Remove {
        /// Which network.
        network: Id,
    },
    /// Add a copy of a network: its weights, the moments of its optimiser, its running statistics.
    Fork {
        /// Which network.
        network: Id,
        /// From a kept step: the bench goes back to it first. `None`: from here.
        #[serde(default)]
        at: Option<usize>,
        /// What the copy changes.
        #[serde(default)]
        change: Option<Change>,
    },
    /// Take all networks back to the newest kept step at or before this one.
    Rewind {
        /// The step.
        step: usize,
    },
    /// Multiply the weights of a layer by a factor.
    Multiply {
        /// Which network.
        network: Id,
        /// Which layer, from 0; after the hidden layers comes the output.
        layer: usize,
        /// The factor.
        factor: f64,
    },
    /// Silence the first units of a hidden layer: whatever goes into them becomes 0.
    Kill {
        /// Which network.
        network: Id,
        /// Which hidden layer, from 0.
        layer: usize,
        /// Share of the units, 0 to 1.
        share: f64,
    },
    /// Set gamma or beta of all units of a hidden layer's normalisation.
    Affine {
        /// Which network.
        network: Id,
        /// Which hidden layer, from 0.
        layer: usize,
        /// The new gamma; `None` keeps it.
        #[serde(default)]
        gamma: Option<f64>,
        /// The new beta; `None` keeps it.
        #[serde(default)]
        beta: Option<f64>,
    },
    /// Recompute the running statistics of a network's batch norms over a sample of the training images.
    Recalibrate {
        /// Which network.
        network: Id,
    },
    /// Choose what frames carry.
    Watch {
        /// How often to watch.
        #[serde(default)]
        every: Option<Every>,
        /// The layer whose map of units and inputs frames carry.
        #[serde(default, deserialize_with = "given_or_null")]
        units: Option<Option<UnitsOf>>,
    },
    /// Choose how the panel "at test time" evaluates.
    Test(TestSetting),
    /// Fork with the change that the advice of a finding names.
    Advise {
        /// Which network.
        network: Id,
        /// The kind of the finding, such as `signal-vanishes`.
        finding: String,
    },
}

/// How often steps are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Number")]
pub enum Every {
    /// As often as costs little.
    Auto,
    /// Each step that is a multiple of this number.
    Steps(usize),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Steps(usize),
    Auto(Auto),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Auto {
    Auto,
}

impl From<Number> for Every {
    fn from(number: Number) -> Self {
        match number {
            Number::Steps(steps) => Self::Steps(steps),
            Number::Auto(Auto::Auto) => Self::Auto,
        }
    }
}

/// A hidden layer of a network, or of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitsOf {
    /// Which network; `None`: each that has such a layer.
    pub network: Option<Id>,
    /// Which hidden layer, from 0.
    pub layer: usize,
}

/// How the panel "at test time" evaluates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSetting {
    /// Images per batch: 1 to 1000.
    pub batch: usize,
    /// The digits to evaluate on.
    pub classes: Vec<usize>,
    /// Whether batch norm uses the statistics of the test batch in place of the running ones.
    pub own: bool,
}

impl Default for TestSetting {
    fn default() -> Self {
        Self {
            batch: 100,
            classes: (0..10).collect(),
            own: false,
        }
    }
}

impl Action {
    /// Reads an action from JSON.
    ///
    /// # Errors
    ///
    /// It is no action: a sentence that says why.
    pub fn parse(json: &[u8]) -> Result<Self, Text> {
        serde_json::from_slice(json).map_err(|error| {
            Text::new(
                format!("the request is no action: {error}"),
                format!("요청을 동작으로 읽을 수 없습니다: {error}"),
            )
        })
    }
}
