//! The numbers that the kernels need for each channel, in arrays from which blocks are taken.

use std::borrow::Cow;
use std::iter::repeat_n;

use super::blocks::{Line, Normalisation};
use super::value::Real;

/// Three numbers for each channel, or for each column of a row: those of a [`Normalisation`] or of a [`Line`].
///
/// Each of the three numbers has its own array, so that the numbers of neighbouring channels form a block.
#[derive(Clone)]
pub(super) struct PerChannel<R>([Vec<R>; 3]);

impl<R: Real> PerChannel<R> {
    pub fn new<N: Into<[R; 3]>>(channels: impl ExactSizeIterator<Item = N>) -> Self {
        let mut arrays = [(); 3].map(|()| Vec::with_capacity(channels.len()));
        for numbers in channels {
            for (array, number) in arrays.iter_mut().zip(numbers.into()) {
                array.push(number);
            }
        }
        Self(arrays)
    }

    /// Normalisations that only subtract a centre.
    pub fn about(centres: &[R]) -> Self {
        Self::new(centres.iter().map(|&centre| Normalisation {
            centre,
            scale: R::default(),
            shift: R::default(),
        }))
    }

    /// The lines that map deviations to outputs, for channels with these normalisations. With a slope of 1, they add a
    /// residual.
    pub fn lines(&self, slope: f64) -> Self {
        let [_, scale, shift] = &self.0;
        let slope = vec![R::from_f64(slope); scale.len()];
        Self([scale.clone(), slope, shift.clone()])
    }

    /// The numbers of each column, where a channel has `columns` in a row.
    pub fn of_columns(&self, columns: usize) -> Cow<'_, Self> {
        if columns == 1 {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self(self.0.each_ref().map(|array| {
            let mut repeated = Vec::with_capacity(array.len() * columns);
            for &number in array {
                repeated.extend(repeat_n(number, columns));
            }
            repeated
        })))
    }

    /// A block of the numbers of `L` neighbours from `at`.
    #[inline(always)]
    pub fn neighbours<const L: usize, N: From<[[R; L]; 3]>>(&self, at: usize) -> N {
        let block = |array: &[R]| {
            array[at..at + L]
                .try_into()
                .expect("a slice of L values is an array of L values")
        };
        [block(&self.0[0]), block(&self.0[1]), block(&self.0[2])].into()
    }

    /// A block of one channel's numbers in every lane.
    #[inline(always)]
    pub fn copies<const L: usize, N: From<[[R; L]; 3]>>(&self, channel: usize) -> N {
        [
            [self.0[0][channel]; L],
            [self.0[1][channel]; L],
            [self.0[2][channel]; L],
        ]
        .into()
    }
}

impl<R> From<[R; 3]> for Normalisation<R> {
    #[inline(always)]
    fn from([centre, scale, shift]: [R; 3]) -> Self {
        Self {
            centre,
            scale,
            shift,
        }
    }
}

impl<R> From<Normalisation<R>> for [R; 3] {
    fn from(it: Normalisation<R>) -> Self {
        [it.centre, it.scale, it.shift]
    }
}

impl<R> From<[R; 3]> for Line<R> {
    #[inline(always)]
    fn from([scale, slope, shift]: [R; 3]) -> Self {
        Self {
            scale,
            slope,
            shift,
        }
    }
}

impl<R> From<Line<R>> for [R; 3] {
    fn from(it: Line<R>) -> Self {
        [it.scale, it.slope, it.shift]
    }
}
