//! The differentiable operation behind batch normalisation.
