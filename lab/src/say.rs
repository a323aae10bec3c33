//! Lines for people to read. If nobody reads them any more, the program continues.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line on standard error.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints a line on standard output.
pub fn print(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
