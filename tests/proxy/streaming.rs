//! Bodies that take long or have no end, as large as they like: they pass as they come.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio_rustls::TlsConnector;

use crate::{
    apps::{ask, said, serve, to},
    ending::Held,
    failing::{Faulty, VERSIONS, await_calm, file},
    nginx::Nginx,
    support::{SOON, Sealward, Site, eventually, free_address},
};

const MIB: usize = 1 << 20;
/// An app that keeps what is put.
const KEEPS: &str = "location /put/ { root data; dav_methods PUT; create_full_put_path on; }";

fn trusting(site: &Site, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(site.path("tls/ca.pem")).expect("a certificate");
    roots.add(ca).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a name")
}

/// Sends `request` as it is over HTTP/1.1, and gives what comes until the connection ends.
pub(crate) fn by_http1(site: &Site, server: &Sealward, request: &[u8]) -> String {
    let session = ClientConnection::new(trusting(site, b"http/1.1"), name()).expect("a session");
    let socket = TcpStream::connect(server.https).expect("connects");
    socket.set_read_timeout(Some(SOON)).expect("is set");
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(request).expect("is taken");
    stream.flush().expect("is taken");
    let mut said = Vec::new();
    // Whether the end is a clean one isn't asked here.
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).expect("is text")
}

/// Puts `body` to `path` over HTTP/2, with trailers at its end; without any it has no end.
pub(crate) fn by_http2(
    site: &Site,
    server: &Sealward,
    path: &str,
    body: Vec<u8>,
    trailers: &[(&'static str, &'static str)],
) -> Response<String> {
    let talk = async {
        let socket = tokio::net::TcpStream::connect(server.https).await.expect("connects");
        let stream = TlsConnector::from(trusting(site, b"h2")).connect(name(), socket).await.expect("connects");
        let (requests, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
        tokio::spawn(async move { drop(connection.await) });
        let mut requests = requests.ready().await.expect("is ready");
        let mut request = Request::put(format!("https://localhost:{}{path}", server.https.port()));
        for (name, _) in trailers {
            request = request.header("trailer", *name);
        }
        let request = request.body(()).expect("a request");
        let (answer, mut sending) = requests.send_request(request, false).expect("is sent");
        sending.send_data(body.into(), false).expect("is taken");
        if !trailers.is_empty() {
            let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
            sending.send_trailers(trailers.iter().map(field).collect::<HeaderMap>()).expect("are taken");
        }
        let (head, mut body) = answer.await.expect("an answer").into_parts();
        let mut text = Vec::new();
        while let Some(piece) = body.data().await {
            text.extend_from_slice(&piece.expect("a whole answer"));
        }
        Response::from_parts(head, String::from_utf8(text).expect("is text"))
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(SOON, talk).await.expect("an answer in time") })
}

/// So many bytes that nobody can guess.
fn random(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    let source = fs::File::open("/dev/urandom").expect("is there");
    source.take(len as u64).read_to_end(&mut bytes).expect("reads");
    bytes
}

/// What the app answers that has taken `bytes` whole.
fn taken(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {hex}\n", bytes.len())
}

#[test]
fn events_come_one_by_one() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    for version in VERSIONS {
        let mut events = Held::start(&site, &server, "/steps?n=4", &[version]);
        for at in 0..4 {
            // The app sends the next one only when the last was seen here.
            if at > 0 {
                app.go();
            }
            assert_eq!((events.line(), events.line()), (format!("data: {at}"), String::new()), "{version}");
        }
        assert_eq!(events.ended(), (Some(0), String::new()), "{version}");
    }
    await_calm(&server);
}

#[test]
fn events_may_go_on_for_longer_than_the_app_may_be_silent() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], "idle_timeout = \"4s\""));
    std::thread::scope(|scope| {
        for version in VERSIONS {
            let (site, server) = (&site, &server);
            scope.spawn(move || {
                let answer = ask(site, server, "/beats?n=20", &[version]);
                assert_eq!((answer.status, answer.exit), (200, 0), "{version}: {answer:?}");
                assert!(answer.text().ends_with("data: 19\n\n"), "{answer:?}");

                let answer = ask(site, server, "/stall", &[version]);
                assert_eq!((answer.status, answer.text().as_str()), (200, "data: 0\n\n"));
                assert_ne!(answer.exit, 0, "{version}: the end isn't clean");
                let id = answer.header("x-request-id");
                let line = server.wait_for_line(|line| line.contains(id) && line.contains("\"outcome\":\"cut\""));
                assert!(line.contains("stopped in the middle"), "{line}");
            });
        }
    });
    eventually("the app sees that nobody waits", || app.seen("GET /stall", "left") == 2);
    await_calm(&server);
}

#[test]
fn a_large_upload_passes_in_little_memory() {
    let (site, app) = (Site::new(), Nginx::start("one", KEEPS));
    let server = serve(&site, &to(&[app.url()], ""));
    let large = random(200 * MIB);
    let upload = file(&site, &large);
    let ways = [&["--http1.1"][..], &["--http1.1", "-H", "Transfer-Encoding: chunked"], &["--http2"]];
    for (number, way) in ways.into_iter().enumerate() {
        let path = format!("put/{number}");
        let answer = ask(&site, &server, &format!("/{path}"), &[way, &["-T", &upload]].concat());
        assert_eq!((answer.status, answer.exit), (201, 0), "{way:?}: {answer:?}");
        assert!(fs::read(app.data(&path)).expect("reads") == large, "{way:?}: every byte");
        fs::remove_file(app.data(&path)).expect("is there");
    }
    assert!(server.peak() < 64, "{} MiB", server.peak());
    await_calm(&server);
}

#[test]
fn an_app_that_takes_no_more_makes_the_client_wait() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    let large = random(200 * MIB);
    let whole = taken(&large);
    for (round, version) in VERSIONS.into_iter().enumerate() {
        // Of a length that nobody knows.
        let mut upload = Held::start(&site, &server, "/late", &[version, "-T", "-"]);
        let mut input = upload.input();
        let sent = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (large, sent) = (&large, &sent);
            let feeding = scope.spawn(move || -> io::Result<()> {
                for piece in large.chunks(64 << 10) {
                    input.write_all(piece)?;
                    sent.fetch_add(piece.len(), Relaxed);
                }
                Ok(())
            });
            eventually("the app has a part", || app.seen("PUT /late", "begun") == round + 1);
            let mut before = 0;
            // That nothing goes on shows by waiting alone.
            while sent.load(Relaxed) > before {
                before = sent.load(Relaxed);
                std::thread::sleep(Duration::from_millis(500));
            }
            // The system keeps 32 MiB and more of a connection's for whoever reads it, and there are two.
            assert!(before < large.len() / 2, "{version}: {before} bytes on their way to an app that takes none");
            app.go();
            feeding.join().expect("no panic").expect("is taken");
        });
        assert_eq!(upload.ended(), (Some(0), whole.clone()), "{version}");
    }
    assert!(server.peak() < 64, "{} MiB", server.peak());
    await_calm(&server);
}

/// What an app is told of a body of five bytes with these trailers.
fn with_trailers(site: &Site, server: &Sealward, trailers: &[(&'static str, &'static str)]) -> [String; 2] {
    let names: Vec<_> = trailers.iter().map(|(name, _)| *name).collect();
    let lines: String = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = "PUT /take HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n";
    let request = format!("{head}trailer: {}\r\n\r\n5\r\nhello\r\n0\r\n{lines}\r\n", names.join(", "));
    let first = by_http1(site, server, request.as_bytes());
    assert!(first.starts_with("HTTP/1.1 200 "), "{first}");
    let second = by_http2(site, server, "/take", b"hello".to_vec(), trailers);
    assert_eq!(second.status().as_u16(), 200, "{second:?}");
    [first, second.into_body()]
}

#[test]
fn what_a_client_says_behind_its_body_goes_on() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    for said in with_trailers(&site, &server, &[("x-sum", "abc"), ("x-more", "def")]) {
        assert!(said.contains(&taken(b"hello")), "{said}");
        assert!(said.contains("x-sum: abc\n") && said.contains("x-more: def\n"), "{said}");
    }
}

/// Some apps read trailers as headers.
#[test]
fn behind_a_body_nobody_says_either_what_only_we_may_say() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    let vouched = [
        ("x-sum", "abc"),
        ("x-sealward-caller", "admin"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x_forwarded_for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("x-amzn-mtls-clientcert-subject", "CN=admin"),
        ("x-request-id", "theirs"),
    ];
    for said in with_trailers(&site, &server, &vouched) {
        assert!(said.contains("x-sum: abc\n"), "{said}");
        for (name, value) in &vouched[1..] {
            assert!(!said.contains(&format!("{name}: {value}\n")), "{name} went on: {said}");
        }
    }
}

#[test]
fn an_app_that_speaks_http2_over_tls_is_spoken_to_so() {
    let site = Site::new();
    let free = free_address();
    let tls = site.path("tls");
    let pair = format!("ssl_certificate {0}/cert.pem; ssl_certificate_key {0}/key.pem; {KEEPS}", tls.display());
    let app = Nginx::start_at("two", free, &pair, "ssl http2");
    let target = format!("https://localhost:{}", free.port());
    let server = serve(&site, &to(&[target], "protocol = \"http2\"\ntls = { roots = \"tls/ca.pem\" }"));
    let bytes = random(20 * MIB);
    app.keep("large", &bytes);
    let upload = file(&site, &bytes);
    for version in VERSIONS {
        let answer = ask(&site, &server, "/", &[version]);
        assert_eq!(answer.status, 200, "{version}: {answer:?}");
        let host = format!("localhost:{}", server.https.port());
        for (name, expected) in [("protocol", "HTTP/2.0"), ("host", &host), ("xhost", &host), ("proto", "https")] {
            assert_eq!(said(&answer, name), expected, "{version}: {name}");
        }
        let answer = ask(&site, &server, "/data/large", &[version]);
        assert!((answer.status, answer.exit) == (200, 0) && answer.body == bytes, "{version}: {answer:?}");
        let path = format!("put/{version}");
        let answer = ask(&site, &server, &format!("/{path}"), &[version, "-T", &upload]);
        assert_eq!((answer.status, answer.exit), (201, 0), "{version}: {answer:?}");
        assert!(fs::read(app.data(&path)).expect("reads") == bytes, "{version}: every byte");
    }
    assert_eq!(ask(&site, &server, "/status/404", &[]).text(), "gone");
    await_calm(&server);
}
