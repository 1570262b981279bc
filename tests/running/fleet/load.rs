//! Clients of a fleet that go on whatever becomes of its replicas: they store objects under names that nobody had
//! before, read them back, and know of each request what came of it.
//!
//! Some keep their connection, some take a new one for each request, and one stores what goes to S3 in parts. Each
//! connection is from a port that no other has, by which haproxy says where it went.
//!
//! A connection that is kept may be ended by its server just as a request is sent on it, and such a request is sent
//! again. An upload that was cut looks the same to who has sent a body. So on connections that have served before,
//! uploads wait for `100 Continue`: who has heard that was being served, and what breaks then has failed.

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use socket2::{Domain, Socket, Type};

use super::{FRONT, Fleet, NAMES};
use crate::support::{SOON, eventually};

/// Where clients come from.
pub(crate) const CLIENTS_AT: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 7);
/// Who they are.
const CLIENTS: [Kind; 5] = [Kind::Keeping, Kind::Keeping, Kind::Fresh, Kind::Fresh, Kind::Large];
/// What the last of them stores: more than one part.
const LARGE: usize = 20 << 20;
/// And how many the others are to have stored in between.
const BETWEEN: usize = 20;
/// Between two objects of a client: in the end each of them is read three times.
const PAUSE: Duration = Duration::from_millis(50);
/// The largest that the others store.
const SMALL: usize = 40_000;
/// The answer that wants the body.
const CONTINUE: u16 = 100;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// One connection for as long as it lasts.
    Keeping,
    /// One for each request.
    Fresh,
    /// Of large objects, on one connection.
    Large,
}

/// What clients do, and what came of it.
pub(crate) struct Load {
    tls: Arc<ClientConfig>,
    token: String,
    ports: AtomicU16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was acknowledged: names and sizes.
    stored: BTreeMap<String, usize>,
    /// How many each client has stored and read.
    rounds: [usize; CLIENTS.len()],
    failed: Vec<Failed>,
    /// Requests that were sent again: the ports of the connections that had ended.
    again: Vec<u16>,
}

/// A request that came to no good end.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// Of its connection.
    pub(crate) port: u16,
    /// Who reads it wants to know what it was.
    #[allow(dead_code)]
    what: String,
}

/// One connection to a replica, or to haproxy.
pub(crate) struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    pub(crate) port: u16,
    /// Whether a request was answered on it.
    served: bool,
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether no other request may follow.
    closes: bool,
}

/// No answer, or none that is whole.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Whether a byte of one came.
    heard: bool,
    words: String,
}

/// An upload of which half is sent.
pub(crate) struct Held {
    pub(crate) connection: Connection,
    name: String,
    rest: Vec<u8>,
}

impl Load {
    /// Of the fleet's own token. Nothing is done yet.
    pub(crate) fn new(fleet: &Fleet) -> Self {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(fleet.site.path("tls/ca.pem")).expect("a certificate");
        roots.add(ca).expect("a root");
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (token, ports) = (fleet.site.token.clone(), AtomicU16::new(10_000));
        Self { tls: Arc::new(tls), token, ports, state: Mutex::default() }
    }

    /// How many clients there are.
    pub(crate) fn clients() -> usize {
        CLIENTS.len()
    }

    /// And how many of them keep their connection.
    pub(crate) fn keeping() -> usize {
        CLIENTS.iter().filter(|kind| **kind != Kind::Fresh).count()
    }

    /// What one of them does until `going` says no more.
    pub(crate) fn go_on(&self, client: usize, going: &dyn Fn() -> bool) {
        let mut kept = None;
        for round in (0_usize..).take_while(|_| going()) {
            let name = format!("client-{client}-{round}");
            let size = if CLIENTS[client] == Kind::Large { LARGE } else { round * 7919 % SMALL + 1 };
            let bytes = bytes_of(&name, size);
            let put = self.ask(client, &mut kept, "PUT", &name, &bytes);
            let stored = match put {
                Some((_, Answered { status: 200 | 201, .. })) => {
                    self.state().stored.insert(name.clone(), size);
                    true
                }
                Some((port, answer)) => {
                    self.fail(port, format!("PUT {name}: {}", answer.status));
                    false
                }
                None => false,
            };
            let got = self.ask(client, &mut kept, "GET", &name, b"");
            if let Some((port, answer)) = got.filter(|_| stored)
                && (answer.status, &answer.body) != (200, &bytes)
            {
                self.fail(port, format!("GET {name}: {}, {} bytes", answer.status, answer.body.len()));
            }
            self.state().rounds[client] += 1;
            thread::sleep(PAUSE);
            if CLIENTS[client] == Kind::Large {
                let then = self.state().stored.len();
                while going() && self.state().stored.len() < then + BETWEEN {
                    thread::sleep(PAUSE);
                }
            }
        }
    }

    /// One request on the connection that is kept, or a new one; where it fails, that is noted.
    ///
    /// One that was sent on a connection that had served before, and was closed without a byte of an answer, is sent
    /// again on another, as clients may (RFC 9110, 9.2.2): its server had ended what it took for idle. Of an upload
    /// no byte of the body was sent then.
    fn ask(
        &self,
        client: usize,
        kept: &mut Option<Connection>,
        method: &str,
        name: &str,
        body: &[u8],
    ) -> Option<(u16, Answered)> {
        loop {
            let mut connection = kept.take().unwrap_or_else(|| self.connect());
            match connection.ask(&self.token, method, name, body) {
                Ok(answer) => {
                    let port = connection.port;
                    if CLIENTS[client] != Kind::Fresh && !answer.closes {
                        *kept = Some(connection);
                    }
                    return Some((port, answer));
                }
                Err(broken) if connection.served && !broken.heard => {
                    self.state().again.push(connection.port);
                }
                Err(broken) => {
                    self.fail(connection.port, format!("{method} {name}: {}", broken.words));
                    return None;
                }
            }
        }
    }

    /// A new connection by way of haproxy.
    pub(crate) fn connect(&self) -> Connection {
        let port = self.ports.fetch_add(1, Relaxed);
        Connection::open(&self.tls, FRONT, Some(port))
    }

    /// A new connection that haproxy has passed on to `replica`.
    pub(crate) fn connect_to(&self, fleet: &Fleet, replica: usize) -> Connection {
        loop {
            let connection = self.connect();
            eventually("haproxy has passed it on", || fleet.serving(connection.port).is_some());
            if fleet.serving(connection.port).as_deref() == Some(NAMES[replica]) {
                return connection;
            }
        }
    }

    /// An upload by way of haproxy that waits halfway, at `replica`, which has asked for its body.
    pub(crate) fn hold(&self, fleet: &Fleet, replica: usize, name: &str) -> Held {
        let mut connection = self.connect_to(fleet, replica);
        let bytes = bytes_of(name, LARGE);
        let (begun, rest) = bytes.split_at(LARGE / 2);
        assert_eq!(connection.offer(&self.token, name, LARGE).expect("an answer").status, CONTINUE, "{name}");
        connection.send(begun).expect("half is sent");
        Held { connection, name: name.to_owned(), rest: rest.to_vec() }
    }

    /// Waits until each client has come to the end of what it is at, and most of them of what comes then.
    pub(crate) fn await_rounds(&self) {
        let then = self.state().rounds;
        eventually("all clients go on", || {
            let now = self.state().rounds;
            let more = |client: usize| if CLIENTS[client] == Kind::Large { 1 } else { 2 };
            (0..CLIENTS.len()).all(|client| now[client] >= then[client] + more(client))
        });
    }

    /// Every name that was acknowledged, sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        self.state().stored.keys().cloned().collect()
    }

    pub(crate) fn failed(&self) -> Vec<Failed> {
        self.state().failed.clone()
    }

    /// The connections whose last request was sent again on another: their ports.
    pub(crate) fn again(&self) -> Vec<u16> {
        self.state().again.clone()
    }

    /// All that was acknowledged can be read at `replica`, byte for byte.
    pub(crate) fn is_whole_at(&self, replica: SocketAddr) {
        let stored = self.state().stored.clone();
        let mut kept = None;
        for (name, size) in stored {
            let mut connection = kept.take().unwrap_or_else(|| Connection::open(&self.tls, replica, None));
            let answer = connection.ask(&self.token, "GET", &name, b"");
            let answer = answer.unwrap_or_else(|broken| panic!("{name} at {replica}: {}", broken.words));
            assert_eq!(answer.status, 200, "{name} at {replica}");
            assert!(answer.body == bytes_of(&name, size), "{name} at {replica}: {} bytes", answer.body.len());
            kept = (!answer.closes).then_some(connection);
        }
    }

    fn fail(&self, port: u16, what: String) {
        self.state().failed.push(Failed { port, what });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

impl Held {
    /// Sends the other half, and gives what is said to all of it. Once acknowledged, it is to be there as all that
    /// `load` has stored.
    pub(crate) fn finish(mut self, load: &Load) -> Result<Answered, Broken> {
        let sent = self.connection.send(&self.rest);
        let answer = self.connection.answer_to(&sent)?;
        if answer.status == 201 {
            load.state().stored.insert(self.name, LARGE);
        }
        Ok(answer)
    }
}

impl Connection {
    /// To `place`, from that port of the clients' own address, or from any.
    fn open(tls: &Arc<ClientConfig>, place: SocketAddr, port: Option<u16>) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        if let Some(port) = port {
            socket.bind(&SocketAddr::from((CLIENTS_AT, port)).into()).expect("a port of its own");
        }
        socket.connect(&place.into()).unwrap_or_else(|error| panic!("{place} takes no connection: {error}"));
        let socket = TcpStream::from(socket);
        for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
            set(&socket, Some(SOON)).expect("a deadline");
        }
        socket.set_nodelay(true).expect("a setting");
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(tls), name).expect("a session");
        let stream = BufReader::new(StreamOwned::new(session, socket));
        Self { stream, port: port.unwrap_or(0), served: false }
    }

    pub(crate) fn ask(&mut self, token: &str, method: &str, name: &str, body: &[u8]) -> Result<Answered, Broken> {
        if method != "PUT" {
            let sent = self.begin(token, method, name, "");
            return self.answer_to(&sent);
        }
        if !self.served {
            let length = format!("Content-Length: {}\r\n", body.len());
            let sent = self.begin(token, method, name, &length).and_then(|()| self.send(body));
            return self.answer_to(&sent);
        }
        let told = self.offer(token, name, body.len())?;
        if told.status != CONTINUE {
            // The body that was announced won't come.
            return Ok(Answered { closes: true, ..told });
        }
        let sent = self.send(body);
        self.answer_to(&sent).map_err(|broken| Broken { heard: true, ..broken })
    }

    /// Announces an upload, and gives what is said before any of its body is sent: 100 when that is wanted.
    fn offer(&mut self, token: &str, name: &str, length: usize) -> Result<Answered, Broken> {
        let headers = format!("Content-Length: {length}\r\nExpect: 100-continue\r\n");
        let sent = self.begin(token, "PUT", name, &headers);
        self.answer_to(&sent)
    }

    /// Sends a head; `headers` end in CRLF each.
    fn begin(&mut self, token: &str, method: &str, name: &str, headers: &str) -> io::Result<()> {
        let head = format!(
            "{method} /files/{name} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
        );
        self.send(head.as_bytes())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// The next answer to what was sent: what was said before all of it was taken counts all the same.
    fn answer_to(&mut self, sent: &io::Result<()>) -> Result<Answered, Broken> {
        self.answer().map_err(|broken| match sent {
            Err(error) if !broken.heard => Broken { words: format!("{error}; {}", broken.words), ..broken },
            _ => broken,
        })
    }

    /// The next answer, whole.
    fn answer(&mut self) -> Result<Answered, Broken> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let before = head.len();
            let read = self.stream.read_until(b'\n', &mut head);
            let words = match read {
                Ok(_) if head.len() > before => continue,
                Ok(_) => "the connection ends".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(Broken { heard: !head.is_empty(), words });
        }
        let head = String::from_utf8(head).expect("is text");
        let field = |name: &str| {
            let named = |line: &str| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            head.lines().find_map(named)
        };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = field("content-length").map_or(0, |length| length.parse().expect("a number"));
        let closes = field("connection").is_some_and(|said| said.eq_ignore_ascii_case("close"));
        let mut body = vec![0; length];
        let read = self.stream.read_exact(&mut body);
        read.map_err(|error| Broken { heard: true, words: format!("in the body: {error}") })?;
        self.served |= status != CONTINUE;
        Ok(Answered { status, body, closes })
    }
}

/// What stands under `name`: no two objects are alike, nor any two places of one.
fn bytes_of(name: &str, size: usize) -> Vec<u8> {
    let line = format!("{name}\n");
    let mut bytes = line.repeat(size / line.len() + 1).into_bytes();
    bytes.truncate(size);
    bytes
}
