//! Clients that leave midway: nothing is stored, and all they held comes back.

use crate::{
    clients::{Http1, Http2, MIB, await_calm, await_growth, unfinished, used},
    support::{Sealward, Site, eventually, files_below, pattern},
};

fn nothing_left(site: &Site, server: &Sealward) {
    await_calm(server);
    eventually("temporary files go", || unfinished(site).is_empty());
    assert!(files_below(&site.objects()).is_empty(), "{:?}", files_below(&site.objects()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_during_an_upload_leaves_nothing() {
    let site = Site::new();
    let server = site.serve("", "");
    let some = pattern(3 * MIB + MIB / 2);

    let mut client = Http1::open(&site, &server).await;
    client.begin("known", 16 * MIB, &some).await;
    await_growth(&site, MIB);
    eventually("an upload holds memory", || used(&server) > 0.0);
    drop(client);
    nothing_left(&site, &server);

    let mut client = Http1::open(&site, &server).await;
    client.head("PUT", "unknown", "transfer-encoding: chunked\r\n").await;
    client.send(format!("{:x}\r\n", 16 * MIB).as_bytes()).await.expect("takes a chunk's head");
    client.send(&some).await.expect("takes its beginning");
    await_growth(&site, MIB);
    drop(client);
    nothing_left(&site, &server);

    let mut client = Http1::open(&site, &server).await;
    client.head("POST", "", "transfer-encoding: chunked\r\ncontent-type: multipart/form-data; boundary=b\r\n").await;
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    client.send(format!("{:x}\r\n{part}\r\n{:x}\r\n", part.len(), 16 * MIB).as_bytes()).await.expect("is taken");
    client.send(&some).await.expect("takes its beginning");
    await_growth(&site, MIB);
    drop(client);
    nothing_left(&site, &server);
    assert_eq!(server.metric("sealward_uploads_total{class=\"records\",outcome=\"client\"}"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reset_or_a_connection_gone_leaves_nothing() {
    let site = Site::new();
    let server = site.serve("", "");
    let some = pattern(3 * MIB + MIB / 2);
    let mut client = Http2::open(&site, &server).await;

    let (_answer, mut body) = client.begin("reset", 16 * MIB, &some).await;
    await_growth(&site, MIB);
    body.send_reset(h2::Reason::CANCEL);
    nothing_left(&site, &server);

    let (answer, body) = client.begin("gone", 16 * MIB, &some).await;
    await_growth(&site, MIB);
    client.vanish();
    drop((answer, body));
    nothing_left(&site, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_during_a_download_gives_its_memory_back() {
    let site = Site::new();
    let server = site.serve("", "");
    site.put(&server, "large", &pattern(32 * MIB));

    let mut client = Http1::open(&site, &server).await;
    client.head("GET", "large", "").await;
    assert_eq!(client.answer().await.0, 200);
    client.read(MIB).await;
    eventually("a download holds memory", || used(&server) > 0.0);
    drop(client);
    await_calm(&server);

    let mut client = Http2::open(&site, &server).await;
    let mut body = client.get("large").await;
    body.data().await.expect("a piece").expect("arrives");
    eventually("a download holds memory", || used(&server) > 0.0);
    drop(body);
    await_calm(&server);

    let body = client.get("large").await;
    eventually("a download holds memory", || used(&server) > 0.0);
    client.vanish();
    drop(body);
    await_calm(&server);
    assert_eq!(server.metric("sealward_downloads_total{class=\"records\",outcome=\"aborted\"}"), 3.0);
}

/// An answer before the body's end, to a client that isn't done sending: on both
/// protocols it arrives, and isn't lost behind a reset.
#[test]
fn an_early_refusal_reaches_who_still_sends() {
    let site = Site::new();
    let server = site.serve("", "");
    let large = site.path("large");
    std::fs::write(&large, pattern(2 * MIB)).expect("writes");
    for protocol in ["--http1.1", "--http2"] {
        for round in 0..10 {
            let answer = site.curl_bare([protocol, "-T", large.to_str().expect("is text"), &server.url("k")]);
            assert_eq!(answer.status, 401, "{protocol}, round {round}: {answer:?}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
    }
    nothing_left(&site, &server);
}
