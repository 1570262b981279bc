//! Whoever may write to the bucket can take objects away, and no more: what they
//! change, move or plant is 502, and nothing of it is served.

use std::fs;

use serde_json::json;

use crate::{
    client::{F, LARGE, SMALL_FRAMES, range},
    standin::{header, moto, under_kms},
    support::pattern,
};

#[test]
fn what_was_changed_is_not_served() {
    let (aws, bucket, key) = (moto(), moto().bucket("tampered"), moto().key());
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &key, SMALL_FRAMES));
    let bytes = pattern(3 * F + 5);
    site.put(&server, "object", &bytes);
    site.put(&server, "other", &bytes);
    site.put(&server, "large", &pattern(LARGE));
    let raw = aws.raw(&site, &bucket, "object");
    let (h, total) = (header(&raw).len(), fs::metadata(&raw).expect("is there").len());
    let total = usize::try_from(total).expect("small");
    let rows = [
        ("the suite", "", json!({"at": 2})),
        ("the message id", "message_id", json!({"at": 10})),
        ("the commitment", "", json!({"at": h - 40})),
        ("the header's tag", "header", json!({"at": h - 1})),
        ("the first frame", "frame", json!({"at": h + 100})),
        ("the final frame is cut", "", json!({"cut": 1})),
        ("frames are cut", "", json!({"cut": F + 32})),
        ("something behind", "", json!({"add": "x"})),
        ("a hint", "metadata", json!({"metadata": {"sealward-header": "1"}})),
    ];
    for (what, reason, change) in rows {
        let mut job = json!({"do": "copy", "bucket": bucket, "key": "object", "to": "other"});
        job.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        // Under its own name, so that the change alone is what's wrong.
        job["to"] = json!("object");
        aws.does(job);
        let refused = site.get(&server, "object");
        assert_eq!(refused.status, 502, "{what}: {refused:?}");
        assert!(refused.text().contains("nothing of it is served"), "{what}: {refused:?}");
        if !reason.is_empty() {
            let series = format!("sealward_tamper_total{{reason=\"{reason}\"}}");
            assert!(server.metric(&series) >= 1.0, "{what}: it is another reason");
        }
        site.put(&server, "object", &bytes);
        assert!(site.get(&server, "object").body == bytes, "{what}: and mended by a new one");
    }
    // A frame in the middle: the head is out by then, and the end never comes.
    let middle = h + 2 * (F + 32) + 50;
    assert!(middle < total);
    aws.does(json!({"do": "copy", "bucket": bucket, "key": "object", "to": "object", "at": middle}));
    let cut = site.get(&server, "object");
    assert!(cut.status == 502 || cut.exit != 0, "{cut:?}");
    assert!(cut.body.len() < bytes.len() || cut.status == 502);
    let damaged = range(&site, &server, "object", &format!("{}-{}", 2 * F, 2 * F + 9));
    assert!(damaged.status == 502 || damaged.exit != 0, "{damaged:?}");
    let sound = range(&site, &server, "object", "0-9");
    assert_eq!((sound.status, sound.body.as_slice()), (206, &bytes[..10]), "{sound:?}");
}

#[test]
fn what_was_moved_or_planted_is_not_served() {
    let (aws, bucket, key) = (moto(), moto().bucket("moved"), moto().key());
    let site = aws.site();
    let server = site.serve_text(&under_kms(&bucket, &key, ""));
    site.put(&server, "object", b"in its place");
    aws.does(json!({"do": "copy", "bucket": bucket, "key": "object", "to": "renamed"}));
    let plain = site.path("plain");
    for (name, bytes) in [("foreign", b"not of ours".as_slice()), ("empty", b"")] {
        fs::write(&plain, bytes).expect("writes");
        aws.does(json!({"do": "put", "bucket": bucket, "key": name, "file": plain}));
    }
    for name in ["renamed", "foreign", "empty"] {
        let refused = site.get(&server, name);
        assert_eq!(refused.status, 502, "{name}: {refused:?}");
        let head = site.curl(["-I", &server.url(name)]);
        assert_eq!(head.status, 502, "{name}: {head:?}");
    }
    assert_eq!(server.metric("sealward_tamper_total{reason=\"message_id\"}"), 2.0);
    // They can be removed like any other.
    for name in ["renamed", "foreign", "empty"] {
        assert_eq!(site.curl(["-X", "DELETE", &server.url(name)]).status, 204, "{name}");
    }
    assert_eq!(site.get(&server, "object").body, b"in its place");
}
