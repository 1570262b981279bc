use std::time::{Duration, Instant};

use http::Request;
use sealward::{
    config::Limits,
    server::{Drained, Stop},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::bench::{Bench, limits, within};

#[tokio::test]
async fn a_drain_lets_requests_finish_and_takes_no_more() {
    let bench = Bench::new(limits()).await;
    let mut idle = bench.http1().await;
    idle.get("/").await.expect("answered");
    let mut busy = bench.http1().await;
    busy.send("GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within(bench.answers.begun.notified()).await;
    let mut requests = bench.http2().await.ready().await.expect("ready");
    let request = Request::get("https://localhost/wait").body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    within(bench.answers.begun.notified()).await;

    assert_eq!(bench.stop(), Stop::Drain);
    assert!(idle.rest().await.expect("a clean end").is_empty());
    TcpStream::connect(bench.address).await.expect_err("nobody listens");
    bench.answers.go_on.notify_one();
    bench.answers.go_on.notify_one();
    bench.answers.go_on.notify_waiters();
    let (head, body) = within(busy.answer()).await.expect("answered");
    assert_eq!(body, "waited");
    assert!(head.contains("connection: close"), "{head}");
    busy.rest().await.expect("a clean end");
    assert_eq!(within(answer).await.expect("answered").status(), 200);
    drop((requests, busy, idle));
    assert_eq!(bench.drained().await, Drained { cut: 0 });
}

/// Whoever waits for a slot holds up no drain: doors that don't close by themselves are waited for two seconds.
#[tokio::test]
async fn a_full_house_closes_its_door_at_once() {
    let mut fastest = Duration::MAX;
    // A machine may stand still, but hardly thrice.
    for _ in 0..3 {
        fastest = fastest.min(turned_away().await);
    }
    assert!(fastest < Duration::from_secs(2), "{fastest:?}");
}

/// How long after the word to stop it takes until one that waits for a slot is let go.
async fn turned_away() -> Duration {
    let bench = Bench::new(Limits { connections: 1, ..limits() }).await;
    let capped = bench.metrics.connections_refused.with_label_values(&["cap"]);
    let mut busy = bench.http1().await;
    busy.send("GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within(bench.answers.begun.notified()).await;
    let mut waits = TcpStream::connect(bench.address).await.expect("the system takes it");
    within(async {
        while capped.get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let since = Instant::now();
    bench.stop();
    // Before anybody inside has left.
    assert!(matches!(within(waits.read(&mut [0])).await, Ok(0) | Err(_)), "it is let go");
    let took = since.elapsed();
    TcpStream::connect(bench.address).await.expect_err("nobody listens");
    bench.answers.go_on.notify_one();
    assert_eq!(within(busy.answer()).await.expect("answered").1, "waited");
    drop(busy);
    assert_eq!(bench.drained().await, Drained { cut: 0 });
    took
}

#[tokio::test]
async fn a_drain_cuts_at_its_bound() {
    let bound = Duration::from_millis(300);
    let bench = Bench::new(Limits { drain_timeout: bound, ..limits() }).await;
    let mut first = bench.http1().await;
    first.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within(bench.answers.begun.notified()).await;
    let mut requests = bench.http2().await.ready().await.expect("ready");
    let request = Request::get("https://localhost/never").body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    within(bench.answers.begun.notified()).await;

    bench.stop();
    let began = Instant::now();
    assert_eq!(bench.drained().await, Drained { cut: 2 });
    assert!(began.elapsed() >= bound && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    first.rest().await.expect_err("cut, without a clean end");
    within(answer).await.expect_err("cut");
}

#[tokio::test]
async fn a_second_word_cuts_at_once() {
    let bench = Bench::new(limits()).await;
    let mut client = bench.http1().await;
    client.send("GET /never HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within(bench.answers.begun.notified()).await;
    assert_eq!((bench.stop(), bench.stop()), (Stop::Drain, Stop::Cut));
    let began = Instant::now();
    assert_eq!(bench.drained().await, Drained { cut: 1 });
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_body_that_fails_has_no_clean_end() {
    let bench = Bench::new(limits()).await;
    let mut client = bench.http1().await;
    client.send("GET /broken HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let (head, _) = client.answer().await.expect("a head");
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let mut half = [0; 9];
    client.0.read_exact(&mut half).await.expect("half");
    assert_eq!(&half, b"4\r\nhalf\r\n");
    bench.answers.go_on.notify_one();
    client.rest().await.expect_err("neither a last chunk nor close_notify");

    let mut requests = bench.http2().await.ready().await.expect("ready");
    let request = Request::get("https://localhost/broken").body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    let mut body = within(answer).await.expect("a head").into_body();
    assert_eq!(&within(body.data()).await.expect("more").expect("half")[..], b"half");
    bench.answers.go_on.notify_one();
    let failed = within(body.data()).await.expect("no clean end").expect_err("no more");
    assert!(failed.is_reset(), "{failed:?}");
}

#[tokio::test]
async fn a_service_may_ask_for_the_end() {
    let bench = Bench::new(limits()).await;
    let mut client = bench.http1().await;
    let (head, body) = client.get("/close").await.expect("answered");
    assert_eq!(body, "closing");
    assert!(head.contains("connection: close"), "{head}");
    client.rest().await.expect("a clean end");
}
