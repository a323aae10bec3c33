//! Memory for what an operation writes.

/// How long what is written will be held.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Held {
    /// Until the next layer has read it, as in inference.
    Shortly,
    /// Until the backward pass, together with what all other layers write, as in training.
    Long,
}

/// Room for `len` values, none of them initialised: the kernels write every one, and to fill the room first would cost
/// as much as they do.
pub(super) fn room<T>(len: usize, held: Held) -> Vec<T> {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if len * size_of::<T>() >= mapped::from(held) {
        return mapped::room(len);
    }
    let _ = held;
    Vec::with_capacity(len)
}

/// Large room under glibc.
///
/// What malloc gets back it keeps at hand only to a point; beyond, it returns memory to the kernel, which hands it out
/// again in pages of 4 KiB, each zeroed in an interrupt of its own. That takes several times as long as all of the
/// arithmetic, and a training step, which frees all that it wrote at once, is always beyond that point. So large room
/// is a mapping of its own, which is filled with pages of 2 MiB, by all threads at once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod mapped {
    use super::Held;
    use rayon::prelude::*;

    /// Requests from this size on are mappings of their own whatever malloc has learnt so far (its
    /// `DEFAULT_MMAP_THRESHOLD_MAX`). What of a mapping is not used takes up addresses, but no memory.
    const ALWAYS: usize = 32 << 20;
    /// From this size on, a mapping costs less than malloc does in training.
    const IN_TRAINING: usize = 4 << 20;
    const PAGE: usize = 4 << 10;
    const HUGE_PAGE: usize = 2 << 20;

    /// The size in bytes from which room is a mapping.
    pub fn from(held: Held) -> usize {
        match held {
            Held::Shortly => ALWAYS,
            Held::Long => IN_TRAINING,
        }
    }

    pub fn room<T>(len: usize) -> Vec<T> {
        let bytes = len * size_of::<T>();
        // With malloc's own words in front, rounded up to a page, the mapping is of whole huge pages: the kernel
        // aligns such a one.
        let capacity = (bytes.max(ALWAYS) + PAGE).next_multiple_of(HUGE_PAGE) - PAGE;
        let room = Vec::<T>::with_capacity(capacity / size_of::<T>());
        let start = room.as_ptr() as usize / PAGE * PAGE;
        advise(start, capacity, libc::MADV_HUGEPAGE);
        (start..start + bytes + 16)
            .into_par_iter()
            .step_by(HUGE_PAGE)
            .for_each(|page| {
                advise(
                    page,
                    HUGE_PAGE.min(start + bytes + 16 - page),
                    libc::MADV_POPULATE_WRITE,
                )
            });
        room
    }

    fn advise(start: usize, len: usize, advice: libc::c_int) {
        // SAFETY: the range begins in the page that the room begins in and ends in or before that in which it ends,
        // and neither advice changes what memory holds. Where one is not known or not taken nothing is lost but time,
        // so that the result does not matter.
        unsafe { libc::madvise(start as *mut _, len, advice) };
    }
}
