//! How the work is shared among threads.

use std::sync::Mutex;

/// Runs a job for each item, on the calling thread and on the other threads of rayon's pool.
///
/// Rayon's iterators would hand over all items and wait, which wakes one more thread.
pub(super) fn share<T: Send>(items: impl Iterator<Item = T> + Send, job: impl Fn(T) + Sync) {
    let items = Mutex::new(items);
    let next = || items.lock().expect("no item is made by a panic").next();
    let work = || {
        while let Some(item) = next() {
            job(item);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 1..rayon::current_num_threads() {
            scope.spawn(|_| work());
        }
        work();
    });
}
