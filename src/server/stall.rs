//! Keeps one promise: a peer that takes no byte of what we want to write, for
//! as long as the limit says, loses its connection.
//!
//! It stands below TLS, on the socket itself, so that it sees what the peer's
//! window lets through, not what a buffer of ours takes.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use prometheus::IntCounter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// A socket whose peer must take what it is sent.
#[derive(Debug)]
pub struct Stall<T> {
    inner: T,
    limit: Duration,
    stalled: IntCounter,
    /// Made when first needed, and then kept: most connections never wait.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<T> Stall<T> {
    /// Wraps `inner`; writes fail with [`io::ErrorKind::TimedOut`] after `limit`
    /// without a byte taken, which `stalled` counts.
    pub fn new(inner: T, limit: Duration, stalled: IntCounter) -> Self {
        Self { inner, limit, stalled, timer: None, waiting: false }
    }

    /// Lets progress pass, and measures the lack of it.
    fn judge<R>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.waiting = false;
            return outcome;
        }
        let due = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(due);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.waiting = false;
        self.stalled.inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stall<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stall<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            // A socket's flush is always ready and says nothing of the peer.
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => self.judge(cx, Poll::Pending),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("stalls", "stalls").expect("a counter")
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_reads() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let stalled = counter();
        let mut ours = Stall::new(ours, Duration::from_secs(60), stalled.clone());
        let began = Instant::now();
        let error = ours.write_all(&[0; 64]).await.expect_err("stalls");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!((began.elapsed().as_secs(), stalled.get()), (60, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_is_not_stalled() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let stalled = counter();
        let mut ours = Stall::new(ours, Duration::from_secs(60), stalled.clone());
        let reader = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                theirs.read_exact(&mut [0; 16]).await.expect("reads");
            }
        });
        ours.write_all(&[0; 128]).await.expect("arrives");
        reader.await.expect("read it all");
        assert_eq!(stalled.get(), 0);
    }
}
