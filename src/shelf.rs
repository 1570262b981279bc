//! What each thread keeps for itself: connections that wait for their next use.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that have shelves of their own; more share.
pub const SHELVES: usize = 16;

/// Which of [`SHELVES`] is this thread's: a connection that its own poller watches is spared the
/// way to another.
pub fn shelf() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static AT: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHELVES;
    }
    AT.with(|at| *at)
}
