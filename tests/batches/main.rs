//! Tests normalisation by other statistics than those of one whole batch: several workers, masks, parts, other axes.

// Burn 0.22 deprecates NdArray; it is tested as long as Burn has it.
#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod axis;
#[path = "../common/devices.rs"]
mod devices;
mod masked;
mod network;
mod parts;
mod renormalization;
mod sets;
mod sync;
mod sync_failures;
mod sync_order;
#[path = "../common/values.rs"]
mod values;

use values::{message, numbers, panic_of, tensor};

/// Numbers that look random: the same for the same seed.
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
    };
    (0..count).map(|_| next() + next() + next()).collect()
}

/// Panics unless the numbers agree to the tolerance, relative to the largest expected magnitude.
#[track_caller]
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected).enumerate();
    for (at, (found, expected)) in pairs {
        assert!(
            (found - expected).abs() <= tolerance * scale,
            "{what}: {found} at {at}, expected {expected}; off by {:e} of {scale:e}",
            (found - expected).abs()
        );
    }
}
