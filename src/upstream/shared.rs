//! A connection of HTTP/2 to a target, which requests share.
//!
//! What hyper can't send at once waits within it, and is lost when the target says goodbye. So
//! streams are counted here, and hyper is given none that the target wouldn't take at once.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{sync::Notify, time::Instant};

use super::{
    connect::{Connector, Unconnected},
    link::Link,
    one::KEPT,
    sent::Lent,
    target::Target,
};

/// What a target may have sent of a head, and of bodies that nobody has read; bytes.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 16 << 20;
const HEAD: u32 = 64 << 10;
/// Streams on one connection before there is another. Targets commonly take 100 or 128 at once.
const STREAMS: usize = 100;
/// How many streams a target takes that hasn't said so yet.
const UNKNOWN: usize = 0;
/// Pings, so that a dead target is found out.
const PING: Duration = Duration::from_secs(20);

pub(super) type Sender = http2::SendRequest<Lent>;

/// A connection, and how many streams are open on it.
pub(super) struct Shared {
    sender: Sender,
    connection: Arc<Connection>,
    streams: Arc<Streams>,
    /// Since when there has been none, as far as anybody has looked.
    idle: Option<Instant>,
}

/// What hyper has of it, driven by a task of its own; `None` once that has ended.
struct Connection(Mutex<Option<Driven>>);

type Driven = Pin<Box<http2::Connection<TokioIo<Link>, Lent, TokioExecutor>>>;

struct Streams {
    open: AtomicUsize,
    /// Whether the target takes no others, which hyper says only to who tries.
    spent: AtomicBool,
    /// Told of each that ends.
    ended: Arc<Notify>,
}

/// Held by a request, and by the body that it sends, as long as either needs the stream.
pub(super) struct Stream(Arc<Streams>);

impl Stream {
    /// The connection takes no others.
    pub(super) fn was_the_last(&self) {
        self.0.spent.store(true, Ordering::Release);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_one();
    }
}

impl Connection {
    fn driven(&self) -> MutexGuard<'_, Option<Driven>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many streams the target takes at once, as long as it takes any.
    fn most(&self) -> Option<usize> {
        self.driven().as_ref().map(|driven| driven.current_max_send_streams())
    }

    /// Goes on with it until it has ended, and tells `over`.
    async fn drive(self: Arc<Self>, over: Weak<Notify>) {
        let ended = poll_fn(|cx| match &mut *self.driven() {
            Some(driven) => driven.as_mut().poll(cx),
            None => Poll::Ready(Ok(())),
        });
        if let Err(error) = ended.await {
            tracing::debug!(%error, "a connection to a target ended");
        }
        let ended = self.driven().take();
        drop(ended);
        if let Some(over) = over.upgrade() {
            over.notify_one();
        }
    }
}

impl Shared {
    /// A new connection to `target`, which has said how many streams it takes. Each that ends is
    /// told to `ended`.
    pub(super) async fn open(target: &Target, connector: &Connector, ended: &Arc<Notify>) -> Result<Self, Unconnected> {
        let mut link = connector.connect(target).await?;
        let heard = Arc::new(Notify::new());
        link.tell(&heard);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_max_send_streams(UNKNOWN)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let (sender, driven) = builder
            .handshake(TokioIo::new(link))
            .await
            .map_err(|error| Unconnected::new(&crate::fault::chain(&error)))?;
        let connection = Arc::new(Connection(Mutex::new(Some(Box::pin(driven)))));
        tokio::spawn(Arc::clone(&connection).drive(Arc::downgrade(&heard)));
        let settled = async {
            // hyper wakes nobody for it, but the bytes that say it have to come by the link.
            while connection.most()? == UNKNOWN {
                heard.notified().await;
            }
            Some(())
        };
        match tokio::time::timeout(connector.timeout, settled).await {
            Ok(Some(())) => {}
            Ok(None) => {
                return Err(Unconnected::new("the target ends connections before it has said a word of HTTP/2"));
            }
            Err(_) => {
                return Err(Unconnected::new("the target hasn't said in time how many requests it takes (SETTINGS)"));
            }
        }
        let streams =
            Arc::new(Streams { open: AtomicUsize::new(0), spent: AtomicBool::new(false), ended: Arc::clone(ended) });
        Ok(Self { sender, connection, streams, idle: None })
    }

    /// Another stream, and who sends on it.
    pub(super) fn stream(&mut self) -> (Sender, Arc<Stream>) {
        self.idle = None;
        self.streams.open.fetch_add(1, Ordering::AcqRel);
        (self.sender.clone(), Arc::new(Stream(Arc::clone(&self.streams))))
    }

    /// How many streams are open.
    pub(super) fn streams(&self) -> usize {
        self.streams.open.load(Ordering::Acquire)
    }

    /// Whether the target would take another stream at once, and we would send it.
    pub(super) fn has_room(&self) -> bool {
        self.connection.most().is_some_and(|most| self.streams() < most.min(STREAMS))
    }

    /// Whether there will be no other stream.
    pub(super) fn is_over(&self) -> bool {
        self.streams.spent.load(Ordering::Acquire) || self.sender.is_closed()
    }

    /// Whether it has carried nothing for longer than connections are kept, as of now and of when
    /// this was last asked.
    pub(super) fn is_stale(&mut self) -> bool {
        let unused = self.streams() == 0;
        self.idle = unused.then(|| self.idle.unwrap_or_else(Instant::now));
        self.idle.is_some_and(|since| since.elapsed() > KEPT)
    }
}
