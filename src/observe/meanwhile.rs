//! Work for a core that is idle meanwhile.

use std::fmt::{self, Debug, Formatter};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Work<T> = Box<dyn FnOnce() -> Result<T, Rest<T>> + Send>;

/// What is left to whoever needs the result.
pub(super) type Rest<T> = Box<dyn FnOnce() -> T + Send>;

/// The result of some work, which a thread of rayon does if one is free, and otherwise whoever needs the result.
///
/// So nobody waits for work that has not begun: not even on the only thread of a pool.
pub(super) struct Meanwhile<T>(Arc<Shared<T>>);

struct Shared<T> {
    /// Taken by whoever does it.
    work: Mutex<Option<Work<T>>>,
    outcome: OnceLock<Outcome<T>>,
}

enum Outcome<T> {
    Done(T),
    /// Of the rest, which is taken by whoever does it. There is none if the work panicked, which has printed why.
    Left(Mutex<Option<Rest<T>>>, OnceLock<T>),
}

impl<T> Meanwhile<T> {
    /// A result that is there already.
    pub(super) fn done(result: T) -> Self {
        Self(Arc::new(Shared {
            work: Mutex::new(None),
            outcome: Outcome::Done(result).into(),
        }))
    }

    /// The result. Does the work, or waits for who does it, and then does the rest.
    ///
    /// # Panics
    ///
    /// If the work or the rest panics.
    pub(super) fn get(&self) -> &T {
        self.0.work();
        match self.0.outcome.wait() {
            Outcome::Done(result) => result,
            Outcome::Left(rest, result) => result.get_or_init(|| {
                let rest = take(rest).expect("the statistics of a tensor were computed");
                rest()
            }),
        }
    }
}

impl<T: Send + Sync + 'static> Meanwhile<T> {
    /// Hands over some work. It must not depend on the thread that does it.
    ///
    /// It must not share its work with other threads either, as tensor operations do: while they wait, rayon may run a
    /// job that needs this very result. It leaves that as the rest.
    pub(super) fn start(work: impl FnOnce() -> Result<T, Rest<T>> + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            work: Mutex::new(Some(Box::new(work) as Work<T>)),
            outcome: OnceLock::new(),
        });
        let other = shared.clone();
        rayon::spawn(move || other.work());
        Self(shared)
    }
}

impl<T> Shared<T> {
    /// Does the work, unless somebody has begun it.
    fn work(&self) {
        let Some(work) = take(&self.work) else {
            return;
        };
        // A panic on a thread of rayon would end the process.
        let outcome = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(result)) => Outcome::Done(result),
            Ok(Err(rest)) => Outcome::Left(Mutex::new(Some(rest)), OnceLock::new()),
            Err(_) => Outcome::Left(Mutex::new(None), OnceLock::new()),
        };
        // Only who has the work sets the outcome.
        let _ = self.outcome.set(outcome);
    }
}

fn take<T>(once: &Mutex<Option<T>>) -> Option<T> {
    once.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<T: Debug> Debug for Meanwhile<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.outcome.get() {
            Some(Outcome::Done(result)) => result.fmt(f),
            Some(Outcome::Left(_, result)) => result.fmt(f),
            None => f.write_str("not yet"),
        }
    }
}
