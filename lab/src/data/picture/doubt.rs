use std::fmt;

use super::shape::Found;

/// A picture counts as cluttered from this much left-out ink, as a share of the digit's ink.
const CLUTTER: f64 = 0.3;

/// Contrast below this many standard deviations of the noise is faint.
const FAINT: f64 = 24.0;

/// A digit with fewer pixels than this on its longer side is small.
const SMALL: u32 = 12;

/// A reason why a picture may be misread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// There are several shapes of a digit's size. The most prominent is read.
    Several {
        /// How many there are.
        shapes: usize,
    },
    /// The digit touches the border of the picture, or nearly.
    AtBorder,
    /// Much of the ink in the picture does not belong to the digit.
    Cluttered,
    /// The ink hardly stands out from the noise.
    Faint,
    /// The ink is wider than any digit.
    Wide,
    /// The ink is a solid patch instead of strokes.
    Solid,
    /// The digit has too few pixels.
    Small {
        /// Its longer side, in pixels.
        side: u32,
    },
}

impl Doubt {
    /// Every doubt about `found`. `side` is its longer side in pixels of the original picture; `noise` is the standard
    /// deviation of the noise.
    pub(super) fn all(found: &Found, side: u32, noise: f64) -> Vec<Self> {
        let bounds = &found.bounds;
        let doubts = [
            (found.alike > 1).then_some(Self::Several {
                shapes: found.alike,
            }),
            found.at_border.then_some(Self::AtBorder),
            (found.alike == 1 && found.clutter > CLUTTER).then_some(Self::Cluttered),
            (f64::from(found.strongest) < FAINT * noise).then_some(Self::Faint),
            (2 * bounds.width() > 3 * bounds.height()).then_some(Self::Wide),
            (found.fill > 0.8 && !bounds.is_slender()).then_some(Self::Solid),
            (side < SMALL).then_some(Self::Small { side }),
        ];
        doubts.into_iter().flatten().collect()
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Several { shapes } => write!(
                f,
                "the picture shows {shapes} shapes of a digit's size and one is read; crop it to a single digit"
            ),
            Self::AtBorder => f.write_str("the ink touches the border; leave a margin around the digit"),
            Self::Cluttered => {
                f.write_str("there is ink that does not belong to the digit; use blank paper or crop the picture")
            }
            Self::Faint => f.write_str("the ink hardly stands out from the noise; use more light or a bolder pen"),
            Self::Wide => f.write_str("the ink is wider than a digit; it may be several digits that touch"),
            Self::Solid => f.write_str("the ink is a solid patch instead of strokes; crop the picture to the digit"),
            Self::Small { side } => {
                write!(f, "the digit is only {side} pixels large; use a picture with more pixels")
            }
        }
    }
}
