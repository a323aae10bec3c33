//! A training run.
