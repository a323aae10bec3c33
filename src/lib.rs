//! Weight initialisation and batch normalisation for [Burn](burn).

pub mod init;
#[cfg(feature = "lab")]
pub mod lab;
pub mod norm;
pub mod observe;
