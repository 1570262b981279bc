//! Bodies of unknown length, of another length than said, and those that are
//! refused before they come.

use crate::{
    client::{BOTH, Raw, nothing_stored, piped, refused, upload},
    support::{Site, eventually, pattern},
};

#[test]
fn a_pipe_is_stored_to_its_end() {
    let site = Site::new();
    let server = site.serve("", "");
    for version in BOTH {
        for size in [0, 1, 300_000, (11 << 20) + 3] {
            let bytes = pattern(size);
            let answer = piped(&site, &[version, "-T", "-", &server.url("piped")], bytes.clone());
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            assert_eq!(answer.json()["size"], size);
            assert!(site.get(&server, "piped").body == bytes, "{size} over {version}");
        }
    }
}

#[test]
fn a_raw_post_is_given_a_name() {
    let site = Site::new();
    let server = site.serve("", "");
    for version in BOTH {
        let args = [version, "-H", "Content-Type: text/x-note", "-H", "x-amz-meta-a: 1", "--data-binary", "a note"];
        let answer = site.curl(args.into_iter().chain([server.url("").as_str()]));
        assert_eq!(answer.status, 201, "{answer:?}");
        let location = answer.header("location");
        assert_eq!(location, format!("/files/{}", answer.json()["key"].as_str().expect("a name")));
        let read = site.curl([format!("https://{}{location}", server.https)]);
        assert_eq!(read.text(), "a note");
        assert_eq!(read.header("content-type"), "text/x-note");
        assert_eq!(read.header("x-amz-meta-a"), "1");
    }
    let conditional = site.curl(["-H", "If-None-Match: *", "--data-binary", "a", &server.url("")]);
    refused(&site, &conditional, 400);
}

#[test]
fn fewer_bytes_than_said_are_no_object() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    let mut connection = Raw::new(&site, &server);
    connection.head("PUT /files/short", "Content-Length: 1000\r\n");
    connection.send(pattern(999));
    drop(connection);
    eventually("the upload ends", || {
        server.metric("sealward_uploads_total{class=\"records\",outcome=\"client\"}") > 0.5
    });
    nothing_stored(&site);
    refused(&site, &site.get(&server, "short"), 404);
}

#[test]
fn what_comes_after_the_length_is_no_part_of_the_object() {
    let site = Site::new();
    let server = site.serve("", "");
    let mut connection = Raw::new(&site, &server);
    connection.head("PUT /files/long", "Content-Length: 5\r\n");
    connection.send("hello, and more");
    assert_eq!(connection.answer().status, 201);
    connection.ended();
    assert_eq!(site.get(&server, "long").text(), "hello");
}

#[test]
fn a_body_is_asked_for_only_when_it_is_taken() {
    let site = Site::new();
    let server = site.serve("max_size = \"1MiB\"", "");
    let expect = "Expect: 100-continue\r\n";
    let mut connection = Raw::new(&site, &server);
    connection.head("PUT /files/a", &format!("Content-Length: 5\r\n{expect}"));
    assert_eq!(connection.next_head().0, 100);
    connection.send("hello");
    assert_eq!(connection.next_head().0, 201);

    for (line, headers, status) in [
        ("PUT /files/b", "Content-Length: 1048577\r\n", 413),
        ("PUT /files/a", "Content-Length: 5\r\nIf-None-Match: *\r\n", 412),
        ("PUT /files/a", "Content-Length: 5\r\nIf-Match: \"x\"\r\n", 412),
        ("PUT /files/b", "Content-Length: 5\r\nContent-MD5: short\r\n", 400),
        ("PUT /files/b", "Content-Length: 5\r\nContent-Encoding: aws-chunked\r\n", 415),
        ("PUT /files/../b", "Content-Length: 5\r\n", 400),
        ("PUT /nowhere/b", "Transfer-Encoding: chunked\r\n", 404),
        ("PATCH /files/b", "Content-Length: 5\r\n", 405),
    ] {
        let mut connection = Raw::new(&site, &server);
        connection.head(line, &format!("{headers}{expect}"));
        assert_eq!(connection.next_head().0, status, "{line} {headers}");
    }
    let mut stranger = Raw::new(&site, &server);
    stranger.send(format!("PUT /files/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n{expect}\r\n"));
    assert_eq!(stranger.next_head().0, 401);
    let mut connection = Raw::new(&site, &server);
    let other = connection.ask("PUT /files/b", "Content-Length: 5\r\nExpect: bananas\r\n");
    refused(&site, &other, 417);
    assert_eq!(site.curl([server.url("?list")]).json()["objects"].as_array().map(Vec::len), Some(1));
}

#[test]
fn who_sends_too_much_sees_why_it_is_refused() {
    let site = Site::new();
    let server = site.serve("max_size = \"1MiB\"", "");
    let large = site.path("large");
    std::fs::File::create(&large).and_then(|file| file.set_len(64 << 20)).expect("a sparse file");
    let large = large.to_str().expect("is text");
    let url = server.url("large");
    for version in BOTH {
        for more in [&["-H", "Expect:"][..], &[], &["-H", "Expect:", "-H", "Transfer-Encoding: chunked"]] {
            let answer = site.curl([version, "-T", large].iter().chain(more).copied().chain([url.as_str()]));
            let words = refused(&site, &answer, 413);
            assert!(words.contains("1048576"), "{words}");
            // 0, or that curl stopped sending (a reset stream over HTTP/2): never that
            // the connection broke.
            assert!(!matches!(answer.exit, 52 | 55 | 56), "{version} {more:?}: {answer:?}");
        }
        let stranger = site.curl_bare([version, "-H", "Expect:", "-T", large, &url]);
        refused(&site, &stranger, 401);
    }
    nothing_stored(&site);
    assert_eq!(upload(&site, &server, "most", &pattern(1 << 20), &[]).status, 201);
    refused(&site, &upload(&site, &server, "over", &pattern((1 << 20) + 1), &[]), 413);
    let piped = piped(&site, &["-T", "-", &server.url("over")], pattern((1 << 20) + 1));
    refused(&site, &piped, 413);
    refused(&site, &site.get(&server, "over"), 404);
}
