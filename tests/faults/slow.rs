//! Slow clients: who stands still or drips is let go, who keeps going is served.

use std::time::{Duration, Instant};

use crate::{
    clients::{BEAT, Http1, Http2, MIB, await_calm, drain, send, unfinished, used},
    support::{SOON, Sealward, Site, eventually, files_below, pattern},
};

const LIMITS: &str = "[limits]\nbody_idle_timeout = \"1s\"\nmin_body_rate = \"64KiB\"\n";
const STALL: &str = "[limits]\nsend_idle_timeout = \"6s\"\n";

fn nothing_stored(site: &Site, server: &Sealward) {
    await_calm(server);
    eventually("temporary files go", || unfinished(site).is_empty());
    assert!(files_below(&site.objects()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_stands_still_gets_408() {
    let site = Site::new();
    let server = site.serve("", LIMITS);
    let mut client = Http1::open(&site, &server).await;
    let since = Instant::now();
    client.begin("still", 4 * MIB, &pattern(100_000)).await;
    let (status, head) = client.answer().await;
    assert_eq!(status, 408, "{head}");
    assert!(head.contains("application/problem+json") && since.elapsed() >= Duration::from_secs(1));
    nothing_stored(&site, &server);

    let mut client = Http2::open(&site, &server).await;
    let (answer, _body) = client.begin("still", 4 * MIB, &pattern(100_000)).await;
    let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("an answer");
    assert_eq!(answer.status(), 408);
    nothing_stored(&site, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_drips_gets_408() {
    let site = Site::new();
    let server = site.serve("", LIMITS);
    let mut client = Http1::open(&site, &server).await;
    client.begin("drip", MIB, b"").await;
    // 20 KiB each second, of which 64 are asked. A write that fails says the same as the answer.
    let drip = async {
        while client.send(&[7; 1024]).await.is_ok() {
            tokio::time::sleep(BEAT).await;
            if server.metric("sealward_uploads_in_flight ") == 0.0 {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, drip).await.expect("in time");
    assert_eq!(client.answer().await.0, 408);
    nothing_stored(&site, &server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_is_slow_and_keeps_going_is_served() {
    let site = Site::new();
    let server = site.serve("", "[limits]\nbody_idle_timeout = \"3s\"\nmin_body_rate = \"32KiB\"\n");
    let bytes = pattern(MIB);
    let mut first = Http1::open(&site, &server).await;
    let mut second = Http2::open(&site, &server).await;
    first.begin("first", bytes.len(), b"").await;
    let (answer, mut body) = second.begin("second", bytes.len(), b"").await;
    // 160 KiB each second, for twice as long as a body may stand still.
    for piece in bytes.chunks(8 << 10) {
        first.send(piece).await.expect("is taken");
        send(&mut body, piece, false).await;
        tokio::time::sleep(BEAT).await;
    }
    body.send_data(bytes::Bytes::new(), true).expect("ends");
    assert_eq!(first.answer().await.0, 201);
    assert_eq!(answer.await.expect("an answer").status(), 201);
    assert_eq!(site.get(&server, "first").body, bytes);
    assert_eq!(site.get(&server, "second").body, bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_let_go() {
    let site = Site::new();
    let server = site.serve("", STALL);
    site.put(&server, "large", &pattern(64 * MIB));
    let stalls = || server.metric("sealward_connections_refused_total{reason=\"send_stall\"}");

    let mut client = Http1::open(&site, &server).await;
    client.head("GET", "large", "").await;
    eventually("a download holds memory", || used(&server) > 0.0);
    eventually("the reader is let go", || stalls() == 1.0);
    await_calm(&server);
    client.rest().await.expect_err("cut, not ended: a part is not the whole");

    // On HTTP/2 the socket stays free: it is the stream's window that stays shut.
    let mut client = Http2::open(&site, &server).await;
    let body = client.get("large").await;
    eventually("a download holds memory", || used(&server) > 0.0);
    eventually("the reader is let go", || stalls() == 2.0);
    await_calm(&server);
    drop(body);
    let answer = site.curl(["-r", "0-1048575", &server.url("large")]);
    assert_eq!((answer.status, answer.body.len()), (206, MIB), "others are served");
}

/// An answer that fits what the server keeps for a stream has left its body before
/// any of it was taken: the reader is watched, and its memory counted, to the last byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_leaves_the_last_piece_is_let_go() {
    let site = Site::new();
    let server = site.serve("", STALL);
    let bytes = pattern(200_000);
    site.put(&server, "small", &bytes);
    let stalls = || server.metric("sealward_connections_refused_total{reason=\"send_stall\"}");

    let mut client = Http2::open(&site, &server).await;
    let body = client.get("small").await;
    eventually("a download holds memory", || used(&server) > 0.0);
    eventually("the reader is let go", || stalls() == 1.0);
    await_calm(&server);
    drop(body);

    // Who takes it in time isn't cut, and gives the memory back at once.
    let mut client = Http2::open(&site, &server).await;
    let mut body = client.get("small").await;
    assert_eq!(drain(&mut body).await.expect("is not cut"), bytes);
    await_calm(&server);
    assert_eq!(stalls(), 1.0);
}

/// A chunk takes longer than `send_idle_timeout` here, and the socket's buffers
/// hold megabytes: neither makes a reader that never pauses one that takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_goes_on_is_served() {
    const PIECE: usize = 16 << 10;
    const PAUSE: Duration = Duration::from_millis(100);
    let site = Site::new();
    let server = site.serve("", "[limits]\nsend_idle_timeout = \"6s\"\n");
    let bytes = pattern(3 * MIB);
    site.put(&server, "slow", &bytes);

    let http1 = async {
        let mut client = Http1::open(&site, &server).await;
        client.head("GET", "slow", "").await;
        assert_eq!(client.answer().await.0, 200);
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            got.extend(client.read(PIECE).await);
            tokio::time::sleep(PAUSE).await;
        }
        assert!(got == bytes, "HTTP/1.1: other bytes");
    };
    let http2 = async {
        let mut client = Http2::open(&site, &server).await;
        let mut body = client.get("slow").await;
        let (mut got, mut taken) = (Vec::new(), 0);
        while let Some(piece) = body.data().await {
            let piece = piece.expect("is not cut");
            got.extend_from_slice(&piece);
            // Room is given back in halves of the window, as browsers do.
            taken += piece.len();
            if taken >= 2 * PIECE {
                body.flow_control().release_capacity(std::mem::take(&mut taken)).expect("is released");
                tokio::time::sleep(2 * PAUSE).await;
            }
        }
        assert!(got == bytes, "HTTP/2: other bytes");
    };
    tokio::join!(http1, http2);
    await_calm(&server);
}
