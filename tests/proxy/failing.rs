//! Apps that fail and clients that leave in the middle of things: nobody takes a part for the
//! whole, and nothing is sent twice that may not be.

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    nginx::Nginx,
    peer::Peer,
    streaming::{by_http1, by_http2},
    support::{Sealward, Site, eventually, pattern},
};

pub(crate) const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];
const MIB: usize = 1 << 20;

/// An app that does as its paths say: `tests/peers/faulty_app.py`.
pub(crate) struct Faulty {
    url: String,
    /// It ends with this.
    _peer: Peer,
}

impl Faulty {
    pub(crate) fn start() -> Self {
        let mut peer = Peer::start("faulty_app.py", None::<&str>);
        Self { url: format!("http://127.0.0.1:{}", peer.line()), _peer: peer }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Lets one of its requests go on that waits for that.
    pub(crate) fn go(&self) {
        self.say("/go");
    }

    /// How many requests for `what`, a method and a path, have come to `end`.
    pub(crate) fn seen(&self, what: &str, end: &str) -> usize {
        let (what, end) = (format!("{what} "), format!(" {end}"));
        self.say("/seen").lines().filter(|line| line.starts_with(&what) && line.ends_with(&end)).count()
    }

    fn say(&self, path: &str) -> String {
        let url = format!("{}{path}", self.url);
        let output = Command::new("curl").args(["--disable", "-sS", "--fail", "--max-time", "20", &url]).output();
        let output = output.expect("curl is there: `make test` sees to it");
        assert!(output.status.success(), "{path}: {output:?}");
        String::from_utf8(output.stdout).expect("is text")
    }
}

/// Requests under way to the upstream `app`.
pub(crate) fn in_flight(server: &Sealward) -> f64 {
    server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}")
}

pub(crate) fn await_calm(server: &Sealward) {
    eventually("nothing is under way", || in_flight(server) == 0.0);
}

/// Threads that go on until it is over learn so, by a panic too.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// A file of the site with so many bytes, and its path for curl.
pub(crate) fn file(site: &Site, bytes: &[u8]) -> String {
    let path = site.path("upload.tmp");
    fs::write(&path, bytes).expect("writes");
    path.to_str().expect("is text").to_owned()
}

#[test]
fn an_answer_that_the_app_breaks_off_has_no_clean_end() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    for version in VERSIONS {
        for path in ["/length?how=close", "/length?how=reset", "/chunked?how=close", "/chunked?how=reset"] {
            let answer = ask(&site, &server, path, &[version]);
            // A reset may be there as soon as the head is, which then goes nowhere.
            let begun = answer.status == 200 || (answer.status == 0 && path.ends_with("reset"));
            assert!(begun, "{version} {path}: {answer:?}");
            assert!(answer.exit != 0 && answer.body.len() <= 300_000, "{version} {path}: {answer:?}");
            let id = answer.header("x-request-id");
            let line = server.wait_for_line(|line| line.contains(id) && line.contains("\"outcome\""));
            assert!(line.contains("\"outcome\":\"cut\"") && line.contains("\"detail\""), "{line}");
        }
    }
    await_calm(&server);
}

#[test]
fn an_upload_that_the_app_breaks_off_is_sent_to_no_other() {
    let (site, first, second) = (Site::new(), Faulty::start(), Faulty::start());
    let server = serve(&site, &to(&[first.url(), second.url()], ""));
    let upload = file(&site, &pattern(8 * MIB));
    let mut sent = 0;
    for version in VERSIONS {
        for after in ["1", "100000"] {
            for how in ["close", "reset"] {
                let path = format!("/die?after={after}&how={how}");
                let answer = ask(&site, &server, &path, &[version, "-T", &upload]);
                assert_eq!((answer.status, answer.exit), (502, 0), "{version} {path}: {answer:?}");
                assert_eq!(answer.header("content-type"), "application/problem+json");
                assert!(answer.text().contains("ended without an answer"), "{answer:?}");
                sent += 1;
            }
        }
    }
    let came = || first.seen("PUT /die", "ended") + second.seen("PUT /die", "ended");
    eventually("the apps have seen them", || came() >= sent);
    assert_eq!(came(), sent, "each came to one of them, once");
    assert_eq!(server.metric("sealward_upstream_retries_total{outcome=\"made\",upstream=\"app\"}"), 0.0);
    await_calm(&server);
}

#[test]
fn an_answer_that_comes_before_the_upload_is_over_is_the_clients() {
    // nginx goes on to take what it throws away.
    let more = "client_max_body_size 1m; location /put/ { root data; dav_methods PUT; }";
    let (site, app) = (Site::new(), Nginx::start("one", more));
    let server = serve(&site, &to(&[app.url()], ""));
    let upload = file(&site, &pattern(20 * MIB));
    for more in [&["--http1.1"][..], &["--http1.1", "-H", "Transfer-Encoding: chunked"], &["--http2"]] {
        let answer = ask(&site, &server, "/put/large", &[more, &["-T", &upload]].concat());
        assert_eq!((answer.status, answer.exit), (413, 0), "{more:?}: {answer:?}");
        assert!(answer.text().contains("nginx"), "{answer:?}");
    }
    await_calm(&server);
}

/// It closes with bytes unread, which resets the connection; but the answer came before.
#[test]
fn so_it_is_where_the_app_shuts_the_door_at_once() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    let upload = file(&site, &pattern(20 * MIB));
    // curl 7.88 waits for ever after an early 200 over HTTP/2: that one by hand.
    for (version, status) in [("--http1.1", 413), ("--http1.1", 200), ("--http2", 413)].repeat(8) {
        let answer = ask(&site, &server, &format!("/early?status={status}"), &[version, "-T", &upload]);
        assert_eq!((answer.status, answer.exit, answer.text().as_str()), (status, 0, "no more\n"), "{answer:?}");
    }
    // curl ends its upload where it hears of an error, which over HTTP/2 costs it what comes later.
    for version in VERSIONS {
        let answer = ask(&site, &server, "/apart?status=413", &[version, "-T", &upload]);
        assert_eq!((answer.status, answer.exit, answer.text().as_str()), (413, 0, "no more\n"), "{answer:?}");
    }
    let answer = by_http2(&site, &server, "/early?status=200", pattern(8 * MIB), &[]);
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, "no more\n"));
    await_calm(&server);
}

/// A target to which no connection comes about: nobody takes those that wait at its door, and
/// there is no room for more, so that the kernel drops what asks.
struct Blackhole {
    address: SocketAddr,
    _door: (Socket, Vec<TcpStream>),
}

impl Blackhole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("listens");
        let address = listener.local_addr().expect("an address").as_socket().expect("of IP");
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(300)).ok();
        let waiting: Vec<TcpStream> = (0..16).map_while(connect).collect();
        assert!(waiting.len() < 16, "it is never full");
        Self { address, _door: (listener, waiting) }
    }
}

#[test]
fn a_connection_that_never_comes_about_costs_its_bound_and_no_request() {
    let (site, app, hole) = (Site::new(), Faulty::start(), Blackhole::new());
    let hole = format!("http://{}", hole.address);
    let more = "connect_timeout = \"300ms\"";
    let server = serve(&site, &to(&[hole.clone(), app.url()], more));
    let upload = file(&site, &pattern(MIB));
    for version in VERSIONS {
        for _ in 0..3 {
            let since = Instant::now();
            let answer = ask(&site, &server, "/take", &[version, "-T", &upload]);
            assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
            assert!(answer.text().starts_with("1048576 "), "nothing of it was lost: {answer:?}");
            assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
        }
    }
    assert!(server.metric("sealward_upstream_requests_total{status=\"unreachable\",upstream=\"app\"}") >= 1.0);
    drop(server);

    let server = serve(&site, &to(&[hole], more));
    let tries = [(); 3].map(|()| {
        let since = Instant::now();
        let answer = ask(&site, &server, "/", &[]);
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(answer.text().contains("can't be reached"), "{answer:?}");
        since.elapsed()
    });
    // Unless it is told otherwise it waits for five seconds.
    assert!(tries.iter().min() < Some(&Duration::from_secs(4)), "{tries:?}");
    await_calm(&server);
}

#[test]
fn a_handshake_that_never_ends_is_a_connection_that_never_comes_about() {
    let site = Site::new();
    let app = Nginx::with_tls("one", &site.path("tls"));
    // Connections wait there, and nobody says a word.
    let silent = TcpListener::bind("127.0.0.1:0").and_then(|silent| Ok((silent.local_addr()?, silent)));
    let (address, _silent) = silent.expect("a port");
    let targets = [address, app.address].map(|address| format!("https://localhost:{}", address.port()));
    let more = "connect_timeout = \"1s\"\nidle_timeout = \"60s\"\ntls = { roots = \"tls/ca.pem\" }";
    let server = serve(&site, &to(&targets, more));
    for _ in 0..4 {
        let since = Instant::now();
        let answer = ask(&site, &server, "/", &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(since.elapsed() < Duration::from_secs(30), "{:?}", since.elapsed());
    }
    let (silent, unreachable) =
        (&targets[0], "sealward_upstream_requests_total{status=\"unreachable\",upstream=\"app\"}");
    assert!(server.metric(unreachable) >= 1.0, "{silent} was tried: {}", server.metrics());
}

#[test]
fn a_target_that_comes_and_goes_costs_no_request() {
    let (site, steady, mut flapping) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    // Checks take it back as soon as it is there, so that it is asked again before the next fall.
    let health =
        "health = { path = \"/data/\", codes = \"403-404\", interval = \"100ms\", healthy = 1, unhealthy = 100 }";
    let server = serve(&site, &to(&[steady.url(), flapping.url()], health));
    let (over, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (site, server, over, asked, failed) = (&site, &server, &over, &asked, &failed);
            scope.spawn(move || {
                while !over.load(Relaxed) {
                    let answer = ask(site, server, "/", &[VERSIONS[number % 2]]);
                    if (answer.status, answer.exit) != (200, 0) {
                        failed.lock().expect("not poisoned").push(answer);
                    }
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        let _over = Over(&over);
        for _ in 0..8 {
            let before = flapping.asked("GET / ");
            eventually("it is asked", || flapping.asked("GET / ") > before + 5);
            flapping.kill();
            let before = asked.load(Relaxed);
            eventually("requests go on", || asked.load(Relaxed) > before + 12);
            flapping.go();
        }
    });
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), asked.load(Relaxed), failed.first());
    assert!(server.metric("sealward_upstream_retries_total{outcome=\"made\",upstream=\"app\"}") >= 8.0);
    await_calm(&server);
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    for (round, version) in VERSIONS.into_iter().enumerate() {
        let mut down = Held::start(&site, &server, "/stall", &[version]);
        assert_eq!(down.line(), "data: 0");
        assert_eq!(in_flight(&server), 1.0);
        drop(down);
        eventually("the app sees that it left", || app.seen("GET /stall", "left") == round + 1);
        await_calm(&server);

        let mut up = Held::start(&site, &server, "/take", &[version, "-T", "."]);
        let mut input = up.input();
        input.write_all(&pattern(200_000)).expect("is taken");
        eventually("the app has a part", || app.seen("PUT /take", "begun") == round + 1);
        assert_eq!(in_flight(&server), 1.0);
        drop(up);
        eventually("the app sees that it left", || app.seen("PUT /take", "left") == round + 1);
        await_calm(&server);
    }
    assert_eq!(app.seen("PUT /take", "whole"), 0, "no part was taken for the whole");
}

#[test]
fn a_client_that_stops_in_its_upload_is_told_so() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &(to(&[app.url()], "") + "[limits]\nbody_idle_timeout = \"500ms\"\n"));
    let part = pattern(200_000);
    let mut request = b"PUT /take HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500000\r\n\r\n".to_vec();
    request.extend_from_slice(&part);
    let said = by_http1(&site, &server, &request);
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("application/problem+json"), "{said}");
    let answer = by_http2(&site, &server, "/take", part, &[]);
    assert_eq!(answer.status().as_u16(), 408, "{answer:?}");
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    eventually("the app has no whole", || app.seen("PUT /take", "left") == 2);
    assert_eq!(server.metric("sealward_upstream_requests_total{status=\"broken\",upstream=\"app\"}"), 0.0);
    await_calm(&server);
}
