//! One connection, from its handshake to its end.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use rustls::{ProtocolVersion, ServerConfig};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, watch},
    task::coop::unconstrained,
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    Handler,
    drain::{Open, Stop},
    guard::{Guard, Verdicts},
    linger::Linger,
    proxied,
    pulse::{Due, Protocol, Pulse},
    quiet::Http1,
    stall::Stall,
    watched::{Door, Running, Streams, Watched},
};
use crate::{
    clock::Clock,
    config::{Desync, Limits},
    http::{Connection, TlsInfo},
    metrics::Metrics,
    tls::{acme, clients::Clients},
};

/// Connections at once that have large buffers; those that come when there are more have small ones.
const FEW: i64 = 64;
/// Requests at once on one HTTP/2 connection.
const HTTP2_STREAMS: u32 = 100;
/// What a peer may send ahead on one stream, in bytes: bounds the speed of an
/// upload over a long way, and what one stream can make us hold.
const HTTP2_STREAM_WINDOW: u32 = 256 << 10;
/// The same for all streams of a connection together. Uploads that wait in line for
/// memory leave their bytes unread: were this less than the sum of their windows,
/// they would starve those that have memory, and those would never give it back.
const HTTP2_CONNECTION_WINDOW: u32 = HTTP2_STREAMS * HTTP2_STREAM_WINDOW;
/// The largest frame we take; bytes.
const HTTP2_FRAME: u32 = 16 << 10;
/// What one stream's answer may have waiting, in bytes.
const HTTP2_SEND_BUFFER: usize = 256 << 10;
/// Streams reset by the peer before we looked at them, and by us for its errors (rapid reset).
const HTTP2_PENDING_RESETS: usize = 32;
const HTTP2_ERROR_RESETS: usize = 256;
/// Pings, so that a dead peer is found out; and how long one may go unanswered.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// How long a server that stops waits for the first request of a connection that has just come.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long what a peer still sends is thrown away after our end; who sends nothing is waited for a second.
const LINGER: Duration = Duration::from_secs(5);

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// Moves with the server's own end; a sender that is gone means the server is.
    pub(super) stop: watch::Receiver<Stop>,
}

/// What one connection holds while it is open.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Accepted, and watched by no poller yet.
    pub(super) socket: std::net::TcpStream,
    pub(super) peer: SocketAddr,
    /// Whether the peer is a balancer, which says first whose connection it passes on.
    pub(super) balanced: bool,
    /// What becomes of requests that could be read in two ways.
    pub(super) desync: Desync,
    /// Who decides about clients' certificates, where any are taken.
    pub(super) clients: Option<Arc<Clients>>,
    pub(super) open: Open,
    pub(super) permit: OwnedSemaphorePermit,
}

type Encrypted = Stall<Linger<TcpStream>>;
/// Boxed: it is large, and moved from hand to hand.
type Session = Box<TlsStream<Encrypted>>;
pub(super) type Decrypted = Watched<Session>;

/// Serves one connection to its end.
pub(super) async fn run<S: Handler>(arrival: Arrival, tls: Arc<ServerConfig>, service: S, shared: Arc<Shared>) {
    let Arrival { socket, peer, balanced, desync, clients, open, permit } = arrival;
    let mut stop = shared.stop.clone();
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let Ok(local) = socket.local_addr() else { return };
    // By the trust of now, or a later one, the client is judged.
    let clients = clients.map(|clients| (clients.epoch(), clients));
    let stream = {
        let _state = In::new(&shared.metrics, "handshake");
        // Who came before the word to stop is served: whatever sends clients here may not know yet.
        tokio::select! {
            () = stopped(&mut stop, Stop::Cut) => return,
            stream = handshake(socket, balanced, tls, &shared) => stream,
        }
    };
    let Some((mut stream, client)) = stream else { return };
    // An authority has seen what it came for.
    if stream.get_ref().1.alpn_protocol() == Some(acme::PROTOCOL) {
        let _ = tokio::time::timeout(LINGER, stream.shutdown()).await;
        return;
    }
    let peer = client.unwrap_or(peer);
    let state = In::new(&shared.metrics, "serving");
    let sizes = Sizes::beside(state.0.get());
    stream.get_mut().1.set_buffer_limit(Some(sizes.tls));

    let session = stream.get_ref().1;
    let protocol = if session.alpn_protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    let client = clients.and_then(|(epoch, clients)| clients.presented(session.peer_certificates(), epoch));
    let info = TlsInfo { sni: session.server_name().map(str::to_owned), client, ..told(session) };
    let connection = Arc::new(Connection::new(peer, local, Some(info)));
    let pulse = Pulse::new(protocol, &shared.limits);
    let io = Watched::new(stream, pulse.clone());
    let verdicts = Verdicts::new(desync, shared.limits.header_bytes, shared.metrics.clone());
    let door = Door { service, connection: connection.clone(), pulse: pulse.clone(), verdicts: verdicts.clone() };
    let end = match protocol {
        Protocol::Http1 => {
            let guard = Guard::new(io, verdicts, pulse.clone(), connection.clone());
            let served = Http1::new(guard, door, http1_builder(&shared.limits, sizes));
            drive(served, &pulse, &connection, &mut stop).await
        }
        Protocol::Http2 => {
            let streams = Running::default();
            let connection_of =
                http2_builder(&shared.limits, streams.streams()).serve_connection(TokioIo::new(io), door);
            let served = Http2 { connection: Box::new(connection_of), streams };
            drive(served, &pulse, &connection, &mut stop).await
        }
    };
    // What was switched to another protocol goes on without us, and is ours to end.
    tokio::select! {
        () = connection.no_tunnel() => {}
        () = stopped(&mut stop, Stop::Cut) => connection.cut_tunnels(),
    }
    let refused = match end {
        End::Cut(Due::Stalled) => Some("send_stall"),
        End::Cut(Due::TakenBack) => Some("taken_back"),
        _ => None,
    };
    if let Some(reason) = refused {
        shared.metrics.connections_refused.with_label_values(&[reason]).inc();
    }
    match end {
        End::Served(Err(error)) => tracing::debug!(%peer, %error, "connection ended"),
        End::Served(Ok(())) => {}
        End::Cut(due) => tracing::debug!(%peer, ?due, "connection cut"),
        End::Stopped => tracing::debug!(%peer, "connection cut by the end of serving"),
    }
    drop((open, permit));
}

/// What a connection may buffer beside the budget; bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// hyper's buffer for HTTP/1, each way; a head's own limit is below it.
    http1: usize,
    /// What is encrypted and not yet taken by the peer: the more goes out at once, the less each byte costs.
    tls: usize,
}

impl Sizes {
    /// Those of one more beside `open` connections: few have much to carry each, and of many it is their number
    /// that takes the memory.
    fn beside(open: i64) -> Self {
        if open <= FEW { Self { http1: 128 << 10, tls: 256 << 10 } } else { Self { http1: 32 << 10, tls: 64 << 10 } }
    }
}

/// How a connection ended.
enum End {
    /// By itself.
    Served(hyper::Result<()>),
    /// By the clock.
    Cut(Due),
    /// By the server's own end.
    Stopped,
}

/// What hyper's two kinds of connection have in common.
pub(super) trait Served: Unpin {
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;
    /// No further requests; those under way go on.
    fn end(&mut self);
}

/// An HTTP/2 connection, and the streams it has begun.
struct Http2<S: Handler> {
    connection: Box<http2::Connection<TokioIo<Decrypted>, Door<S>, Streams>>,
    streams: Running,
}

impl<S: Handler> Served for Http2<S> {
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let served = Pin::new(&mut self.connection).poll(cx);
        // What they send wakes the connection again.
        self.streams.poll(cx);
        served
    }

    fn end(&mut self) {
        Pin::new(&mut *self.connection).graceful_shutdown();
    }
}

/// Drives a connection under its clock until it ends or is ended. Whatever is
/// cut is dropped: without `close_notify`, so that no peer takes a part for the whole.
async fn drive(
    mut served: impl Served,
    pulse: &Pulse,
    connection: &Connection,
    stop: &mut watch::Receiver<Stop>,
) -> End {
    let mut clock = Clock::default();
    let mut first: Option<Pin<Box<Sleep>>> = None;
    let mut draining = false;
    let mut asked = false;
    let heard = stop.clone();
    loop {
        let waits = first.is_some();
        let turn = {
            let stage = if draining { Stop::Cut } else { Stop::Drain };
            let mut word = std::pin::pin!(async {
                tokio::select! {
                    biased;
                    () = stopped(stop, stage) => Turn::Stopped,
                    () = asked_or(&mut first), if waits => Turn::Asked,
                    () = connection.close_asked(), if !asked => Turn::Close,
                }
            });
            let mut listens = false;
            let turn = poll_fn(|cx| {
                // Once polled it has this task's waker, and is asked again where there may be news:
                // a look costs less, and a busy connection is woken all the time.
                if !listens || waits || connection.is_closing() || heard.has_changed().unwrap_or(true) {
                    listens = true;
                    if let Poll::Ready(turn) = std::pin::pin!(unconstrained(word.as_mut())).poll(cx) {
                        return Poll::Ready(turn);
                    }
                }
                pulse.turns();
                if let Poll::Ready(end) = served.poll_served(cx) {
                    return Poll::Ready(Turn::Ended(end));
                }
                if waits && pulse.was_asked() {
                    return Poll::Ready(Turn::Asked);
                }
                pulse.register(cx.waker());
                match pulse.due() {
                    Some((at, due)) => clock.poll(cx, at).map(|()| Turn::Due(due)),
                    None => Poll::Pending,
                }
            });
            turn.await
        };
        match turn {
            Turn::Stopped => {
                if draining || *stop.borrow() == Stop::Cut || stop.has_changed().is_err() {
                    return End::Stopped;
                }
                draining = true;
                if !pulse.was_asked() {
                    // It has only just come, perhaps: its first request is answered.
                    first = Some(Box::pin(tokio::time::sleep(FIRST_REQUEST)));
                    continue;
                }
            }
            Turn::Close => asked = true,
            Turn::Ended(end) => return End::Served(end),
            Turn::Asked => first = None,
            Turn::Due(Due::Idle) => {}
            Turn::Due(due) => return End::Cut(due),
        }
        pulse.ending();
        served.end();
    }
}

/// Sleeps as long as there is to be waited for a first request.
async fn asked_or(first: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(first) = first {
        first.as_mut().await;
    }
}

enum Turn {
    Ended(hyper::Result<()>),
    /// The server is told to stop.
    Stopped,
    /// The first request has come, or was waited for long enough.
    Asked,
    /// Somebody wants the connection to end.
    Close,
    Due(Due),
}

/// As [`reached`], but a server that is gone has also come to [`Stop::Cut`].
pub(super) async fn stopped(stop: &mut watch::Receiver<Stop>, stage: Stop) {
    let _ = stop.wait_for(|now| *now >= stage).await.map(drop);
}

/// The handshake, and whom a balancer names as the client.
async fn handshake(
    mut socket: TcpStream,
    balanced: bool,
    tls: Arc<ServerConfig>,
    shared: &Shared,
) -> Option<(Session, Option<SocketAddr>)> {
    let Shared { limits, metrics, .. } = shared;
    let stalled = metrics.connections_refused.with_label_values(&["send_stall"]);
    let mut began = Instant::now();
    let work = async {
        // Measured from the first byte: before it there is only the network, or a port scan.
        socket.readable().await?;
        began = Instant::now();
        let client = if balanced { proxied::client(&mut socket).await? } else { None };
        let io = Stall::new(Linger::new(socket, LINGER), limits.send_idle_timeout, stalled);
        Ok((Box::new(Box::pin(TlsAcceptor::from(tls).accept(io)).await?), client))
    };
    let outcome = tokio::time::timeout(limits.handshake_timeout, work).await;
    let (stream, outcome) = match outcome {
        Ok(Ok(stream)) => (Some(stream), "ok"),
        Ok(Err(error)) if ended_early(&error) => (None, "eof"),
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake failed");
            (None, if of_a_client(&error) { "client_certificate" } else { "failed" })
        }
        Err(_) => (None, "timeout"),
    };
    let told = stream.as_ref().map(|(stream, _)| told(stream.get_ref().1));
    let (version, group) = told.map_or(("none", "none"), |told| (told.version, told.group));
    metrics.tls_handshakes.with_label_values(&[version, group, outcome]).inc();
    metrics.tls_handshake_seconds.with_label_values(&[outcome]).observe(began.elapsed().as_secs_f64());
    stream
}

fn ended_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// Whether a client's certificate is what went wrong, or the lack of one.
fn of_a_client(error: &io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// What the handshake settled, but for the names of both sides.
fn told(session: &rustls::ServerConnection) -> TlsInfo {
    let group = session.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
    let suite = session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
    TlsInfo {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "other",
        },
        cipher: suite.unwrap_or("other"),
        group: group.unwrap_or("other"),
        sni: None,
        client: None,
    }
}

fn http1_builder(limits: &Limits, sizes: Sizes) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // It would start when the connection becomes idle; the pulse tells idle from slow.
        .header_read_timeout(None)
        // The guard has a word for what is longer, and hyper has none.
        .max_header_size(limits.header_bytes)
        .max_buf_size(sizes.http1.max(limits.header_bytes))
        .half_close(false)
        .pipeline_flush(false)
        .keep_alive(true);
    builder
}

fn http2_builder(limits: &Limits, streams: Streams) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams);
    builder
        .timer(TokioTimer::new())
        // Over it h2 answers 431.
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(HTTP2_STREAMS)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .max_pending_accept_reset_streams(HTTP2_PENDING_RESETS)
        .max_local_error_reset_streams(HTTP2_ERROR_RESETS)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PING);
    builder
}

/// One connection in a state of the `sealward_connections` gauge.
pub(super) struct In(IntGauge);

impl In {
    pub(super) fn new(metrics: &Metrics, state: &str) -> Self {
        let gauge = metrics.connections.with_label_values(&[state]);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for In {
    fn drop(&mut self) {
        self.0.dec();
    }
}
