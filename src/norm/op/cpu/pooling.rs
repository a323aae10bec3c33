//! Pooling of images `[height, width]`: one channel of one row of the batch each.
//!
//! Neighbouring windows are `stride` values apart. An image is first sorted by phase, so that the values that they
//! compare lie side by side: the rows 0, stride, 2 stride, ... of the padded image, then the rows 1, stride + 1, ...,
//! and so on; the columns of each row likewise. The value at one place of all windows is then a single run, and pooling
//! is a loop over such runs:
//!
//! ```text
//! a row, stride 2, window 3, padding 1      . a b c d e f          . is padding
//! sorted: phase 0, then phase 1             . b d f | a c e
//! column 0 of the three windows             . b d
//! column 1                                            a c e
//! column 2                                    b d f
//! ```
//!
//! A run goes through all rows of the output. Where the sorted rows are longer than the output's, it has a few values
//! that belong to no window and are not read.

use std::ops::Range;

use super::blocks::{in_blocks, in_covering_blocks};
use super::value::Real;
use crate::norm::op::{Pooling, PoolingKind};

/// Lanes of a full block.
const LANES: usize = 16;

/// Pools images of one shape, one after the other, in the same scratch memory.
pub(super) struct Pooler<R> {
    pooling: Pooling,
    /// Columns of each phase.
    columns: usize,
    /// Where the run of each place of the windows begins, among the sorted values.
    runs: Vec<usize>,
    /// How far each row of the image is from row 0 of the padded image, among the sorted values.
    rows: Vec<usize>,
    /// Where each phase of columns is, for row 0 of the padded image.
    phases: Vec<Phase>,
    /// Whether no value belongs to two windows.
    is_disjoint: bool,
    /// Whether one window takes the average of the whole image.
    is_global: bool,
    /// The image sorted by phase. Padding keeps its first value.
    sorted: Vec<R>,
    /// The gradient of the image, sorted likewise.
    spread: Vec<R>,
    /// The output or its gradient, in rows as long as those of a phase: a run.
    output: Vec<R>,
    /// Where the maximum of each window is: its place in the window, row by row.
    place: Vec<R>,
}

/// The columns 0, stride, 2 stride, ... of a row of the padded image, or 1, stride + 1, ..., and so on.
struct Phase {
    /// The first column that is not padding.
    first: usize,
    /// The number of columns that are not padding.
    count: usize,
    /// Where the first of them is, among the sorted values of row 0 of the padded image.
    sorted: usize,
}

/// The place of a maximum that has not been found.
const NOWHERE: f64 = -1.0;

impl<R: Real> Pooler<R> {
    pub fn new(pooling: Pooling) -> Self {
        let Pooling {
            kind,
            input,
            output,
            window,
            strides,
            padding,
        } = pooling;
        let [rows, columns] = [0, 1].map(|axis| {
            let padded = input[axis] + padding[axis];
            let read = output[axis] + (window[axis] - 1) / strides[axis];
            padded.div_ceil(strides[axis]).max(read)
        });
        let runs = (0..window[0] * window[1]).map(|place| {
            let (row, column) = (place / window[1], place % window[1]);
            let phase = row % strides[0] * strides[1] + column % strides[1];
            (phase * rows + row / strides[0]) * columns + column / strides[1]
        });
        let phases = (0..strides[1]).map(|phase| {
            let first = (phase + strides[1] - padding[1] % strides[1]) % strides[1];
            Phase {
                first,
                count: input[1].saturating_sub(first).div_ceil(strides[1]),
                sorted: phase * rows * columns + (first + padding[1]) / strides[1],
            }
        });
        let of_rows = (padding[0]..padding[0] + input[0]).map(|row| {
            let phase = row % strides[0] * strides[1];
            (phase * rows + row / strides[0]) * columns
        });
        let neutral = match kind {
            PoolingKind::Max => R::from_f64(f64::NEG_INFINITY),
            PoolingKind::Average { .. } => R::default(),
        };
        let sorted = rows * columns * strides[0] * strides[1];
        let run = (output[0] - 1) * columns + output[1];
        Self {
            pooling,
            columns,
            runs: runs.collect(),
            rows: of_rows.collect(),
            phases: phases.collect(),
            is_global: kind != PoolingKind::Max && window == input && padding == [0, 0],
            is_disjoint: window[0] <= strides[0] && window[1] <= strides[1],
            sorted: vec![neutral; sorted],
            spread: vec![R::default(); sorted],
            output: vec![R::default(); run],
            place: vec![R::default(); run],
        }
    }

    /// What the sum of the window of an output is divided by.
    fn divisor(&self, row: usize, column: usize) -> R {
        let Pooling {
            kind,
            input,
            window,
            strides,
            padding,
            ..
        } = self.pooling;
        let counts = |axis: usize, at: usize| {
            let start = at * strides[axis];
            let end = (start + window[axis]).min(input[axis] + padding[axis]);
            end - start.max(padding[axis])
        };
        let count = match kind {
            PoolingKind::Average {
                count_padding: false,
            } => counts(0, row) * counts(1, column),
            _ => window[0] * window[1],
        };
        R::from_f64(count as f64)
    }

    /// Divides the output, or its gradient, if it is an average.
    #[inline(always)]
    fn divide(&mut self) {
        let [rows, outputs] = self.pooling.output;
        match self.pooling.kind {
            PoolingKind::Max => (),
            PoolingKind::Average {
                count_padding: true,
            } => {
                let count = self.divisor(0, 0);
                for value in &mut self.output {
                    *value = *value / count;
                }
            }
            PoolingKind::Average {
                count_padding: false,
            } => {
                for row in 0..rows {
                    for column in 0..outputs {
                        let count = self.divisor(row, column);
                        let value = &mut self.output[row * self.columns + column];
                        *value = *value / count;
                    }
                }
            }
        }
    }

    /// The outputs that lie side by side in `output`: all of them or each row, each from the first one's number.
    fn stretches(&self) -> impl Iterator<Item = usize> + use<R> {
        let [rows, outputs] = self.pooling.output;
        (0..rows * outputs).step_by(self.stretch())
    }

    /// How many outputs lie side by side.
    fn stretch(&self) -> usize {
        let [rows, outputs] = self.pooling.output;
        match self.columns == outputs {
            true => rows * outputs,
            false => outputs,
        }
    }

    /// Where the stretch from this output is in `output`.
    fn range(&self, first: usize) -> Range<usize> {
        let start = first / self.pooling.output[1] * self.columns;
        start..start + self.stretch()
    }

    /// Pools an image. `write` gets outputs that lie side by side, and the number of the first of them.
    #[inline(always)]
    pub fn forward(&mut self, image: &[R], mut write: impl FnMut(usize, &[R])) {
        if self.is_global {
            self.output[0] = total(image);
        } else {
            self.sort(image);
            match self.pooling.kind {
                PoolingKind::Max => self.gather::<true>(),
                PoolingKind::Average { .. } => self.gather::<false>(),
            }
        }
        self.divide();
        for first in self.stretches() {
            write(first, &self.output[self.range(first)]);
        }
    }

    /// The maximum or the sum of each window.
    #[inline(always)]
    fn gather<const MAX: bool>(&mut self) {
        let (runs, sorted) = (&self.runs[..], &self.sorted[..]);
        let output = &mut self.output[..];
        in_covering_blocks!(output.len(), |at, L| {
            let mut found: [R; L] = block(sorted, at);
            for run in &runs[1..] {
                let values: [R; L] = block(sorted, run + at);
                found = match MAX {
                    true => larger(&found, &values),
                    false => sum(&found, &values),
                };
            }
            store(output, at, found);
        });
    }

    /// Writes the gradient of an image to `gradient`. `read` fills in the gradient of outputs that lie side by side,
    /// given the number of the first of them.
    #[inline(always)]
    pub fn backward(
        &mut self,
        image: &[R],
        gradient: &mut [R],
        mut read: impl FnMut(usize, &mut [R]),
    ) {
        let is_max = self.pooling.kind == PoolingKind::Max;
        if is_max {
            self.sort(image);
            self.find_maxima();
        }
        for first in self.stretches() {
            let range = self.range(first);
            read(first, &mut self.output[range]);
        }
        self.divide();
        if self.is_global {
            return gradient.fill(self.output[0]);
        }
        match (is_max, self.is_disjoint) {
            (true, true) => self.spread::<true, true>(),
            (true, false) => self.spread::<true, false>(),
            (false, _) => self.spread::<false, false>(),
        }
        self.unsort(gradient);
    }

    /// Finds the place of each maximum: of the last NaN, or else of the first of equal values.
    #[inline(always)]
    fn find_maxima(&mut self) {
        let (runs, sorted) = (&self.runs[..], &self.sorted[..]);
        let places = &mut self.place[..];
        in_covering_blocks!(places.len(), |at, L| {
            let mut best = [R::from_f64(f64::NEG_INFINITY); L];
            let mut place = [R::from_f64(NOWHERE); L];
            for (here, run) in runs.iter().enumerate() {
                let values: [R; L] = block(sorted, run + at);
                let here = R::from_f64(here as f64);
                let [mut better, mut better_place] = [[R::default(); L]; 2];
                for lane in 0..L {
                    let is_better = is_larger(values[lane], best[lane]);
                    better[lane] = if is_better { values[lane] } else { best[lane] };
                    better_place[lane] = if is_better { here } else { place[lane] };
                }
                [best, place] = [better, better_place];
            }
            store(places, at, place);
        });
        // A count, because a search for the first would go value by value.
        let missing = places.iter().filter(|place| **place < R::default());
        if missing.count() > 0 {
            self.place_infinities();
        }
    }

    /// Where all values of a window are negative infinity, like the padding: the first that is not padding.
    #[cold]
    #[inline(never)]
    fn place_infinities(&mut self) {
        let Pooling {
            output,
            window,
            strides,
            padding,
            ..
        } = self.pooling;
        for row in 0..output[0] {
            for column in 0..output[1] {
                let place = &mut self.place[row * self.columns + column];
                if *place < R::default() {
                    let [y, x] = [0, 1].map(|axis| {
                        padding[axis].saturating_sub([row, column][axis] * strides[axis])
                    });
                    *place = R::from_f64((y * window[1] + x) as f64);
                }
            }
        }
    }

    /// Gives the gradient of each output to its window: to the maximum, or to all values.
    #[inline(always)]
    fn spread<const MAX: bool, const DISJOINT: bool>(&mut self) {
        let (runs, spread) = (&self.runs[..], &mut self.spread[..]);
        let (gradients, places) = (&self.output[..], &self.place[..]);
        // If windows are disjoint, each value is written once, and what belongs to no window stays 0.
        if !DISJOINT {
            spread.fill(R::default());
        }
        for (here, run) in runs.iter().enumerate() {
            let here = R::from_f64(here as f64);
            if DISJOINT {
                in_covering_blocks!(gradients.len(), |at, L| {
                    let part: [R; L] = share::<R, L, MAX>(gradients, places, at, here);
                    store(spread, run + at, part);
                });
            } else {
                in_blocks!(gradients.len(), LANES, 1, |at, _count, L| {
                    let part: [R; L] = share::<R, L, MAX>(gradients, places, at, here);
                    store(spread, run + at, sum(&part, &block(spread, run + at)));
                });
            }
        }
    }

    /// Sorts an image by phase. Leaves the padding as it is.
    #[inline(always)]
    fn sort(&mut self, image: &[R]) {
        let [_, width] = self.pooling.input;
        for row in 0..self.rows.len() {
            let values = &image[row * width..][..width];
            let start = self.rows[row];
            let sorted = &mut self.sorted[start..];
            match &self.phases[..] {
                [all] => sorted[all.sorted..][..width].copy_from_slice(values),
                [zeroth, other] => {
                    let (left, right) = sorted.split_at_mut(other.sorted);
                    let left = &mut left[zeroth.sorted..][..zeroth.count];
                    let right = &mut right[..other.count];
                    match zeroth.first {
                        0 => split(values, left, right),
                        _ => split(values, right, left),
                    }
                }
                phases => {
                    for phase in phases {
                        let columns = values.iter().skip(phase.first).step_by(phases.len());
                        let sorted = &mut sorted[phase.sorted..][..phase.count];
                        for (sorted, value) in sorted.iter_mut().zip(columns) {
                            *sorted = *value;
                        }
                    }
                }
            }
        }
    }

    /// The gradient of an image, of the sorted one.
    #[inline(always)]
    fn unsort(&self, gradient: &mut [R]) {
        let [_, width] = self.pooling.input;
        for row in 0..self.rows.len() {
            let values = &mut gradient[row * width..][..width];
            let start = self.rows[row];
            let spread = &self.spread[start..];
            match &self.phases[..] {
                [all] => values.copy_from_slice(&spread[all.sorted..][..width]),
                [zeroth, other] => {
                    let left = &spread[zeroth.sorted..][..zeroth.count];
                    let right = &spread[other.sorted..][..other.count];
                    match zeroth.first {
                        0 => join(left, right, values),
                        _ => join(right, left, values),
                    }
                }
                phases => {
                    for phase in phases {
                        let columns = values.iter_mut().skip(phase.first);
                        let columns = columns.step_by(phases.len());
                        let spread = &spread[phase.sorted..][..phase.count];
                        for (value, spread) in columns.zip(spread) {
                            *value = *spread;
                        }
                    }
                }
            }
        }
    }
}

/// The sum of all values.
#[inline(always)]
fn total<R: Real>(values: &[R]) -> R {
    let mut lanes = [R::default(); LANES];
    in_blocks!(values.len(), LANES, 1, |at, _count, L| {
        let part: [R; L] = block(values, at);
        for lane in 0..L {
            lanes[lane] = lanes[lane] + part[lane];
        }
    });
    lanes.into_iter().fold(R::default(), |sum, lane| sum + lane)
}

/// `L` values from `at`.
#[inline(always)]
pub(super) fn block<R: Real, const L: usize>(values: &[R], at: usize) -> [R; L] {
    values[at..at + L]
        .try_into()
        .expect("a slice of L values is an array of L values")
}

/// Whether a value takes the place of the best one: it is larger, or it is NaN.
#[inline(always)]
#[allow(clippy::eq_op)]
pub(super) fn is_larger<R: Real>(value: R, best: R) -> bool {
    value > best || value != value
}

/// Writes `L` values from `at`. (A copy of a slice would be a call.)
#[inline(always)]
pub(super) fn store<R: Real, const L: usize>(values: &mut [R], at: usize, block: [R; L]) {
    let target: &mut [R; L] = (&mut values[at..at + L])
        .try_into()
        .expect("a slice of L values is an array of L values");
    *target = block;
}

/// The larger of two values in each lane; NaN if either is.
#[inline(always)]
pub(super) fn larger<R: Real, const L: usize>(best: &[R; L], values: &[R; L]) -> [R; L] {
    let mut found = [R::default(); L];
    for lane in 0..L {
        let is_better = is_larger(values[lane], best[lane]);
        found[lane] = if is_better { values[lane] } else { best[lane] };
    }
    found
}

/// What the values at the place `here` get of the gradient of their windows: that of the maxima there, or all of it.
#[inline(always)]
fn share<R: Real, const L: usize, const MAX: bool>(
    gradients: &[R],
    places: &[R],
    at: usize,
    here: R,
) -> [R; L] {
    let gradient = block(gradients, at);
    if !MAX {
        return gradient;
    }
    let (places, mut share): ([R; L], _) = (block(places, at), [R::default(); L]);
    for lane in 0..L {
        let is_chosen = places[lane] == here;
        share[lane] = if is_chosen {
            gradient[lane]
        } else {
            R::default()
        };
    }
    share
}

#[inline(always)]
fn sum<R: Real, const L: usize>(a: &[R; L], b: &[R; L]) -> [R; L] {
    let mut sum = [R::default(); L];
    for lane in 0..L {
        sum[lane] = a[lane] + b[lane];
    }
    sum
}

/// `P` pairs of values from `at`.
#[inline(always)]
fn pairs<R: Real, const P: usize>(values: &[R], at: usize) -> [[R; 2]; P] {
    let (pairs, _) = values[at..at + 2 * P].as_chunks::<2>();
    pairs.try_into().expect("a slice of 2 P values is P pairs")
}

/// Splits a row into its even and its odd columns.
#[inline(always)]
fn split<R: Real>(row: &[R], even: &mut [R], odd: &mut [R]) {
    in_covering_blocks!(row.len() / 2, |at, P| {
        let [first, second] = R::split(pairs::<R, P>(row, 2 * at));
        store(even, at, first);
        store(odd, at, second);
    });
    if row.len() % 2 == 1 {
        even[row.len() / 2] = row[row.len() - 1];
    }
}

/// Joins the even and the odd columns to a row.
#[inline(always)]
fn join<R: Real>(even: &[R], odd: &[R], row: &mut [R]) {
    let len = row.len();
    in_covering_blocks!(len / 2, |at, P| {
        let pairs = R::join::<P>([block(even, at), block(odd, at)]);
        let (target, _) = row[2 * at..2 * (at + P)].as_chunks_mut::<2>();
        let target: &mut [[R; 2]; P] = target.try_into().expect("a slice of 2 P values is P pairs");
        *target = pairs;
    });
    if len % 2 == 1 {
        row[len - 1] = even[len / 2];
    }
}
