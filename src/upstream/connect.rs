//! Connections to targets: plain or TLS, verified by default.

use std::{
    fs,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use prometheus::IntGauge;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsConnector;

use super::{Upstream, link::Link, target::Target};
use crate::config::{self, Protocol};

/// When the system asks whether a quiet target is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How many connections to apps there may be at once, over all upstreams: those of clients need
/// descriptors too.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    permits: Arc<Semaphore>,
    /// Who may have some that carry nothing.
    upstreams: Mutex<Vec<Weak<Upstream>>>,
}

impl Connections {
    /// As many as `most`.
    pub fn new(most: usize) -> Self {
        let permits = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self(Arc::new(Shared { permits, upstreams: Mutex::default() }))
    }

    /// `upstream` is one of those that have them.
    pub(super) fn join(&self, upstream: &Arc<Upstream>) {
        let mut upstreams = self.0.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|upstream| upstream.strong_count() > 0);
        upstreams.push(Arc::downgrade(upstream));
    }

    /// Lets go of all that carry nothing, whoever has them.
    pub(super) fn spare(&self) {
        let upstreams = self.0.upstreams.lock().unwrap_or_else(PoisonError::into_inner).clone();
        upstreams.iter().filter_map(Weak::upgrade).for_each(|upstream| upstream.let_go());
    }
}

/// Counts one connection as long as it is open.
pub(super) struct Counted {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Makes connections to the targets of one upstream.
pub(super) struct Connector {
    pub(super) connections: Connections,
    open: IntGauge,
    pub(super) protocol: Protocol,
    pub(super) idle: Duration,
    tls: TlsConnector,
    /// The name that is asked for, whatever a target's own is.
    server_name: Option<ServerName<'static>>,
    pub(super) timeout: Duration,
}

/// Why there is no connection.
pub(super) struct Unconnected {
    pub(super) words: String,
    /// What there is too little of here, which says nothing of the target.
    pub(super) lack: Option<Lack>,
}

/// What there may be too little of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// Connections, all over: some may carry nothing.
    Connections,
    /// Streams, on connections to one target that all carry what they can.
    Streams,
}

impl Unconnected {
    pub(super) fn new(words: &str) -> Self {
        Self { words: words.to_owned(), lack: None }
    }
}

impl Connector {
    pub(super) fn new(config: &config::Upstream, connections: Connections, open: IntGauge) -> Result<Self, String> {
        let https = config.targets.iter().any(|target| target.https);
        let mut tls = tls(&config.tls, https)?;
        if config.protocol == Protocol::Http2 {
            tls.alpn_protocols = vec![b"h2".to_vec()];
        }
        let name =
            |name: &String| ServerName::try_from(name.clone()).map_err(|_| format!("`server_name`: {name} is no name"));
        Ok(Self {
            connections,
            open,
            protocol: config.protocol,
            idle: config.idle_timeout,
            tls: Arc::new(tls).into(),
            server_name: config.tls.server_name.as_ref().map(name).transpose()?,
            timeout: config.connect_timeout,
        })
    }

    /// A new connection, handshake and all, within its time.
    pub(super) async fn connect(&self, target: &Target) -> Result<Link, Unconnected> {
        let connecting = self.within_its_time(target);
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        connected.unwrap_or_else(|_| Err(Unconnected::new("no connection in time")))
    }

    async fn within_its_time(&self, target: &Target) -> Result<Link, Unconnected> {
        let place = target.place();
        let counted = self.count()?;
        let socket = TcpStream::connect(&*place.authority).await.map_err(|error| Unconnected {
            words: format!("can't connect: {error}"),
            lack: matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::EADDRNOTAVAIL))
                .then_some(Lack::Connections),
        })?;
        let unset = |error: std::io::Error| Unconnected::new(&error.to_string());
        socket.set_nodelay(true).map_err(unset)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        SockRef::from(&socket).set_tcp_keepalive(&keepalive).map_err(unset)?;
        if !place.https {
            return Ok(Link::plain(socket, counted));
        }
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => target.server_name().map_err(|words| Unconnected::new(&words))?,
        };
        let connecting = self.tls.connect(name, socket).await;
        let stream = connecting.map_err(|error| Unconnected::new(&format!("TLS: {error}")))?;
        let spoken = stream.get_ref().1.alpn_protocol();
        if self.protocol == Protocol::Http2 && spoken != Some(b"h2") {
            return Err(Unconnected::new("the target doesn't speak HTTP/2 over TLS"));
        }
        Ok(Link::tls(stream, counted))
    }

    fn count(&self) -> Result<Counted, Unconnected> {
        let permit = Arc::clone(&self.connections.0.permits).try_acquire_owned().map_err(|_| Unconnected {
            words: "there are as many connections to apps as the limit of open files allows".into(),
            lack: Some(Lack::Connections),
        })?;
        self.open.inc();
        Ok(Counted { gauge: self.open.clone(), _permit: permit })
    }
}

fn tls(config: &config::UpstreamTls, https: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match &config.roots {
        Some(path) => {
            let unread = |error: String| format!("{}: {error}", path.display());
            let pem =
                fs::read(path).map_err(|error| unread(format!("{error}; put the authorities of the targets there")))?;
            for found in CertificateDer::pem_slice_iter(&pem) {
                let found = found.map_err(|_| unread("is not PEM text".into()))?;
                roots.add(found).map_err(|error| unread(format!("holds what is no authority: {error}")))?;
            }
            if roots.is_empty() {
                return Err(unread("holds no CERTIFICATE block; put the authorities of the targets there".into()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() && https {
                let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
                return Err(format!(
                    "the system has no authorities to believe{why}: install ca-certificates, or name some by `tls.roots`"
                ));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((cert, key)) = &config.client else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    // The reader's own words may quote what it stumbled over.
    let chain = chain.map_err(|_| format!("{}: can't be read as a certificate in PEM", cert.display()))?;
    let pair =
        PrivateKeyDer::from_pem_file(key).map_err(|_| format!("{}: can't be read as a key in PEM", key.display()))?;
    builder.with_client_auth_cert(chain, pair).map_err(|error| format!("{}: {error}", key.display()))
}
