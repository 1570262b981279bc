//! An object sealed under somebody else's key, which KMS would let us use.

use crate::{
    double::{Double, OURS, THEIRS, World},
    site::{config, names, put, serve},
    support::{Site, pattern},
};

#[test]
fn an_object_under_somebody_elses_key_is_refused_unasked() {
    let site = Site::new();
    let double = Double::start(World::default());
    // Theirs in all but the key: class, vault, bucket and name are ours.
    let theirs = Site::new();
    let server = theirs.serve_among(&config("", "").replace(OURS, THEIRS), &double.environment());
    let bytes = pattern(300_000);
    assert_eq!(put(&theirs, &server, "k", &bytes, &[]).status, 201);
    assert_eq!(theirs.get(&server, "k").body, bytes);
    drop(server);

    let server = serve(&site, &double);
    let (asked, _) = double.calls("Decrypt");
    for arguments in [&["-r", "0-0"][..], &["--head"], &[]] {
        let url = server.url("k");
        let answer = site.curl([arguments, &[&url]].concat());
        assert_eq!(answer.status, 502, "{answer:?}");
    }
    assert_eq!(double.calls("Decrypt").0, asked, "KMS was asked");
    assert!(server.metrics().lines().any(|line| line.contains("reason=\"data_key\"") && line.ends_with(" 3")));
    assert_eq!(names(&double.world()), ["k"], "what was refused stays as it is");
}
