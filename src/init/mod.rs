//! How weights start.
