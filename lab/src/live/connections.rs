//! Bounds on connections.
//!
//! A connection is a stranger until it has shown the token. Few strangers are allowed at once: another one ends the
//! oldest, so a client that opens a thousand connections and sends nothing competes only with itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The most connections that have not shown the token.
const STRANGERS: usize = 64;
/// The most that have.
const KNOWN: usize = 64;

/// The open connections.
#[derive(Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    strangers: VecDeque<(u64, AbortHandle)>,
    known: VecDeque<(u64, AbortHandle)>,
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next connection.
    pub fn number(&self) -> u64 {
        let mut open = self.open();
        open.next += 1;
        open.next
    }

    /// A connection was opened.
    pub fn opened(&self, number: u64, task: AbortHandle) {
        let open = &mut *self.open();
        open.strangers.push_back((number, task));
        bound(&mut open.strangers, STRANGERS);
    }

    /// A connection has shown the token.
    pub fn known(&self, number: u64) {
        let open = &mut *self.open();
        if let Some(place) = open.strangers.iter().position(|it| it.0 == number) {
            open.known.extend(open.strangers.remove(place));
            bound(&mut open.known, KNOWN);
        }
    }
}

/// Forgets the connections that have ended and, if there are still too many, ends the oldest.
fn bound(connections: &mut VecDeque<(u64, AbortHandle)>, most: usize) {
    if connections.len() > most {
        connections.retain(|(_, task)| !task.is_finished());
    }
    while connections.len() > most {
        if let Some((_, task)) = connections.pop_front() {
            task.abort();
        }
    }
}
