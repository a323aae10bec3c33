//! Random numbers of the host, the same whatever the device.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// The generator of one thing that a seed decides: of the initial weights for `number` 0, of the order of the images
/// in the epoch of that number for others. No two share their numbers.
pub(super) fn generator(seed: u64, number: u64) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    StdRng::from_seed(key)
}

/// A number from N(0, 1), by the method of Box and Muller.
pub(super) fn normal(random: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    // 1 - radius is never 0.
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
