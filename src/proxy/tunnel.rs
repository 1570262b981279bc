//! Bytes between both sides of a connection whose protocol was switched, until one of them
//! ends, nothing goes or comes for too long, or the server ends.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    http::{Held, Meter, Tunnel},
    tls::clients::Presented,
    upstream::InFlight,
};

/// How often it is asked whether a client's certificate is still trusted.
const LOOK: Duration = Duration::from_secs(5);

/// Both sides, once they have switched.
pub(super) struct Sides {
    pub(super) client: OnUpgrade,
    pub(super) app: OnUpgrade,
    pub(super) idle: Duration,
    /// The client's certificate, for as long as it is trusted.
    pub(super) certificate: Option<Arc<Presented>>,
}

/// Passes bytes to the end.
pub(super) async fn run(sides: Sides, tunnel: Tunnel, in_flight: Option<InFlight>, held: Option<Held>) {
    let Sides { client, app, idle, certificate } = sides;
    let passing = async {
        let (client, app) = tokio::try_join!(client, app).map_err(io::Error::other)?;
        let progress = Arc::new(Progress { begun: Instant::now(), milliseconds: AtomicU64::new(0) });
        let side = |side: Upgraded| {
            let (progress, meter) = (Arc::clone(&progress), held.as_ref().map(|held| held.0.clone()));
            Side { io: TokioIo::new(side), progress, meter }
        };
        let (mut client, mut app) = (side(client), side(app));
        let copied = tokio::io::copy_bidirectional(&mut client, &mut app);
        tokio::pin!(copied);
        loop {
            tokio::select! {
                copied = &mut copied => return copied.map(drop),
                () = tokio::time::sleep_until(progress.last() + idle) => {
                    if progress.last() + idle <= Instant::now() {
                        return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing went or came"));
                    }
                }
            }
        }
    };
    let ended = tokio::select! {
        ended = passing => ended,
        () = tunnel.cut() => Ok(()),
        () = gone(in_flight.as_ref()) => Err(io::Error::other("the target is gone, and its time over")),
        () = distrusted(certificate) => Err(io::Error::other("the client's certificate is no longer trusted")),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a tunnel ended");
    }
    drop((tunnel, in_flight, held));
}

/// Resolves once the target is gone, and its time over.
async fn gone(in_flight: Option<&InFlight>) {
    match in_flight {
        Some(in_flight) => in_flight.cut().await,
        None => std::future::pending().await,
    }
}

/// Resolves once a client's certificate would let it in no more.
async fn distrusted(certificate: Option<Arc<Presented>>) {
    let Some(certificate) = certificate else { return std::future::pending().await };
    while certificate.holds() {
        tokio::time::sleep(LOOK).await;
    }
}

/// When a byte last went either way.
struct Progress {
    begun: Instant,
    milliseconds: AtomicU64,
}

impl Progress {
    fn last(&self) -> Instant {
        self.begun + Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }

    fn now(&self) {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(since, Ordering::Relaxed);
    }
}

struct Side {
    io: TokioIo<Upgraded>,
    progress: Arc<Progress>,
    meter: Option<Meter>,
}

impl AsyncRead for Side {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buffer);
        let came = buffer.filled().len() - before;
        if came > 0 {
            self.progress.now();
            if let Some(meter) = &self.meter {
                meter(came);
            }
        }
        read
    }
}

impl AsyncWrite for Side {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
