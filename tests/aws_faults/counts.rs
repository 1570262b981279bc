//! What it costs: calls to KMS, and bytes from S3.

use std::fmt::Write as _;

use crate::{
    double::{Double, World},
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
