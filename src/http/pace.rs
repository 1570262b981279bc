//! A body whose sender must keep going, as long as we read.
//!
//! The clock runs only while we wait for the sender. While we don't read,
//! because memory or the store is slow, it stands still: slowness of ours is
//! never the client's fault.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// What a sender must keep up.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest wait for a next byte.
    pub idle: Duration,
    /// Bytes a second, judged once more than `idle` was waited in all; 0 for none.
    pub min_rate: u64,
}

/// A body with its pace.
pub struct Paced<B> {
    body: B,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: Option<Instant>,
    waited: Duration,
    received: u64,
}

/// Why a paced body ended early.
#[derive(Debug)]
pub enum PaceError<E> {
    /// No byte came for [`Pace::idle`].
    Idle,
    /// Fewer bytes came than [`Pace::min_rate`].
    Slow,
    /// The body itself failed.
    Body(E),
}

impl<B> Paced<B> {
    /// `body`, at `pace`.
    pub fn new(body: B, pace: Pace) -> Self {
        Self { body, pace, timer: None, waiting: None, waited: Duration::ZERO, received: 0 }
    }

    fn arrived(&mut self, bytes: usize) -> bool {
        if let Some(since) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        self.received += bytes as u64;
        let expected = u128::from(self.pace.min_rate) * self.waited.as_millis() / 1000;
        self.waited <= self.pace.idle || u128::from(self.received) >= expected
    }
}

impl<B> Body for Paced<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = PaceError<B::Error>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                Poll::Ready(Some(if this.arrived(bytes) { Ok(frame) } else { Err(PaceError::Slow) }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(PaceError::Body(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.pace.idle)));
                if this.waiting.is_none() {
                    this.waiting = Some(Instant::now());
                    timer.as_mut().reset(Instant::now() + this.pace.idle);
                }
                ready!(timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(PaceError::Idle)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<E: fmt::Display> fmt::Display for PaceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("the body stood still for too long"),
            Self::Slow => f.write_str("the body came too slowly"),
            Self::Body(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for PaceError<E> {}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    type Piece = Result<Frame<Bytes>, std::convert::Infallible>;

    fn body(every: Duration, pieces: usize) -> StreamBody<Pin<Box<dyn futures_util::Stream<Item = Piece> + Send>>> {
        let stream = futures_util::stream::unfold(0, move |sent| async move {
            if sent == pieces {
                return None;
            }
            tokio::time::sleep(every).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), sent + 1))
        });
        StreamBody::new(Box::pin(stream))
    }

    const PACE: Pace = Pace { idle: Duration::from_secs(10), min_rate: 1 };

    #[tokio::test(start_paused = true)]
    async fn who_stands_still_is_evicted() {
        let error = Paced::new(body(Duration::from_secs(11), 1), PACE).collect().await.expect_err("too slow");
        assert!(matches!(error, PaceError::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_is_evicted_and_who_goes_on_is_not() {
        let error = Paced::new(body(Duration::from_secs(3), 100), PACE).collect().await.expect_err("too slow");
        assert!(matches!(error, PaceError::Slow));
        let whole = Paced::new(body(Duration::from_millis(500), 100), PACE).collect().await.expect("fast enough");
        assert_eq!(whole.to_bytes().len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_stands_still_while_we_do_not_read() {
        let mut paced = Paced::new(body(Duration::from_millis(500), 100), PACE);
        let mut pieces = 0;
        while let Some(frame) = paced.frame().await {
            frame.expect("our slowness is not the sender's");
            pieces += 1;
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(pieces, 100);
    }
}
