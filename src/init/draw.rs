//! Draws values on the host, so that they do not depend on the device.
//!
//! Every parameter has its own generator: ChaCha with 8 rounds, keyed by the seed and the path of the parameter. Each
//! run of [`RUN`] values comes from its own stream. So the values depend neither on the order in which parameters are
//! drawn, nor on the number of threads.

use burn::tensor::{DType, Element, TensorData};
use chacha20::ChaCha8Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

use super::matrix;
use super::scheme::{Distribution, Scheme, zeros_of};

/// Number of values from one stream.
const RUN: usize = 4096;

/// The standard deviation of N(0, 1) cut off at two standard deviations:
/// `sqrt(1 - 4 φ(2) / (2 Φ(2) - 1))`.
const TRUNCATED_STD: f64 = 0.879_625_661_034_239_8;

/// What identifies the values of a parameter: the seed, and the path of the parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&fnv_1a(name.as_bytes()).to_le_bytes());
        Self(key)
    }

    fn stream(&self, number: usize) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.0);
        random.set_stream(number as u64);
        random
    }
}

/// The 64-bit FNV-1a hash (Fowler, Noll, Vo).
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// How the values of a weight are arranged.
#[derive(Clone, Debug)]
pub(super) struct Arrangement {
    /// The shape of the weight.
    pub shape: Vec<usize>,
    /// The groups of a convolution. Each takes an equal part of the first axis.
    pub groups: usize,
    /// Whether the first axis is that of the inputs, not of the output units.
    pub inputs_first: bool,
}

impl Arrangement {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The places of the weights of each output unit.
    fn inputs_by_unit(&self) -> Vec<Vec<usize>> {
        let Matrices {
            rows,
            columns,
            taps,
            ..
        } = self.matrices();
        let kernel = |row, column| {
            let start = (row * columns + column) * taps;
            start..start + taps
        };
        if !self.inputs_first {
            // A row is a unit.
            let units = 0..rows * self.groups;
            return units
                .map(|row| {
                    (0..columns)
                        .flat_map(|column| kernel(row, column))
                        .collect()
                })
                .collect();
        }
        // A column of a group is a unit.
        let units = (0..self.groups).flat_map(|group| (0..columns).map(move |it| (group, it)));
        units
            .map(|(group, column)| {
                let rows = group * rows..(group + 1) * rows;
                rows.flat_map(|row| kernel(row, column)).collect()
            })
            .collect()
    }

    /// The root mean square of the values that are drawn from `scheme` with this factor, around their mean.
    pub fn std(&self, scheme: &Scheme, factor: f64) -> f64 {
        let Matrices {
            rows,
            columns,
            taps,
            ..
        } = self.matrices();
        let square = |share: usize, of: usize| share as f64 / of as f64;
        let mean_square = match scheme.shape {
            Distribution::Orthogonal { at_centre: false } => square(1, rows.max(columns * taps)),
            Distribution::Orthogonal { at_centre: true } | Distribution::Identity => {
                square(1, rows.max(columns) * taps)
            }
            Distribution::Sparse { sparsity } => {
                let inputs = if self.inputs_first { rows } else { columns } * taps;
                square(inputs - zeros_of(sparsity, inputs), inputs)
            }
            _ => 1.0,
        };
        factor * mean_square.sqrt()
    }

    /// The weight as matrices, one per group.
    fn matrices(&self) -> Matrices {
        let axis = |axis: usize| self.shape.get(axis).copied().unwrap_or(1);
        let kernel = self.shape.get(2..).unwrap_or_default();
        Matrices {
            rows: axis(0) / self.groups,
            columns: axis(1),
            taps: kernel.iter().product(),
            centre: (kernel.iter()).fold(0, |index, &size| index * size + size / 2),
        }
    }
}

/// A weight as matrices whose entries are kernels.
struct Matrices {
    rows: usize,
    columns: usize,
    /// The number of values of a kernel.
    taps: usize,
    /// The index of the central value of a kernel.
    centre: usize,
}

/// Draws the values of a parameter: `mean + factor * z`. In f64 if that is the `dtype`, otherwise in f32.
pub(super) fn data(
    scheme: &Scheme,
    factor: f64,
    arrangement: &Arrangement,
    key: Key,
    dtype: DType,
) -> TensorData {
    match dtype {
        DType::F64 => tensor_data::<f64>(scheme, factor, arrangement, key, |value| value),
        _ => tensor_data::<f32>(scheme, factor, arrangement, key, |value| value as f32),
    }
}

fn tensor_data<T: Element>(
    scheme: &Scheme,
    factor: f64,
    arrangement: &Arrangement,
    key: Key,
    round: impl Fn(f64) -> T + Sync,
) -> TensorData {
    let mean = scheme.mean;
    let mut values = vec![round(mean); arrangement.len()];
    if values.is_empty() {
        return TensorData::new(values, arrangement.shape.clone());
    }
    let scaled = |z: f64| round(mean + factor * z);
    let Matrices {
        rows,
        columns,
        taps,
        centre,
    } = arrangement.matrices();
    match scheme.shape {
        Distribution::Constant => (),
        Distribution::Normal => fill(&mut values, key, |random| scaled(normal(random))),
        Distribution::TruncatedNormal => {
            fill(&mut values, key, |random| scaled(truncated_normal(random)));
        }
        Distribution::Uniform => fill(&mut values, key, |random| scaled(uniform(random))),
        Distribution::Sparse { sparsity } => {
            fill(&mut values, key, |random| scaled(normal(random)));
            drop_inputs(&mut values, sparsity, arrangement, key, round(0.0));
        }
        Distribution::Orthogonal { at_centre: false } => {
            let entries = orthogonal(arrangement.groups, rows, columns * taps, key);
            for (value, entry) in values.iter_mut().zip(entries) {
                *value = scaled(entry);
            }
        }
        Distribution::Orthogonal { at_centre: true } => {
            let entries = orthogonal(arrangement.groups, rows, columns, key);
            let centres = values[centre..].iter_mut().step_by(taps);
            for (value, entry) in centres.zip(entries) {
                *value = scaled(entry);
            }
        }
        Distribution::Identity => {
            for group in values.chunks_mut(rows * columns * taps) {
                for i in 0..rows.min(columns) {
                    group[(i * columns + i) * taps + centre] = scaled(1.0);
                }
            }
        }
    }
    TensorData::new(values, arrangement.shape.clone())
}

/// Fills `values`, in parallel.
fn fill<T: Send>(values: &mut [T], key: Key, draw: impl Fn(&mut ChaCha8Rng) -> T + Sync) {
    let fill = |(number, run): (usize, &mut [T])| {
        let mut random = key.stream(number);
        run.fill_with(|| draw(&mut random));
    };
    // One run is too little to share.
    if values.len() <= RUN {
        fill((0, values));
    } else {
        values.par_chunks_mut(RUN).enumerate().for_each(fill);
    }
}

fn normal(random: &mut ChaCha8Rng) -> f64 {
    StandardNormal.sample(random)
}

fn truncated_normal(random: &mut ChaCha8Rng) -> f64 {
    loop {
        let z: f64 = normal(random);
        if z.abs() <= 2.0 {
            return z / TRUNCATED_STD;
        }
    }
}

/// Uniform in [-sqrt(3), sqrt(3)), of variance 1.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    const ULP: f64 = 1.0 / (1_u64 << 53) as f64;
    let unit = (random.next_u64() >> 11) as f64 * ULP;
    3f64.sqrt() * (2.0 * unit - 1.0)
}

/// The entries of `groups` matrices, one after another. Their rows are orthonormal, or their columns if those are
/// fewer.
fn orthogonal(groups: usize, rows: usize, columns: usize, key: Key) -> Vec<f64> {
    let mut entries = vec![0.0; groups * rows * columns];
    fill(&mut entries, key, normal);
    for matrix in entries.chunks_mut(rows * columns) {
        matrix::orthonormalize(matrix, rows, columns);
    }
    entries
}

/// Sets some inputs of every unit to `zero`.
fn drop_inputs<T: Copy>(
    values: &mut [T],
    sparsity: f64,
    arrangement: &Arrangement,
    key: Key,
    zero: T,
) {
    let mut random = key.stream(usize::MAX);
    for mut inputs in arrangement.inputs_by_unit() {
        // The first steps of a Fisher-Yates shuffle choose without replacement.
        for i in 0..zeros_of(sparsity, inputs.len()) {
            let left = (inputs.len() - i) as u64;
            let chosen = i + ((u128::from(random.next_u64()) * u128::from(left)) >> 64) as usize;
            inputs.swap(i, chosen);
            values[inputs[i]] = zero;
        }
    }
}
