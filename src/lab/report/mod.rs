//! Figures, and the page that holds them.

mod figure;
mod plot;

pub use figure::{Axis, Color, Figure, Panel, Row, Series, Shape, median, spread};
