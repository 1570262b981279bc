//! KMS away, or refusing one object: who goes on, who is told to come again.

use std::time::{Duration, Instant};

use crate::{
    double::{Double, Fault, World},
    site::{put, serve, serve_keys},
    support::{SOON, Site, pattern},
};

const ALL: usize = 1 << 20;

#[test]
fn one_bad_object_stops_no_other() {
    let site = Site::new();
    let double = Double::start(World::default());
    let bytes = pattern(1000);
    // A data key for each object.
    let one = "max_messages = 1\n";
    let server = serve_keys(&site, &double, one);
    for key in ["bad", "good-1", "good-2"] {
        assert_eq!(put(&site, &server, key, &bytes, &[]).status, 201);
    }
    drop(server);
    for (code, status) in [("InvalidCiphertextException", 502), ("AccessDeniedException", 503)] {
        let server = serve_keys(&site, &double, one);
        double.plan("Decrypt", 1, 12, Fault::Refuse(400, code));
        for _ in 0..12 {
            assert_eq!(site.get(&server, "bad").status, status, "{code}");
        }
        double.calm();
        for key in ["good-1", "good-2"] {
            assert_eq!(site.get(&server, key).body, bytes, "{code}");
        }
    }
}

#[test]
fn an_outage_opens_it_and_cached_keys_go_on() {
    let site = Site::new();
    let double = Double::start(World::default());
    let bytes = pattern(1000);
    let server = serve(&site, &double);
    assert_eq!(put(&site, &server, "cold", &bytes, &[]).status, 201);
    drop(server);

    let server = serve_keys(&site, &double, "max_age = \"30s\"\nunwrapped_age = \"30s\"\n");
    let begun = Instant::now();
    assert_eq!(put(&site, &server, "warm", &bytes, &[]).status, 201);
    for op in ["GenerateDataKey", "Decrypt"] {
        double.plan(op, 1, ALL, Fault::Reset);
    }
    for _ in 0..6 {
        assert_eq!(site.get(&server, "cold").status, 503);
    }
    let asked = double.calls("Decrypt").0;
    for _ in 0..3 {
        let answer = site.get(&server, "cold");
        assert_eq!(answer.status, 503);
        assert_ne!(answer.header("retry-after"), "");
    }
    // One call, with its tries, may be let through to see.
    assert!(double.calls("Decrypt").0 <= asked + 4, "it is open");
    assert!(server.metrics().contains("outcome=\"skipped\""));
    if begun.elapsed() < Duration::from_secs(25) {
        assert_eq!(site.get(&server, "warm").body, bytes, "a cached key goes on opening");
        assert_eq!(put(&site, &server, "more", &bytes, &[]).status, 201, "and sealing");
    }
    let until = begun + Duration::from_secs(45);
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
    let answer = put(&site, &server, "late", &bytes, &[]);
    assert_eq!(answer.status, 503, "past its time it is closed: {answer:?}");
    assert!(double.world().current("records/late").is_none());

    double.calm();
    let until = Instant::now() + SOON;
    while put(&site, &server, "again", &bytes, &[]).status != 201 {
        assert!(Instant::now() < until, "it never closes again");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(site.get(&server, "cold").body, bytes);
}
