//! Keeps one promise: what was written before the end reaches a peer that is
//! still sending.
//!
//! A socket closed with unread bytes in it resets the connection, and the reset
//! can overtake the answer: a client whose upload was refused early would see
//! "connection reset" in place of the reason. So after our end was sent, what
//! still comes is thrown away for a moment; for longer where anything does come.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Reads at one poll, so that a fast sender can't keep the task to itself.
const READS_A_POLL: usize = 16;

/// How long a peer that sends nothing has for its own end: such as a pool's, which may not notice ours.
const SILENT: Duration = Duration::from_secs(1);

/// A socket whose shutdown waits for the peer's own end.
#[derive(Debug)]
pub struct Linger<T> {
    inner: T,
    limit: Duration,
    /// There once our end is sent.
    timer: Option<Timer>,
}

#[derive(Debug)]
struct Timer {
    sleep: Pin<Box<Sleep>>,
    /// When it is over for a peer that still sends; `None` once it is known to.
    at_most: Option<Instant>,
}

impl<T> Linger<T> {
    /// Wraps `inner`; shutdown takes up to `limit` longer where the peer still sends, and a second where it doesn't.
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
        let timer = me.timer.get_or_insert_with(|| Timer {
            sleep: Box::pin(tokio::time::sleep(limit.min(SILENT))),
            at_most: Some(Instant::now() + limit),
        });
        if timer.sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut sink = [0; 8 << 10];
        for _ in 0..READS_A_POLL {
            let mut sink = ReadBuf::new(&mut sink);
            match ready!(Pin::new(&mut me.inner).poll_read(cx, &mut sink)) {
                Ok(()) if !sink.filled().is_empty() => {
                    if let Some(at_most) = timer.at_most.take() {
                        timer.sleep.as_mut().reset(at_most);
                    }
                }
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
        let ends = async |sent: &[u8]| {
            let (ours, mut theirs) = tokio::io::duplex(16);
            theirs.write_all(sent).await.expect("taken");
            let mut ours = Linger::new(ours, Duration::from_secs(5));
            let began = Instant::now();
            ours.shutdown().await.expect("ends");
            began.elapsed().as_secs()
        };
        assert_eq!((ends(b"").await, ends(b"more").await), (1, 5), "who is silent, and who isn't");
    }
}
