//! Connections to one target: those that wait for a request, and one that HTTP/2 shares.
//!
//! A connection of HTTP/1 is driven by the task whose request it carries, and by nobody while
//! it waits: no task of its own, and no message from one to another. Whether a target has ended
//! it meanwhile is seen when it is taken again.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::watch, time::Instant};

use super::{
    connect::{Connector, Unconnected},
    one::{Connection, KEPT, One},
    sent::Lent,
    target::Target,
};
use crate::config::Protocol;

/// Threads that have connections of their own; more share.
const SHELVES: usize = 16;
/// How many of those to one target, for each thread.
const MOST_KEPT: usize = 256;
/// What a target may have sent of a head, and of a body that nobody has read; bytes.
const HTTP1_BUFFER: usize = 128 << 10;
const HTTP2_STREAM: u32 = 256 << 10;
const HTTP2_CONNECTION: u32 = 16 << 20;
const HTTP2_HEAD: u32 = 64 << 10;
/// Streams on one connection before there is another, and connections to one target, for each
/// thread. Targets commonly take 100 or 128 at once.
const STREAMS: usize = 100;
const MOST_SHARED: usize = 16;
/// How many streams a target takes that hasn't said so yet.
const UNKNOWN: usize = 0;
/// Pings, so that a dead target is found out.
const PING: Duration = Duration::from_secs(20);

/// The connections to one target: each thread has its own, so that no request waits for another
/// thread's poller.
pub(super) struct Pool([Shelf; SHELVES]);

/// What one thread has.
#[derive(Default)]
struct Shelf {
    // Boxed, so that one that is taken and given back isn't moved about.
    #[allow(clippy::vec_box)]
    waiting: Mutex<Vec<Box<One>>>,
    shared: tokio::sync::Mutex<Vec<Shared>>,
}

/// A connection of HTTP/2, and its streams: as many as there are others who hold this.
struct Shared {
    sender: http2::SendRequest<Lent>,
    streams: Stream,
    /// How many the target takes at once.
    most: watch::Receiver<usize>,
    /// Since when there has been none, as far as anybody has looked.
    idle: Option<Instant>,
}

impl Shared {
    /// Another stream.
    fn stream(&mut self) -> Taken {
        self.idle = None;
        Taken::Shared(self.sender.clone(), Arc::clone(&self.streams))
    }

    /// Whether the target would take another stream at once, and we would send it.
    fn has_room(&self) -> bool {
        let most = match *self.most.borrow() {
            UNKNOWN => STREAMS,
            most => most.min(STREAMS),
        };
        // One is held here.
        Arc::strong_count(&self.streams) <= most
    }
}

/// Held by a request as long as its stream is open.
pub(super) type Stream = Arc<()>;

/// Which connection will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wants {
    /// Any.
    Any,
    /// A new one: one that had waited was no good.
    Fresh,
    /// A new one, on which another protocol may be spoken.
    Switching,
}

/// A connection for one request.
pub(super) enum Taken {
    /// Ours alone.
    One(Box<One>),
    /// A stream of one that others share.
    Shared(http2::SendRequest<Lent>, Stream),
}

impl Default for Pool {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Shelf::default()))
    }
}

/// Which shelf is this thread's.
fn shelf() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static AT: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHELVES;
    }
    AT.with(|at| *at)
}

impl Pool {
    /// A connection to `target`: one that waits, or a new one.
    pub(super) async fn take(
        &self,
        target: &Target,
        connector: &Connector,
        wants: Wants,
    ) -> Result<Taken, Unconnected> {
        if connector.protocol == Protocol::Http2 {
            // Whoever waits for another's attempt waits no longer than for one of its own.
            let sharing = tokio::time::timeout(2 * connector.timeout, self.share(target, connector));
            return sharing.await.unwrap_or_else(|_| Err(Unconnected::new("no connection in time")));
        }
        if wants == Wants::Any {
            while let Some(mut one) = self.pop() {
                if one.is_good() {
                    return Ok(Taken::One(one));
                }
            }
        }
        let link = connector.connect(target).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HTTP1_BUFFER);
        let (sender, connection) = builder
            .handshake(TokioIo::new(link))
            .await
            .map_err(|error| Unconnected::new(&crate::fault::chain(&error)))?;
        let connection: Connection =
            if wants == Wants::Switching { Box::pin(connection.with_upgrades()) } else { Box::pin(connection) };
        Ok(Taken::One(Box::new(One::new(sender, connection, target, connector.idle))))
    }

    fn pop(&self) -> Option<Box<One>> {
        self.0[shelf()].waiting().pop()
    }

    async fn share(&self, target: &Target, connector: &Connector) -> Result<Taken, Unconnected> {
        let mut shared = self.0[shelf()].shared.lock().await;
        shared.retain(|shared| !shared.sender.is_closed());
        let open = shared.len();
        let free = |shared: &&Shared| shared.has_room() || open >= MOST_SHARED;
        let least = |shared: &Shared| Arc::strong_count(&shared.streams);
        let at = (0..open).filter(|at| free(&&shared[*at])).min_by_key(|at| least(&shared[*at]));
        if let Some(at) = at {
            return Ok(shared[at].stream());
        }
        let link = match connector.connect(target).await {
            // It waits for its turn on one that is there, then.
            Err(unconnected) if unconnected.ours && open > 0 => {
                let at = (0..open).min_by_key(|at| least(&shared[*at])).unwrap_or_default();
                return Ok(shared[at].stream());
            }
            link => link?,
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            // Until the target has said how many it takes: it refuses those beyond.
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(HTTP2_STREAM)
            .initial_connection_window_size(HTTP2_CONNECTION)
            .max_header_list_size(HTTP2_HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (sender, connection) = builder
            .handshake(TokioIo::new(link))
            .await
            .map_err(|error| Unconnected::new(&crate::fault::chain(&error)))?;
        let (told, most) = watch::channel(UNKNOWN);
        let mut connection = Box::pin(connection);
        tokio::spawn(async move {
            let ended = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                let most = connection.current_max_send_streams();
                told.send_if_modified(|told| std::mem::replace(told, most) != most);
                ended
            });
            if let Err(error) = ended.await {
                tracing::debug!(%error, "a connection to a target ended");
            }
        });
        let streams = Stream::default();
        shared.push(Shared { sender: sender.clone(), streams: Arc::clone(&streams), most, idle: None });
        Ok(Taken::Shared(sender, streams))
    }

    /// Has `one` wait for the next request, if it can carry one.
    pub(super) fn give_back(&self, mut one: Box<One>) {
        if !one.is_good() {
            return;
        }
        one.rest();
        let mut waiting = self.0[shelf()].waiting();
        if waiting.len() < MOST_KEPT {
            waiting.push(one);
        }
    }

    /// Lets go of all that waits.
    pub(super) fn clear(&self) {
        for shelf in &self.0 {
            shelf.waiting().clear();
            // Streams that are open go on; whoever connects just now has one that nobody finds.
            if let Ok(mut shared) = shelf.shared.try_lock() {
                shared.clear();
            }
        }
    }

    /// Lets go of all that carries nothing.
    pub(super) fn spare(&self) {
        for shelf in &self.0 {
            shelf.waiting().clear();
            if let Ok(mut shared) = shelf.shared.try_lock() {
                shared.retain(|shared| Arc::strong_count(&shared.streams) > 1);
            }
        }
    }

    /// Lets go of what has waited for too long, and of what the target has ended.
    pub(super) fn tidy(&self) {
        for shelf in &self.0 {
            let waiting = std::mem::take(&mut *shelf.waiting());
            let mut good: Vec<_> = waiting.into_iter().filter_map(|mut one| one.is_good().then_some(one)).collect();
            let mut waiting = shelf.waiting();
            // Those that came back meanwhile have been used last, and are taken first.
            good.append(&mut waiting);
            good.drain(..good.len().saturating_sub(MOST_KEPT));
            *waiting = good;
            drop(waiting);
            // Somebody is at work on it just now: the next time, then.
            let Ok(mut shared) = shelf.shared.try_lock() else { continue };
            let now = Instant::now();
            shared.retain_mut(|shared| {
                let unused = Arc::strong_count(&shared.streams) == 1;
                shared.idle = unused.then(|| shared.idle.unwrap_or(now));
                !shared.sender.is_closed() && shared.idle.is_none_or(|since| since.elapsed() <= KEPT)
            });
        }
    }
}

impl Shelf {
    #[allow(clippy::vec_box)]
    fn waiting(&self) -> MutexGuard<'_, Vec<Box<One>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
