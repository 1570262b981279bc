use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::Request;
use sealward::config::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bench::{Bench, LONG, REFUSAL, limits, within};

const SHORT: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let bench = Bench::new(Limits { handshake_timeout: SHORT, ..limits() }).await;
    let began = Instant::now();
    let mut silent = TcpStream::connect(bench.address).await.expect("connects");
    let mut stuck = TcpStream::connect(bench.address).await.expect("connects");
    stuck.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("written");
    for socket in [&mut silent, &mut stuck] {
        let read = within(socket.read(&mut [0; 64])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "cut, not answered: {read:?}");
    }
    assert!(began.elapsed() >= SHORT);
    // Counted when the connection is gone, on another thread.
    within(async {
        while bench.handshakes("none", "none", "timeout") < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_head_is_cut_and_an_idle_connection_is_not() {
    let bench = Bench::new(Limits { header_timeout: SHORT, ..limits() }).await;
    let mut idle = bench.http1().await;
    idle.get("/").await.expect("answered");
    let mut slow = bench.http1().await;
    let began = Instant::now();
    let slowed = within(async {
        for byte in "GET / HTTP/1.1\r\nhost: localhost\r\nx-slow: ".chars().chain(std::iter::repeat('a')) {
            slow.send(&byte.to_string()).await?;
            let read = tokio::time::timeout(Duration::from_millis(50), slow.0.read_u8()).await;
            if let Ok(read) = read {
                return read.map(drop);
            }
        }
        Ok(())
    })
    .await;
    slowed.expect_err("cut");
    assert!((SHORT..LONG).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(idle.get("/").await.expect("idle is not slow").1, "hello");
}

#[tokio::test]
async fn an_idle_connection_ends_cleanly() {
    let idle = SHORT * 8;
    let bench = Bench::new(Limits { idle_timeout: idle, ..limits() }).await;
    let mut client = bench.http1().await;
    for _ in 0..5 {
        client.get("/").await.expect("answered");
        tokio::time::sleep(idle / 3).await;
    }
    // `rest` fails where no close_notify comes.
    assert!(client.rest().await.expect("a clean end").is_empty());

    let requests = bench.http2().await;
    let mut requests = requests.ready().await.expect("ready");
    let (answer, _) = requests.send_request(Request::new(()), true).expect("sent");
    drop(answer.await.expect("answered"));
    let ended = within(async move {
        loop {
            match requests.ready().await {
                Ok(again) => requests = again,
                Err(error) => return error,
            }
            tokio::time::sleep(SHORT / 8).await;
        }
    })
    .await;
    assert!(ended.is_go_away() && ended.reason() == Some(h2::Reason::NO_ERROR), "{ended:?}");
}

#[tokio::test]
async fn a_long_request_is_not_idle() {
    let bench = Bench::new(Limits { idle_timeout: SHORT * 3, header_timeout: SHORT * 3, ..limits() }).await;
    let mut client = bench.http1().await;
    client.send("GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    within(bench.answers.begun.notified()).await;
    tokio::time::sleep(SHORT * 8).await;
    bench.answers.go_on.notify_one();
    assert_eq!(client.answer().await.expect("answered").1, "waited");
}

#[tokio::test]
async fn an_oversize_head_is_431() {
    let bench = Bench::new(Limits { header_bytes: 8 << 10, ..limits() }).await;
    let mut client = bench.http1().await;
    let filler = "a".repeat(7 << 10);
    client.send(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {filler}\r\n\r\n")).await.expect("sent");
    assert!(client.answer().await.expect("below the limit").0.starts_with("http/1.1 200"));
    // Far over it: the answer arrives though most of the head is never read.
    let filler = "a".repeat(512 << 10);
    let _ = client.send(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {filler}\r\n\r\n")).await;
    assert!(client.answer().await.expect("answered").0.starts_with("http/1.1 431"));
    client.rest().await.expect("a clean end");

    let mut requests = bench.http2().await.ready().await.expect("ready");
    let large = Request::get("https://localhost/").header("x", "a".repeat(12 << 10)).body(()).expect("a request");
    let (answer, _) = requests.send_request(large, true).expect("sent");
    assert_eq!(answer.await.expect("answered").status(), 431);
}

#[tokio::test]
async fn an_early_answer_reaches_who_still_sends() {
    let bench = Bench::new(limits()).await;
    let mut client = bench.http1().await;
    client.send("PUT /refuse HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8388608\r\n\r\n").await.expect("sent");
    let (mut from, mut to) = tokio::io::split(client.0);
    let sending = tokio::spawn(async move {
        let piece = vec![0; 64 << 10];
        while to.write_all(&piece).await.is_ok() {}
    });
    let mut answer = Vec::new();
    // Slower than the server writes, so that some of it is still on its way when the server closes.
    while within(from.read_buf(&mut answer)).await.expect("the whole reason, not a reset") > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(answer.len() > REFUSAL && answer[answer.len() - REFUSAL..].iter().all(|&byte| byte == b'r'));
    within(sending).await.expect("ends");
}

#[tokio::test]
async fn an_answer_nobody_takes_is_cut() {
    let bench = Bench::new(Limits { send_idle_timeout: SHORT, ..limits() }).await;
    let stalls = bench.metrics.connections_refused.with_label_values(&["send_stall"]);
    let mut client = bench.http1().await;
    client.send("GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("sent");
    let serving = bench.metrics.connections.with_label_values(&["serving"]);
    within(async {
        while stalls.get() == 0 || serving.get() > 0 {
            tokio::time::sleep(SHORT / 8).await;
        }
    })
    .await;
    assert_eq!(stalls.get(), 1);

    // On HTTP/2 the socket stays free: it is the stream's window that stays shut.
    let mut requests = bench.http2().await.ready().await.expect("ready");
    let request = Request::get("https://localhost/endless").body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    let held = answer.await.expect("answered");
    within(async {
        while stalls.get() == 1 || serving.get() > 0 {
            tokio::time::sleep(SHORT / 8).await;
        }
    })
    .await;
    assert_eq!(stalls.get(), 2);
    drop(held);
}

#[tokio::test]
async fn over_the_cap_one_waits_for_another_to_end() {
    let bench = Bench::new(Limits { connections: 2, ..limits() }).await;
    let capped = bench.metrics.connections_refused.with_label_values(&["cap"]);
    let (first, _second) = (bench.http1().await, bench.http1().await);
    let mut third = std::pin::pin!(bench.http1());
    tokio::select! {
        _ = &mut third => panic!("over the cap"),
        () = async { while capped.get() == 0 { tokio::time::sleep(SHORT / 40).await } } => {}
    }
    drop(first);
    assert_eq!(within(third).await.get("/").await.expect("answered").1, "hello");
    assert_eq!(capped.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_and_one_more() {
    let _ = sealward::server::files::raise_file_limit();
    let bench = Arc::new(Bench::new(limits()).await);
    let mut idle = Vec::new();
    for _ in 0..20 {
        let some = (0..50).map(|_| bench.http1());
        idle.extend(futures_util::future::join_all(some).await);
    }
    let serving = bench.metrics.connections.with_label_values(&["serving"]);
    within(async {
        while serving.get() < 1000 {
            tokio::time::sleep(SHORT / 40).await;
        }
    })
    .await;
    let mut client = within(bench.http1()).await;
    assert_eq!(within(client.get("/")).await.expect("answered").1, "hello");
    drop(idle);
}
