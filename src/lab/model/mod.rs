//! The networks under study.
