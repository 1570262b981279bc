//! SIGTERM: what is under way finishes or is cut at its bound, and nothing half-done stays.

use std::time::{Duration, Instant};

use crate::{
    clients::{Http1, Http2, MIB, admin_status, await_growth, drain, send},
    support::{Sealward, Site, eventually, files_below, pattern},
};

/// Waits until `server` drains: its readiness says so.
fn await_drain(server: &Sealward) {
    eventually("it isn't ready any more", || admin_status(server.admin, "/readyz") == 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_finishes() {
    let site = Site::new();
    let mut server = site.serve("", "");
    let bytes = pattern(32 * MIB);
    site.put(&server, "large", &bytes);
    assert_eq!(admin_status(server.admin, "/readyz"), 200);

    let half = bytes.len() / 2;
    let mut up1 = Http1::open(&site, &server).await;
    up1.begin("up1", bytes.len(), &bytes[..half]).await;
    let mut up2 = Http2::open(&site, &server).await;
    let (answer2, mut body2) = up2.begin("up2", bytes.len(), &bytes[..half]).await;
    let mut down1 = Http1::open(&site, &server).await;
    down1.head("GET", "large", "").await;
    assert_eq!(down1.answer().await.0, 200);
    let mut down2 = Http2::open(&site, &server).await;
    let mut large2 = down2.get("large").await;
    await_growth(&site, MIB);

    server.signal("TERM");
    await_drain(&server);
    assert_eq!(admin_status(server.admin, "/healthz"), 200);
    assert!(Http1::try_open(&site, &server).await.is_err(), "new connections are refused");

    up1.send(&bytes[half..]).await.expect("is taken");
    assert_eq!(up1.answer().await.0, 201);
    send(&mut body2, &bytes[half..], true).await;
    assert_eq!(answer2.await.expect("an answer").status(), 201);
    assert!(down1.rest().await.expect("a clean end") == bytes);
    assert!(drain(&mut large2).await.expect("a clean end") == bytes);
    drop((up1, up2, down1, down2));
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());

    let server = site.serve("", "");
    assert!(site.get(&server, "up1").body == bytes && site.get(&server, "up2").body == bytes);
}

/// A balancer that asks now and then goes on sending clients for a while.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_before_balancers_have_noticed_is_served() {
    let site = Site::new();
    let mut server = site.serve("", "[limits]\ndrain_delay = \"1h\"\n");
    site.put(&server, "kept", b"all of it");
    server.signal("TERM");
    await_drain(&server);
    assert_eq!(site.get(&server, "kept").body, b"all of it", "by a new connection");
    // Told again, it waits for nobody.
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());

    let mut server = site.serve("", "[limits]\ndrain_delay = \"100ms\"\n");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_beyond_the_bound_is_cut() {
    let site = Site::new();
    let mut server = site.serve("", "[limits]\ndrain_timeout = \"1s\"\n");
    site.put(&server, "large", &pattern(32 * MIB));
    let before = files_below(&site.objects());
    let mut up = Http1::open(&site, &server).await;
    up.begin("never", 64 * MIB, &pattern(4 * MIB)).await;
    let mut down = Http1::open(&site, &server).await;
    down.head("GET", "large", "").await;
    assert_eq!(down.answer().await.0, 200);
    await_growth(&site, MIB);

    let since = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    let took = since.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(30), "{took:?}");
    down.rest().await.expect_err("cut: a part is not the whole");
    assert_eq!(files_below(&site.objects()), before);
    assert!(server.log().contains("connections were cut at the end of the drain"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_cuts_at_once() {
    let site = Site::new();
    let mut server = site.serve("", "");
    site.put(&server, "kept", &pattern(1000));
    let before = files_below(&site.objects());
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut up = Http1::open(&site, &server).await;
        up.begin(&format!("never-{number}"), 64 * MIB, &pattern(4 * MIB)).await;
        clients.push(up);
    }
    await_growth(&site, MIB);
    let since = Instant::now();
    server.signal("TERM");
    await_drain(&server);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(files_below(&site.objects()), before, "{}", server.log());
}
