//! Context for everything that a closure calls: a norm's mode, a recalibration, an observer.
//!
//! A model's forward pass has no argument for these, so they are kept per thread. That alone would be wrong on a worker
//! of rayon: while a kernel waits there, the worker runs *other* jobs, which would see the context too. So
//! [`run`] distinguishes two cases:
//!
//! - **On a worker of rayon**, the closure runs on a new thread, the only worker of a new pool. All jobs in that pool
//!   are the closure's. The calling worker waits without running other jobs, so at most one such thread exists per
//!   worker, however many jobs are queued. The price: up to 1 ms per call, and rayon uses one thread within.
//! - **On any other thread**, the closure runs on that thread, which runs no other jobs while it waits.
//!
//! Contexts nest. A new thread inherits the contexts of its caller.
//!
//! Jobs that the closure itself hands to other threads do not see the context, unless they run on the closure's thread.
//! On a worker of rayon they all do. So a job must not rely on either; it calls `run` itself.

use std::any::Any;
use std::cell::RefCell;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use burn::tensor::StreamId;

/// A context, and the contexts around it.
struct Frame {
    context: Arc<dyn Any + Send + Sync>,
    outer: Option<Arc<Frame>>,
}

thread_local! {
    static INNERMOST: RefCell<Option<Arc<Frame>>> = const { RefCell::new(None) };
}

/// Calls `f`. Inside it, [`innermost`] returns `context`.
///
/// # Panics
///
/// Panics if `f` panics, or on a worker of rayon if the system refuses another thread.
pub(crate) fn run<C, T>(context: Arc<C>, f: impl FnOnce() -> T + Send) -> T
where
    C: Any + Send + Sync,
    T: Send,
{
    let frame = Arc::new(Frame {
        context,
        outer: INNERMOST.with_borrow(Clone::clone),
    });
    match rayon::current_thread_index() {
        None => within(frame, f),
        Some(_) => on_new_thread(|| within(frame, f)),
    }
}

/// The context of type `C` from the innermost [`run`] around the caller.
pub(crate) fn innermost<C: Any + Send + Sync>() -> Option<Arc<C>> {
    let mut next = INNERMOST.with_borrow(Clone::clone);
    while let Some(frame) = next {
        if let Ok(context) = frame.context.clone().downcast() {
            return Some(context);
        }
        next = frame.outer.clone();
    }
    None
}

/// Calls `f` with the frame on this thread. Restores the previous frame afterwards, even if `f` panics.
fn within<T>(frame: Arc<Frame>, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arc<Frame>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            INNERMOST.set(self.0.take());
        }
    }
    let _restore = Restore(INNERMOST.replace(Some(frame)));
    f()
}

/// Calls `f` on the only thread of a new rayon pool, in the caller's stream of operations.
fn on_new_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    let stream = StreamId::current();
    // `install` on a worker would run other jobs while it waits. `join` does not.
    let call = || {
        rayon::ThreadPoolBuilder::new().num_threads(1).build_scoped(
            |thread| thread.run(),
            |pool| pool.install(|| stream.executes(f)),
        )
    };
    match thread::scope(|threads| threads.spawn(call).join()) {
        Ok(output) => output.expect("the system should have room for another thread"),
        Err(panic) => resume_unwind(panic),
    }
}
