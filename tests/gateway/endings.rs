//! Bodies that end before their end: nothing of them is stored.

use bytes::Bytes;
use h2::Reason;

use crate::{
    client::{Http2, Raw, nothing_stored, refused},
    support::{Sealward, Site, eventually, pattern},
};

const CLIENT: &str = "sealward_uploads_total{class=\"records\",outcome=\"client\"}";

/// Waits until `count` uploads were ended by their clients, and the last is cleared away.
fn given_up(site: &Site, server: &Sealward, count: u32) {
    eventually("the uploads are counted", || server.metric(CLIENT) >= f64::from(count));
    assert!((server.metric(CLIENT) - f64::from(count)).abs() < 0.1);
    eventually("none is under way", || server.metric("sealward_uploads_in_flight") < 0.5);
    nothing_stored(site);
}

fn under_way(server: &Sealward) {
    eventually("the upload begins", || server.metric("sealward_uploads_in_flight") > 0.5);
}

#[test]
fn a_client_that_leaves_leaves_nothing() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    let mut left = 0;
    // A small body and one of several parts; of known length and not.
    for size in [1000, 12 << 20] {
        let bytes = pattern(size);
        for chunked in [false, true] {
            let mut connection = Raw::new(&site, &server);
            if chunked {
                connection.head("PUT /files/a", "Transfer-Encoding: chunked\r\n");
                connection.send([format!("{size:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat());
            } else {
                connection.head("PUT /files/a", &format!("Content-Length: {}\r\n", size + 1));
                connection.send(&bytes);
            }
            under_way(&server);
            drop(connection);
            left += 1;
            given_up(&site, &server, left);
        }
    }
    // A form too, cut inside its file.
    let mut connection = Raw::new(&site, &server);
    let head = "--BB\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhello";
    connection.head("POST /files/", "Content-Type: multipart/form-data; boundary=BB\r\nContent-Length: 10000\r\n");
    connection.send(head);
    under_way(&server);
    drop(connection);
    given_up(&site, &server, left + 1);
    refused(&site, &site.get(&server, "a"), 404);
}

#[test]
fn chunks_that_cannot_be_read_are_no_end() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    for (at, rest) in ["zz\r\n", "5\r\nhelloX", "-1\r\n", "ffffffffffffffffff\r\n"].into_iter().enumerate() {
        let mut connection = Raw::new(&site, &server);
        connection.head("PUT /files/a", "Transfer-Encoding: chunked\r\n");
        connection.send("5\r\nhello\r\n");
        under_way(&server);
        connection.send(rest);
        given_up(&site, &server, u32::try_from(at + 1).expect("few"));
        connection.ended();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_is_no_end() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    let mut client = Http2::new(&site, &server).await;
    // Even the reason that says nothing went wrong: what came is not the whole.
    let reasons = [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR];
    for (at, reason) in reasons.into_iter().enumerate() {
        let (answer, mut body) = client.put("a", &[]).await;
        body.send_data(Bytes::from_static(b"only the beginning"), false).expect("is sent");
        under_way(&server);
        body.send_reset(reason);
        drop(answer);
        given_up(&site, &server, u32::try_from(at + 1).expect("few"));
    }
    // And a connection that is gone.
    let (answer, mut body) = client.put("a", &[]).await;
    body.send_data(Bytes::from_static(b"only the beginning"), false).expect("is sent");
    under_way(&server);
    drop((answer, body, client));
    given_up(&site, &server, 4);
}

#[test]
fn a_server_that_is_cut_short_stores_no_part() {
    for version in ["HTTP/1.1", "HTTP/2"] {
        let site = Site::new();
        let mut server = site.serve("canary = \"off\"", "");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut connection = None;
        let mut stream = None;
        if version == "HTTP/2" {
            stream = Some(runtime.block_on(async {
                let mut client = Http2::new(&site, &server).await;
                let (answer, mut body) = client.put("a", &[]).await;
                body.send_data(Bytes::from_static(b"only the beginning"), false).expect("is sent");
                (client, answer, body)
            }));
        } else {
            let mut raw = Raw::new(&site, &server);
            raw.head("PUT /files/a", "Transfer-Encoding: chunked\r\n");
            raw.send("5\r\nhello\r\n");
            connection = Some(raw);
        }
        under_way(&server);
        server.signal("TERM");
        server.wait_for_line(|line| line.contains("told to stop:"));
        server.signal("TERM");
        assert!(server.wait().success());
        drop((connection, stream));
        // What it left unfinished it clears away when it starts again.
        let server = site.serve("canary = \"off\"", "");
        nothing_stored(&site);
        refused(&site, &site.get(&server, "a"), 404);
    }
}

#[test]
fn a_replacement_that_breaks_off_replaces_nothing() {
    let site = Site::new();
    let server = site.serve("canary = \"off\"", "");
    site.put(&server, "a", b"the old one");
    let mut connection = Raw::new(&site, &server);
    connection.head("PUT /files/a", "Content-Length: 20000000\r\n");
    connection.send(pattern(12 << 20));
    under_way(&server);
    assert_eq!(site.get(&server, "a").text(), "the old one");
    drop(connection);
    eventually("the upload is counted", || server.metric(CLIENT) > 0.5);
    assert_eq!(site.get(&server, "a").text(), "the old one");
}
