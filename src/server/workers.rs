//! One runtime for each core, each with a thread, a clock and a poller of its own.
//!
//! A connection stays on the thread it was given to, and so does what it asks of apps: nothing
//! is handed from one core to another on the way of a request. Whoever has the fewest
//! connections gets the next.

use std::{
    future::Future,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// The workers of one server. They end with it.
pub(super) struct Workers(Arc<[Worker]>);

struct Worker {
    handle: Handle,
    connections: AtomicUsize,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

/// A connection in its worker's count.
struct Counted {
    workers: Arc<[Worker]>,
    at: usize,
}

impl Workers {
    /// As many as there are cores for this process.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).map(Worker::start).collect::<io::Result<Vec<_>>>().map(|workers| Self(workers.into()))
    }

    /// Has the worker with the fewest connections serve another.
    pub(super) fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let load = |worker: &Worker| worker.connections.load(Ordering::Relaxed);
        let at = (0..self.0.len()).min_by_key(|at| load(&self.0[*at])).unwrap_or_default();
        self.0[at].connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted { workers: Arc::clone(&self.0), at };
        self.0[at].handle.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

impl Worker {
    fn start(at: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name(format!("serve-{at}"));
        let thread = thread.spawn(move || {
            // Nobody sends: it ends when the server does.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, connections: AtomicUsize::new(0), _end: end, _thread: thread })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.workers[self.at].connections.fetch_sub(1, Ordering::Relaxed);
    }
}
