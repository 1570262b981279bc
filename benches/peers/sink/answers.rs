//! What is answered: bodies, XML, refusals.

use std::{
    convert::Infallible,
    mem,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use crate::{
    counts::Count,
    objects::{Object, SSE},
};

const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

pub(crate) type Answer = Response<Body>;

/// The body of an answer.
pub(crate) enum Body {
    Said(Bytes),
    Kept(Outgoing),
}

/// Bytes of an object on their way out.
pub(crate) struct Outgoing {
    object: Arc<Object>,
    /// The number of the next piece, and how much of that isn't wanted.
    next: usize,
    skip: usize,
    left: usize,
    count: &'static Count,
}

impl Body {
    /// The bytes `span` of `object`, which `count` counts as they go.
    pub(crate) fn kept(object: Arc<Object>, span: Range<usize>, count: &'static Count) -> Self {
        let (next, skip) = object.body.find(span.start);
        Self::Kept(Outgoing { object, next, skip, left: span.len(), count })
    }

    fn left(&self) -> usize {
        match self {
            Self::Said(bytes) => bytes.len(),
            Self::Kept(outgoing) => outgoing.left,
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Said(Bytes::new())
    }
}

impl Outgoing {
    fn take(&mut self) -> Bytes {
        if self.left == 0 {
            return Bytes::new();
        }
        let piece = self.object.body.piece(self.next);
        let bytes = piece.slice(self.skip..piece.len().min(self.skip + self.left));
        self.next += 1;
        self.skip = 0;
        self.left -= bytes.len();
        self.count.add(bytes.len());
        bytes
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Said(bytes) => mem::take(bytes),
            Self::Kept(outgoing) => outgoing.take(),
        };
        Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left() as u64)
    }
}

/// Why a request isn't done: a status, and S3's code.
pub(crate) struct Refused(pub(crate) StatusCode, &'static str);

impl Refused {
    pub(crate) const ARGUMENT: Self = Self(StatusCode::BAD_REQUEST, "InvalidArgument");
    pub(crate) const CHUNK: Self = Self(StatusCode::BAD_REQUEST, "InvalidChunkSizeError");
    pub(crate) const INCOMPLETE: Self = Self(StatusCode::BAD_REQUEST, "IncompleteBody");
    pub(crate) const KEY: Self = Self(StatusCode::NOT_FOUND, "NoSuchKey");
    pub(crate) const PART: Self = Self(StatusCode::BAD_REQUEST, "InvalidPart");
    pub(crate) const PRECONDITION: Self = Self(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
    pub(crate) const RANGE: Self = Self(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange");
    pub(crate) const REQUEST: Self = Self(StatusCode::BAD_REQUEST, "InvalidRequest");
    pub(crate) const UNKNOWN: Self = Self(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
    pub(crate) const UPLOAD: Self = Self(StatusCode::NOT_FOUND, "NoSuchUpload");

    pub(crate) fn answer(&self) -> Answer {
        let code = self.1;
        let mut answer = xml(&format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"));
        *answer.status_mut() = self.0;
        answer
    }
}

/// Why a request comes to nothing.
pub(crate) enum Fault {
    Refused(Refused),
    /// Its body ended early, and so does the connection.
    Broken(hyper::Error),
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<hyper::Error> for Fault {
    fn from(error: hyper::Error) -> Self {
        Self::Broken(error)
    }
}

pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}

pub(crate) fn xml(root: &str) -> Answer {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{root}");
    let mut answer = Answer::new(Body::Said(text.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// Gives back what was asked of the encryption, and the checksums that were named.
pub(crate) fn echo<'a>(answer: &mut Answer, asked: impl IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>) {
    for (name, value) in asked {
        let checksum = name.as_str().strip_prefix("x-amz-checksum-");
        let is_sum = checksum.is_some_and(|kind| !matches!(kind, "algorithm" | "mode" | "type"));
        if is_sum || name.as_str().starts_with(SSE) {
            answer.headers_mut().insert(name.clone(), value.clone());
        }
    }
}

/// The answer to bytes that were kept.
pub(crate) fn stored(asked: &HeaderMap, etag: HeaderValue) -> Answer {
    let mut answer = Answer::default();
    echo(&mut answer, asked);
    answer.headers_mut().insert(header::ETAG, etag);
    answer
}

/// Text as XML has it.
pub(crate) fn escaped(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => told.push_str("&amp;"),
            '<' => told.push_str("&lt;"),
            '>' => told.push_str("&gt;"),
            '"' => told.push_str("&quot;"),
            other => told.push(other),
        }
    }
    told
}

/// An entity tag as XML has it.
pub(crate) fn tag(etag: &HeaderValue) -> String {
    escaped(etag.to_str().unwrap_or_default())
}

/// A time as S3's lists have it.
pub(crate) fn when(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(TIME).expect("has all that is asked of it")
}
