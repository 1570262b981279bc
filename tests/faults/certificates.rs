//! Certificates that change under a running server.

use std::fs;

use sealward::tls;

use crate::{
    clients::Http1,
    support::{
        Site, eventually,
        swapped::{made, under_load},
    },
};

const REFUSED: &str = "sealward_certificate_loads_total{name=\"127.0.0.1:0\",outcome=\"refused\"}";

/// Looked at so seldom that only a signal explains what happens in a test.
fn seldom() -> String {
    Site::config("", "").replace("refresh = \"1s\"", "refresh = \"1h\"")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_serves_the_new_certificate_at_once() {
    let site = Site::new();
    let server = site.serve_text(&seldom());
    let mut before = Http1::open(&site, &server).await;
    // Another name, so another certificate of the same authority.
    tls::dev::ensure(&site.path("tls"), &["files.example".into()]).expect("a certificate");
    assert_eq!(Http1::open(&site, &server).await.leaf(), before.leaf(), "nobody has told it yet");

    server.signal("HUP");
    server.wait_for_line(|line| line.contains("certificate published") && line.contains("files.example"));
    assert_ne!(Http1::open(&site, &server).await.leaf(), before.leaf());
    before.head("GET", "nothing", "").await;
    assert_eq!(before.answer().await.0, 404, "who is connected stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_place_of_a_certificate_changes_nothing() {
    let site = Site::new();
    let server = site.serve_text(&seldom());
    let served = Http1::open(&site, &server).await.leaf();
    let good = fs::read(site.path("tls/cert.pem")).expect("reads");
    let mut refused = 0.0;
    for rubbish in [&b"rubbish"[..], b"", &good[..good.len() / 2]] {
        fs::write(site.path("tls/cert.pem"), rubbish).expect("writes");
        refused += 1.0;
        // A file that may still be written to gets a second look before it is refused.
        eventually("the refusal is counted", || {
            server.signal("HUP");
            server.metric(REFUSED) >= refused
        });
        refused = server.metric(REFUSED);
        assert_eq!(Http1::open(&site, &server).await.leaf(), served);
        assert_eq!(site.get(&server, "nothing").status, 404);
    }
    let line = server.wait_for_line(|line| line.contains("new certificate refused"));
    assert!(line.contains("cert.pem"), "{line}");
}

#[test]
fn files_are_swapped_under_load_and_no_request_fails() {
    let site = Site::new();
    let server = site.serve("", "");
    let (cert, key) = made(&site, "files.example");
    under_load(&site, &server, || {
        // One after the other, as most tools write.
        fs::write(site.path("tls/key.pem"), key).expect("writes");
        fs::write(site.path("tls/cert.pem"), cert).expect("writes");
    });
    server.wait_for_line(|line| line.contains("certificate published") && line.contains("files.example"));
    assert_eq!(server.metric(REFUSED), 0.0, "half-way isn't a fault");
}
