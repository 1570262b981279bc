//! Frames on their way out: verified chunk by chunk, and given out piece by piece.
//!
//! The last regular frame of a message always stands in one chunk with the final
//! one, so that it is held back until that is verified.

use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::{
    Objects,
    download::{Stop, moved},
    fault_of,
    verified::{Verified, damaged},
};
use crate::{
    budget::Buffer,
    fault::{Fault, Tamper},
    message::Damage,
    store::{Failure, Source, Span},
    trace::{self, hop},
};

/// What a chunk has at most, if its frames are smaller; bytes.
const CHUNK: usize = 1 << 20;
/// Plaintext up to here is copied out, so that a small answer holds no buffer
/// however slowly it is taken; bytes.
const SMALL: u64 = 64 << 10;
/// How often a broken body of the store is taken up again.
const RESUMES: u32 = 3;
/// The pause before the second try in a row; the third waits twice as long.
const RESUME_PAUSE: Duration = Duration::from_millis(500);

/// Verified plaintext, in order. Ends cleanly only after the last byte.
pub enum Chunks {
    /// Already here.
    Ready(VecDeque<Bytes>),
    /// On its way.
    Coming {
        /// Pieces that were taken and not yet given.
        now: VecDeque<Bytes>,
        /// The next pieces, or why there are none.
        next: mpsc::Receiver<Result<VecDeque<Bytes>, Fault>>,
        /// Bytes still due.
        left: u64,
    },
}

impl Chunks {
    /// No bytes.
    pub fn none() -> Self {
        Self::Ready(VecDeque::new())
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> u64 {
        match self {
            Self::Ready(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Self::Coming { left, .. } => *left,
        }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// A [`Fault`] found mid-way: the answer must not end cleanly.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        match self {
            Self::Ready(pieces) => Poll::Ready(pieces.pop_front().map(Ok)),
            Self::Coming { now, next, left } => loop {
                if let Some(piece) = now.pop_front() {
                    *left = left.saturating_sub(piece.len() as u64);
                    return Poll::Ready(Some(Ok(piece)));
                }
                match std::task::ready!(next.poll_recv(cx)) {
                    Some(Ok(pieces)) => *now = pieces,
                    Some(Err(fault)) => return Poll::Ready(Some(Err(fault))),
                    None if *left == 0 => return Poll::Ready(None),
                    None => return Poll::Ready(Some(Err(Fault::internal("the reading task ended early")))),
                }
            },
        }
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").field("left", &self.left()).finish()
    }
}

/// Frames of one object on their way from the store, verified chunk by chunk.
pub(super) struct Frames {
    pub(super) objects: Arc<Objects>,
    pub(super) name: String,
    pub(super) verified: Arc<Verified>,
    pub(super) source: Box<dyn Source>,
    /// The next frame, and the last one wanted.
    pub(super) next: u64,
    pub(super) last: u64,
    /// Plaintext bytes of the next frame that aren't wanted.
    pub(super) skip: u32,
    /// Plaintext bytes still wanted.
    pub(super) left: u64,
    pub(super) resumes: u32,
}

impl Frames {
    /// Verifies the first chunk, and leaves the others to a task that ends with
    /// its client.
    pub(super) async fn begin(mut self) -> Result<Chunks, Stop> {
        let total = self.left;
        let first = self.chunk(self.objects.bounds.buffer_wait).await?;
        if self.next > self.last && total <= SMALL {
            self.ended("ok");
            return Ok(Chunks::Ready(first.into_iter().map(|piece| Bytes::copy_from_slice(&piece)).collect()));
        }
        let (send, next) = mpsc::channel(1);
        tokio::spawn(self.pump(first, send).instrument(hop!("send")));
        Ok(Chunks::Coming { now: VecDeque::new(), next, left: total })
    }

    async fn pump(mut self, first: VecDeque<Bytes>, send: mpsc::Sender<Result<VecDeque<Bytes>, Fault>>) {
        let idle = self.objects.bounds.send_idle;
        let mut pieces = first;
        loop {
            match send.send_timeout(Ok(pieces), self.patience()).await {
                Ok(()) => {}
                Err(mpsc::error::SendTimeoutError::Closed(_)) => return self.ended("aborted"),
                // Who takes nothing is cut by the connection's own deadline long before.
                Err(mpsc::error::SendTimeoutError::Timeout(_)) => return self.ended("stalled"),
            }
            if self.next > self.last {
                return self.ended("ok");
            }
            // Others may hold the memory for as long as a stalled client may.
            match self.chunk(idle * 2).await {
                Ok(next) => pieces = next,
                Err(stop) => {
                    let fault = stop.fault();
                    trace::failed(&tracing::Span::current());
                    self.objects.note(&fault);
                    tracing::error!(class = self.objects.class.name, %fault, "a download was cut short");
                    // The receiver is gone only if the client is.
                    let _ = send.send(Err(fault)).await;
                    return;
                }
            }
        }
    }

    /// How long the chunk before may take to go out: what is slow but goes on is not
    /// cut, and what doesn't keep the least rate is.
    fn patience(&self) -> Duration {
        let chunk = CHUNK as u64 + self.verified.opener.layout().stride();
        match self.objects.bounds.min_rate {
            0 => Duration::from_secs(24 * 3600),
            rate => self.objects.bounds.send_idle + Duration::from_secs(chunk / rate),
        }
    }

    fn ended(&self, outcome: &str) {
        self.objects.count_download(outcome);
    }

    /// The next chunk's wanted plaintext, verified. A body of the store that
    /// breaks is taken up again where the chunk began, under the same entity tag.
    async fn chunk(&mut self, wait: Duration) -> Result<VecDeque<Bytes>, Stop> {
        let (layout, extent) = (self.verified.opener.layout(), self.verified.extent);
        let room = CHUNK.min(self.objects.bounds.budget.total() / 64) as u64;
        let most = (room / layout.stride()).max(1);
        let regular = most.min((self.last + 1).min(extent.regular) - self.next.min(extent.regular));
        let with_final = self.last == extent.regular && self.next + regular == extent.regular;
        let want = regular * layout.stride() + if with_final { extent.final_length() } else { 0 };

        let mut buffer = self.objects.buffer_within(want, wait).await?;
        loop {
            match self.source.fill(&mut buffer, usize::try_from(want).unwrap_or(usize::MAX)).await {
                Ok(filled) if filled as u64 == want => break,
                Ok(_) => return Err(damaged(Damage::new(Tamper::Length, "the store's body ends early")).into()),
                Err(Failure::Unavailable(detail)) if self.resumes < RESUMES => {
                    tracing::warn!(detail, resumes = self.resumes, "the store's body broke; taking it up again");
                    // At once, then later and later: a store that is away for a moment comes back.
                    if self.resumes > 0 {
                        tokio::time::sleep(RESUME_PAUSE * self.resumes).await;
                    }
                    self.resumes += 1;
                    let start = layout.frame_at(self.next);
                    let end = if self.last == extent.regular {
                        self.verified.stat.length
                    } else {
                        layout.frame_at(self.last + 1)
                    };
                    let span = Span::Part { start, length: end - start };
                    let pin = Some(&self.verified.stat.etag);
                    self.source = self.objects.store.read(&self.name, span, pin).await.map_err(moved)?.source;
                    buffer.clear();
                }
                Err(failure) => return Err(fault_of(failure).into()),
            }
        }
        let opened = self.open(buffer, regular, with_final)?;
        // It goes on: what broke before says nothing of what is to come.
        self.resumes = 0;
        Ok(opened)
    }

    /// Verifies every frame of `buffer`, then gives out what is wanted of them.
    fn open(&mut self, mut buffer: Buffer, regular: u64, with_final: bool) -> Result<VecDeque<Bytes>, Fault> {
        let opener = &self.verified.opener;
        let stride = usize::try_from(opener.layout().stride()).unwrap_or(usize::MAX);
        let mut ranges = Vec::new();
        let mut at = 0;
        for index in self.next..self.next + regular {
            let slot = &mut buffer[at..at + stride];
            let plaintext = opener.open_regular(index, slot).map_err(damaged)?;
            ranges.push(at + plaintext.start..at + plaintext.end);
            at += stride;
        }
        if with_final {
            let plaintext = opener.open_final(self.next + regular, &mut buffer[at..]).map_err(damaged)?;
            ranges.push(at + plaintext.start..at + plaintext.end);
            self.objects.verified.keep(&self.name, &self.verified);
        }
        self.next += regular + u64::from(with_final);

        let bytes = buffer.into_bytes();
        let mut pieces = VecDeque::with_capacity(ranges.len());
        let before = self.left;
        for mut range in ranges {
            range.start += (self.skip as usize).min(range.len());
            self.skip = 0;
            let take = range.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            range.end = range.start + take;
            self.left -= take as u64;
            if take > 0 {
                pieces.push_back(bytes.slice(range));
            }
        }
        self.objects.count_opened(&self.verified, before - self.left);
        Ok(pieces)
    }
}
