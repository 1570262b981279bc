//! Listens, handshakes, serves, drains; and the admin side.
//!
//! Every wait on a client has a bound: the handshake, a request's head, an idle
//! connection, an answer nobody takes. The bodies of requests are bounded by the
//! rooms that read them.

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use ::http::{Request, Response};
use hyper::{body::Incoming, service::Service};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};

use self::{
    connection::{Arrival, Shared, stopped},
    drain::{Tracker, reached},
    proxied::Balancers,
    workers::Workers,
};
use crate::{
    config::{Desync, Limits},
    http::Body,
    metrics::Metrics,
    tls::clients::Clients,
};

pub mod admin;
mod connection;
pub mod drain;
pub mod files;
mod guard;
pub mod linger;
pub mod passed;
pub mod plain;
pub mod proxied;
mod pulse;
mod quiet;
pub mod stall;
mod watched;
mod workers;

pub use drain::{Drained, Stop};
pub use passed::Passed;

/// Connections the kernel holds for us before we accept them.
const BACKLOG: i32 = 1024;
/// Between tries while accepting fails (no file descriptors left, mostly).
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The same trouble is logged this often at most.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How long connections that are cut may take to let go of what they hold.
const LET_GO: Duration = Duration::from_secs(2);

/// What answers requests: any hyper service of this shape.
pub trait Handler:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + Unpin + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Handler for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + Unpin + 'static>
        + Clone
        + Send
        + 'static
{
}

/// One address to listen on, and what its handshakes are told.
#[derive(Clone, Debug)]
pub struct Front {
    /// Address and port; port 0 takes a free one.
    pub bind: SocketAddr,
    /// What is spoken there.
    pub spoken: Spoken,
    /// Who decides about clients' certificates, where any are taken.
    pub clients: Option<Arc<Clients>>,
    /// Who passes connections on and says whose they are, if anybody does.
    pub balancers: Option<Balancers>,
    /// What becomes of requests that could be read in two ways.
    pub desync: Desync,
}

/// What a listener speaks.
#[derive(Clone)]
pub enum Spoken {
    /// TLS, as [`crate::tls::server_config`] makes it.
    Tls(Arc<ServerConfig>),
    /// Plain HTTP, which answers authorities and sends everybody else on.
    Plain(plain::Challenges),
}

impl fmt::Debug for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::Plain(_) => "Plain",
        })
    }
}

/// Why an address can't be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the operating system says.
    pub source: io::Error,
}

/// Bound sockets that wait to be served.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<(TcpListener, SocketAddr, Front)>,
    limits: Limits,
    metrics: Metrics,
}

impl Server {
    /// Binds every front, or none; sockets that were `passed` are taken in place of those at the same
    /// address. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`BindError`], with the first address that can't be had.
    pub fn bind(fronts: Vec<Front>, passed: &mut Passed, limits: Limits, metrics: Metrics) -> Result<Self, BindError> {
        let listeners = fronts
            .into_iter()
            .map(|front| listen(front.bind, passed).map(|(listener, local)| (listener, local, front)))
            .collect::<Result<_, _>>()?;
        Ok(Self { listeners, limits, metrics })
    }

    /// The addresses bound, in the order of the fronts; where port 0 was asked for, the port given.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(_, local, _)| *local).collect()
    }

    /// Serves until `stop` says [`Stop::Drain`], then waits for what is under way: for
    /// `limits.drain_timeout`, or until `stop` says [`Stop::Cut`]. What is left is cut.
    ///
    /// Requests may have begun what outlives their connections, on the threads that served them:
    /// those are there until `left_over` has ended, too.
    ///
    /// Each request carries an `Arc<`[`crate::http::Connection`]`>` in its extensions.
    /// Dropping the future cuts everything.
    pub async fn serve<S: Handler>(
        self,
        service: S,
        mut stop: watch::Receiver<Stop>,
        left_over: impl Future<Output = ()>,
    ) -> Drained {
        let Self { listeners, limits, metrics } = self;
        let drain_timeout = limits.drain_timeout;
        let (ours, to_connections) = watch::channel(Stop::Run);
        let (doors, to_doors) = watch::channel(Stop::Run);
        let slots = Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS)));
        let tracker = Tracker::new();
        let shared = Arc::new(Shared { limits, metrics, stop: to_connections });
        let mut accepting = JoinSet::new();
        let workers = match Workers::start() {
            Ok(workers) => Arc::new(workers),
            Err(error) => {
                tracing::error!(%error, "no threads to serve by; raise the limit of processes (ulimit -u)");
                return Drained { cut: 0 };
            }
        };
        for (listener, local, front) in listeners {
            tracing::info!(address = %local, "listening");
            let (slots, tracker, shared) = (slots.clone(), tracker.clone(), shared.clone());
            let workers = Arc::clone(&workers);
            let stop = to_doors.clone();
            accepting.spawn(Acceptor { listener, front, slots, tracker, shared, workers, stop }.run(service.clone()));
        }
        // What is kept in the service (pools, budgets) may end with the last connection.
        drop(service);

        reached(&mut stop, Stop::Drain).await;
        doors.send_replace(Stop::Drain);
        // Each takes what has come already, and closes its door.
        let _ = tokio::time::timeout(LET_GO, async { while accepting.join_next().await.is_some() {} }).await;
        accepting.shutdown().await;
        // Not before: who is told to go comes again at once, and is to find nobody rather than a door
        // that closes on it.
        ours.send_replace(Stop::Drain);
        tracing::info!(open = tracker.count(), "draining");
        let early = tokio::select! {
            () = tracker.none() => true,
            () = tokio::time::sleep(drain_timeout) => false,
            () = reached(&mut stop, Stop::Cut) => false,
        };
        let cut = if early { 0 } else { tracker.count() };
        ours.send_replace(Stop::Cut);
        // Their destructors run in their own tasks.
        let _ = tokio::time::timeout(LET_GO, tracker.none()).await;
        left_over.await;
        drop(workers);
        Drained { cut }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        match source.kind() {
            io::ErrorKind::AddrInUse => {
                write!(f, "{address}: address in use: another process listens there; choose another `bind`")
            }
            io::ErrorKind::PermissionDenied => {
                write!(f, "{address}: not permitted; choose a port from 1024 up, or grant CAP_NET_BIND_SERVICE")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "{address}: this machine has no such address; choose another `bind`")
            }
            _ => write!(f, "{address}: can't listen: {source}; check `bind`"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// One socket's accept loop. Ends by being dropped, or once a server that stops has taken what
/// had come by then.
struct Acceptor {
    listener: TcpListener,
    front: Front,
    slots: Arc<Semaphore>,
    tracker: Tracker,
    shared: Arc<Shared>,
    workers: Arc<Workers>,
    /// Whether the door is to be closed.
    stop: watch::Receiver<Stop>,
}

impl Acceptor {
    async fn run<S: Handler>(mut self, service: S) {
        let mut quiet = Quiet::default();
        let mut pause = FIRST_PAUSE;
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = self.listener.accept() => accepted,
                () = stopped(&mut self.stop, Stop::Drain) => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                // The peer was gone before we came.
                Err(error) if of_the_peer(&error) => continue,
                Err(error) => {
                    if quiet.may_speak() {
                        tracing::warn!(%error, "can't accept connections; raise the file limit if it says so");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stopped(&mut self.stop, Stop::Drain) => return,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            pause = FIRST_PAUSE;
            let permit = if let Ok(permit) = self.slots.clone().try_acquire_owned() {
                permit
            } else {
                // This one waits, and the rest in the kernel's backlog behind it.
                self.shared.metrics.connections_refused.with_label_values(&["cap"]).inc();
                if quiet.may_speak() {
                    tracing::warn!("`limits.connections` reached; new connections wait for one to end");
                }
                tokio::select! {
                    biased;
                    Ok(permit) = self.slots.clone().acquire_owned() => permit,
                    // It finds the door closed: most slots come free only once those inside are told to go,
                    // which is after us.
                    () = stopped(&mut self.stop, Stop::Drain) => return,
                }
            };
            nodelay(&socket);
            // The worker's own poller watches it from now on.
            let socket = match socket.into_std() {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::debug!(%error, "a connection can't be handed on");
                    continue;
                }
            };
            let balanced = self.front.balancers.as_ref().is_some_and(|balancers| balancers.has(peer));
            let (clients, open, shared) = (self.front.clients.clone(), self.tracker.open(), self.shared.clone());
            let desync = self.front.desync;
            let arrival = Arrival { socket, peer, balanced, desync, clients, open, permit };
            match &self.front.spoken {
                Spoken::Tls(tls) => {
                    let (tls, service) = (tls.clone(), service.clone());
                    self.workers.serve(async move { connection::run(arrival, tls, service, shared).await });
                }
                Spoken::Plain(challenges) => {
                    let challenges = challenges.clone();
                    self.workers.serve(async move { plain::run(arrival, challenges, shared).await });
                }
            }
        }
    }
}

/// Binds one address, unless a socket there was passed.
fn listen(address: SocketAddr, passed: &mut Passed) -> Result<(TcpListener, SocketAddr), BindError> {
    let mut bind = || -> io::Result<(TcpListener, SocketAddr)> {
        if let Some(socket) = passed.take(address) {
            let listener = TcpListener::from_std(socket)?;
            let local = listener.local_addr()?;
            return Ok((listener, local));
        }
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restart must not wait for the last run's connections to be forgotten.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = listener.local_addr()?;
        Ok((listener, local))
    };
    bind().map_err(|source| BindError { address, source })
}

/// What a socket may hold that isn't sent yet, in bytes. Without it a slow reader has
/// to take megabytes before the socket counts as writable again, and looks like one
/// that takes nothing.
const UNSENT: u32 = 256 << 10;

/// Small frames go out at once; what is large fills segments by itself.
fn nodelay(socket: &TcpStream) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    if let Err(error) = socket2::SockRef::from(socket).set_tcp_notsent_lowat(UNSENT) {
        tracing::debug!(%error, "no TCP_NOTSENT_LOWAT");
    }
}

fn of_the_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Lets the same trouble be logged now and then only.
#[derive(Default)]
struct Quiet(Option<Instant>);

impl Quiet {
    fn may_speak(&mut self) -> bool {
        let now = Instant::now();
        let may = self.0.is_none_or(|last| now - last >= LOG_EVERY);
        if may {
            self.0 = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_address_is_named_with_a_mend() {
        let mut none = Passed::default();
        let (_taken, local) = listen(SocketAddr::from(([127, 0, 0, 1], 0)), &mut none).expect("a free port");
        let error = listen(local, &mut none).expect_err("taken").to_string();
        assert_eq!(error, format!("{local}: address in use: another process listens there; choose another `bind`"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_stays_quiet() {
        let mut quiet = Quiet::default();
        assert!(quiet.may_speak());
        assert!(!quiet.may_speak());
        tokio::time::advance(LOG_EVERY).await;
        assert!(quiet.may_speak());
    }
}
