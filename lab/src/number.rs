//! Numbers as people read them.

use std::fmt;

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
