//! What is sent to a page, as JSON.

use serde::Serialize;

use super::action::{Id, TestSetting};
use super::config::{BenchConfig, Change};
use super::pass::BINS;
use super::text::Text;

/// A number in five significant digits; null in JSON if it is not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Short(pub f64);

impl Serialize for Short {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.0;
        if !value.is_finite() {
            return serializer.serialize_none();
        }
        if value == 0.0 {
            return serializer.serialize_f64(0.0);
        }
        let digits = 4 - value.abs().log10().floor() as i32;
        let short = match digits {
            0..=22 => (value * 10f64.powi(digits)).round() / 10f64.powi(digits),
            -22..0 => (value / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
            _ => value,
        };
        serializer.serialize_f64(short)
    }
}

impl From<f64> for Short {
    fn from(value: f64) -> Self {
        Self(value)
    }
}

/// The state of the bench.
#[derive(Serialize)]
pub(super) struct State<'a> {
    pub bench: BenchConfig,
    pub ids: Vec<Id>,
    pub parents: Vec<Option<Id>>,
    pub forked_at: Vec<Option<usize>>,
    pub step: usize,
    pub epoch: usize,
    pub playing: bool,
    pub kept: Vec<usize>,
    pub images_per_second: Short,
    pub device: &'a str,
    pub data: &'a str,
    pub test: TestSetting,
    pub lost: Vec<Option<Lost>>,
}

/// When and why a network stands still.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Lost {
    pub step: usize,
    pub text: Text,
}

/// A test digit, sent once to each page.
#[derive(Serialize)]
pub(super) struct Picture {
    /// In base64.
    pub pixels: String,
    pub label: u8,
}

#[derive(Clone, Serialize)]
pub(super) struct Frame {
    pub step: usize,
    pub rate: Short,
    pub networks: Vec<NetworkFrame>,
}

impl Frame {
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("a frame is JSON")
    }
}

#[derive(Clone, Serialize)]
pub(super) struct NetworkFrame {
    pub id: Id,
    pub loss: Short,
    pub accuracy: Option<Short>,
    pub test_loss: Option<Short>,
    pub test: Option<TestScore>,
    pub layers: Vec<LayerFrame>,
    pub theory: Option<Vec<Option<TheoryFrame>>>,
    pub digits: Vec<Answer>,
    pub findings: Vec<FindingFrame>,
    pub units: Option<UnitsFrame>,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct TestScore {
    pub accuracy: Short,
}

#[derive(Clone, Serialize)]
pub(super) struct LayerFrame {
    pub name: String,
    pub pre: Histogram,
    pub gradient: Option<GradientFrame>,
    /// `None` where only the output is seen; then `pre` counts that.
    pub pre_std: Option<Short>,
    pub std: Short,
    pub mean: Short,
    pub between_inputs: Short,
    pub between_units: Short,
    pub saturated: Option<Short>,
    pub dead: Option<Short>,
    pub copies: Short,
    pub gradient_std: Option<Short>,
    pub update: Option<Short>,
    pub norm: Option<NormFrame>,
}

#[derive(Clone, Serialize)]
pub(super) struct Histogram {
    pub range: [Short; 2],
    #[serde(serialize_with = "as_slice")]
    pub counts: [u32; BINS],
    pub below: u32,
    pub above: u32,
}

#[derive(Clone, Serialize)]
pub(super) struct GradientFrame {
    pub log: [f64; 2],
    #[serde(serialize_with = "as_slice")]
    pub counts: [u32; BINS],
    pub zero: u32,
    pub below: u32,
    pub above: u32,
}

fn as_slice<S: serde::Serializer>(counts: &[u32; BINS], serializer: S) -> Result<S::Ok, S::Error> {
    counts[..].serialize(serializer)
}

/// Means over the channels, and one channel alone.
#[derive(Clone, Serialize)]
pub(super) struct NormFrame {
    pub input_std: Short,
    pub output_std: Short,
    pub batch_mean: Short,
    pub running_mean: Short,
    pub batch_var: Short,
    pub running_var: Short,
    /// Least, mean, largest.
    pub gamma: [Short; 3],
    pub beta: [Short; 3],
    pub channel: Channel,
}

#[derive(Clone, Serialize)]
pub(super) struct Channel {
    pub batch_mean: Short,
    pub running_mean: Short,
    pub batch_var: Short,
    pub running_var: Short,
    pub gamma: Short,
    pub beta: Short,
}

#[derive(Clone, Serialize)]
pub(super) struct TheoryFrame {
    pub std: Short,
    pub between_inputs: Short,
    pub pre_std: Short,
    pub pre_between_inputs: Short,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Answer {
    pub answer: usize,
    pub p: Short,
}

#[derive(Clone, Serialize)]
pub(super) struct FindingFrame {
    pub kind: &'static str,
    pub text: Text,
    pub layer: String,
    pub advice: Option<Advice>,
}

/// A change that may help, and its name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What changes.
    pub change: Change,
    /// What a button says.
    pub label: Text,
}

#[derive(Clone, Serialize)]
pub(super) struct UnitsFrame {
    pub layer: usize,
    pub rows: usize,
    pub columns: usize,
    /// In base64.
    pub values: String,
    pub range: [Short; 2],
}

/// A network's answer to a drawn digit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    /// Which network.
    pub network: Id,
    /// The digit that it reads.
    pub digit: usize,
    /// The probability of each digit.
    pub probabilities: Vec<f32>,
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes in base64, with padding (RFC 4648).
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let number = group
            .iter()
            .fold(0u32, |number, &byte| number << 8 | u32::from(byte));
        let number = number << (8 * (3 - group.len()));
        for place in 0..4 {
            text.push(match place <= group.len() {
                true => ALPHABET[(number >> (18 - 6 * place) & 63) as usize].into(),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in pairs {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn numbers_are_short() {
        let json = |value| serde_json::to_string(&Short(value)).expect("a number is JSON");
        assert_eq!(json(0.123_456_789), "0.12346");
        assert_eq!(json(123_456_789.0), "123460000.0");
        assert_eq!(json(f64::NAN), "null");
        assert_eq!(json(-1.0), "-1.0");
    }
}
