use std::fmt;

use serde::Serialize;

/// What a measured number is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The number is this or more.
    AtLeast(f64),
    /// The number is this or less.
    AtMost(f64),
    /// The number is neither below the first nor above the second.
    Between(f64, f64),
}

impl Bound {
    /// Whether a number keeps it; no number that is NaN does.
    pub fn holds(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(least) => measured >= least,
            Self::AtMost(most) => measured <= most,
            Self::Between(least, most) => (least..=most).contains(&measured),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AtLeast(least) => write!(f, "at least {}", Number(least)),
            Self::AtMost(most) => write!(f, "at most {}", Number(most)),
            Self::Between(least, most) => {
                write!(f, "{} to {}", Number(least), Number(most))
            }
        }
    }
}

/// A number in four significant digits.
pub(crate) struct Number(pub f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value) = *self;
        if value == 0.0 || !value.is_finite() {
            return write!(f, "{value}");
        }
        let magnitude = value.abs().log10().floor() as i32;
        if !(-3..6).contains(&magnitude) {
            return write!(f, "{value:.2e}");
        }
        let digits = (3 - magnitude).max(0) as usize;
        let text = format!("{value:.digits$}");
        match text.contains('.') {
            true => f.write_str(text.trim_end_matches('0').trim_end_matches('.')),
            false => f.write_str(&text),
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
        }
    }

    /// The number as people read it.
    pub fn measured(&self) -> String {
        Number(self.measured).to_string()
    }
}
