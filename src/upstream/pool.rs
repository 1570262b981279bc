//! Connections to one target: those that wait for a request, and one that HTTP/2 shares.
//!
//! A connection of HTTP/1 is driven by the task whose request it carries, and by nobody while
//! it waits: no task of its own, and no message from one to another. Whether a target has ended
//! it meanwhile is seen when it is taken again.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep};

use super::{
    connect::{Connector, Unconnected},
    sent::Lent,
    target::Target,
};
use crate::config::Protocol;

/// How long a connection waits for a request.
const KEPT: Duration = Duration::from_secs(60);
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
/// Pings, so that a dead target is found out.
const PING: Duration = Duration::from_secs(20);

/// The connections to one target: each thread has its own, so that no request waits for another
/// thread's poller.
pub(super) struct Pool([Shelf; SHELVES]);

/// What one thread has.
#[derive(Default)]
struct Shelf {
    waiting: Mutex<Vec<One>>,
    shared: tokio::sync::Mutex<Vec<Shared>>,
}

/// A connection of HTTP/2, and its streams: as many as there are others who hold this.
struct Shared {
    sender: http2::SendRequest<Lent>,
    streams: Stream,
}

/// Held by a request as long as its stream is open.
pub(super) type Stream = Arc<()>;

/// A connection of HTTP/1, for one request at a time.
pub(super) struct One {
    pub(super) sender: http1::SendRequest<Lent>,
    /// There until it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// Moved only when it has run out: most requests are over long before.
    pub(super) timer: Pin<Box<Sleep>>,
    /// Whether the task whose request it carries has had its waker put into both of these.
    pub(super) watched: bool,
    /// Resolves when the target's requests are to end.
    pub(super) cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    since: Instant,
}

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
                    return Ok(Taken::One(one.into()));
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
        let now = Instant::now();
        let one = One {
            sender,
            connection: Some(if wants == Wants::Switching {
                Box::pin(connection.with_upgrades())
            } else {
                Box::pin(connection)
            }),
            timer: Box::pin(tokio::time::sleep(connector.idle)),
            watched: false,
            cut: Box::pin(target.cut_asked()),
            since: now,
        };
        Ok(Taken::One(one.into()))
    }

    fn pop(&self) -> Option<One> {
        self.0[shelf()].waiting().pop()
    }

    async fn share(&self, target: &Target, connector: &Connector) -> Result<Taken, Unconnected> {
        let mut shared = self.0[shelf()].shared.lock().await;
        shared.retain(|shared| !shared.sender.is_closed());
        let open = shared.len();
        let free = |shared: &&Shared| Arc::strong_count(&shared.streams) <= STREAMS || open >= MOST_SHARED;
        if let Some(shared) = shared.iter().filter(free).min_by_key(|shared| Arc::strong_count(&shared.streams)) {
            return Ok(Taken::Shared(shared.sender.clone(), Arc::clone(&shared.streams)));
        }
        let link = connector.connect(target).await?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_STREAM)
            .initial_connection_window_size(HTTP2_CONNECTION)
            .max_header_list_size(HTTP2_HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (sender, connection) = builder
            .handshake(TokioIo::new(link))
            .await
            .map_err(|error| Unconnected::new(&crate::fault::chain(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a target ended");
            }
        });
        let streams = Stream::default();
        shared.push(Shared { sender: sender.clone(), streams: Arc::clone(&streams) });
        Ok(Taken::Shared(sender, streams))
    }

    /// Has `one` wait for the next request, if it can carry one.
    pub(super) fn give_back(&self, mut one: One) {
        if !one.is_good() {
            return;
        }
        one.since = Instant::now();
        one.watched = false;
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

    /// Lets go of what has waited for too long, and of what the target has ended.
    pub(super) fn tidy(&self) {
        for shelf in &self.0 {
            let waiting = std::mem::take(&mut *shelf.waiting());
            let mut good: Vec<One> = waiting.into_iter().filter_map(|mut one| one.is_good().then_some(one)).collect();
            let mut waiting = shelf.waiting();
            // Those that came back meanwhile have been used last, and are taken first.
            good.append(&mut waiting);
            good.truncate(MOST_KEPT);
            *waiting = good;
        }
    }
}

impl Shelf {
    fn waiting(&self) -> MutexGuard<'_, Vec<One>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl One {
    /// Has the timer run out no later than `due`: earlier is looked at, and set right.
    pub(super) fn due_by(&mut self, due: Instant) {
        if self.timer.deadline() > due {
            self.timer.as_mut().reset(due);
        }
    }

    /// Goes on with whatever the connection has to do.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(ended) = connection.as_mut().poll(cx)
        {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to a target ended");
            }
            self.connection = None;
        }
    }

    /// Whether it can carry a request.
    fn is_good(&mut self) -> bool {
        if self.since.elapsed() > KEPT {
            return false;
        }
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Has the connection go on by itself: another protocol will be spoken on it.
    pub(super) fn let_go(self) {
        if let Some(connection) = self.connection {
            tokio::spawn(connection);
        }
    }
}
