//! Memory for what an operation writes.

/// Room for `len` values, none of them initialised: the kernels write every one, and to fill the room first would cost
/// as much as they do.
pub(super) fn room<T>(len: usize) -> Vec<T> {
    let room = Vec::with_capacity(len);
    ask_for_huge_pages(&room);
    room
}

/// Lets the kernel of Linux back a large piece of memory by huge pages.
///
/// Memory of this size comes from the kernel at every allocation and goes back at every release. Handing it out in
/// pages of 4 KiB takes longer than all of the arithmetic; in pages of 2 MiB, a fraction of it.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages<T>(room: &Vec<T>) {
    /// The size of allocations from which glibc's malloc asks the kernel each time.
    const LARGE: usize = 4 << 20;
    /// Advice is given in whole pages.
    const PAGE: usize = 4 << 10;

    let bytes = room.capacity() * size_of::<T>();
    if bytes >= LARGE {
        let first = (room.as_ptr() as usize).next_multiple_of(PAGE);
        let last = (room.as_ptr() as usize + bytes) / PAGE * PAGE;
        // SAFETY: the range lies within an allocation of ours, and this advice changes no contents. Where pages are
        // larger than assumed or advice is not taken, the call fails and nothing is lost.
        unsafe { libc::madvise(first as *mut _, last - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages<T>(_room: &Vec<T>) {}
