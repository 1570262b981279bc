//! Keeps one promise: what was written before the end reaches a peer that is
//! still sending.
//!
//! A socket closed with unread bytes in it resets the connection, and the reset
//! can overtake the answer: a client whose upload was refused early would see
//! "connection reset" in place of the reason. So after our end was sent, what
//! still comes is thrown away for a moment.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Reads at one poll, so that a fast sender can't keep the task to itself.
const READS_A_POLL: usize = 16;

/// A socket whose shutdown waits for the peer's own end.
#[derive(Debug)]
pub struct Linger<T> {
    inner: T,
    limit: Duration,
    /// There once our end is sent.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Linger<T> {
    /// Wraps `inner`; shutdown takes up to `limit` longer.
    pub fn new(inner: T, limit: Duration) -> Self {
        Self { inner, limit, timer: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Linger<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<T> {
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
        let me = &mut *self;
        if me.timer.is_none() {
            ready!(Pin::new(&mut me.inner).poll_shutdown(cx))?;
        }
        let limit = me.limit;
        let timer = me.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut sink = [0; 8 << 10];
        for _ in 0..READS_A_POLL {
            let mut sink = ReadBuf::new(&mut sink);
            match ready!(Pin::new(&mut me.inner).poll_read(cx, &mut sink)) {
                Ok(()) if !sink.filled().is_empty() => {}
                // The peer's end, or its reset: either way it is done with us.
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drains_until_the_peer_ends() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut ours = Linger::new(ours, Duration::from_secs(9));
        let peer = tokio::spawn(async move {
            theirs.write_all(&[0; 4096]).await.expect("taken");
            let mut got = Vec::new();
            theirs.read_to_end(&mut got).await.expect("clean");
            got
        });
        ours.write_all(b"refused").await.expect("written");
        let began = Instant::now();
        ours.shutdown().await.expect("ends");
        assert_eq!(peer.await.expect("runs"), b"refused");
        assert!(began.elapsed() < Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn not_for_ever() {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut ours = Linger::new(ours, Duration::from_secs(1));
        let began = Instant::now();
        ours.shutdown().await.expect("ends");
        assert_eq!(began.elapsed().as_secs(), 1);
    }
}
