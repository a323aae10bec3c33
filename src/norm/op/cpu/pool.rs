//! Pooling of images `[height, width]`: one channel of one row of the batch each.
//!
//! Neighbouring windows are `stride` columns apart. The columns of an image are sorted by phase, so that what many windows
//! compare at once lies side by side: first the columns 0, stride, 2 stride, ... of the padded image, then the columns 1,
//! stride + 1, ..., and so on. Column `k` of all windows is then a slice:
//!
//! ```text
//! stride 2, window 3, padding 1      . a b c d e f          . is padding
//! sorted: phase 0, phase 1           . b d f | a c e
//! column 0 of the three windows      . b d
//! column 1                                     a c e
//! column 2                             b d f
//! ```

use super::blocks::Real;
use crate::norm::op::{Pooling, PoolingKind};

/// Pools images of one shape, one after the other, in the same scratch memory.
pub(super) struct Pooler<R> {
    pooling: Pooling,
    /// Values of each phase of a row.
    phase: usize,
    /// A row of the image.
    line: Vec<R>,
    /// The image sorted by phase, row after row. The forward pass uses one row. Padding keeps its first value.
    sorted: Vec<R>,
    /// The gradient of the image, sorted likewise.
    spread: Vec<R>,
    /// A row of the output, or of its gradient.
    output: Vec<R>,
    /// Where the maximum of each window of a row of the output is: the place in the window, row by row.
    place: Vec<R>,
    /// The number of values of each window of a row, in width, that are not padding.
    widths: Vec<f64>,
}

/// The place in a window that has not been found.
const NOWHERE: f64 = -1.0;

impl<R: Real> Pooler<R> {
    pub fn new(pooling: Pooling) -> Self {
        let [_, width] = pooling.input;
        let [_, outputs] = pooling.output;
        let [_, window] = pooling.window;
        let [_, stride] = pooling.strides;
        let [_, padding] = pooling.padding;
        let phase = (width + padding)
            .div_ceil(stride)
            .max(outputs + (window - 1) / stride);
        let widths = (0..outputs).map(|output| {
            let start = output * stride;
            let end = (start + window).min(width + padding);
            (end - start.max(padding)) as f64
        });
        Self {
            pooling,
            phase,
            line: vec![R::default(); width],
            sorted: Vec::new(),
            spread: Vec::new(),
            output: vec![R::default(); outputs],
            place: vec![R::default(); outputs],
            widths: widths.collect(),
        }
    }

    /// Makes room for `rows` sorted rows. What is not written later stands for padding.
    fn reserve(&mut self, rows: usize) {
        let padding = match self.pooling.kind {
            PoolingKind::Max => R::from_f64(f64::NEG_INFINITY),
            PoolingKind::Average { .. } => R::default(),
        };
        self.sorted.resize(rows * self.row(), padding);
    }

    /// Values of a sorted row.
    fn row(&self) -> usize {
        self.phase * self.pooling.strides[1]
    }

    /// Where column `column` of the windows begins in a sorted row.
    #[inline(always)]
    fn column(&self, column: usize) -> usize {
        let [_, stride] = self.pooling.strides;
        column % stride * self.phase + column / stride
    }

    /// The rows of the windows of a row of the output that are not padding: each as its place in the window and in the
    /// image.
    #[inline(always)]
    fn rows(&self, output: usize) -> impl Iterator<Item = (usize, usize)> + use<R> {
        let [height, _] = self.pooling.input;
        let [window, _] = self.pooling.window;
        let [padding, _] = self.pooling.padding;
        let start = output * self.pooling.strides[0];
        let first = padding.saturating_sub(start);
        let end = window.min(height + padding - start);
        (first..end).map(move |row| (row, start + row - padding))
    }

    /// What the sum of each window of a row of the output is divided by.
    #[inline(always)]
    fn divide(values: &mut [R], pooling: &Pooling, rows: usize, widths: &[f64]) {
        match pooling.kind {
            PoolingKind::Max => (),
            PoolingKind::Average {
                count_padding: true,
            } => {
                let count = R::from_f64((pooling.window[0] * pooling.window[1]) as f64);
                for value in values {
                    *value = *value / count;
                }
            }
            PoolingKind::Average {
                count_padding: false,
            } => {
                for (value, width) in values.iter_mut().zip(widths) {
                    *value = *value / R::from_f64(rows as f64 * width);
                }
            }
        }
    }

    /// Pools an image. `write` gets each row of the output and its number.
    #[inline(always)]
    pub fn forward(&mut self, image: &[R], mut write: impl FnMut(usize, &[R])) {
        let [_, width] = self.pooling.input;
        let [rows_of_output, outputs] = self.pooling.output;
        let is_max = self.pooling.kind == PoolingKind::Max;
        self.reserve(1);
        for output in 0..rows_of_output {
            let mut rows = 0;
            for (_, row) in self.rows(output) {
                let row = &image[row * width..][..width];
                if rows == 0 {
                    self.line.copy_from_slice(row);
                } else {
                    gather(&mut self.line, row, is_max);
                }
                rows += 1;
            }
            sort(&self.line, &mut self.sorted, &self.pooling, self.phase);
            self.output.copy_from_slice(&self.sorted[..outputs]);
            for column in 1..self.pooling.window[1] {
                let start = self.column(column);
                let column = &self.sorted[start..][..outputs];
                gather(&mut self.output, column, is_max);
            }
            Self::divide(&mut self.output, &self.pooling, rows, &self.widths);
            write(output, &self.output);
        }
    }

    /// Writes the gradient of an image to `gradient`. `read` fills in each row of the output's gradient, given its number.
    #[inline(always)]
    pub fn backward(
        &mut self,
        image: &[R],
        gradient: &mut [R],
        mut read: impl FnMut(usize, &mut [R]),
    ) {
        let [height, width] = self.pooling.input;
        let is_max = self.pooling.kind == PoolingKind::Max;
        let row_len = self.row();
        self.spread.clear();
        self.spread.resize(height * row_len, R::default());
        if is_max {
            self.reserve(height);
            for (image, sorted) in image
                .chunks_exact(width)
                .zip(self.sorted.chunks_exact_mut(row_len))
            {
                sort(image, sorted, &self.pooling, self.phase);
            }
        }
        for output in 0..self.pooling.output[0] {
            if is_max {
                self.find_maxima(output);
            }
            read(output, &mut self.output);
            let rows = self.rows(output).count();
            Self::divide(&mut self.output, &self.pooling, rows, &self.widths);
            self.spread_row(output, is_max);
        }
        for (spread, gradient) in self
            .spread
            .chunks_exact(row_len)
            .zip(gradient.chunks_exact_mut(width))
        {
            unsort(spread, gradient, &self.pooling, self.phase);
        }
    }

    /// Finds the place of each maximum of a row of the output: of the last NaN, or else the first of equal values.
    #[inline(always)]
    fn find_maxima(&mut self, output: usize) {
        let [_, width] = self.pooling.window;
        let nowhere = R::from_f64(NOWHERE);
        self.output.fill(R::from_f64(f64::NEG_INFINITY));
        self.place.fill(nowhere);
        for (window_row, row) in self.rows(output) {
            for column in 0..width {
                let start = row * self.row() + self.column(column);
                let values = &self.sorted[start..][..self.output.len()];
                let here = R::from_f64((window_row * width + column) as f64);
                let found = self.output.iter_mut().zip(&mut self.place);
                for ((best, place), &value) in found.zip(values) {
                    let is_better = value > *best || is_nan(value);
                    *best = if is_better { value } else { *best };
                    *place = if is_better { here } else { *place };
                }
            }
        }
        if self.place.iter().any(|&place| place < R::default()) {
            self.place_infinities(output);
        }
    }

    /// Where all values of a window are negative infinity, like the padding: the first that is not padding.
    #[cold]
    fn place_infinities(&mut self, output: usize) {
        let [_, width] = self.pooling.window;
        let [_, stride] = self.pooling.strides;
        let [_, padding] = self.pooling.padding;
        let (row, _) = self.rows(output).next().expect("a window has a value");
        for (index, place) in self.place.iter_mut().enumerate() {
            if *place < R::default() {
                let column = padding.saturating_sub(index * stride);
                *place = R::from_f64((row * width + column) as f64);
            }
        }
    }

    /// Adds the gradients of a row of the output to those of its windows: of each window's maximum, or of all its values.
    #[inline(always)]
    fn spread_row(&mut self, output: usize, is_max: bool) {
        let [_, width] = self.pooling.window;
        let outputs = self.output.len();
        for (window_row, row) in self.rows(output) {
            for column in 0..width {
                let start = row * self.row() + self.column(column);
                let spread = &mut self.spread[start..][..outputs];
                let values = spread.iter_mut().zip(&self.output);
                if is_max {
                    let here = R::from_f64((window_row * width + column) as f64);
                    for ((sum, &gradient), &place) in values.zip(&self.place) {
                        let part = if place == here {
                            gradient
                        } else {
                            R::default()
                        };
                        *sum = *sum + part;
                    }
                } else {
                    for (sum, &gradient) in values {
                        *sum = *sum + gradient;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn is_nan<R: Real>(value: R) -> bool {
    #[allow(clippy::eq_op)]
    {
        value != value
    }
}

/// Takes more values into maxima or sums. NaN stays.
#[inline(always)]
fn gather<R: Real>(gathered: &mut [R], values: &[R], is_max: bool) {
    let both = gathered.iter_mut().zip(values);
    if is_max {
        for (best, &value) in both {
            let is_better = value > *best || is_nan(value);
            *best = if is_better { value } else { *best };
        }
    } else {
        for (sum, &value) in both {
            *sum = *sum + value;
        }
    }
}

/// The columns of one phase: the first of them in the row, where it is among the sorted, and their number.
#[inline(always)]
fn columns_of_phase(pooling: &Pooling, phase_len: usize, phase: usize) -> (usize, usize, usize) {
    let [_, width] = pooling.input;
    let [_, stride] = pooling.strides;
    let [_, padding] = pooling.padding;
    let first = (phase + stride - padding % stride) % stride;
    let sorted = phase * phase_len + (first + padding) / stride;
    (first, sorted, width.saturating_sub(first).div_ceil(stride))
}

/// Sorts a row by phase. Leaves what stands for padding.
#[inline(always)]
fn sort<R: Copy>(row: &[R], sorted: &mut [R], pooling: &Pooling, phase_len: usize) {
    let [_, stride] = pooling.strides;
    for phase in 0..stride {
        let (first, start, count) = columns_of_phase(pooling, phase_len, phase);
        let sorted = &mut sorted[start..][..count];
        match stride {
            1 => sorted.copy_from_slice(row),
            2 => {
                let (pairs, rest) = row[first.min(row.len())..].as_chunks::<2>();
                let (sorted, last) = sorted.split_at_mut(pairs.len());
                for (sorted, pair) in sorted.iter_mut().zip(pairs) {
                    *sorted = pair[0];
                }
                last.copy_from_slice(rest);
            }
            _ => {
                for (sorted, &value) in sorted
                    .iter_mut()
                    .zip(row.iter().skip(first).step_by(stride))
                {
                    *sorted = value;
                }
            }
        }
    }
}

/// The row of a sorted one.
#[inline(always)]
fn unsort<R: Copy>(sorted: &[R], row: &mut [R], pooling: &Pooling, phase_len: usize) {
    let [_, stride] = pooling.strides;
    let of_phase = |phase| {
        let (first, start, count) = columns_of_phase(pooling, phase_len, phase);
        (first, &sorted[start..][..count])
    };
    match stride {
        1 => row.copy_from_slice(of_phase(0).1),
        2 => {
            let [even, odd] = match (of_phase(0), of_phase(1)) {
                ((0, even), (_, odd)) | ((_, odd), (0, even)) => [even, odd],
                _ => unreachable!("one of two phases has column 0"),
            };
            let (pairs, rest) = row.as_chunks_mut::<2>();
            for ((pair, &even), &odd) in pairs.iter_mut().zip(even).zip(odd) {
                *pair = [even, odd];
            }
            rest.copy_from_slice(&even[odd.len()..]);
        }
        _ => {
            for phase in 0..stride {
                let (first, values) = of_phase(phase);
                for (value, &sorted) in row.iter_mut().skip(first).step_by(stride).zip(values) {
                    *value = sorted;
                }
            }
        }
    }
}
