//! A server on a free port, with a certificate made on the spot, and clients that speak to it by hand.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use sealward::{
    config::{Limits, TlsPolicy},
    http::{Body, Connection, desync::Refused, empty, full, problem},
    metrics::Metrics,
    server::{Drained, Front, Passed, Server, Spoken, Stop, drain},
    tls::{self, dev},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Far more than anything here takes; a test that waits this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// The length of a refusal, in bytes: more than the kernel takes off our hands at once.
pub(crate) const REFUSAL: usize = 1 << 20;

pub(crate) struct Bench {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) stopper: drain::Stopper,
    pub(crate) served: JoinHandle<Drained>,
    pub(crate) answers: Answers,
    pub(crate) dir: tempfile::TempDir,
    watch: JoinHandle<()>,
}

/// What the service of these tests waits for.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    pub(crate) begun: Arc<Notify>,
    pub(crate) go_on: Arc<Notify>,
    pub(crate) seen: Arc<Mutex<Option<Arc<Connection>>>>,
}

pub(crate) fn limits() -> Limits {
    Limits { drain_timeout: LONG, ..Limits::default() }
}

impl Bench {
    pub(crate) async fn new(limits: Limits) -> Self {
        Self::with(limits, TlsPolicy::Tls13).await
    }

    pub(crate) async fn with(limits: Limits, policy: TlsPolicy) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let made = dev::ensure(dir.path(), &[]).expect("a certificate");
        let metrics = Metrics::new().expect("metrics");
        let refresh = Duration::from_millis(250);
        let files = tls::files::Files::new(&made.cert_pem, &made.key_pem, refresh);
        let (slot, watch) = tls::source::open("main", Box::new(files), metrics.clone()).await.expect("a good pair");
        // Nobody asks for a reload here: the clock alone finds what changed.
        let watch = tokio::spawn(watch.run(watch::channel(0).1));
        let front = Front {
            clients: None,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            spoken: Spoken::Tls(
                tls::server_config(tls::Certificates::new(vec![slot], None), policy, None, None)
                    .expect("a configuration"),
            ),
            balancers: None,
            desync: sealward::config::Desync::Strictest,
        };
        let bound = Server::bind(vec![front], &mut Passed::default(), limits, metrics.clone()).expect("a free port");
        let address = bound.local_addrs()[0];
        let (stopper, stop) = drain::channel();
        let answers = Answers::default();
        let service = hyper::service::service_fn({
            let answers = answers.clone();
            move |request| Box::pin(answer(request, answers.clone()))
        });
        let served = tokio::spawn(bound.serve(service, stop, std::future::ready(())));
        Self { address, metrics, stopper, served, answers, dir, watch }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    pub(crate) fn config(&self) -> ClientConfig {
        client_config(&self.ca(), &[&TLS13], aws_lc_rs::DEFAULT_KX_GROUPS)
    }

    pub(crate) async fn http1(&self) -> Client {
        self.connect(self.config()).await.expect("handshakes")
    }

    pub(crate) async fn connect(&self, config: ClientConfig) -> std::io::Result<Client> {
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map(Client)
    }

    pub(crate) async fn http2(&self) -> h2::client::SendRequest<Bytes> {
        let mut config = self.config();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let Client(stream) = self.connect(config).await.expect("handshakes");
        let (requests, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        requests
    }

    pub(crate) fn handshakes(&self, version: &str, group: &str, outcome: &str) -> u64 {
        self.metrics.tls_handshakes.with_label_values(&[version, group, outcome]).get()
    }

    pub(crate) fn stop(&self) -> Stop {
        self.stopper.advance()
    }

    pub(crate) async fn drained(self) -> Drained {
        self.watch.abort();
        within(self.served).await.expect("serves")
    }
}

pub(crate) fn client_config(
    ca: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
    groups: &[&'static dyn SupportedKxGroup],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("a certificate")).expect("a root");
    let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn tls12(bench: &Bench) -> ClientConfig {
    client_config(&bench.ca(), &[&TLS12], aws_lc_rs::DEFAULT_KX_GROUPS)
}

/// One HTTP/1 connection.
pub(crate) struct Client(pub(crate) TlsStream<TcpStream>);

impl Client {
    pub(crate) async fn send(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(text.as_bytes()).await?;
        self.0.flush().await
    }

    /// One answer with a `content-length`: its head and body.
    pub(crate) async fn answer(&mut self) -> std::io::Result<(String, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).expect("is text").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut body).await?;
        Ok((head, String::from_utf8(body).expect("is text")))
    }

    pub(crate) async fn get(&mut self, path: &str) -> std::io::Result<(String, String)> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await?;
        self.answer().await
    }

    /// Everything until the end: clean (`close_notify`) or not.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within(self.0.read_to_end(&mut rest)).await.map(|_| rest)
    }

    /// The serial number of the certificate this connection was opened with, as DER bytes of the whole.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.0.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
    }

    pub(crate) fn group(&self) -> rustls::NamedGroup {
        self.0.get_ref().1.negotiated_key_exchange_group().expect("a group").name()
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("in time")
}

type Answered = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

fn answer(request: Request<Incoming>, answers: Answers) -> Answered {
    Box::pin(async move {
        let connection = request.extensions().get::<Arc<Connection>>().expect("put there").clone();
        *answers.seen.lock().expect("whole") = Some(connection.clone());
        // As the door does.
        if let Some(refused) = request.extensions().get::<Refused>() {
            return Ok(problem(&(*refused).into(), "test"));
        }
        let body = match request.uri().path() {
            "/wait" => {
                answers.begun.notify_one();
                answers.go_on.notified().await;
                full("waited")
            }
            "/never" => {
                answers.begun.notify_one();
                std::future::pending().await
            }
            "/close" => {
                connection.close();
                // The server hears of it before the answer begins.
                tokio::task::yield_now().await;
                full("closing")
            }
            "/broken" => {
                let half = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"half"))) });
                let fault = futures_util::stream::once(async move {
                    answers.go_on.notified().await;
                    Err("the store is gone".into())
                });
                StreamBody::new(half.chain(fault)).boxed_unsync()
            }
            "/endless" => {
                let chunk = || Ok(Frame::data(Bytes::from_static(&[7; 16 << 10])));
                StreamBody::new(futures_util::stream::repeat_with(chunk)).boxed_unsync()
            }
            "/read" => {
                let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
                full(length.to_string())
            }
            "/refuse" => full(vec![b'r'; REFUSAL]),
            "/none" => empty(),
            _ => full("hello"),
        };
        Ok(Response::new(body))
    })
}
