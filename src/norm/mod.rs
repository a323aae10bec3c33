//! Batch normalisation.

pub mod op;
