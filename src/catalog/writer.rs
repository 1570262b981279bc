//! Records on their way: many at a time, for whoever waits until they are durable.
//!
//! What came while others were written goes together: one transaction, and one `fsync`, for all
//! who wait (group commit). While the database is away they go into the spool, where there is one;
//! and so they do until all that is in there has been replayed, so that their order stays.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Away, pool::Pool, rows, spool::Spool};
use crate::{config::Engine, index::Record, metrics::Metrics};

/// How many may wait to be written down.
const WAITING: usize = 1024;
/// How many go together at most.
const TOGETHER: usize = 256;
/// Transactions at once, where the database can, and how many records are worth another one.
const AT_ONCE: usize = 2;
const WORTH: usize = 64;
/// What has been written for so long may wait for something: others needn't.
const SLOW: Duration = Duration::from_millis(50);

struct Waiting {
    record: Record,
    done: oneshot::Sender<Result<(), Away>>,
    _room: OwnedSemaphorePermit,
}

/// Writes down what is told, until durable.
///
/// Nobody stands ready for that: who brings a record while nobody writes has all written down
/// that has come, and those who come meanwhile find it at work. So a record costs no way to
/// another thread, and those that came in the same moment go together.
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    pool: Arc<Pool>,
    spool: Option<Arc<Spool>>,
    metrics: Metrics,
    room: Arc<Semaphore>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many are at work on it, and since when the last of them has what it took.
    rounds: usize,
    taken: Option<Instant>,
}

impl Writer {
    pub(super) fn new(pool: Arc<Pool>, spool: Option<Arc<Spool>>, metrics: Metrics) -> Self {
        let room = Arc::new(Semaphore::new(WAITING));
        Self(Arc::new(Shared { pool, spool, metrics, room, queue: Mutex::default() }))
    }

    pub(super) async fn write(&self, record: Record) -> Result<(), Away> {
        let gone = || Away::new("the catalogue is ending");
        let room = Arc::clone(&self.0.room).acquire_owned().await.map_err(|_| gone())?;
        let (done, written) = oneshot::channel();
        if self.0.push(Waiting { record, done, _room: room }) {
            // By a task of its own, since who has brought the record may leave.
            tokio::spawn(Round { shared: Arc::clone(&self.0), over: false }.run());
        }
        written.await.unwrap_or_else(|_| Err(gone()))
    }
}

impl Shared {
    /// Whether somebody is to go to work.
    fn push(&self, one: Waiting) -> bool {
        // SQLite has one writer at a time.
        let most = if self.pool.engine() == Engine::Sqlite { 1 } else { AT_ONCE };
        let mut queue = self.queue();
        queue.waiting.push_back(one);
        let slow = queue.taken.is_some_and(|taken| taken.elapsed() > SLOW);
        let wanted = queue.rounds == 0 || (queue.rounds < most && (slow || queue.waiting.len() >= WORTH));
        queue.rounds += usize::from(wanted);
        wanted
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_down(&self, batch: Vec<Waiting>) {
        let (pool, spool) = (&self.pool, self.spool.as_ref());
        let records: Vec<_> = batch.iter().map(|one| &one.record).collect();
        let written = write(pool, spool, &records).await;
        if written.as_ref().is_err_and(|away| !away.is_gone()) && batch.len() > 1 {
            // One of them is no good, perhaps: the others must not suffer for it.
            for one in batch {
                let written = write(pool, spool, &[&one.record]).await;
                count(&self.metrics, &written, 1);
                let _ = one.done.send(written.map(drop));
            }
            return;
        }
        count(&self.metrics, &written, records.len());
        for one in batch {
            // Who has left meanwhile doesn't ask any more.
            let _ = one.done.send(written.clone().map(drop));
        }
    }
}

/// Who is at work on the queue.
struct Round {
    shared: Arc<Shared>,
    over: bool,
}

impl Round {
    async fn run(mut self) {
        while let Some(batch) = self.next() {
            self.shared.write_down(batch).await;
        }
    }

    /// What has come; where that is nothing, this round is over.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut queue = self.shared.queue();
        let together = queue.waiting.len().min(TOGETHER);
        if together == 0 {
            // In one with the look, so that whoever comes next knows to go to work.
            queue.rounds -= 1;
            self.over = true;
            return None;
        }
        queue.taken = Some(Instant::now());
        Some(queue.waiting.drain(..together).collect())
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Its runtime ends: nobody is to wait for what won't be done.
        let mut queue = self.shared.queue();
        queue.rounds -= 1;
        if queue.rounds == 0 {
            queue.waiting.clear();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

fn count(metrics: &Metrics, written: &Result<&'static str, Away>, records: usize) {
    let outcome = written.as_ref().copied().unwrap_or_else(|error| {
        tracing::error!(records, %error, "records can't be written down");
        "failed"
    });
    metrics.catalog_records.with_label_values(&[outcome]).inc_by(records as u64);
}

/// Whichever way is open.
async fn write(pool: &Pool, spool: Option<&Arc<Spool>>, records: &[&Record]) -> Result<&'static str, Away> {
    let Some(spool) = spool else { return rows::write(pool, records).await.map(|()| "written") };
    if pool.is_up() && spool.is_empty() {
        match rows::write(pool, records).await {
            Ok(()) => return Ok("written"),
            // Nor would it be taken later.
            Err(away) if !away.is_gone() => return Err(away),
            Err(_) => {}
        }
    }
    spool.append(records).await.map(|()| "spooled")
}
