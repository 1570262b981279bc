//! What goes on to an app and what comes back, and what becomes of it when the app fails.

use std::{fs, net::TcpListener};

use crate::{
    apps::{ask, said, serve, to},
    nginx::Nginx,
    support::{Site, eventually, free_address, pattern},
};

#[test]
fn a_request_goes_on_as_it_came_and_says_whence() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let server = serve(&site, &to(&[app.url()], ""));
    for version in ["--http1.1", "--http2"] {
        let spoofed = [
            version,
            "-H",
            "X-Forwarded-For: 192.0.2.7",
            "-H",
            "X-Forwarded-Proto: http",
            "-H",
            "X-Forwarded-Host: elsewhere",
            "-H",
            "X-Real-Ip: 192.0.2.8",
            "-H",
            "X-Sealward-Caller: admin",
            "-H",
            "X_Sealward_Caller: admin",
            "-H",
            "X_Forwarded_For: 192.0.2.7",
            "-H",
            "X-Amzn-Mtls-Clientcert-Subject: CN=admin",
            "-H",
            "Forwarded: for=192.0.2.9",
            "-H",
            "X-Keep: kept",
            "-H",
            "Cookie: a=1",
            "-H",
            "Cookie: b=2",
        ];
        let answer = ask(&site, &server, "/a%20b/c?d=e&f", &spoofed);
        assert_eq!(answer.status, 200, "{answer:?}");
        let port = server.https.port().to_string();
        for (name, expected) in [
            ("method", "GET"),
            ("uri", "/a%20b/c?d=e&f"),
            ("host", &format!("localhost:{port}")),
            ("forwarded_for", "192.0.2.7, 127.0.0.1"),
            ("proto", "https"),
            ("port", &port),
            ("xhost", &format!("localhost:{port}")),
            ("forwarded", ""),
            ("caller", ""),
            ("mtls", ""),
            ("realip", ""),
            ("keep", "kept"),
            ("cookie", "a=1; b=2"),
        ] {
            assert_eq!(said(&answer, name), expected, "{version}: {name}");
        }
        assert!(said(&answer, "trace").starts_with("Root=1-"), "{answer:?}");
        assert_eq!(said(&answer, "id"), answer.header("x-request-id"));
        assert_eq!(answer.header("x-app"), "one");
    }
    // Some apps would read these as `/b`.
    for odd in ["/a/..;/b", "/a/..;x=y/b", "/a/..%5cb"] {
        assert_eq!(ask(&site, &server, odd, &["--path-as-is"]).status, 400, "{odd}");
    }
    // What is of one hop stays.
    let hop = [
        "--http1.1",
        "-H",
        "Connection: x-hop, close",
        "-H",
        "X-Hop: 1",
        "-H",
        "TE: gzip",
        "-H",
        "Expect: 100-continue",
    ];
    let answer = ask(&site, &server, "/", &hop);
    for name in ["hop", "connection", "te", "expect"] {
        assert_eq!(said(&answer, name), "", "{name}");
    }
    // An app's own answers come back as they are, and are counted.
    for (path, status, text) in [("/status/404", 404, "gone"), ("/status/500", 500, "broken")] {
        let answer = ask(&site, &server, path, &[]);
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
        assert_eq!(
            server.metric(&format!("sealward_upstream_requests_total{{status=\"{status}\",upstream=\"app\"}}")),
            1.0
        );
    }
    assert_eq!(server.metric("sealward_upstream_requests_in_flight{upstream=\"app\"}"), 0.0);
}

#[test]
fn whose_address_is_said_is_a_choice() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    for (choice, expected) in [("preserve", "192.0.2.7"), ("remove", "")] {
        let more = to(&[app.url()], "").replace(
            "upstream = \"app\" }",
            &format!("upstream = \"app\", x_forwarded_for = \"{choice}\", forwarded = true }}"),
        );
        let server = serve(&site, &more);
        let answer = ask(&site, &server, "/", &["-H", "X-Forwarded-For: 192.0.2.7"]);
        assert_eq!(said(&answer, "forwarded_for"), expected);
        let host = format!("for=127.0.0.1;host=\"localhost:{}\";proto=https", server.https.port());
        assert_eq!(said(&answer, "forwarded"), host);
    }
}

#[test]
fn a_caller_is_asked_for_and_the_token_stays_here() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let server = serve(&site, &to(&[app.url()], "").replace("public = true\n", ""));
    assert_eq!(ask(&site, &server, "/", &[]).status, 401);
    assert_eq!(app.asked("GET /"), 0, "nothing went on");
    let token = format!("authorization: Bearer {}", site.token);
    let answer = ask(&site, &server, "/", &["-H", &token, "-H", "X-Sealward-Caller: admin"]);
    assert_eq!((said(&answer, "caller").as_str(), said(&answer, "authorization").as_str()), ("tester", ""));
    assert!(!server.log().contains(&site.token));
}

#[test]
fn large_bodies_pass_through_in_little_memory() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let large = pattern(200 << 20);
    app.keep("large", &large);
    let server = serve(&site, &to(&[app.url()], ""));
    for version in ["--http1.1", "--http2"] {
        let out = site.path("out");
        let answer = ask(&site, &server, "/data/large", &[version, "-o", out.to_str().expect("a path")]);
        assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
        assert!(fs::read(&out).expect("reads") == large, "{version}: every byte");
    }
    let answer = ask(&site, &server, "/data/large", &["-r", "1000-1009"]);
    assert_eq!((answer.status, answer.body.len()), (206, 10));
    assert!(server.peak() < 64, "{} MiB", server.peak());
}

#[test]
fn targets_take_turns_and_one_that_dies_costs_no_request() {
    let (site, first, mut second) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    let server = serve(&site, &to(&[first.url(), second.url()], ""));
    let name = || said(&ask(&site, &server, "/", &[]), "name");
    let mut names: Vec<_> = (0..10).map(|_| name()).collect();
    names.sort();
    assert_eq!(names, [vec!["one"; 5], vec!["two"; 5]].concat());
    second.kill();
    for _ in 0..20 {
        assert_eq!(name(), "one");
    }
    assert!(server.metric("sealward_upstream_requests_total{status=\"unreachable\",upstream=\"app\"}") >= 3.0);
    server.wait_for_line(|line| line.contains("a target is left out for a while"));
    // An upload isn't lost either: nothing of it had left.
    let file = site.path("upload");
    fs::write(&file, "bytes").expect("writes");
    for _ in 0..4 {
        let answer = ask(&site, &server, "/", &["-X", "POST", "--data-binary", &format!("@{}", file.display())]);
        assert_eq!((answer.status, said(&answer, "name").as_str()), (200, "one"));
    }
    second.go();
    eventually("it gets requests again", || name() == "two");
}

#[test]
fn active_checks_take_a_target_out_and_back() {
    let (site, first, second) = (Site::new(), Nginx::start("one", ""), Nginx::start("two", ""));
    second.keep("well", b"yes");
    first.keep("well", b"yes");
    let health =
        "health = { path = \"/data/well\", codes = \"200\", interval = \"100ms\", healthy = 1, unhealthy = 2 }";
    let server = serve(&site, &to(&[first.url(), second.url()], health));
    let healthy = |app: &Nginx| {
        server.metric(&format!("sealward_upstream_target_healthy{{target=\"{}\",upstream=\"app\"}}", app.url()))
    };
    let name = || said(&ask(&site, &server, "/", &[]), "name");
    fs::remove_file(second.data("well")).expect("is there");
    eventually("it is found unwell", || healthy(&second) == 0.0);
    assert_eq!((0..6).map(|_| name()).collect::<Vec<_>>(), ["one"; 6]);
    let line = server.wait_for_line(|line| line.contains("a target is unwell"));
    assert!(line.contains("it answered 404"), "{line}");
    // With none well all are asked: an app that answers ill is better than none.
    fs::remove_file(first.data("well")).expect("is there");
    eventually("both are unwell", || healthy(&first) == 0.0);
    assert_eq!(ask(&site, &server, "/", &[]).status, 200);
    second.keep("well", b"yes");
    eventually("it is well again", || healthy(&second) == 1.0);
    assert_eq!((0..4).map(|_| name()).collect::<Vec<_>>(), ["two"; 4]);
}

#[test]
fn an_app_that_is_away_or_silent_is_told_as_that() {
    let site = Site::new();
    let closed = free_address();
    let server = serve(&site, &to(&[format!("http://{closed}")], ""));
    let answer = ask(&site, &server, "/", &[]);
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(
        answer.text().contains("can't be reached") && !answer.text().contains(&closed.port().to_string()),
        "{answer:?}"
    );
    server.wait_for_line(|line| line.contains("\"status\":502") && line.contains("upstream app"));
    drop(server);
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let server = serve(&site, &to(&[format!("http://{address}")], "idle_timeout = \"300ms\""));
    let answer = ask(&site, &server, "/", &[]);
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(answer.text().contains("doesn't answer"), "{answer:?}");
}

#[test]
fn tls_to_an_app_is_verified() {
    let site = Site::new();
    let app = Nginx::with_tls("secret", &site.path("tls"));
    let url = format!("https://localhost:{}", app.address.port());
    let server = serve(&site, &to(std::slice::from_ref(&url), "tls = { roots = \"tls/ca.pem\" }"));
    assert_eq!(said(&ask(&site, &server, "/", &[]), "name"), "secret");
    drop(server);
    // Not by the system's roots, and not under another name.
    for more in ["", "tls = { roots = \"tls/ca.pem\", server_name = \"elsewhere.example\" }"] {
        let server = serve(&site, &to(std::slice::from_ref(&url), more));
        let answer = ask(&site, &server, "/", &[]);
        assert_eq!(answer.status, 502, "{more}: {answer:?}");
        server.wait_for_line(|line| line.contains("certificate"));
    }
    let log = site.try_serve(&Site::config("", &to(&[url], "tls = { roots = \"none.pem\" }")), &[]).err();
    assert!(log.expect("it must not serve").contains("none.pem"));
}

#[test]
fn path_host_and_headers_can_be_changed_on_the_way() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let forward = "upstream = \"app\", host = \"app.internal\", rewrite = { pattern = \"^/v([0-9]+)/\", to = \"/data/v$1-\" }, \
        request = { remove = [\"x-hop\"], set = { x-keep = \"ours\" }, add = { cookie = \"c=3\" } }, \
        response = { remove = [\"x-app\"], set = { server = \"none\" }, add = { vary = \"origin\" } } }";
    app.keep("v2-file", b"found");
    let server = serve(&site, &to(&[app.url()], "").replace("upstream = \"app\" }", forward));
    let answer = ask(&site, &server, "/v2/file?q", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "found"), "{answer:?}");
    let answer = ask(&site, &server, "/else", &["-H", "x-hop: 1", "-H", "x-keep: theirs", "-H", "cookie: a=1"]);
    for (name, expected) in [("uri", "/else"), ("host", "app.internal"), ("hop", ""), ("keep", "ours")] {
        assert_eq!(said(&answer, name), expected, "{name}");
    }
    assert!(said(&answer, "xhost").starts_with("localhost:"), "{answer:?}");
    assert!(said(&answer, "cookie").contains("a=1"), "{answer:?}");
    assert_eq!((answer.header("x-app"), answer.header("server"), answer.header("vary")), ("", "none", "origin"));
}

#[test]
fn the_host_can_be_changed_by_a_pattern_and_what_a_proxy_before_us_said_be_kept() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let said_before = ["-H", "X-Forwarded-Proto: http", "-H", "X-Forwarded-Port: 80"];
    for (others, proto, port) in [("preserve", "http", "80"), ("remove", "", "")] {
        let more = format!(
            "upstream = \"app\", x_forwarded_others = \"{others}\", \
             rewrite_host = {{ pattern = \"^([a-z]+)(:[0-9]+)?$\", to = \"$1.internal\" }} }}"
        );
        let server = serve(&site, &to(&[app.url()], "").replace("upstream = \"app\" }", &more));
        for version in ["--http1.1", "--http2"] {
            let answer = ask(&site, &server, "/", &[&[version][..], &said_before].concat());
            assert_eq!(said(&answer, "host"), "localhost.internal", "{version}");
            assert_eq!((said(&answer, "proto").as_str(), said(&answer, "port").as_str()), (proto, port), "{others}");
            assert_eq!(said(&answer, "xhost"), "", "nobody said one");
        }
    }
}

#[test]
fn an_app_may_think_for_so_long_and_no_longer() {
    let site = Site::new();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let server = serve(&site, &to(&[url], "idle_timeout = \"60s\"\nhead_timeout = \"300ms\""));
    let began = std::time::Instant::now();
    assert_eq!(ask(&site, &server, "/", &[]).status, 504);
    assert!(began.elapsed().as_secs() < 30, "that is not the time of an answer that goes on");
}
