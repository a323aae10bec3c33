use serde::Serialize;

/// An RGB colour.
///
/// Colour-blind readers can distinguish the constants, which have a contrast of at least 3 to 1 on the light page and
/// on the dark one. [`INK`](Self::INK) is black in files and has the text's colour on the page. Blue, green and
/// vermillion are from the palette of Okabe and Ito.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct Color(pub u8, pub u8, pub u8);

impl Color {
    /// The colour of text: almost black, distinct from every other colour in a picture.
    pub const INK: Self = Self(0x1a, 0x1b, 0x1c);
    /// Grey.
    pub const GREY: Self = Self(0x76, 0x7b, 0x82);
    /// Vermillion.
    pub const VERMILLION: Self = Self(0xd5, 0x5e, 0x00);
    /// Violet.
    pub const VIOLET: Self = Self(0x9a, 0x45, 0xe6);
    /// Blue.
    pub const BLUE: Self = Self(0x00, 0x72, 0xb2);
    /// Bluish green.
    pub const GREEN: Self = Self(0x00, 0x9e, 0x73);
    /// Dark amber.
    pub const AMBER: Self = Self(0xa8, 0x79, 0x00);
    /// Dark pink.
    pub const PINK: Self = Self(0xc2, 0x50, 0x9a);
}

/// The shape that goes with a colour on lines and in legends, so that nobody has to tell colours apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A square.
    Square,
    /// A disc.
    Disc,
    /// A square on its corner.
    Diamond,
    /// A triangle with its tip at the top.
    Up,
    /// A triangle with its tip at the bottom.
    Down,
    /// An upright cross.
    Plus,
    /// A slanting cross.
    Cross,
}

impl Color {
    /// The mark of the colour; ink has none.
    pub fn mark(self) -> Option<Mark> {
        Some(match self {
            Self::GREY => Mark::Cross,
            Self::VERMILLION => Mark::Up,
            Self::VIOLET => Mark::Diamond,
            Self::BLUE => Mark::Square,
            Self::GREEN => Mark::Disc,
            Self::AMBER => Mark::Down,
            Self::PINK => Mark::Plus,
            _ => return None,
        })
    }
}

impl Mark {
    /// The corners around `(0, 0)`, y downwards, for a disc of this radius or a mark that looks as large.
    pub(crate) fn corners(self, radius: f64) -> Vec<(f64, f64)> {
        let turned = |corners: &[(f64, f64)], eighths: f64| {
            let (sin, cos) = (eighths * std::f64::consts::FRAC_PI_4).sin_cos();
            let turn = |&(x, y): &(f64, f64)| (cos * x - sin * y, sin * x + cos * y);
            corners.iter().map(turn).collect::<Vec<_>>()
        };
        const SQUARE: [(f64, f64); 4] = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)];
        const UP: [(f64, f64); 3] = [(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)];
        // One arm of the cross; the others are this one, turned.
        const ARM: [(f64, f64); 3] = [(-0.35, -0.35), (-0.35, -1.2), (0.35, -1.2)];
        let plus: Vec<_> = (0..4)
            .flat_map(|arm| turned(&ARM, f64::from(2 * arm)))
            .collect();
        let corners = match self {
            Self::Square => SQUARE.to_vec(),
            Self::Diamond => turned(&SQUARE, 1.0),
            Self::Disc => (0..16)
                .flat_map(|i| turned(&[(0.0, -1.0)], 0.5 * f64::from(i)))
                .collect(),
            Self::Up => UP.to_vec(),
            Self::Down => turned(&UP, 4.0),
            Self::Plus => plus,
            Self::Cross => turned(&plus, 1.0),
        };
        corners
            .into_iter()
            .map(|(x, y)| (radius * x, radius * y))
            .collect()
    }
}

/// The colour in CSS notation, `#RRGGBB`.
impl From<Color> for String {
    fn from(Color(r, g, b): Color) -> Self {
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}
