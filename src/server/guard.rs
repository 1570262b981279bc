//! Stands between TLS and HTTP/1, and looks at each request's head before HTTP does: what
//! two readers could read in two ways is refused, or noted, as the listener says.
//!
//! A head is held back until it is whole. A body of known length goes through untouched, and
//! one of chunks is followed, so that it is known where the next head begins. In place of what
//! is refused HTTP reads a request of ours, which the door answers with what was wrong: so an
//! answer of earlier requests on the connection still goes out first, and in one piece.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Pulse;
use crate::{
    config::Desync,
    http::{
        Connection,
        desync::{self, Chunks, Class, Finding, Framing, Noted, Reason, Refused},
    },
    metrics::Metrics,
};

/// What HTTP reads where a head is refused.
const IN_PLACE: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// What is read of a connection's first bytes; most requests fit.
const FIRST: usize = 2 << 10;
/// As many notes wait for their requests at most: heads that came ahead.
const NOTES: usize = 64;

/// What a connection's heads came to, told to the service that gets the requests.
#[derive(Debug)]
pub(super) struct Verdicts {
    mode: Desync,
    header_bytes: usize,
    metrics: Metrics,
    /// Requests that the service has been given.
    asked: AtomicU64,
    notes: Mutex<VecDeque<Note>>,
}

#[derive(Debug)]
struct Note {
    request: u64,
    finding: Finding,
    refused: bool,
    method: Option<Method>,
}

impl Verdicts {
    pub(super) fn new(mode: Desync, header_bytes: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { mode, header_bytes, metrics, asked: AtomicU64::new(0), notes: Mutex::default() })
    }

    /// Whether what was found is refused.
    fn refuses(&self, class: Class) -> bool {
        match self.mode {
            Desync::Strictest => class > Class::Compliant,
            Desync::Defensive => class == Class::Severe,
            Desync::Monitor => false,
        }
    }

    /// Whether the connection ends behind a request that passed: one with both a length and a
    /// coding ends it in any case (RFC 9112, section 6.1).
    fn ends(&self, finding: Finding) -> bool {
        let defensive = self.mode == Desync::Defensive && finding.class >= Class::Ambiguous;
        defensive || finding.reason == Reason::BothLengths
    }

    fn count(&self, finding: Finding, refused: bool) {
        let outcome = if refused { "refused" } else { "passed" };
        let labels = [finding.class.as_str(), finding.reason.as_str(), outcome];
        self.metrics.desync_requests.with_label_values(&labels).inc();
    }

    fn note(&self, note: Note) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is refused is the last.
        if notes.len() < NOTES || note.refused {
            notes.push_back(note);
        }
    }

    /// Tells the connection's next request what its head came to; one of HTTP/2 is looked at here.
    pub(super) fn tell<B: http_body::Body>(&self, request: &mut Request<B>, connection: &Connection) {
        if request.version() == http::Version::HTTP_2 {
            let Some(finding) = desync::judge_parts(request, self.header_bytes) else { return };
            let refused = self.refuses(finding.class) || is_too_long(finding);
            self.count(finding, refused);
            if refused {
                request.extensions_mut().insert(Refused(finding));
            } else {
                request.extensions_mut().insert(Noted(finding));
            }
            return;
        }
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        while notes.front().is_some_and(|note| note.request < asked) {
            notes.pop_front();
        }
        if notes.front().is_none_or(|note| note.request != asked) {
            return;
        }
        let Some(note) = notes.pop_front() else { return };
        if note.refused {
            request.extensions_mut().insert(Refused(note.finding));
            if let Some(method) = note.method {
                *request.method_mut() = method;
            }
            request.headers_mut().clear();
        } else {
            request.extensions_mut().insert(Noted(note.finding));
            if self.ends(note.finding) {
                connection.close();
            }
        }
    }
}

/// Limits hold whatever the mode: they aren't about who reads what.
fn is_too_long(finding: Finding) -> bool {
    !matches!(finding.reason.status().as_u16(), 400 | 501 | 505)
}

/// The decrypted side of a connection that speaks HTTP/1.
#[derive(Debug)]
pub(super) struct Guard<T> {
    inner: T,
    verdicts: Arc<Verdicts>,
    pulse: Arc<Pulse>,
    connection: Arc<Connection>,
    state: State,
    /// What came before there was anybody to read it.
    first: Vec<u8>,
    /// What came and may not go on yet, from `begin`; the first `passed` bytes of that may.
    held: Vec<u8>,
    begin: usize,
    passed: usize,
    /// How far the end of a head was looked for.
    scanned: usize,
    heads: u64,
    /// Whether the request under way asks for another protocol.
    upgrade: bool,
    /// Whether the connection ends behind the request under way.
    last: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Body(u64),
    Chunks(Box<Chunks>),
    /// A head asked for another protocol: what comes behind it is that, or the next head.
    Undecided,
    /// Not looked at any more: another protocol, or what nobody can follow.
    Open,
    /// A head was refused: HTTP is to read another in its place.
    Refused,
    /// Nothing more goes on.
    Shut,
    /// A body can't be followed: it ends here, and not well.
    Broken,
}

impl<T> Guard<T> {
    pub(super) fn new(inner: T, verdicts: Arc<Verdicts>, pulse: Arc<Pulse>, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            verdicts,
            pulse,
            connection,
            state: State::Head,
            first: Vec::new(),
            held: Vec::new(),
            begin: 0,
            passed: 0,
            scanned: 0,
            heads: 0,
            upgrade: false,
            last: false,
        }
    }

    /// Waits until there is something for HTTP to read, which it then finds.
    pub(super) fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        T: AsyncRead + Unpin,
    {
        let mut space = [0; FIRST];
        let mut buf = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut *self).poll_read(cx, &mut buf))?;
        self.first = buf.filled().to_vec();
        Poll::Ready(Ok(()))
    }

    /// How many of `bytes`, which begin where the state stands, may go on now.
    fn advance(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Head if self.last => self.state = State::Shut,
                State::Head => {
                    let judged = desync::judge(&bytes[at..], &mut self.scanned, self.verdicts.header_bytes);
                    let Some((length, judged)) = judged else {
                        self.pulse.awaits_head();
                        break;
                    };
                    self.scanned = 0;
                    self.judged(judged);
                    if matches!(self.state, State::Refused) {
                        break;
                    }
                    at += length;
                }
                State::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    at += here;
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = self.behind();
                    }
                }
                State::Chunks(chunks) => match chunks.follow(&bytes[at..]) {
                    Ok((here, ended)) => {
                        at += here;
                        if ended {
                            self.state = self.behind();
                        }
                    }
                    Err(finding) => {
                        // Its head is past already: it ends as a body that broke off.
                        let refused = self.verdicts.mode != Desync::Monitor;
                        self.verdicts.count(finding, refused);
                        self.state = if refused { State::Broken } else { State::Open };
                    }
                },
                State::Undecided | State::Refused | State::Shut | State::Broken => break,
                State::Open => return bytes.len(),
            }
        }
        at
    }

    /// Takes up what a head came to.
    fn judged(&mut self, judged: desync::Judged) {
        let request = self.heads;
        self.heads += 1;
        if let Some(finding) = judged.finding {
            let refused = self.verdicts.refuses(finding.class) || is_too_long(finding);
            self.verdicts.count(finding, refused);
            self.verdicts.note(Note { request, finding, refused, method: judged.method });
            if refused {
                self.state = State::Refused;
                return;
            }
            self.last = self.verdicts.ends(finding);
        }
        self.upgrade = judged.upgrade;
        self.state = match judged.framing {
            Framing::Unknown => State::Open,
            Framing::None => self.behind(),
            Framing::Length(length) => State::Body(length),
            Framing::Chunked => State::Chunks(Box::default()),
        };
    }

    /// Where a request's end leads.
    fn behind(&self) -> State {
        if self.upgrade { State::Undecided } else { State::Head }
    }

    /// What HTTP may read without more from the peer; `None` where the peer is to be read.
    fn at_hand(&mut self, buf: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        loop {
            if self.passed > 0 {
                let here = self.passed.min(buf.remaining());
                buf.put_slice(&self.held[self.begin..self.begin + here]);
                self.begin += here;
                self.passed -= here;
                if self.begin == self.held.len() {
                    // Most connections hold nothing most of the time.
                    self.held = Vec::new();
                    self.begin = 0;
                }
                return Some(Poll::Ready(Ok(())));
            }
            match self.state {
                State::Refused => {
                    self.held = IN_PLACE.to_vec();
                    (self.begin, self.passed, self.state) = (0, IN_PLACE.len(), State::Shut);
                }
                State::Broken => {
                    return Some(Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "chunks that can't be read",
                    ))));
                }
                State::Open if self.held.is_empty() => return None,
                State::Open => self.passed = self.held.len() - self.begin,
                State::Undecided if self.connection.is_switched() => self.state = State::Open,
                State::Undecided if self.pulse.is_quiet() => {
                    self.state = State::Head;
                    self.look();
                }
                // A client that leaves is noticed; what it says meanwhile is kept, to a bound.
                State::Undecided if self.held.len() < self.verdicts.header_bytes => return None,
                // The end of the request wakes the connection; behind what was refused the answer
                // is all that is left to do.
                State::Undecided => return Some(Poll::Pending),
                State::Shut => {
                    self.pulse.is_quiet();
                    return Some(Poll::Pending);
                }
                State::Head | State::Body(_) | State::Chunks(_) => return None,
            }
        }
    }

    /// Looks at what is held.
    fn look(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.passed = self.advance(&held[self.begin..]);
        self.held = held;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guard<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.first.is_empty() {
            let here = this.first.len().min(buf.remaining());
            buf.put_slice(&this.first[..here]);
            this.first = this.first.split_off(here);
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(outcome) = this.at_hand(buf) {
                return outcome;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if this.held.is_empty() {
                let passed = this.advance(fresh);
                this.held.extend_from_slice(&fresh[passed..]);
                buf.set_filled(before + passed);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                // What has gone on is let go of, or a connection's whole history would be kept.
                this.held.drain(..this.begin);
                this.begin = 0;
                this.held.extend_from_slice(fresh);
                buf.set_filled(before);
                this.look();
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::{config::Limits, server::pulse::Protocol};

    fn guard(mode: Desync) -> (Guard<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        let here = SocketAddr::from(([127, 0, 0, 1], 1));
        let connection = Arc::new(Connection::new(here, here, None));
        let verdicts = Verdicts::new(mode, 64 << 10, Metrics::new().expect("metrics"));
        (Guard::new(ours, verdicts, Pulse::new(Protocol::Http1, &Limits::default()), connection), theirs)
    }

    #[tokio::test]
    async fn what_has_gone_on_is_let_go_of() {
        let (mut guard, mut client) = guard(Desync::Strictest);
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 7000\r\n\r\n";
        let message = [&head[..], &[b'x'; 7000]].concat();
        let mut space = vec![0; 64 << 10];
        client.write_all(&message[..20]).await.expect("is written");
        for _ in 0..200 {
            // The rest of one, and the beginning of the next.
            client.write_all(&message[20..]).await.expect("is written");
            client.write_all(&message[..20]).await.expect("is written");
            let mut came = 0;
            while came < message.len() {
                came += guard.read(&mut space).await.expect("goes on");
            }
            assert_eq!(came, message.len(), "no more than is whole");
        }
        assert!(guard.held.capacity() < 64 << 10, "{}", guard.held.capacity());
    }

    #[tokio::test]
    async fn the_last_word_is_kept_however_many_were_before() {
        let (mut guard, mut client) = guard(Desync::Defensive);
        let acceptable = b"GET / HTTP/1.1\nhost: a\n\n".repeat(2 * NOTES);
        let severe = b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
        client.write_all(&[&acceptable[..], severe].concat()).await.expect("is written");
        let (mut seen, mut space) = (Vec::new(), vec![0; 64 << 10]);
        while !seen.ends_with(IN_PLACE) {
            let came = guard.read(&mut space).await.expect("goes on");
            seen.extend_from_slice(&space[..came]);
        }
        let notes = guard.verdicts.notes.lock().expect("whole");
        let last = notes.back().expect("a note");
        assert!(last.refused && last.request == 2 * NOTES as u64, "{last:?}");
    }
}
