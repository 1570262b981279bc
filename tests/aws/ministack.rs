//! Against ministack: checksums are checked, and conditions hold in the store itself.
//!
//! All in one request each: it takes the checksum that S3 calls `FULL_OBJECT` for one
//! of the parts' checksums, and so refuses every Complete of ours.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crc_fast::CrcAlgorithm;
use serde_json::json;

use crate::{
    client::{SMALL_FRAMES, everything},
    standin::{ministack, under_kms},
    support::pattern,
};

#[test]
fn objects_go_and_come() {
    let (aws, bucket) = (ministack(), ministack().bucket("everything"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), SMALL_FRAMES));
    everything(aws, &site, &server, &bucket, 7 << 20);
}

/// The store refuses what doesn't match its checksum, so what it took from us did;
/// and what it keeps is the sealed bytes' own.
#[test]
fn our_checksums_are_right() {
    let (aws, bucket) = (ministack(), ministack().bucket("checksums"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    site.put(&server, "object", &pattern(300_000));
    let raw = aws.raw(&site, &bucket, "object");
    let right = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &fs::read(&raw).expect("reads"));
    let put = |crc: u64| {
        let crc = STANDARD.encode(crc.to_be_bytes());
        aws.ask(json!({
            "do": "put", "bucket": bucket, "key": "raw", "file": raw, "ChecksumAlgorithm": "CRC64NVME",
            "ChecksumCRC64NVME": crc,
        }))
    };
    let refused = put(right ^ 1);
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("BadDigest")), "{refused}");
    assert_eq!(put(right)["ok"], true);
    let stored = aws.does(json!({"do": "head", "bucket": bucket, "key": "object", "checksums": true}));
    assert_eq!(stored["head"]["ChecksumCRC64NVME"], STANDARD.encode(right.to_be_bytes()), "{stored}");
}

#[test]
fn conditions_hold() {
    let (aws, bucket) = (ministack(), ministack().bucket("conditions"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    let file = site.path("conditional.tmp");
    for (key, size) in [("small", 100), ("larger", 7 << 20)] {
        fs::write(&file, pattern(size)).expect("writes");
        let put = |header: &str| {
            site.curl(["-H".as_ref(), header.as_ref(), "-T".as_ref(), file.as_os_str(), server.url(key).as_ref()])
        };
        assert_eq!(put("If-Match: \"nothing\"").status, 412, "{key}");
        let stored = put("If-None-Match: *");
        assert_eq!(stored.status, 201, "{key}: {stored:?}");
        let first = stored.header("etag").to_owned();
        assert_eq!(put("If-None-Match: *").status, 412, "{key}");
        assert_eq!(put("If-Match: \"another\"").status, 412, "{key}");
        let stored = put(&format!("If-Match: {first}"));
        assert_eq!(stored.status, 200, "{key}: {stored:?}");
        assert_eq!(put(&format!("If-Match: {first}")).status, 412, "{key}: the tag is a new one");
        assert_eq!(put("If-Match: *").status, 200, "{key}");
        assert!(site.get(&server, key).body == pattern(size), "{key}");
        let stale = site.curl(["-X", "DELETE", "-H", &format!("If-Match: {first}"), &server.url(key)]);
        assert_eq!(stale.status, 412, "{key}");
    }
    assert_eq!(aws.uploads(&bucket), json!([]));
}

/// Twenty make one object at once: one of them has made it, the others know that
/// they haven't.
#[test]
fn one_creator_wins() {
    let (aws, bucket) = (ministack(), ministack().bucket("creators"));
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &aws.key(), ""));
    for (key, size, count) in [("small", 1000_usize, 20_usize), ("larger", 6 << 20, 4)] {
        let answers: Vec<_> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..count)
                .map(|number| {
                    let file = site.path(&format!("{key}-{number}.tmp"));
                    fs::write(&file, vec![u8::try_from(number).expect("few"); size]).expect("writes");
                    let (site, server) = (&site, &server);
                    scope.spawn(move || {
                        let header = ["-H", "If-None-Match: *", "-T"].map(std::ffi::OsStr::new);
                        site.curl(header.into_iter().chain([file.as_os_str(), server.url(key).as_ref()]))
                    })
                })
                .collect();
            tasks.into_iter().map(|task| task.join().expect("no panic")).collect()
        });
        let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses[0], 201, "{key}: {statuses:?}");
        assert!(statuses[1..].iter().all(|status| matches!(status, 409 | 412)), "{key}: {statuses:?}");
        let winner = answers.iter().position(|answer| answer.status == 201).expect("is one");
        assert!(site.get(&server, key).body == vec![u8::try_from(winner).expect("few"); size], "{key}");
    }
    assert_eq!(aws.uploads(&bucket), json!([]));
}
