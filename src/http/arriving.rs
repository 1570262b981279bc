//! A request's body on its way in, where HTTP/2 needs a second look.
//!
//! A client that resets its stream with `NO_ERROR` looks to hyper like one that
//! has sent all; here it is one that broke off. And a body that is dropped half
//! read resets the stream: common clients that are still sending then give up
//! without a look at the answer, so what still comes is thrown away for a moment
//! first, as on HTTP/1.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// How long what is still sent of a body that nobody wants is thrown away.
const LINGER: Duration = Duration::from_secs(5);

/// A body that ends well only at its end.
pub struct Arriving {
    /// There until it is dropped.
    body: Option<Incoming>,
    http2: bool,
    meter: Option<Meter>,
}

/// Is told how many bytes of a body came.
pub type Meter = Arc<dyn Fn(usize) + Send + Sync>;

/// Why a body broke off.
#[derive(Debug)]
pub enum Broken {
    /// As HTTP says.
    Http(hyper::Error),
    /// The stream was reset before its end, for no reason given.
    Reset,
}

/// `request` with its body as one that arrives.
pub fn arriving(request: Request<Incoming>) -> Request<Arriving> {
    let http2 = request.version() == Version::HTTP_2;
    request.map(|body| Arriving { body: Some(body), http2, meter: None })
}

impl Arriving {
    /// Tells `meter` from now on what comes.
    pub fn metered(&mut self, meter: Meter) {
        self.meter = Some(meter);
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(frame) => {
                if let (Ok(frame), Some(meter)) = (&frame, &this.meter) {
                    meter(frame.data_ref().map_or(0, Bytes::len));
                }
                Some(frame.map_err(Broken::Http))
            }
            // HTTP/2 knows whether the peer said so; HTTP/1 reports every other end as an error.
            None if this.http2 && !body.is_end_stream() => Some(Err(Broken::Reset)),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let unread = self.body.take().filter(|body| self.http2 && !body.is_end_stream());
        if let Some(mut body) = unread
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LINGER, async move { while let Some(Ok(_)) = body.frame().await {} }));
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(error) => error.fmt(f),
            Self::Reset => f.write_str("the stream was reset before its end"),
        }
    }
}

impl std::error::Error for Broken {}
