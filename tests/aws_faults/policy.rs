//! What must hold before anything is served.

use crate::{
    double::{Double, Fault, OURS, World},
    site::{MIB, PREFIX, config, names, put, serve, serve_with},
    support::{Site, eventually, pattern},
};

#[test]
fn a_bucket_that_encrypts_otherwise_stops_the_start() {
    let site = Site::new();
    let double = Double::start(World::default());
    double.plan("PutObject", 1, 1, Fault::Sse("AES256", None));
    let log = site.try_serve(&config("", ""), &double.environment()).err().expect("it must not serve");
    assert!(log.contains("canary"), "{log}");
    assert!(double.world().objects.is_empty() && double.world().uploads.is_empty());
}

#[test]
fn a_store_without_conditions_stops_the_start() {
    let site = Site::new();
    let double = Double::start(World::default());
    double.plan("PutObject", 2, 1, Fault::First(|world| world.objects.clear()));
    let log = site.try_serve(&config("", ""), &double.environment()).err().expect("it must not serve");
    assert!(log.contains("doesn't enforce If-None-Match"), "{log}");

    // Conditions are two: one that holds where it must not is found out too.
    let double = Double::start(World { no_if_match: true, ..World::default() });
    let log = site.try_serve(&config("", ""), &double.environment()).err().expect("it must not serve");
    assert!(log.contains("doesn't enforce If-Match"), "{log}");
}

#[test]
fn the_usual_policy_denies_what_isnt_asked_for_rightly() {
    let site = Site::new();
    let double = Double::start(World { policy: true, ..World::default() });
    let server = serve(&site, &double);
    assert_eq!(put(&site, &server, "k", &pattern(1000), &[]).status, 201);
    drop(server);
    let dual = config("sse = \"aws:kms:dsse\"", "");
    let log = site.try_serve(&dual, &double.environment()).err().expect("the policy denies it");
    assert!(log.contains("AccessDenied"), "{log}");
    assert_eq!(names(&double.world()), ["k"]);
}

/// The good path of dual-layer encryption: asked for, answered, and no bucket key,
/// which S3 refuses beside it.
#[test]
fn dual_layer_encryption_is_asked_for_and_believed() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve_with(&site, &double, "sse = \"aws:kms:dsse\"", "");
    let (small, large) = (pattern(1000), pattern(20 * MIB));
    assert_eq!(put(&site, &server, "small", &small, &[]).status, 201);
    assert_eq!(put(&site, &server, "large", &large, &[]).status, 201);
    for (key, bytes) in [("small", &small), ("large", &large)] {
        let version = double.world().current(&format!("{PREFIX}{key}")).cloned().expect("stands there");
        assert_eq!(version.sse, ("aws:kms:dsse".to_owned(), Some(OURS.to_owned())));
        assert!(site.get(&server, key).body == *bytes);
    }
    // One layer alone is not what was asked for.
    double.plan("PutObject", 1, 1, Fault::Sse("aws:kms", Some(OURS)));
    assert_eq!(put(&site, &server, "single", &small, &[]).status, 503);
    assert_eq!(names(&double.world()), ["large", "small"]);
}

#[test]
fn a_class_that_was_closed_takes_nothing_more_and_isnt_ready() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve_with(&site, &double, "", "");
    assert_eq!(put(&site, &server, "before", &pattern(1000), &[]).status, 201);
    double.plan("PutObject", 1, 1, Fault::Sse("AES256", None));
    for key in ["first", "second"] {
        assert_eq!(put(&site, &server, key, &pattern(1000), &[]).status, 503);
    }
    assert_eq!(site.get(&server, "before").body, pattern(1000), "reading goes on");
    assert_eq!(names(&double.world()), ["before"]);
    let ready = || site.curl_bare([format!("http://{}/readyz", server.admin)]).status;
    eventually("it isn't ready any more", || ready() == 503);
}
