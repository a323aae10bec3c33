//! Memory for the outputs of an operation.
//!
//! malloc keeps freed memory only up to a threshold. Beyond it, the memory goes back to the operating system, which
//! hands it out again page by page and zeroes each page first. This takes several times as long as all of the
//! arithmetic, and a training step, which frees all its outputs at once, always exceeds the threshold. So the memory
//! of a large output comes from a pool and returns to it when the tensor is dropped: from its second step on, training
//! takes no new memory.
//!
//! The pool belongs to the process, because a tensor may be dropped on any thread. It never affects a result: memory is
//! written completely before it is read. Free and lent memory together never exceed the most that was in use so far.
//! After some steps that need less, they are at most twice what those steps need. (Offering free blocks to the
//! operating system with `MADV_FREE` costs nothing if it has huge pages. If it has none, it costs as much as one of the
//! kernels here.)

use burn::tensor::{AllocationProperty, Bytes, Element};
use burn_std::{AccessError, AccessPolicy, AllocationController};
use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory of at least this many bytes comes from the pool. From this size on, malloc initially asks the operating
/// system for each request.
const POOLED: usize = 128 << 10;

/// Lets `write` fill memory for `len` values, from the pool or, if they are few, from malloc. Returns the memory and
/// the result of `write`.
///
/// # Safety
///
/// `write` must write `len` values at the address that it gets, without reading them before.
pub(super) unsafe fn written<T: Element, R>(
    len: usize,
    write: impl FnOnce(*mut T) -> R,
) -> (Bytes, R) {
    let size = len * size_of::<T>();
    if size < POOLED {
        let mut values = Vec::with_capacity(len);
        let result = write(values.as_mut_ptr());
        // SAFETY: there is room for `len` values, and they are written, as the caller promises.
        unsafe { values.set_len(len) };
        return (Bytes::from_elems(values), result);
    }
    let lent = Box::new(Lent(Some(pool().take(size))));
    let result = write(lent.block().start.as_ptr().cast());
    // SAFETY: the block is of at least `size` bytes, and they are written, as the caller promises.
    (unsafe { Bytes::from_controller(lent, size) }, result)
}

/// Frees the blocks that are not lent.
pub(in crate::norm) fn release() {
    pool().shrink(0);
}

/// Sets the most bytes that free blocks may have together.
pub(in crate::norm) fn limit(bytes: usize) {
    let mut pool = pool();
    pool.keep = bytes;
    pool.shrink(bytes);
}

/// Memory from a single allocation.
struct Block {
    start: NonNull<u8>,
    size: usize,
}

// SAFETY: a block owns its memory, as a `Box<[MaybeUninit<u8>]>` does.
unsafe impl Send for Block {}
unsafe impl Sync for Block {}

impl Block {
    /// The size of a huge page on most processors. Blocks of at least this size ask for huge pages.
    const HUGE_PAGE: usize = 2 << 20;

    fn new(size: usize) -> Self {
        let layout = Self::layout(size);
        // SAFETY: the size is not zero, see `written`.
        let start = unsafe { std::alloc::alloc(layout) };
        let Some(start) = NonNull::new(start) else {
            std::alloc::handle_alloc_error(layout)
        };
        #[cfg(target_os = "linux")]
        if size >= Self::HUGE_PAGE {
            // SAFETY: the range is the block's and starts at a page, and the advice does not change what memory holds.
            // If the system does not know or take the advice, only time is lost, so the result does not matter.
            unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE) };
        }
        Self { start, size }
    }

    fn layout(size: usize) -> Layout {
        let align = if size < Self::HUGE_PAGE {
            64
        } else {
            Self::HUGE_PAGE
        };
        Layout::from_size_align(size, align).expect("a tensor's size is a valid size of memory")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and freed nowhere else.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Self::layout(self.size)) };
    }
}

/// The free blocks, and how much memory is in use.
struct Pool {
    /// The free blocks, in the order in which they came back.
    free: Vec<Block>,
    /// Bytes that are lent.
    lent: usize,
    /// The most bytes lent since all blocks were last free.
    most: usize,
    /// The most that free and lent bytes may reach together. Falls by a sixteenth each time that all blocks are free.
    limit: usize,
    /// The most that free bytes may reach.
    keep: usize,
}

impl Pool {
    const fn new() -> Self {
        Self {
            free: Vec::new(),
            lent: 0,
            most: 0,
            limit: 0,
            keep: usize::MAX,
        }
    }
}

fn pool() -> MutexGuard<'static, Pool> {
    static POOL: Mutex<Pool> = Mutex::new(Pool::new());
    // No code that holds the lock leaves the pool half changed.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Takes the smallest free block of at least `size` bytes; of several, the last to come back. If the smallest is
    /// more than twice as large, takes a new block.
    fn take(&mut self, size: usize) -> Block {
        let fitting = (self.free.iter().enumerate().rev())
            .filter(|(_, block)| (size..=2 * size).contains(&block.size))
            .min_by_key(|(_, block)| block.size)
            .map(|(index, _)| index);
        let block = match fitting {
            Some(index) => self.free.remove(index),
            None => {
                self.shrink(self.limit.saturating_sub(self.lent + size));
                Block::new(size)
            }
        };
        self.lent += block.size;
        self.most = self.most.max(self.lent);
        self.limit = self.limit.max(self.lent);
        block
    }

    fn give_back(&mut self, block: Block) {
        self.lent -= block.size;
        self.free.push(block);
        if self.free() > self.keep {
            self.shrink(self.keep);
        }
        if self.lent == 0 {
            self.limit = self.most.max(self.limit - self.limit.div_ceil(16));
            self.most = 0;
            if self.free() > 2 * self.limit {
                self.shrink(self.limit);
            }
        }
    }

    /// Bytes that are free.
    fn free(&self) -> usize {
        self.free.iter().map(|block| block.size).sum()
    }

    /// Frees blocks, in the order in which they came back, until at most `size` bytes are free.
    fn shrink(&mut self, size: usize) {
        let mut free = self.free();
        let surplus = self.free.iter().take_while(|block| {
            let over = free > size;
            free -= block.size;
            over
        });
        let surplus = surplus.count();
        self.free.drain(..surplus);
    }
}

/// A block that a tensor holds. It returns to the pool when the tensor is dropped.
struct Lent(Option<Block>);

impl Lent {
    fn block(&self) -> &Block {
        self.0.as_ref().expect("a block is lent until the drop")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(block) = self.0.take() {
            pool().give_back(block);
        }
    }
}

impl AllocationController for Lent {
    fn alloc_align(&self) -> usize {
        // An alignment that suits every value. Copies are made with it too.
        align_of::<u128>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Native
    }

    unsafe fn memory_mut(
        &mut self,
        _policy: AccessPolicy,
    ) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let block = self.block();
        // SAFETY: the block's memory, which nobody else reaches while this is borrowed.
        Ok(unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr().cast(), block.size) })
    }

    fn memory(&self, _policy: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        let block = self.block();
        // SAFETY: the block's memory, which nobody writes while this is borrowed.
        Ok(unsafe { std::slice::from_raw_parts(block.start.as_ptr().cast(), block.size) })
    }
}

/// Tests here, because what the pool holds cannot be seen from outside.
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_no_more_than_was_once_in_use(
            steps in prop::collection::vec((any::<bool>(), 1_usize..5000, any::<usize>()), 1..200)
        ) {
            let mut pool = Pool::new();
            let mut lent: Vec<Block> = Vec::new();
            let mut peak = 0;
            for (take, size, index) in steps {
                if take || lent.is_empty() {
                    let block = pool.take(size);
                    prop_assert!((size..=2 * size).contains(&block.size));
                    lent.push(block);
                } else {
                    pool.give_back(lent.swap_remove(index % lent.len()));
                }
                let in_use: usize = lent.iter().map(|block| block.size).sum();
                let free = pool.free();
                peak = peak.max(in_use);
                prop_assert!(in_use + free <= peak);
            }
        }

        #[test]
        fn holds_no_more_free_memory_than_the_limit(
            sizes in prop::collection::vec(1_usize..5000, 1..20), keep in 0_usize..20_000
        ) {
            let mut pool = Pool::new();
            pool.keep = keep;
            let blocks: Vec<Block> = sizes.iter().map(|&size| pool.take(size)).collect();
            for block in blocks {
                pool.give_back(block);
                prop_assert!(pool.free() <= keep);
            }
            pool.shrink(0);
            prop_assert_eq!(pool.free(), 0);
        }

        #[test]
        fn a_step_like_the_one_before_takes_no_new_memory(
            sizes in prop::collection::vec(1_usize..5000, 1..20)
        ) {
            let mut pool = Pool::new();
            let mut starts = Vec::new();
            for _ in 0..3 {
                let step: Vec<Block> = sizes.iter().map(|&size| pool.take(size)).collect();
                let mut found: Vec<_> = step.iter().map(|block| block.start).collect();
                found.sort();
                if !starts.is_empty() {
                    prop_assert_eq!(&found, &starts);
                }
                starts = found;
                step.into_iter().for_each(|block| pool.give_back(block));
            }
        }

        #[test]
        fn memory_of_a_large_step_is_given_back(large in 1_usize..1_000_000, small in 1_usize..1000) {
            let mut pool = Pool::new();
            let block = pool.take(large);
            pool.give_back(block);
            for _ in 0..16 * 20 {
                let block = pool.take(small);
                pool.give_back(block);
            }
            // A lent block may be twice as large as requested.
            prop_assert!(pool.free() <= 2 * 2 * small);
        }
    }
}
