//! Reports to the [`Pulse`]: what goes through a connection, and which requests are under way on it.

use std::{
    convert::Infallible,
    future::Future,
    io::{self, IoSlice},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Handler,
    guard::Verdicts,
    pulse::{Pulse, Ticket},
};
use crate::http::{Body, BodyError, Connection};

/// The decrypted side of a connection.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    pulse: Arc<Pulse>,
    /// What ended it behind bytes that were to go on first.
    broken: Option<io::Error>,
}

/// The service of one connection: counts each request, and tells it what it came on.
#[derive(Debug)]
pub(super) struct Door<S> {
    pub(super) service: S,
    pub(super) connection: Arc<Connection>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) verdicts: Arc<Verdicts>,
}

/// What HTTP/2 is handed at a time, in bytes: what a peer must take of one stream
/// within `send_idle_timeout`.
const PIECE: usize = 256 << 10;

/// A body that keeps its request under way until it has ended.
#[derive(Debug)]
pub(super) struct Counted {
    body: Body,
    ticket: Arc<Ticket>,
    /// What is left of the body's own piece.
    rest: Bytes,
}

/// An answer that is waited for.
pub(super) struct Answering<F> {
    answer: F,
    /// There until it has come.
    ticket: Option<Arc<Ticket>>,
}

/// A piece of an answer that HTTP/2 keeps until the stream's window lets it go, which
/// is the peer's to say. The body is dropped before its last piece has gone: the
/// request is under way, and holds memory, until the piece is let go too.
struct Held {
    piece: Bytes,
    _ticket: Arc<Ticket>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

/// Takes HTTP/2's streams for [`Running`] to run.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Stream>>>);

type Stream = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The streams of one HTTP/2 connection, run by the connection's own task: so an
/// answer's head never leaves before the body that is ready with it. A client that is
/// refused while it still sends may end its request at once when it sees the head,
/// short of what it announced; h2 resets such a stream, and what hadn't left is lost.
#[derive(Default)]
pub(super) struct Running {
    begun: Streams,
    streams: FuturesUnordered<Stream>,
}

impl Running {
    /// Where hyper puts the streams it begins.
    pub(super) fn streams(&self) -> Streams {
        self.begun.clone()
    }

    /// Runs every stream as far as it goes now.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.streams.extend(self.begun.0.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
    }
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, broken: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let mut at = before;
        // TLS gives one record at a time, of 16 KiB at most: those that there is room for go on together, or
        // each would be a round of its own for all who wait for a body.
        loop {
            match Pin::new(&mut self.inner).poll_read(cx, buf) {
                Poll::Ready(Ok(())) if buf.filled().len() > at && buf.remaining() > 0 => at = buf.filled().len(),
                end @ (Poll::Ready(_) | Poll::Pending) if buf.filled().len() == before => return end,
                Poll::Ready(Err(error)) => {
                    self.broken = Some(error);
                    break;
                }
                Poll::Ready(Ok(())) | Poll::Pending => break,
            }
        }
        self.pulse.received();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.pulse.wrote(outcome.is_pending());
        outcome
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.pulse.wrote(outcome.is_pending());
        outcome
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.pulse.wrote(outcome.is_pending());
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: Handler> hyper::service::Service<Request<Incoming>> for Door<S> {
    type Response = Response<Counted>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let ticket = Arc::new(self.pulse.begin());
        request.extensions_mut().insert(self.connection.clone());
        self.verdicts.tell(&mut request, &self.connection);
        Answering { answer: self.service.call(request), ticket: Some(ticket) }
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = Result<Response<Counted>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx))?;
        // Nobody polls what has ended.
        let Some(ticket) = self.ticket.take() else { return Poll::Pending };
        ticket.answered();
        Poll::Ready(Ok(answer.map(|body| Counted { body, ticket, rest: Bytes::new() })))
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ticket.asked();
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame {
                Some(Ok(frame)) if self.ticket.is_http2() && frame.is_data() => {
                    self.rest = frame.into_data().unwrap_or_default();
                }
                frame => {
                    self.ticket.handed_over();
                    return Poll::Ready(frame);
                }
            }
        }
        let next = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(next);
        self.ticket.handed_over();
        let held = Held { piece, _ticket: Arc::clone(&self.ticket) };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(held)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // One that panics ends alone: the others of its connection are others' requests.
        let stream = AssertUnwindSafe(stream).catch_unwind().map(|ended| {
            if ended.is_err() {
                tracing::error!("a request's task panicked");
            }
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(stream));
    }
}
