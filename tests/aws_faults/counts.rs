//! What it costs: calls to KMS, and bytes from S3.

use std::fmt::Write as _;

use crate::{
    double::{Double, Fault, World},
    site::{MIB, put, serve},
    support::{Site, pattern},
};

#[test]
fn two_thousand_uploads_cost_one_call() {
    const UPLOADS: usize = 2_000;
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    let ((before, _), (opened, _)) = (double.calls("GenerateDataKey"), double.calls("Decrypt"));
    std::fs::write(site.path("small"), pattern(1000)).expect("writes");
    // One curl, many uploads.
    let mut list = String::new();
    for number in 0..UPLOADS {
        let (file, url) = (site.path("small"), server.url(&format!("small-{number}")));
        write!(list, "upload-file = \"{}\"\nurl = \"{url}\"\noutput = \"/dev/null\"\n", file.display())
            .expect("writes");
    }
    std::fs::write(site.path("list"), list).expect("writes");
    let answer = site.curl(["--parallel", "--parallel-max", "16", "--config", &site.path("list").to_string_lossy()]);
    assert_eq!(answer.exit, 0, "{answer:?}");
    let (after, _) = double.calls("GenerateDataKey");
    assert_eq!(double.world().objects.len(), UPLOADS);
    // The canary's key may serve them too. 10,000 messages are one key's bound: 10,000
    // uploads cost two calls within five minutes.
    assert!(after - before <= 1, "{before} calls, then {after}");
    assert_eq!(double.calls("Decrypt").0, opened, "what was issued is known");
}

#[test]
fn one_byte_costs_a_header_and_two_frames() {
    const FRAME: u64 = (256 << 10) + 32;
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    let bytes = pattern(8 * MIB);
    assert_eq!(put(&site, &server, "k", &bytes, &[]).status, 201);
    for at in [3 * MIB + 5, 0, 8 * MIB - 1] {
        let (_, before) = double.calls("GetObject");
        let answer = site.curl(["-r", &format!("{at}-{at}"), &server.url("k")]);
        assert_eq!((answer.status, answer.body), (206, vec![bytes[at]]));
        let (_, after) = double.calls("GetObject");
        assert!(after - before <= 1024 + 2 * FRAME, "{} bytes", after - before);
    }
}

#[test]
fn a_small_object_that_is_new_costs_one_call_and_one_that_replaces_another_two() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    let calls = || ["HeadObject", "PutObject", "GetObject"].map(|operation| double.calls(operation).0);
    for (name, bytes, status, costs) in [
        ("small", pattern(120_000), 201, [0, 1, 0]),
        ("small", pattern(4_000), 200, [0, 2, 0]),
        ("small", pattern(50_000), 200, [0, 2, 0]),
        // What is larger isn't sent twice to learn what a look tells.
        ("large", pattern(140_000), 201, [1, 1, 0]),
        ("large", pattern(140_000), 200, [1, 1, 0]),
        ("large", pattern(4_000), 200, [0, 2, 0]),
    ] {
        let before = calls();
        assert_eq!(put(&site, &server, name, &bytes, &[]).status, status, "{name}, {} bytes", bytes.len());
        let after = calls();
        let made: Vec<_> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(made, costs, "{name}, {} bytes", bytes.len());
    }
}

#[test]
fn what_every_object_needs_goes_the_short_way_and_what_fails_there_the_sdks() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    let agents = |operation: &str| {
        let world = double.world();
        let agents = world.agents.iter().filter(|(op, _)| *op == operation);
        agents.map(|(_, agent)| agent.starts_with("sealward/")).collect::<Vec<_>>()
    };
    double.world().agents.clear();
    let large = pattern(20 * MIB);
    assert_eq!(put(&site, &server, "small", &pattern(1000), &[]).status, 201);
    assert_eq!(put(&site, &server, "large", &large, &[]).status, 201);
    assert!(site.get(&server, "large").body == large);
    assert_eq!(agents("PutObject"), [true]);
    assert_eq!(agents("HeadObject"), [true]);
    assert_eq!(agents("GetObject"), [true]);
    assert_eq!(agents("UploadPart"), [true; 3]);
    assert_eq!(agents("CreateMultipartUpload"), [false]);

    double.world().agents.clear();
    for operation in ["PutObject", "HeadObject", "GetObject"] {
        double.plan(operation, 1, 1, Fault::Refuse(503, "SlowDown"));
    }
    double.plan("UploadPart", 2, 1, Fault::Refuse(503, "SlowDown"));
    assert_eq!(put(&site, &server, "small", &pattern(2000), &[]).status, 200);
    assert_eq!(put(&site, &server, "large", &large, &[]).status, 200);
    assert!(site.get(&server, "large").body == large);
    // Once under our condition, once more, and then without it.
    assert_eq!(agents("PutObject"), [true, false, true]);
    assert_eq!(agents("HeadObject"), [true, false]);
    assert_eq!(agents("GetObject"), [true, false]);
    assert_eq!(agents("UploadPart").iter().filter(|short| !**short).count(), 1);

    // Another region's bucket, a clock that is wrong: nothing more goes that way for a while.
    double.plan("GetObject", 1, 1, Fault::Refuse(400, "AuthorizationHeaderMalformed"));
    assert!(site.get(&server, "large").body == large);
    double.world().agents.clear();
    assert!(site.get(&server, "large").body == large);
    assert_eq!(agents("GetObject"), [false]);
}
