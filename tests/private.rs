//! Runs the tests of private code, which stand in its files. Only these files are compiled here: as unit tests of the
//! library, they would need all of it to be compiled once more.
#![cfg(feature = "flex")]

#[allow(dead_code)]
#[path = "../src/dtype.rs"]
mod dtype;

#[path = "../src/norm"]
mod norm {
    pub mod op {
        pub use burn_kindling::norm::op::*;

        #[allow(dead_code)]
        #[path = "cpu/memory.rs"]
        mod memory;
        #[allow(dead_code)]
        mod portable;
    }
}
