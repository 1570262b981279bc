//! The process ends while uploads are under way.

use crate::{
    clients::Http1,
    double::{Double, Fault, World},
    site::{MIB, names, put, serve},
    support::{Site, eventually, pattern},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_mid_upload_leaves_the_older_object() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    let old = pattern(300_000);
    assert_eq!(put(&site, &server, "k", &old, &[]).status, 201);
    let mut client = Http1::open(&site, &server).await;
    client.begin("k", 64 * MIB, &pattern(20 * MIB)).await;
    eventually("a part lands", || double.calls("UploadPart").0 > 0);
    server.kill();
    let server = serve(&site, &double);
    assert_eq!(site.get(&server, "k").body, old);
    assert_eq!(names(&double.world()), ["k"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_mid_complete_leaves_the_old_or_the_new() {
    let site = Site::new();
    let (old, new) = (pattern(300_000), pattern(20 * MIB));
    for fault in [Fault::Slow(600_000), Fault::Lost] {
        let double = Double::start(World::default());
        let server = serve(&site, &double);
        assert_eq!(put(&site, &server, "k", &old, &[]).status, 201);
        let took_effect = matches!(fault, Fault::Lost);
        double.plan("CompleteMultipartUpload", 1, 1 << 20, fault);
        double.plan("GetObject", 1, 1 << 20, Fault::Reset);
        let mut client = Http1::open(&site, &server).await;
        client.begin("k", new.len(), &new).await;
        if took_effect {
            eventually("it completes", || double.calls("CompleteMultipartUpload").0 > 0);
        } else {
            eventually("all parts land", || double.calls("UploadPart").0 == 3);
        }
        server.kill();
        double.calm();
        let server = serve(&site, &double);
        let wanted = if took_effect { &new } else { &old };
        assert!(site.get(&server, "k").body == *wanted, "took effect: {took_effect}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_or_undoes_every_upload() {
    const UPLOADS: usize = 32;
    let site = Site::new();
    let double = Double::start(World::default());
    let limits = "[limits]\ndrain_timeout = \"10s\"\nbody_idle_timeout = \"120s\"\n";
    let mut server = crate::site::serve_with(&site, &double, "", limits);
    let bytes = pattern(9 * MIB);
    let mut clients = Vec::new();
    for number in 0..UPLOADS {
        let mut client = Http1::open(&site, &server).await;
        // All have begun with S3; every other one goes on to its end.
        client.begin(&format!("k-{number:02}"), bytes.len(), &bytes[..bytes.len() - 1]).await;
        clients.push(client);
    }
    eventually("all are under way", || double.world().uploads.len() == UPLOADS);
    server.signal("TERM");
    for client in clients.iter_mut().step_by(2) {
        client.send(&bytes[bytes.len() - 1..]).await.expect("is taken");
    }
    for client in clients.iter_mut().step_by(2) {
        assert_eq!(client.answer().await.0, 201);
    }
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert_eq!(double.world().uploads.len(), 0, "{}", server.log());
    let kept: Vec<String> = (0..UPLOADS).step_by(2).map(|number| format!("k-{number:02}")).collect();
    assert_eq!(names(&double.world()), kept);
}
