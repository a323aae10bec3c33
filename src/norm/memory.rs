//! The memory that batch norm keeps on the Flex backend.
//!
//! The outputs and gradients of a step are large, and the operating system takes time to hand out memory of their size.
//! So on Flex, the memory of a dropped output is kept for the next one of about its size. What this saves is in the
//! repository's `docs/benchmarks.md`: most where the system has no huge pages.
//!
//! Kept and used memory together never exceed the most that outputs have used so far. After some smaller steps, they
//! are at most twice what those use. To evaluate a small batch after training on large ones, or to lend the memory to
//! something else, [release](release()) it or [limit] it. Other backends manage their memory themselves, and both
//! functions do nothing there.
//!
//! ```
//! use burn_kindling::norm::memory;
//!
//! memory::limit(256 << 20); // keep at most 256 MiB
//! memory::release(); // and free what is kept now
//! ```

/// Frees the memory that is kept and not in use.
pub fn release() {
    #[cfg(feature = "flex")]
    super::op::cpu::memory::release();
}

/// Sets the most memory to keep that is not in use, in bytes, for the whole process. 0 keeps none: every output then
/// takes new memory. There is no limit by default.
pub fn limit(bytes: usize) {
    #[cfg(feature = "flex")]
    super::op::cpu::memory::limit(bytes);
    #[cfg(not(feature = "flex"))]
    let _ = bytes;
}
