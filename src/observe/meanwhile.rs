//! Work for a core that is idle meanwhile.

use std::fmt::{Debug, Formatter, Result};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Work<T> = Box<dyn FnOnce() -> T + Send>;

/// The result of some work, which a thread of rayon does if one is free, and otherwise whoever needs the result.
///
/// So nobody waits for work that has not begun: not even on the only thread of a pool.
pub(super) struct Meanwhile<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// Taken by whoever does it.
    work: Mutex<Option<Work<T>>>,
    result: OnceLock<T>,
}

impl<T> Meanwhile<T> {
    /// A result that is there already.
    pub(super) fn done(result: T) -> Self {
        Self(Arc::new(Shared {
            work: Mutex::new(None),
            result: result.into(),
        }))
    }

    /// The result. Does the work, or waits for who does it.
    pub(super) fn get(&self) -> &T {
        self.0.work();
        self.0.result.wait()
    }
}

impl<T: Send + Sync + 'static> Meanwhile<T> {
    /// Hands over some work. It must not depend on the thread that does it.
    pub(super) fn start(work: impl FnOnce() -> T + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            work: Mutex::new(Some(Box::new(work) as Work<T>)),
            result: OnceLock::new(),
        });
        let other = shared.clone();
        rayon::spawn(move || other.work());
        Self(shared)
    }
}

impl<T> Shared<T> {
    /// Does the work, unless somebody has begun it.
    fn work(&self) {
        let work = self.work.lock();
        let work = work.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(work) = work {
            // Only who has the work sets the result.
            let _ = self.result.set(work());
        }
    }
}

impl<T: Debug> Debug for Meanwhile<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        self.0.result.fmt(f)
    }
}
