//! The names of the blocks around a point.

use std::fmt::Display;
use std::sync::Arc;

use crate::scope;

/// The names of the blocks around the caller, joined by dots.
struct Blocks(String);

/// Calls `forward`. In it, `block` and a dot come before every [`full`] name.
pub(super) fn run_inside<T: Send>(block: impl Display, forward: impl FnOnce() -> T + Send) -> T {
    scope::run(Arc::new(Blocks(full(block))), forward)
}

/// A name after those of the blocks around the caller.
pub(super) fn full(name: impl Display) -> String {
    match scope::innermost::<Blocks>() {
        Some(blocks) => format!("{}.{name}", blocks.0),
        None => name.to_string(),
    }
}
