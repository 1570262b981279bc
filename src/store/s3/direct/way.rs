//! Connections to a bucket: each is polled by the task whose call it carries, and by nobody while
//! it waits on its thread's shelf.
//!
//! An object's bytes are read off the socket to where they are opened, and written to it from where
//! they were sealed.

use std::{
    future::{Future as _, poll_fn},
    io::{self, IoSlice},
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    task::coop::unconstrained,
    time::Instant,
};
use tower::ServiceExt as _;

use super::head::Head;
use crate::{
    clock::Clock,
    fault::chain,
    shelf::{SHELVES, shelf},
};

/// How long a connection waits for a call; S3 ends those that wait for longer than some 20 s.
const KEPT: Duration = Duration::from_secs(15);
/// How many of them on each shelf.
const MOST: usize = 64;
/// What is read of an answer before its body is asked for; bytes.
const BUFFER: usize = 8 << 10;
/// The most that a head may have; bytes.
const HEAD: usize = 64 << 10;
/// Who says nothing for so long isn't there.
const CONNECT: Duration = Duration::from_secs(3);
/// In the middle of an answer.
const STALLED: Duration = Duration::from_secs(20);

type Io = TokioIo<MaybeHttpsStream<TokioIo<TcpStream>>>;

/// A connection.
pub(super) struct Way {
    io: Io,
    /// What has come; it is read up to `at`.
    come: Vec<u8>,
    at: usize,
    since: Instant,
    clock: Clock,
}

/// Those that wait.
pub(super) struct Ways {
    connector: HttpsConnector<HttpConnector>,
    // Boxed, so that one that is taken and given back isn't moved about.
    #[allow(clippy::vec_box)]
    shelves: [Mutex<Vec<Box<Way>>>; SHELVES],
}

/// How a call ended that got no answer.
pub(super) enum Lost {
    /// Nothing of it has left.
    Unsent,
    /// It may have arrived.
    Unanswered(String),
}

impl Ways {
    /// None yet; `None` where the system's authorities can't be read.
    pub(super) fn new() -> Option<Self> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        plain.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider).ok()?;
        let connector = connector.https_or_http().enable_http1().wrap_connector(plain);
        Some(Self { connector, shelves: std::array::from_fn(|_| Mutex::default()) })
    }

    #[allow(clippy::vec_box)]
    fn waiting(&self) -> MutexGuard<'_, Vec<Box<Way>>> {
        self.shelves[shelf()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection to `to`: one that waits, or a new one.
    pub(super) async fn take(&self, to: &Uri) -> Result<Box<Way>, String> {
        loop {
            let Some(mut way) = self.waiting().pop() else { break };
            if way.is_good() {
                return Ok(way);
            }
        }
        let connecting = tokio::time::timeout(CONNECT, self.connector.clone().oneshot(to.clone())).await;
        let io = connecting.map_err(|_| "no connection in time")?.map_err(|error| chain(&*error))?;
        Ok(Box::new(Way {
            io: TokioIo::new(io),
            come: Vec::with_capacity(BUFFER),
            at: 0,
            since: Instant::now(),
            clock: Clock::default(),
        }))
    }

    /// Closes those that wait for too long: S3 ends them soon, and nobody would hear of it.
    pub(super) fn sweep(&self) {
        for shelf in &self.shelves {
            shelf.lock().unwrap_or_else(PoisonError::into_inner).retain(|way| way.since.elapsed() <= KEPT);
        }
    }

    /// Has `way` wait for the next call.
    pub(super) fn give_back(&self, mut way: Box<Way>) {
        // An answer to nobody's question would be taken for the next call's.
        if way.at < way.come.len() {
            return;
        }
        way.come.clear();
        way.come.shrink_to(BUFFER);
        way.at = 0;
        way.since = Instant::now();
        let mut waiting = self.waiting();
        if waiting.len() < MOST {
            waiting.push(way);
        }
    }
}

impl Way {
    /// Whether it is there still, with nothing said on it, and hasn't waited for too long.
    fn is_good(&mut self) -> bool {
        if self.since.elapsed() > KEPT {
            return false;
        }
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        // Truly: a task that has had its share of polls would be told that nothing has come.
        let io = &mut self.io;
        let look = std::pin::pin!(unconstrained(poll_fn(|cx| Pin::new(&mut *io).poll_read(cx, &mut byte))));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Sends `head` and `body`; the answer's head, and whether all was sent by then.
    pub(super) async fn ask(&mut self, head: &[u8], body: &Bytes, patience: Duration) -> Result<(Head, bool), Lost> {
        let until = Instant::now() + patience;
        let mut sending = Sending { head, body, sent: 0, done: false };
        let mut broken = None;
        let came = poll_fn(|cx| {
            if broken.is_none()
                && let Poll::Ready(Err(error)) = sending.poll(&mut self.io, cx)
            {
                // What was answered before that is still there to be read.
                broken = Some(error);
            }
            if let Poll::Ready(came) = self.poll_head(cx) {
                return Poll::Ready(came);
            }
            self.clock.poll(cx, until).map(|()| Err("no answer in time".into()))
        });
        match came.await {
            Ok(answer) => Ok((answer, sending.done)),
            Err(words) => {
                let words = broken.map_or(words, |error| chain(&error));
                Err(if sending.sent == 0 { Lost::Unsent } else { Lost::Unanswered(words) })
            }
        }
    }

    /// The head of the answer, but for those that only announce it.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, String>> {
        loop {
            let parsed = Head::parse(&self.come[self.at..]).map_err(|error| format!("not HTTP: {error}"))?;
            match parsed {
                Some((head, length)) => {
                    self.at += length;
                    if head.status >= 200 {
                        return Poll::Ready(Ok(head));
                    }
                    if head.status == 101 {
                        return Poll::Ready(Err("another protocol than was asked for".into()));
                    }
                }
                None if self.come.len() - self.at > HEAD => {
                    return Poll::Ready(Err(format!("a head of more than {HEAD} bytes")));
                }
                None => {
                    if ready!(self.poll_more(cx)).map_err(|error| chain(&error))? == 0 {
                        return Poll::Ready(Err("the connection was closed".into()));
                    }
                }
            }
        }
    }

    /// What has come and wasn't read.
    pub(super) fn come(&self) -> &[u8] {
        &self.come[self.at..]
    }

    /// So much of it is read.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Waits for more to come; how many bytes, and 0 at the end.
    pub(super) async fn more(&mut self) -> Result<usize, String> {
        let until = Instant::now() + STALLED;
        poll_fn(|cx| match self.poll_more(cx) {
            Poll::Ready(read) => Poll::Ready(read.map_err(|error| chain(&error))),
            Poll::Pending => self.clock.poll(cx, until).map(|()| Err("nothing comes any more".into())),
        })
        .await
    }

    /// Appends what comes to `into`, at most `most` bytes; how many, and 0 at the end.
    pub(super) async fn read(&mut self, into: &mut Vec<u8>, most: usize) -> Result<usize, String> {
        if self.at < self.come.len() {
            let take = most.min(self.come.len() - self.at);
            into.extend_from_slice(&self.come[self.at..self.at + take]);
            self.at += take;
            return Ok(take);
        }
        let until = Instant::now() + STALLED;
        poll_fn(|cx| match poll_into(&mut self.io, cx, into, most) {
            Poll::Ready(read) => Poll::Ready(read.map_err(|error| chain(&error))),
            Poll::Pending => self.clock.poll(cx, until).map(|()| Err("nothing comes any more".into())),
        })
        .await
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.come.drain(..self.at);
        self.at = 0;
        poll_into(&mut self.io, cx, &mut self.come, BUFFER)
    }
}

/// Appends to `into` what one read brings.
fn poll_into(io: &mut Io, cx: &mut Context<'_>, into: &mut Vec<u8>, most: usize) -> Poll<io::Result<usize>> {
    into.reserve(most);
    let mut into = into.limit(most);
    std::pin::pin!(io.read_buf(&mut into)).poll(cx)
}

/// A call on its way.
struct Sending<'a> {
    head: &'a [u8],
    body: &'a Bytes,
    sent: usize,
    done: bool,
}

impl Sending<'_> {
    fn poll(&mut self, io: &mut Io, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.head.len() + self.body.len() {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = &self.body[self.sent.saturating_sub(self.head.len())..];
            let bytes = [IoSlice::new(head), IoSlice::new(body)];
            // An empty slice in front would be all that some writers look at.
            let bytes = if head.is_empty() { &bytes[1..] } else { &bytes[..] };
            match ready!(Pin::new(&mut *io).poll_write_vectored(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        if !self.done {
            ready!(Pin::new(&mut *io).poll_flush(cx))?;
            self.done = true;
        }
        Poll::Ready(Ok(()))
    }
}
