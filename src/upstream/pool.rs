//! Connections to one target: those that wait for a request, and one that HTTP/2 shares.
//!
//! A connection of HTTP/1 is driven by the task whose request it carries, and by nobody while
//! it waits: no task of its own, and no message from one to another. Whether a target has ended
//! it meanwhile is seen when it is taken again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{sync::Notify, time::Instant};

use super::{
    connect::{Connector, Lack, Unconnected},
    one::{Connection, One},
    shared::{Sender, Shared, Stream},
    target::Target,
};
use crate::{
    config::Protocol,
    shelf::{SHELVES, shelf},
};

/// How many of those to one target, for each thread.
const MOST_KEPT: usize = 256;
/// What a target may have sent that nobody has read; bytes.
const BUFFER: usize = 128 << 10;
/// Connections of HTTP/2 to one target, for each thread.
pub(super) const MOST_SHARED: usize = 16;

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
    /// Told of each stream of those that ends.
    ended: Arc<Notify>,
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
    Shared(Sender, Arc<Stream>),
}

impl Default for Pool {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Shelf::default()))
    }
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
            return self.share(target, connector).await;
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
        builder.max_buf_size(BUFFER);
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

    /// A stream of a connection that others share. Who finds each of them full waits for a stream
    /// to end.
    async fn share(&self, target: &Target, connector: &Connector) -> Result<Taken, Unconnected> {
        let shelf = &self.0[shelf()];
        let until = Instant::now() + connector.timeout;
        loop {
            // Before anybody looks: what ends meanwhile is not to be missed.
            let mut ended = std::pin::pin!(shelf.ended.notified());
            ended.as_mut().enable();
            // Whoever waits for another's attempt waits no longer than for one of its own.
            let looking = tokio::time::timeout(2 * connector.timeout, shelf.stream(target, connector));
            let found = looking.await.unwrap_or_else(|_| Err(Unconnected::new("no connection in time")))?;
            if let Some((sender, stream)) = found {
                return Ok(Taken::Shared(sender, stream));
            }
            if tokio::time::timeout_at(until, ended).await.is_err() {
                return Err(Unconnected {
                    words: "the app answers as many requests as it takes".into(),
                    lack: Some(Lack::Streams),
                });
            }
        }
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
                shared.retain(|shared| shared.streams() > 0);
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
            shared.retain_mut(|shared| !shared.is_over() && !shared.is_stale());
        }
    }
}

impl Shelf {
    #[allow(clippy::vec_box)]
    fn waiting(&self) -> MutexGuard<'_, Vec<Box<One>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A stream of the connection that has the fewest, or of a new one; `None` where there may be
    /// no other connection.
    async fn stream(
        &self,
        target: &Target,
        connector: &Connector,
    ) -> Result<Option<(Sender, Arc<Stream>)>, Unconnected> {
        let mut shared = self.shared.lock().await;
        shared.retain(|shared| !shared.is_over());
        let free = shared.iter_mut().filter(|shared| shared.has_room()).min_by_key(|shared| shared.streams());
        if let Some(shared) = free {
            return Ok(Some(shared.stream()));
        }
        if shared.len() >= MOST_SHARED {
            return Ok(None);
        }
        match Shared::open(target, connector, &self.ended).await {
            Ok(mut new) => {
                let stream = new.stream();
                shared.push(new);
                // Whoever waits finds room on it.
                self.ended.notify_one();
                Ok(Some(stream))
            }
            Err(unconnected) if unconnected.lack.is_some() && !shared.is_empty() => Ok(None),
            Err(unconnected) => Err(unconnected),
        }
    }
}
