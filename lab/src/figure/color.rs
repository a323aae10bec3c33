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

/// The colour in CSS notation, `#RRGGBB`.
impl From<Color> for String {
    fn from(Color(r, g, b): Color) -> Self {
        format!("#{r:02X}{g:02X}{b:02X}")
    }
}
