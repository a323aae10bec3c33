//! Random numbers generated on the host, so they do not depend on the device.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Makes the generator of stream `number` of a seed. Stream 0 draws the initial weights; stream `n` shuffles the images
/// of epoch `n`. The streams are independent.
pub(super) fn generator(seed: u64, number: u64) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    StdRng::from_seed(key)
}

/// Draws a number from N(0, 1) by the Box-Muller method.
pub(super) fn normal(random: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (random.random(), random.random());
    // 1 - radius is never 0.
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
