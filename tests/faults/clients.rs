//! Clients that do by halves what curl does whole, and looks at what they leave behind.

use std::{io, net::SocketAddr, path::PathBuf, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{Method, Request, StatusCode};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{SOON, Sealward, Site, eventually, files_below};

pub(crate) const MIB: usize = 1 << 20;

/// One HTTP/1 connection, by hand.
pub(crate) struct Http1 {
    stream: TlsStream<TcpStream>,
    token: String,
}

/// One HTTP/2 connection, by hand.
pub(crate) struct Http2 {
    requests: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
    authority: String,
    token: String,
}

async fn connect(site: &Site, server: &Sealward, protocol: Option<&[u8]>) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(site.path("tls/ca.pem")).expect("a certificate");
    roots.add(ca).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocol.map(<[u8]>::to_vec).into_iter().collect();
    let socket = TcpStream::connect(server.https).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

impl Http1 {
    pub(crate) async fn open(site: &Site, server: &Sealward) -> Self {
        Self::try_open(site, server).await.expect("connects")
    }

    pub(crate) async fn try_open(site: &Site, server: &Sealward) -> io::Result<Self> {
        Ok(Self { stream: connect(site, server, None).await?, token: site.token.clone() })
    }

    /// The head of a request, with `more` header lines.
    pub(crate) async fn head(&mut self, method: &str, key: &str, more: &str) {
        let token = &self.token;
        let head =
            format!("{method} /files/{key} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n");
        self.send(head.as_bytes()).await.expect("takes a head");
    }

    /// The head of an upload of `length` bytes, and its first `now`.
    pub(crate) async fn begin(&mut self, key: &str, length: usize, now: &[u8]) {
        self.head("PUT", key, &format!("content-length: {length}\r\n")).await;
        self.send(now).await.expect("takes the beginning");
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The head of the answer: its status, and all of it in lower case.
    pub(crate) async fn answer(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        let read = async {
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.stream.read_u8().await.expect("an answer"));
            }
        };
        tokio::time::timeout(SOON, read).await.expect("an answer in time");
        let head = String::from_utf8(head).expect("is text").to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head)
    }

    pub(crate) async fn read(&mut self, bytes: usize) -> Vec<u8> {
        let mut got = vec![0; bytes];
        tokio::time::timeout(SOON, self.stream.read_exact(&mut got)).await.expect("in time").expect("reads");
        got
    }

    /// Everything to the end; an error where that isn't clean.
    pub(crate) async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("in time").map(|_| rest)
    }

    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec()
    }
}

impl Http2 {
    pub(crate) async fn open(site: &Site, server: &Sealward) -> Self {
        let stream = connect(site, server, Some(b"h2")).await.expect("connects");
        let (requests, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
        let connection = tokio::spawn(async move { drop(connection.await) });
        Self { requests, connection, authority: server.https.to_string(), token: site.token.clone() }
    }

    /// The head of a PUT, and its first bytes.
    pub(crate) async fn begin(
        &mut self,
        key: &str,
        length: usize,
        now: &[u8],
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = self.request(Method::PUT, key).header("content-length", length);
        let request = request.body(()).expect("a request");
        let (answer, mut body) = self.ready().await.send_request(request, false).expect("is sent");
        send(&mut body, now, false).await;
        (answer, body)
    }

    /// A GET, whose body nobody has read yet.
    pub(crate) async fn get(&mut self, key: &str) -> RecvStream {
        let request = self.request(Method::GET, key).body(()).expect("a request");
        let (answer, _) = self.ready().await.send_request(request, true).expect("is sent");
        let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body()
    }

    /// Closes the socket without a word.
    pub(crate) fn vanish(self) {
        self.connection.abort();
    }

    async fn ready(&mut self) -> SendRequest<Bytes> {
        self.requests.clone().ready().await.expect("is ready")
    }

    fn request(&self, method: Method, key: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("https://{}/files/{key}", self.authority))
            .header("authorization", format!("Bearer {}", self.token))
    }
}

/// Sends all of `bytes` as the peer makes room for it, or until it wants no more.
pub(crate) async fn send(body: &mut SendStream<Bytes>, bytes: &[u8], end: bool) {
    let mut rest = Bytes::copy_from_slice(bytes);
    while !rest.is_empty() {
        body.reserve_capacity(rest.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else { return };
        let now = rest.split_to(room.min(rest.len()));
        if body.send_data(now, end && rest.is_empty()).is_err() {
            return;
        }
    }
}

/// Reads to the end of a stream.
pub(crate) async fn drain(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

/// What isn't visible yet, with the length each has.
pub(crate) fn unfinished(site: &Site) -> Vec<(PathBuf, u64)> {
    let files = files_below(&site.objects().join(".sealward/uploads"));
    files.into_iter().filter_map(|path| path.metadata().ok().map(|found| (path, found.len()))).collect()
}

/// Waits until an upload has more than `bytes` on the disk, where nobody sees them.
pub(crate) fn await_growth(site: &Site, bytes: usize) {
    eventually("a temporary file grows", || unfinished(site).iter().any(|(_, length)| *length > bytes as u64));
}

/// Waits until nothing is under way and all memory is back.
pub(crate) fn await_calm(server: &Sealward) {
    eventually("uploads end", || server.metric("sealward_uploads_in_flight ") == 0.0);
    eventually("memory returns", || used(server) == 0.0);
}

/// Buffer memory lent out now, in bytes.
pub(crate) fn used(server: &Sealward) -> f64 {
    server.metric("sealward_buffer_memory_bytes{state=\"used\"}")
}

/// The status of a plain GET at the admin side; 0 where nobody answers.
pub(crate) fn admin_status(admin: SocketAddr, path: &str) -> u16 {
    let url = format!("http://{admin}{path}");
    let output = Command::new("curl")
        .args(["--disable", "-s", "-o", "/dev/null", "-w", "%{http_code}", &url])
        .output()
        .expect("curl is there");
    String::from_utf8_lossy(&output.stdout).parse().unwrap_or(0)
}

/// The problem document of a 503 that tells when to come again.
pub(crate) fn assert_later(head: &str) {
    assert!(head.contains("application/problem+json"), "{head}");
    let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("when to come again");
    assert!(after.trim().parse::<u32>().expect("seconds") > 0);
}

/// What a client of this pace waits between two pieces.
pub(crate) const BEAT: Duration = Duration::from_millis(50);
