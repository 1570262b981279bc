//! What an app of HTTP/2 refuses, or leaves undone at its goodbye, was never begun (RFC 9113,
//! sections 6.8 and 8.7): it is sent again where it is all there, and nobody blames the app.

use std::io::Write as _;

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    failing::{VERSIONS, await_calm, file, in_flight},
    pooled::{HTTP2, Raw, asks_with, cores, told},
    support::{Answer, Sealward, Site, eventually, pattern},
};

const KIB: usize = 1 << 10;
/// Nobody waits in vain for a stream on a busy machine.
const PATIENT: &str = "protocol = \"http2\"\nconnect_timeout = \"30s\"";

/// How many tries came to `outcome`.
fn tries(server: &Sealward, outcome: &str) -> f64 {
    server.metric(&format!("sealward_upstream_requests_total{{status=\"{outcome}\",upstream=\"app\"}}"))
}

/// How many tries there were behind the first of their request.
fn retries(server: &Sealward) -> f64 {
    server.metric("sealward_upstream_retries_total{outcome=\"made\",upstream=\"app\"}")
}

fn assert_unblamed(server: &Sealward, app: &Raw) {
    assert_eq!((tries(server, "unreachable"), tries(server, "broken")), (0.0, 0.0));
    let healthy = format!("sealward_upstream_target_healthy{{target=\"{}\",upstream=\"app\"}}", app.url());
    assert_eq!(server.metric(&healthy), 1.0);
    let log = server.log();
    assert!(!log.contains("a target is left out"), "{log}");
    await_calm(server);
}

fn assert_sent_back(answer: &Answer) {
    assert_eq!((answer.status, answer.exit), (503, 0), "{answer:?}");
    let fields = ["retry-after", "content-type"].map(|name| answer.header(name));
    assert_eq!(fields, ["2", "application/problem+json"], "{answer:?}");
    assert!(answer.text().contains("takes no more now"), "{answer:?}");
}

/// What the app says of a body that it took at once.
fn taken(site: &Site, server: &Sealward, upload: &str) -> String {
    let answer = ask(site, server, "/refuse?times=0", &["-X", "POST", "-T", upload]);
    assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
    answer.text()
}

#[test]
fn a_body_that_was_refused_in_part_is_sent_again_whole() {
    let (site, app) = (Site::new(), Raw::start(["http2", "100"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let body = pattern(40 * KIB);
    let upload = file(&site, &body);
    let whole = taken(&site, &server, &upload);
    assert!(whole.starts_with("40960 "), "{whole}");
    let mut refused = 0;
    for version in VERSIONS {
        // Where its length is known,
        let path = format!("/refuse?after=16000&times=1&length=known&by={version}");
        let answer = ask(&site, &server, &path, &[version, "-X", "POST", "-T", &upload]);
        assert_eq!((answer.status, answer.exit, answer.text()), (200, 0, whole.clone()), "{answer:?}");
        refused += 1;
        assert_eq!(app.seen("refused"), refused);

        // and where it isn't, and the rest comes when a part has been refused.
        let path = format!("/refuse?after=16000&times=1&length=unknown&by={version}");
        let mut post = Held::start(&site, &server, &path, &[version, "-X", "POST", "-T", "-"]);
        let mut input = post.input();
        let (part, rest) = body.split_at(20 * KIB);
        input.write_all(part).expect("is taken");
        refused += 1;
        eventually("the app has refused it", || app.seen("refused") == refused);
        input.write_all(rest).expect("is taken");
        drop(input);
        assert_eq!(post.ended(), (Some(0), whole.clone()));
    }
    assert_eq!((tries(&server, "refused"), retries(&server)), (4.0, 4.0));
    assert_unblamed(&server, &app);
}

#[test]
fn a_body_that_is_too_much_to_keep_is_sent_once() {
    let (site, app) = (Site::new(), Raw::start(["http2", "100"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let upload = file(&site, &pattern(200 * KIB));
    // More often in a row than an app may fail.
    for version in VERSIONS.repeat(2) {
        let answer = ask(&site, &server, "/refuse?after=100000&times=1000", &[version, "-X", "POST", "-T", &upload]);
        assert_sent_back(&answer);
    }
    assert_eq!((app.seen("refused"), retries(&server)), (4, 0.0));
    assert_eq!(tries(&server, "refused"), 4.0);
    assert_eq!(ask(&site, &server, "/", &[]).status, 200);
    assert_unblamed(&server, &app);
}

#[test]
fn what_is_refused_again_and_again_is_tried_three_times() {
    let (site, app) = (Site::new(), Raw::start(["http2", "100"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let mut refused = 0;
    for version in VERSIONS {
        for args in [vec![version], vec![version, "-d", "a small body"]] {
            assert_sent_back(&ask(&site, &server, "/refuse?times=1000", &args));
            refused += 3;
            assert_eq!(app.seen("refused"), refused, "{args:?}");
        }
    }
    assert_eq!((tries(&server, "refused"), retries(&server)), (12.0, 8.0));
    assert_eq!(ask(&site, &server, "/", &[]).status, 200);
    assert_unblamed(&server, &app);
}

#[test]
fn what_a_goodbye_leaves_undone_is_done_over_another_connection() {
    let (site, app) = (Site::new(), Raw::start(["http2", "100"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    let upload = file(&site, &pattern(40 * KIB));
    let whole = taken(&site, &server, &upload);
    // Each goes to a thread of its own, and whoever comes next shares the connection of one.
    let hold = |at: usize| {
        let client = Held::start(&site, &server, "/hold", &["--http2"]);
        eventually("the app holds it", || app.seen("held") == at + 1);
        client
    };
    let held: Vec<Held> = (0..cores()).map(hold).collect();
    let connections = app.seen("connections");
    let mut goodbyes = 0;
    for version in VERSIONS {
        for after in ["0", "16000"] {
            let path = format!("/goodbye?after={after}&times=1&by={version}");
            let answer = ask(&site, &server, &path, &[version, "-X", "POST", "-T", &upload]);
            assert_eq!((answer.status, answer.exit, answer.text()), (200, 0, whole.clone()), "{path}: {answer:?}");
            goodbyes += 1;
            let seen = ["goodbyes", "connections", "held"].map(|what| app.seen(what));
            assert_eq!(seen, [goodbyes, connections + goodbyes, held.len()], "{path}");
        }
    }
    // What came before goes on where it is.
    app.say("go");
    for client in held {
        assert_eq!(client.ended(), (Some(0), "held\n".to_owned()));
    }
    assert_eq!((app.seen("connections"), app.seen("refused")), (connections + goodbyes, 0));
    // It costs nothing of what there is for retries.
    assert_eq!((tries(&server, "refused"), retries(&server)), (4.0, 0.0));
    assert_unblamed(&server, &app);
}

#[test]
fn of_a_crowd_that_waits_for_streams_nobody_loses_by_a_goodbye() {
    const MANY: usize = 100;
    let (site, app) = (Site::new(), Raw::start(["http2", "4"]));
    let server = serve(&site, &to(&[app.url()], PATIENT));
    let small = ["--parallel-max", "100", "-d", "a small body"];
    let client = asks_with(&site, &server, "/hold?", MANY, &small);
    eventually("all are there", || in_flight(&server) == 100.0);
    let settled = || {
        let open = server.metric("sealward_upstream_connections{upstream=\"app\"}");
        let held = app.say("seen")["held"].as_f64().expect("a number");
        held == 4.0 * open || held == in_flight(&server)
    };
    let mut most = 0;
    loop {
        eventually("the app holds all that it takes", settled);
        if in_flight(&server) == 0.0 {
            break;
        }
        most = most.max(app.seen("held"));
        app.say("bye");
        app.say("go");
    }
    assert!((4..MANY).contains(&most), "{most} at once: others waited");
    assert!(app.seen("goodbyes") > 1);
    assert_eq!(told(client), vec!["200"; MANY]);
    assert_eq!(app.seen("refused"), 0);
    assert_unblamed(&server, &app);
}

/// They aren't over before what came first on them is, and have room.
#[test]
fn connections_that_have_said_goodbye_cost_a_request_none_of_its_tries() {
    let (site, app) = (Site::new(), Raw::start(["http2", "2"]));
    let server = serve(&site, &to(&[app.url()], PATIENT));
    // One comes when another has been answered.
    let client = asks_with(&site, &server, "/hold?", 17, &["--parallel-max", "16", "-d", "a small body"]);
    eventually("the app holds all but the last", || app.seen("held") == 16);
    assert_eq!(app.say("bye")["goodbyes"], 8);
    assert_eq!(app.say("one")["held"], 8);
    eventually("it has the last too", || app.seen("held") == 9);
    app.say("go");
    assert_eq!(told(client), vec!["200"; 17]);
    assert_unblamed(&server, &app);
}

/// Who is answered early may have more to send, and the stream is open until that is over.
#[test]
fn an_upload_that_goes_on_behind_its_answer_keeps_no_other_waiting() {
    let (site, app) = (Site::new(), Raw::start(["http2", "1"]));
    let server = serve(&site, &to(&[app.url()], HTTP2));
    // One for each thread, so that whoever comes next meets one.
    let begin = |_| {
        let mut upload = Held::start(&site, &server, "/", &["--http2", "-X", "POST", "-T", "-"]);
        let mut input = upload.input();
        input.write_all(b"a part").expect("is taken");
        (upload, input)
    };
    let uploads: Vec<_> = (0..cores()).map(begin).collect();
    eventually("each is answered", || app.seen("connections") == cores() && in_flight(&server) == 0.0);
    let client = Held::start(&site, &server, "/hold", &["--http2"]);
    eventually("the app holds another", || app.seen("held") == 1);
    app.say("go");
    assert_eq!(client.ended(), (Some(0), "held\n".to_owned()));
    drop(uploads);
    assert_unblamed(&server, &app);
}
