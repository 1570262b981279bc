//! Records on their way: many at a time, for whoever waits until they are durable.
//!
//! What came while others were written goes together: one transaction, and one `fsync`, for all
//! who wait (group commit). While the database is away they go into the spool, where there is one;
//! and so they do until all that is in there has been replayed, so that their order stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Mutex, mpsc, oneshot};

use super::{Away, pool::Pool, rows, spool::Spool};
use crate::{config::Engine, index::Record, metrics::Metrics};

/// How many may wait to be written down.
const WAITING: usize = 1024;
/// How many go together at most.
const TOGETHER: usize = 256;
/// How many are worth a transaction where more are coming, and how long is waited for those.
const WORTH: usize = 16;
const GATHERING: Duration = Duration::from_millis(1);
/// Transactions at once, where the database can.
const WRITERS: usize = 4;

struct Waiting {
    record: Record,
    done: oneshot::Sender<Result<(), Away>>,
}

/// Writes down what is told, until durable.
#[derive(Debug)]
pub(super) struct Writer {
    waiting: mpsc::Sender<Waiting>,
    come: Mutex<Option<mpsc::Receiver<Waiting>>>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let (waiting, come) = mpsc::channel(WAITING);
        Self { waiting, come: Mutex::new(Some(come)) }
    }

    pub(super) async fn write(&self, record: Record) -> Result<(), Away> {
        let (done, written) = oneshot::channel();
        let gone = || Away::new("the catalogue is ending");
        self.waiting.send(Waiting { record, done }).await.map_err(|_| gone())?;
        written.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Writes what comes, as long as it is polled.
    pub(super) async fn run(&self, pool: &Pool, spool: Option<&Arc<Spool>>, metrics: &Metrics) {
        let Some(come) = self.come.lock().await.take() else { return };
        // SQLite has one writer at a time.
        let writers = if pool.engine() == Engine::Sqlite { 1 } else { WRITERS };
        let come = Mutex::new(come);
        // Whether several came the last time.
        let crowd = AtomicBool::new(false);
        let writer = || async {
            loop {
                let mut batch = Vec::with_capacity(TOGETHER);
                let mut come = come.lock().await;
                if come.recv_many(&mut batch, TOGETHER).await == 0 {
                    return;
                }
                if crowd.load(Ordering::Relaxed) && batch.len() < WORTH {
                    // Others are on their way: a transaction costs as much as many records.
                    tokio::time::sleep(GATHERING).await;
                    while batch.len() < TOGETHER
                        && let Ok(one) = come.try_recv()
                    {
                        batch.push(one);
                    }
                }
                drop(come);
                crowd.store(batch.len() > 2, Ordering::Relaxed);
                let records: Vec<_> = batch.iter().map(|one| &one.record).collect();
                let written = write(pool, spool, &records).await;
                if written.as_ref().is_err_and(|away| !away.is_gone()) && batch.len() > 1 {
                    // One of them is no good, perhaps: the others must not suffer for it.
                    for one in batch {
                        let written = write(pool, spool, &[&one.record]).await;
                        count(metrics, &written, 1);
                        let _ = one.done.send(written.map(drop));
                    }
                    continue;
                }
                count(metrics, &written, records.len());
                for one in batch {
                    // Who has left meanwhile doesn't ask any more.
                    let _ = one.done.send(written.clone().map(drop));
                }
            }
        };
        futures_util::future::join_all((0..writers).map(|_| writer())).await;
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
