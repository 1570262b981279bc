//! Connections to targets: who shares one, who waits for one, which is used again, and what
//! becomes of those for whom there is none.

use std::{cell::RefCell, ffi::OsStr};

use serde_json::Value;

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    failing::{VERSIONS, await_calm, in_flight},
    nginx::Nginx,
    peer::Peer,
    support::{Answer, Sealward, Site, eventually, free_address},
};

pub(crate) const HTTP2: &str = "protocol = \"http2\"";

/// An app that tells of its connections: `tests/peers/raw_app.py`.
pub(crate) struct Raw {
    peer: RefCell<Peer>,
    port: String,
}

impl Raw {
    pub(crate) fn start<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut peer = Peer::start("raw_app.py", args);
        let port = peer.line();
        Self { peer: RefCell::new(peer), port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Has it do `word`, and hears what it has seen.
    pub(crate) fn say(&self, word: &str) -> Value {
        let mut peer = self.peer.borrow_mut();
        peer.say(word);
        serde_json::from_str(&peer.line()).expect("is JSON")
    }

    pub(crate) fn seen(&self, what: &str) -> usize {
        let count = self.say("seen")[what].as_u64().expect("a number");
        count.try_into().expect("a small one")
    }
}

/// A client that asks so many times at once, on one connection of HTTP/2.
fn asks(site: &Site, server: &Sealward, path: &str, count: usize) -> Held {
    asks_with(site, server, path, count, &["--parallel-max", &count.to_string()])
}

pub(crate) fn asks_with(site: &Site, server: &Sealward, path: &str, count: usize, more: &[&str]) -> Held {
    let path = format!("{path}[1-{count}]");
    let line = "%{http_code} %header{retry-after} %header{content-type}\\n";
    let all = [&["--http2", "-Z", "-o", "/dev/null", "-w", line], more].concat();
    Held::start(site, server, &path, &all)
}

/// What each of a client's requests came to: its status, and what headers say besides.
pub(crate) fn told(client: Held) -> Vec<String> {
    let (exit, said) = client.ended();
    assert_eq!(exit, Some(0), "{said}");
    said.lines().map(|line| line.trim().to_owned()).collect()
}

/// How many requests were refused for want of room, so far.
fn refused(server: &Sealward) -> usize {
    let log = server.log();
    log.lines().filter(|line| line.contains("\"outcome\"") && line.contains("\"status\":503")).count()
}

/// Of each line of several answers, which all have to be whole.
fn lines(answer: &Answer) -> Vec<String> {
    assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    answer.text().lines().map(str::to_owned).collect()
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn more_streams_than_a_connection_takes_go_over_another() {
    // Two of the clients share a thread, there being one more of them, and so its connections.
    const EACH: usize = 60;
    let clients = cores() + 1;
    let (site, app) = (Site::new(), Raw::start(["http2", "100"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let asking: Vec<Held> = (0..clients).map(|_| asks(&site, &server, "/hold?", EACH)).collect();
    eventually("the app has all of them at once", || app.seen("held") == clients * EACH);
    assert_eq!(app.seen("refused"), 0);
    app.say("go");
    for client in asking {
        assert_eq!(told(client), vec!["200"; EACH]);
    }
    await_calm(&server);
}

/// Until the app has said how much it takes, nothing is sent that it would refuse.
#[test]
fn an_app_that_takes_few_streams_at_once_answers_all() {
    let (site, app) = (Site::new(), Raw::start(["http2", "2"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let client = asks(&site, &server, "/hold?", 8);
    eventually("the app has what it takes", || in_flight(&server) == 8.0 && app.seen("held") >= 2);
    eventually("each has had its turn", || {
        app.say("go");
        in_flight(&server) == 0.0
    });
    assert_eq!(told(client), vec!["200"; 8]);
    assert_eq!(app.seen("refused"), 0);
}

/// Each of its connections ends after twenty requests, while others are on their way.
#[test]
fn what_an_app_of_http2_leaves_undone_is_done_over_another_connection() {
    const MANY: usize = 300;
    let free = free_address();
    let (site, app) = (Site::new(), Nginx::start_at("app", free, "keepalive_requests 20;", "http2"));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let posts = asks_with(&site, &server, "/post", MANY, &["--parallel-max", "8", "-d", "a small body"]);
    assert_eq!(told(posts), vec!["200  text/plain"; MANY]);
    eventually("all are logged", || app.asked("POST /post") >= MANY);
    assert_eq!(app.asked("POST /post"), MANY, "nothing was done twice");
    let log = server.log();
    assert!(!log.contains("a target is left out"), "{log}");
    await_calm(&server);
}

#[test]
fn who_comes_while_a_connection_is_made_waits_for_it() {
    let site = Site::new();
    let pair = ["tls/cert.pem", "tls/key.pem"].map(|file| site.path(file).to_string_lossy().into_owned());
    let app = Raw::start(["http2".to_owned(), "100".to_owned()].into_iter().chain(pair));
    let target = format!("https://127.0.0.1:{}", app.port);
    let more = format!("{HTTP2}\nconnect_timeout = \"30s\"\ntls = {{ roots = \"tls/ca.pem\" }}");
    let server = serve(&site, &to(&[target], &more));
    app.say("shut");
    let client = asks(&site, &server, "/", 8);
    eventually("all are there, and one handshake", || in_flight(&server) == 8.0 && app.seen("connections") == 1);
    app.say("open");
    assert_eq!(told(client), vec!["200"; 8]);
    assert_eq!(app.seen("connections"), 1, "nobody made one of their own");
    await_calm(&server);
}

/// One connection of a client is enough, where each of its requests needs one to the app; others
/// find the door open meanwhile.
#[test]
fn connections_to_apps_have_a_bound_and_no_app_is_blamed_for_it() {
    const MANY: usize = 100;
    let (mut site, app) = (Site::new(), Raw::start(["http1"]));
    // A third of some seventy, beside what each core holds open for itself.
    site.descriptors = Some(80 + 4 * cores() as u64);
    let server = serve(&site, &to(&[app.url()], ""));
    let client = asks(&site, &server, "/hold?last&", MANY);
    eventually("each is held or refused", || app.seen("held") + refused(&server) == MANY);
    let held = app.seen("held");
    assert!((16..=24).contains(&held), "{held} of {MANY} came to the app");
    // Another client comes in, and hears the same; and there are figures.
    assert_eq!(ask(&site, &server, "/", &[]).status, 503);
    let open = server.metric("sealward_upstream_connections{upstream=\"app\"}");
    assert!((open - f64::from(u32::try_from(held).expect("few"))).abs() < 0.5, "{open} are open");
    app.say("go");
    let all = told(client);
    let count = |wanted: &str| all.iter().filter(|line| *line == wanted).count();
    assert_eq!((count("200"), count("503 2 application/problem+json")), (held, MANY - held), "{all:?}");

    // What was held has ended, and there is room again at once.
    for version in VERSIONS {
        let answer = ask(&site, &server, "/", &[version]);
        assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    }
    let requests = |status: &str| {
        server.metric(&format!("sealward_upstream_requests_total{{status=\"{status}\",upstream=\"app\"}}"))
    };
    assert!(requests("ours") >= 1.0);
    assert_eq!((requests("unreachable"), requests("broken")), (0.0, 0.0));
    let healthy = format!("sealward_upstream_target_healthy{{target=\"{}\",upstream=\"app\"}}", app.url());
    assert_eq!(server.metric(&healthy), 1.0);
    let log = server.log();
    assert!(log.contains("limit of open files") && !log.contains("a target is left out"), "{log}");
    await_calm(&server);
}

/// One task serves all of a client's streams, and what it may poll at a time has a bound.
#[test]
fn of_many_requests_that_are_not_answered_each_ends_in_its_time() {
    let (site, app) = (Site::new(), Raw::start(["http1"]));
    let server = serve(&site, &to(&[app.url()], "head_timeout = \"1500ms\""));
    for _ in 0..3 {
        let all = told(asks_with(&site, &server, "/hold?", 100, &["--parallel-max", "100", "--max-time", "20"]));
        assert_eq!(all, vec!["504  application/problem+json"; 100]);
        await_calm(&server);
    }
}

/// What one upstream has and doesn't use is another's to have.
#[test]
fn an_upstream_that_has_had_its_crowd_keeps_no_other_from_its_app() {
    let (mut site, crowded, other) = (Site::new(), Raw::start(["http1"]), Raw::start(["http1"]));
    site.descriptors = Some(80 + 4 * cores() as u64);
    let two = format!(
        "[[upstream]]\nname = \"other\"\ntargets = [\"{}\"]\n\
         health = {{ path = \"/\", interval = \"1s\", unhealthy = 1 }}\n\
         [[route]]\npath = \"/other\"\npublic = true\nforward = {{ upstream = \"other\" }}\n",
        other.url()
    );
    let server = serve(&site, &(to(&[crowded.url()], "") + &two));
    let client = asks(&site, &server, "/hold?", 100);
    // What came later would be held for good.
    eventually("each is held or refused", || crowded.seen("held") + refused(&server) == 100);
    crowded.say("go");
    let all = told(client);
    assert!(all.iter().any(|line| line.starts_with("503 ")), "{all:?}");
    // All that the first has waits now, and is let go for this.
    assert_eq!(ask(&site, &server, "/other", &[]).status, 200);
    let log = server.log();
    assert!(!log.contains("a target is unwell"), "{log}");
}

/// RFC 9112, section 6.3: the coding overrides the length, which doesn't go on.
#[test]
fn of_two_lengths_the_chunks_hold_and_nothing_is_left_for_the_next() {
    let (site, app) = (Site::new(), Raw::start(["http1"]));
    let server = serve(&site, &to(&[app.url()], ""));
    for version in VERSIONS {
        let answer = ask(&site, &server, "/both", &[version]);
        assert_eq!((answer.status, answer.exit, answer.text().as_str()), (200, 0, "whole\n"), "{answer:?}");
        assert_eq!(answer.header("content-length"), "");
        // And nothing else comes over its connection.
        let answer = ask(&site, &server, "/{next,both,next}", &[version]);
        let lines = lines(&answer);
        assert!(lines[0].starts_with("connection ") && lines[1] == "whole", "{answer:?}");
        assert!(lines[2].starts_with("connection ") && lines[0] != lines[2], "{answer:?}");
    }
    await_calm(&server);
}

/// It could be anybody's who asks next.
#[test]
fn an_answer_that_nobody_asked_for_is_nobodys() {
    let (site, app) = (Site::new(), Raw::start(["http1"]));
    let server = serve(&site, &to(&[app.url()], ""));
    for version in VERSIONS {
        // One after the other, on one connection: what is kept to the app is found again.
        let answer = ask(&site, &server, "/{unasked,next,unasked,next}", &[version]);
        let lines = lines(&answer);
        assert_eq!((lines.len(), &*lines[0], &*lines[2]), (4, "asked", "asked"), "{answer:?}");
        assert!(lines[1].starts_with("connection ") && lines[3].starts_with("connection "), "{answer:?}");
    }
    await_calm(&server);
}

#[test]
fn what_an_app_says_by_http_1_0_is_told_by_the_clients_own_version() {
    const LONG: usize = 300_000;
    let (site, app) = (Site::new(), Raw::start(["http1"]));
    let server = serve(&site, &to(&[app.url()], ""));
    for (version, ours) in VERSIONS.into_iter().zip(["1.1", "2"]) {
        // A clean end, though the app's is the end of its connection.
        let answer = ask(&site, &server, &format!("/old?n={LONG}"), &[version, "-w", "%{http_version}"]);
        assert_eq!((answer.status, answer.exit, answer.header("x-app")), (200, 0, "old"), "{answer:?}");
        assert_eq!(answer.body.len(), LONG + ours.len());
        assert!(answer.body.ends_with(ours.as_bytes()), "{answer:?}");
        let answer = ask(&site, &server, &format!("/old?n={LONG}&how=reset"), &[version]);
        assert_ne!(answer.exit, 0, "{version}: what was broken off isn't whole");
        assert_eq!(ask(&site, &server, "/", &[version]).status, 200);
    }
    await_calm(&server);
}
