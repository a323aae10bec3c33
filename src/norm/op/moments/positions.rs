//! Which values of a batch count.

use std::ops::Range;
use std::sync::Arc;

/// Which values of a tensor `[batch, channels, ...]` count, the same for all channels.
#[derive(Clone, Debug, Default)]
pub struct Positions(Option<Arc<Marked>>);

#[derive(Debug)]
struct Marked {
    /// The runs of positions that count, of `batch` times the trailing axes, in row-major order.
    #[cfg_attr(not(feature = "cpu-kernels"), allow(dead_code))]
    runs: Vec<Range<usize>>,
    count: usize,
}

impl Positions {
    /// Those that are marked, of `batch` times the trailing axes in row-major order.
    pub fn new(marks: impl IntoIterator<Item = bool>) -> Self {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let mut count = 0;
        for (at, marked) in marks.into_iter().enumerate() {
            if !marked {
                continue;
            }
            count += 1;
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        Self(Some(Arc::new(Marked { runs, count })))
    }

    /// The number that count, of `all`.
    pub(super) fn count(&self, all: usize) -> usize {
        self.0.as_ref().map_or(all, |marked| marked.count)
    }

    /// The runs of positions that count; `None` if all do.
    #[cfg(feature = "cpu-kernels")]
    pub(in crate::norm::op) fn runs(&self) -> Option<&[Range<usize>]> {
        self.0.as_ref().map(|marked| &marked.runs[..])
    }
}
