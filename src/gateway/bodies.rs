//! Bodies on their way in and out, as the rooms below want them.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use multer::{Field, Multipart};

use super::head;
use crate::{
    fault::{Fault, Kind},
    http::{Arriving, Broken, Pace, PaceError, Paced},
    objects::{Chunks, Plaintext, Promise},
};

/// A request's body as it is.
pub(super) struct Raw {
    body: Paced<Arriving>,
    trailers: Option<HeaderMap>,
}

impl Raw {
    pub(super) fn new(body: Arriving, pace: Pace) -> Self {
        Self { body: Paced::new(body, pace), trailers: None }
    }
}

impl Plaintext for Raw {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => Ok(None),
                Some(Err(error)) => Err(cut_short(&error)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if bytes.is_empty() => continue,
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        continue;
                    }
                },
            });
        }
    }

    fn late_promises(&mut self) -> Result<Vec<Promise>, Fault> {
        self.trailers.as_ref().map_or(Ok(Vec::new()), head::promised)
    }
}

/// Bytes that a form may have beside its file's, unread: heads and boundaries.
pub(super) const FORM_AHEAD: usize = 16 << 10;

/// The one file of a form.
pub(super) struct FormFile {
    form: Multipart<'static>,
    field: Option<Field<'static>>,
    ahead: Arc<AtomicUsize>,
}

impl FormFile {
    /// Finds the file in the form that `body` is.
    ///
    /// # Errors
    /// 400 when the form can't be read or its first part is no file.
    pub(super) async fn find(body: Arriving, pace: Pace, boundary: String) -> Result<Self, Fault> {
        let ahead = Arc::new(AtomicUsize::new(0));
        let pieces = Pieces { body: Paced::new(body, pace), ahead: Arc::clone(&ahead), gave: false };
        let mut form = Multipart::new(pieces, boundary);
        let field = form.next_field().await.map_err(|error| form_fault(&error))?;
        match field {
            Some(field) if field.file_name().is_some() => Ok(Self { form, field: Some(field), ahead }),
            Some(_) => Err(Fault::bad_request("the form has a field that is no file; send exactly one file part")),
            None => Err(Fault::bad_request("the form has no file; send exactly one file part")),
        }
    }

    /// The file's name, as the client gave it.
    pub(super) fn file_name(&self) -> Option<&str> {
        self.field.as_ref()?.file_name()
    }

    /// The file's type, as the client gave it.
    pub(super) fn content_type(&self) -> Option<String> {
        self.field.as_ref()?.content_type().map(ToString::to_string)
    }
}

impl Plaintext for FormFile {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Fault>> {
        if let Some(field) = &mut self.field {
            match ready!(Pin::new(field).poll_next(cx)) {
                Some(Ok(bytes)) => {
                    self.ahead.fetch_sub(bytes.len(), Ordering::Relaxed);
                    return Poll::Ready(Ok(Some(bytes)));
                }
                Some(Err(error)) => return Poll::Ready(Err(form_fault(&error))),
                None => self.field = None,
            }
        }
        // The object ends only with its form: a second part would have been lost.
        Poll::Ready(match ready!(self.form.poll_next_field(cx)) {
            Ok(None) => Ok(None),
            Ok(Some(_)) => {
                Err(Fault::bad_request("the form has more than one part; send exactly one file; nothing was stored"))
            }
            Err(error) => Err(form_fault(&error)),
        })
    }
}

/// A paced body's data, as the form reader wants it. The reader takes whatever
/// is there, and keeps it: so it is given one piece at a time, and no more than
/// [`FORM_AHEAD`] beyond what has come out of it.
struct Pieces {
    body: Paced<Arriving>,
    ahead: Arc<AtomicUsize>,
    gave: bool,
}

/// The form's heads are longer than any form's are.
#[derive(Debug)]
struct HeadsTooLong;

impl Stream for Pieces {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.gave) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => None,
                Some(Err(error)) => Some(Err(error.into())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        self.gave = true;
                        let ahead = self.ahead.fetch_add(bytes.len(), Ordering::Relaxed) + bytes.len();
                        Some(if ahead > FORM_AHEAD + bytes.len() { Err(HeadsTooLong.into()) } else { Ok(bytes) })
                    }
                    Err(_trailers) => continue,
                },
            });
        }
    }
}

impl fmt::Display for HeadsTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the form's heads are too long")
    }
}

impl std::error::Error for HeadsTooLong {}

/// Verified chunks as the body of an answer.
pub(super) struct Outgoing(pub(super) Chunks);

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.0.poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.left())
    }

    fn is_end_stream(&self) -> bool {
        self.0.left() == 0
    }
}

fn cut_short<E: fmt::Display + fmt::Debug>(error: &PaceError<E>) -> Fault {
    match error {
        PaceError::Idle | PaceError::Slow => {
            Fault::new(Kind::RequestTimeout, "the body came too slowly; nothing was stored").because(error)
        }
        PaceError::Body(_) => Fault::bad_request("the body was cut short; nothing was stored").because(error),
    }
}

fn form_fault(error: &multer::Error) -> Fault {
    if let multer::Error::StreamReadFailed(cause) = error
        && let Some(pace) = cause.downcast_ref::<PaceError<Broken>>()
    {
        return cut_short(pace);
    }
    Fault::bad_request("the form can't be read as multipart/form-data; nothing was stored").because(error)
}
