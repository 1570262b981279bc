//! A connection to a target: plain or TLS.
//!
//! A target may answer before it has the whole request, and shut the door: what is written
//! then fails, while the answer lies there to be read. So a write that fails for that waits,
//! and reading says how it ends.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};
use tokio_rustls::client::TlsStream;

use super::connect::Counted;

pub(super) struct Link {
    socket: Socket,
    /// Whether the target takes nothing more.
    shut: bool,
    /// Who waits for something to come.
    heard: Weak<Notify>,
    _counted: Counted,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Link {
    pub(super) fn plain(socket: TcpStream, counted: Counted) -> Self {
        Self { socket: Socket::Plain(socket), shut: false, heard: Weak::new(), _counted: counted }
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>, counted: Counted) -> Self {
        Self { socket: Socket::Tls(Box::new(stream)), shut: false, heard: Weak::new(), _counted: counted }
    }

    /// Tells `heard`, as long as anybody has that, whenever something has come.
    pub(super) fn tell(&mut self, heard: &Arc<Notify>) {
        self.heard = Arc::downgrade(heard);
    }

    fn written(&mut self, cx: &Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match outcome {
            Poll::Ready(Err(error))
                if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) =>
            {
                self.shut = true;
                // There may be something to be read, or the end.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            outcome => outcome,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if outcome.is_ready()
            && let Some(heard) = self.heard.upgrade()
        {
            heard.notify_one();
        }
        outcome
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Pending;
        }
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.written(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Pending;
        }
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Socket::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.written(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(socket) => socket.is_write_vectored(),
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Pending;
        }
        let outcome = match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        };
        self.written(cx, outcome.map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut {
            return Poll::Ready(Ok(()));
        }
        match &mut self.socket {
            Socket::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
