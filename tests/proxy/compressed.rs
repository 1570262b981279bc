//! Answers that take fewer bytes for clients that take them so.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{
    apps::{ask, serve, to},
    ending::Held,
    failing::{Faulty, VERSIONS, await_calm},
    nginx::Nginx,
    support::{Answer, Sealward, Site, pattern},
};

const GZIP: [&str; 2] = ["-H", "accept-encoding: gzip"];
const CODINGS: [&str; 2] = ["gzip", "GZIP"];

/// A public route from `/` to these targets, compressed.
fn compressed(targets: &[String]) -> String {
    to(targets, "").replace("public = true\n", "public = true\ncompress = true\n")
}

fn text() -> Vec<u8> {
    b"one of many lines that are much alike\n".repeat(5000)
}

/// An app that answers `text()` in many ways.
fn app() -> Nginx {
    let alike = "alias data/text; default_type";
    let more = format!(
        "location = /text {{ {alike} text/plain; }}\n\
         location = /image {{ {alike} image/png; }}\n\
         location = /events {{ {alike} text/event-stream; }}\n\
         location = /untouched {{ {alike} text/plain; add_header cache-control 'public, no-transform'; }}\n\
         location = /ready {{ {alike} text/plain; add_header content-encoding zstd; }}\n\
         location = /varied {{ {alike} text/plain; add_header vary origin; }}\n\
         location = /small {{ default_type text/plain; return 200 'a few bytes'; }}"
    );
    let app = Nginx::start("one", &more);
    app.keep("text", &text());
    app
}

/// What `answer`, in gzip, was before.
fn unzipped(answer: &Answer) -> Vec<u8> {
    let mut gzip = Command::new("gzip")
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("gzip is there");
    let mut input = gzip.stdin.take().expect("is piped");
    let body = answer.body.clone();
    let feeding = std::thread::spawn(move || input.write_all(&body));
    let output = gzip.wait_with_output().expect("ends");
    feeding.join().expect("no panic").expect("is taken");
    assert!(output.status.success(), "it is no whole gzip: {answer:?}");
    output.stdout
}

/// It is what the app said, byte by byte and word by word.
fn is_untouched(answer: &Answer) {
    assert_eq!(answer.exit, 0, "{answer:?}");
    assert!(answer.body == text(), "{answer:?}");
    assert_eq!(answer.header("content-length"), text().len().to_string(), "{answer:?}");
    assert!(answer.header("etag").starts_with('"'), "{answer:?}");
    assert!(matches!(answer.header("content-encoding"), "" | "zstd"), "{answer:?}");
}

#[test]
fn a_client_gets_the_coding_that_it_takes() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &compressed(&[app.url()]));
    for version in VERSIONS {
        for coding in CODINGS {
            let accepts = format!("accept-encoding: {coding}");
            let raw = ask(&site, &server, "/text", &[version, "-H", &accepts]);
            assert_eq!((raw.status, raw.exit, raw.header("content-encoding")), (200, 0, "gzip"), "{raw:?}");
            assert!(raw.body.len() < text().len() / 20, "{version} {coding}: {} bytes", raw.body.len());
            assert!(raw.header("etag").starts_with("W/\""), "these are other bytes: {raw:?}");
            assert_eq!(raw.header("vary"), "accept-encoding");
            assert_eq!((raw.header("content-length"), raw.header("accept-ranges")), ("", ""), "{raw:?}");
            let answer = ask(&site, &server, "/text", &[version, "--compressed", "-H", &accepts]);
            assert_eq!((answer.status, answer.exit), (200, 0), "{answer:?}");
            assert!(answer.body == text(), "{version} {coding}: every byte");
        }
        assert!(unzipped(&ask(&site, &server, "/text", &[&[version][..], &GZIP].concat())) == text());
        let rather = |what: &str| {
            let accepts = format!("accept-encoding: {what}");
            ask(&site, &server, "/text", &[version, "-H", &accepts]).header("content-encoding").to_owned()
        };
        assert_eq!(rather("gzip, br"), "gzip");
        assert_eq!(rather("br;q=1, gzip;q=0.5"), "gzip");
        assert_eq!(rather("*"), "gzip");
        for none in ["identity", "br, gzip;q=0", "deflate, zstd", "br"] {
            assert_eq!(rather(none), "", "{none}");
        }
        let whole = ask(&site, &server, "/text", &[version]);
        is_untouched(&whole);
        assert_eq!(whole.header("vary"), "accept-encoding", "it depends on that too");
    }
    let varied = ask(&site, &server, "/varied", &GZIP);
    let vary: Vec<&str> =
        varied.headers.iter().filter(|(name, _)| name == "vary").map(|(_, vary)| vary.as_str()).collect();
    assert_eq!(vary, ["origin", "accept-encoding"]);
    // What the app said of its bytes is good for a condition.
    let tag = ask(&site, &server, "/text", &GZIP).header("etag").to_owned();
    let fresh = format!("if-none-match: {tag}");
    assert_eq!(ask(&site, &server, "/text", &["-H", &fresh, GZIP[0], GZIP[1]]).status, 304);
}

#[test]
fn some_answers_stay_as_they_are() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &compressed(&[app.url()]));
    for version in VERSIONS {
        let get = |path: &str, more: &[&str]| ask(&site, &server, path, &[&[version], &GZIP[..], more].concat());
        for path in ["/image", "/events", "/ready"] {
            is_untouched(&get(path, &[]));
        }
        let small = get("/small", &[]);
        assert_eq!((small.text().as_str(), small.header("content-length")), ("a few bytes", "11"), "{small:?}");
        assert_eq!(small.header("content-encoding"), "");
        let head = get("/text", &["--head"]);
        assert_eq!(head.header("content-encoding"), "", "{head:?}");
        assert_eq!(head.header("content-length"), text().len().to_string());
        let part = get("/text", &["-r", "100-199"]);
        assert_eq!((part.status, part.header("content-encoding")), (206, ""), "{part:?}");
        assert!(part.body == text()[100..200], "{part:?}");
        assert_eq!(get("/status/500", &[]).text(), "broken");
    }
}

#[test]
fn several_ranges_stay_as_they_are() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &compressed(&[app.url()]));
    let parts = ask(&site, &server, "/text", &["-r", "0-99,1000-1099", GZIP[0], GZIP[1]]);
    assert!(parts.header("content-type").starts_with("multipart/byteranges"), "{parts:?}");
    assert_eq!((parts.status, parts.header("content-encoding")), (206, ""), "{parts:?}");
}

/// RFC 9110, section 7.7.
#[test]
fn what_nobody_may_change_stays_as_it_is() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &compressed(&[app.url()]));
    is_untouched(&ask(&site, &server, "/untouched", &GZIP));
}

/// The app has done what it was asked for, and has said so.
#[test]
fn a_client_that_takes_nothing_we_have_gets_the_apps_own_answer() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &compressed(&[app.url()]));
    for (path, status) in [("/text", 200), ("/small", 200), ("/status/404", 404)] {
        for nothing in ["identity;q=0", "*;q=0", "identity;q=0, zstd"] {
            let accepts = format!("accept-encoding: {nothing}");
            let answer = ask(&site, &server, path, &["-H", &accepts]);
            assert_eq!((answer.status, answer.header("content-encoding")), (status, ""), "{nothing}: {answer:?}");
        }
    }
}

#[test]
fn nothing_is_compressed_where_the_route_doesnt_say_so() {
    let (site, app) = (Site::new(), app());
    let server = serve(&site, &to(&[app.url()], ""));
    let answer = ask(&site, &server, "/text", &GZIP);
    is_untouched(&answer);
    assert_eq!(answer.header("vary"), "");
    drop(server);

    let said = "x".repeat(500);
    let fixed =
        |more: &str| format!("[[route]]\npath = \"/fixed\"\npublic = true\n{more}respond = {{ body = \"{said}\" }}\n");
    let server = serve(&site, &fixed(""));
    assert_eq!(ask(&site, &server, "/fixed", &GZIP).text(), said);
    drop(server);
    let server = serve(&site, &fixed("compress = true\n"));
    let answer = ask(&site, &server, "/fixed", &GZIP);
    assert_eq!(answer.header("content-encoding"), "gzip", "{answer:?}");
    assert!(unzipped(&answer) == said.as_bytes());
}

/// As `events` come from the app, and as the client reads them, each before the next.
fn one_by_one(site: &Site, server: &Sealward, app: &Faulty, args: &[&str]) {
    let mut events = Held::start(site, server, "/steps?n=3", args);
    for at in 0..3 {
        if at > 0 {
            app.go();
        }
        assert_eq!((events.line(), events.line()), (format!("data: {at}"), String::new()), "{args:?}");
    }
    assert_eq!(events.ended(), (Some(0), String::new()), "{args:?}");
}

#[test]
fn nothing_waits_to_be_compressed_with_what_comes_later() {
    let (site, app) = (Site::new(), Faulty::start());
    // Events stay as they are.
    let server = serve(&site, &compressed(&[app.url()]));
    for version in VERSIONS {
        one_by_one(&site, &server, &app, &[version, "--compressed"]);
    }
    assert_eq!(ask(&site, &server, "/steps?n=1", &GZIP).header("content-encoding"), "");
    drop(server);

    // Anything else that comes little by little is compressed little by little.
    let set = "upstream = \"app\", response = { set = { content-type = \"application/x-ndjson\" } } }";
    let server = serve(&site, &compressed(&[app.url()]).replace("upstream = \"app\" }", set));
    for version in VERSIONS {
        for coding in CODINGS {
            let accepts = format!("accept-encoding: {coding}");
            let answer = ask(&site, &server, "/steps?n=1", &[version, "-H", &accepts]);
            assert_eq!(answer.header("content-encoding"), "gzip", "{answer:?}");
            one_by_one(&site, &server, &app, &[version, "--compressed", "-H", &accepts]);
        }
        // And what breaks off has no clean end.
        for path in ["/length?how=close", "/chunked?how=reset"] {
            let answer = ask(&site, &server, path, &[&[version], &GZIP[..]].concat());
            // The end may be there before the head has left.
            let begun = (answer.status, answer.header("content-encoding"));
            assert!(begun == (200, "gzip") || begun == (0, ""), "{answer:?}");
            assert_ne!(answer.exit, 0, "{version} {path}: {answer:?}");
        }
    }
    await_calm(&server);
}

#[test]
fn a_large_answer_is_compressed_in_little_memory() {
    let (site, app) = (Site::new(), Nginx::start("one", ""));
    let large = pattern(1 << 20).repeat(100);
    app.keep("large", &large);
    let server = serve(&site, &compressed(&[app.url()]));
    let out = site.path("out");
    for version in VERSIONS {
        for coding in CODINGS {
            let accepts = format!("accept-encoding: {coding}");
            let to = ["-o", out.to_str().expect("a path")];
            let answer =
                ask(&site, &server, "/data/large", &[&to[..], &[version, "--compressed", "-H", &accepts]].concat());
            assert_eq!((answer.status, answer.exit, answer.header("content-encoding")), (200, 0, "gzip"), "{answer:?}");
            assert!(fs::read(&out).expect("reads") == large, "{version} {coding}: every byte");
        }
    }
    assert!(server.peak() < 96, "{} MiB", server.peak());
    await_calm(&server);
}
