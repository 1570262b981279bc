//! Plaintext on its way from one place to the next: paced, counted, in memory of the budget.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};

use super::Counts;
use crate::{
    budget::Budget,
    fault::Fault,
    objects::{Chunks, Plaintext},
    store::{Failure, Source},
};

/// Read of a plain object at a time, in bytes.
const PIECE: u64 = 1 << 20;
/// How long a piece waits in line for its memory.
const WAIT: Duration = Duration::from_secs(1200);

/// Bytes a second, shared by all that goes on at once.
pub(super) struct Pace {
    rate: Option<u64>,
    /// When what was let through so far is paid for.
    free: Mutex<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), free: Mutex::new(Instant::now()) }
    }

    /// Lets `bytes` through: at once, or after the sleep.
    pub(super) fn pass(&self, bytes: usize) -> Option<Pin<Box<Sleep>>> {
        let rate = self.rate?;
        let nanos = u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let at = (*free).max(now);
        *free = at + Duration::from_nanos(nanos);
        (at > now).then(|| Box::pin(tokio::time::sleep_until(at)))
    }
}

/// One object's bytes.
pub(super) struct Body {
    from: From,
    pace: Arc<Pace>,
    counts: Arc<Counts>,
    /// A piece that came before its time.
    held: Option<(Pin<Box<Sleep>>, Bytes)>,
}

enum From {
    Verified(Chunks),
    Plain(mpsc::Receiver<Result<Bytes, Fault>>),
}

impl Body {
    /// Of an object of the class.
    pub(super) fn verified(chunks: Chunks, pace: &Arc<Pace>, counts: &Arc<Counts>) -> Self {
        Self::new(From::Verified(chunks), pace, counts)
    }

    /// Of a plain object of `length` bytes.
    pub(super) fn plain(
        source: Box<dyn Source>,
        length: u64,
        budget: &Budget,
        pace: &Arc<Pace>,
        counts: &Arc<Counts>,
    ) -> Self {
        let (send, pieces) = mpsc::channel(1);
        tokio::spawn(pump(source, length, budget.clone(), send));
        Self::new(From::Plain(pieces), pace, counts)
    }

    fn new(from: From, pace: &Arc<Pace>, counts: &Arc<Counts>) -> Self {
        Self { from, pace: Arc::clone(pace), counts: Arc::clone(counts), held: None }
    }

    /// Takes all of it, to the end.
    pub(super) async fn drain(mut self) -> Result<(), Fault> {
        while std::future::poll_fn(|cx| self.poll_next(cx)).await?.is_some() {}
        Ok(())
    }
}

impl Plaintext for Body {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        if self.held.is_none() {
            let piece = match &mut self.from {
                From::Verified(chunks) => ready!(chunks.poll_next(cx)),
                From::Plain(pieces) => ready!(pieces.poll_recv(cx)),
            };
            let Some(piece) = piece.transpose()? else { return Poll::Ready(Ok(None)) };
            self.counts.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            match self.pace.pass(piece.len()) {
                None => return Poll::Ready(Ok(Some(piece))),
                Some(sleep) => self.held = Some((sleep, piece)),
            }
        }
        if let Some((sleep, _)) = &mut self.held {
            ready!(sleep.as_mut().poll(cx));
        }
        Poll::Ready(Ok(self.held.take().map(|(_, piece)| piece)))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}

/// Reads `source` into buffers of the budget. A source that ends early ends the
/// pieces early: who takes them knows the length.
async fn pump(mut source: Box<dyn Source>, mut left: u64, budget: Budget, send: mpsc::Sender<Result<Bytes, Fault>>) {
    while left > 0 {
        let piece = async {
            let want = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
            let retry = Duration::from_secs(5);
            let mut buffer = budget
                .buffer(want, WAIT)
                .await
                .map_err(|error| Fault::unavailable("all memory for transfers is in use", retry).because(error))?;
            source.fill(&mut buffer, want).await.map_err(fault)?;
            Ok(buffer.into_bytes())
        };
        let piece = piece.await;
        match &piece {
            Ok(bytes) if bytes.is_empty() => return,
            Ok(bytes) => left -= (bytes.len() as u64).min(left),
            Err(_) => left = 0,
        }
        // The receiver is gone only if nobody wants it any more.
        if send.send(piece).await.is_err() {
            return;
        }
    }
}

/// What the failure of an origin means for the object.
pub(super) fn fault(failure: Failure) -> Fault {
    use crate::fault::Kind;
    let retry = Duration::from_secs(5);
    match failure {
        Failure::NotFound => Fault::new(Kind::NotFound, "it is gone since it was listed"),
        Failure::Unavailable(detail) => Fault::unavailable("the origin is away", retry).because(detail),
        Failure::Precondition => Fault::unavailable("it was replaced while it was read", retry),
        other => Fault::new(Kind::Internal, "the origin could not be read").because(other),
    }
}
