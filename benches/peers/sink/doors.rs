//! The ports, and the threads behind them.
//!
//! Each of the two workers has a runtime of its own, and a connection stays where it began:
//! nothing is passed between threads for a request. Those that accept do nothing else.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc::{self, UnboundedSender},
};
use tokio_rustls::TlsAcceptor;

use crate::{State, kms, s3};

const WORKERS: usize = 2;
/// The most that is read at once: a size class of the allocator, large enough for calls to the
/// kernel not to matter.
const BUFFER: usize = 256 * 1024;
/// Connections that may wait to be accepted: a crowd that begins at once isn't to try again.
const BACKLOG: i32 = 4096;

/// What is spoken at a port.
#[derive(Clone)]
pub(crate) enum Door {
    S3,
    S3Tls(TlsAcceptor),
    Kms,
}

/// A connection on its way to its worker.
type Caller = (std::net::TcpStream, Door);

/// The threads that serve.
pub(crate) struct Workers(Vec<UnboundedSender<Caller>>);

impl Workers {
    pub(crate) fn start(state: &'static State) -> Self {
        Self((0..WORKERS).map(|_| worker(state)).collect())
    }

    /// Opens a port, whose connections go to the workers in turn, and returns its number.
    pub(crate) fn open(&self, door: &Door) -> u16 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(BACKLOG).expect("listens");
        let listener = TcpListener::from(socket);
        let port = listener.local_addr().expect("an address").port();
        let (workers, door) = (self.0.clone(), door.clone());
        thread::spawn(move || {
            for (socket, worker) in listener.incoming().flatten().zip(workers.iter().cycle()) {
                // One that is gone already needs no worker.
                if socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true)).is_ok() {
                    let _ = worker.send((socket, door.clone()));
                }
            }
        });
        port
    }
}

/// TLS under a certificate and its key, both PEM.
pub(crate) fn tls(certificate: &str, key: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let key = PrivateKeyDer::from_pem_file(key).expect("a key in PEM");
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions that the provider has")
        .with_no_client_auth()
        .with_single_cert(chain.expect("certificates in PEM"), key)
        .expect("a key of that certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

fn worker(state: &'static State) -> UnboundedSender<Caller> {
    let (sender, mut callers) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    thread::spawn(move || {
        runtime.block_on(async move {
            while let Some(caller) = callers.recv().await {
                tokio::spawn(serve(state, caller));
            }
        });
    });
    sender
}

async fn serve(state: &'static State, (socket, door): Caller) {
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    match door {
        Door::S3 => converse(state, socket, false).await,
        Door::Kms => converse(state, socket, true).await,
        Door::S3Tls(tls) => {
            if let Ok(socket) = tls.accept(socket).await {
                converse(state, socket, false).await;
            }
        }
    }
}

async fn converse<I>(state: &'static State, io: I, is_kms: bool)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(move |request: Request<Incoming>| async move {
        if is_kms { kms::answer(state, request).await } else { s3::answer(state, request).await }
    });
    let mut server = http1::Builder::new();
    server.max_buf_size(BUFFER);
    // A connection that breaks has been counted where it broke off a body.
    let _ = server.serve_connection(TokioIo::new(io), service).await;
}
