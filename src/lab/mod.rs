//! The lab: networks under study, MNIST, and training through Burn's learner.

pub mod mnist;
pub mod model;
pub mod train;
