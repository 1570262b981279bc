//! Clients that take their time, stop or leave: what is going on is let go on, and what has
//! stopped is over, whoever stopped it.

use std::{
    fs,
    io::Write as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    failing::{Faulty, VERSIONS, await_calm, file, in_flight},
    nginx::Nginx,
    streaming::by_http1,
    support::{Sealward, Site, eventually, free_address, pattern},
};

const MIB: usize = 1 << 20;
/// How long nothing may go or come; an app may think no longer either.
const IDLE: Duration = Duration::from_millis(1500);
const MORE: &str = "idle_timeout = \"1500ms\"";

/// Puts one piece after the other for longer than that: how many bytes, and what is answered.
fn fed(site: &Site, server: &Sealward, path: &str, version: &str) -> (usize, String) {
    const PIECE: usize = 20_000;
    let (since, mut sent) = (Instant::now(), 0);
    let mut upload = Held::start(site, server, path, &[version, "--fail", "-T", "-"]);
    let mut input = upload.input();
    while since.elapsed() < 2 * IDLE {
        input.write_all(&pattern(PIECE)).expect("is taken");
        sent += PIECE;
        // Slowness is what this is about.
        thread::sleep(IDLE / 8);
    }
    drop(input);
    let (exit, answer) = upload.ended();
    assert_eq!(exit, Some(0), "{version} {path}: {answer}");
    (sent, answer)
}

/// An app that has said nothing yet, and one that has sent its head.
#[test]
fn an_upload_that_goes_on_keeps_its_request_however_silent_the_app() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], MORE));
    thread::scope(|scope| {
        for (version, path) in VERSIONS.into_iter().flat_map(|version| [(version, "/take"), (version, "/eager")]) {
            let (site, server) = (&site, &server);
            scope.spawn(move || {
                let (sent, answer) = fed(site, server, path, version);
                assert!(answer.starts_with(&format!("{sent} ")), "{version} {path}: {answer}");
            });
        }
    });
    await_calm(&server);
}

#[test]
fn so_it_does_where_the_app_speaks_http2() {
    let site = Site::new();
    let free = free_address();
    let keeps = "location /put/ { root data; dav_methods PUT; create_full_put_path on; }";
    let app = Nginx::start_at("two", free, keeps, "http2");
    let server = serve(&site, &to(&[app.url()], &format!("protocol = \"http2\"\n{MORE}")));
    thread::scope(|scope| {
        for version in VERSIONS {
            let (site, server, app) = (&site, &server, &app);
            scope.spawn(move || {
                let path = format!("put/{version}");
                let (sent, _) = fed(site, server, &format!("/{path}"), version);
                assert_eq!(fs::read(app.data(&path)).expect("is there").len(), sent, "{version}");
            });
        }
    });
    await_calm(&server);
}

#[test]
fn and_so_it_does_where_the_app_takes_little_at_a_time() {
    let (site, app) = (Site::new(), Faulty::start());
    let idle = Duration::from_secs(5);
    let server = serve(&site, &to(&[app.url()], "idle_timeout = \"5s\""));
    let upload = file(&site, &pattern(96 * MIB));
    thread::scope(|scope| {
        for version in VERSIONS {
            let (site, server, upload) = (&site, &server, &upload);
            scope.spawn(move || {
                let since = Instant::now();
                let answer = ask(site, server, "/sips", &[version, "-T", upload]);
                assert_eq!((answer.status, answer.exit), (200, 0), "{version}: {answer:?}");
                assert!(answer.text().starts_with("100663296 "), "{version}: {answer:?}");
                assert!(since.elapsed() > idle, "it was too quick to prove anything");
            });
        }
    });
    await_calm(&server);
}

#[test]
fn where_nobody_goes_on_it_is_over() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], MORE));
    let upload = file(&site, &pattern(20 * MIB));
    thread::scope(|scope| {
        for version in VERSIONS {
            let (site, server, upload) = (&site, &server, &upload);
            scope.spawn(move || {
                // One takes nothing any more, and the other has taken all.
                for path in ["/late", "/silent"] {
                    let since = Instant::now();
                    let answer = ask(site, server, path, &[version, "-T", upload]);
                    assert_eq!((answer.status, answer.exit), (504, 0), "{version} {path}: {answer:?}");
                    assert!(answer.text().contains("doesn't answer"), "{version} {path}: {answer:?}");
                    assert!(since.elapsed() >= IDLE, "{version} {path}: {:?}", since.elapsed());
                }
                let answer = ask(site, server, "/stall", &[version, "-T", upload]);
                assert_eq!((answer.status, answer.text().as_str()), (200, "data: 0\n\n"), "{version}: {answer:?}");
                assert_ne!(answer.exit, 0, "{version}: the end isn't clean");
                let id = answer.header("x-request-id");
                let line = server.wait_for_line(|line| line.contains(id) && line.contains("\"outcome\":\"cut\""));
                assert!(line.contains("stopped in the middle"), "{line}");
            });
        }
    });
    await_calm(&server);
}

/// However short the app's own time is: it can't go on without the client.
#[test]
fn a_client_that_stalls_is_to_blame_and_no_app() {
    let free = free_address();
    let keeps = "location /take { root data; dav_methods PUT; }";
    let (one, two) = (Faulty::start(), Nginx::start_at("two", free, keeps, "http2"));
    for (url, protocol) in [(one.url(), ""), (two.url(), "protocol = \"http2\"\n")] {
        let site = Site::new();
        let upstream = to(&[url], &format!("{protocol}idle_timeout = \"1s\""));
        let server = serve(&site, &(upstream + "[limits]\nbody_idle_timeout = \"3s\"\n"));
        let mut request = b"PUT /take HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500000\r\n\r\n".to_vec();
        request.extend_from_slice(&pattern(200_000));
        // As often as an app may fail before it is left out.
        for _ in 0..3 {
            let said = by_http1(&site, &server, &request);
            assert!(said.starts_with("HTTP/1.1 408 "), "{protocol}: {said}");
        }
        let log = server.log();
        assert!(!log.contains("a target is left out"), "{log}");
        await_calm(&server);
    }
}

#[test]
fn an_answer_breaks_off_with_the_upload_that_it_answers() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &(to(&[app.url()], "") + "[limits]\nbody_idle_timeout = \"3s\"\n"));
    let mut request = b"PUT /eager HTTP/1.1\r\nhost: localhost\r\ncontent-length: 500000\r\n\r\n".to_vec();
    request.extend_from_slice(&pattern(200_000));
    let said = by_http1(&site, &server, &request);
    assert!(said.starts_with("HTTP/1.1 200 ") && !said.contains("\r\n0\r\n"), "it has no clean end: {said}");
    eventually("the app has no whole", || app.seen("PUT /eager", "left") == 1);
    server.wait_for_line(|line| line.contains("\"method\":\"PUT\"") && line.contains("\"outcome\":\"cut\""));
    await_calm(&server);
}

/// A client that says all it has to say at once; it leaves without another word.
struct Hasty(Child);

impl Hasty {
    fn start(server: &Sealward, words: &[u8]) -> Self {
        let child = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &server.https.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let mut hasty = Self(child.expect("openssl is there"));
        hasty.0.stdin.as_mut().expect("is piped").write_all(words).expect("is taken");
        hasty
    }
}

impl Drop for Hasty {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_leaves_before_the_app_has_switched_takes_the_request_along() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &to(&[app.url()], ""));
    let begun = |times: usize| {
        eventually("the app has it", || app.seen("GET /silent", "begun") == times);
        assert_eq!(in_flight(&server), 1.0);
    };
    let left = |times: usize| {
        eventually("the app sees that it left", || app.seen("GET /silent", "left") == times);
        await_calm(&server);
        eventually("nothing is open", || server.metric("sealward_connections{state=\"serving\"}") == 0.0);
    };
    let wants = ["--http1.1", "-H", "Connection: Upgrade", "-H", "Upgrade: websocket"];
    let patient = Held::start(&site, &server, "/silent", &wants);
    begun(1);
    drop(patient);
    left(1);

    // Some speak the other protocol before they know that they may.
    let head = b"GET /silent HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let hasty = Hasty::start(&server, &[&head[..], &pattern(1000)].concat());
    begun(2);
    drop(hasty);
    left(2);
}
