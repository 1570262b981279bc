//! What one client may have, and what is said to one that wants more.

use std::{
    fs,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use sealward::identity::{Grant, TokenFile};

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    failing::{Faulty, VERSIONS, file},
    nginx::Nginx,
    peer::Peer,
    support::{Answer, Sealward, Site, eventually, pattern},
    targets::reload,
};

const MIB: usize = 1 << 20;
/// Who has passed four MiB at once waits for about six seconds.
const BYTES: &str = "bytes = \"512KiB\"\nburst_bytes = \"1MiB\"";

/// The quota `few` with these keys.
fn quota(keys: &str) -> String {
    format!("[[quota]]\nname = \"few\"\n{keys}\n")
}

/// A public route from `/` to these targets, with that quota.
fn limited(targets: &[String], keys: &str) -> String {
    to(targets, &quota(keys)).replace("public = true\n", "public = true\nquotas = [\"few\"]\n")
}

/// Another caller of the site, as a header.
fn other_caller(site: &Site, name: &str) -> String {
    let tokens = TokenFile::open(&site.path("tokens.json"), false).expect("a token file");
    let token = tokens.issue(name, Grant::default(), None).expect("a token");
    format!("authorization: Bearer {}", token.expose())
}

/// The statuses of so many requests in a row, over one connection.
fn statuses(site: &Site, server: &Sealward, path: &str, count: usize, args: &[&str]) -> Vec<u16> {
    let args = [&["-o", "/dev/null", "-w", "%{http_code}\\n"], args].concat();
    let answer = ask(site, server, &format!("{path}?[1-{count}]"), &args);
    let statuses: Vec<u16> = answer.text().lines().map(|line| line.parse().expect("a status")).collect();
    assert_eq!((answer.exit, statuses.len()), (0, count), "{answer:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    statuses
}

fn let_in(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status == 200).count()
}

/// When to come again, as a refusal says.
fn refused(answer: &Answer) -> Duration {
    assert_eq!((answer.status, answer.exit), (429, 0), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    assert_eq!(answer.json()["status"], 429, "{answer:?}");
    let after: u64 = answer.header("retry-after").parse().expect("whole seconds");
    assert!(after > 0, "{answer:?}");
    Duration::from_secs(after)
}

fn refusals(server: &Sealward, kind: &str) -> f64 {
    server.metric(&format!("sealward_quota_refusals_total{{kind=\"{kind}\",quota=\"few\"}}"))
}

#[test]
fn who_asks_too_often_is_told_when_to_come_again() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let free = "[[route]]\npath = \"/free\"\npublic = true\nforward = { upstream = \"app\" }\n";
    let server = serve(&site, &(limited(&[app.url()], "requests = 1\nburst = 3") + free));
    let mut all = 0.0;
    for (version, path) in VERSIONS.into_iter().zip(["/first", "/second"]) {
        let since = Instant::now();
        let statuses = statuses(&site, &server, path, 30, &[version]);
        // One more for each second that has begun.
        let most = 3 + usize::try_from(since.elapsed().as_secs()).expect("few") + 1;
        assert!(let_in(&statuses) <= most, "{version}: {statuses:?}");
        eventually("the app has told of all", || app.asked(path) >= let_in(&statuses));
        assert_eq!(app.asked(path), let_in(&statuses), "the app isn't asked for what is refused");

        let mut answers = (0..20).map(|_| ask(&site, &server, "/", &[version]));
        let answer = answers.find(|answer| answer.status != 200).expect("it asks too often");
        let (since, after) = (Instant::now(), refused(&answer));
        all += f64::from(u16::try_from(30 - let_in(&statuses)).expect("few") + 1);
        assert_eq!(ask(&site, &server, "/free", &[version]).status, 200, "that is another route");
        let neighbour = ["--interface", "127.0.0.2", version];
        assert_eq!(ask(&site, &server, "/", &neighbour).status, 200, "that is another client");
        eventually("it is time", || since.elapsed() >= after);
        assert_eq!(ask(&site, &server, "/", &[version]).status, 200, "{version}: after {after:?}");
    }
    assert!(app.asked("/first") >= 3, "as many at once");
    assert_eq!(refusals(&server, "requests"), all);
    server.wait_for_line(|line| line.contains("\"status\":429") && line.contains("quota `few`: requests"));
}

#[test]
fn each_caller_has_its_own_wherever_it_comes_from() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let (first, second) = (format!("authorization: Bearer {}", site.token), other_caller(&site, "second"));
    let more = limited(&[app.url()], "by = \"caller\"\nrequests = 1\nburst = 5").replace("public = true\n", "");
    let server = serve(&site, &more);
    let of_first = statuses(&site, &server, "/", 30, &["-H", &first]);
    assert!(of_first[..5] == [200; 5] && of_first.contains(&429), "{of_first:?}");
    let moved = ["--http1.1", "--interface", "127.0.0.2", "-H", first.as_str()];
    assert!(statuses(&site, &server, "/", 30, &moved).contains(&429), "from elsewhere it is the same");
    let of_second = statuses(&site, &server, "/", 30, &["-H", &second]);
    assert!(of_second[..5] == [200; 5] && of_second.contains(&429), "{of_second:?}");
    assert_eq!(ask(&site, &server, "/", &[]).status, 401, "who is nobody is asked who it is");
}

#[test]
fn each_certificate_has_its_own_and_who_has_none_is_its_address() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let mut params = CertificateParams::new(vec![]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signs");
    fs::write(site.path("clients.pem"), authority.pem()).expect("writes");
    let [first, second] = ["first", "second"].map(|name| {
        let mut params = CertificateParams::new(vec![format!("{name}.example")]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &authority).expect("signs");
        let path = site.path(&format!("{name}.pem"));
        // curl finds both in it.
        fs::write(&path, cert.pem() + &key.serialize_pem()).expect("writes");
        path.to_str().expect("is text").to_owned()
    });
    let tls = "client_auth = \"request\", client_trust = \"clients.pem\"";
    let text = Site::config("", &limited(&[app.url()], "by = \"certificate\"\nrequests = 1\nburst = 5"));
    let server = site.serve_text(&text.replacen(" } } }", &format!(" }} }}, {tls} }}"), 1));
    for with in [&["--cert", first.as_str()][..], &["--cert", second.as_str()], &[], &["--interface", "127.0.0.2"]] {
        let statuses = statuses(&site, &server, "/", 30, with);
        assert!(statuses[..5] == [200; 5] && statuses.contains(&429), "{with:?}: {statuses:?}");
    }
}

#[test]
fn what_is_under_way_counts_until_it_ends() {
    let (site, app) = (Site::new(), Faulty::start());
    let server = serve(&site, &limited(&[app.url()], "concurrent = 2"));
    let held = |path: &str, version: &str| {
        let mut held = [(); 2].map(|()| Held::start(&site, &server, path, &[version]));
        for one in &mut held {
            assert_eq!((one.line(), one.line()), ("data: 0".to_owned(), String::new()));
        }
        held
    };
    for version in VERSIONS {
        let one_more = || ask(&site, &server, "/steps?n=1", &[version]);
        let answers = held("/steps?n=2", version);
        refused(&one_more());
        assert_eq!(ask(&site, &server, "/steps?n=1", &["--interface", "127.0.0.2"]).status, 200);
        for _ in 0..2 {
            app.go();
        }
        for answer in answers {
            assert_eq!(answer.ended(), (Some(0), "data: 1\n\n".to_owned()));
        }
        eventually("they have ended", || one_more().status == 200);

        // Or until their client leaves.
        let answers = held("/stall", version);
        refused(&one_more());
        drop(answers);
        eventually("they have ended", || one_more().status == 200);
    }
    assert!(refusals(&server, "concurrent") >= 4.0);
    eventually("the app sees that they left", || app.seen("GET /stall", "left") == 4);
}

#[test]
fn an_open_websocket_is_under_way() {
    let site = Site::new();
    let mut echo = Peer::start("websocket.py", ["serve"]);
    let url = format!("http://127.0.0.1:{}", echo.line());
    let server = serve(&site, &limited(&[url], "concurrent = 1"));
    let chat = format!("wss://localhost:{}/chat", server.https.port());
    let ca = site.path("tls/ca.pem").to_string_lossy().into_owned();
    let mut talk = Peer::start("websocket.py", ["talk".to_owned(), chat, ca, "hold".to_owned()]);
    assert_eq!(talk.line(), "open");
    refused(&ask(&site, &server, "/", &[]));
    drop(talk);
    // It speaks WebSocket and nothing else.
    eventually("it has ended", || ask(&site, &server, "/", &[]).status == 426);
}

/// `args` are refused for now, and let in when it was said.
fn waits_its_time(site: &Site, server: &Sealward, path: &str, args: &[&str]) -> Answer {
    let answer = ask(site, server, path, args);
    let (since, after) = (Instant::now(), refused(&answer));
    eventually("it is time", || since.elapsed() >= after);
    ask(site, server, path, args)
}

#[test]
fn who_has_sent_or_fetched_much_waits_before_the_next() {
    let keeps = "location /put/ { root data; dav_methods PUT; create_full_put_path on; }";
    let (site, app) = (Site::new(), Nginx::start("one", keeps));
    let large = pattern(4 * MIB);
    app.keep("large", &large);
    let upload = file(&site, &large);
    let server = serve(&site, &limited(&[app.url()], BYTES));
    // Each is another client.
    let down = VERSIONS.into_iter().zip(["127.0.0.2", "127.0.0.3"]);
    let up = VERSIONS.into_iter().zip(["127.0.0.4", "127.0.0.5"]);
    std::thread::scope(|scope| {
        for (version, from) in down {
            let (site, server, large) = (&site, &server, &large);
            scope.spawn(move || {
                let args = [version, "--interface", from];
                let answer = ask(site, server, "/data/large", &args);
                assert!((answer.status, answer.exit) == (200, 0) && answer.body == *large, "it isn't cut: {answer:?}");
                assert_eq!(waits_its_time(site, server, "/", &args).status, 200, "{args:?}");
            });
        }
        for (version, from) in up {
            let (site, server, upload, app, large) = (&site, &server, &upload, &app, &large);
            scope.spawn(move || {
                let args = [version, "--interface", from];
                let path = format!("put/{version}");
                let answer = ask(site, server, &format!("/{path}"), &[&args[..], &["-T", upload]].concat());
                assert_eq!((answer.status, answer.exit), (201, 0), "it isn't cut: {answer:?}");
                assert!(fs::read(app.data(&path)).expect("reads") == *large, "every byte");
                assert_eq!(waits_its_time(site, server, "/", &args).status, 200, "{args:?}");
            });
        }
    });
    assert_eq!(ask(&site, &server, "/", &[]).status, 200, "who has passed nothing hasn't to wait");
    assert_eq!(refusals(&server, "bytes"), 4.0);
}

#[test]
fn so_it_is_where_files_are_sealed() {
    let site = Site::new();
    let large = pattern(4 * MIB);
    let upload = file(&site, &large);
    let callers = ["first", "second"].map(|name| other_caller(&site, name));
    let text = Site::config("", &quota(&format!("by = \"caller\"\n{BYTES}")));
    let server = site.serve_text(&text.replace("seal = {", "quotas = [\"few\"]\nseal = {"));
    std::thread::scope(|scope| {
        for (version, caller) in VERSIONS.into_iter().zip(&callers) {
            let (site, server, large, upload) = (&site, &server, &large, &upload);
            scope.spawn(move || {
                let path = format!("/files/{version}");
                let args = [version, "-H", caller.as_str()];
                let put = ask(site, server, &path, &[&args[..], &["-T", upload]].concat());
                assert_eq!((put.status, put.exit), (201, 0), "{put:?}");
                let got = waits_its_time(site, server, &path, &args);
                assert!((got.status, got.exit) == (200, 0) && got.body == *large, "{got:?}");
                assert_eq!(waits_its_time(site, server, "/files/none", &args).status, 404);
            });
        }
    });
    assert_eq!(refusals(&server, "bytes"), 4.0);
}

#[test]
fn a_reload_forgets_nobody_unless_the_quota_is_another() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let with = |burst: u32, more: &str| {
        let keys = format!("requests = 1\nburst = {burst}");
        Site::config("", &(limited(&[app.url()], &keys) + more))
    };
    let server = site.serve_text(&with(60, ""));
    let before = statuses(&site, &server, "/", 90, &[]);
    assert!(before[..60] == [200; 60] && before.contains(&429), "{before:?}");

    let more = "[[route]]\npath = \"/new\"\npublic = true\nrespond = { body = \"new\" }\n";
    reload(&site, &server, &with(60, more));
    assert_eq!(ask(&site, &server, "/new", &[]).text(), "new");
    let same = statuses(&site, &server, "/", 60, &[]);
    assert!(same.contains(&429), "it isn't forgotten: {same:?}");

    reload(&site, &server, &with(10, ""));
    let changed = statuses(&site, &server, "/", 40, &[]);
    assert!(changed[..10] == [200; 10] && changed.contains(&429), "{changed:?}");
    // Without any all are let in.
    reload(&site, &server, &Site::config("", &to(&[app.url()], "")));
    assert_eq!(statuses(&site, &server, "/", 90, &[]), vec![200; 90]);
}

#[test]
fn where_nobody_is_a_caller_an_address_is_the_client_on_every_route() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let routes = "[[route]]\npath = \"/said\"\nquotas = [\"few\"]\nrespond = { body = \"said\" }\n\
        [[route]]\npath = \"/moved\"\nquotas = [\"few\"]\nredirect = { to = \"/said\" }\n";
    let keys = "by = \"caller\"\nrequests = 1\nburst = 5";
    let server = serve(&site, &(limited(&[app.url()], keys) + routes));
    for (path, from) in [("/app", "127.0.0.2"), ("/said", "127.0.0.3"), ("/moved", "127.0.0.4")] {
        let mut answers = (0..30).map(|_| ask(&site, &server, path, &["--interface", from]));
        assert!(answers.any(|answer| answer.status == 429), "{path} is let in again and again");
        assert_ne!(ask(&site, &server, path, &[]).status, 429, "{path}: that is another client");
    }
}
