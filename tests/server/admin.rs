use std::net::SocketAddr;

use sealward::{
    metrics::Metrics,
    server::{
        Passed,
        admin::{Admin, Readiness},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

use crate::bench::{limits, within};

async fn ask(address: SocketAddr, line: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("connects");
    socket
        .write_all(format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .expect("sent");
    let mut answer = String::new();
    within(socket.read_to_string(&mut answer)).await.expect("text");
    answer
}

fn start() -> (SocketAddr, watch::Sender<Readiness>, JoinHandle<()>) {
    let (say, readiness) = watch::channel(Readiness::NotReady { reasons: vec!["starting".into()] });
    let refresh = |metrics: &Metrics| metrics.uploads_in_flight.set(42);
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    let admin =
        Admin::bind(bind, &mut Passed::default(), limits(), Metrics::new().expect("metrics"), readiness, refresh)
            .expect("a free port");
    let address = admin.local_addr();
    let served = tokio::spawn(async move { match admin.serve().await {} });
    (address, say, served)
}

#[tokio::test]
async fn what_is_there() {
    let (address, say, served) = start();
    let metrics = ask(address, "GET /metrics").await;
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"));
    assert!(metrics.contains("sealward_uploads_in_flight 42"), "refreshed before they are written");
    let head = ask(address, "HEAD /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n") && head.contains("content-length: "));
    assert!(ask(address, "GET /healthz").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "GET /version").await.contains(env!("CARGO_PKG_VERSION")));

    let away = ask(address, "GET /readyz").await;
    assert!(away.starts_with("HTTP/1.1 503") && away.ends_with(r#"{"ready":false,"reasons":["starting"]}"#), "{away}");
    say.send_replace(Readiness::Ready { degraded: vec!["keys".into()] });
    let ready = ask(address, "GET /readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains(r#""degraded":["keys"]"#), "{ready}");
    assert!(ready.contains(r#""ready":true"#));
    let gauges = |metrics: &str| {
        ["sealward_ready", "sealward_impairments", "sealward_stopping"].map(|name| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u8>().ok());
            line.unwrap_or_else(|| panic!("{name}: {metrics}"))
        })
    };
    assert_eq!(gauges(&ask(address, "GET /metrics").await), [1, 1, 0]);
    say.send_replace(Readiness::Stopping);
    let stopping = ask(address, "GET /readyz").await;
    assert!(stopping.starts_with("HTTP/1.1 503") && stopping.ends_with(r#""reasons":["stopping"]}"#), "{stopping}");
    assert_eq!(gauges(&ask(address, "GET /metrics").await), [0, 0, 1], "nobody is to be woken for it");

    served.abort();
}

#[tokio::test]
async fn what_is_not() {
    let (address, _say, served) = start();
    assert!(ask(address, "GET /debug").await.starts_with("HTTP/1.1 404"));
    let refused = ask(address, "POST /healthz").await;
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"));
    served.abort();
}

#[tokio::test]
async fn a_scraper_may_keep_its_connection() {
    let (address, _say, served) = start();
    let mut socket = TcpStream::connect(address).await.expect("connects");
    for _ in 0..3 {
        socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            answer.push(within(socket.read_u8()).await.expect("answered"));
        }
    }
    served.abort();
}
