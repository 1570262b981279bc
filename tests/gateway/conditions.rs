//! Conditions of reads and writes, and removal.

use std::sync::{Arc, Barrier};

use sealward::identity::Action;

use crate::{
    client::{BOTH, Raw, bearer, file, nothing_stored, refused, token, upload},
    support::Site,
};

const LONG_AGO: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

#[test]
fn a_reader_who_has_it_is_told_so() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "a", b"hello");
    let now = site.get(&server, "a");
    let (tag, date) = (now.header("etag").to_owned(), now.header("last-modified").to_owned());
    for version in BOTH {
        let ask = |header: &str| site.curl([version, "-H", header, &server.url("a")]);
        for header in [
            format!("If-None-Match: {tag}"),
            format!("If-None-Match: W/{tag}"),
            format!("If-None-Match: \"x\", {tag}"),
            "If-None-Match: *".into(),
            format!("If-Modified-Since: {date}"),
        ] {
            let answer = ask(&header);
            assert_eq!((answer.status, answer.exit), (304, 0), "{header}: {answer:?}");
            assert!(answer.body.is_empty());
            assert_eq!(answer.header("etag"), tag);
            assert_eq!(answer.header("cache-control"), "private");
            assert!(matches!(answer.header("content-length"), "" | "5"), "{answer:?}");
            let head = site.curl([version, "-I", "-H", &header, &server.url("a")]);
            assert_eq!((head.status, head.exit), (304, 0), "{header}: {head:?}");
        }
        for header in [
            format!("If-Match: {tag}"),
            "If-Match: *".into(),
            "If-None-Match: \"x\"".into(),
            format!("If-Modified-Since: {LONG_AGO}"),
            format!("If-Unmodified-Since: {date}"),
            "If-Modified-Since: nonsense".into(),
        ] {
            let answer = ask(&header);
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{header}");
        }
        for header in
            ["If-Match: \"x\"".to_owned(), format!("If-Match: W/{tag}"), format!("If-Unmodified-Since: {LONG_AGO}")]
        {
            refused(&site, &ask(&header), 412);
            assert_eq!(site.curl([version, "-I", "-H", &header, &server.url("a")]).status, 412, "{header}");
        }
        refused(&site, &ask("If-Match: unquoted"), 400);
    }
    let gone = site.curl(["-H", "If-Match: *", &server.url("none")]);
    refused(&site, &gone, 404);
}

#[test]
fn creating_creates_only() {
    let site = Site::new();
    let server = site.serve("", "");
    for version in BOTH {
        let key = format!("new{version}");
        let create = |bytes| upload(&site, &server, &key, bytes, &[version, "-H", "If-None-Match: *"]);
        assert_eq!(create(b"first").status, 201);
        refused(&site, &create(b"second"), 412);
        assert_eq!(site.get(&server, &key).text(), "first");
    }
}

#[test]
fn replacing_replaces_only_what_was_meant() {
    let site = Site::new();
    let server = site.serve("", "");
    let replace =
        |bytes: &[u8], condition: &str| upload(&site, &server, "a", bytes, &["-H", &format!("If-Match: {condition}")]);
    refused(&site, &replace(b"0", "*"), 412);
    refused(&site, &replace(b"0", "\"x\""), 412);
    nothing_stored(&site);

    let first = site.put(&server, "a", b"1").header("etag").to_owned();
    let second = replace(b"2", &first);
    assert_eq!(second.status, 200, "{second:?}");
    refused(&site, &replace(b"3", &first), 412);
    refused(&site, &replace(b"3", &format!("W/{}", second.header("etag"))), 412);
    assert_eq!(site.get(&server, "a").text(), "2");
    assert_eq!(replace(b"4", "*").status, 200);
    let current = site.get(&server, "a").header("etag").to_owned();
    assert_eq!(replace(b"5", &format!("\"x\", {current}")).status, 200);
    assert_eq!(site.get(&server, "a").text(), "5");

    for header in ["If-None-Match: \"x\"", "If-Unmodified-Since: Sun, 06 Nov 2044 08:49:37 GMT", "If-Range: \"x\""] {
        refused(&site, &upload(&site, &server, "a", b"6", &["-H", header]), 400);
    }
    let both = upload(&site, &server, "a", b"6", &["-H", "If-Match: *", "-H", "If-None-Match: *"]);
    refused(&site, &both, 400);
    assert_eq!(site.get(&server, "a").text(), "5");
}

#[test]
fn of_many_creators_one_creates() {
    const MANY: usize = 30;
    let site = Site::new();
    let server = site.serve("", "");
    let start = Arc::new(Barrier::new(MANY));
    let threads: Vec<_> = (0..MANY)
        .map(|number| {
            let (start, mut connection) = (Arc::clone(&start), Raw::new(&site, &server));
            std::thread::spawn(move || {
                let body = format!("creator {number}");
                // All are asked for their bodies before any sends its own.
                let length = body.len();
                let headers = format!("Content-Length: {length}\r\nIf-None-Match: *\r\nExpect: 100-continue\r\n");
                connection.head("PUT /files/one", &headers);
                let (status, _) = connection.next_head();
                start.wait();
                assert_eq!(status, 100);
                connection.send(&body);
                (connection.answer().status, body)
            })
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("ends")).collect();
    let created: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
    assert_eq!(created.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 409 | 412)), "{answers:?}");
    assert_eq!(site.get(&server, "one").text(), created[0].1);
}

#[test]
fn who_may_only_write_learns_nothing_of_what_stands_there() {
    let site = Site::new();
    let writer = bearer(&token(&site, "writer", &[], &[Action::Write]));
    let server = site.serve("", "");
    let bytes = file(&site, b"mine");
    let put = |more: &[&str]| {
        let mut args = vec!["-H", &writer, "-T", bytes.to_str().expect("is text")];
        args.extend(more);
        let url = server.url("a");
        args.push(&url);
        site.curl_bare(args)
    };
    assert_eq!(put(&[]).status, 201);
    assert_eq!(put(&[]).status, 201);
    for condition in ["If-None-Match: *", "If-Match: *", "If-Match: \"x\""] {
        refused(&site, &put(&["-H", condition]), 403);
    }
    refused(&site, &site.curl_bare(["-H", &writer, &server.url("a")]), 403);
}

#[test]
fn what_is_removed_is_gone() {
    let site = Site::new();
    let server = site.serve("", "");
    for version in BOTH {
        let url = server.url("a");
        let remove = |more: &[&str]| {
            let args = ["-X", "DELETE", version, &url];
            site.curl(args.iter().chain(more))
        };
        let tag = site.put(&server, "a", b"a").header("etag").to_owned();
        refused(&site, &remove(&["-H", "If-Match: \"x\""]), 412);
        assert_eq!(site.get(&server, "a").text(), "a");
        let removed = remove(&["-H", &format!("If-Match: {tag}")]);
        assert_eq!((removed.status, removed.exit, removed.body.len()), (204, 0, 0), "{removed:?}");
        nothing_stored(&site);
        refused(&site, &site.get(&server, "a"), 404);
        refused(&site, &remove(&[]), 404);
        refused(&site, &remove(&["-H", "If-Match: *"]), 412);
        site.put(&server, "a", b"again");
        assert_eq!(remove(&[]).status, 204);
    }
    nothing_stored(&site);
}
