//! A client that says any bytes, and the app that writes down what it believes it sees.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::Value;

use super::table::{Peer, Row};
use crate::{
    peer,
    support::{SOON, Site},
};

/// Stands behind every row: whoever is asked for it has kept the connection, and knows where
/// the row ends.
const AFTER: &[u8] = b"GET /after HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// Asked for when a row is over: what went on before its answer has been written down by then.
const SETTLED: &[u8] = b"GET /settled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// The app.
pub(super) struct App {
    process: peer::Peer,
    pub(super) port: u16,
}

/// A request that the app believes it saw.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: Vec<String>,
    /// Whether it came to its end.
    pub(super) whole: bool,
    pub(super) body: String,
}

/// What became of a row.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The statuses of all answers but 100, in turn.
    pub(super) statuses: Vec<u16>,
    /// All that the client read until the connection's end.
    pub(super) text: String,
    /// All that came to the app, in turn.
    pub(super) seen: Vec<Seen>,
}

impl App {
    pub(super) fn start() -> Self {
        let mut process = peer::Peer::start("recording_app.py", [] as [&str; 0]);
        let port = process.line().parse().expect("a port");
        Self { process, port }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has seen since the last time.
    fn take(&mut self) -> Vec<Seen> {
        self.process.say("take");
        let events: Vec<Value> = serde_json::from_str(&self.process.line()).expect("a list");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut seen: Vec<(u64, Seen)> = Vec::new();
        for event in &events {
            let connection = event["connection"].as_u64().expect("a number");
            if let Some(headers) = event["headers"].as_array() {
                let headers = headers.iter().map(text).collect();
                let line = text(&event["line"]);
                seen.push((connection, Seen { line, headers, whole: false, body: String::new() }));
                continue;
            }
            let whole = event["whole"].as_bool().expect("yes or no");
            let body = text(&event["body"]);
            if let Some(at) = seen.iter().rposition(|(other, _)| *other == connection) {
                (seen[at].1.whole, seen[at].1.body) = (whole, body);
            } else if whole {
                // What an earlier row left behind has come to an end after all.
                let line = "the end of an earlier request".to_owned();
                seen.push((connection, Seen { line, headers: Vec::new(), whole, body }));
            }
        }
        seen.into_iter().map(|(_, seen)| seen).collect()
    }

    /// Sends `row`, and a request behind it, to `server`, and waits for the connection's end.
    pub(super) fn ask(&mut self, server: SocketAddr, tls: Option<&Arc<ClientConfig>>, row: &Row) -> Outcome {
        let answer = said(server, tls, &[row.bytes().as_slice(), AFTER].concat());
        let settled = said(server, tls, SETTLED);
        assert!(settled.starts_with(b"HTTP/1.1 200 "), "{}: {}", row.name, String::from_utf8_lossy(&settled));
        let text = String::from_utf8_lossy(&answer).into_owned();
        let statuses = text
            .split("HTTP/1.")
            .skip(1)
            .filter_map(|rest| rest.get(2..5)?.parse::<u16>().ok())
            .filter(|status| *status != 100)
            .collect();
        let seen = self.take().into_iter().filter(|seen| !seen.is("/settled")).collect();
        Outcome { statuses, text, seen }
    }
}

impl Seen {
    /// Whether it is for `path`.
    pub(super) fn is(&self, path: &str) -> bool {
        self.line.contains(&format!(" {path} "))
    }

    /// How many headers it has of that name.
    fn count(&self, name: &str) -> usize {
        let named = |header: &&String| header.split(':').next().is_some_and(|other| other.eq_ignore_ascii_case(name));
        self.headers.iter().filter(named).count()
    }

    /// Whether everybody reads alike where its body ends.
    pub(super) fn is_framed_once(&self) -> bool {
        self.count("content-length") + self.count("transfer-encoding") <= 1
    }

    /// Whether it says once for whom it is.
    pub(super) fn has_a_host(&self) -> bool {
        self.count("host") == 1
    }
}

impl Outcome {
    /// Whether the app was asked for `path`.
    pub(super) fn asked(&self, path: &str) -> bool {
        self.seen.iter().any(|seen| seen.is(path))
    }

    /// All that came ended well, the request behind the row as the last.
    pub(super) fn is_in_step(&self) -> bool {
        self.seen.iter().all(|seen| seen.whole) && self.seen.last().is_some_and(|seen| seen.is("/after"))
    }

    /// What a note would say of it.
    pub(super) fn note(&self, row: &Row) -> Peer {
        let status = self.statuses.first().copied();
        if self.asked("/smuggled") {
            return Peer::PassesBoth;
        }
        match (self.seen.iter().find(|seen| !seen.is("/after")), status) {
            (None, Some(status)) => Peer::Refuses(status),
            (None, None) => Peer::Closes,
            (Some(seen), _) if !seen.whole => Peer::BreaksOff(status.unwrap_or(0)),
            (Some(seen), _) if unchanged(&row.bytes(), seen) => Peer::Passes,
            (Some(_), _) => Peer::PassesChanged,
        }
    }
}

/// Whether method, target and headers of `sent` are all in `seen`, but for `Connection`.
fn unchanged(sent: &[u8], seen: &Seen) -> bool {
    let sent: String = sent.iter().copied().map(char::from).collect();
    let lines = sent.trim_start_matches(['\r', '\n']).split('\n');
    let mut lines = lines.map(|line| line.strip_suffix('\r').unwrap_or(line)).take_while(|line| !line.is_empty());
    let beginning = |line: &str| line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<String>>();
    let came: Vec<String> = seen.headers.iter().map(|header| plain(header)).collect();
    lines.next().is_some_and(|line| beginning(line) == beginning(&seen.line))
        && lines.map(plain).all(|header| header.starts_with("connection:") || came.contains(&header))
}

/// A header without the blanks around name and value, its name in lower case.
fn plain(header: &str) -> String {
    const BLANKS: [char; 3] = [' ', '\t', '\r'];
    match header.split_once(':') {
        Some((name, value)) => {
            format!("{}:{}", name.trim_matches(BLANKS).to_ascii_lowercase(), value.trim_matches(BLANKS))
        }
        None => header.trim_matches(BLANKS).to_ascii_lowercase(),
    }
}

/// A client of `site`'s servers that speaks HTTP/1.1 alone.
pub(super) fn tls(site: &Site) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(site.path("tls/ca.pem")).expect("a certificate");
    roots.add(ca).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// All that is answered to `bytes` until the connection's end.
fn said(server: SocketAddr, tls: Option<&Arc<ClientConfig>>, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpStream::connect(server).expect("connects");
    socket.set_read_timeout(Some(SOON)).expect("a deadline");
    socket.set_write_timeout(Some(SOON)).expect("a deadline");
    match tls {
        Some(config) => {
            let name = ServerName::try_from("localhost").expect("a name");
            let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
            exchanged(StreamOwned::new(session, socket), bytes)
        }
        None => exchanged(socket, bytes),
    }
}

fn exchanged(mut stream: impl Read + Write, bytes: &[u8]) -> Vec<u8> {
    // It may not be listened to until its end.
    let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it never ends");
    }
    answer
}
