//! Orthogonal matrices.

use rayon::prelude::*;

/// Number of rows that are made orthogonal to one another before the next block begins.
const BLOCK: usize = 32;
/// Number of a block's rows that a thread takes at a time.
const SHARE: usize = 8;
/// Number of earlier rows that it reads for all of them, while they are in the cache.
const TILE: usize = 16;

/// Makes the rows of a row-major matrix orthonormal, or its columns if there are fewer of them.
///
/// From independent normal values, this gives a uniformly distributed (Haar) matrix: the Q of a QR decomposition whose
/// R has a positive diagonal (Mezzadri 2007, [arXiv:math-ph/0609050](https://arxiv.org/abs/math-ph/0609050)).
///
/// Block Gram-Schmidt. Each projection is done twice, which leaves only rounding errors (Giraud et al. 2005). The
/// result does not depend on the number of threads.
pub(super) fn orthonormalize(matrix: &mut [f64], rows: usize, columns: usize) {
    if rows <= columns {
        orthonormalize_rows(matrix, columns);
    } else {
        let mut transposed = transpose(matrix, rows, columns);
        orthonormalize_rows(&mut transposed, rows);
        matrix.copy_from_slice(&transpose(&transposed, columns, rows));
    }
}

fn orthonormalize_rows(matrix: &mut [f64], columns: usize) {
    let mut done = 0;
    while done < matrix.len() {
        let size = (BLOCK * columns).min(matrix.len() - done);
        let (before, rest) = matrix.split_at_mut(done);
        let block = &mut rest[..size];
        for _ in 0..2 {
            block.par_chunks_mut(SHARE * columns).for_each(|rows| {
                for tile in before.chunks(TILE * columns) {
                    rows.chunks_mut(columns)
                        .for_each(|row| project_out(row, tile));
                }
            });
            for i in 0..size / columns {
                let (before, rest) = block.split_at_mut(i * columns);
                let row = &mut rest[..columns];
                project_out(row, before);
                let norm = dot(row, row).sqrt();
                row.iter_mut().for_each(|value| *value /= norm);
            }
        }
        done += size;
    }
}

/// Subtracts from `row` its components along the rows of an orthonormal matrix.
fn project_out(row: &mut [f64], matrix: &[f64]) {
    for other in matrix.chunks(row.len()) {
        let component = dot(row, other);
        for (value, other) in row.iter_mut().zip(other) {
            *value -= component * other;
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn transpose(matrix: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut transposed = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        transposed.extend((0..rows).map(|row| matrix[row * columns + column]));
    }
    transposed
}
