//! Connections to one target: those that wait for a request, and one that HTTP/2 shares.
//!
//! A connection of HTTP/1 is driven by the task whose request it carries, and by nobody while
//! it waits: no task of its own, and no message from one to another. Whether a target has ended
//! it meanwhile is seen when it is taken again.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep};

use super::{connect::Connector, link::Link, sent::Lent, target::Target};
use crate::config::Protocol;

/// How long a connection waits for a request.
const KEPT: Duration = Duration::from_secs(60);
/// How many of those to one target.
const MOST_KEPT: usize = 256;
/// What a target may have sent of a head, and of a body that nobody has read; bytes.
const HTTP1_BUFFER: usize = 128 << 10;
const HTTP2_STREAM: u32 = 256 << 10;
const HTTP2_CONNECTION: u32 = 16 << 20;
const HTTP2_HEAD: u32 = 64 << 10;
/// Pings, so that a dead target is found out.
const PING: Duration = Duration::from_secs(20);

/// The connections to one target.
#[derive(Default)]
pub(super) struct Pool {
    waiting: Mutex<Vec<One>>,
    shared: tokio::sync::Mutex<Option<http2::SendRequest<Lent>>>,
}

/// A connection of HTTP/1, for one request at a time.
pub(super) struct One {
    pub(super) sender: http1::SendRequest<Lent>,
    /// There until it has ended.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    /// Moved only when it has run out: most requests are over long before.
    pub(super) timer: Pin<Box<Sleep>>,
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
    /// Shared with others.
    Shared(http2::SendRequest<Lent>),
}

impl Pool {
    /// A connection to `target`: one that waits, or a new one.
    pub(super) async fn take(&self, target: &Target, connector: &Connector, wants: Wants) -> Result<Taken, String> {
        if connector.protocol == Protocol::Http2 {
            return self.share(target, connector).await.map(Taken::Shared);
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
        let (sender, connection) =
            builder.handshake(TokioIo::new(link)).await.map_err(|error| crate::fault::chain(&error))?;
        let now = Instant::now();
        let one = One {
            sender,
            connection: Some(if wants == Wants::Switching {
                Box::pin(connection.with_upgrades())
            } else {
                Box::pin(connection)
            }),
            timer: Box::pin(tokio::time::sleep(connector.idle)),
            cut: Box::pin(target.cut_asked()),
            since: now,
        };
        Ok(Taken::One(one.into()))
    }

    fn pop(&self) -> Option<One> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    async fn share(&self, target: &Target, connector: &Connector) -> Result<http2::SendRequest<Lent>, String> {
        let mut shared = self.shared.lock().await;
        if let Some(sender) = shared.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
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
        let (sender, connection) =
            builder.handshake(TokioIo::new(link)).await.map_err(|error| crate::fault::chain(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a target ended");
            }
        });
        *shared = Some(sender.clone());
        Ok(sender)
    }

    /// Has `one` wait for the next request, if it can carry one.
    pub(super) fn give_back(&self, mut one: One) {
        if !one.is_good() {
            return;
        }
        one.since = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MOST_KEPT {
            waiting.push(one);
        }
    }

    /// Lets go of what has waited for too long, and of what the target has ended.
    pub(super) fn tidy(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut good: Vec<One> = waiting.into_iter().filter_map(|mut one| one.is_good().then_some(one)).collect();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that came back meanwhile have been used last, and are taken first.
        good.append(&mut waiting);
        good.truncate(MOST_KEPT);
        *waiting = good;
    }
}

impl One {
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
