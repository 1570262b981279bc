//! A client's body on its way to a target: lent to one try after the other until the first
//! byte of it is asked for, and watched as it goes.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

type BoxError = Box<dyn Error + Send + Sync>;
type Whole = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// Who has the body while nobody has begun it.
pub(super) struct Lender {
    /// None where there is nothing to be sent.
    body: Option<Arc<Mutex<Option<Whole>>>>,
    hint: SizeHint,
    empty: bool,
}

/// The body, as one try has it.
pub(super) struct Lent {
    from: Option<Arc<Mutex<Option<Whole>>>>,
    body: Option<Whole>,
    hint: SizeHint,
    empty: bool,
    activity: Arc<Activity>,
}

/// When something last went on, and whether the client is what failed.
#[derive(Debug)]
pub(super) struct Activity {
    begun: Instant,
    milliseconds: AtomicU64,
    client_failed: AtomicBool,
}

impl Lender {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
    {
        let (hint, empty) = (body.size_hint(), body.is_end_stream());
        let body = (!empty).then(|| {
            let whole: Whole = Box::pin(http_body_util::BodyExt::map_err(body, Into::into));
            Arc::new(Mutex::new(Some(whole)))
        });
        Self { body, hint, empty }
    }

    pub(super) fn lend(&self, activity: &Arc<Activity>) -> Lent {
        let (from, hint) = (self.body.clone(), self.hint);
        Lent { from, body: None, hint, empty: self.empty, activity: Arc::clone(activity) }
    }

    /// Whether nobody has asked for a byte of it.
    pub(super) fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.lock().unwrap_or_else(PoisonError::into_inner).is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        let (milliseconds, client_failed) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { begun: Instant::now(), milliseconds, client_failed })
    }

    pub(super) fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }

    pub(super) fn client_failed(&self) -> bool {
        self.client_failed.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(since, Ordering::Relaxed);
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.body.is_none() {
            let taken = |from: &Arc<Mutex<Option<Whole>>>| from.lock().unwrap_or_else(PoisonError::into_inner).take();
            this.body = this.from.as_ref().and_then(taken);
        }
        let Some(body) = &mut this.body else {
            return Poll::Ready(if this.empty { None } else { Some(Err("the body was sent already".into())) });
        };
        let frame = body.as_mut().poll_frame(cx);
        this.activity.now();
        if let Poll::Ready(Some(Err(_))) = &frame {
            this.activity.client_failed.store(true, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().map_or(self.empty, http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| self.hint, http_body::Body::size_hint)
    }
}
