//! Clients beside plain curl: curl with a pipe, requests written by hand over
//! TLS, and HTTP/2 frame by frame.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sealward::identity::{Action, Grant, TokenFile};

use crate::support::{Answer, SOON, Sealward, Site, eventually, files_below};

/// What matters is tried over each.
pub(crate) const BOTH: [&str; 2] = ["--http1.1", "--http2"];

/// Uploads `bytes` under `key` with further arguments of curl, whatever comes of it.
pub(crate) fn upload(site: &Site, server: &Sealward, key: &str, bytes: &[u8], args: &[&str]) -> Answer {
    let file = file(site, bytes);
    let mut all: Vec<String> = args.iter().map(ToString::to_string).collect();
    all.extend(["-T".to_owned(), file.display().to_string(), server.url(key)]);
    site.curl(all)
}

/// A fresh file that holds `bytes`.
pub(crate) fn file(site: &Site, bytes: &[u8]) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let file = site.path(&format!("file-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&file, bytes).expect("writes");
    file
}

/// curl with `bytes` on its standard input.
pub(crate) fn piped(site: &Site, args: &[&str], bytes: Vec<u8>) -> Answer {
    let heads = tempfile::NamedTempFile::new().expect("a file");
    let mut child = Command::new("curl")
        .args(["--disable", "-sS", "--max-time", "120", "--cacert"])
        .arg(site.path("tls/ca.pem"))
        .arg("--dump-header")
        .arg(heads.path())
        .args(["-H", &format!("Authorization: Bearer {}", site.token)])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is there");
    let mut input = child.stdin.take().expect("is piped");
    // Who refuses a body doesn't take all of it.
    let feeder = std::thread::spawn(move || input.write_all(&bytes).is_ok());
    let output = child.wait_with_output().expect("ends");
    feeder.join().expect("feeds");
    let heads = std::fs::read_to_string(heads.path()).expect("heads");
    let (status, headers) = head_of(heads.trim_end().rsplit("\r\n\r\n").next().unwrap_or_default());
    Answer {
        status,
        headers,
        body: output.stdout,
        exit: output.status.code().unwrap_or(-1),
        words: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A token with that grant alone.
pub(crate) fn token(site: &Site, name: &str, classes: &[&str], actions: &[Action]) -> String {
    let grant = Grant {
        classes: classes.iter().map(ToString::to_string).collect(),
        actions: actions.iter().copied().collect(),
    };
    let tokens = TokenFile::open(&site.path("tokens.json"), false).expect("a token file");
    tokens.issue(name, grant, None).expect("a token").expose().to_owned()
}

/// The header that `token` goes in.
pub(crate) fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}")
}

/// The answer is a refusal with `status`, told as RFC 9457 wants it, and tells
/// nothing that is ours alone.
#[track_caller]
pub(crate) fn refused(site: &Site, answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["type"], "about:blank");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    assert_eq!(answer.header("x-request-id").len(), 36, "{answer:?}");
    let detail = problem["detail"].as_str().expect("words").to_owned();
    assert!(!detail.is_empty(), "{problem}");
    let folder = site.folder.path().display().to_string();
    for ours in [&folder, "key-1", &site.token, "tokens.json", ".sealed"] {
        assert!(!answer.text().contains(ours), "{ours} is told: {answer:?}");
    }
    detail
}

/// Nothing lies in the default class's folder: no object, and no part of one.
#[track_caller]
pub(crate) fn nothing_stored(site: &Site) {
    // The server's own look whether it may write is there for a moment.
    eventually("nothing is stored", || files_below(&site.objects()).is_empty());
}

fn tls(site: &Site, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(site.path("tls/ca.pem")).expect("a certificate");
    roots.add(ca).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// One HTTP/1.1 connection, on which every byte is ours.
pub(crate) struct Raw {
    stream: StreamOwned<ClientConnection, TcpStream>,
    token: String,
}

impl Raw {
    pub(crate) fn new(site: &Site, server: &Sealward) -> Self {
        let socket = TcpStream::connect(server.https).expect("connects");
        socket.set_read_timeout(Some(SOON)).expect("a deadline");
        let session = ClientConnection::new(Arc::new(tls(site, b"http/1.1")), localhost()).expect("a session");
        Self { stream: StreamOwned::new(session, socket), token: site.token.clone() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("sends");
        self.stream.flush().expect("sends");
    }

    /// Sends what may not be listened to until its end.
    pub(crate) fn offer(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Sends a head: `line` is method and target, `headers` end in CRLF each.
    pub(crate) fn head(&mut self, line: &str, headers: &str) {
        let authorization = bearer(&self.token);
        self.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n{headers}\r\n"));
    }

    /// The next head, be it 100 or final.
    pub(crate) fn next_head(&mut self) -> (u16, Vec<(String, String)>) {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("no head ({error}), only: {}", String::from_utf8_lossy(&head));
            });
            head.push(byte[0]);
        }
        head_of(&String::from_utf8(head).expect("is text"))
    }

    /// The next answer with its body, whatever 100s come before it.
    pub(crate) fn answer(&mut self) -> Answer {
        let (mut status, mut headers) = self.next_head();
        while status == 100 {
            (status, headers) = self.next_head();
        }
        let mut answer = Answer { status, headers, body: Vec::new(), exit: 0, words: String::new() };
        let length = answer.header("content-length").parse().unwrap_or(0);
        answer.body = vec![0; length];
        self.stream.read_exact(&mut answer.body).expect("the whole body");
        answer
    }

    /// One request without a body, and its answer.
    pub(crate) fn ask(&mut self, line: &str, headers: &str) -> Answer {
        self.head(line, headers);
        self.answer()
    }

    /// The status of one `HEAD`.
    pub(crate) fn ask_head(&mut self, line: &str) -> u16 {
        self.head(line, "");
        self.next_head().0
    }

    /// One `PUT` with a body of known length, and its answer.
    pub(crate) fn put(&mut self, key: &str, headers: &str, body: &[u8]) -> Answer {
        self.head(&format!("PUT /files/{key}"), &format!("Content-Length: {}\r\n{headers}", body.len()));
        self.send(body);
        self.answer()
    }

    /// One chunked `PUT` whose trailer is `trailer`, and its answer.
    pub(crate) fn put_chunked(&mut self, key: &str, headers: &str, body: &[u8], trailer: &str) -> Answer {
        self.head(&format!("PUT /files/{key}"), &format!("Transfer-Encoding: chunked\r\n{headers}"));
        for piece in body.chunks(5) {
            self.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        self.send(format!("0\r\n{trailer}\r\n"));
        self.answer()
    }

    /// Waits until the server has ended the connection.
    pub(crate) fn ended(mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => {
                assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it never ends");
            }
        }
    }
}

/// One HTTP/2 connection, frame by frame.
pub(crate) struct Http2 {
    requests: h2::client::SendRequest<Bytes>,
    token: String,
}

impl Http2 {
    pub(crate) async fn new(site: &Site, server: &Sealward) -> Self {
        let socket = tokio::net::TcpStream::connect(server.https).await.expect("connects");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(site, b"h2")));
        let stream = connector.connect(localhost(), socket).await.expect("handshakes");
        let (requests, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        Self { requests, token: site.token.clone() }
    }

    /// Begins a `PUT` of unknown length.
    pub(crate) async fn put(
        &mut self,
        key: &str,
        headers: &[(&str, &str)],
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = http::Request::put(format!("https://localhost/files/{key}"))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.requests.clone().ready().await.expect("is ready");
        ready.send_request(request.body(()).expect("a request"), false).expect("is sent")
    }
}

fn head_of(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    (status.unwrap_or(0), headers)
}
