use std::fmt;

use serde::Serialize;

use crate::number::Number;

pub(super) const SAITO: Source = Source("Saito, Deep Learning from Scratch, ch. 6");
pub(super) const KARPATHY: Source = Source("Karpathy, Building makemore, part 3");
pub(super) const GOODFELLOW: Source = Source("Goodfellow et al., Deep Learning, sec. 8.4");
pub(super) const GLOROT: Source = Source("Glorot & Bengio 2010");
pub(super) const HE: Source = Source("He et al. 2015, arXiv:1502.01852");
pub(super) const POOLE: Source = Source("Poole et al. 2016, arXiv:1606.05340");
pub(super) const SCHOENHOLZ: Source = Source("Schoenholz et al. 2017, arXiv:1611.01232");
pub(super) const PENNINGTON: Source = Source("Pennington et al. 2017, arXiv:1711.04735");
pub(super) const IOFFE: Source = Source("Ioffe & Szegedy 2015, arXiv:1502.03167");
pub(super) const WU: Source = Source("Wu & Johnson 2021, arXiv:2105.07576");
pub(super) const WU_HE: Source = Source("Wu & He 2018, arXiv:1803.08494");
pub(super) const PENG: Source = Source("Peng et al. 2018, arXiv:1711.07240");
pub(super) const HOFFER: Source = Source("Hoffer et al. 2017, arXiv:1705.08741");
pub(super) const RENORM: Source = Source("Ioffe 2017, arXiv:1702.03275");
pub(super) const KINGMA: Source = Source("Kingma & Ba 2015, arXiv:1412.6980, section 3");
pub(super) const MISHKIN: Source = Source("Mishkin & Matas 2016, arXiv:1511.06422");
pub(super) const KRAHENBUHL: Source = Source("Krähenbühl et al. 2016, arXiv:1511.06856");
pub(super) const GOYAL: Source = Source("Goyal et al. 2017, arXiv:1706.02677, section 5.1");
pub(super) const BURN: Source = Source("burn::nn::BatchNorm 0.22.1");

/// The publication that a sentence comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub &'static str);

impl Source {
    /// Quotes a sentence.
    pub fn says(self, text: impl Into<String>) -> Statement {
        Statement {
            source: self,
            text: text.into(),
        }
    }
}

/// A sentence of a [`Source`].
#[derive(Clone, Debug)]
pub struct Statement {
    source: Source,
    text: String,
}

impl Statement {
    /// Adds a measurement: what it is, with its unit, and the number.
    pub fn measured(self, quantity: impl Into<String>, value: f64) -> Tested {
        Tested {
            statement: self,
            quantity: quantity.into(),
            value,
        }
    }
}

/// A [`Statement`] and its measurement.
#[derive(Clone, Debug)]
pub struct Tested {
    statement: Statement,
    quantity: String,
    value: f64,
}

impl Tested {
    /// Tests the measurement against a bound.
    pub fn holds_if(self, bound: Bound) -> Claim {
        Claim {
            statement: self.statement.text,
            source: self.statement.source.0,
            quantity: self.quantity,
            measured: self.value,
            bound,
            holds: bound.holds(self.value),
            why: None,
        }
    }
}

/// The numbers for which a [`Claim`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// More than this.
    Above(f64),
    /// Less than this.
    Below(f64),
    /// From the first to the second, both included.
    Between(f64, f64),
}

impl Bound {
    /// Whether the claim holds for this number; never for NaN.
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

/// What a measurement says about a [`Claim`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not hold.
    Fails,
    /// It does not hold at the quick size, which is too small to tell.
    NeedsFullRun,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Fails => "does not hold",
            Self::NeedsFullRun => "needs the full run",
        })
    }
}

/// A sentence from the literature, tested against a measured number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Claim {
    /// The sentence.
    pub statement: String,
    /// Who said it.
    pub source: &'static str,
    /// What was measured, and its unit.
    pub quantity: String,
    /// The measured number.
    pub measured: f64,
    /// The numbers for which the sentence holds.
    pub bound: Bound,
    /// Whether the sentence holds.
    pub holds: bool,
    /// Why it does not hold, if that is known.
    pub why: Option<&'static str>,
}

impl Claim {
    /// Gives the reason for a sentence that does not hold; ignored if it holds.
    pub fn why(mut self, reason: &'static str) -> Self {
        self.why = (!self.holds).then_some(reason);
        self
    }

    /// The measured number in four significant digits.
    pub fn measured(&self) -> String {
        Number(self.measured).to_string()
    }
}
