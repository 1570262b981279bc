//! A client's body on its way to a target: lent to one try after the other as long as it can be
//! told from its beginning, and watched as it goes.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::shared::Stream;

/// What a piece that is kept costs beside its bytes.
const PIECE: usize = 256;

type BoxError = Box<dyn Error + Send + Sync>;

/// Who has the body, whoever sends it.
pub(super) struct Lender {
    /// None where there is nothing to be sent.
    source: Option<Arc<Mutex<Source>>>,
    hint: SizeHint,
}

/// The body, and what of it was given out and can be given out again.
struct Source {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>,
    kept: Vec<Bytes>,
    /// How many bytes more may be kept; `None` once something was given out for good.
    room: Option<usize>,
    /// Which try has it: an earlier one, that its connection may still hold, gets nothing more.
    turn: usize,
}

/// The body, as one try has it.
pub(super) struct Lent {
    source: Option<Arc<Mutex<Source>>>,
    turn: usize,
    /// How many of the pieces that are kept it has had.
    had: usize,
    hint: SizeHint,
    activity: Arc<Activity>,
    /// What it goes by, which may have answered already.
    stream: Option<Arc<Stream>>,
}

/// When something last went on, and whether the client is who keeps it from going on, or failed.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    milliseconds: AtomicU64,
    client_waited_for: AtomicBool,
    /// What of the client's failed: HTTP/2 has no room for it in an error of its own.
    client_failed: Mutex<Option<BoxError>>,
}

impl Lender {
    /// Of `body`, `most` bytes are kept, so that they can be sent again.
    pub(super) fn new<B>(body: B, most: usize) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let (hint, empty) = (body.size_hint(), body.is_end_stream());
        let source = (!empty).then(|| {
            let body = Box::pin(http_body_util::BodyExt::map_err(body, Into::into));
            Arc::new(Mutex::new(Source { body, kept: Vec::new(), room: Some(most), turn: 0 }))
        });
        Self { source, hint }
    }

    /// The body from its beginning, for another try, if it is whole: whoever had it before gets
    /// nothing more of it.
    pub(super) fn lend(&self, activity: &Arc<Activity>) -> Option<Lent> {
        let mut turn = 0;
        if let Some(source) = &self.source {
            let mut source = lock(source);
            if source.turn > 0 && source.room.is_none() {
                return None;
            }
            source.turn += 1;
            turn = source.turn;
        }
        Some(Lent {
            source: self.source.clone(),
            turn,
            had: 0,
            hint: self.hint,
            activity: Arc::clone(activity),
            stream: None,
        })
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_whole(&self) -> bool {
        self.source.as_ref().is_none_or(|source| lock(source).room.is_some())
    }

    /// Whether the client's side has no more of it, pieces that are kept for another try aside.
    pub(super) fn is_over(&self) -> bool {
        self.source.as_ref().is_none_or(|source| lock(source).body.is_end_stream())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.source.is_none()
    }

    /// There is an answer: nobody will send it again.
    pub(super) fn done(&self) {
        if let Some(source) = &self.source {
            lock(source).room = None;
        }
    }
}

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    /// Keeps `piece`, where that may have to be sent again.
    fn keep(&mut self, piece: &Bytes) {
        let Some(room) = self.room else { return };
        // A small one costs more than its bytes.
        self.room = room.checked_sub(piece.len() + PIECE);
        if self.room.is_some() {
            self.kept.push(piece.clone());
        } else {
            self.kept = Vec::new();
        }
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            begun: Instant::now(),
            milliseconds: AtomicU64::new(0),
            client_waited_for: AtomicBool::new(false),
            client_failed: Mutex::default(),
        })
    }

    pub(super) fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }

    /// When it will have stood still for `time`. While the client is waited for the time stands
    /// still: a client has a pace of its own to keep, and the target isn't who is slow.
    pub(super) fn due(&self, time: Duration) -> Instant {
        let from = if self.client_waited_for.load(Ordering::Relaxed) { Instant::now() } else { self.last() };
        from + time
    }

    /// What failed of the client's; told once.
    pub(super) fn client_failed(&self) -> Option<BoxError> {
        self.client_failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn now(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(since, Ordering::Relaxed);
    }
}

impl Lent {
    /// It goes by `stream`, which isn't free before it has gone.
    pub(super) fn goes_by(&mut self, stream: &Arc<Stream>) {
        self.stream = Some(Arc::clone(stream));
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(source) = &this.source else { return Poll::Ready(None) };
        let mut source = lock(source);
        if source.turn != this.turn {
            return Poll::Ready(Some(Err("the body is sent by another way".into())));
        }
        if let Some(piece) = source.kept.get(this.had) {
            this.had += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if source.room.is_none() && !source.kept.is_empty() {
            // It was all sent, and nobody will want it again.
            source.kept = Vec::new();
            this.had = 0;
        }
        let frame = source.body.as_mut().poll_frame(cx);
        this.activity.client_waited_for.store(frame.is_pending(), Ordering::Relaxed);
        let frame = ready!(frame);
        this.activity.now();
        let frame = match frame {
            Some(Err(error)) => {
                *this.activity.client_failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                return Poll::Ready(Some(Err("the client's body failed".into())));
            }
            frame => frame,
        };
        if let Some(Ok(frame)) = &frame {
            if let Some(piece) = frame.data_ref() {
                source.keep(piece);
                this.had = source.kept.len();
            } else {
                // Trailers, which come once.
                source.room = None;
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let Some(source) = &self.source else { return true };
        let source = lock(source);
        self.had >= source.kept.len() && source.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(source) = &self.source else { return self.hint };
        let source = lock(source);
        let rest = source.body.size_hint();
        let kept: usize = source.kept.iter().skip(self.had).map(Bytes::len).sum();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept as u64));
        }
        hint.set_lower(rest.lower().saturating_add(kept as u64));
        hint
    }
}
