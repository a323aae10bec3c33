use std::fmt;

use serde::Serialize;

use crate::number::Number;

pub(super) const SAITO: &str = "Saito, Deep Learning from Scratch, ch. 6";
pub(super) const KARPATHY: &str = "Karpathy, Building makemore, part 3";
pub(super) const GOODFELLOW: &str = "Goodfellow et al., Deep Learning, sec. 8.4";
pub(super) const GLOROT: &str = "Glorot & Bengio 2010";
pub(super) const HE: &str = "He et al. 2015, arXiv:1502.01852";
pub(super) const POOLE: &str = "Poole et al. 2016, arXiv:1606.05340";
pub(super) const IOFFE: &str = "Ioffe & Szegedy 2015, arXiv:1502.03167";
pub(super) const WU: &str = "Wu & Johnson 2021, arXiv:2105.07576";
pub(super) const KINGMA: &str = "Kingma & Ba 2015, arXiv:1412.6980, section 3";
pub(super) const BURN: &str = "burn::nn::BatchNorm 0.22.1";

/// What a measured number is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The number is this or more.
    AtLeast(f64),
    /// The number is this or less.
    AtMost(f64),
    /// The number is more than this.
    Above(f64),
    /// The number is less than this.
    Below(f64),
    /// The number is neither below the first nor above the second.
    Between(f64, f64),
}

impl Bound {
    /// Whether a number keeps it; no number that is NaN does.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(least) => measured >= least,
            Self::AtMost(most) => measured <= most,
            Self::Above(bound) => measured > bound,
            Self::Below(bound) => measured < bound,
            Self::Between(least, most) => (least..=most).contains(&measured),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AtLeast(least) => write!(f, "at least {}", Number(least)),
            Self::AtMost(most) => write!(f, "at most {}", Number(most)),
            Self::Above(bound) => write!(f, "more than {}", Number(bound)),
            Self::Below(bound) => write!(f, "less than {}", Number(bound)),
            Self::Between(least, most) => {
                write!(f, "{} to {}", Number(least), Number(most))
            }
        }
    }
}

/// A sentence from the literature, and what was measured of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// The sentence.
    pub statement: String,
    /// Who said it.
    pub source: String,
    /// What the number is, with its unit.
    pub quantity: String,
    /// The number.
    pub measured: f64,
    /// What it takes for the sentence to hold.
    pub bound: Bound,
    /// Whether it does.
    pub holds: bool,
    /// Why it does not, where that is known.
    pub why: Option<&'static str>,
}

impl Claim {
    /// Holds what was measured against the bound.
    pub fn new(
        statement: impl Into<String>,
        source: impl Into<String>,
        quantity: impl Into<String>,
        measured: f64,
        bound: Bound,
    ) -> Self {
        Self {
            statement: statement.into(),
            source: source.into(),
            quantity: quantity.into(),
            measured,
            bound,
            holds: bound.holds(measured),
            why: None,
        }
    }

    /// Says why it does not hold, if it does not.
    pub fn why(mut self, reason: &'static str) -> Self {
        self.why = (!self.holds).then_some(reason);
        self
    }

    /// The number as people read it.
    pub fn measured(&self) -> String {
        Number(self.measured).to_string()
    }
}
