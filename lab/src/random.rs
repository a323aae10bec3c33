//! Random numbers generated on the host, so they do not depend on the device.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// Makes the generator of stream `number` of a seed. Stream `n` shuffles the images of epoch `n`. The streams are
/// independent.
pub(super) fn generator(seed: u64, number: u64) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&number.to_le_bytes());
    StdRng::from_seed(key)
}
