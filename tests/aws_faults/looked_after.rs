//! What background work finds: a bucket that is gone, a key that was disabled.

use crate::{
    double::{Double, Fault, World},
    site::{PREFIX, put, serve, serve_keys, serve_with},
    support::{Answer, Sealward, Site, eventually, pattern},
};

fn ready(site: &Site, server: &Sealward) -> Answer {
    site.curl_bare([format!("http://{}/readyz", server.admin)])
}

#[test]
fn a_bucket_that_is_deleted_is_not_ready_until_it_is_back() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    assert_eq!(put(&site, &server, "k", &pattern(1000), &[]).status, 201);
    double.world().gone = true;
    eventually("the probe finds it gone", || ready(&site, &server).status == 503);
    let words = ready(&site, &server).text();
    assert!(words.contains("the store of class records doesn't answer") && !words.contains("vault"), "{words}");
    double.world().gone = false;
    eventually("the probe finds it back", || ready(&site, &server).status == 200);
    // A role may be allowed the class's prefix and nothing else.
    for op in ["Probe", "GetObject", "HeadObject", "PutObject", "DeleteObject"] {
        let asked = double.asked(op);
        assert!(!asked.is_empty() && asked.iter().all(|name| name.starts_with(PREFIX)), "{op}: {asked:?}");
    }
}

/// Who may only write is refused what the probe asks for, by a bucket that is there.
#[test]
fn a_write_only_replica_is_ready() {
    let site = Site::new();
    let double = Double::start(World::default());
    for op in ["Probe", "GetObject", "HeadObject", "DeleteObject"] {
        double.plan(op, 1, 1 << 20, Fault::Refuse(403, "AccessDenied"));
    }
    let server = serve_with(&site, &double, "canary = \"seal\"", "");
    eventually("the probe has asked", || !double.asked("Probe").is_empty());
    assert_eq!(put(&site, &server, "k", &pattern(1000), &[]).status, 201);
    let probe = "sealward_store_request_duration_seconds_count{operation=\"probe\",outcome=\"denied\"}";
    eventually("and was refused", || server.metric(probe) > 0.0);
    assert_eq!(ready(&site, &server).status, 200);
    double.calm();
    double.world().gone = true;
    eventually("the probe finds it gone", || ready(&site, &server).status == 503);
}

#[test]
fn a_key_that_is_disabled_is_told_and_again_when_it_can_be_used() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve_keys(&site, &double, "key_check = \"1s\"\n");
    assert_eq!(put(&site, &server, "k", &pattern(1000), &[]).status, 201);
    let usable = || {
        let text = server.metrics();
        let line = text.lines().find(|line| line.starts_with("sealward_kms_key_usable{"));
        line.expect("the metric is there").rsplit(' ').next() == Some("1")
    };
    assert!(usable());
    for (state, word) in [("Disabled", "disabled"), ("PendingDeletion", "pending")] {
        double.world().key_state = state;
        eventually("the look finds it", || ready(&site, &server).status == 503);
        let words = ready(&site, &server).text().to_lowercase();
        assert!(words.contains("class records") && words.contains(word), "{words}");
        assert!(!usable());
        let line = server.wait_for_line(|line| line.contains("the key can't be used") && line.contains(state));
        assert!(line.contains("\"ERROR\""), "{line}");
        double.world().key_state = "";
        eventually("the look finds it mended", || ready(&site, &server).status == 200);
        assert!(usable());
    }
    assert_eq!(put(&site, &server, "k", &pattern(2000), &[]).status, 200);
}
