use bytes::Bytes;
use http::Request;
use rustls::{NamedGroup, crypto::aws_lc_rs::kx_group, version::TLS13};
use sealward::config::TlsPolicy;

use crate::bench::{Bench, client_config, limits, tls12, within};

#[tokio::test]
async fn tls12_is_refused_by_default_and_served_by_policy() {
    let bench = Bench::new(limits()).await;
    within(bench.connect(tls12(&bench))).await.err().expect("refused");
    while bench.handshakes("none", "none", "failed") == 0 {
        tokio::task::yield_now().await;
    }

    let bench = Bench::with(limits(), TlsPolicy::Tls12).await;
    let mut client = within(bench.connect(tls12(&bench))).await.expect("handshakes");
    assert_eq!(client.get("/").await.expect("answered").1, "hello");
    let seen = bench.answers.seen.lock().expect("whole").clone().expect("a connection");
    let tls = seen.tls.as_ref().expect("over TLS");
    assert_eq!((tls.version, tls.sni.as_deref()), ("1.2", Some("localhost")));
    assert_eq!(seen.local, bench.address);
    // The newer version is still there.
    bench.http1().await;
}

#[tokio::test]
async fn the_hybrid_group_is_taken_where_a_client_puts_it_first() {
    let bench = Bench::new(limits()).await;
    let mut client = bench.http1().await;
    assert_eq!(client.get("/").await.expect("answered").1, "hello");
    assert_eq!(client.group(), NamedGroup::X25519MLKEM768);
    assert!(bench.handshakes("1.3", "X25519MLKEM768", "ok") >= 1);

    // The client's order decides.
    let classic_first = [kx_group::X25519, kx_group::X25519MLKEM768];
    let client = bench.connect(client_config(&bench.ca(), &[&TLS13], &classic_first)).await.expect("handshakes");
    assert_eq!(client.group(), NamedGroup::X25519);

    for group in [kx_group::SECP256R1, kx_group::SECP384R1] {
        bench.connect(client_config(&bench.ca(), &[&TLS13], &[group])).await.expect("handshakes");
    }
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let bench = Bench::new(limits()).await;
    let mut requests = bench.http2().await.ready().await.expect("ready");
    let request = Request::get("https://localhost/").body(()).expect("a request");
    let (answer, _) = requests.send_request(request, true).expect("sent");
    let mut body = answer.await.expect("answered").into_body();
    assert_eq!(body.data().await.expect("a piece").expect("whole"), Bytes::from("hello"));

    let mut config = bench.config();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut client = bench.connect(config).await.expect("handshakes");
    assert_eq!(client.get("/").await.expect("answered").1, "hello");
    assert_eq!(client.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));

    let mut config = bench.config();
    config.alpn_protocols = vec![b"spdy/3".to_vec()];
    bench.connect(config).await.err().expect("nothing in common");
}

#[tokio::test]
async fn a_session_is_resumed_without_early_data() {
    let bench = Bench::new(limits()).await;
    let config = bench.config();
    let mut first = bench.connect(config.clone()).await.expect("handshakes");
    first.get("/").await.expect("answered");
    let mut second = bench.connect(config).await.expect("handshakes");
    second.get("/").await.expect("answered");
    assert_eq!(second.0.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));
}
